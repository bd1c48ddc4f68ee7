"""What one request costs: the table of workloads, payloads and storages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import contenders as c
from .contenders import Contender, Place
from .measure import Task, medians
from .server import Server, Watched
from .work import Environ, cookie_of, payload, request, send

SIZES = {"100 B": 100, "4 KB": 4_000, "100 KB": 100_000}


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table."""

    workload: str
    storage: str
    size: str = "100 B"
    fields: int = 1

    @property
    def title(self) -> str:
        shape = "" if self.workload in ("untouched", "forged") else f", {self.size}"
        if self.fields > 1:
            shape += f" in {self.fields} fields"
        return f"{self.workload}{shape}"


def cells(*, quick: bool) -> list[Cell]:
    """All lines, or a few that say the most."""
    found = [Cell("untouched", "memory"), Cell("forged", "memory")]
    shapes = [(size, fields) for size in SIZES for fields in (1, 50)]
    if quick:
        shapes = [("100 B", 1), ("100 KB", 1), ("100 KB", 50)]
    for storage in c.STORAGES:
        for workload in ("read", "change"):
            found += [Cell(workload, storage, size, fields) for size, fields in shapes]
        found += [Cell("new", storage), Cell("sign-in", storage)]
    found += [Cell(workload, "cookie") for workload in ("read", "change", "new")]
    return found


def begin(contender: Contender) -> str:
    """A new session with all its data; the cookie that the client has now."""
    contender.select()
    _, headers, _ = send(contender.app, request("new"))
    cookie = cookie_of(headers)
    if cookie is None:
        raise AssertionError(f"{contender.name} on {contender.storage} set no cookie")
    return cookie


def check(contender: Contender) -> None:
    """See that the contender does the work: what is stored is read again, by another request.

    Raises:
        AssertionError: it doesn't, so its times would mean nothing.
    """
    where = f"{contender.name} on {contender.storage}"

    def ask(action: str, cookie: str | None) -> tuple[bytes, str | None]:
        contender.select()
        status, headers, body = send(contender.app, request(action, cookie))
        assert status.startswith("200"), f"{where}: {status} to {action}"
        return body, cookie_of(headers) or cookie

    body, cookie = ask("untouched", None)
    assert (body, cookie) == (b"ok", None), f"{where}: untouched is not untouched"
    cookie = begin(contender)
    for expected in (b"1", b"2"):
        body, cookie = ask("change", cookie)
        assert body == expected, f"{where}: changed to {body!r} instead of {expected!r}"
        body, _ = ask("read", cookie)
        assert body == expected, f"{where}: read {body!r} instead of {expected!r}"
    body, _ = ask("who", forged(contender))
    assert body == b"None", f"{where}: took a forged cookie"
    before = cookie
    _, cookie = ask("sign-in", cookie)
    assert cookie != before, f"{where}: kept the ID at sign-in"
    assert ask("who", cookie)[0] == b"user-4711", f"{where}: forgot who signed in"
    assert ask("read", cookie)[0] == b"2", f"{where}: lost the data at sign-in"
    if contender.ends_old_id:
        old = ask("has-data", before)[0]
        assert old == b"False", f"{where}: the old ID still works after sign-in"
    _, out = ask("logout", cookie)
    assert ask("who", out)[0] == b"None", f"{where}: still signed in after logout"


def forged(contender: Contender) -> str:
    """A cookie that looks genuine, but nobody signed it, or nobody issued it."""
    name, _, value = begin(contender).partition("=")
    swap = value.swapcase()
    return f"{name}={swap if swap != value else value[::-1]}"


def bare_task(contender: Contender, cell: Cell) -> Task:
    """The same app without sessions."""
    action = {"forged": "read"}.get(cell.workload, cell.workload)
    environ = request(action, "session=x" if cell.workload not in ("untouched", "new") else None)

    def prepare(count: int) -> Callable[[], object]:
        return lambda: _repeat(contender.bare, environ, count)

    return Task(f"bare {framework_of(contender)}", prepare)


def task(contender: Contender, cell: Cell) -> Task:
    """The contender's requests of one cell."""
    action = {"forged": "who"}.get(cell.workload, cell.workload)
    uses_server = contender.storage in c.SERVED
    shared: list[Environ] = []

    def prepare(count: int) -> Callable[[], object]:
        contender.select()
        if cell.workload in ("sign-in", "login"):
            # Each sign-in ends the ID that it came with.
            many = [request(action, begin(contender)) for _ in range(count)]
            return lambda: [send(contender.app, environ) for environ in many]
        if not shared:
            cookie = None
            if cell.workload == "forged":
                cookie = forged(contender)
            elif cell.workload not in ("untouched", "new"):
                cookie = begin(contender)
            shared.append(request(action, cookie))
        return lambda: _repeat(contender.app, shared[0], count)

    return Task(contender.name, prepare, uses_server)


def _repeat(app: Any, environ: Environ, count: int) -> None:
    for _ in range(count):
        send(app, environ)


@contextlib.contextmanager
def place(server: Server | None, data: dict[str, Any]) -> Iterator[Place]:
    """Somewhere to keep sessions, emptied afterwards."""
    with TemporaryDirectory(prefix="bench-") as directory:
        yield Place(Path(directory), None if server is None else server.url, data)
    if server is not None:
        server.client.flushdb()


def field_for(place: Place, cell: Cell) -> list[Contender]:
    """Who takes part in this line."""
    found = c.field_of(place, cell.storage)
    if cell.storage == "cookie":
        signed = c.ours(place, "cookie", "ours, signed only", store=_signing_store())
        found.insert(1, signed)
    elif cell.workload in ("untouched", "forged"):
        found.append(c.flask_cookie(place))
    return found


def _signing_store() -> Any:
    from wsgi_sessions.stores import ClientSideStore

    return ClientSideStore(encrypt=False)


def measure_cell(
    cell: Cell, server: Server | None, *, repetitions: int, turn: float
) -> dict[str, float]:
    """Microseconds per request by contender, less what the bare app costs."""
    data = payload(SIZES[cell.size], cell.fields)
    with place(server, data) as where:
        field = field_for(where, cell)
        return measure_field(field, cell, server, repetitions=repetitions, turn=turn)


def measure_field(
    field: list[Contender], cell: Cell, server: Watched | None, *, repetitions: int, turn: float
) -> dict[str, float]:
    """The same, of these contenders."""
    frameworks = {framework_of(contender): contender for contender in field}
    tasks = [task(contender, cell) for contender in field]
    tasks += [bare_task(contender, cell) for contender in frameworks.values()]
    found = medians(tasks, repetitions=repetitions, turn=turn, server=server)
    return {
        contender.name: found[contender.name] - found[f"bare {framework_of(contender)}"]
        for contender in field
    }


def framework_of(contender: Contender) -> str:
    """On which framework it stands, whose bare app is subtracted."""
    if contender.name.startswith("Flask"):
        return "Flask"
    return "Django" if contender.name == "Django" else "WSGI"


def dry_run(server: Server | None) -> list[str]:
    """Check every contender; returns who takes part."""
    names = []
    with place(server, payload(400, 2)) as where:
        for storage in (*c.STORAGES, "cookie"):
            if storage == "redis" and server is None:
                continue
            for contender in field_for(where, Cell("read", storage)):
                check(contender)
                names.append(f"{contender.name} on {storage}")
    return names
