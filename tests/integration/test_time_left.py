"""examples/time_left.py under real servers: a stream ends when its session does."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import shop
from wsgi import SECRET

SERVERS = {
    "wsgiref": ("-c", "import time_left; time_left.serve({port})"),
    "gthread": ("-m", "gunicorn", "-k", "gthread", "--threads", "8", "-b", "127.0.0.1:{port}",
                "time_left:application"),
    "gevent": ("-m", "gunicorn", "-k", "gevent", "-b", "127.0.0.1:{port}",
               "time_left:application"),
}  # fmt: skip


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name == "wsgiref" else pytest.mark.slow) for name in SERVERS
    ]
)
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    store = f"file://{tmp_path}/sessions"
    command = SERVERS[request.param]
    with shop.running(*command, CHECK_SECONDS="0.1", STORE_URL=store, SECRET_KEY=SECRET) as base:
        yield int(base.rpartition(":")[2])


@contextmanager
def asked(
    port: int, method: str, path: str, cookie: str = ""
) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=100)) as connection:
        connection.request(method, path, headers={"Cookie": cookie} if cookie else {})
        with connection.getresponse() as answer:
            yield answer


def signed_in(port: int) -> str:
    with asked(port, "POST", "/sign-in") as answer:
        return (answer.headers["Set-Cookie"] or "").partition(";")[0]


def left(port: int, cookie: str = "") -> Any:
    with asked(port, "GET", "/left", cookie) as answer:
        assert answer.headers["Set-Cookie"] is None
        return json.load(answer)


def test_a_stream_ends_when_its_user_signs_out_in_another_tab(port: int) -> None:
    cookie = signed_in(port)
    with asked(port, "GET", "/events", cookie) as stream:
        assert b"still signed in" in stream.readline()

        with asked(port, "POST", "/sign-out", cookie):
            pass

        assert stream.read().endswith(b"event: signed-out\ndata:\n\n")


def test_asking_for_the_time_left_renews_nothing_and_staying_does(port: int) -> None:
    cookie = signed_in(port)

    first, second = left(port, cookie), left(port, cookie)
    while second["seconds"] > 179:
        time.sleep(0.1)
        second = left(port, cookie)
    # The second that was gained is lost again where the machine halts for longer.
    for _ in range(60):
        with asked(port, "POST", "/stay", cookie) as answer:
            assert answer.status == 204
        third = left(port, cookie)
        if third["seconds"] > second["seconds"]:
            break

    assert second["signed_in"] is True
    assert second["seconds"] < first["seconds"] <= 180
    assert third["seconds"] > second["seconds"]
    assert left(port)["signed_in"] is False
