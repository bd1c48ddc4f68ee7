"""Under load over HTTP: gunicorn with two workers, requests from wrk or from threads, p50 and p99.

The app that gunicorn serves is `served` below; what it does is told by an environment variable.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ports import free_port

from . import contenders as c
from .contenders import Place
from .server import Server
from .work import App, payload

CLIENTS = 8


def served() -> App:
    """The app that a gunicorn worker serves; called by gunicorn."""
    name = os.environ["BENCH_CONTENDER"]
    place = Place(Path(), os.environ["BENCH_REDIS"], payload(200, 1))
    contender = {"ours": c.ours, "minimum": c.minimum, "bare": c.minimum, **c.PEERS}[name](
        place, "redis"
    )
    contender.select()
    return contender.bare if name == "bare" else contender.app


@contextlib.contextmanager
def _gunicorn(name: str, redis_url: str) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "4", "--bind",
         f"127.0.0.1:{port}", "--log-level", "error", "benchmarks.load:served()"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "BENCH_CONTENDER": name, "BENCH_REDIS": redis_url},
    )  # fmt: skip
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                _get(port, "/untouched", None)
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _get(port: int, path: str, cookie: str | None) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={} if cookie is None else {"Cookie": cookie})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, f"{answer.status} to {path}"
    connection.close()
    value = answer.getheader("Set-Cookie")
    return None if value is None else value.strip().partition(";")[0]


def measure(server: Server, *, seconds: float) -> dict[str, dict[str, float]]:
    """Requests per second and latencies in milliseconds, by contender and kind of request."""
    table: dict[str, dict[str, float]] = {}
    names = {"bare": "without sessions", "minimum": "minimum", "ours": "ours"}
    for name, title in {**names, "Flask-Session": "Flask-Session (and Flask)"}.items():
        with _gunicorn(name, server.url) as port:
            cookie = _get(port, "/new", None) if name != "bare" else "session=x"
            for action in ("untouched", "read", "change"):
                table[f"{title}, {action}"] = _fire(port, f"/{action}", cookie, seconds)
        server.client.flushdb()
    return table


def _fire(port: int, path: str, cookie: str | None, seconds: float) -> dict[str, float]:
    wrk = shutil.which("wrk")
    return (
        _by_threads(port, path, cookie, seconds)
        if wrk is None
        else _by_wrk(wrk, port, path, cookie, seconds)
    )


def _by_wrk(wrk: str, port: int, path: str, cookie: str | None, seconds: float) -> dict[str, float]:
    done = subprocess.run(
        [wrk, "-t1", f"-c{CLIENTS}", f"-d{max(1, round(seconds))}s", "--latency", "-H",
         f"Cookie: {cookie}", f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert "Non-2xx" not in done.stdout, done.stdout
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}

    def at(share: str) -> float:
        match = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)\b", done.stdout)
        assert match is not None, done.stdout
        return float(match[1]) * units[match[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert rate is not None, done.stdout
    return {"per second": float(rate[1]), "p50": at("50"), "p99": at("99")}


def _by_threads(port: int, path: str, cookie: str | None, seconds: float) -> dict[str, float]:
    def worker(_: int) -> list[float]:
        times: list[float] = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        until = time.perf_counter() + seconds
        while (start := time.perf_counter()) < until:
            connection.request("GET", path, headers={"Cookie": cookie or ""})
            connection.getresponse().read()
            times.append((time.perf_counter() - start) * 1e3)
        return times

    with ThreadPoolExecutor(CLIENTS) as pool:
        times = [value for values in pool.map(worker, range(CLIENTS)) for value in values]
    cuts = statistics.quantiles(times, n=100)
    return {"per second": len(times) / seconds, "p50": cuts[49], "p99": cuts[98]}
