"""The rest: one session and one owner among many, encryption, proxies, bound sessions, imports."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from device import Agent

from . import contenders as c
from . import space
from .contenders import Contender
from .cost import Cell, begin, place, task
from .measure import Task, medians
from .server import Server
from .work import Environ, payload, request, send

COMPILED = Path(__file__).parents[2] / ".bench" / "compiled"
FIRST = "import werkzeug.http, werkzeug.sansio.http, itsdangerous, json, dataclasses, typing"


def among_many(server: Server | None, *, quick: bool) -> dict[str, dict[str, float]]:
    """Microseconds per use of one session, and per list of a user's five sessions, on each store:
    among a hundred sessions of others, and among very many.
    """
    crowd = 1_000 if quick else 100_000
    table: dict[str, dict[str, float]] = {}
    for storage in c.STORAGES:
        if storage == "redis" and server is None:
            continue
        with place(server, payload(100, 1)) as where:
            contender = c.ours(where, storage)
            for _ in range(5):
                send(contender.app, request("login", begin(contender)))
            registry = contender.parts["middleware"].registry
            assert len(registry.sessions("user-4711")) == 5

            def listing(count: int, registry: Any = registry) -> Callable[[], object]:
                return lambda: [registry.sessions("user-4711") for _ in range(count)]

            tasks = [
                replace(task(contender, Cell(action, storage)), name=action)
                for action in ("read", "change")
            ]
            tasks.append(Task("list of five", listing, storage == "redis"))
            for present, more in ((100, 100), (crowd, crowd - 100)):
                space.fill(contender, more, expires_in=86_400.0, owner=f"other-{present}-")
                found = medians(tasks, repetitions=9, turn=0.02, server=server)
                for name, value in found.items():
                    table.setdefault(f"{storage}, {name}", {})[f"among {present:,}"] = value
    return table


def options(*, repetitions: int) -> dict[str, dict[str, float]]:
    """What trusted proxies and encryption add, in microseconds on memory."""
    table: dict[str, dict[str, float]] = {}
    keys = [bytes(range(32))]
    for size, workload in (
        (100, "untouched"),
        (100, "read"),
        (100, "change"),
        (100_000, "read"),
        (100_000, "change"),
    ):
        with place(None, payload(size, 1)) as where:
            field = [
                c.ours(where, "memory", "plain"),
                c.ours(where, "memory", "encrypted at rest", encryption_keys=keys),
                c.ours(where, "memory", "trusted_proxies=1", trusted_proxies=1),
            ]
            # All in the same way, so that the difference is the option's alone.
            tasks = [_sending(contender, workload, {}) for contender in field[:2]]
            if size == 100:
                tasks.append(_sending(field[2], workload, _FORWARDED))
            found = medians(tasks, repetitions=repetitions, turn=0.02, server=None)
        title = f"{workload}, {'100 B' if size == 100 else '100 KB'}"
        table["untouched" if workload == "untouched" else title] = found
    return table


_FORWARDED = {"HTTP_X_FORWARDED_FOR": "203.0.113.7", "HTTP_X_FORWARDED_PROTO": "https"}


def _sending(contender: Contender, action: str, headers: dict[str, str]) -> Task:
    def prepare(count: int) -> Callable[[], object]:
        environ = {**request(action, begin(contender)), **headers}
        return lambda: [send(contender.app, environ) for _ in range(count)]

    return Task(contender.name, prepare)


def binding(*, repetitions: int) -> dict[str, dict[str, float]]:
    """What binding adds for a user who is signed in, in microseconds on memory."""
    from wsgi_sessions import Cookie, DeviceBinding

    with place(None, payload(100, 1)) as where:
        shared: dict[str, Any] = {"cookie": Cookie("__Host-session", secure=True)}
        bound: dict[str, Any] = {"device_binding": DeviceBinding()}
        field = {
            "without the option": (c.ours(where, "memory", **shared), ""),
            "unbound": (c.ours(where, "memory", **shared, **bound), ""),
            "bound, ES256": (c.ours(where, "memory", **shared, **bound), "ES256"),
            "bound, RS256": (c.ours(where, "memory", **shared, **bound), "RS256"),
        }
        sent = {name: _signed_in(*of_field) for name, of_field in field.items()}
        return {
            f"{action}, 100 B": medians(
                [
                    _repeating(name, field[name][0], {**request(action, cookie), **_HTTPS})
                    for name, cookie in sent.items()
                ],
                repetitions=repetitions,
                turn=0.02,
                server=None,
            )
            for action in ("read", "change")
        }


_HTTPS = {"wsgi.url_scheme": "https"}


def _signed_in(contender: Contender, algorithm: str) -> str:
    """The cookies of a browser that is signed in, and bound if there is an algorithm."""
    agent = Agent(contender.app, algorithm or "ES256")
    agent.request("/new")
    agent.request("/login")
    if algorithm:
        assert agent.register().status == 200
        assert agent.request("/read").status == 200
    return "; ".join(f"{name}={value}" for name, value in agent.cookies.items())


def _repeating(name: str, contender: Contender, environ: Environ) -> Task:
    def prepare(count: int) -> Callable[[], object]:
        return lambda: [send(contender.app, environ) for _ in range(count)]

    return Task(name, prepare)


def import_times(*, repetitions: int) -> dict[str, float]:
    """Milliseconds of CPU that importing takes, once werkzeug and itsdangerous are there."""
    modules = {
        "werkzeug and itsdangerous alone": f"|{FIRST}",
        "wsgi_sessions, on top of these": f"{FIRST}|import wsgi_sessions",
        "beaker.middleware": "|import beaker.middleware",
        "flask_session.base": "|import flask_session.base",
        "django.contrib.sessions.middleware": "|import django.contrib.sessions.middleware",
    }
    table = {}
    for name, statement in modules.items():
        if (
            importlib.util.find_spec(statement.split()[-1].partition(".")[0]) is None
        ):  # not installed
            continue
        before, _, timed = statement.rpartition("|")
        program = (
            f"{before or 'pass'}\nimport time\nstart = time.process_time()\n{timed}\n"
            "print((time.process_time() - start) * 1e3)"
        )
        _run(program)
        table[name] = statistics.median(_run(program) for _ in range(repetitions))
    return table


def _run(program: str) -> float:
    # With compiled files, as after the first start of an installed app.
    settings = {**os.environ, "PYTHONPYCACHEPREFIX": str(COMPILED)}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=settings
    )
    return float(done.stdout)


def loaded_modules() -> list[str]:
    """Which of the heavy, optional modules ``import wsgi_sessions`` loads: it should be none."""
    heavy = ("redis", "valkey", "flask", "django", "cryptography")
    program = f"import wsgi_sessions, sys\nprint(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()
