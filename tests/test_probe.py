"""ProxyProbe: which number is right, seen at a glance, and nothing else given away."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import waitress  # type: ignore[import-untyped] # it has no types
from hypothesis import given
from hypothesis import strategies as st

from wsgi import SECRET
from wsgi_sessions import SessionMiddleware, proxies
from wsgi_sessions.proxies import PROBLEMS, as_trusted_proxies, resolve_client, rewrite_environ
from wsgi_sessions.proxies.advice import ENOUGH
from wsgi_sessions.proxies.probe import ProxyProbe, survey

FORGED = "192.0.2.66"


def environ(**changes: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "app.example:8000",
        "SERVER_NAME": "app.example",
        "SERVER_PORT": "8000",
        "SCRIPT_NAME": "/proxy",
        "PATH_INFO": "/",
        "REMOTE_ADDR": "10.0.0.9",
        "QUERY_STRING": "",
        **changes,
    }


def fetch(made: dict[str, Any]) -> tuple[dict[str, str], str]:
    headers: dict[str, str] = {}

    def start_response(status: str, given: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert status == "200 OK"
        headers.update(given)

    return headers, b"".join(ProxyProbe()(made, start_response)).decode("utf-8")


def for_and_proto(chain: str, proto: str | None = "https", **changes: Any) -> dict[str, Any]:
    made = environ(HTTP_X_FORWARDED_FOR=chain, **changes)
    if proto is not None:
        made["HTTP_X_FORWARDED_PROTO"] = proto
    return made


@pytest.mark.parametrize(
    ("made", "setting"),
    [
        pytest.param(environ(), "trusted_proxies=0", id="no proxy"),
        pytest.param(for_and_proto("203.0.113.7"), "trusted_proxies=1", id="one"),
        pytest.param(for_and_proto("203.0.113.7, 10.0.0.2"), "trusted_proxies=2", id="two"),
        pytest.param(
            for_and_proto("203.0.113.7, 10.0.0.2", "https, http"),
            "trusted_proxies=TrustedProxies(hops=2, proto=2)",
            id="each appends its scheme",
        ),
        pytest.param(
            for_and_proto("203.0.113.7", None),
            "trusted_proxies=TrustedProxies(hops=1, proto=0)",
            id="nobody says the scheme",
        ),
        pytest.param(
            environ(HTTP_FORWARDED="for=203.0.113.7;proto=https, for=10.0.0.2;proto=http"),
            "trusted_proxies=TrustedProxies(hops=2, header='forwarded')",
            id="Forwarded",
        ),
        pytest.param(
            environ(HTTP_FORWARDED="for=203.0.113.7"),
            "trusted_proxies=TrustedProxies(hops=1, proto=0, header='forwarded')",
            id="Forwarded without a scheme",
        ),
        pytest.param(
            for_and_proto(", ".join(["10.0.0.1"] * 50)), "trusted_proxies=10", id="endless chain"
        ),
    ],
)
def test_a_visit_by_browser_shows_the_setting(made: dict[str, Any], setting: str) -> None:
    right = survey(made)["right"]

    assert right["setting"] == setting
    assert right["sure"] is False


@pytest.mark.parametrize(
    ("chain", "proto", "setting"),
    [
        pytest.param(FORGED, "selftest", "trusted_proxies=0", id="nobody appends"),
        pytest.param(f"{FORGED}, 203.0.113.7", "https", "trusted_proxies=1", id="appending"),
        pytest.param("203.0.113.7", "https", "trusted_proxies=1", id="replacing"),
        pytest.param(
            f"{FORGED}, 203.0.113.7, 10.0.0.2", "https", "trusted_proxies=2", id="two appending"
        ),
        pytest.param(
            "203.0.113.7, 10.0.0.2", "https", "trusted_proxies=2", id="replacing, appending"
        ),
        pytest.param(
            f"{FORGED}, 203.0.113.7",
            "selftest, https",
            "trusted_proxies=1",
            id="the scheme is appended",
        ),
        pytest.param(
            f"{FORGED}, 203.0.113.7",
            "selftest",
            "trusted_proxies=TrustedProxies(hops=1, proto=0)",
            id="the scheme is passed on",
        ),
    ],
)
def test_the_self_test_tells_what_proxies_wrote_from_what_the_client_wrote(
    chain: str, proto: str, setting: str
) -> None:
    made = for_and_proto(
        chain, proto, QUERY_STRING="selftest", HTTP_FORWARDED=f"for={FORGED};proto=selftest"
    )

    found = survey(made)

    assert found["right"]["setting"] == setting
    assert found["right"]["sure"] is True


def test_the_self_test_finds_the_family_that_the_proxies_write() -> None:
    made = for_and_proto(
        FORGED,
        "selftest",
        QUERY_STRING="selftest",
        HTTP_FORWARDED=f"for={FORGED};proto=selftest, for=203.0.113.7;proto=https",
    )

    assert survey(made)["right"]["setting"] == (
        "trusted_proxies=TrustedProxies(hops=1, header='forwarded')"
    )


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_the_setting_that_is_shown_finds_the_client(hops: int) -> None:
    inner = [f"10.0.0.{n}" for n in range(hops - 1)]
    made = for_and_proto(", ".join([FORGED, "203.0.113.7", *inner]), QUERY_STRING="selftest")

    found = survey(made)

    setting = found["right"]["setting"]
    assert setting == f"trusted_proxies={hops}"
    assert resolve_client(made, hops).ip == "203.0.113.7"
    assert [row["verdict"] for row in found["settings"]] == [
        *["low"] * hops,
        "right",
        *["high"] * 2,
    ]
    assert found["settings"][hops]["ip"] == "203.0.113.7"
    assert found["settings"][hops + 1]["ip"] == FORGED


def test_the_chain_says_who_saw_whom() -> None:
    made = for_and_proto(f"{FORGED}, 203.0.113.7, 10.0.0.2", QUERY_STRING="selftest")

    chain = survey(made)["chain"]

    assert [(hop["address"], hop["seen_by"], hop["believable"]) for hop in chain] == [
        ("10.0.0.9", "this server", True),
        ("10.0.0.2", "proxy 1", True),
        ("203.0.113.7", "proxy 2", True),
        (FORGED, "nobody: the client wrote it", False),
    ]


def test_a_unix_socket_is_named() -> None:
    made = for_and_proto("203.0.113.7", REMOTE_ADDR="")

    found = survey(made)

    assert found["chain"][0]["address"] == "a unix socket"
    assert "peers=('unix',)" in " ".join(found["warnings"])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (for_and_proto("203.0.113.7", None), "No proxy says whether the client used https"),
        (environ(HTTP_X_FORWARDED_PROTO="https"), "none sets X-Forwarded-For"),
        (for_and_proto(FORGED, QUERY_STRING="selftest"), "arrived just as it was sent"),
        (for_and_proto("203.0.113.7", HTTP_FORWARDED="for=203.0.113.7"), "Both"),
        (for_and_proto("203.0.113.7", HTTP_X_PROXY_PROBE="1"), "underscores"),
        (for_and_proto("203.0.113.7", REMOTE_ADDR="localhost"), "unix socket"),
    ],
)
def test_what_is_wrong_is_said(made: dict[str, Any], says: str) -> None:
    warnings = survey(made)["warnings"]

    assert any(says in warning for warning in warnings), warnings


def test_a_sound_chain_has_no_warnings() -> None:
    assert survey(for_and_proto("203.0.113.7, 10.0.0.2"))["warnings"] == []
    assert survey(environ())["warnings"] == []


def test_inside_the_middleware_the_originals_count_and_the_present_setting_is_shown() -> None:
    made = for_and_proto("203.0.113.7, 10.0.0.2")
    outside = survey(made)
    rewrite_environ(made, as_trusted_proxies(1))

    inside = survey(made)

    assert outside["now"] is None
    assert inside["now"] == {
        "ip": "10.0.0.2",
        "scheme": "https",
        "host": "app.example:8000",
        "problems": {},
    }
    assert {**inside, "now": None} == outside
    assert "current setting" in fetch(made)[1]
    assert "current setting" not in fetch(for_and_proto("203.0.113.7"))[1]


# The answer


@pytest.mark.parametrize(
    ("changes", "is_json"),
    [
        ({}, False),
        ({"HTTP_ACCEPT": "text/html,application/xhtml+xml,*/*;q=0.8"}, False),
        ({"HTTP_ACCEPT": "application/json"}, True),
        ({"HTTP_ACCEPT": "application/json, text/html"}, False),
        ({"QUERY_STRING": "format=json"}, True),
        ({"QUERY_STRING": "selftest&format=json", "HTTP_ACCEPT": "text/html"}, True),
        ({"QUERY_STRING": "format=html", "HTTP_ACCEPT": "application/json"}, False),
    ],
)
def test_json_for_programs_and_a_page_for_people(changes: dict[str, str], is_json: bool) -> None:
    made = for_and_proto("203.0.113.7", **changes)

    headers, body = fetch(made)

    assert headers["Content-Type"] == (
        "application/json" if is_json else "text/html; charset=utf-8"
    )
    if is_json:
        assert json.loads(body) == survey(made)
    else:
        assert "<code>trusted_proxies=1</code>" in body


@pytest.mark.parametrize("query", ["", "format=json"])
def test_the_answer_is_kept_nowhere_and_stays_among_itself(query: str) -> None:
    headers, body = fetch(environ(QUERY_STRING=query))

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Robots-Tag"] == "noindex"
    assert headers["Content-Length"] == str(len(body.encode()))
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_policy_allows_the_pages_own_style_and_script_alone() -> None:
    headers, body = fetch(environ())

    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in headers["Content-Security-Policy"]
    assert not re.search(r"\bstyle=|\bon\w+=|src=|href=", body)


def test_head_has_no_body() -> None:
    headers, body = fetch(environ(REQUEST_METHOD="HEAD"))

    assert body == ""
    assert int(headers["Content-Length"]) > 1000


def test_cookies_and_other_headers_are_not_shown() -> None:
    made = for_and_proto(
        "203.0.113.7", HTTP_COOKIE="session=tOp", HTTP_AUTHORIZATION="Bearer tOp", HTTP_X_KEY="tOp"
    )

    assert "tOp" not in fetch(made)[1]
    assert "tOp" not in json.dumps(survey(made))


class Tags(HTMLParser):
    """Collects the tags of a page, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))


def tags_of(page: str) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    parser = Tags()
    parser.feed(page)
    return parser.tags


EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&\r\n\x00\x1b[31m\xff"


def test_nothing_that_arrives_becomes_markup() -> None:
    keys = ("REMOTE_ADDR", "HTTP_HOST", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO")
    more = ("HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PREFIX", "HTTP_FORWARDED", "PATH_INFO")
    evil = environ(**dict.fromkeys((*keys, *more, "SCRIPT_NAME"), EVIL))
    tame = environ(**dict.fromkeys((*keys, *more, "SCRIPT_NAME"), "x"))

    page = fetch(evil)[1]

    assert tags_of(page) == tags_of(fetch(tame)[1])
    assert not re.search(r"[\x00\x1b\r]", page)


@pytest.mark.parametrize("path", ["/'; rm -rf /; '", "/$(reboot)", "/`reboot`", "/\n", "/\u20ac"])
def test_no_path_breaks_out_of_the_line_for_the_shell(path: str) -> None:
    page = fetch(environ(PATH_INFO=path))[1]

    (line,) = re.findall(r'<span id="here">(.*?)</span>', page, re.DOTALL)
    assert re.fullmatch(r"http://app\.example:8000/proxy/[A-Za-z0-9%/._~-]*", line)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("REMOTE_ADDR", "HTTP_HOST", "QUERY_STRING", "HTTP_FORWARDED", "HTTP_ACCEPT"),
                *("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_PROXY_PROBE"),
            ]
        ),
        st.text(st.characters(max_codepoint=0xFF))
        | st.lists(st.sampled_from([FORGED, "1.2.3.4", "for=", '"', ",", ";", "selftest"])).map(
            "".join
        ),
    )
)
def test_whatever_arrives_is_shown(changes: dict[str, str]) -> None:
    made = environ(**changes)

    found = survey(made)

    fetch(made)
    assert sum(row["verdict"] == "right" for row in found["settings"]) == 1
    assert all(set(row["problems"]) <= set(PROBLEMS) for row in found["settings"])
    assert len(json.dumps(found)) < 30_000


def test_proxies_offers_the_probe() -> None:
    assert proxies.ProxyProbe is ProxyProbe
    with pytest.raises(AttributeError, match="no attribute 'Probe'"):
        proxies.Probe  # type: ignore[attr-defined] # that is what is tested  # noqa: B018


# Servers that merge header names, and servers that don't


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


@contextmanager
def wsgiref_server() -> Iterator[int]:
    with make_server("127.0.0.1", 0, ProxyProbe(), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def waitress_server(app: Any = None, **options: Any) -> Iterator[int]:
    server = waitress.create_server(
        app or ProxyProbe(), host="127.0.0.1", port=0, threads=1, **options
    )
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            server.asyncore.loop(timeout=0.01, map=server._map, count=1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.effective_port
    finally:
        stop.set()
        thread.join()
        server.task_dispatcher.shutdown()
        server.asyncore.close_all(server._map)


def self_test(port: int) -> dict[str, Any]:
    """The answer to the line that the page gives for a terminal, sent without any proxy."""
    headers = {"X_Proxy_Probe": "1", "X-Forwarded-For": FORGED, "X-Forwarded-Proto": "selftest"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/?selftest&format=json", headers=headers)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    return found


@pytest.mark.parametrize(("server", "merges"), [(wsgiref_server, True), (waitress_server, False)])
def test_the_self_test_shows_whether_underscores_are_merged(server: Any, merges: bool) -> None:
    with server() as port:
        warnings = self_test(port)["warnings"]

    assert any("underscores" in warning for warning in warnings) is merges


def test_a_server_that_removes_the_headers_is_named() -> None:
    with waitress_server() as port:
        removed = self_test(port)
    with waitress_server(clear_untrusted_proxy_headers=False) as port:
        passed_on = self_test(port)

    assert "clear_untrusted_proxy_headers=False" in " ".join(removed["warnings"])
    assert "clear_untrusted_proxy_headers" not in " ".join(passed_on["warnings"])
    assert [hop["address"] for hop in passed_on["chain"]] == ["127.0.0.1", FORGED]


@pytest.mark.parametrize(
    ("options", "said"), [({}, 1), ({"clear_untrusted_proxy_headers": False}, 0)]
)
def test_p3_where_waitress_removes_the_headers_the_log_names_its_option_once(
    options: dict[str, bool], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = SessionMiddleware(ProxyProbe(), secret_key=SECRET, trusted_proxies=1)

    with waitress_server(app, **options) as port:
        for _ in range(2 * ENOUGH):
            self_test(port)

    assert caplog.text.count("clear_untrusted_proxy_headers=False") == said
