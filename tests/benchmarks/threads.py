"""`python -m benchmarks.threads`: what threads do to the data, and how much they get done at once.

For a Python without the GIL, where two threads can do twice as much: ``make free-threaded`` runs
it there, and shows the same with the GIL beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import contenders as c
from . import races, report
from .contenders import Contender
from .cost import begin, place
from .load_app import store_for
from .server import Server, started
from .work import payload, request, send

STORAGES = ("memory", "file", "sqlite", "redis")
DATA = payload(100, 1)
READS = 9
"""For each request that changes the session."""


def lost(redis: Server | None, *, keys: int) -> dict[str, str]:
    """Of the keys that eight threads added to one session, how many are gone, on each store."""
    found = {}
    for storage in STORAGES:
        if storage == "redis" and redis is None:
            continue
        with place(redis, DATA) as where:
            contender = c.ours(where, storage, store=store_for(where, storage))
            cookie = begin(contender)
            races._add_by_threads(contender, cookie, "t", races.THREADS, keys)
            found[storage] = races._lost(contender, cookie, races.THREADS * keys)
    return found


def speed_up(storage: str, *, sessions: str, requests: int, turns: int) -> float:
    """How much more two threads get done in the same time than one: 2 is twice as much.

    Each thread sends so many requests, nine reads to one change, in ``own`` sessions or in ``one``
    together. The best of all turns, as neighbours on the machine can only make it slower.
    """
    with place(None, DATA) as where:
        contender = c.ours(where, storage, store=store_for(where, storage))
        cookies = [begin(contender) for _ in range(2)]
        if sessions == "one":
            cookies[1] = cookies[0]
        best = {1: float("inf"), 2: float("inf")}
        for _ in range(turns):
            for threads in (1, 2):
                spent = _together(contender, cookies[:threads], requests)
                best[threads] = min(best[threads], spent)
    return 2 * best[1] / best[2]


def _together(contender: Contender, cookies: list[str], requests: int) -> float:
    """Seconds until all threads have sent their requests, one thread for each cookie."""
    begun: list[float] = []
    barrier = threading.Barrier(len(cookies), action=lambda: begun.append(time.perf_counter()))

    def run(core: int, cookie: str) -> None:
        read, change = request("read", cookie), request("change", cookie)
        _keep_to_core(core)
        barrier.wait()
        for number in range(requests):
            send(contender.app, read if number % (READS + 1) else change)

    with ThreadPoolExecutor(len(cookies)) as pool:
        list(pool.map(run, range(len(cookies)), cookies))
    return time.perf_counter() - begun[0]


def _keep_to_core(number: int) -> None:
    """Keep this thread there: left to itself, the system may take a while to spread threads."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def _speeds(*, requests: int, turns: int) -> dict[str, float]:
    return {
        f"{storage}, {where}": speed_up(storage, sessions=sessions, requests=requests, turns=turns)
        for storage in ("memory", "file")
        for sessions, where in (("own", "a session each"), ("one", "one session for both"))
    }


def _gil_is_on() -> bool:
    asks = getattr(sys, "_is_gil_enabled", None)
    return asks is None or bool(asks())


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of each thread, in each turn")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--keys", type=int, default=100, help="that each of eight threads adds")
    parser.add_argument("--speed-only", action="store_true", help="print the speed-up as JSON")
    arguments = parser.parse_args()
    speeds = {"requests": arguments.requests, "turns": arguments.turns}
    if arguments.speed_only:
        print(json.dumps(_speeds(**speeds)))
        return
    with started() as redis:
        print(report.table({"lost updates": dict(lost(redis, keys=arguments.keys))}, "8 threads"))
    table: dict[str, dict[str, Any]] = {
        "the GIL is on" if _gil_is_on() else "no GIL": _speeds(**speeds)
    }
    if not _gil_is_on():
        command = [sys.executable, "-m", "benchmarks.threads", "--speed-only"]
        command += ["--requests", str(arguments.requests), "--turns", str(arguments.turns)]
        environment = {**os.environ, "PYTHON_GIL": "1"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        table["the GIL is on"] = json.loads(done.stdout)
    print(report.table(table, "2 threads do so much more than 1"))
    print(
        f"Python {sys.version}; {'the GIL is on' if _gil_is_on() else 'without the GIL, to the end'}"
    )


if __name__ == "__main__":
    main()
