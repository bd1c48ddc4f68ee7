"""Committing: the straight line from facts to an outcome, the same wherever a session is saved.

`save()`, the end of a view, the end of a stream and a failed answer differ only in their facts.
What the request knows of its session is assigned once the store has answered (`_go_on`). If a step
raises, all that is noted is what another try has to know: the ID that it was for, and what may have
been written although the answer was lost.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .._values import replaced, value
from ..data.codec import CorruptField
from ..data.fields import NO_FIELD_CHANGES, FieldChanges
from ..errors import (
    SessionCommitted,
    SessionConflict,
    SessionEnded,
    SessionError,
    SessionTooLarge,
    StoreError,
    TooManySessions,
)
from ..http.transport import Header
from ..record import NO_FIELDS, UNCHANGED, Changes, Record, apply_changes
from .changes import REVOKED, Outcome, Work, can_rotate, notes_in_place_of, too_large
from .decisions import (
    CookieStep,
    Facts,
    Result,
    StoreStep,
    cookie_step,
    is_due,
    only_reads,
    store_step,
    told,
)
from .loading import Loader, is_present
from .owners import PLACE_SECONDS, NotEntered, OwnerLists
from .reports import Reports
from .settings import EngineSettings
from .state import NO_INTENT, NO_NOTES, SessionState, Stored, add_to_label, checked_label
from .writing import StoreWriter, Writer


@value
class Response:
    """What the engine needs to know about the response."""

    failed: bool = False
    """The app raised or answered 5xx, and its changes are not to be kept."""
    public: bool = False
    """The app marked it as cacheable for all."""
    headers_sent: bool = False
    """No header can be added any more."""
    final: bool = True
    """The app can't use the session any more."""


class Committer:
    """Commits a session.

    Args:
        settings: the engine's settings.
        loader: looks again at what is to be told.
        writer: carries out the store steps.
        owners: the lists of owners.
        reports: where events go.
    """

    def __init__(
        self,
        settings: EngineSettings,
        loader: Loader,
        writer: Writer,
        owners: OwnerLists,
        reports: Reports,
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._writer = writer
        self._store_writer = writer if isinstance(writer, StoreWriter) else None
        self._owners = owners
        self._reports = reports

    def commit(self, state: SessionState, response: Response) -> Header | None:
        """Do what the response asks for; returns the header that sets or ends the token, if any.

        Raises:
            StoreError: data could not be saved.
            SessionTooLarge, SessionConflict, TypeError: it can't be; nothing was stored.
        """
        now = self._settings.clock()
        failed = response.failed or state.error is not None
        failed = failed or (response.headers_sent and _half_done(state))
        try:
            pending = NO_FIELD_CHANGES if failed else state.fields.changes()
            if pending is NO_FIELD_CHANGES:
                # A stream that goes on after a failed answer has changes to drop.
                if (response.final or not failed) and self.only_read(state, now):
                    return None
            elif self.only_writes_fields(state, response, now):
                return self._write_fields(state, pending, response, now)
            facts = self.facts_of(state, pending, response, now, failed=failed)
            if not facts.deliverable and not facts.headers_sent:
                self._explain_insecure(state, facts)
            planned, result, asked = state.cookie, Result.NOTHING, state.intent
            if not failed and (_has_to_end(state) or not only_reads(facts)):
                result = self._carry_out(state, facts, pending, response, now)
        except CorruptField:
            if not self.begin_anew(state):
                return None
            return self.commit(state, response)
        if failed or response.final:
            self._let_go(state, response, failed=failed)
        if not facts.can_set_cookie:
            return None
        is_news = result in (Result.NEW_ID, Result.MOVED)
        is_news = is_news or (result is Result.WRITTEN and facts.renewal)
        doubt = bool(asked.tried) or asked.deleting
        stored = state.stored if is_news else self._to_tell(state, planned, now, doubt=doubt)
        return self._header(state, stored, response, now)

    def _let_go(self, state: SessionState, response: Response, *, failed: bool) -> None:
        """Let go of what this request held and hasn't used; after a failure, of all it changed."""
        if failed:
            self.try_to_end_tried(state)
        self.give_back_place(state)
        if not failed:
            return
        if state.emptied and state.error is None:
            # What a transaction committed stands, and so does the end of what it emptied.
            self.drop(state)
            with suppress(SessionError):  # which was reported
                self.save(state, headers_sent=response.headers_sent)
        if state.error is None and not response.final:
            # A stream that goes on must not commit it by a later save().
            self.drop(state)

    def drop(self, state: SessionState) -> None:
        """Give up what was asked for and changed since the last commit, and what it held."""
        self.give_back_place(state)
        state.drop(self._settings.codec)

    def _to_tell(
        self, state: SessionState, planned: CookieStep, now: float, *, doubt: bool
    ) -> Stored | None:
        """The session that a cookie may be set for, though this commit didn't ask the store for its
        ID: if an earlier one planned it, another request may have replaced that ID since, and so
        may this one, in a commit of which the answer was lost.
        """
        stored = state.stored
        if planned is CookieStep.LEAVE or stored is None or (state.own_id and not doubt):
            return stored
        if self._settings.seal is not None:
            return stored
        try:
            present = self._loader.reload(stored, now)
        except StoreError as error:
            self._reports.emit("store_error", state.request, stored, detail=f"renew: {error}")
            # An ID that nobody else knows, and that may be dead, is better than none.
            return stored if state.own_id else None
        return present if present is not None and is_present(present) else None

    def save(self, state: SessionState, *, headers_sent: bool, ends: bool = True) -> None:
        """Commit now what a commit would write.

        Args:
            state: of the request's session.
            headers_sent: whether the response's headers went out.
            ends: False: a session that holds nothing stays until the request ends.

        Raises:
            SessionEnded: another request ended the session meanwhile.
            StoreError, SessionTooLarge, SessionConflict, TypeError: as with `commit`.
        """
        now = self._settings.clock()
        response = Response(headers_sent=headers_sent, final=False)
        try:
            pending = state.fields.changes()
            facts = self.facts_of(state, pending, response, now, failed=False)
            if facts.rotation_due:
                # That waits for the response: the app may yet raise, or mark it as public, and then
                # nobody would tell the client its new ID before the former one's grace is over.
                facts = replaced(facts, rotation_due=False)
            if facts.stored and facts.empty and not ends:
                facts = replaced(facts, empty=False)
                state.emptied = True
            idle = only_reads(facts) and not _has_to_end(state)
            wanted = facts.changed or facts.empty or facts.new_id or not facts.stored
            if idle or not wanted:
                return
            result = self._carry_out(state, facts, pending, response, now)
        except CorruptField:
            if self.begin_anew(state):
                self.save(state, headers_sent=headers_sent, ends=ends)
            return
        if result in (Result.GONE, Result.REVOKED):
            raise SessionEnded("another request ended this session meanwhile; nothing was saved")

    def only_read(self, state: SessionState, now: float) -> bool:
        """Whether only fields may have changed: nothing else was asked for, nothing is due.

        A shortcut that most requests take; with no fields changed, the facts would come to
        `only_reads`, which a test holds this to.
        """
        stored, settings = state.stored, self._settings
        if state.cookie is not CookieStep.LEAVE:
            return False
        if stored is None:
            kept = settings.save_uninitialized or state.keep_empty
            return state.empty and not kept and not _has_to_end(state)
        if (
            state.intent is not NO_INTENT
            or state.emptied
            or state.stale_token
            or settings.rolling
            or state.label != stored.notes.label
        ):
            return False
        if state.passive:
            return True
        record, notes = stored.record, stored.notes
        if settings.touch_due(record, notes, now):
            return False
        after = settings.rotate_after
        return after is None or not is_due(notes.issued_at, after, now)

    def only_writes_fields(self, state: SessionState, response: Response, now: float) -> bool:
        """Whether fields were changed, nothing else was asked for or is due, and nothing has to be
        told but the ID of a session that begins.

        Then all comes to one update of the record that was loaded, or to one insert. A shortcut
        that most writing requests take; a test holds this one, too, to the table.
        """
        stored, settings = state.stored, self._settings
        if (
            state.intent is not NO_INTENT
            or state.emptied
            or state.cookie is not CookieStep.LEAVE
            or state.label_changed
            or self._store_writer is None
        ):
            return False
        if stored is None:
            request = state.request
            deliverable = request.transport.deliverable(secure=request.secure)
            return deliverable and not response.headers_sent and bool(state.fields)
        if state.stale_token or state.passive or settings.rolling:
            return False
        notes = stored.notes
        if notes.persistent or notes.started_at > now or now >= stored.deadline:
            return False
        after = settings.rotate_after
        if after is not None and is_due(notes.issued_at, after, now):
            return False
        if stored.record.owner is None:
            return bool(state.fields)
        return notes.started_at + settings.limits.absolute <= notes.listed_until

    def _write_fields(
        self, state: SessionState, pending: FieldChanges, response: Response, now: float
    ) -> Header | None:
        writer, stored, request = self._store_writer, state.stored, state.request
        assert writer is not None  # noqa: S101 # only_writes_fields asked for it
        try:
            if stored is None:
                outcome = writer.insert_fields(request, state.base_notes, pending, now)
            else:
                outcome = writer.update_fields(request, stored, pending, now)
        except StoreError as error:
            step = "insert" if stored is None else "update"
            self._reports.emit("store_error", request, stored, detail=f"{step}: {error}")
            if stored is not None:
                state.fields.doubt(pending)
            raise
        self._go_on(state, outcome, pending, response)
        if outcome.result is not Result.NEW_ID:
            return None
        state.cookie = CookieStep.SET
        return self._header(state, state.stored, response, now)

    def check(self, state: SessionState) -> None:
        """Raise what a commit now would raise because of the data alone, without a store call.

        Raises:
            SessionTooLarge, TypeError: it can't be stored.
        """
        if state.error is not None:
            return
        pending = state.fields.changes()
        if state.label_changed:
            checked_label(state.label)
        error = None
        with suppress(CorruptField):  # the commit begins anew
            error = self._too_large(state.stored, pending)
        if error is not None:
            raise error

    def _too_large(self, stored: Stored | None, pending: FieldChanges) -> SessionTooLarge | None:
        before = None if stored is None else stored.record
        fields = NO_FIELDS if before is None else before.fields
        after = apply_changes(fields, Changes(pending.set, pending.delete))
        return too_large(before, after, self._settings.max_bytes)

    def facts_of(
        self,
        state: SessionState,
        pending: FieldChanges,
        response: Response,
        now: float,
        *,
        failed: bool,
    ) -> Facts:
        """What is known about this session, in plain values."""
        settings, stored, intent = self._settings, state.stored, state.intent
        transport, secure = state.request.transport, state.request.secure
        return Facts(
            stored is not None,
            pending is not NO_FIELD_CHANGES or bool(intent.notes) or state.label_changed,
            state.empty if stored is None else _is_emptied(state),
            stored is not None and intent.id is not None,
            stored is not None and self._touch_due(stored, state, now),
            stored is not None and can_rotate(stored, now, settings),
            state.stale_token or settings.rolling,
            "persistent" in intent.notes,
            intent.notes.get("persistent", state.base_notes.persistent),
            state.is_use and not response.public,
            response.headers_sent,
            transport.deliverable(secure=secure),
            # Not in place of a session that this request has ended.
            (settings.save_uninitialized and state.cookie is not CookieStep.EXPIRE)
            or state.keep_empty,
            failed,
            settings.seal is not None,
        )

    def will_renew(self, state: SessionState, now: float, *, headers_sent: bool) -> bool:
        """Whether a commit now would write a new idle deadline, as far as is known."""
        response = Response(headers_sent=headers_sent)
        facts = self.facts_of(state, self.pending(state), response, now, failed=False)
        return store_step(facts) is not StoreStep.NOTHING and (state.is_use or facts.new_id)

    def pending(self, state: SessionState) -> FieldChanges:
        """How the fields differ from what is stored; if this meets damage, what was set goes into a
        fresh session.
        """
        try:
            return state.fields.changes()
        except CorruptField:
            self.begin_anew(state)
            return state.fields.changes()

    def _touch_due(self, stored: Stored, state: SessionState, now: float) -> bool:
        intent = state.intent
        if intent.touch or intent.offered_at is not None:
            return True
        if state.passive:
            return False
        return self._settings.touch_due(stored.record, stored.notes, now)

    def _carry_out(
        self,
        state: SessionState,
        facts: Facts,
        pending: FieldChanges,
        response: Response,
        now: float,
    ) -> Result:
        step = store_step(facts)
        if step is StoreStep.NOTHING:
            return self._keep_nothing(state)
        if facts.in_token and facts.headers_sent and (facts.changed or facts.empty):
            raise SessionCommitted(
                "the session was changed after the response's headers were sent, so the cookie that"
                " holds it couldn't be set; change it before the body's first chunk"
            )
        if state.intent.revoked:
            # A user whom a revocation has signed out isn't signed in again by a later commit.
            return Result.REVOKED
        if _leaves_others(state):
            self.end_passed_over(state)
        if state.known_id is None:
            # Known before it is stored, so that another try is one for the same session.
            state.ask(id=self._settings.ids.new())
        self._renew_place(state, now)
        stored, work = state.stored, _work(step, state, facts, pending, now)
        try:
            outcome = self._writer.carry_out(work, stored)
        except (StoreError, SessionConflict) as error:
            outcome = self._failed(state, facts, work, pending, error)
        asked = state.intent
        if outcome.result is Result.GONE and stored is not None and (asked.login or asked.deleting):
            return self._go_on_anew(state, stored, pending, response, now)
        self._go_on(state, outcome, pending, response)
        if outcome.result is Result.NEW_ID:
            state.own_id = step is not StoreStep.ROTATE
        state.cookie = told(state.cookie, cookie_step(facts, step, outcome.result), outcome.result)
        return outcome.result

    def _failed(
        self,
        state: SessionState,
        facts: Facts,
        work: Work,
        pending: FieldChanges,
        error: StoreError | SessionConflict,
    ) -> Outcome:
        """Report a step that couldn't be done, and raise what the app has to know of."""
        if isinstance(error, StoreError) and not isinstance(error, NotEntered):
            self._doubt(state, work, pending)
        detail = f"{work.step.value}: {error}"
        self._reports.emit("store_error", state.request, state.stored, detail=detail)
        if facts.changed or facts.new_id or not facts.stored:
            raise error
        # All else is housekeeping, which never hurts: the request is answered as if it wasn't due.
        return self._after_all(work, state.stored)

    def _doubt(self, state: SessionState, work: Work, pending: FieldChanges) -> None:
        """Note that this may have been done, though the answer was lost."""
        tried = work.intent.tried
        if work.intent.id is not None and work.intent.id not in tried:
            tried = (*tried, work.intent.id)
        label = {name for name, _ in work.label.items() ^ work.former_label.items()}
        if state.stored is not None:
            state.fields.doubt(pending)
        state.ask(
            tried=tried,
            deleting=state.intent.deleting or work.step is StoreStep.DELETE_EMPTIED,
            label_doubt=state.intent.label_doubt | label,
        )

    def _go_on_anew(
        self,
        state: SessionState,
        ended: Stored,
        pending: FieldChanges,
        response: Response,
        now: float,
    ) -> Result:
        """Go on in a fresh session, where the request's own has ended.

        With a login, that another request ended it doesn't matter; and what this request has
        emptied itself may be gone though the answer was lost. If the fresh one can't be stored, the
        app goes on with it all the same: of the other, the store has said that it is over.
        """
        self.give_back_place(state)
        place = self._place_anew(state, now)
        if place is None:
            # As where a revocation meets the login: another one of the same owner was faster.
            self._reports.emit("revoked", state.request, ended, detail="max_per_owner")
            self._go_on(state, REVOKED, pending, response)
            state.cookie = told(state.cookie, CookieStep.LEAVE, Result.REVOKED)
            return Result.REVOKED
        deleting, of_ended = state.intent.deleting, ended.notes.label
        state.fields.start_over(pending.set)
        for name in [name for name, text in state.label.items() if of_ended.get(name) == text]:
            del state.label[name]
        if state.owner is not None:
            add_to_label(state.label, state.request, self._settings.label)
        state.stored, state.base_notes = None, notes_in_place_of(ended, now)
        state.ask(tried=(), deleting=False, label_doubt=frozenset(), keep=None, **place)
        state.own_id = state.stale_token = False
        again = state.fields.changes()
        facts = self.facts_of(state, again, response, now, failed=False)
        result = self._carry_out(state, facts, again, response, now)
        # Another request may have given it a new epoch instead.
        gone = result is Result.NOTHING and deleting
        if gone and self._settings.store.load(ended.id.key) is None:
            result = Result.DELETED
            state.cookie = told(state.cookie, CookieStep.EXPIRE, result)
        elif result is Result.NOTHING:
            state.gone, result = True, Result.GONE
        return result

    def _place_anew(self, state: SessionState, now: float) -> dict[str, Any] | None:
        """What the fresh session holds in its owner's list beforehand; None: there is no room."""
        owner, limit = state.intent.owner, self._settings.places
        if owner is None or owner is UNCHANGED or limit is None:
            return {"id": None, "place": None}
        new, until = self._settings.ids.new(), self._owners.until(now)
        try:
            place = self._owners.enter_if_free(owner, new.key, until=until, epoch=0, limit=limit)
        except TooManySessions:
            return None
        return {"id": new, "place": place}

    def _keep_nothing(self, state: SessionState) -> Result:
        """Nothing is to be stored: end what an earlier commit, whose answer was lost, may have left
        behind, and the sessions in which the user would still be signed in.
        """
        if state.stored is None:
            self.try_to_end_tried(state)
        if _leaves_others(state):
            self.end_passed_over(state)
            state.cookie = told(state.cookie, CookieStep.EXPIRE, Result.DELETED)
        return Result.NOTHING

    def _after_all(self, work: Work, stored: Stored | None) -> Outcome:
        """What came of a rotation whose answer may have been lost: the client must learn its ID."""
        if work.step is StoreStep.ROTATE and stored is not None:
            with suppress(StoreError):
                again = self._loader.reload(stored, work.now)
                if again is not None and again.id.id != stored.id.id:
                    return Outcome(Result.MOVED, again)
        return Outcome(Result.NOTHING)

    def _go_on(
        self, state: SessionState, outcome: Outcome, pending: FieldChanges, response: Response
    ) -> None:
        """The one place where an outcome becomes what the request knows."""
        if outcome.result is Result.DELETED:
            self.give_back_place(state)
            state.begin(self._settings.clock(), self._settings.codec)
        elif outcome.result is Result.REVOKED:
            state.gone = True
            state.ask(revoked=True)
        elif outcome.result is Result.GONE:
            state.gone = True
        elif outcome.stored is not None:
            state.after(outcome.stored)
            if not response.final:
                state.fields.rebase(outcome.stored.record.fields, pending)

    def corrupted(self, state: SessionState) -> None:
        """A field can't be decoded: from here on, the request has no session, but for an owner.

        The damaged one is passed over, so that a login, another owner or a sign-out ends it.
        """
        asked, stored, owner = state.intent, state.stored, state.owner
        login = owner is not None and state.logged_in
        leaves = login or (stored is not None and asked.owner is not UNCHANGED)
        notes = asked.notes
        if stored is not None and not asked.login:
            began, proved = stored.notes.started_at, stored.notes.authenticated_at
            notes = {"started_at": began, "authenticated_at": proved, **notes}
        self._reports.emit("corrupt_record", state.request, stored, detail="field")
        self.give_back_place(state)
        passed_over = state.passed_over if stored is None else (stored, *state.passed_over)
        state.begin(self._settings.clock(), self._settings.codec, passed_over)
        if not leaves:
            return
        state.ask(login=login, owner=owner, notes=notes if owner is not None else NO_NOTES)
        if owner is not None:
            add_to_label(state.label, state.request, self._settings.label)

    def begin_anew(self, state: SessionState) -> bool:
        """A write or a commit met a field that can't be decoded: what this request itself has set
        goes into a fresh session. Whether there is any.
        """
        stored, written = state.stored, state.fields.written()
        known = {} if stored is None else stored.notes.label or {}
        label = {name: text for name, text in state.label.items() if known.get(name) != text}
        self.corrupted(state)
        state.fields.update(written)
        state.label.update(label)
        return state.intent.owner is not UNCHANGED or bool(written)

    def end_passed_over(self, state: SessionState) -> None:
        """End the live sessions that the client presented and that aren't used.

        Raises:
            StoreError: the store can't; those that are left can be ended by another try.
        """
        while state.passed_over:
            self.end(state, state.passed_over[0])
            state.passed_over = state.passed_over[1:]

    def end(self, state: SessionState, stored: Stored) -> None:
        """Delete a session, and take it out of its owner's list.

        Raises:
            StoreError: the store can't.
        """
        in_token = self._settings.seal is not None
        if in_token or self._end(state, stored.id.key, stored.record.owner):
            self._reports.emit("destroyed", state.request, stored)

    def try_to_end_tried(self, state: SessionState) -> None:
        """As `end_tried`, where nothing that the app asked for depends on it."""
        with suppress(StoreError):  # which was reported
            self.end_tried(state)

    def end_tried(self, state: SessionState) -> None:
        """End the session that this request may have begun, though the answer was lost.

        Raises:
            StoreError: the store can't; another try may.
        """
        tried = state.intent.tried
        if not tried:
            return
        try:
            found = self._loader.own_record(tried, state.base_notes.created_at)
        except StoreError as error:
            self._reports.emit("store_error", state.request, detail=f"destroy: {error}")
            raise
        if found is not None:
            self._end(state, tried[0].key, found.owner)
        state.ask(tried=())
        if state.stored is None:
            # What comes after it is another session.
            self.give_back_place(state)
            state.ask(id=None)

    def _end(self, state: SessionState, key: str, owner: str | None) -> bool:
        try:
            ended = self._settings.store.delete(key)
        except StoreError as error:
            self._reports.emit(
                "store_error", state.request, handle=key, owner=owner, detail=f"destroy: {error}"
            )
            raise
        if owner is not None:
            self._take_out(state, owner, key)
        return ended

    def _take_out(self, state: SessionState, owner: str, key: str) -> None:
        # If that fails, the list is healed when it is next read.
        try:
            self._owners.take_out(owner, [key])
        except StoreError as error:
            self._reports.emit(
                "store_error", state.request, handle=key, owner=owner, detail=f"take out: {error}"
            )

    def _renew_place(self, state: SessionState, now: float) -> None:
        """Make sure of the place of a login whose view took its time: others may have taken its
        entry for a leftover.

        Raises:
            TooManySessions: another login has it.
        """
        place, session_id, limit = state.intent.place, state.intent.id, self._settings.places
        if place is None or session_id is None or limit is None:
            return
        entry = place.entry
        if abs(now - entry.entered_at) >= PLACE_SECONDS:
            again = self._owners.enter_if_free(
                place.owner, session_id.key, until=entry.until, epoch=entry.epoch, limit=limit
            )
            state.ask(place=again)

    def give_back_place(self, state: SessionState) -> None:
        """Give back the place in an owner's list of a login that didn't happen."""
        place, session_id = state.intent.place, state.intent.id
        if place is None or session_id is None:
            return
        state.ask(place=None)
        try:
            self._owners.give_back(session_id.key, place)
        except StoreError as error:
            # The list is healed when it is next read.
            self._reports.emit("store_error", state.request, detail=f"give back: {error}")

    def _header(
        self, state: SessionState, stored: Stored | None, response: Response, now: float
    ) -> Header | None:
        step, request = state.cookie, state.request
        if step is CookieStep.LEAVE:
            return None
        if step is CookieStep.EXPIRE:
            # One that was begun in this request isn't known to the client.
            known = bool(request.tokens)
            return request.transport.expire(secure=request.secure) if known else None
        if stored is None or (step is CookieStep.RENEW and response.public):
            return None
        return request.transport.set(
            self.token_of(stored, state),
            secure=request.secure,
            # Rounded: a moment has passed since a save() in the view set the deadline.
            max_age=max(0, round(stored.deadline - now)) if stored.notes.persistent else None,
            now=now,
        )

    def token_of(self, stored: Stored, state: SessionState) -> str:
        """The client's token of a session that is stored."""
        seal, transport = self._settings.seal, state.request.transport
        if seal is not None:
            return seal.seal(stored.id.id, stored.record, transport.purpose)
        return transport.signer.sign(stored.id.id)

    def _explain_insecure(self, state: SessionState, facts: Facts) -> None:
        wanted = replaced(facts, deliverable=True)
        step = store_step(wanted)
        sets = step not in (StoreStep.NOTHING, StoreStep.TOUCH, StoreStep.UPDATE)
        renews = step is not StoreStep.NOTHING and (wanted.renewal or wanted.attributes_changed)
        if sets or renews or state.cookie is not CookieStep.LEAVE:
            self._reports.insecure_cookie(state.request)


def _work(
    step: StoreStep, state: SessionState, facts: Facts, pending: FieldChanges, now: float
) -> Work:
    intent = state.intent
    if facts.headers_sent and facts.new_id:
        # Data is kept without the new ID that can't be handed out.
        intent = replaced(intent, id=None, keep=None)
    return Work(
        step,
        state.request,
        intent,
        state.base_notes,
        pending.set,
        pending.delete,
        state.former_label,
        checked_label(state.label) if state.label_changed else state.label,
        facts.renewal or facts.attributes_changed,
        not state.is_use,
        now,
    )


def _leaves_others(state: SessionState) -> bool:
    """Whether sessions that the client presented are to be ended, as its owner changed."""
    return bool(state.passed_over) and state.intent.owner is not UNCHANGED


def _has_to_end(state: SessionState) -> bool:
    """Whether there may be a record to be ended, though the session holds nothing."""
    return bool(state.intent.tried) or _leaves_others(state)


def _is_emptied(state: SessionState) -> bool:
    """Whether all that the session held was removed, so that it is to be deleted."""
    stored = state.stored
    if stored is None or state.keep_empty or not state.empty:
        return False
    return held_something(stored.record) or state.emptied


def held_something(record: Record) -> bool:
    """Whether this record had a field or an owner."""
    return bool(record.fields) or record.owner is not None


def _half_done(state: SessionState) -> bool:
    """Whether a change of owner was asked for that can't be completed: its ID can't be handed out.

    Then nothing of the request is kept: what was written for the new owner must not be found under
    an ID that someone may have known before.
    """
    intent = state.intent
    return intent.id is not None and intent.owner is not UNCHANGED
