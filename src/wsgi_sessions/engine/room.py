"""max_per_owner: which of an owner's sessions end after a login too many."""

from __future__ import annotations

from .owners import LiveSession, OwnerList, OwnerLists
from .reports import Reports
from .settings import EngineSettings
from .state import Request


def keep_to_limit(
    owners: OwnerLists,
    settings: EngineSettings,
    reports: Reports,
    request: Request,
    owner: str,
    present: OwnerList,
    key: str,
) -> None:
    """End what is over ``max_per_owner``, unless the one too many was to be refused.

    Args:
        owners: the lists of owners.
        settings: what the engine was set up with.
        reports: where events go.
        request: which one brought the session that is the latest of this owner.
        owner: whose sessions.
        present: the owner's list as it is now.
        key: that session's.
    """
    limit = settings.max_per_owner
    if limit is None or settings.refuse_when_full or len(present.entries) <= limit:
        return
    for ended in make_room(owners, owner, present, key, limit, settings.clock()):
        reports.emit("revoked", request, handle=ended, owner=owner, detail="max_per_owner")


def make_room(
    owners: OwnerLists, owner: str, present: OwnerList, key: str, limit: int, now: float
) -> list[str]:
    """End the least recently used sessions over the limit, never the one that just logged in.

    Each of parallel logins ranks the sessions that it sees in the same order, so together they end
    no more than must go: whoever comes last sees all.

    Returns:
        the keys of the sessions that ended.
    """
    live = owners.examine(owner, present, now).live
    over = [session.key for session in ranked(live, key, now)[limit:] if session.key != key]
    ended = [other for other in over if owners.delete_if_owned(other, owner) is not None]
    if over:
        owners.take_out(owner, over)
    return ended


def ranked(live: list[LiveSession], key: str, now: float) -> list[LiveSession]:
    """The most recently used first. A use in the future was noted by a clock since set back."""

    def rank(session: LiveSession) -> tuple[bool, float, bool, str]:
        # A session that was just carried over was used, though that isn't noted yet.
        used_at = max(session.record.used_at, session.notes.issued_at)
        return used_at <= now, used_at, session.key == key, session.key

    return sorted(live, key=rank, reverse=True)
