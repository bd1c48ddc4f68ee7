"""What sessions cost under a real server: requests a second, and the slowest of many.

gunicorn serves with one worker, kept to one core; the clients are in this process, on another core.
How many requests a core serves in a second follows from the CPU time that the worker says it used,
so that neighbours on a shared machine make no difference to it. How long a client waits is wall
time, and can't be had otherwise: the lines without sessions show what of it is the server's and
the machine's.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ports import free_port

from . import contenders as c
from .cost import place
from .load_app import BARE, DATA, MAKERS
from .load_client import Browser, Clients, Seen
from .server import Server

ACTIONS = ("untouched", "read", "change")
"""From the cheapest to the dearest: an order that the figures must show, or they mean nothing."""
CONNECTIONS = 8
"""Enough that the worker never waits for the next request."""
HOT = (1, 10, 100)
TESTS = Path(__file__).parents[1]
_UP = 60.0
"""Seconds that a server may take to come up."""


@dataclass(frozen=True, slots=True)
class Served:
    """One app behind a server of its own."""

    framework: str
    name: str
    storage: str
    clients: Clients
    browser: Browser
    """One with a session, where there are sessions."""

    def cpu(self) -> float:
        """Seconds of CPU that the worker has used."""
        return float(self.clients.ask(Browser(), "cpu").body)


@contextlib.contextmanager
def served(
    framework: str, name: str, storage: str, where: c.Place, *, threads: int
) -> Iterator[Served]:
    """A server that is up, has answered each kind of request, and was seen to do the work."""
    port = free_port()
    app = f"benchmarks.load_app:application{(framework, name, storage, str(where.directory), where.redis_url or '')!r}"
    command = [
        *(sys.executable, "-m", "gunicorn", "--workers", "1", "--worker-class", "gthread"),
        *("--threads", str(threads), "--keep-alive", "600", "--bind", f"127.0.0.1:{port}"),
        *("--log-level", "error", app),
    ]
    paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(command, env=environment)
    clients: Clients | None = None
    try:
        clients = Clients(_once_up(port, process), CONNECTIONS)
        browser = Browser()
        clients.ask(browser, "new")
        _check(clients, browser, f"{name} on {framework}, {storage}", bare=name == BARE)
        yield Served(framework, name, storage, clients, browser)
    finally:
        if clients is not None:
            clients.close()
        process.terminate()
        process.wait()


def _once_up(port: int, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _UP
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return port
    raise RuntimeError("gunicorn didn't come up")


def _check(clients: Clients, browser: Browser, who: str, *, bare: bool) -> None:
    """See that requests over HTTP do what they are timed for.

    Raises:
        AssertionError: they don't.
    """
    assert clients.ask(Browser(), "untouched").body == b"ok", who
    before = 0 if bare else int(clients.ask(browser, "read").body)
    after = [int(clients.ask(browser, action).body) for action in ("change", "change", "read")]
    assert bare or after == [before + 1, before + 2, before + 2], f"{who} forgot a change: {after}"
    assert bare == (browser.cookie is None), f"{who}: {browser.cookie}"


@contextlib.contextmanager
def _beside_the_worker(redis: Server | None) -> Iterator[None]:
    """Keep the clients and the Redis server off the worker's core, if there is another."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    processes = [0] if redis is None else [0, redis.client.info("server")["process_id"]]
    cores = sorted(os.sched_getaffinity(0))
    for process in processes:
        os.sched_setaffinity(process, cores[1:] or cores)
    try:
        yield
    finally:
        for process in processes:
            os.sched_setaffinity(process, cores)


# Requests a second


def a_second(
    redis: Server | None, *, turns: int, requests: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Requests that one core serves in a second: by framework, then by storage and action, without
    sessions, with ours and with the framework's peer.
    """
    table: dict[str, dict[str, dict[str, float]]] = {framework: {} for framework in MAKERS}
    for storage in _storages(redis):
        with contextlib.ExitStack() as stack:
            where = stack.enter_context(place(redis, DATA))
            field = [
                stack.enter_context(served(framework, name, storage, where, threads=1))
                for framework, makers in MAKERS.items()
                for name in (BARE, *makers)
            ]
            stack.enter_context(_beside_the_worker(redis))
            found = _in_turns(field, turns=turns, requests=requests)
        for (framework, action, name), seconds in found.items():
            row = table[framework].setdefault(f"{storage}, {action}", {})
            row[name] = round(requests / seconds)
    return table


def _in_turns(
    field: Sequence[Served], *, turns: int, requests: int
) -> dict[tuple[str, str, str], float]:
    """The worker's CPU seconds for so many requests of each kind: the median of all turns."""
    times: dict[tuple[str, str, str], list[float]] = {}
    todo = [(one, action) for one in field for action in ACTIONS]
    for one, action in todo:
        one.clients.run([(_sender(one, action), action)] * (requests // 2))
        times[one.framework, action, one.name] = []
    for _ in range(turns):
        random.shuffle(todo)
        for one, action in todo:
            before = one.cpu()
            seen = one.clients.run([(_sender(one, action), action)] * requests)
            times[one.framework, action, one.name].append(one.cpu() - before)
            assert not seen.refused, f"{one.name} on {one.storage} refused {action}"
    return {key: statistics.median(seconds) for key, seconds in times.items()}


def _sender(one: Served, action: str) -> Browser:
    return Browser() if action == "untouched" else one.browser


def _storages(redis: Server | None) -> list[str]:
    return [storage for storage in c.STORAGES if storage != "redis" or redis is not None]


# The slowest


def slowest(redis: Server | None, *, requests: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds that clients wait, and how many answers were errors: by storage, then by how
    many sessions are in use at once.

    ``CONNECTIONS`` clients send to a worker of four threads; every fourth request changes the
    session, the others read it. The fewer sessions there are, the more of these meet in one.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for storage in (BARE, "memory", "file", "sqlite", "redis"):
        if storage == "redis" and redis is None:
            continue
        name = BARE if storage == BARE else "ours"
        kind = "memory" if storage == BARE else storage
        with (
            place(redis, DATA) as where,
            served("WSGI", name, kind, where, threads=4) as one,
            _beside_the_worker(redis),
        ):
            for hot in HOT:
                browsers = [Browser() for _ in range(hot)]
                for browser in browsers:
                    one.clients.ask(browser, "new")
                one.clients.run(_mixed(browsers, requests // 10))
                seen = one.clients.run(_mixed(browsers, requests))
                table.setdefault(storage, {})[f"{hot:,} hot"] = _waits(seen)
    return table


def _mixed(browsers: Sequence[Browser], requests: int) -> Iterator[tuple[Browser, str]]:
    for _ in range(requests):
        yield random.choice(browsers), random.choice(("read", "read", "read", "change"))


def _waits(seen: Seen) -> dict[str, float]:
    waits = sorted(seen.seconds)
    return {
        "median": statistics.median(waits) * 1e3,
        "99 %": waits[len(waits) * 99 // 100] * 1e3,
        "slowest": waits[-1] * 1e3,
        "refused": seen.refused,
    }


def measure(redis: Server | None, *, quick: bool) -> dict[str, Any]:
    """Both tables."""
    requests = 1_000 if quick else 10_000
    return {
        "a second": a_second(redis, turns=3 if quick else 7, requests=100 if quick else 200),
        "slowest": slowest(redis, requests=requests),
        "requests": requests,
    }
