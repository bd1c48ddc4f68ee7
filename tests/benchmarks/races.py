"""What races do to the data: lost updates, and sessions that come back from the dead."""

from __future__ import annotations

import contextlib
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import contenders as c
from .contenders import Contender
from .cost import begin, place
from .server import Server
from .work import cookie_of, interruptions, payload, request, send

THREADS = 8
PROCESSES = 4
DATA = payload(100, 1)


def lost_updates(server: Server | None, *, keys: int) -> dict[str, dict[str, str]]:
    """Of the keys that threads or processes added to one session, how many are gone at the end.

    8 threads of one process on memory; on shared storages also 4 processes of 2 threads each. Each
    adds ``keys`` keys of its own, one per request.
    """
    table: dict[str, dict[str, str]] = {}
    for storage in c.STORAGES:
        if storage == "redis" and server is None:
            continue
        with place(server, DATA) as where:
            for contender in c.field_of(where, storage):
                row = table.setdefault(contender.name, {})
                cookie = begin(contender)
                _add_by_threads(contender, cookie, "t", THREADS, keys)
                row[f"{storage}, {THREADS} threads"] = _lost(contender, cookie, THREADS * keys)
                if storage == "memory":
                    continue
                cookie = begin(contender)
                _add_by_processes(contender, cookie, keys)
                row[f"{storage}, {PROCESSES} processes"] = _lost(
                    contender, cookie, PROCESSES * 2 * keys
                )
    return table


def _add_by_threads(
    contender: Contender, cookie: str, prefix: str, threads: int, keys: int
) -> None:
    def add(worker: int) -> int:
        failed = 0
        for number in range(keys):
            try:
                send(contender.app, request(f"add-{prefix}{worker}-{number}", cookie))
            except Exception:  # a peer that breaks under the race: its update is lost, too
                failed += 1
        return failed

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(add, range(threads)))


def _add_by_processes(contender: Contender, cookie: str, keys: int) -> None:
    # Forked, so that each contender is there as it was set up; nobody holds a lock by then.
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=_add_by_threads, args=(contender, cookie, f"p{number}-", 2, keys))
        for number in range(PROCESSES)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()


def _lost(contender: Contender, cookie: str, wanted: int) -> str:
    _, _, body = send(contender.app, request("count", cookie))
    return f"{(wanted - int(body)) / wanted:.0%}"


def resurrected(server: Server | None, *, rounds: int) -> dict[str, dict[str, int]]:
    """How many of so many sessions live on after a logout met a slower request.

    Every round is the race itself: while a request that changes the session is being answered,
    the logout comes in and is answered; then the slower request ends.
    """
    table: dict[str, dict[str, int]] = {}
    for storage in c.STORAGES:
        if storage == "redis" and server is None:
            continue
        with place(server, DATA) as where:
            for contender in c.field_of(where, storage):
                contender.select()
                count = sum(_comes_back(contender) for _ in range(rounds))
                table.setdefault(contender.name, {})[storage] = count
    return table


def _comes_back(contender: Contender) -> bool:
    _, headers, _ = send(contender.app, request("new"))
    cookie = cookie_of(headers)
    interruptions.append(lambda: send(contender.app, request("logout", cookie)))
    headers = []
    # An error (Django's SessionInterrupted) is an answer, too: what counts is what is stored.
    with contextlib.suppress(Exception):
        _, headers, _ = send(contender.app, request("slow-add", cookie))
    for held in {cookie, cookie_of(headers) or cookie}:
        _, _, body = send(contender.app, request("has-data", held))
        if body == b"True":
            return True
    return False


def everything(server: Server | None, *, quick: bool) -> dict[str, Any]:
    """Both tables."""
    return {
        "lost": lost_updates(server, keys=5 if quick else 25),
        "resurrected": resurrected(server, rounds=50 if quick else 1000),
        "rounds": 50 if quick else 1000,
    }
