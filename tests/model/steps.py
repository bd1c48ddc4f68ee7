"""A request's session seen from outside, and each step at the store.

A step is whatever may write: a commit, save(), a transaction, destroy(). Its stored state is looked
at before and after, and around everything that happens in the middle; so it shows where the step
took effect, and that it did so once, as a whole, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable

from wsgi_sessions import Session, SessionEnded, StoreError
from wsgi_sessions.crypto.session_id import SessionID

from .oracle import Family, Oracle
from .scenario import Event, Fail, Request, RevokeAll, Tick
from .view import State, View, is_nothing, matches
from .world import ABSOLUTE, IDLE, Seen, id_of

Effect = Callable[[State | None], State | None]


class Watch:
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
        self.faulty = self.disturbed = self.tail = False
        self.lost_write = self.destroyed = self.committed = self.wrote = False
        self.deleting = False
        """Whether an outage leaves open whether it was deleted, as it was emptied."""
        self.app_error: BaseException | None = None
        self.gaps: list[State | None] = []
        self.watching = self.lost_now = self.failed_now = False
        self.limits: tuple[float, float] | None = None
        self.calls = self.events_before = 0
        self.started = now = self.world.clock.now
        self.signed_in = now, now
        """Between these times, it was told to sign in."""
        self.transacting = False
        """Whether a transaction runs, which may store a new session."""
        self.unsure = self.clocked = self.raced = False
        self.revocable = self.was_revocable = False

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
        self.disturbed = self.unsure = self.raced = True
        self.clocked = self.clocked or isinstance(event, Tick)
        limited = "max_per_owner" in self.world.options
        self.was_revocable = self.revocable
        self.revocable = (
            self.revocable
            or isinstance(event, RevokeAll)
            or (limited and isinstance(event, Request))
        )

    def look_around(self) -> None:
        """Note what is stored, right before and right after something else happens."""
        if self.watching:
            state = self.now()
            self.gaps.append(state)
            if state is not None and self.family is not None and self.family.epoch == self.epoch:
                self.family.state = state

    def fault(self, fault: Fail, operation: str) -> None:
        self.faulty = self.failed_now = True
        self.oracle.stranded = True
        if fault.answer_lost:
            self.lost_now = True
            self.lost_write = self.lost_write or operation != "load"
            # Whether it was the list or the session that was written isn't looked at.
            self.vague = self.vague or (self.wrote and self.view.login)

    # Steps

    def begin(self, session: Session) -> None:
        """A step at the store begins."""
        self.lost_now = self.failed_now = False
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
        asked: bool = True,
    ) -> set[int]:
        """Check that the step took effect once and as a whole; which effects were seen."""
        self.watching = False
        if not self.world.shared:
            if error is None and not self.vague:
                after = effects[0](self.virtual)
                kept = "save_uninitialized" in self.world.options
                self.virtual = None if is_nothing(after) and not kept else after
            return {0} if error is None else set()
        if self.session is not None and not self.broken:
            with self.world.silence():
                self.own_id = self._id_if_any()
        self.gaps.append(self.now())
        # When in the middle of a step time went by isn't followed.
        self.vague = self.vague or (self.clocked and self.disturbed)
        self.vague = self.vague or (self.family is not None and self.family.unknown)
        self.oracle.stranded = self.oracle.stranded or error is not None
        view = self.view
        failed = error is not None or self.lost_now
        if failed and view.stored and is_nothing(view.effect(view.base)):
            self.deleting = True
        fired: set[int] = set()
        if not self.vague and not self.clocked:
            fired = self._fired(effects)
            stuck = error is not None and not self.lost_now and not partial
            # It may have been written, and revoked right then.
            stuck = stuck and not (self.revocable and isinstance(error, SessionEnded))
            self.oracle.check(
                not (stuck and fired),
                "raised_but_done",
                f"{type(error).__name__} was raised, and yet it was written",
            )
            done = (
                fired
                or optional
                or self.revocable
                or self.world.evicted
                # A stream can't begin a fresh one any more.
                or (self.deleting and self.tail)
                # What may be stored under an ID that nobody has, ends by itself.
                or (self.failed_now and view.in_doubt and not view.stored and is_nothing(view.now))
                or any(self._is_idle(effects, state) for state in self.gaps)
            )
            self.oracle.check(
                error is not None or done,
                "not_written",
                f"{self.view.now} was to be written, and the store has {self.gaps[-1]}",
            )
        self._conclude(bool(fired) or error is None, asked=asked)
        return fired

    def _has_new_id(self) -> bool:
        """Whether the store has the ID that was asked for, and only that."""
        family = self.family
        return family is not None and family.ids == [self.own_id]

    def _check_new_id(self) -> None:
        said = self.world.shared and not (self.vague or self.raced)
        if said and self.view.new_id and self.gaps[-1] is not None:
            self.oracle.check(
                self._has_new_id(), "same_id", "a commit gave a session no new ID that asked for it"
            )

    def _id_if_any(self) -> str | None:
        session = self.session
        options = self.world.options
        written = self.view.stored or self.view.pending or "save_uninitialized" in options
        if session is None or not (written or self.transacting):
            return self.own_id
        return session.id

    def _own_part(self) -> list[tuple[State | None, State | None]]:
        """What the step itself did: between its beginning, what came in between, and its end."""
        return list(zip(self.gaps[::2], self.gaps[1::2], strict=True))

    @staticmethod
    def _is_idle(effects: tuple[Effect, ...], state: State | None) -> bool:
        return any(matches(effect(state), state) for effect in effects)

    def _fired(self, effects: tuple[Effect, ...]) -> set[int]:
        fired, idle = list[list[int]](), set[int]()
        for was, became in self._own_part():
            order = [*range(1, len(effects)), 0]
            explaining = [n for n in order if matches(effects[n](was), became)]
            found = next(iter(explaining), None)
            if found is not None and not matches(was, became):
                fired.append(explaining)
                once = _each_once(fired) is not None
                self.oracle.check(once, "twice", f"{was} → {became}, once more")
                continue
            revoked = became is None and self.revocable and self.view.new_id
            # Whether it was that deletion which has ended it, can't be known.
            anew = was is None and self.deleting
            self.oracle.check(
                matches(was, became) or revoked or anew,
                "unexplained",
                f"{was} became {became}; right: {[effect(was) for effect in effects]}",
            )
            if found is not None and len(effects) > 1:
                idle = {found}
        return _each_once(fired) or idle

    def _conclude(self, success: bool, *, asked: bool) -> None:
        """Draw the conclusions for the family."""
        state, family = self.gaps[-1], self.family
        current = family is not None and family.epoch == self.epoch and not family.ended
        if state is None:
            if self.view.new_id and self.revocable:
                # A login that was revoked in the end may have ended others before.
                self._others_may_go(self.view.owner)
            # What a stream does after a failed answer isn't followed; doing nothing ends nothing.
            followed = not self.vague or bool(self.request.tail)
            if family is not None and not followed and asked:
                family.must = False
            if family is not None and self._is_used_meanwhile(family):
                # That use, which began in time, may be written yet.
                family.unknown, family.must = True, False
            said = family is not None and current and followed and not family.unknown
            if said and family is not None and self.oracle.look(family) is None:
                self.oracle.end(family)
            return
        if self.own_id is None:
            return
        lost = self.revocable and self.faulty and self.view.new_id
        self.oracle.unlisted = self.oracle.unlisted or lost
        if family is None or not current:
            family = self._begin_family(self.own_id, state)
        elif self.own_id not in family.ids and self.vague:
            # Rotated, regenerated or another: whoever else follows it can't know, either.
            family.unknown = True
        elif self.own_id not in family.ids and self.world.peek_id(self.own_id) is not None:
            view = self.view
            if SessionID(self.own_id).key != SessionID(family.ids[-1]).key:
                # It was emptied, so it was deleted, and this is a fresh one.
                self.oracle.end(family)
                family = self._begin_family(self.own_id, state)
            elif view.new_id:
                self.oracle.replaced(family, self.own_id)
                self.epoch = family.epoch
            else:
                self.oracle.note_rotation(family, self.own_id)
        if self.view.new_id and self.view.owner is not None:
            self._others_may_go(self.view.owner)
        if self.view.login and not self.failing and not self.raised:
            if success:
                family.begun = min(self.signed_in)
            family.last_begun = max(family.last_begun, *self.signed_in)
        if self.limits is not None:
            family.limit(*self.limits)
        self.wrote = self.wrote or (success and not self.failing)
        if success and not matches(family.state, state):
            family.written_at = None if self.clocked else self.world.clock.now
        family.state = state
        family.used = max(family.used, self.world.clock.now)
        if lost:
            # It was revoked, and couldn't be ended.
            family.doomed, family.must = True, False

    def _is_used_meanwhile(self, family: Family) -> bool:
        """Whether it expired while another request was at work with it."""
        others = [visit for visit in self.oracle.stack if visit is not self]
        return self.clocked and any(visit.family is family for visit in others)

    def _begin_family(self, own_id: str, state: State) -> Family:
        new = Family([own_id], state, self.started, unknown=self.vague)
        new.used = new.last_begun = self.world.clock.now
        if self.family is not None:
            # In the place of another, it may have that one's limits.
            new.idle = (self.family.idle[0], IDLE)
            new.absolute = (self.family.absolute[0], ABSOLUTE)
        self.family, self.epoch = self.oracle.adopt(new), 0
        return new

    def _others_may_go(self, owner: str | None) -> None:
        if self.world.options.get("max_per_owner"):
            for family in self.oracle.families:
                if family.state.owner == owner and family is not self.family:
                    family.must = False
                    family.doomed = family.doomed or self.faulty

    @property
    def persistent(self) -> bool:
        """Whether the session's cookie has an end of its own."""
        return self.session is not None and self.session.persistent

    @property
    def failing(self) -> bool:
        """Whether the answer is one that keeps nothing."""
        keeps = self.world.options.get("save_on_error", False)
        return self.broken or (self.request.end in ("error", "stream_error") and not keeps)


def _each_once(explaining: list[list[int]], taken: frozenset[int] = frozenset()) -> set[int] | None:
    """An effect for each change, each at most once; None: there is no such choice.

    Args:
        explaining: the effects that each change may have come from; several may come to the same.
        taken: those that are spoken for.
    """
    if not explaining:
        return set(taken)
    choices = (_each_once(explaining[1:], taken | {n}) for n in explaining[0] if n not in taken)
    return next((choice for choice in choices if choice is not None), None)
