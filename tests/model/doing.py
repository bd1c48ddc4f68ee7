"""What the app does in a request, operation by operation, held against the `View` of it."""

from __future__ import annotations

import copy
from typing import Any

from wsgi_sessions import Session

from .operations import COMMITS, READS, UNSUPPORTED, Boom, perform
from .scenario import Op
from .steps import Effect, Watch
from .view import State, View, bare, is_nothing, matches, transacted
from .world import ABSOLUTE


class Doing(Watch):
    """Does operations, and thinks along."""

    def do(self, session: Session, op: Op) -> None:
        """Have the app do it, and think along."""
        first = not self.loaded
        caught = op[0] == "try"
        if caught:
            op = op[1]
        before = self.disturbed
        self.disturbed = False
        try:
            if first:
                self.load(session)
            self._do(session, op)
        except Boom:
            if not caught:
                raise
        except Exception as error:
            if not caught:
                self.app_error = error
                raise
        finally:
            if first and self.disturbed:
                self.vague = True
            self.disturbed = self.disturbed or before

    def _do(self, session: Session, op: Op) -> None:
        right = () if self.broken or self.vague else self.view.may_raise(op)
        step = op[0] in COMMITS and not self.broken
        self.transacting = op[0] in UNSUPPORTED
        if step:
            self.begin(session)
        began = self.world.clock.now
        try:
            result = perform(session, copy.deepcopy(op))
        except Exception as error:
            self._failed(session, op, error)
            raise
        if self.broken:
            self._recovered(session, op)
            return
        # Another request may have put a number there, or have ended the session.
        accepts = not right or (op[0] == "increment" and self.raced)
        self.oracle.check(accepts, "accepted", f"{op} was accepted; it must raise {right}")
        if step:
            self._done(session, op, result)
            return
        said, value = self.view.read(op)
        if said and not self.vague:
            self.oracle.check(result == value, "read", f"{op} gave {result}, not {value}")
        if op[0] == "login":
            self.signed_in = began, self.world.clock.now
        if op[0] == "lifetime":
            self._limit(*op[1:])
        self.view.think(copy.deepcopy(op))

    def _limit(self, idle: float, absolute: float) -> None:
        self.limits = idle, absolute
        self.clocked = self.clocked or not self.world.shared
        if self.family is not None:
            self.family.limit(idle, absolute)
            self.family.must = False
            # With these limits it may be over already; if the clock was put back, it may have begun
            # earlier than when it was seen to.
            over = self.world.clock.now >= self.family.begun + absolute
            self.vague = self.vague or over or self.oracle.put_back

    def _recovered(self, session: Session, op: Op) -> None:
        # What went on while it couldn't be loaded isn't followed.
        self._probe(session)
        self.vague = True
        if op[0] == "destroy":
            self.destroyed = True

    def _failed(self, session: Session, op: Op, error: Exception) -> None:
        allowed = self._allowed(op)
        names = [each.__name__ for each in type(error).__mro__]
        self.oracle.check(
            allowed.intersection(names),
            "escape",
            f"{op} raised {names[0]}: {error}; allowed: {allowed or 'nothing'}",
        )
        known_broken = self.broken
        self._probe(session)
        if self.broken or known_broken:
            self.watching = False
            self.vague = self.vague or not self.broken
            return
        if op[0] == "destroy":
            self._end_step(lambda state: None, error=error)
            # It may have been deleted, and what comes now may be a fresh one.
            self.destroyed = self.vague = True
            if self.family is not None:
                # The app may read it again, and go on with it.
                self.family.must, self.family.unknown = False, True
            self.view, self.family, self.own_id = View(), None, None
            return
        if op[0] in COMMITS:
            effects: list[Effect] = [self.view.effect, *self._transactions(op)]
            self._end_step(*effects, error=error, partial=op[0] != "save")
            moved = any(not matches(*pair) for pair in self._own_part())
            self.wrote = self.wrote or moved
            if op[0] in UNSUPPORTED and (moved or self.lost_now):
                # What was pending may have been committed first, and fn have failed after that.
                self.vague = self.vague or self.lost_now
                self._sync(session, settled=True)
                return
            if self.lost_now:
                self.view.doubt()
        self._check_unchanged(session, op)

    def _allowed(self, op: Op) -> set[str]:
        allowed = set(self.view.may_raise(op))
        if self.view.unstorable and op[0] == "properties":
            allowed.add("TypeError")  # what would be written is looked at
        if self.vague:
            allowed |= {"KeyError", "AttributeError", "TypeError"}
        if self.faulty or self.broken:
            allowed.add("StoreError")
        if self.tail and op[0] not in READS:
            allowed |= {"SessionCommitted", "SessionEnded"}
        if self.world.options.get("when_full") == "refuse" and op[0] in ("owner", "login"):
            allowed.add("TooManySessions")
        if not self.world.shared and op[0] in UNSUPPORTED:
            allowed.add("UnsupportedByStore")
        if op[0] in COMMITS:
            if self._may_lose_its_place():
                allowed.add("TooManySessions")
            if self.view.unstorable:
                allowed |= {"TypeError", "ValueError"}
            if "max_bytes" in self.world.options and op[0] not in ("destroy", "reload"):
                allowed.add("SessionTooLarge")
            if self.raced and op[0] in UNSUPPORTED:
                allowed.add("TypeError")  # of what another request put there
            if self._may_be_gone() and op[0] not in ("take", "destroy", "reload"):
                allowed.add("SessionEnded")
        return allowed

    def _may_lose_its_place(self) -> bool:
        """Whether another login may have taken its place in the list for a leftover."""
        return self.world.options.get("when_full") == "refuse" and self.clocked

    def _may_be_gone(self) -> bool:
        return (
            self.vague
            or self.clocked
            or self.revocable
            or self.world.evicted
            or (self.view.stored and any(state is None for state in [*self.gaps, self.now()]))
        )

    def _check_unchanged(self, session: Session, op: Op) -> None:
        """A step that raises leaves what the request knows as it was."""
        if self.vague or self.view.unstorable:
            return
        if op[0] in UNSUPPORTED and self.raced:
            # What was pending is committed first, and brings what others wrote.
            self._sync(session, settled=False)
            return
        with self.world.silence():
            fields, owner, new = dict(session), session.owner, session.is_new
        if new and self.view.login and self.view.stored and self._may_be_gone():
            # It was found to be ended, and the login goes on in a fresh one.
            fresh = self.view.effect(None)
            assert fresh is not None
            self.view = View(
                fields=dict(fresh.fields), owner=fresh.owner, new_id=True, login=True, label={}
            )
            self.vague = True
        same = fields == self.view.fields and owner == self.view.owner
        self.oracle.check(
            same,
            "half_done",
            f"{op} failed, and the session is {(fields, owner)} instead of"
            f" {(self.view.fields, self.view.owner)}",
        )

    def _done(self, session: Session, op: Op, result: Any) -> None:
        """A step at the store succeeded."""
        match op[0]:
            case "destroy":
                self._end_destroy()
            case "reload":
                self._end_reload(session)
            case "save":
                good = not self.view.unstorable or is_nothing(self.view.now) or self.vague
                self.oracle.check(good, "accepted", "what can't be stored was saved")
                self._end_step(self.view.effect)
                self._check_new_id()
                self.wrote = True
                self._sync(session, settled=True)
            case _:
                self._end_transaction(session, op, result)

    def _end_destroy(self) -> None:
        family = self.family
        self._end_step(lambda state: None)
        if family is not None and self.world.shared:
            # Another request may have emptied it, and begun a fresh one.
            seen = None if family.unknown or self.raced else self.oracle.look(family)
            self.oracle.check(seen is None, "destroy", f"destroyed, and {seen} lives")
            if self.raced:
                family.unknown, family.must = True, False
            else:
                self.oracle.end(family)
        self.destroyed = True
        self.view, self.family, self.own_id, self.virtual = View(), None, None, None

    def _end_reload(self, session: Session) -> None:
        self.watching = False
        state = self.now()
        self.view = View.of(state)
        if state is None:
            self.family = self.own_id = None
            # It may have been read, and have ended right then.
            self.vague = self.vague or self.raced
        self._compare(session, "reload")

    def _end_transaction(self, session: Session, op: Op, result: Any) -> None:
        before = self.view
        self.wrote = True
        effects = self._transactions(op)
        # The label goes with what is pending, in a write of its own that isn't looked at.
        self.vague = self.vague or (self.raced and before.label != before.base.label)
        self.vague = self.vague or self._is_over()
        fired = self._end_step(before.effect, *effects)
        gone = before.stored and all(state is None for state in self.gaps)
        undisturbed = not (self.disturbed or self.faulty or self.world.evicted)
        if undisturbed and not self.vague:
            expected = transacted(op, before.effect(self.gaps[0]))[1]
            good = result == expected or (gone and op[0] == "take" and result is None)
            self.oracle.check(good, "result", f"{op} returned {result}, not {expected}")
        self.oracle.check(
            not gone or op[0] == "take" or self.vague or before.login or fired & {1, 2, 3},
            "ended_unnoticed",
            f"{op} succeeded on an ended session",
        )
        if gone:
            return
        # Today a session that isn't stored yet stays so; then all that it has is pending.
        in_memory = not before.stored and is_nothing(self.gaps[-1])
        # What is emptied is deleted, and has no ID any more.
        emptied = is_nothing(before.effect(self.gaps[0])) or (
            self.gaps[-1] is None and bool(fired & {1, 2, 3})
        )
        renewed = not before.new_id or self._has_new_id() or (before.stored and emptied)
        whole = not in_memory and renewed and (bool(fired & {0, 1}) or not before.pending)
        self._sync(session, settled=whole)
        stored = self.gaps[-1]
        if not whole and before.stored and before.pending and stored is not None:
            # What was pending still is.
            fields = dict(self.view.fields)
            for name in {*before.changes()[0], *before.changes()[1]}:
                fields.pop(name, None)
                if name in stored.fields:
                    fields[name] = stored.fields[name]
            self.view.base = before.base._replace(fields=fields)

    def _is_over(self) -> bool:
        """Whether the view has taken longer than what the session may live at all."""
        stored = ABSOLUTE if self.family is None else self.family.absolute[0]
        absolute = stored if self.limits is None else self.limits[1]
        return self.world.clock.now >= self.started + absolute

    def _transactions(self, op: Op) -> list[Effect]:
        """With what is pending, and alone."""
        if op[0] not in ("transaction", "take", "increment"):
            return []
        view = copy.deepcopy(self.view)

        def both(state: State | None) -> State | None:
            if view.stored and state is None and not view.login:
                return None
            seen = view.effect(state)
            try:
                # What is emptied is deleted, and a fresh session begins.
                return transacted(op, None if is_nothing(seen) else seen)[0]
            except TypeError:
                return state

        def alone(state: State | None) -> State | None:
            if state is None:
                emptied = view.stored and is_nothing(view.effect(view.base))
                return transacted(op, None)[0] if emptied else None
            seen, before, fields = both(state), view.effect(state), dict(state.fields)
            if matches(seen, before):
                return state
            fields.pop(op[1], None)
            if seen is not None and op[1] in seen.fields:
                fields[op[1]] = seen.fields[op[1]]
            return state._replace(fields=fields)

        def after_another(state: State | None) -> State | None:
            # What was pending was committed first, and then another request was faster.
            try:
                return None if state is None else transacted(op, state)[0]
            except TypeError:
                return state

        return [both, alone, after_another]

    def _sync(self, session: Session, *, settled: bool) -> None:
        """Take over what the app sees after a step that may have brought others' fields."""
        if self.vague:
            return
        with self.world.silence():
            fields, owner = copy.deepcopy(dict(session)), session.owner
            label = bare(session.label)
        if settled:
            if not (self.raced or self.faulty or self.clocked) and self.world.shared:
                state = self.now()
                shown = State(fields, owner)
                self.oracle.check(
                    matches(state, shown), "view", f"the app sees {shown}, stored is {state}"
                )
            written = State(fields, owner, label)
            stored = not is_nothing(written)
            if self.world.shared:
                stored = self.now() is not None
                ended = not stored and (self.raced or not is_nothing(written))
                if self.view.stored and ended:
                    self.vague = True  # another request may have ended it
                    return
            self.view.settle(written, stored=stored)
        else:
            self.view.fields, self.view.owner = fields, owner

    def _compare(self, session: Session, kind: str) -> None:
        if self.raced or self.vague or self.faulty:
            self._sync(session, settled=self.view.stored)
            return
        with self.world.silence():
            shown = (dict(session), session.owner)
        self.oracle.check(
            shown == (self.view.fields, self.view.owner),
            kind,
            f"the app sees {shown}, not {(self.view.fields, self.view.owner)}",
        )
        self.vague = self.vague or shown != (self.view.fields, self.view.owner)
