"""max_per_owner: which of an owner's sessions end after one login too many.

With ``when_full="refuse"`` there is none, unless other processes refuse none, or allow more: then
these sessions end as they do there.
"""

from __future__ import annotations

from ..errors import StoreError
from .backoff import ATTEMPTS, back_off
from .decisions import SKEW
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
) -> bool:
    """End the sessions over ``max_per_owner``, unless a login too many is refused instead.

    The least recently used sessions end, never the one that just logged in. Parallel logins could
    end more than they have to: so those that end are first marked in the list, by its version. One
    request at a time decides, and a login that was marked meanwhile ends itself and nobody else.

    Args:
        owners: the lists of owners.
        settings: the engine's settings.
        reports: where events go.
        request: the one that logged in.
        owner: the user whose sessions are counted.
        present: the owner's list as it is now.
        key: of the session that just logged in.

    Returns:
        False if another request is ending this session.

    Raises:
        StoreError: the store can't answer.
    """
    limit = settings.max_per_owner
    if limit is None or len(present.entries) <= limit:
        return True

    def on_end(other: str) -> None:
        reports.emit("revoked", request, handle=other, owner=owner, detail="max_per_owner")

    for attempt in range(ATTEMPTS):
        over = over_limit(owners, owner, present, key, limit, settings.clock())
        if over is None:
            return False
        if not over:
            # Looking at the others took a while: another login may have ended this one.
            return owners.confirmed(owner, key) is not None
        entries = {other: present.entries[other] for other in over}
        marked = owners.mark(owner, entries, if_version=present.version)
        if marked is not None:
            seen = present._replace(entries=marked)
            listing = owners.examine(owner, seen, settings.clock())
            owners.heal(owner, seen, listing, on_end)
            # Another login may have ended this one meanwhile.
            return owners.confirmed(owner, key) is not None
        back_off(attempt)
        again = owners.confirmed(owner, key)
        if again is None:
            return False
        present = again
    raise StoreError("the owner's list could not be written", operation="update")


def over_limit(
    owners: OwnerLists, owner: str, present: OwnerList, key: str, limit: int, now: float
) -> list[str] | None:
    """The keys of the sessions over the limit, and of those that an outage left half ended.

    The session that just logged in is never among them; None if it was ended meanwhile.
    """
    ending = [other for other, entry in present.entries.items() if entry.ending]
    listing = owners.examine(owner, present, now)
    if key in listing.pending or key in listing.stale:
        return None
    over = [session.key for session in ranked(listing.live, key, now)[limit:]]
    return [*ending, *over]


def ranked(live: list[LiveSession], key: str, now: float) -> list[LiveSession]:
    """The one that just logged in, then the most recently used. A use far in the future was noted
    by a clock that has been set back since.
    """

    def rank(session: LiveSession) -> tuple[bool, bool, float, str]:
        # A session that was just carried over was used, though that isn't noted yet.
        used_at = max(session.record.used_at, session.notes.issued_at)
        return session.key == key, used_at <= now + SKEW, used_at, session.key

    return sorted(live, key=rank, reverse=True)
