"""An app's whole life on one database: threads of several processes that visit, sign in, read, change
and sign out, while purges are under way; and a count of every promise that was broken.

`python -m stores.sql.mixed_load …` is one process; `run` starts several, waits for them and adds up
what they counted. What the processes know of each other's sessions is in files beside:

- A *place* has one signed-in session at a time, which all processes use. Its file holds the cookie.
- Whoever signs it out holds the place's lock, writes the cookie into ``ending``, signs out, appends
  the cookie to ``ended``, and signs in anew.

So an answer to a cookie can be judged: one that is in ``ended`` must never be signed in again, and
one that is still in its place's file, and not in ``ending``, must be.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import functools
import json
import logging
import math
import operator
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import servers
from stores.sql.material import engine_at, outside
from wsgi import SECRET, call, environ
from wsgi_sessions import Cookie, Lifetime, Session, SessionEnded, SessionMiddleware
from wsgi_sessions.stores import SQLStore
from wsgi_sessions.stores.sql import urls

THREADS = 4
PLACES = 8
IDLE = 1.0
"""Seconds after which a visitor is gone."""
PAUSE = 0.25
"""Seconds between two purges of a process."""
SAMPLES = 12
"""How often the table is measured."""
OWNERS = ("ann", "bob", "cy")
VISITORS = 5
"""Owners of visitors' sessions."""
EFFECTS = ("errors", "lost sessions", "lost updates", "resurrected")
Work = Callable[[Session], Any]


class Site:
    """An app whose view is given with the request."""

    def __init__(self, store: SQLStore, name: str, lifetime: Lifetime) -> None:
        self._name = name
        self.middleware = SessionMiddleware(
            self._app, secret_key=SECRET, store=store, cookie=Cookie(name), lifetime=lifetime
        )
        self.registry = self.middleware.registry

    @staticmethod
    def _app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        body = json.dumps(made["test.work"](made["wsgi_sessions.session"])).encode()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    def ask(self, cookie: str | None, work: Work) -> tuple[Any, str | None]:
        """What the view returned, and the cookie that the client has now.

        Raises:
            StoreError: it reached the app, or a client.
        """
        sent = None if cookie is None else f"{self._name}={cookie}"
        asked: dict[str, Any] = {"test.work": work}
        response = call(self.middleware, environ(cookie=sent, **asked), check=False)
        if response.code != 200:
            raise AssertionError(f"{response.status}: {response.text}")
        if response.set_cookie is not None:
            pair, _, attributes = response.set_cookie.partition(";")
            cookie = None if "Max-Age=0" in attributes else pair.partition("=")[2]
        return json.loads(response.body), cookie


class Places:
    """The places of all processes, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._at: dict[str, int] = {}

    @contextlib.contextmanager
    def lock(self, place: int) -> Iterator[bool]:
        """Whether nobody else signs out here meanwhile."""
        with (self._directory / f"lock-{place}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def read(self, what: str, place: int) -> str | None:
        try:
            return (self._directory / f"{what}-{place}").read_text() or None
        except FileNotFoundError:
            return None

    def write(self, what: str, place: int, cookie: str | None) -> None:
        partly = self._directory / f"partly-{place}"
        partly.write_text(cookie or "")
        partly.replace(self._directory / f"{what}-{place}")

    def note_end(self, cookie: str) -> None:
        with (self._directory / "ended").open("a") as file:
            file.write(f"{cookie}\n")

    def ended(self, chance: random.Random) -> str | None:
        """One that was signed out, and likely a short while ago."""
        try:
            with (self._directory / "ended").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - chance.choice([500, 5_000, size])))
                lines = file.read(20_000).decode().split("\n")[1:-1]
        except FileNotFoundError:
            return None
        return chance.choice(lines) if lines else None


@dataclass(eq=False, slots=True)
class Visitor:
    """Someone who is gone a second after the last use."""

    cookie: str
    owner: str | None
    earliest: float
    latest: float
    """When it was used last: not before the first, not after the second."""


class Worker:
    """One thread: does now this, now that, and counts."""

    def __init__(self, store: SQLStore, places: Places, name: str, seed: int) -> None:
        self.users = Site(store, "user", Lifetime(idle=86_400))
        self.visitors = Site(store, "visitor", Lifetime(idle=IDLE))
        self.places = places
        self.name = name
        self.chance = random.Random(seed)
        self.done: collections.Counter[str] = collections.Counter()
        self.said: collections.Counter[str] = collections.Counter()
        self.examples: list[str] = []
        self.mine: dict[str, int] = {}
        """By cookie, what my own field in it must be."""
        self.hits: dict[str, int] = {}
        """By cookie, how often I counted there."""
        self.seen: collections.deque[Visitor] = collections.deque(maxlen=200)

    def live(self, until: float) -> None:
        acts: dict[Callable[[], None], int] = {
            self.read: 8,
            self.change: 8,
            self.count: 2,
            self.sign_out: 1,
            self.sign_out_elsewhere: 1,
            self.come_back: 3,
            self.visit: 4,
            self.visit_again: 6,
            self.list_sessions: 1,
        }
        # Somebody to purge there must be, also where a busy machine left no time for anything.
        while time.monotonic() < until or not self.done["visit"]:
            (act,) = self.chance.choices(list(acts), list(acts.values()))
            self.done[act.__name__] += 1
            try:
                act()
            except Exception:
                self.wrong("errors", traceback.format_exc())

    def wrong(self, effect: str, example: str) -> None:
        self.said[effect] += 1
        if self.said[effect] <= 5:
            self.examples.append(f"{effect}: {example}")

    # Signed in, at a place

    def _somewhere(self) -> tuple[int, str | None]:
        place = self.chance.randrange(PLACES)
        return place, self.places.read("cookie", place)

    def _must_be_live(self, place: int, cookie: str) -> bool:
        # In this order: what is ending stays noted until the place has another cookie.
        ending = self.places.read("ending", place)
        return ending != cookie == self.places.read("cookie", place)

    def _was_signed_out(self, place: int, cookie: str) -> None:
        self.mine.pop(cookie, None)
        self.hits.pop(cookie, None)
        if self._must_be_live(place, cookie):
            self.wrong("lost sessions", f"place {place}")

    def _judge(self, place: int, cookie: str, found: int | None) -> None:
        if found is None:
            self._was_signed_out(place, cookie)
        elif found != self.mine.get(cookie, 0):
            self.wrong("lost updates", f"{self.mine.get(cookie, 0)} written, {found} read")

    def read(self) -> None:
        place, cookie = self._somewhere()
        if cookie is None:
            return

        def work(session: Session) -> int | None:
            return None if session.owner is None else session.get(self.name, 0)

        found, _ = self.users.ask(cookie, work)
        self._judge(place, cookie, found)

    def change(self) -> None:
        """A field of my own: what others write at the same time must not undo it."""
        place, cookie = self._somewhere()
        if cookie is None:
            return

        def work(session: Session) -> int | None:
            if session.owner is None:
                return None
            before: int = session.get(self.name, 0)
            session[self.name] = before + 1
            return before

        found, kept = self.users.ask(cookie, work)
        self._judge(place, cookie, found)
        if found is not None and kept == cookie:
            self.mine[cookie] = found + 1

    def count(self) -> None:
        """A counter of all: a transaction."""
        place, cookie = self._somewhere()
        if cookie is None:
            return

        def work(session: Session) -> bool:
            if session.owner is None:
                return False
            try:
                session.increment("hits")
            except SessionEnded:
                return False
            return True

        found, _ = self.users.ask(cookie, work)
        if found:
            self.hits[cookie] = self.hits.get(cookie, 0) + 1
        else:
            self._was_signed_out(place, cookie)

    def sign_out(self) -> None:
        place = self.chance.randrange(PLACES)
        with self.places.lock(place) as alone:
            if not alone:
                return
            cookie = self.places.read("cookie", place)
            if cookie is not None:
                self.places.write("ending", place, cookie)
                self.users.ask(cookie, lambda session: session.destroy())
                self.places.note_end(cookie)
            self._sign_in(place)

    def sign_out_elsewhere(self) -> None:
        """All places of one user but one."""
        owner = self.chance.randrange(len(OWNERS))
        theirs = range(owner, PLACES, len(OWNERS))
        with contextlib.ExitStack() as locks:
            if not all(locks.enter_context(self.places.lock(place)) for place in theirs):
                return
            mine = self.places.read("cookie", theirs[0])
            if mine is None:
                return
            others = {place: self.places.read("cookie", place) for place in theirs[1:]}
            for place, cookie in others.items():
                self.places.write("ending", place, cookie)

            def work(session: Session) -> None:
                if session.owner is None:
                    self.wrong("lost sessions", "while signing out elsewhere")
                else:
                    self.users.registry.revoke_all(session.owner, except_=session)

            self.users.ask(mine, work)
            for place, cookie in others.items():
                if cookie is not None:
                    self.places.note_end(cookie)
                self._sign_in(place)

    def _sign_in(self, place: int) -> None:
        owner = OWNERS[place % len(OWNERS)]
        _, cookie = self.users.ask(None, lambda session: session.login(owner))
        self.places.write("cookie", place, cookie)

    def come_back(self) -> None:
        """With a cookie that was signed out."""
        cookie = self.places.ended(self.chance)
        if cookie is None:
            return
        found, _ = self.users.ask(cookie, lambda session: session.owner or len(session))
        if found:
            self.wrong("resurrected", repr(found))

    def list_sessions(self) -> None:
        if self.chance.random() < 0.1:
            self.visitors.registry.revoke_all(f"visitor-{self.chance.randrange(VISITORS)}")
        else:
            self.users.registry.sessions(self.chance.choice(OWNERS))

    # Visitors, who are gone after a second

    def visit(self) -> None:
        before = time.time()
        # A visitor who signs in may be signed out by another thread.
        owner = f"visitor-{self.chance.randrange(VISITORS)}" if self.chance.random() < 0.2 else None

        def work(session: Session) -> None:
            if owner is not None:
                session.login(owner)
            session["name"] = self.name
            session["padding"] = "x" * self.chance.randrange(500)

        _, cookie = self.visitors.ask(None, work)
        if cookie is not None:
            self.seen.append(Visitor(cookie, owner, before, time.time()))
        elif owner is None:
            self.wrong("lost sessions", "a visitor at the first visit")

    def visit_again(self) -> None:
        if not self.seen:
            return
        visitor = self.chance.choice(self.seen)
        before = time.time()
        name, _ = self.visitors.ask(visitor.cookie, lambda session: session.get("name"))
        after = time.time()
        if name is None:
            if after < visitor.earliest + IDLE and visitor.owner is None:
                self.wrong("lost sessions", f"a visitor after {after - visitor.earliest} s")
            self.seen.remove(visitor)
            return
        if before > visitor.latest + IDLE:
            self.wrong("resurrected", f"a visitor after {before - visitor.latest} s")
        if after > visitor.earliest + IDLE:
            # It may have expired, and have been purged, before its deadline was moved.
            visitor.earliest = -math.inf
        elif before > visitor.latest + IDLE / 10:
            # Its deadline was moved, as that hadn't been done a tenth of it ago.
            visitor.earliest = before
        visitor.latest = after


class Complaints(logging.Handler):
    """What the library could only log: a touch or a tidying that failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def work(argv: list[str]) -> None:
    """One process: writes down what it counted, as JSON."""
    url, table, directory, number, seconds, level = argv
    # What a database says to the load is what counts, not how long a busy machine takes to say it.
    urls.CONNECT_SECONDS = urls.ANSWER_SECONDS = 60  # type: ignore[misc, attr-defined] # in this process alone
    complaints = Complaints()
    logging.getLogger("wsgi_sessions").addHandler(complaints)
    store = SQLStore.from_url(url, table=table)
    if level:
        store.close()
        store = SQLStore(engine_at(store.engine.url, level), table=table)
    until = time.monotonic() + float(seconds)
    workers = [
        Worker(store, Places(Path(directory)), f"{number}-{thread}", 100 * int(number) + thread)
        for thread in range(THREADS)
    ]
    threads = [threading.Thread(target=each.live, args=(until,)) for each in workers]
    for thread in threads:
        thread.start()
    purges, purged = _purge(store, workers[0], threads)
    store.close()
    counted: dict[str, Any] = {
        "done": sum((each.done for each in workers), collections.Counter(purge=purges)),
        "purged": purged,
        "examples": [text for each in workers for text in each.examples] + complaints.heard[:5],
        "mine": {each.name: each.mine for each in workers},
        "hits": [each.hits for each in workers],
    }
    counted |= {effect: sum(each.said[effect] for each in workers) for effect in EFFECTS}
    counted["errors"] += len(complaints.heard)
    _said(directory, number).write_text(json.dumps(counted))


def _said(directory: str | Path, number: object) -> Path:
    return Path(directory) / f"said-{number}"


def _purge(store: SQLStore, worker: Worker, threads: list[threading.Thread]) -> tuple[int, int]:
    purges = purged = 0
    while any(thread.is_alive() for thread in threads):
        threads[purges % THREADS].join(PAUSE)
        try:
            # One in ten heals the owners' lists, too.
            heal = worker.users.registry.purge_expired
            purged += store.purge_expired(time.time()) if purges % 10 else heal()
        except Exception:
            worker.wrong("errors", traceback.format_exc())
        purges += 1
    return purges, purged


def run(store: SQLStore, directory: Path, seconds: float, levels: list[str]) -> dict[str, Any]:
    """All processes, on the table of this store; what they counted, added up.

    Args:
        store: whose table it is; looks at it meanwhile.
        directory: where the processes keep what they know of each other.
        seconds: how long.
        levels: of isolation, one for each process; "" is the database's default.
    """
    url = store.engine.url.render_as_string(hide_password=False)
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", __name__, url, store.table.name, str(directory)]
    processes = [
        subprocess.Popen([*command, str(number), str(seconds), level], env=settings)
        for number, level in enumerate(levels)
    ]
    sizes = []
    for process in processes:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(seconds / SAMPLES, 0.1))
            sizes.append(measured(store))
    if failed := [process.returncode for process in processes if process.returncode]:
        raise AssertionError(f"exit status {failed}")
    said = [json.loads(_said(directory, number).read_text()) for number in range(len(levels))]
    done = sum((collections.Counter(each["done"]) for each in said), collections.Counter())
    counted: dict[str, Any] = {"operations": done.total(), "done": dict(done), "rows, bytes": sizes}
    for what in ("purged", *EFFECTS, "examples"):
        counted[what] = functools.reduce(operator.add, (each[what] for each in said))
    if not counted["purged"]:  # nor may there have been time for anybody to expire
        counted["purged"] = servers.until(lambda: store.purge_expired(time.time()), what="purge")
    counted["lost updates"] += lost_in_the_end(store, Places(directory), said)
    return counted


def lost_in_the_end(store: SQLStore, places: Places, said: list[dict[str, Any]]) -> int:
    """How many updates the last sessions of the places lack."""
    site = Site(store, "user", Lifetime(idle=86_400))
    lost = 0
    for place in range(PLACES):
        cookie = places.read("cookie", place)
        if cookie is None:
            continue  # on a busy machine, nobody may have come there in time
        found, _ = site.ask(cookie, dict)
        expected = {
            name: mine[cookie]
            for each in said
            for name, mine in each["mine"].items()
            if cookie in mine
        }
        if hits := sum(each.get(cookie, 0) for one in said for each in one["hits"]):
            expected["hits"] = hits
        lost += found != expected
    return lost


def measured(store: SQLStore) -> tuple[int, int]:
    """Rows, and bytes with all that belongs to them."""
    name = store.table.name
    size = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        "postgresql": f"SELECT pg_total_relation_size('{name}')",
        "mariadb": "SELECT file_size FROM information_schema.innodb_sys_tablespaces"
        f" WHERE name = CONCAT(DATABASE(), '/{name}')",
    }[store.engine.dialect.name]
    with outside(store) as connection:
        rows = connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar()
        return int(rows or 0), int(connection.exec_driver_sql(size).scalar() or 0)


if __name__ == "__main__":
    work(sys.argv[1:])
