"""The same walk over HTTP, with a real cookie jar, under the servers that people use.

What differs between them is in docs/servers.md; the columns of its table are pinned here.
"""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import servers
from ports import free_port
from programs import missing

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
APP = "served:application"
BIND = "127.0.0.1:{port}"
_OWN_PATH = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
PATIENCE = 100
"""Seconds after which what doesn't come is a failure."""


@dataclass(frozen=True)
class Kind:
    """A server: how it is started, and what it does differently."""

    command: tuple[str, ...]
    processes: bool
    """Several worker processes."""
    says_so: bool
    """wsgi.multiprocess tells of them."""
    file_wrapper: str | None
    """The type of wsgi.file_wrapper; None where there is none."""
    two_cookies: str | None
    """What becomes of the headers "Cookie: a=1" and "Cookie: b=2"."""
    write: bool = True
    """Whether start_response returns a write() that works."""


def _gunicorn(worker: str, *more: str) -> tuple[str, ...]:
    return (
        "-m",
        "gunicorn",
        "-w",
        "2",
        "-t",
        str(PATIENCE),
        "-k",
        worker,
        "-b",
        BIND,
        "--log-level",
        "error",
        *more,
        APP,
    )


KINDS = {
    "gunicorn-sync": Kind(_gunicorn("sync"), True, True, "type", "a=1,b=2"),
    "gunicorn-gthread": Kind(_gunicorn("gthread", "--threads", "2"), True, True, "type", "a=1,b=2"),
    "gunicorn-gevent": Kind(_gunicorn("gevent"), True, True, "type", "a=1,b=2"),
    "waitress": Kind(("-m", "waitress", f"--listen={BIND}", APP), False, False, "type", "a=1, b=2"),
    "uwsgi": Kind(
        (
            *("-m", "pyuwsgi", "--http-socket", BIND, "--module", APP, "--master"),
            *("--processes", "2", "--need-app", "--die-on-term", "--disable-logging"),
            *("--socket-timeout", str(PATIENCE)),
        ),
        True,
        True,
        "function",
        "a=1, b=2",
    ),
    "granian": Kind(
        (
            *("-m", "granian", "--interface", "wsgi", "--workers", "2", "--host", "127.0.0.1"),
            *("--port", "{port}", "--log-level", "error", APP),
        ),
        True,
        False,
        None,
        "a=1;b=2",
        write=False,
    ),
    "cheroot": Kind(
        ("-m", "cheroot", "--bind", BIND, "--timeout", str(PATIENCE), APP),
        False,
        False,
        None,
        "b=2",
    ),
    "wsgiref": Kind(
        ("-c", "import served; served.serve_with_wsgiref({port})"), False, False, "type", "a=1,b=2"
    ),
}


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    kind: Kind
    port: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Browser:
    """urllib with the standard library's cookie jar."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )

    def get(self, path: str) -> bytes:
        with self._opener.open(self._server.url(path), timeout=PATIENCE) as response:
            body: bytes = response.read()
        return body

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def token(self) -> str | None:
        return next((cookie.value for cookie in self.jar if cookie.name == "session"), None)

    def twin(self) -> Browser:
        """Another connection of the same browser."""
        twin = Browser(self._server)
        for cookie in self.jar:
            twin.jar.set_cookie(cookie)
        return twin

    def until(self, path: str, condition: Callable[[Any], bool]) -> Any:
        """Ask again until it holds: what happens at close() may come after the last byte."""
        deadline = time.monotonic() + PATIENCE
        while not condition(seen := self.json(path)):
            assert time.monotonic() < deadline, f"never came: {seen}"
        return seen


def _accepts(port: int) -> bool:
    with contextlib.closing(socket.socket()) as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _accepts(port):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
        assert process.returncode is None and time.monotonic() < deadline, (
            f"the server didn't come up: {log.read_text('utf-8', 'replace')}"
        )


def need(*modules: str) -> None:
    """Skip the test, or fail it in CI, where a server isn't installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            missing("servers", f"{module} isn't installed (pip install {module})")


@contextlib.contextmanager
def running(name: str, store_url: str, log: Path) -> Iterator[Server]:
    kind, port = KINDS[name], free_port()
    if kind.command[0] == "-m":
        need(kind.command[1], *(["gevent"] if "gevent" in kind.command else []))
    command = [sys.executable, *(part.replace("{port}", str(port)) for part in kind.command)]
    if name == "uwsgi":
        command = [str(Path(sys.executable).parent / "pyuwsgi"), *command[3:]]
    with started(command, port, store_url, log):
        yield Server(name, kind, port)


@contextlib.contextmanager
def started(
    command: list[str], port: int, store_url: str, log: Path, *, path: Path = HERE
) -> Iterator[None]:
    """A server that answers at this port, until the end."""
    environment = {
        **os.environ,
        "STORE": store_url,
        "PYTHONPATH": os.pathsep.join([str(path), str(HERE), *_OWN_PATH]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=HERE,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _wait_for(process, port, log)
            yield
        finally:
            # The whole group: workers outlive a master that is killed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module", params=["file", "redis"])
def store_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    named, found = servers.named_by_environment(), servers.binaries()
    if request.param == "file":
        yield f"file://{tmp_path_factory.mktemp('served') / 'sessions'}"
    elif named is not None:
        yield named.url
    elif found:
        # One of them will do: how they differ is the store's tests to find out.
        with servers.running(found[min(found)]) as redis:
            yield f"{redis.url}?socket_timeout={PATIENCE}&socket_connect_timeout={PATIENCE}"
    else:
        missing("redis", "there is no Redis-compatible server")


@pytest.fixture(scope="module", params=list(KINDS))
def server(
    request: pytest.FixtureRequest, store_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(request.param, store_url, log) as server:
        yield server


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server)


def test_a_session_goes_on_from_request_to_request(browser: Browser) -> None:
    assert [browser.json("/count")["n"] for _ in range(6)] == [1, 2, 3, 4, 5, 6]


def test_what_was_written_is_there_after_the_redirect(browser: Browser) -> None:
    for n in range(10):
        assert browser.json(f"/write-and-redirect?{n}") == {"mark": str(n)}


def test_signing_in_and_out(browser: Browser, server: Server) -> None:
    browser.get("/count")
    before, thief = browser.token(), browser.twin()
    browser.get("/login")

    assert browser.token() not in (None, before)
    assert browser.json("/all") == {"n": 1}
    assert thief.json("/all") == {}
    browser.get("/logout")
    assert browser.token() is None
    assert browser.json("/all") == {}


def test_a_stream_keeps_what_came_before_and_during_it(browser: Browser) -> None:
    assert browser.get("/stream") == b"first second third"
    assert browser.token() is not None
    browser.until("/all", lambda seen: seen == {"stream": True, "streamed": True})


def test_what_close_writes_is_kept(browser: Browser) -> None:
    assert browser.get("/closing") == b"one two"
    browser.until("/all", lambda seen: seen == {"closing": True, "closed": True})


def test_a_file_goes_out_whole(browser: Browser) -> None:
    assert browser.get("/file") == bytes(range(256)) * 1024
    assert browser.json("/all") == {"file": True}


def test_write_goes_out_before_what_is_returned(browser: Browser, server: Server) -> None:
    if not server.kind.write:
        with pytest.raises((urllib.request.HTTPError, http.client.HTTPException)):
            browser.get("/write")
        return
    assert browser.get("/write") == b"written and returned"
    assert browser.json("/all") == {"written": True}


@dataclass(frozen=True)
class Raw:
    """An answer to a request that no browser sends."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def _raw(server: Server, method: str, path: str, cookies: list[str]) -> Raw:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.putrequest(method, path)
        for cookie in cookies:
            connection.putheader("Cookie", cookie)
        connection.endheaders()
        with connection.getresponse() as response:
            return Raw(response.status, response.headers, response.read())


def test_head_has_the_headers_of_get_and_no_body(server: Server) -> None:
    response = _raw(server, "HEAD", "/count", [])

    assert response.status == 200
    assert response.headers["Set-Cookie"].startswith("session=")
    assert response.headers["Vary"] == "Cookie"
    assert response.body == b""


def test_c3_two_cookie_headers_are_survived(browser: Browser, server: Server) -> None:
    # RFC 6265 section 5.4: one Cookie header. What a server makes of two is its own affair.
    seen = json.loads(_raw(server, "GET", "/environ", ["a=1", "b=2"]).body)
    assert seen["cookie"] == server.kind.two_cookies

    browser.get("/count")
    answers = [
        _raw(server, "GET", "/all", cookies)
        for cookies in (
            [f"session={browser.token()}", "a=1"],
            ["a=1", f"session={browser.token()}"],
        )
    ]

    assert [answer.status for answer in answers] == [200, 200]
    whole = [json.loads(answer.body) == {"n": 1} for answer in answers]
    assert whole == ([False, True] if seen["cookie"] == "b=2" else [True, True])
    assert browser.json("/all") == {"n": 1}


def test_what_the_environ_says_of_the_server(browser: Browser, server: Server) -> None:
    seen = browser.json("/environ")

    assert seen["multiprocess"] is server.kind.says_so
    assert seen["file_wrapper"] == server.kind.file_wrapper


def test_concurrent_requests_lose_nothing(browser: Browser, server: Server) -> None:
    browser.get("/count")
    names = [f"mark{n}" for n in range(24)]
    twins = [browser.twin() for _ in names]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: pair[0].get(f"/mark?{pair[1]}"), zip(twins, names, strict=True)))
        list(pool.map(lambda twin: twin.get("/increment"), twins))

    seen = browser.json("/all")
    assert {name for name in names if seen.get(name)} == set(names)
    assert seen["total"] == len(twins)


COMMANDS = re.findall(
    r"^\$ ([a-z-]+) (.*\bshop:app\b.*)$",
    (HERE.parents[1] / "docs" / "servers.md").read_text("utf-8"),
    re.MULTILINE,
)
MODULES = {"waitress-serve": "waitress", "uwsgi": "pyuwsgi"}
"""Where a program's module has another name."""
PORT_OPTION = {"gunicorn": "--bind=127.0.0.1:{port}", "granian": "--port={port}"}
"""For commands that leave the port to the server's default."""


@pytest.mark.parametrize(("program", "options"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_the_pages_command_starts_the_server(program: str, options: str, tmp_path: Path) -> None:
    need(MODULES.get(program, program))
    (tmp_path / "shop.py").write_text("from served import application as app\n")
    port = free_port()
    script = Path(sys.executable).parent / ("pyuwsgi" if program == "uwsgi" else program)
    words = [*options.replace("8000", str(port)).split(), PORT_OPTION.get(program, "")]
    command = [str(script), *(word.format(port=port) for word in words if word)]

    url = f"file://{tmp_path}/sessions"
    with started(command, port, url, tmp_path / "log", path=tmp_path):
        browser = Browser(Server(program, KINDS["wsgiref"], port))

        assert [browser.json("/count")["n"] for _ in range(3)] == [1, 2, 3]


def test_the_page_starts_every_server_that_is_tested() -> None:
    named = {"waitress-serve": "waitress"}

    assert {named.get(program, program) for program, _ in COMMANDS} == {
        name.partition("-")[0] for name in KINDS if name != "wsgiref"
    }
