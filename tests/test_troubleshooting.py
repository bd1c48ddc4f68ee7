"""The lines that the page on troubleshooting shows are those that appear."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acts import put, read, sending, started, token
from ports import free_port
from wsgi import Site, call, environ
from wsgi_sessions import Cookie, Lifetime
from wsgi_sessions.stores import MemoryStore

PAGE = (Path(__file__).parent.parent / "docs" / "troubleshooting.md").read_text("utf-8")
SHOWN = [
    line
    for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def bad_signatures() -> None:
    site, browser = started()
    another_secret, another_store = token(browser).swapcase(), "s1.ABCD.EFGH"
    for value in (another_secret, another_store, "eyJhIjoxfQ.ZwABCD.sig", token(browser)[:-1]):
        site.run(sending(site, f"session={value}"), read)


def a_store_that_forgot() -> None:
    site, browser = started()
    site.store.clear()
    site.run(browser, read)


def several_processes() -> None:
    for store in (None, MemoryStore()):
        site = Site(store=store)
        site.routes["/"] = read
        call(site.middleware, environ() | {"wsgi.multiprocess": True}, check=False)
        forget_what_was_explained()


def insecure() -> None:
    site = Site(cookie=Cookie(secure=True))
    site.run(site.browser(), put(a=1))


def lifetimes() -> None:
    site, browser = started()

    def ask(session: Any) -> None:
        session.lifetime = Lifetime(idle=7 * 86400)

    site.run(browser, ask)
    site.clock.advance(2 * 86400)
    site.run(browser, read)


def cookies() -> None:
    site, browser = started()
    other = site.browser()
    site.run(other, put(b=1))
    site.run(sending(site, f"session={token(browser)}; session={token(other)}"), read)
    elsewhere = Site(cookie=Cookie(domain="example.com"))
    elsewhere.run(elsewhere.browser(HTTP_HOST="localhost:8000"), put(a=1))
    site.run(sending(site, "a=" + "x" * (20_051 - 98 - 1) + f"; session={token(browser)}"), read)


def damage() -> None:
    site, browser = started()
    (key,) = site.store.keys()
    from wsgi_sessions.record import Changes

    site.store.update(key, Changes(set={"a": b"{"}))
    site.run(browser, lambda session: session.get("a"))


def proxies() -> None:
    for hops, headers, number in (
        (0, {"HTTP_X_FORWARDED_PROTO": "https"}, 1),
        (1, {}, 5),
        (1, {"HTTP_X_FORWARDED_FOR": "192.0.2.7, 192.0.2.8", "HTTP_X_FORWARDED_PROTO": "https"}, 5),
    ):
        site = Site(trusted_proxies=hops)
        site.routes["/"] = read
        for _ in range(number):
            call(site.middleware, environ() | headers, check=False)


def outage() -> None:
    _, browser = started()
    away = Site(store=f"redis://127.0.0.1:{free_port()}")
    away.run(sending(away, f"session={token(browser)}"), read)


SCENES: list[Callable[[], None]] = [
    bad_signatures,
    a_store_that_forgot,
    several_processes,
    insecure,
    lifetimes,
    cookies,
    damage,
    proxies,
    outage,
]


def forget_what_was_explained() -> None:
    from wsgi_sessions import events

    events._explained_in_process.clear()


def appears(shown: str, said: list[str]) -> bool:
    """Whether a line is one of those; where it ends in an ellipsis, one may go on."""
    beginning = shown.removesuffix("…").rstrip()
    return any(
        line == shown or (shown != beginning and line.startswith(beginning)) for line in said
    )


def test_the_lines_on_the_page_are_those_that_appear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="wsgi_sessions")
    for scene in SCENES:
        scene()
    said = [
        re.sub("handle [0-9a-f]{64}", "handle …", record.getMessage()) for record in caplog.records
    ]

    assert len(SHOWN) > 15
    assert [line for line in SHOWN if not appears(line, said)] == []


def test_a_line_that_never_appears_is_noticed() -> None:
    assert not appears("session event unknown", ["session event unknown_id"])
    assert not appears("nothing …", ["session event unknown_id"])
    assert appears("session …", ["session event unknown_id"])


def test_the_page_says_how_to_see_them() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    says = (
        "from wsgi_sessions.events import EventSink\n"
        "EventSink((), lambda: 0.0).emit('unknown_id')\n"
    )

    def run(set_up: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", set_up + says], capture_output=True, text=True, check=True
        )
        return done.stderr

    level_alone = "import logging\nlogging.getLogger('wsgi_sessions').setLevel('DEBUG')\n"
    assert run(code[1]) == "INFO wsgi_sessions: session event unknown_id\n"
    assert run(level_alone) == ""
