"""One request as the oracle follows it: what the app does, each step at the store, the answer.

A step is whatever may write: a commit, save(), a transaction, destroy(). Its stored state is looked
at before and after, and around everything that happens in the middle; so it shows where the step
took effect, and that it did so once, as a whole, or not at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from wsgi_sessions import Session, SessionTooLarge, StoreError

from .operations import CHANGES, COMMITS, READS, UNSUPPORTED, Boom, perform
from .oracle import Family, Finding, Oracle
from .scenario import Event, Fail, Op, Request, RevokeAll, Tick
from .view import State, View, is_nothing, matches, transacted
from .world import Seen, id_of

Effect = Callable[[State | None], State | None]


class Visit:
    """A request's session, seen from outside."""

    def __init__(self, oracle: Oracle, request: Request, token: str | None) -> None:
        self.oracle = oracle
        self.world = oracle.world
        self.request = request
        self.token = token
        self.session: Session | None = None
        self.view = View()
        self.seen: Seen | None = None
        self.family: Family | None = None
        self.epoch = 0
        self.own_id: str | None = None
        self.virtual: State | None = None
        """What the client-side store's cookie would hold now."""
        self.loaded = self.broken = self.vague = self.raised = False
        self.faulty = self.alone_no_more = self.tail = False
        self.lost_write = self.destroyed = self.committed = self.saved = self.wrote = False
        self.app_error: BaseException | None = None
        self.gaps: list[State | None] = []
        self.watching = self.lost_now = False
        self.limits: tuple[float, float] | None = None
        self.calls = 0
        self.unsure = self.clocked = self.raced = self.revocable = False

    # Loading

    def load(self, session: Session) -> None:
        """The app is about to use the session for the first time."""
        self.session, self.loaded = session, True
        self.take_up(self.world.peek(self.token))

    def take_up(self, seen: Seen | None) -> None:
        self.seen = seen
        state = None if seen is None else seen.state
        self.view, self.virtual = View.of(state), state
        self.family = self.oracle.family_of(seen, self.token)
        if self.family is not None:
            self.epoch = self.family.epoch
            self.family.used = max(self.family.used, self.world.clock.now)
            if not self.family.unknown and self.world.shared:
                self.oracle.check(
                    matches(self.family.state, state), "changed", f"{self.family.state} → {state}"
                )
            self.vague = self.vague or self.family.unknown
        elif self.token is not None and self.world.shared:
            family = self.oracle.by_id.get(id_of(self.token))
            self.vague = self.vague or (family is not None and family.unknown)

    def _probe(self, session: Session) -> None:
        """Whether the session could be loaded."""
        with self.world.silence():
            try:
                len(session)
            except StoreError:
                self.broken = True
            else:
                self.broken = False

    # What the store has

    def now(self) -> State | None:
        """This request's session as it is stored now; None: ended, or this request is too old."""
        if not self.world.shared:
            return self.virtual
        family = self.family
        own = [] if self.own_id is None else [self.own_id]
        current = family is not None and family.epoch == self.epoch
        ids = [*(family.ids[-3:] if family is not None and current else []), *own]
        for each in reversed(ids):
            seen = self.world.peek_id(each)
            if seen is not None:
                return seen.state
        return None

    def interrupted(self, event: Event) -> None:
        """Something else happens now, or has just happened."""
        self.alone_no_more = self.unsure = self.raced = True
        self.clocked = self.clocked or isinstance(event, Tick)
        limited = "max_per_owner" in self.world.options
        self.revocable = (
            self.revocable
            or isinstance(event, RevokeAll)
            or (limited and isinstance(event, Request))
        )

    def look_around(self) -> None:
        """Note what is stored, right before and right after something else happens."""
        if self.watching:
            self.gaps.append(self.now())

    def fault(self, fault: Fail, operation: str) -> None:
        self.faulty = True
        self.oracle.stranded = True
        if fault.answer_lost:
            self.lost_now = True
            self.lost_write = self.lost_write or operation not in ("load", "owned_by", "generation")

    # Operations

    def do(self, session: Session, op: Op) -> None:
        """Have the app do it, and think along."""
        first = not self.loaded
        caught = op[0] == "try"
        if caught:
            op = op[1]
        before = self.alone_no_more
        self.alone_no_more = False
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
            if first and self.alone_no_more:
                self.vague = True
            self.alone_no_more = self.alone_no_more or before

    def _do(self, session: Session, op: Op) -> None:
        right = () if self.broken or self.vague else self.view.may_raise(op)
        step = op[0] in COMMITS and not self.broken
        if step:
            self.begin(session)
        try:
            result = perform(session, copy.deepcopy(op))
        except Exception as error:
            self._failed(session, op, error)
            raise
        if self.broken:
            self._recovered(session, op)
            return
        self.oracle.check(not right, "accepted", f"{op} was accepted; it must raise {right}")
        if step:
            self._done(session, op, result)
            return
        said, value = self.view.read(op)
        if said and not self.vague:
            self.oracle.check(result == value, "read", f"{op} gave {result}, not {value}")
        if op[0] == "lifetime":
            self._limit(*op[1:])
        self.view.think(copy.deepcopy(op))

    def _limit(self, idle: float, absolute: float) -> None:
        self.limits = idle, absolute
        if self.family is not None:
            self.family.limit(idle, absolute)
            # With these limits it may be over already.
            self.vague = self.vague or self.world.clock.now >= self.family.begun + absolute

    def _others_may_go(self, owner: str | None) -> None:
        if self.world.options.get("max_per_owner"):
            for family in self.oracle.families:
                if family.state.owner == owner and family is not self.family:
                    family.must = False

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
            self.destroyed = self.vague = True
            return
        if op[0] in COMMITS:
            effects: list[Effect] = [self.view.effect, *self._transactions(op)]
            self._end_step(*effects, error=error, partial=op[0] != "save")
        self._check_unchanged(session, op)

    def _allowed(self, op: Op) -> set[str]:
        allowed = set(self.view.may_raise(op))
        if self.vague:
            allowed |= {"KeyError", "AttributeError", "TypeError"}
        if self.faulty or self.broken:
            allowed.add("StoreError")
        if self.tail and op[0] not in READS:
            allowed.add("SessionCommitted")
        if self.world.options.get("when_full") == "refuse" and op[0] in ("owner", "login"):
            allowed.add("TooManySessions")
        if not self.world.shared and op[0] in UNSUPPORTED:
            allowed.add("UnsupportedByStore")
        if op[0] in COMMITS:
            if self.view.unstorable:
                allowed |= {"TypeError", "ValueError"}
            if "max_bytes" in self.world.options and op[0] not in ("take", "destroy", "reload"):
                allowed.add("SessionTooLarge")
            if self._may_be_gone() and op[0] not in ("take", "destroy", "reload"):
                allowed.add("SessionEnded")
        return allowed

    def _may_be_gone(self) -> bool:
        return self.vague or (
            self.view.stored and any(state is None for state in [*self.gaps, self.now()])
        )

    def _check_unchanged(self, session: Session, op: Op) -> None:
        """A step that raises leaves what the request knows as it was."""
        if self.vague or self.view.unstorable:
            return
        with self.world.silence():
            fields, owner = dict(session), session.owner
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
                self.oracle.check(
                    not self.view.unstorable, "accepted", "what can't be stored was saved"
                )
                self._end_step(self.view.effect)
                self.saved = True
                self._sync(session, settled=True)
            case _:
                self._end_transaction(session, op, result)

    def _end_destroy(self) -> None:
        family = self.family
        self._end_step(lambda state: None)
        if family is not None and self.world.shared:
            seen = None if family.unknown else self.oracle.look(family)
            self.oracle.check(seen is None, "destroy", f"destroyed, and {seen} lives")
            self.oracle.end(family)
        self.destroyed = True
        self.view, self.family, self.own_id, self.virtual = View(), None, None, None

    def _end_reload(self, session: Session) -> None:
        self.watching = False
        state = self.now()
        self.view = View.of(state)
        if state is None:
            self.family = self.own_id = None
        self._compare(session, "reload")

    def _end_transaction(self, session: Session, op: Op, result: Any) -> None:
        before = self.view
        effects = self._transactions(op)
        fired = self._end_step(before.effect, *effects)
        gone = before.stored and all(state is None for state in self.gaps)
        if not self.vague and not self.alone_no_more and not self.faulty:
            expected = transacted(op, before.effect(self.gaps[0]))[1]
            good = result == expected or (gone and op[0] == "take" and result is None)
            self.oracle.check(good, "result", f"{op} returned {result}, not {expected}")
        self.oracle.check(
            not gone or op[0] == "take" or self.vague or before.login or 1 in fired or 2 in fired,
            "ended_unnoticed",
            f"{op} succeeded on an ended session",
        )
        if gone:
            return
        # Today a session that isn't stored yet stays so; then all that it has is pending.
        in_memory = not before.stored and is_nothing(self.gaps[-1])
        self._sync(session, settled=not in_memory and (1 in fired or not before.pending))
        stored = self.gaps[-1]
        if 1 not in fired and before.stored and before.pending and stored is not None:
            # What was pending still is.
            fields = dict(self.view.fields)
            for name in {*before.changes()[0], *before.changes()[1]}:
                fields.pop(name, None)
                if name in stored.fields:
                    fields[name] = stored.fields[name]
            self.view.base = before.base._replace(fields=fields)

    def _transactions(self, op: Op) -> list[Effect]:
        """With what is pending, and alone."""
        if op[0] not in ("transaction", "take", "increment"):
            return []
        view = copy.deepcopy(self.view)

        def both(state: State | None) -> State | None:
            if view.stored and state is None and not view.login:
                return None
            try:
                return transacted(op, view.effect(state))[0]
            except TypeError:
                return state

        def alone(state: State | None) -> State | None:
            if state is None:
                return None
            seen, before, fields = both(state), view.effect(state), dict(state.fields)
            if matches(seen, before):
                return state
            fields.pop(op[1], None)
            if seen is not None and op[1] in seen.fields:
                fields[op[1]] = seen.fields[op[1]]
            return state._replace(fields=fields)

        return [both, alone]

    def _sync(self, session: Session, *, settled: bool) -> None:
        """Take over what the app sees after a step that may have brought others' fields."""
        if self.vague:
            return
        with self.world.silence():
            fields, owner = copy.deepcopy(dict(session)), session.owner
        if settled:
            if not (self.raced or self.faulty or self.clocked) and self.world.shared:
                state = self.now()
                shown = State(fields, owner)
                self.oracle.check(
                    matches(state, shown), "view", f"the app sees {shown}, stored is {state}"
                )
            label = dict(self.view.label)
            written = State(fields, owner, label)
            stored = not is_nothing(written)
            if self.world.shared:
                stored = self.now() is not None
                if self.view.stored and not stored and not is_nothing(written):
                    return  # another request ended it
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

    # Steps

    def begin(self, session: Session) -> None:
        """A step at the store begins."""
        self.lost_now = False
        if self.view.new_id and self.request.at:
            # So that what comes in between can be looked at under the ID to come.
            with self.world.silence():
                self.own_id = session.id
        self.gaps = [self.now()]
        self.watching = True

    def _end_step(
        self,
        *effects: Effect,
        error: BaseException | None = None,
        optional: bool = False,
        partial: bool = False,
    ) -> set[int]:
        """Check that the step took effect once and as a whole; which effects were seen."""
        self.watching = False
        if not self.world.shared:
            if error is None and not self.vague:
                self.virtual = effects[0](self.virtual)
            return {0}
        if self.session is not None and not self.broken:
            with self.world.silence():
                self.own_id = self._id_if_any()
        self.gaps.append(self.now())
        fired: set[int] = set()
        if not self.vague and not self.clocked:
            fired = self._fired(effects)
            stuck = error is not None and not self.lost_now and not partial
            self.oracle.check(
                not (stuck and fired),
                "raised_but_done",
                f"{type(error).__name__} was raised, and yet it was written",
            )
            done = fired or optional or self.revocable or any(self._is_idle(effects, state) for state in self.gaps)
            self.oracle.check(
                error is not None or done,
                "not_written",
                f"{self.view.now} was to be written, and the store has {self.gaps[-1]}",
            )
        self._conclude(bool(fired) or error is None)
        return fired

    def _id_if_any(self) -> str | None:
        session = self.session
        options = self.world.options
        written = self.view.stored or self.view.pending or "save_uninitialized" in options
        if session is None or not written:
            return self.own_id
        return session.id

    @staticmethod
    def _is_idle(effects: tuple[Effect, ...], state: State | None) -> bool:
        return any(matches(effect(state), state) for effect in effects)

    def _fired(self, effects: tuple[Effect, ...]) -> set[int]:
        fired, idle = set[int](), set[int]()
        for was, became in zip(self.gaps[::2], self.gaps[1::2], strict=True):
            order = [*range(1, len(effects)), 0]
            found = next((n for n in order if matches(effects[n](was), became)), None)
            if found is not None and not matches(was, became):
                self.oracle.check(found not in fired, "twice", f"{was} → {became}, once more")
                fired.add(found)
                continue
            self.oracle.check(
                matches(was, became) or (became is None and self.revocable and self.view.new_id),
                "unexplained",
                f"{was} became {became}; right: {[effect(was) for effect in effects]}",
            )
            if found is not None and len(effects) > 1:
                idle = {found}
        return fired or idle

    def _conclude(self, success: bool) -> None:
        """Draw the conclusions for the family."""
        state, family = self.gaps[-1], self.family
        current = family is not None and family.epoch == self.epoch
        if state is None:
            if family is not None and current and self.oracle.look(family) is None:
                self.oracle.end(family) if not family.unknown else None
            return
        if self.own_id is None:
            return
        if family is None or not current:
            new = Family([self.own_id], state, self.world.clock.now, unknown=self.vague)
            self.family = family = self.oracle.adopt(new)
            self.epoch = 0
        elif self.view.new_id and self.own_id not in family.ids:
            if self.world.peek_id(self.own_id) is not None:
                self.oracle.replaced(family, self.own_id)
                self.epoch = family.epoch
        elif self.own_id not in family.ids and self.world.peek_id(self.own_id) is not None:
            self.oracle.rotated(family, self.own_id)
        if self.view.new_id and self.view.owner is not None:
            self._others_may_go(self.view.owner)
        if self.view.login:
            family.begun = self.world.clock.now
            family.last_begun = max(family.last_begun, family.begun)
        if self.limits is not None:
            family.limit(*self.limits)
        self.wrote = self.wrote or (success and not self.failing)
        if success and not matches(family.state, state):
            family.written_at = self.world.clock.now
        family.state = state
        family.used = max(family.used, self.world.clock.now)

    # The end

    @property
    def failing(self) -> bool:
        """Whether the answer is one that keeps nothing."""
        keeps = self.world.options.get("save_on_error", False)
        return self.broken or (self.request.end in ("error", "stream_error") and not keeps)

    def begin_commit(self) -> None:
        if self.session is not None and not self.broken:
            self.begin(self.session)
        else:
            self.gaps, self.watching = [self.now()], True

    def end_commit(self, *, raised: bool = False, error: BaseException | None = None) -> None:
        """The commit at the end of the request, or of the stream, is over."""
        if self.session is None:
            self.watching = False
            return
        keeps = self.world.options.get("save_on_error", False)
        nothing = (self.failing and not self.tail) or (raised and not keeps)
        effect: Effect = (lambda state: state) if nothing else self.view.effect
        # Whether a stream that began with a 500 may save at its end, isn't said.
        optional = raised or (self.failing and self.tail)
        bad = self.view.unstorable and not nothing and not raised and not self.vague
        self._end_step(effect, error=error, optional=optional or bad)
        if bad and error is None:
            self.oracle.check(
                is_nothing(self.view.now) or not self.world.shared,
                "accepted",
                "what can't be stored was committed",
            )
        self.committed = error is None and not nothing and not raised
        if self.committed and self.request.end == "stream" and not self.broken:
            self._sync(self.session, settled=True)

    def headers(self, status: str) -> None:
        """The headers go out, so the commit is over."""
        if self.raised:
            self.end_commit(raised=True)
        elif status.startswith("503"):
            self.end_commit(error=StoreError("503"))
        else:
            self.end_commit()

    def broken_off(self, error: Exception) -> None:
        """An exception came out of the middleware."""
        if self.watching:
            self.end_commit(raised=self.raised, error=None if self.raised else error)

    def complete(self) -> None:
        """The response is complete."""
        if self.watching:
            self.end_commit()

    def may_escape(self, error: BaseException) -> bool:
        """Whether this exception may come out of the middleware."""
        if error is self.app_error or isinstance(error, Boom):
            return True
        if not any(op[0] in CHANGES or op[0] in COMMITS for op in self.all_ops()):
            return False
        if isinstance(error, SessionTooLarge):
            return "max_bytes" in self.world.options or not self.world.shared
        if isinstance(error, StoreError):
            return self.faulty and (self.tail or self.request.via == "session_of")
        if isinstance(error, (TypeError, ValueError)):
            return self.view.unstorable
        return False

    def all_ops(self) -> list[Op]:
        both = [*self.request.ops, *self.request.tail]
        return [op[1] if op[0] == "try" else op for op in both]

    def answered(self, token: str | None) -> None:
        """The headers went out: the cookie tells the truth."""
        check = self.oracle.check
        if token and self.world.shared:
            seen = self.world.peek(token)
            if seen is None and (self.vague or self.clocked or (self.unsure and self.wrote)):
                # The store said that it lives, and only after that it was ended.
                return
            check(seen is not None, "cookie_lies", "the response sets a token that leads nowhere")
            if seen is None:
                return
            check(seen.id == id_of(token), "cookie_lies", "the response sets a replaced ID")
            family = self.oracle.family_of(seen, token)
            if family is not None and self.family is None:
                self.family, self.epoch = family, family.epoch
        if not self.loaded:
            check(token is None, "untouched", "a response that didn't use the session has a cookie")
            return
        if self.vague or self.broken:
            return
        reach = self.token if token is None else token or None
        if not self.world.shared:
            seen = self.world.peek(reach)
            state = None if seen is None else seen.state
            fine = matches(self.virtual, state) or (state is None and self.clocked)
            check(fine, "client", f"{self.virtual} became {state}")
            return
        if token == "":
            seen = None if self.destroyed else self.world.peek(self.token)
            state = None if seen is None else seen.state
            check(is_nothing(state), "expired_alive", f"the cookie of {state} was expired")
        state = self.now()
        if not is_nothing(state) and not self.lost_write:
            check(
                self.world.peek(reach) is not None,
                "unreachable",
                f"{state} lives, and the browser has no token that leads to it",
            )
