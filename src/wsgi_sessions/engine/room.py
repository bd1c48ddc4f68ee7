"""max_per_owner: which of an owner's sessions end after a login too many."""

from __future__ import annotations

from .owners import LiveSession, OwnerList, OwnerLists


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
        used_at = session.record.used_at
        return used_at <= now, used_at, session.key == key, session.key

    return sorted(live, key=rank, reverse=True)
