"""A shop on another session system is replaced by ours, behind nginx, while its visitors click."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import servers
import wsgi_sessions
from carry_over import old
from ports import free_port
from programs import missing

pytestmark = pytest.mark.slow

WORLDS = Path(__file__).parent / "worlds"
VISITORS = 4
CLICKS = 6


class Visitor:
    """A browser that clicks, and that knows what it should see."""

    def __init__(self, base: str, name: str, cookies: list[http.cookiejar.Cookie] = []) -> None:  # noqa: B006 # it is only read
        self.base, self.name = base, name
        self.cart: list[str] = []
        self.jar = http.cookiejar.CookieJar()
        for cookie in cookies:
            self.jar.set_cookie(cookie)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )

    def click(self, what: str) -> Any:
        with self._opener.open(f"{self.base}/{what}", timeout=20) as answer:
            return json.load(answer)

    def add(self, item: str) -> None:
        self.cart.append(item)
        assert self.click(f"add?{item}") == [self.name, self.cart]

    def twin(self) -> Visitor:
        """Another window of the same browser, with the cookies of now."""
        return Visitor(self.base, self.name, list(self.jar))


class Shops:
    """Both shops, and nginx before them: the old one is asked first as long as it runs."""

    def __init__(self, system: str, files: Path, store: str) -> None:
        self.system, self.files = system, files
        self.old_port, self.new_port, self.port = free_port(), free_port(), free_port()
        self.environ = {
            **os.environ,
            "OLD_SYSTEM": system,
            "OLD_STORE": store,
            "NEW_STORE": f"file://{files / 'new'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(
        self, command: list[str], port: int, environ: dict[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        with (self.files / f"{port}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=self.files)
            try:
                servers.until(lambda: _answers(port), what=f"server for {command}")
                yield process
            finally:
                process.terminate()
                process.wait(timeout=30)

    def nginx(self) -> contextlib.AbstractContextManager[object]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "\n".join(f"{kind}_temp_path {self.files}/{kind};" for kind in kinds)
        config = self.files / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {self.files}/nginx.pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ access_log off; {paths}\n"
            f"upstream shop {{ server 127.0.0.1:{self.old_port} max_fails=0;"
            f" server 127.0.0.1:{self.new_port} max_fails=0 backup; }}\n"
            f"server {{ listen 127.0.0.1:{self.port}; location / {{\n"
            "proxy_pass http://shop; proxy_next_upstream error timeout non_idempotent;\n"
            "proxy_set_header X-Forwarded-For $remote_addr;\n"
            "proxy_set_header X-Forwarded-Proto $scheme; } } }\n"
        )
        nginx = shutil.which("nginx") or "nginx"
        command = [nginx, "-p", str(self.files), "-e", "stderr", "-c", str(config)]
        return self.running(command, self.port, self.environ)

    def old(self) -> contextlib.AbstractContextManager[object]:
        if self.system == "express":
            modules = old._node_place("today") / "node_modules"
            environ = {**self.environ, "NODE_PATH": str(modules), "PORT": str(self.old_port)}
            return self.running(["node", str(WORLDS / "old_shop.cjs")], self.old_port, environ)
        path = os.pathsep.join([str(old._python_place("today")), str(WORLDS)])
        environ = {**self.environ, "PYTHONPATH": path}
        return self.running(_gunicorn("old_shop", self.old_port), self.old_port, environ)

    def new(self) -> contextlib.AbstractContextManager[object]:
        package = Path(wsgi_sessions.__file__).parents[1]
        environ = {**self.environ, "PYTHONPATH": os.pathsep.join([str(package), str(WORLDS)])}
        return self.running(_gunicorn("new_shop", self.new_port), self.new_port, environ)


def _gunicorn(module: str, port: int) -> list[str]:
    options = ["--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "2"]
    return [sys.executable, "-m", "gunicorn", *options, f"{module}:application"]


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


@pytest.fixture(params=["beaker", "flask-session", "django", "express"])
def shops(request: pytest.FixtureRequest, tmp_path: Path) -> Shops:
    system: str = request.param
    request.getfixturevalue("old_node" if system == "express" else "old_python")
    if shutil.which("nginx") is None:
        missing("proxies", "there is no nginx")
    store = tmp_path / "old"
    store.mkdir()
    where = request.getfixturevalue("redis_url") if system == "express" else str(store)
    return Shops(system, tmp_path, where)


def click_on(visitor: Visitor, halfway: threading.Barrier, replaced: threading.Event) -> None:
    """Fill the cart, and go on while the shop is replaced, and afterwards."""
    for number in range(CLICKS):
        visitor.add(f"old{number}")
    halfway.wait(timeout=60)
    number = 0
    while not replaced.is_set():
        visitor.add(f"meanwhile{number}")
        number = number + 1
    for number in range(CLICKS):
        visitor.add(f"new{number}")


def test_nobody_is_signed_out_when_the_shop_is_replaced(shops: Shops) -> None:
    visitors = [Visitor(shops.base, f"user{number}") for number in range(VISITORS)]
    idle = Visitor(shops.base, "idle")
    halfway, replaced = threading.Barrier(VISITORS + 1), threading.Event()
    with (
        contextlib.ExitStack() as after,
        shops.nginx(),
        ThreadPoolExecutor(VISITORS) as clicking,
    ):
        with shops.old(), contextlib.suppress(threading.BrokenBarrierError):
            for visitor in (*visitors, idle):
                visitor.click(f"login?{visitor.name}")
            idle.add("tea")
            clicks = [clicking.submit(click_on, one, halfway, replaced) for one in visitors]
            halfway.wait(timeout=60)
            after.enter_context(shops.new())
        replaced.set()
        for done in clicks:
            done.result(timeout=60)

        # Racing first requests meet in one session.
        windows = [idle.twin() for _ in range(8)]
        with ThreadPoolExecutor(8) as racing:
            seen = list(racing.map(lambda window: window.click("handle"), windows))
        assert {owner for _, owner in seen} == {"idle"}
        assert len({handle for handle, _ in seen}) == 1
        assert idle.twin().click("cart") == ["idle", ["tea"]]

        # Signing out is final, for every window and for the old cookie.
        assert windows[0].click("logout") == [None, []]
        assert [window.click("cart") for window in (*windows, idle)] == [[None, []]] * 9

        # The old shop, put back, has everybody as they were.
        after.close()
        with shops.old():
            for visitor in visitors:
                name, cart = visitor.click("cart")
                assert name == visitor.name
                assert cart == visitor.cart[: len(cart)]
                assert len(cart) >= CLICKS
