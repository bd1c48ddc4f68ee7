"""Transactions: a function run on fresh data, committed at once by compare-and-set.

What the request has pending is committed first, as by ``save()``; so the function sees it, and
nothing is left that a lost attempt could undo.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

from ..data.codec import CorruptField
from ..data.fields import NO_FIELD_CHANGES, FieldChanges, Fields
from ..errors import SessionCommitted, SessionConflict, SessionEnded, StoreError
from ..record import UpdateResult
from .backoff import ATTEMPTS, back_off
from .changes import Work
from .committing import Committer, held_something
from .decisions import CookieStep, Result, StoreStep, told
from .loading import Loader
from .settings import EngineSettings
from .state import NO_INTENT, SessionState, Stored
from .writing import StoreWriter

T = TypeVar("T")
Function = Callable[[MutableMapping[str, Any]], T]


class Transactions:
    """Runs transactions.

    Args:
        settings: the engine's settings.
        loader: loads fresh data.
        committer: commits what is pending.
        writer: writes what the function has changed.
    """

    def __init__(
        self, settings: EngineSettings, loader: Loader, committer: Committer, writer: StoreWriter
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._committer = committer
        self._writer = writer

    def run(self, state: SessionState, function: Function[T], *, headers_sent: bool) -> T:
        """Run ``function`` on fresh data and commit what it changed.

        Raises:
            SessionEnded: another request ended the session meanwhile.
            SessionConflict: other requests were faster again and again.
            SessionCommitted: it needs a cookie, and the headers went out.
        """
        self._committer.save(state, headers_sent=headers_sent, ends=False)
        try:
            if state.stored is not None:
                return self._run_stored(state, state.stored, function, headers_sent=headers_sent)
        except CorruptField:
            self._committer.corrupted(state)
        return self._run_new(state, function, headers_sent=headers_sent)

    def _run_stored(
        self, state: SessionState, stored: Stored, function: Function[T], *, headers_sent: bool
    ) -> T:
        settings = self._settings
        for attempt in range(ATTEMPTS):
            now = settings.clock()
            base = self._loader.reload(stored, now)
            if base is None:
                raise self._ended(state)
            fresh = Fields(base.record.fields, settings.codec)
            result = function(fresh)
            pending = fresh.changes()
            if not pending.set and not pending.delete:
                return result
            # The function may have taken its time: what expired meanwhile doesn't come back.
            now = settings.clock()
            if now >= base.deadline:
                again = self._loader.reload(stored, now)
                if again is None:
                    raise self._ended(state)
                if again.record.version != base.record.version:
                    continue
                base = again
            work = Work(
                StoreStep.UPDATE,
                state.request,
                NO_INTENT,
                base.notes,
                pending.set,
                pending.delete,
                base.notes.label,
                base.notes.label,
                self._renews(state, base) and not headers_sent,
                not state.is_use,
                now,
            )
            if self._carried_out(state, work, base, moved=base.id.id != stored.id.id):
                return result
            back_off(attempt)
        raise SessionConflict(
            f"other requests changed this session {ATTEMPTS} times while the transaction ran;"
            " nothing was changed"
        )

    def _carried_out(self, state: SessionState, work: Work, base: Stored, *, moved: bool) -> bool:
        """Write what the function changed; False if another request was faster."""
        try:
            result, after = self._writer.update_on(work, base)
        except StoreError:
            state.fields.distrust(FieldChanges(work.set, work.delete))
            raise
        if result is not UpdateResult.UPDATED:
            return False
        self._take_over(state, after, moved=moved)
        if not held_something(after.record):
            # Until the request ends: the app may go on to fill it, or sign in.
            state.emptied = True
        return True

    def _take_over(self, state: SessionState, after: Stored, *, moved: bool) -> None:
        state.after(after, keep_intent=True)
        # What the function set isn't what the app may still hold of the same field.
        state.fields.rebase(after.record.fields, NO_FIELD_CHANGES)
        if moved:
            state.stale_token = True
        elif self._renews(state, after):
            state.cookie = told(state.cookie, CookieStep.RENEW, Result.WRITTEN)

    def _renews(self, state: SessionState, stored: Stored) -> bool:
        """Whether the client's cookie is to be sent anew."""
        return (stored.notes.persistent or self._settings.rolling) and state.is_use

    def _ended(self, state: SessionState) -> SessionEnded:
        state.gone = True
        state.cookie = told(state.cookie, CookieStep.LEAVE, Result.GONE)
        return SessionEnded("another request ended this session meanwhile")

    def _run_new(self, state: SessionState, function: Function[T], *, headers_sent: bool) -> T:
        # A session that isn't stored yet has no other request to race with.
        before = state.fields
        fields = Fields({}, self._settings.codec)
        for name in before:
            fields[name] = before[name]
        result = function(fields)
        if headers_sent and fields.encoded() != before.encoded():
            raise SessionCommitted(
                "the response's headers are already sent, so the cookie that this change needs"
                " can't be set; change the session before the body's first chunk"
            )
        state.fields = fields
        try:
            self._committer.save(state, headers_sent=headers_sent)
        except BaseException:
            state.fields = before
            raise
        return result
