"""Two and three requests of one session at once, in every order that their store calls can take,
on every store.

What must hold in every one: updates of different fields are never lost, dead stays dead, counters
are exact, a one-time value is had once, and no response hands out a session that it found dead
(CVE-2025-46336, CVE-2025-32441, Django #21608, express-session #632 and #923).
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import servers
from effort import LEVEL, tries
from interleaving import Beginning, Run, Step, TurnStore, every_order
from wsgi import SECRET, TickingClock, environ
from wsgi_sessions import Lifetime, Session, SessionEnded, SessionEvent, SessionMiddleware
from wsgi_sessions.crypto.session_id import SessionID
from wsgi_sessions.data.notes import load_notes
from wsgi_sessions.record import Changes, Record, UpdateResult, list_key
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, Store

pytestmark = pytest.mark.untraced
DAY = 24 * 60 * 60
ORDERS_OF_TWO = 1000
"""More than any two requests have, so that all are tried."""
ORDERS_OF_THREE = tries(test=3, check=20, everything=10_000)
"""Three requests have up to some thousands: these many are drawn by chance; 10,000 are all."""
OUTSIDE_MEMORY = tries(test=1, check=1, everything=250)
"""The same where each call takes longer."""
ORDERS_OF_LOGINS = tries(test=50, check=250, everything=100_000)
"""Of two that end sessions to make room, which takes more calls: 1,000 aren't all."""
OWNER = "bob"
BEFORE = {"a": 1, "gone": 1, "ticket": "t", "n": 0}

CHANGES: dict[str, Callable[[Session, int], Any]] = {
    "write": lambda s, me: s.update({f"w{me}": me}),
    "delete": lambda s, me: s.pop("gone", None),
    "increment": lambda s, me: s.increment("n"),
    "take": lambda s, me: s.take("ticket"),
    "touch": lambda s, me: s.touch(),
    "rotate": lambda s, me: s.get("a"),
    "regenerate": lambda s, me: s.regenerate(),
    "login": lambda s, me: s.login(OWNER),
    "destroy": lambda s, me: s.destroy(),
    "begin": lambda s, me: s.update(BEFORE),
    "first_login": lambda s, me: s.login(OWNER),
}
ANEW = ("begin", "first_login")
"""What a second browser of the user's does, at the same time."""
REVOKERS = ("revoke", "revoke_all", "expire", "evict")
"""``evict``: the store loses the record, and its entry in the owner's list is left over."""
LOOKERS = ("list", "purge")
"""What mends the owner's list, and what removes the expired, by the way."""
ACTIONS = (*CHANGES, *REVOKERS, *LOOKERS)
ENDERS = frozenset({"destroy", *REVOKERS})
NO_GRACE = frozenset({"regenerate", "login"})


def _begin(session: Session) -> None:
    session.login(OWNER)
    session.update(BEFORE)


class Stage:
    """One signed-in session, and what may happen to it all at once.

    Args:
        make_store: gives an empty store, again and again.
        max_per_owner: how many sessions a user may have.
    """

    def __init__(
        self,
        make_store: Callable[[], Store] = MemoryStore,
        *,
        max_per_owner: int | None = None,
    ) -> None:
        self.make_store = make_store
        self.max_per_owner = max_per_owner
        self.store = TurnStore(make_store())
        self.clock = TickingClock(1_800_000_000.0)
        self.events: list[tuple[int | None, SessionEvent]] = []
        self.work: dict[int | None, Callable[[Session], Any]] = {}
        self.app = self._middleware(rotate_after=1000 * DAY)
        self.rotating = self._middleware(rotate_after=100)

    def _middleware(self, *, rotate_after: float) -> SessionMiddleware:
        return SessionMiddleware(
            self._app,
            secret_key=SECRET,
            store=self.store,
            clock=self.clock,
            lifetime=Lifetime(idle=DAY, absolute=30 * DAY),
            rotate_after=rotate_after,
            max_per_owner=self.max_per_owner,
            on_event=lambda event: self.events.append((self.store.worker, event)),
        )

    def _app(self, made: dict[str, Any], start_response: Any) -> list[bytes]:
        result = self.work[self.store.worker](made["wsgi_sessions.session"])
        start_response("200 OK", [])
        return [repr(result).encode()]

    def request(
        self, app: SessionMiddleware, work: Callable[[Session], Any], *, anew: bool = False
    ) -> dict[str, Any]:
        """One request with the cookie of the beginning, or (``anew``) of a browser without."""
        self.work[self.store.worker] = work
        headers: list[tuple[str, str]] = []
        statuses: list[str] = []

        def start_response(status: str, given: list[tuple[str, str]], exc_info: Any = None) -> Any:
            statuses.append(status)
            headers.extend(given)
            return lambda data: None

        body = b"".join(app(environ(cookie=None if anew else self.cookie), start_response))
        cookies = [value for name, value in headers if name == "Set-Cookie"]
        return {"status": statuses[-1], "body": body.decode(), "cookies": cookies}

    def reset(self) -> None:
        self.store.store = self.make_store()
        self.clock.now = 1_800_000_000.0
        self.cookie: str | None = None
        done = self.request(self.app, _begin)
        self.cookie = done["cookies"][0].partition(";")[0]
        self.id = SessionID(self.cookie.partition("=")[2].partition(".")[0])
        self.handle = self.id.key
        self.clock.advance(100)
        self.events.clear()

    def play(self, actions: tuple[str, ...], beginning: Beginning) -> Run:
        self.reset()
        works = [partial(self.act, action, me) for me, action in enumerate(actions)]
        return self.store.play(works, beginning)

    def act(self, action: str, me: int) -> Any:
        if action == "revoke":
            return self.app.registry.revoke(self.handle)
        if action == "revoke_all":
            return self.app.registry.revoke_all(OWNER)
        if action == "evict":
            return self.store.delete(self.handle)
        if action == "list":
            return [info.handle for info in self.app.registry.sessions(OWNER)]
        if action == "purge":
            return self.app.registry.purge_expired()
        if action == "expire":
            self.store.turn("expire")
            return self.clock.advance(2 * DAY)
        app = self.rotating if action == "rotate" else self.app

        def work(session: Session) -> Any:
            try:
                return CHANGES[action](session, me)
            except SessionEnded:
                return "ended"

        return self.request(app, work, anew=action in ANEW)

    def left(self, apart_from: Collection[str | None] = ()) -> list[dict[str, Any]]:
        """The data of all sessions that still live."""
        codec = self.app._settings.codec
        found = []
        for handle in set(self.app.registry) - set(apart_from):
            record = self.store.load(handle)
            assert record is not None
            found.append({name: codec.decode(raw) for name, raw in record.fields.items()})
        return found

    def kinds(self, worker: int) -> list[str]:
        return [event.kind for by, event in self.events if by == worker]


def set_id(result: dict[str, Any]) -> SessionID | None:
    """The ID that a response hands out."""
    for cookie in result["cookies"]:
        token = cookie.partition("=")[2].partition(";")[0]
        if token:
            return SessionID(token.partition(".")[0])
    return None


def set_key(result: dict[str, Any]) -> str | None:
    """The store key of the session that a response hands out."""
    handed_out = set_id(result)
    return None if handed_out is None else handed_out.key


class Checker:
    """What must hold after any run of these actions, in any order."""

    def __init__(self, stage: Stage, actions: tuple[str, ...], run: Run) -> None:
        self.stage = stage
        self.actions = actions
        self.run = run
        # Whoever came when the session was dead already began another, as anybody may.
        self.late = {
            me
            for me in range(len(actions))
            if {"unknown_id", "expired", "retired_id_used"} & set(stage.kinds(me))
            or actions[me] in ANEW
        }
        fresh = {set_key(run.results[me]) for me in self.late}
        self.left = stage.left(apart_from=fresh)
        self.ended = [me for me, action in enumerate(actions) if self._ended(me, action)]

    def _ended(self, me: int, action: str) -> bool:
        """Whether this one ended the session, in truth."""
        if action in ("revoke", "evict"):
            return self.run.results[me] is True
        if action == "destroy":
            return "destroyed" in self.stage.kinds(me)
        return action in ENDERS

    def of(self, *actions: str) -> list[int]:
        return [me for me, action in enumerate(self.actions) if action in actions]

    def check(self) -> None:
        self.nothing_failed()
        self.no_dead_session_is_handed_out()
        self.dead_stays_dead()
        self.one_line_of_sessions()
        self.every_session_is_somebodys()
        self.counters_are_exact()
        self.one_time_values_are_had_once()
        if not self.ended:
            self.nothing_is_lost()
        self.the_list_is_complete()

    def nothing_failed(self) -> None:
        for result in self.run.results.values():
            assert not isinstance(result, BaseException), repr(result)
            if isinstance(result, dict):
                assert result["status"] == "200 OK"
                assert len(result["cookies"]) <= 1

    def no_dead_session_is_handed_out(self) -> None:
        for me, result in self.run.results.items():
            key = set_key(result) if isinstance(result, dict) else None
            if key is None:
                continue
            seen = [
                step.result
                for step in self.run.steps
                if step.worker == me
                and step.operation in ("load", "insert", "update", "delete")
                and step.key == key
            ]
            assert seen, "a session that this request never met"
            assert isinstance(seen[-1], Record) or seen[-1] in (True, UpdateResult.UPDATED)
            deleted = [step for step in self._all(me, "delete") if step.key == key]
            assert not deleted, "a session that this request has ended itself"

    def dead_stays_dead(self) -> None:
        # A login always ends in a live session; but not one that revoke_all came after.
        if self.ended and not self.of("login"):
            assert self.left == []
        live = set(self.stage.app.registry)
        for me in self.of("revoke_all"):
            looked = self.run.steps.index(self._all(me, "load")[0])
            for login in self.of("login", "first_login"):
                if all(entered < looked for entered in self._entered(login)):
                    assert set_key(self.run.results[login]) not in live

    def _entered(self, me: int) -> list[int]:
        """When this one's session was entered in the owner's list, as numbers of steps."""
        at = list_key(OWNER)
        return [
            number
            for number, step in enumerate(self.run.steps)
            if step.worker == me
            and step.key == at
            and (
                (step.operation == "insert" and step.result)
                or (step.operation == "update" and step.args[1].set)
            )
        ]

    def _all(self, me: int, operation: str) -> list[Step]:
        return [s for s in self.run.steps if s.worker == me and s.operation == operation]

    def one_line_of_sessions(self) -> None:
        # Only a login that found its session gone may begin another.
        assert len(self.left) <= 1 + len(self.of("login"))
        if len(self.of("login")) == 1 and not self.of("regenerate"):
            assert len(self.left) <= 1
        if not self.ended:
            assert len(self.left) >= 1

    def every_session_is_somebodys(self) -> None:
        answers = [result for result in self.run.results.values() if isinstance(result, dict)]
        held = [self.stage.id, *filter(None, map(set_id, answers))]
        for handle in self.stage.app.registry:
            record = self.stage.store.load(handle)
            assert record is not None
            present = load_notes(record.notes).id_hash
            assert any(one.matches(present) for one in held), "a session that nobody holds"

    def counters_are_exact(self) -> None:
        counted = [
            int(self.run.results[me]["body"])
            for me in self.of("increment")
            if me not in self.late and self.run.results[me]["body"] != "'ended'"
        ]
        assert sorted(counted) == list(range(1, len(counted) + 1))
        if not self.ended:
            assert any(session.get("n") == len(counted) for session in self.left)

    def one_time_values_are_had_once(self) -> None:
        had = [self.run.results[me]["body"] for me in self.of("take")]
        assert had.count("'t'") <= 1
        if had.count("'t'"):
            assert all("ticket" not in session for session in self.left)

    def nothing_is_lost(self) -> None:
        for me in self.of("write", "delete", "take", "increment"):
            if me in self.late or "write_after_end" in self.stage.kinds(me):
                assert self.of(*NO_GRACE), "its ID died without grace, or should not have died"
            elif self.actions[me] == "write":
                assert any(session.get(f"w{me}") == me for session in self.left)
            elif self.actions[me] == "delete":
                assert all("gone" not in session for session in self.left)
        assert any(session.get("a") == 1 for session in self.left)

    def the_list_is_complete(self) -> None:
        registry = self.stage.app.registry
        owned = {info.handle for info in registry.sessions(OWNER)}
        live = {h for h in registry if (info := registry.get(h)) and info.owner == OWNER}
        assert owned == live


def explore(stage: Stage, actions: tuple[str, ...], limit: int) -> int:
    count = 0
    for run in every_order(partial(stage.play, actions), limit=limit):
        count += 1
        try:
            Checker(stage, actions, run).check()
        except AssertionError as error:
            told = "\n".join(
                f"  {actions[step.worker]} {step.operation}"
                f"({', '.join(str(arg)[:8] for arg in step.args[:2])}) -> {str(step.result)[:40]}"
                for step in run.steps
            )
            raise AssertionError(f"{error}\n{told}\n{run.results}\nleft: {stage.left()}") from error
    return count


@pytest.fixture(scope="module")
def memory() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(partial(empty_directory, tmp_path_factory.mktemp("stage") / "sessions"))


@pytest.fixture(scope="module")
def redis(redis_binary: str) -> Iterator[Stage]:
    with servers.running(redis_binary) as server:  # of its own, to be emptied again and again
        yield Stage(partial(empty_server, RedisStore.from_url(server.url)))


def empty_directory(path: Path) -> FileStore:
    shutil.rmtree(path, ignore_errors=True)
    return FileStore(path)


def empty_server(store: RedisStore) -> RedisStore:
    store.client.flushdb()
    return store


PAIRS = [
    pair
    for pair in itertools.combinations_with_replacement(ACTIONS, 2)
    if "begin" not in pair or pair == ("begin", "revoke_all")
]


def triples() -> Iterable[tuple[str, ...]]:
    writers = ("write", "increment", "take")
    movers = ("rotate", "regenerate", "login")
    for mover, ender, writer in itertools.product(movers, sorted(ENDERS), writers):
        yield (writer, mover, ender)
    yield from itertools.product(("write",), ("rotate",), ("rotate", "write", "increment"))
    yield ("increment", "increment", "increment")
    yield ("take", "take", "take")
    yield ("login", "login", "revoke_all")
    yield ("regenerate", "rotate", "revoke_all")
    yield from itertools.product(("expire", "evict"), ("list", "purge"), movers)
    yield from itertools.product(("list",), ("first_login", "login", "rotate"), ("revoke_all",))


BINARIES: list[str | None] = [*sorted(servers.binaries())] or [None]
EACH = pytest.mark.parametrize("actions", [*PAIRS, *triples()], ids="+".join)
MANY = [*PAIRS, *(triples() if LEVEL == "everything" else ())]
EACH_OUTSIDE_MEMORY = pytest.mark.parametrize("actions", MANY, ids="+".join)
"""Of three requests only in `make everything`: there each call takes longer."""


class TestEveryOrder:
    """Of two and of three requests."""

    @EACH
    def test_in_memory(self, memory: Stage, actions: tuple[str, ...]) -> None:
        explore_some(memory, actions, ORDERS_OF_THREE)

    @EACH_OUTSIDE_MEMORY
    @pytest.mark.slow
    def test_in_files(self, files: Stage, actions: tuple[str, ...]) -> None:
        explore_some(files, actions, OUTSIDE_MEMORY)

    @EACH_OUTSIDE_MEMORY
    @pytest.mark.slow
    @pytest.mark.parametrize("redis_binary", BINARIES[-1:], indirect=True)
    def test_in_redis(self, redis: Stage, actions: tuple[str, ...]) -> None:
        explore_some(redis, actions, OUTSIDE_MEMORY)


def explore_some(stage: Stage, actions: tuple[str, ...], of_three: int) -> None:
    limit = ORDERS_OF_TWO if len(actions) == 2 else of_three
    tried = explore(stage, actions, limit)

    assert tried >= 1
    assert tried < limit or len(actions) > 2, "two requests are to be tried in every order"


@pytest.mark.parametrize("limit", [1, 2])
def test_logins_at_once_leave_as_many_sessions_as_there_may_be(limit: int) -> None:
    stage = Stage(max_per_owner=limit)

    for run in every_order(partial(stage.play, ("first_login",) * 2), limit=ORDERS_OF_LOGINS):
        Checker(stage, ("first_login",) * 2, run).nothing_failed()
        assert len(list(stage.app.registry)) == limit, run.steps
        assert len(list(stage.app.registry.sessions(OWNER))) == limit, run.steps


class Upserting(MemoryStore):
    """Writes whether or not the session is still there."""

    def insert(self, key: str, record: Record) -> bool:
        self.last = record
        return super().insert(key, record)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        if self.load(key) is None:
            self.insert(key, replace(self.last, fields=changes.set))
        return super().update(key, changes, if_epoch=if_epoch, if_version=if_version)


def test_the_scheduler_finds_what_a_careless_store_loses() -> None:
    with pytest.raises(AssertionError, match="destroy"):
        explore(Stage(Upserting), ("write", "destroy"), limit=400)
