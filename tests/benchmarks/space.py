"""Memory per session, and the slowest request while half a million sessions expire.

Each contender is measured in a process of its own (`python -m benchmarks.space NAME …`).
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import contenders as c
from .contenders import Contender, Place
from .cost import begin
from .work import payload, request, send

SIZE = 200


def _maker(name: str) -> Any:
    return {"ours": c.ours, "minimum": c.minimum, **c.PEERS}[name]


def measure(*, quick: bool) -> dict[str, dict[str, float]]:
    """Bytes per session of 200 bytes, and milliseconds of the slowest request during expiry."""
    table: dict[str, dict[str, float]] = {}
    for name in ("ours", "minimum", *c.PEERS):
        row = table.setdefault(name, {})
        row["bytes per session"] = _in_process("memory", name, 5_000 if quick else 50_000)
        if name in ("ours", "Flask-Session", "Django"):
            row["slowest ms"], row["median ms"], row["reclaimed"] = _in_process(
                "expiry", name, 50_000 if quick else 500_000
            )
    row = table["ours"]
    row["bytes per session, 1 million"] = _in_process(
        "stored", "ours", 50_000 if quick else 1_000_000
    )
    return table


def _in_process(what: str, name: str, count: int) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.space", what, name, str(count)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    return json.loads(done.stdout)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def memory(contender: Contender, count: int) -> float:
    """Bytes by which the process grows per session that requests begin."""
    for _ in range(100):
        begin(contender)
    gc.collect()
    before = _resident()
    for _ in range(count):
        begin(contender)
    gc.collect()
    return (_resident() - before) / count


def stored(contender: Contender, count: int) -> float:
    """The same, put into the store directly: for a million of them."""
    gc.collect()
    before = _resident()
    fill(contender, count, expires_in=86_400.0)
    gc.collect()
    return (_resident() - before) / count


def fill(contender: Contender, count: int, *, expires_in: float, owner: str | None = None) -> None:
    """Put sessions into our store, as a request would have left them."""
    from wsgi_sessions.crypto.session_id import SessionID, new_id
    from wsgi_sessions.data.notes import Notes, dump_notes
    from wsgi_sessions.engine.owners import Limits, OwnerLists
    from wsgi_sessions.record import Record

    store = contender.parts["store"]
    codec = contender.parts["middleware"]._settings.codec
    now = time.time()
    owners = OwnerLists(store, Limits(absolute=expires_in), lambda: now)
    fields = {name: codec.encode(value) for name, value in payload(SIZE, 1).items()}
    for number in range(count):
        user = None if owner is None else f"{owner}{number}"
        session_id = SessionID(new_id())
        notes = dump_notes(Notes(now, now, now + number / count, session_id.hash))
        key = session_id.key
        if user is not None:
            owners.enter(user, key, until=now + expires_in, epoch=0)
        store.insert(key, Record(fields, notes, now, now + expires_in, owner=user))


def expiry(contender: Contender, count: int) -> tuple[float, float, float]:
    """Milliseconds of CPU of the slowest and the median request, while so many sessions expire."""
    if contender.name == "ours":
        fill(contender, count, expires_in=0.001)
    elif contender.name == "Django":
        from django.core.cache import caches

        cache = caches["memory"]
        for number in range(count):
            cache.set(f"k{number}", payload(SIZE, 1), 1)
        cache._max_entries = count  # so that it is full
    else:
        cache = contender.parts["cache"]
        cache._threshold = count
        for number in range(count):
            cache.set(f"k{number}", payload(SIZE, 1), 1)
    time.sleep(1.1)
    gc.collect()
    times: list[float] = []
    requests = max(2000, count // 7) if contender.name == "ours" else 2000
    for _ in range(requests):
        start = time.process_time()
        send(contender.app, request("new"))
        times.append(time.process_time() - start)
    left = _left(contender)
    reclaimed = (count + requests - left) / count
    return max(times) * 1e3, statistics.median(times) * 1e3, reclaimed


def _left(contender: Contender) -> int:
    if contender.name == "ours":
        return len(list(contender.parts["store"].keys()))
    if contender.name == "Django":
        from django.core.cache import caches

        return len(caches["memory"]._cache)  # there is no public count
    return len(contender.parts["cache"]._cache)


def main() -> None:
    """Measure one contender, and print what came out as JSON."""
    what, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with TemporaryDirectory() as directory:
        contender = _maker(name)(Place(Path(directory), None, payload(SIZE, 1)), "memory")
        contender.select()
        measured: Any = {"memory": memory, "stored": stored, "expiry": expiry}[what](
            contender, count
        )
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
