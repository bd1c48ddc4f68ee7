"""Runs a scenario: events one after the other, and in the middle of each other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from wsgi_sessions.testing import session_of

from .operations import EMPTIES, READS, Boom
from .oracle import EVERYTHING, Finding, Oracle, Wanted
from .outside import Outside
from .scenario import Event, Fail, Request, Scenario
from .stores import Stores
from .visit import Visit
from .world import NAME, Answer, World, environ, set_cookie

DEEPEST = 2
"""How many requests may run in the middle of each other."""


def run(scenario: Scenario, stores: Stores, wanted: Wanted = EVERYTHING) -> Finding | None:
    """Run it; what was found, if anything was."""
    runner = Runner(scenario, stores, wanted)
    try:
        for event in scenario.events:
            runner.happen(event)
            runner.oracle.check_all()
        runner.end()
    except Finding as finding:
        return finding
    return runner.oracle.finding


class Runner:
    """The events of one scenario."""

    def __init__(self, scenario: Scenario, stores: Stores, wanted: Wanted) -> None:
        self.scenario = scenario
        self.world = World(scenario, stores, self._app)
        self.oracle = Oracle(self.world, wanted)
        self.outside = Outside(self.world, self.oracle)
        self.world.hook = self._before_call
        self._broken_off: dict[int, Fail] = {}

    @property
    def visits(self) -> list[Visit]:
        return self.oracle.stack

    def happen(self, event: Event) -> None:
        """An event, perhaps in the middle of requests."""
        if len(self.visits) > DEEPEST:
            return
        if self.visits:
            self.oracle.calm = False
            self.oracle.stranded = True
        for visit in self.visits:
            visit.interrupted(event)
        interrupted = self.visits[-1:]
        for visit in interrupted:
            visit.look_around()
        if isinstance(event, Request):
            self._request(event)
        else:
            with self.world.silence():
                self.outside.happen(event)
        for visit in interrupted:
            visit.look_around()

    def end(self) -> None:
        """What must hold at the end."""
        if self.world.shared:
            self.oracle.growth()
            self.oracle.audit()
            with self.world.silence():
                self.world.registry.purge_expired()
            self.oracle.audit()
            self.oracle.check_all()

    # Requests

    def _request(self, request: Request) -> None:
        visit = Visit(self.oracle, request, self.world.jars[request.browser])
        self.visits.append(visit)
        self._broken_off.pop(id(visit), None)
        if len(self.visits) == 1:
            self.world.events.clear()
        visit.events_before = len(self.world.events)
        answer: Answer | None = None
        try:
            if request.via == "session_of":
                answer = self._session_of(visit)
            else:
                answer = self._serve(visit)
        finally:
            self.visits.pop()
        self._after(visit, answer)

    def _after(self, visit: Visit, answer: Answer | None) -> None:
        request, world, oracle = visit.request, self.world, self.oracle
        events = world.events[visit.events_before :]
        evicted = [event.handle for event in events if event.detail.startswith("evicted")]
        if evicted:
            # A request that ends sessions itself makes the count of the living say less.
            ends = visit.destroyed or "max_per_owner" in world.options or request.end != "list"
            ends = ends or visit.raced or any(op[0] in EMPTIES for op in visit.all_ops())
            oracle.evicted(len(evicted), None if ends else self.scenario.options["max_sessions"])
        oracle.calm = oracle.calm and not visit.faulty
        if answer is not None:
            if request.late:
                world.late[request.browser].append(answer)
            else:
                world.deliver(request.browser, answer)
                oracle.delivered(answer)
        self._note_use(visit)
        if not self.visits and not visit.disturbed and not visit.faulty:
            self._check_calls(visit)
        if not self.visits and oracle.calm:
            self._check_limit()

    def _note_use(self, visit: Visit) -> None:
        family = visit.family
        if family is None or family.ended or family.epoch != visit.epoch:
            return
        quiet = visit.request.via == "session_of"
        sure = visit.committed and not visit.faulty and not visit.vague and not quiet
        if visit.lost_write:
            family.must = False
        # Whether a session whose deadline was near was renewed, is seen the next time.
        sure = sure and not visit.disturbed
        family.use(self.world.clock.now, began=visit.started, sure=sure)

    def _check_calls(self, visit: Visit) -> None:
        if not visit.all_ops():
            self.oracle.check(visit.calls == 0, "calls", f"untouched, and {visit.calls} calls")
        elif all(op[0] in READS for op in visit.all_ops()) and visit.seen is not None:
            options = self.scenario.options
            due = any(name in options for name in ("rolling", "rotate_after", "touch_interval"))
            due = due or not self.world.shared or len(self.world.secrets) > 1
            family = visit.family
            fresh = family is not None and self.world.clock.now == family.written_at
            # Of one that an outage left unclear, what it holds is learned by reading it.
            fresh = fresh and family is not None and not family.unknown
            if fresh and not due and visit.request.via == "wsgi":
                # A persistent cookie may lag behind a session that was renewed by a late write.
                most = 2 if visit.persistent else 1
                right = 1 <= visit.calls <= most
                self.oracle.check(right, "calls", f"a read made {visit.calls} calls")

    def _check_limit(self) -> None:
        limit = self.scenario.options.get("max_per_owner")
        if limit is None or not self.world.shared or self.oracle.put_back:
            return  # with the clock put back, what had expired may live again
        if any(family.unknown for family in self.oracle.families):
            return  # a damaged one stays beside that which took its place
        for owner in self.oracle.owners():
            number = len(self.oracle.living(owner))
            self.oracle.check(number <= limit, "max_per_owner", f"{number} sessions of {owner}")

    def _before_call(self, operation: str) -> Fail | None:
        if not self.visits:
            return None
        visit = self.visits[-1]
        if self.oracle.finding is not None:
            return None
        number, visit.calls = visit.calls, visit.calls + 1
        planned = visit.request.at.get(number)
        lasting = self._broken_off.get(id(visit))
        if planned is None and lasting is not None:
            planned = lasting
        if isinstance(planned, Fail):
            if planned.lasting:
                self._broken_off[id(visit)] = planned
            # It says nothing, so what came in between may still have ended the session.
            visit.fault(planned, operation)
            self.oracle.calm = False
            return planned
        if planned is not None:
            self.happen(planned)
        visit.unsure = False
        return None

    def _do(self, visit: Visit, session: Any, ops: Iterable[Any]) -> None:
        for op in ops:
            if op[0] == "meanwhile":
                self.happen(op[1])
            else:
                visit.do(session, op)

    def _session_of(self, visit: Visit) -> Answer | None:
        jar = {} if visit.token is None else {NAME: visit.token}
        try:
            with session_of(self.world.middleware, jar) as session:
                with self._raising(visit):
                    self._do(visit, session, visit.request.ops)
                visit.begin_commit()
        except Exception as error:
            visit.broken_off(error)
            self.oracle.check(
                visit.may_escape(error), "escape", f"session_of: {type(error).__name__}: {error}"
            )
            return None
        visit.end_commit()
        token = jar.get(NAME)
        changed = token != visit.token
        visit.answered(None if not changed else token or "")
        return Answer(token, self.world.moment(), visit.faulty) if changed else None

    def _app(self, made: Any, start_response: Any) -> Iterable[bytes]:
        visit = self.visits[-1]
        request, session = visit.request, made["wsgi_sessions.session"]
        with self._raising(visit):
            self._do(visit, session, request.ops)
            if request.end == "raise":
                raise Boom
        status = "500 Oh" if request.end in ("error", "stream_error") else "200 OK"
        start_response(status, [("Content-Type", "text/plain")])
        if request.end.startswith("stream"):
            return self._stream(visit, session)
        visit.begin_commit()
        return [b"body"]

    @contextmanager
    def _raising(self, visit: Visit) -> Iterator[None]:
        """What the app raises here begins the commit that keeps nothing."""
        try:
            yield
        except Exception:
            visit.raised = True
            visit.begin_commit()
            raise

    def _stream(self, visit: Visit, session: Any) -> Iterator[bytes]:
        visit.begin_commit()
        yield b"first"
        visit.tail = True
        with self._raising(visit):
            self._do(visit, session, visit.request.tail)
            if visit.request.end == "stream_raise":
                raise Boom
        yield b"last"
        visit.begin_commit()

    def _serve(self, visit: Visit) -> Answer | None:
        """As a server does."""
        answers: list[Answer] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[..., Any]:
            visit.headers(status)
            token = set_cookie(headers)
            visit.answered(token)
            if token is not None:
                answers.append(Answer(token or None, self.world.moment(), visit.faulty))
            return lambda data: None

        try:
            body = self.world.middleware(environ(visit.token), start_response)
            try:
                for _ in body:
                    pass
            finally:
                closing = getattr(body, "close", None)
                if closing is not None and not isinstance(sys.exc_info()[1], Finding):
                    closing()
        except Exception as error:
            visit.broken_off(error)
            self.oracle.check(
                visit.may_escape(error), "escape", f"{type(error).__name__}: {error} came out"
            )
        else:
            visit.complete()
        return answers[-1] if answers else None
