"""Loading: from the tokens that a client sent to the one live session, or none.

Tokens are verified before the store is asked. A token whose selector finds a record proves itself
by the hash in the record's notes: of the present ID, or, for a short grace period after a rotation,
of the one before it. A token that doesn't leads to no session, and an event says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._values import value
from ..crypto.session_id import SessionID
from ..data.notes import CorruptNotes, Notes, notes_of
from ..data.standing import UNBOUND, Standing
from ..http.transport import Transport
from ..record import LIST_OWNER, Record
from .decisions import GRACE, SKEW, death_at, in_grace
from .owners import live_session
from .reports import Reports
from .settings import EngineSettings
from .state import Request, Stored

if TYPE_CHECKING:
    from ..carry_over.source import Source
    from ..client_side import ClientSeal


@value
class Presented:
    """What the client's tokens lead to."""

    stored: Stored | None = None
    """The one session to use."""
    stale_token: bool = False
    """Whether the client's token should be replaced."""
    passed_over: tuple[Stored, ...] = ()
    """Live sessions that can't be used: several at once, or one that isn't proven."""
    standing: Standing = UNBOUND
    """What the request shows about the device that the session is bound to."""
    carried_from: Source | None = None
    """The source of an old cookie that led here instead of a token."""


NOTHING = Presented()
FORGED = Presented()
"""None of the tokens is one of ours."""

Shown = tuple[SessionID, int]
"""An ID in a token of ours, and the number of the secret that this is signed under."""


class Loader:
    """Finds sessions in the store, or in the tokens themselves.

    Args:
        settings: the engine's settings.
        reports: where events go.
    """

    def __init__(self, settings: EngineSettings, reports: Reports) -> None:
        self._settings = settings
        self._reports = reports

    def find(self, request: Request, now: float) -> Presented:
        """The live session that the client presented a token of; it presented some.

        Raises:
            StoreError: the store can't answer.
        """
        seal = self._settings.seal
        if seal is not None:
            return self._find_sealed(seal, request, now)
        genuine = _verified(request)
        if not genuine:
            return FORGED
        live: list[tuple[Stored, bool, bool]] = []
        for session_id, secret in genuine:
            stored = self._load(session_id, request, now, genuine)
            if stored is not None:
                live.append((stored, stored.id is not session_id, secret > 0))
        if not live:
            return NOTHING
        return self._chosen(request, live if len(live) == 1 else _by_session(live))

    def is_genuine(self, token: str, transport: Transport) -> bool:
        """Whether we made this token, whether or not there is a session behind it."""
        seal = self._settings.seal
        if seal is not None:
            return seal.open(token, transport.purpose) is not None
        return transport.signer.verify(token) is not None

    def _chosen(self, request: Request, live: list[tuple[Stored, bool, bool]]) -> Presented:
        if len(live) > 1:
            # The order of two cookies of one name says nothing about which is the user's
            # (RFC 6265bis section 4.2.2).
            self._reports.cookie_conflict(request, len(live))
            return Presented(passed_over=tuple(stored for stored, _, _ in live))
        stored, moved, old_secret = live[0]
        if old_secret:
            self._reports.emit("old_secret", request, stored)
        return Presented(stored, moved or old_secret)

    def _find_sealed(self, seal: ClientSeal, request: Request, now: float) -> Presented:
        purpose = request.transport.purpose
        opened = [one for token in request.tokens if (one := seal.open(token, purpose)) is not None]
        if not opened:
            return FORGED
        live: dict[str, tuple[Stored, bool, bool]] = {}
        for one in opened:
            stored = self.judge(SessionID(one.session_id), one.record, request, now)
            if stored is not None:
                # Of two tokens of one session, the first counts.
                live.setdefault(one.session_id, (stored, False, one.old_secret))
        return self._chosen(request, list(live.values())) if live else NOTHING

    def _load(
        self, session_id: SessionID, request: Request, now: float, shown: list[Shown]
    ) -> Stored | None:
        """The live session that this ID proves, or None.

        Raises:
            StoreError: the store can't answer.
        """
        record = self._settings.store.load(session_id.key)
        if record is None or record.owner == LIST_OWNER:
            self._reports.emit("unknown_id", request, handle=session_id.key)
            return None
        return self.judge(session_id, record, request, now, shown)

    def judge(
        self,
        session_id: SessionID,
        record: Record,
        request: Request,
        now: float,
        shown: Sequence[Shown] = (),
    ) -> Stored | None:
        """What this record is to someone who presents this ID, among all those that are shown."""
        reports, key = self._reports, session_id.key
        try:
            notes = notes_of(record)
        except CorruptNotes as error:
            reports.emit("corrupt_record", request, handle=key, detail=f"notes: {error}")
            return None
        present: SessionID | None = session_id
        if not session_id.matches(notes.id_hash):
            present = self._successor(session_id, notes, now)
        if present is None:
            if any(other.matches(notes.id_hash) for other, _ in shown):
                # A cookie of before, left under another path or domain, is no sign of theft.
                return None
            reports.emit(_retired(notes, now), request, handle=key, owner=record.owner)
            return None
        if notes.secure and not request.secure:
            # NIST SP 800-63B section 7.1: no falling back to an insecure transport.
            reports.insecure_replay(request, key, record.owner)
            return None
        deadline = self._settings.deadline_of(record, notes, now)
        if now >= deadline:
            death = death_at(notes, absolute=self._settings.limits.absolute, now=now)
            reports.emit("expired", request, handle=key, owner=record.owner, detail=death.value)
            return None
        return Stored(present, record, notes, deadline)

    def _successor(self, shown: SessionID, notes: Notes, now: float) -> SessionID | None:
        """The present ID, if the client showed the one before it in its grace."""
        former = notes.former
        if former is None or not in_grace(former.until, now) or not shown.matches(former.hash):
            return None
        return self._settings.rotation.present_id(shown, former.nonce, notes.id_hash)

    def own_record(self, own: tuple[SessionID, ...], created_at: float) -> Record | None:
        """The record under the key of these IDs, if it has one of them and was created at just that
        time: then the request that made these IDs wrote it.

        Raises:
            StoreError: the store can't answer.
        """
        record = self._settings.store.load(own[0].key)
        if record is None:
            return None
        try:
            notes = notes_of(record)
        except CorruptNotes:
            return None
        is_own = any(each.matches(notes.id_hash) for each in own)
        return record if is_own and notes.created_at == created_at else None

    def reload(
        self, stored: Stored, now: float, *, own: tuple[SessionID, ...] = ()
    ) -> Stored | None:
        """The session as it is now, for a request that has loaded it before; None: it ended.

        Whatever ID the request knows: rotation doesn't end a session, a new epoch does, unless it
        is one that this very request began, though the answer to that was lost (then the record
        has the hash of one of the IDs of its ``own``).

        Raises:
            StoreError: the store can't answer.
        """
        key, record = stored.id.key, self._settings.store.load(stored.id.key)
        live = None if record is None else live_session(key, record, self._settings.limits, now)
        if live is None:
            return None
        _, record, notes, deadline = live
        if record.epoch != stored.record.epoch:
            new_id = next((each for each in own if each.matches(notes.id_hash)), None)
            return None if new_id is None else Stored(new_id, record, notes, deadline)
        present = stored.id
        if not present.matches(notes.id_hash):
            former = notes.former
            if former is not None and present.matches(former.hash):
                derived = self._settings.rotation.present_id(present, former.nonce, notes.id_hash)
                present = derived or present
        return Stored(present, record, notes, deadline)


def _by_session(live: list[tuple[Stored, bool, bool]]) -> list[tuple[Stored, bool, bool]]:
    """One entry for each session: of two tokens of one, that with the present ID counts."""
    chosen: dict[str, tuple[Stored, bool, bool]] = {}
    for entry in live:
        stored, moved, _ = entry
        if stored.id.key not in chosen or not moved:
            chosen[stored.id.key] = entry
    return list(chosen.values())


def _verified(request: Request) -> list[Shown]:
    """The IDs in tokens of ours."""
    # Apart from the loop that loads, whose local names a traceback of a failing store shows.
    verify = request.transport.signer.verify
    genuine: list[Shown] = []
    for token in request.tokens:
        verified = verify(token)
        if verified is not None:
            genuine.append((SessionID(verified[0]), verified[1]))
    return genuine


def is_present(stored: Stored) -> bool:
    """Whether the ID that this request knows is the one that the store has."""
    return stored.id.matches(stored.notes.id_hash)


def _retired(notes: Notes, now: float) -> str:
    # Requests that were under way during a regenerate still bring the ID of before; after that,
    # and whenever an ID's successor had a successor, somebody has kept the ID.
    just_regenerated = notes.former is None and -SKEW <= now - notes.issued_at < GRACE
    return "unknown_id" if just_regenerated else "retired_id_used"
