"""Who the client is behind proxies: the table of cases, more rows by rule, and what never may be."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix

import wsgi_sessions
from wsgi_sessions.errors import ConfigurationError
from wsgi_sessions.proxies import (
    CLIENT_KEY,
    ORIGINAL_KEY,
    PROBLEMS,
    PROXY_FIX_KEY,
    Client,
    TrustedProxies,
    as_trusted_proxies,
    original_environ,
    resolve_client,
    rewrite_environ,
)

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "proxy_cases.jsonl").read_text().splitlines()
]
BASE = {
    "wsgi.url_scheme": "http",
    "HTTP_HOST": "app.int:8000",
    "SERVER_NAME": "app.int",
    "SERVER_PORT": "8000",
    "SCRIPT_NAME": "",
    "REMOTE_ADDR": "10.0.0.9",
}
FOR, PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"
HOST, PORT, PREFIX = "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_PREFIX"
FWD = "HTTP_FORWARDED"
CLIENT = "203.0.113.7"
ALL = TrustedProxies(hops=1, host=1, port=1, prefix=1)
RFC7239 = TrustedProxies(hops=1, host=1, header="forwarded")
TENS = TrustedProxies(networks=("10.0.0.0/8",))


def environ(**changes: Any) -> dict[str, Any]:
    """The base environ with changes; a key given as None is absent."""
    made = {**BASE, **changes}
    return {key: value for key, value in made.items() if value is not None}


def through(header: str, **changes: Any) -> dict[str, Any]:
    """An environ as one proxy makes it that knows the scheme, too."""
    return environ(**{FOR: header, PROTO: "https", **changes})


# The table that the design refers to


@pytest.mark.parametrize("case", CASES, ids=[f"{case['id']}-{case['case']}" for case in CASES])
def test_the_table_of_cases(case: dict[str, Any]) -> None:
    config = case["config"]
    want = case["expect"]

    client = resolve_client(case["environ"], config and TrustedProxies(**config))

    assert client == Client(
        ip=want["client"],
        scheme=want["scheme"],
        host=want["host"],
        port=want["port"],
        prefix=want["prefix"],
        problems=tuple(want["problems"]),
    )


# No proxies: the environ's own word


@pytest.mark.parametrize("nothing", [None, 0, TrustedProxies(), TrustedProxies(host=1, prefix=1)])
def test_without_hops_no_header_of_a_proxy_is_read(nothing: Any) -> None:
    loaded = environ(
        **{
            FOR: "6.6.6.6",
            PROTO: "https",
            HOST: "evil.example",
            PORT: "1",
            PREFIX: "/evil",
            FWD: "for=6.6.6.6",
        }
    )

    assert resolve_client(loaded, nothing) == Client(
        "10.0.0.9", "http", "app.int:8000", 8000, "", ()
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"REMOTE_ADDR": "2001:DB8:0::1"}, {"ip": "2001:db8::1"}, id="IPv6 normalised"),
        pytest.param({"REMOTE_ADDR": "::ffff:1.2.3.4"}, {"ip": "1.2.3.4"}, id="IPv4-mapped"),
        pytest.param({"REMOTE_ADDR": ""}, {"ip": None}, id="unix socket"),
        pytest.param({"REMOTE_ADDR": None}, {"ip": None}, id="no address"),
        pytest.param({"REMOTE_ADDR": "localhost"}, {"ip": None}, id="unix socket as a name"),
        pytest.param({"REMOTE_ADDR": "0.0.0.0"}, {"ip": None}, id="unspecified is nobody"),
        pytest.param({"REMOTE_ADDR": "x" * 10_000}, {"ip": None}, id="long garbage"),
        pytest.param({"wsgi.url_scheme": "https"}, {"scheme": "https"}, id="TLS by the server"),
        pytest.param({"wsgi.url_scheme": "gopher"}, {"scheme": "http"}, id="odd scheme"),
        pytest.param(
            {"HTTP_HOST": "Shop.Example"},
            {"host": "Shop.Example", "port": 8000},
            id="the host header as it came",
        ),
        pytest.param({"SCRIPT_NAME": "/app"}, {"prefix": "/app"}, id="mounted"),
        pytest.param({"HTTP_HOST": None}, {"host": "app.int:8000"}, id="HTTP/1.0: server name"),
        pytest.param(
            {"HTTP_HOST": None, "SERVER_PORT": "80"},
            {"host": "app.int", "port": 80},
            id="HTTP/1.0: the default port is left out",
        ),
        pytest.param(
            {"HTTP_HOST": None, "SERVER_NAME": None}, {"host": ""}, id="neither host nor server"
        ),
        pytest.param({"SCRIPT_NAME": None}, {"prefix": ""}, id="no script name"),
        pytest.param({"HTTP_HOST": "a b<script>"}, {"host": "app.int:8000"}, id="no host at all"),
        pytest.param({"HTTP_HOST": "x" * 10_000}, {"host": "app.int:8000"}, id="endless host"),
        pytest.param(
            {"HTTP_HOST": None, "SERVER_NAME": "::1"},
            {"host": "[::1]:8000"},
            id="IPv6 server name without brackets",
        ),
        pytest.param(
            {"HTTP_HOST": None, "SERVER_NAME": "/run/app.sock", "SERVER_PORT": ""},
            {"host": "", "port": 80},
            id="unix socket as server name",
        ),
        pytest.param(
            {"HTTP_HOST": "shop.example:8443", "SERVER_PORT": ""},
            {"host": "shop.example:8443", "port": 8443},
            id="no server port: the host's",
        ),
        pytest.param(
            {"HTTP_HOST": "shop.example", "SERVER_PORT": None, "wsgi.url_scheme": "https"},
            {"host": "shop.example", "port": 443, "scheme": "https"},
            id="no port anywhere: the scheme's default",
        ),
    ],
)
def test_without_hops_the_client_is_what_the_environ_says(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    client = resolve_client(environ(**changes), 0)

    assert client == Client("10.0.0.9", "http", "app.int:8000", 8000, "", ())._replace(**expected)


def test_resolving_changes_nothing() -> None:
    made = through("6.6.6.6, 203.0.113.7")
    before = dict(made)

    resolve_client(made, 1)

    assert made == before


# Counting from the right


@pytest.mark.parametrize(
    ("hops", "header", "ip", "problem"),
    [
        pytest.param(1, "1.1.1.1,203.0.113.7", CLIENT, None, id="no blank after the comma"),
        pytest.param(1, "\t203.0.113.7\t ", CLIENT, None, id="tabs are blanks"),
        pytest.param(1, "203.0.113.7,", None, "for_malformed", id="empty last entry counts"),
        pytest.param(2, "203.0.113.7,", CLIENT, None, id="empty last entry counts as one hop"),
        pytest.param(2, ",203.0.113.7", None, "for_malformed", id="empty first entry counts"),
        pytest.param(3, "203.0.113.7,,1.1.1.1", CLIENT, None, id="empty middle entry counts"),
        pytest.param(1, " ", None, "for_malformed", id="blank header"),
        pytest.param(2, "", None, "for_short", id="empty header is one entry"),
        pytest.param(2, CLIENT, None, "for_short", id="fewer than hops"),
        pytest.param(10, ", ".join(["1.1.1.1"] * 9), None, "for_short", id="9 entries, 10 hops"),
        pytest.param(10, ", ".join([CLIENT, *["1.1.1.1"] * 9]), CLIENT, None, id="10 hops"),
        pytest.param(1, '"6.6.6.6, 203.0.113.7', CLIENT, None, id="an open quote swallows nothing"),
        pytest.param(1, '6.6.6.6", "203.0.113.7"', None, "for_malformed", id="quoted address"),
        pytest.param(1, '"1.1.1.1, 203.0.113.7"', None, "for_malformed", id="quoted list"),
        pytest.param(1, "6.6.6.6;203.0.113.7", None, "for_malformed", id="semicolon"),
        pytest.param(1, "6.6.6.6\x0b, 203.0.113.7", CLIENT, None, id="control on the left"),
        pytest.param(1, "203.0.113.7\x0b", None, "for_malformed", id="vertical tab is no blank"),
        pytest.param(1, "203.0.113.7\r\n", None, "for_malformed", id="line end is no blank"),
        pytest.param(1, "6.6.6.6\n203.0.113.7", None, "for_malformed", id="line end inside"),
        pytest.param(
            1, "203.0.113.7, unknown", None, "for_malformed", id="a neighbour is not tried"
        ),
        pytest.param(2, "203.0.113.7, unknown", CLIENT, None, id="nearer garbage has no effect"),
        pytest.param(1, "x" * 10_000 + ", 203.0.113.7", CLIENT, None, id="long garbage"),
        pytest.param(1, CLIENT + " " * 1000, None, "for_malformed", id="endless entry"),
    ],
)
def test_the_nth_entry_from_the_right_is_the_client(
    hops: int, header: str, ip: str | None, problem: str | None
) -> None:
    client = resolve_client(through(header), hops)

    assert (client.ip, client.problems) == (ip, () if problem is None else (problem,))
    assert client.scheme == "https"


@pytest.mark.parametrize("entries", range(5))
@pytest.mark.parametrize("hops", range(5))
def test_hops_against_entries(hops: int, entries: int) -> None:
    addresses = [f"192.0.2.{n}" for n in range(entries)]
    made = environ(**{FOR: ", ".join(addresses) if entries else None, PROTO: "https"})

    client = resolve_client(made, hops)

    if hops == 0:
        assert client.ip == "10.0.0.9"
    elif hops > entries:
        assert client.ip is None
        assert client.problems == (("for_short",) if entries else ("for_absent",))
    else:
        assert client.ip == addresses[-hops]


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("203.0.113.7:1", CLIENT),
        ("203.0.113.7:65535", CLIENT),
        ("203.0.113.7:0", None),
        ("203.0.113.7:65536", None),
        ("203.0.113.7:", None),
        ("203.0.113.7:+80", None),
        ("203.0.113.7:8_0", None),
        ("203.0.113.7:\xb2", None),
        ("203.0.113.7:80:80", None),
        ("203.0.113.07", None),
        ("010.0.0.1", None),
        ("203.0.113.256", None),
        ("203.0.113", None),
        ("203.0.113.7.1", None),
        ("0x7f.0.0.1", None),
        ("017700000001", None),
        ("-1.2.3.4", None),
        ("0.0.0.0", None),
        ("0.0.0.0:80", None),
        ("::", None),
        ("[::]", None),
        ("::ffff:0.0.0.0", None),
        ("255.255.255.255", "255.255.255.255"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("2001:db8::7:80", "2001:db8::7:80"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:80", "2001:db8::7"),
        ("[2001:db8::7]:0", None),
        ("[2001:db8::7]:", None),
        ("[2001:db8::7]80", None),
        ("2001:db8::7]", None),
        ("[[2001:db8::7]]", None),
        ("[]", None),
        ("2001:db8::7::1", None),
        (":::", None),
        ("::ffff:203.0.113.7", CLIENT),
        ("[::FFFF:cb00:7107]:80", CLIENT),
        ("::ffff:203.0.113.07", None),
        ("2001:db8::203.0.113.7", "2001:db8::cb00:7107"),
        ("fe80::1%25eth0", None),
        ("[fe80::1%eth0]", None),
        ("fe80::1%", None),
        ("localhost", None),
        ("_hidden", None),
        ("for=203.0.113.7", None),
        ("203.0.113.7%", None),
        ("203.0.113.7 ", CLIENT),
        ("203.0.113.7\x00", None),
        ("\xa0203.0.113.7", None),
        ("203.0.113.7/32", None),
        ("X203.0.113.7", None),
        ("\uff11.2.3.4", None),
    ],
)
def test_the_grammar_of_an_address(text: str, ip: str | None) -> None:
    client = resolve_client(through(text), 1)

    assert client.ip == ip
    assert client.problems == (() if ip else ("for_malformed",))


# Scheme


@pytest.mark.parametrize(
    ("header", "scheme", "problem"),
    [
        ("https", "https", None),
        ("HTTPS", "https", None),
        ("hTTp", "http", None),
        (" https\t", "https", None),
        ("http, https", "https", None),
        ("https,", "http", "proto_malformed"),
        ("https, ", "http", "proto_malformed"),
        ("", "http", "proto_malformed"),
        ("wss:", "http", "proto_malformed"),
        ("wsss", "http", "proto_malformed"),
        ("on", "http", "proto_malformed"),
        ("443", "http", "proto_malformed"),
        ('"https"', "http", "proto_malformed"),
        ("https:", "http", "proto_malformed"),
        ("https;", "http", "proto_malformed"),
        ("https http", "http", "proto_malformed"),
        ("javascript", "http", "proto_malformed"),
        ("https\x00", "http", "proto_malformed"),
        ("http\u017f", "http", "proto_malformed"),
        ("x" * 100_000, "http", "proto_malformed"),
        (None, "http", "proto_absent"),
    ],
)
@pytest.mark.parametrize("own", ["http", "https"])
def test_the_scheme_is_the_proxies_word_and_http_without_it(
    own: str, header: str | None, scheme: str, problem: str | None
) -> None:
    made = environ(**{FOR: CLIENT, PROTO: header, "wsgi.url_scheme": own})

    client = resolve_client(made, 1)

    assert (client.scheme, client.problems) == (scheme, () if problem is None else (problem,))
    assert client.ip == CLIENT


@pytest.mark.parametrize(
    ("header", "scheme"),
    [("wss", "https"), ("WSS", "https"), ("ws", "http"), ("http, Wss", "https")],
)
def test_p1_a_websocket_scheme_counts_as_its_http_one(header: str, scheme: str) -> None:
    # RFC 6455 section 3; Traefik sends them with the handshake.
    by_list = resolve_client(environ(**{FOR: CLIENT, PROTO: header}), 1)
    element = f"for={CLIENT};proto={header.rpartition(' ')[2]}"
    by_element = resolve_client(environ(**{FWD: element}), TrustedProxies(1, header="forwarded"))

    assert by_list == by_element
    assert (by_list.scheme, by_list.problems) == (scheme, ())


def test_p1_the_default_port_of_a_websocket_is_the_one_of_its_http_scheme() -> None:
    client = resolve_client(through(CLIENT, **{PROTO: "wss", HOST: "shop.example:443"}), ALL)

    assert (client.scheme, client.host, client.port) == ("https", "shop.example", 443)


@pytest.mark.parametrize(("own", "scheme"), [("wss", "https"), ("ws", "http"), ("WSS", "https")])
def test_p1_a_server_that_says_so_itself_is_understood_too(own: str, scheme: str) -> None:
    assert resolve_client(environ(**{"wsgi.url_scheme": own}), 0).scheme == scheme


def test_p1_the_app_sees_the_http_scheme_of_a_websocket() -> None:
    made = environ(**{FOR: CLIENT, PROTO: "wss"})

    rewrite_environ(made, as_trusted_proxies(1))

    assert made["wsgi.url_scheme"] == "https"


def test_proto_has_a_count_of_its_own() -> None:
    made = through(f"{CLIENT}, 198.51.100.2", HTTP_X_FORWARDED_PROTO="http, https, http")

    schemes = [resolve_client(made, TrustedProxies(2, proto=n)).scheme for n in (1, 2, 3)]

    assert schemes == ["http", "https", "http"]


def test_proto_0_leaves_the_scheme_to_the_server() -> None:
    made = through(CLIENT, **{"wsgi.url_scheme": "https", PROTO: "http"})

    client = resolve_client(made, TrustedProxies(1, proto=0))

    assert (client.scheme, client.problems) == ("https", ())


@pytest.mark.parametrize("name", ["HTTP_X_FORWARDED_SCHEME", "HTTP_X_SCHEME", "HTTP_X_URL_SCHEME"])
def test_other_names_for_the_scheme_are_never_read(name: str) -> None:
    client = resolve_client(environ(**{FOR: CLIENT, name: "https"}), ALL)

    assert (client.scheme, client.problems) == ("http", ("proto_absent",))


# Host, port, prefix


@pytest.mark.parametrize(
    ("header", "host", "port"),
    [
        ("shop.example", "shop.example", 443),
        ("Shop.EXAMPLE", "shop.example", 443),
        ("shop.example:443", "shop.example", 443),
        ("shop.example:00443", "shop.example", 443),
        ("shop.example:80", "shop.example:80", 80),
        ("shop.example:8443", "shop.example:8443", 8443),
        (" shop.example\t", "shop.example", 443),
        ("evil.example, shop.example", "shop.example", 443),
        ("shop.example.", "shop.example.", 443),
        ("my_host-1", "my_host-1", 443),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", 443),
        ("192.0.2.1", "192.0.2.1", 443),
        ("192.0.2.1:8443", "192.0.2.1:8443", 8443),
        ("[2001:DB8::A]", "[2001:db8::a]", 443),
        ("[::1]:443", "[::1]", 443),
    ],
)
def test_a_trusted_host(header: str, host: str, port: int) -> None:
    client = resolve_client(through(CLIENT, **{HOST: header}), ALL)

    assert (client.host, client.port, client.problems) == (host, port, ())


MALFORMED_HOSTS = [
    "", "shop.example,", "shop.example, evil.example/", "user@shop.example",
    "user:pw@shop.example", "shop.example:", "shop.example:0", "shop.example:65536",
    "shop.example:123456", "shop.example:+443", "shop.example:4_43", "shop.example:\xb2",
    "shop.example:443:443", "shop.example/", "shop.example?x", "shop.example#x",
    "shop.example\\x", "shop example", "shop.example%00", "%73hop.example", "shop.example\x7f",
    "shop.example\n", "shop..example", ".shop.example", ".", "-shop.example", "shop-.example",
    "a" * 64 + ".example", "a." * 127 + "example", "b\xfccher.example", "shop.example;x",
    "<shop>", '"shop.example"', "2001:db8::a", "[2001:db8::a", "2001:db8::a]", "[192.0.2.1]",
    "[fe80::1%eth0]", "[]", "[v1.x]", "192.0.2.256", "192.0.2.01", "127.1", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize(
    "header",
    MALFORMED_HOSTS,
)
def test_a_malformed_host_leaves_what_was_there(header: str) -> None:
    client = resolve_client(through(CLIENT, **{HOST: header}), ALL)

    assert (client.host, client.port) == ("app.int:8000", 8000)
    assert client.problems == ("host_malformed",)


@pytest.mark.parametrize(
    ("headers", "host", "port", "problems"),
    [
        ({PORT: "443"}, "app.int", 443, ()),
        ({PORT: "8443"}, "app.int:8443", 8443, ()),
        ({PORT: "00080"}, "app.int:80", 80, ()),
        ({PORT: "1"}, "app.int:1", 1, ()),
        ({PORT: "65535"}, "app.int:65535", 65535, ()),
        ({PORT: " 8443\t"}, "app.int:8443", 8443, ()),
        ({PORT: "0"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "65536"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "000080"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: ""}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "8443,"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "-1"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "+443"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "4_43"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "443 "}, "app.int", 443, ()),
        ({PORT: "4 43"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "0x50"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "\xb2"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "\u0664\u0664\u0663"}, "app.int:8000", 8000, ("port_malformed",)),
        ({PORT: "https"}, "app.int:8000", 8000, ("port_malformed",)),
        ({HOST: "shop.example", PORT: "8443"}, "shop.example:8443", 8443, ()),
        ({HOST: "shop.example:9000", PORT: "443"}, "shop.example", 443, ()),
        ({HOST: "shop.example:9000", PORT: "x"}, "shop.example:9000", 9000, ("port_malformed",)),
        ({HOST: "shop.example", PORT: "x"}, "shop.example", 443, ("port_malformed",)),
        ({HOST: "a b", PORT: "8443"}, "app.int:8443", 8443, ("host_malformed",)),
        ({HOST: "[::1]", PORT: "8443"}, "[::1]:8443", 8443, ()),
        ({PORT: "8443", "HTTP_HOST": None}, "app.int:8443", 8443, ()),
        ({PORT: "8443", "HTTP_HOST": "a b"}, "app.int:8443", 8443, ()),
        ({PORT: "8443", "HTTP_HOST": None, "SERVER_NAME": "/x.sock"}, "", 8443, ()),
    ],
)
def test_a_trusted_port_overrules_the_hosts(
    headers: dict[str, Any], host: str, port: int, problems: tuple[str, ...]
) -> None:
    client = resolve_client(through(CLIENT, **headers), ALL)

    assert (client.host, client.port, client.problems) == (host, port, problems)


@pytest.mark.parametrize(
    ("header", "prefix"),
    [
        ("/app", "/app"),
        ("/app/v1", "/app/v1"),
        ("/", ""),
        ("/app/v1/", "/app/v1"),
        ("/evil, /app", "/app"),
        ("/a.b", "/a.b"),
        ("/...", "/..."),
        ("/.well-known", "/.well-known"),
        ("/~me/a-b_c!$&'()*+=:@", "/~me/a-b_c!$&'()*+=:@"),
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/a%20b", "/a b"),
    ],
)
def test_a_trusted_prefix(header: str, prefix: str) -> None:
    client = resolve_client(through(CLIENT, **{PREFIX: header}), ALL)

    assert (client.prefix, client.problems) == (prefix, ())


MALFORMED_PREFIXES = [
    "", "app", "app/", "//", "//evil.example", "/app//", "/a//b", "/.", "/..", "/./a", "/../a",
    "/a/../b", "/a/.", "/a/..", "/a/../", "/%2e", "/%2E%2e/a", "/a/.%2e/b", "/a%2fb", "/a%2Fb",
    "/a%5cb", "/a\\b", "/a%3fb", "/a?b", "/a#b", "/a%23b", "/a%00", "/a%0d%0aSet-Cookie:x",
    "/a%7f", "/a%252e", "/a%", "/a%2", "/a%zz", "/a b", "/a\tb", "/a\r\nb", "/a;Domain=evil",
    "/a%3bDomain=evil", "/a<b", '/"a"', "/b\xfccher", "https://evil.example/", "/" + "a" * 1000,
]  # fmt: skip


@pytest.mark.parametrize(
    "header",
    MALFORMED_PREFIXES,
)
def test_a_malformed_prefix_leaves_what_was_there(header: str) -> None:
    client = resolve_client(through(CLIENT, **{PREFIX: header, "SCRIPT_NAME": "/here"}), ALL)

    assert (client.prefix, client.problems) == ("/here", ("prefix_malformed",))


@pytest.mark.parametrize(("kind", "key"), [("host", HOST), ("port", PORT), ("prefix", PREFIX)])
def test_host_port_and_prefix_have_counts_of_their_own(kind: str, key: str) -> None:
    values = {"host": "a.example", "port": "81", "prefix": "/a"}
    made = through(CLIENT, **{key: values[kind]})

    counts: dict[str, Any] = {kind: 2}
    short = resolve_client(made, TrustedProxies(hops=1, **counts))
    ignored = resolve_client(made, 1)
    absent = resolve_client(through(CLIENT), ALL)

    assert short.problems == (f"{kind}_short",)
    assert ignored.problems == absent.problems == ()
    assert short[2:5] == ignored[2:5] == absent[2:5] == ("app.int:8000", 8000, "")


def test_each_problem_is_named_in_the_order_for_proto_host_port_prefix() -> None:
    made = environ(**{FOR: "x", PROTO: "x", HOST: "/", PORT: "x", PREFIX: "x", FWD: "x"})

    assert resolve_client(made, ALL).problems == (
        "for_malformed",
        "proto_malformed",
        "host_malformed",
        "port_malformed",
        "prefix_malformed",
        "other_family_ignored",
    )


@pytest.mark.parametrize(
    ("key", "longest", "longer"),
    [
        pytest.param(PREFIX, "/" + "a" * 510, "/" + "a" * 511, id="an entry"),
        pytest.param(
            HOST, "a." * 126 + "a", "aa." + "a." * 125 + "a", id="a name (RFC 1035 section 2.3.4)"
        ),
        pytest.param(
            HOST,
            "a" * 63 + ".example",
            "a" * 64 + ".example",
            id="a label (RFC 1035 section 2.3.4)",
        ),
        pytest.param(PORT, "00443", "000443", id="a port"),
    ],
)
def test_a_value_has_a_greatest_length(key: str, longest: str, longer: str) -> None:
    good = resolve_client(through(CLIENT, **{key: longest}), ALL)
    bad = resolve_client(through(CLIENT, **{key: longer}), ALL)

    assert good.problems == ()
    assert [problem.partition("_")[2] for problem in bad.problems] == ["malformed"]


def test_an_element_of_forwarded_has_a_greatest_length() -> None:
    longest = f"for={CLIENT};proto=https;x=".ljust(1024, "y")

    assert resolve_client(environ(**{FWD: longest}), RFC7239).problems == ()
    assert resolve_client(environ(**{FWD: f",{longest}"}), RFC7239).problems == ("fwd_malformed",)
    assert resolve_client(environ(**{FWD: f",{longest[:-1]}"}), RFC7239).problems == ()
    assert resolve_client(environ(**{FWD: f"{longest}y"}), RFC7239).problems == ("fwd_malformed",)


# Exact


def test_exact_refuses_more_entries_than_counted() -> None:
    exact = TrustedProxies(hops=2, proto=1, host=1, port=1, prefix=1, exact=True)
    made = environ(
        **{
            FOR: "6.6.6.6, 203.0.113.7, 198.51.100.2",
            PROTO: "http, https",
            HOST: "evil.example, shop.example",
            PORT: "1, 2",
            PREFIX: "/a, /b",
        }
    )

    client = resolve_client(made, exact)

    assert client == Client(
        None,
        "http",
        "app.int:8000",
        8000,
        "",
        ("for_long", "proto_long", "host_long", "port_long", "prefix_long"),
    )


@pytest.mark.parametrize(
    ("header", "ip", "problems"),
    [
        (f"{CLIENT}, 198.51.100.2", CLIENT, ()),
        (CLIENT, None, ("for_short",)),
        (f",{CLIENT}, 198.51.100.2", None, ("for_long",)),
        (None, None, ("for_absent",)),
    ],
)
def test_exact_counts_empty_entries_too(
    header: str | None, ip: str | None, problems: tuple[str, ...]
) -> None:
    made = environ(**{FOR: header, PROTO: "https"})

    client = resolve_client(made, TrustedProxies(hops=2, exact=True))

    assert (client.ip, client.problems) == (ip, problems)


def test_exact_goes_for_forwarded_too() -> None:
    exact = TrustedProxies(hops=1, header="forwarded", exact=True)

    one = resolve_client(environ(**{FWD: f"for={CLIENT};proto=https"}), exact)
    two = resolve_client(environ(**{FWD: f"for=6.6.6.6, for={CLIENT};proto=https"}), exact)
    empty = resolve_client(environ(**{FWD: f",for={CLIENT};proto=https"}), exact)

    assert one == Client(CLIENT, "https", "app.int:8000", 8000, "", ())
    assert two == empty == Client(None, "http", "app.int:8000", 8000, "", ("fwd_long",))


# Peers


# gunicorn and Werkzeug's older versions give "", waitress "localhost", nginx "unix:", Werkzeug
# "<local>", uWSGI "0.0.0.0"; "@" is how the kernel shows a socket without a name.
UNIX_SPELLINGS = [
    "", None, "localhost", "unix:", "unix:/run/app.sock", "@", "@app", "<local>", "0.0.0.0",
]  # fmt: skip


@pytest.mark.parametrize("spelling", UNIX_SPELLINGS)
def test_a_unix_socket_is_a_peer_in_each_spelling(spelling: str | None) -> None:
    made = through(CLIENT, REMOTE_ADDR=spelling)

    believed = resolve_client(made, TrustedProxies(1, peers=("unix",)))
    beside = resolve_client(made, TrustedProxies(1, peers=("10.0.0.0/8", "unix")))
    refused = resolve_client(made, TrustedProxies(1, peers=("10.0.0.0/8",)))

    assert believed == beside == Client(CLIENT, "https", "app.int:8000", 8000, "", ())
    assert refused == Client(None, "http", "app.int:8000", 8000, "", ("peer_untrusted",))


@pytest.mark.parametrize(
    "address", ["10.0.0.9", "127.0.0.1", "::1", "unix", "local", "[::1]:80", "<x>", "0.0.0.1", "::"]
)
def test_an_address_is_no_unix_socket(address: str) -> None:
    client = resolve_client(
        through("6.6.6.6", REMOTE_ADDR=address), TrustedProxies(1, peers=("unix",))
    )

    assert client.problems == ("peer_untrusted",)
    assert client.ip != "6.6.6.6"


@pytest.mark.parametrize(
    ("peers", "address", "believed"),
    [
        (("10.0.0.0/8",), "10.255.255.255", True),
        (("10.0.0.0/8",), "11.0.0.0", False),
        (("10.0.0.9",), "10.0.0.9", True),
        (("10.0.0.9",), "10.0.0.8", False),
        (("loopback",), "127.1.2.3", True),
        (("loopback",), "::1", True),
        (("loopback",), "::ffff:127.0.0.1", True),
        (("loopback",), "::2", False),
        (("linklocal",), "169.254.1.1", True),
        (("linklocal",), "fe80::1", True),
        (("linklocal",), "fec0::1", False),
        (("uniquelocal",), "10.1.1.1", True),
        (("uniquelocal",), "172.31.255.255", True),
        (("uniquelocal",), "172.32.0.0", False),
        (("uniquelocal",), "192.168.3.4", True),
        (("uniquelocal",), "fd00::1", True),
        (("uniquelocal",), "fe00::1", False),
        (("::ffff:10.0.0.0/104",), "10.1.2.3", True),
        (("::ffff:10.0.0.0/104",), "::ffff:10.1.2.3", True),
        (("::ffff:10.0.0.0/104",), "8.8.8.8", False),
        (("::ffff:a00:1",), "10.0.0.1", True),
        (("2001:db8::/32",), "2001:db8:1::1", True),
        (("2001:db8::/32",), "10.0.0.9", False),
        (("10.0.0.0/255.0.0.0",), "10.9.9.9", True),
        (("10.0.0.0/8",), "10.0.0.9:1234", True),
        (("10.0.0.0/8",), "10.0.0.9%eth0", False),
        (("10.0.0.0/8",), "garbage", False),
    ],
)
def test_headers_are_believed_from_peers_only(
    peers: tuple[str, ...], address: str, believed: bool
) -> None:
    client = resolve_client(through(CLIENT, REMOTE_ADDR=address), TrustedProxies(1, peers=peers))

    assert (client.ip == CLIENT) is believed
    assert client.problems == (() if believed else ("peer_untrusted",))


def test_an_untrusted_peer_is_a_client_that_came_directly() -> None:
    made = environ(
        **{
            "REMOTE_ADDR": "::ffff:198.51.100.66",
            "wsgi.url_scheme": "https",
            FOR: "6.6.6.6",
            PROTO: "http",
            HOST: "evil.example",
            FWD: "for=6.6.6.6",
        }
    )
    proxies = TrustedProxies(1, host=1, peers=("10.0.0.0/8",))

    assert resolve_client(made, proxies) == Client(
        "198.51.100.66", "https", "app.int:8000", 8000, "", ("peer_untrusted",)
    )


# Networks: the rows of proxy-addr's own tests that have a meaning here


NETWORK_ROWS = [
    pytest.param("127.0.0.1", None, ["loopback"], "127.0.0.1", None, id="17-no header"),
    pytest.param("127.0.0.1", "10.0.0.1", ["loopback"], "10.0.0.1", None, id="18"),
    pytest.param("127.0.0.1", None, ["10.0.0.0/8"], "127.0.0.1", "peer_untrusted", id="20"),
    pytest.param("127.0.0.1", "10.0.0.1, 10.0.0.2", ["10.0.0.0/8"], "127.0.0.1", "peer_untrusted", id="21"),
    pytest.param("10.0.0.1", "192.168.0.1", ["10.0.0.0/8"], "192.168.0.1", None, id="24"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.2", ["10.0.0.0/8"], "192.168.0.1", None, id="25"),
    pytest.param("10.0.0.1", "10.0.0.3, 192.168.0.1, 10.0.0.2", ["10.0.0.0/8"], "192.168.0.1", None, id="26"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.2", ["10.0.0.1", "10.0.0.2"], "192.168.0.1", None, id="27"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.2, localhost", ["10.0.0.1", "10.0.0.2"], None, "for_malformed", id="28-a name is no address"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.2", ["127.0.0.1", "192.168.0.100"], "10.0.0.1", "peer_untrusted", id="29"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.200", ["10.0.0.0/26"], "10.0.0.200", None, id="33"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.200", ["10.0.0.0/255.255.255.192"], "10.0.0.200", None, id="34"),
    pytest.param("fe80::1", "2002:c000:203::1, fe80::2", ["fe80::1", "fe80::2"], "2002:c000:203::1", None, id="35"),
    pytest.param("fe80::1", "2002:c000:203::1, fe80::ff00", ["fe80::/125"], "fe80::ff00", None, id="36"),
    pytest.param("::1", "2002:c000:203::1", ["127.0.0.1", "::1"], "2002:c000:203::1", None, id="37"),
    pytest.param("::1", "2002:c000:203::1", ["127.0.0.1"], "::1", "peer_untrusted", id="38"),
    pytest.param("::ffff:a00:1", "192.168.0.1, 10.0.0.2", ["10.0.0.1", "10.0.0.2"], "192.168.0.1", None, id="39"),
    pytest.param("::ffff:a00:1", "192.168.0.1, 10.0.0.2", ["10.0.0.0/16"], "192.168.0.1", None, id="40"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.2", ["::ffff:a00:1", "::ffff:a00:2"], "192.168.0.1", None, id="41"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.200", ["::ffff:a00:0/122"], "10.0.0.200", None, id="42"),
    pytest.param("10.0.0.1", "192.168.0.1, 10.0.0.200", ["::ffff:a00:0/122", "fe80::/125"], "10.0.0.200", None, id="43"),
    pytest.param("fe80::1", "2002:c000:203::1, fe80::2", ["linklocal"], "2002:c000:203::1", None, id="45"),
    pytest.param("::1", "2002:c000:203::1, fe80::2", ["loopback", "linklocal"], "2002:c000:203::1", None, id="46"),
    pytest.param("127.0.0.1", "myrouter, 127.0.0.1, proxy", ["127.0.0.1"], None, "for_malformed", id="47"),
    pytest.param("127.0.0.1", "myrouter, 127.0.0.1, ::8:8:8:8:8:8:8:8:8", ["127.0.0.1"], None, "for_malformed", id="48"),
    pytest.param(None, None, ["127.0.0.1"], None, "peer_untrusted", id="50"),
    pytest.param(None, "127.0.0.1, 10.0.0.1", ["127.0.0.1"], None, "peer_untrusted", id="51"),
    pytest.param("10.0.0.1", "", ["10.0.0.0/8"], None, "for_malformed", id="empty header"),
    pytest.param("10.0.0.1", ",10.0.0.2", ["10.0.0.0/8"], None, "for_malformed", id="empty first entry"),
    pytest.param("10.0.0.1", "1.1.1.1,,10.0.0.2", ["10.0.0.0/8"], None, "for_malformed", id="a,,b"),
    pytest.param("10.0.0.1", "1.1.1.1,\t10.0.0.2:80", ["10.0.0.0/8"], "1.1.1.1", None, id="tab, port"),
    pytest.param("10.0.0.1", "8.8.8.8, 010.0.0.1", ["10.0.0.0/8"], None, "for_malformed", id="octal"),
    pytest.param("10.0.0.1", "2130706433", ["10.0.0.0/8"], None, "for_malformed", id="an int is no address"),
    pytest.param("10.0.0.1", "1.1.1.1, ::ffff:10.0.0.3", ["10.0.0.0/8"], "1.1.1.1", None, id="mapped entry"),
    pytest.param("10.0.0.1", "10.0.0.4, 10.0.0.3", ["10.0.0.0/8"], "10.0.0.4", "all_trusted", id="19"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("peer", "header", "networks", "ip", "problem"),
    NETWORK_ROWS,
)
def test_the_first_address_outside_the_networks_is_the_client(
    peer: str | None, header: str | None, networks: list[str], ip: str | None, problem: str | None
) -> None:
    made = environ(**{"REMOTE_ADDR": peer, FOR: header, PROTO: "https"})

    client = resolve_client(made, TrustedProxies(networks=tuple(networks)))

    assert (client.ip, client.problems) == (ip, () if problem is None else (problem,))
    assert client.scheme == ("http" if problem == "peer_untrusted" else "https")


def test_networks_over_a_unix_socket() -> None:
    proxies = TrustedProxies(networks=("10.0.0.0/8",), peers=("unix",))
    walked = resolve_client(through(f"6.6.6.6, {CLIENT}, 10.0.0.2", REMOTE_ADDR=""), proxies)
    unheard = resolve_client(through(f"{CLIENT}, 10.0.0.2"), proxies)
    unknown = resolve_client(environ(**{PROTO: "https", "REMOTE_ADDR": ""}), proxies)

    assert (walked.ip, walked.problems) == (CLIENT, ())
    assert (unheard.ip, unheard.problems) == ("10.0.0.9", ("peer_untrusted",))
    assert (unknown.ip, unknown.problems) == (None, ("for_absent",))


def test_a_peer_must_be_in_both_networks_and_peers() -> None:
    proxies = TrustedProxies(networks=("10.0.0.0/8", "192.168.0.0/16"), peers=("10.0.0.0/8",))

    near = resolve_client(through(f"{CLIENT}, 192.168.0.1"), proxies)
    far = resolve_client(through(CLIENT, REMOTE_ADDR="192.168.0.1"), proxies)

    assert near.ip == CLIENT
    assert (far.ip, far.problems) == ("192.168.0.1", ("peer_untrusted",))


def test_a_walk_ends_where_nobody_has_so_many_proxies() -> None:
    def chain(trusted: int) -> Client:
        return resolve_client(through(", ".join([CLIENT, *["10.0.0.1"] * trusted])), TENS)

    assert (chain(31).ip, chain(31).problems) == (CLIENT, ())
    assert (chain(32).ip, chain(32).problems) == (None, ("for_long",))
    assert (chain(1000).ip, chain(1000).problems) == (None, ("for_long",))


# RFC 7239


ELEMENTS = [
    ("for=203.0.113.7;proto=https;host=shop.example", {}),
    ("FOR=203.0.113.7;Proto=HTTPS;hOsT=Shop.Example", {}),
    ("for=203.0.113.7 ; proto=https\t;\thost=shop.example", {}),
    (" ;; for=203.0.113.7;;proto=https;host=shop.example; ", {}),
    ('for="203.0.113.7";proto="https";host="shop.example"', {}),
    ('for="203.0.113.7:4711";proto=https;host=shop.example', {}),
    ('for="203.0.113.7:_port";proto=https;host=shop.example', {}),
    ('for="[::ffff:203.0.113.7]:80";proto=https;host="shop.example:443"', {}),
    (r'for="203.0.113\.7";proto="\h\t\t\p\s";host=shop.example', {}),
    ('for=203.0.113.7;proto=https;host=shop.example;by=_x;secret="a,b;c\\""', {}),
    (r'for=203.0.113.7;proto=https;host=shop.example;x="\\\"a,b"', {}),
    (r'for=203.0.113.7;proto=https;host=shop.example;x="a,b\\\\"', {}),
    ("for=6.6.6.6, for=203.0.113.7;proto=https;host=shop.example", {}),
    ('for="6.6.6.6, for=203.0.113.7;proto=https;host=shop.example', {}),
    ('for="6.6.6.6\\", for=203.0.113.7;proto=https;host=shop.example', {}),
    ('"""\\", for=203.0.113.7;proto=https;host=shop.example', {}),
    ("\xff\x00, for=203.0.113.7;proto=https;host=shop.example", {}),
    (",,, for=203.0.113.7;proto=https;host=shop.example", {}),
    ("x" * 100_000 + ", for=203.0.113.7;proto=https;host=shop.example", {}),
    ('for="[2001:DB8::7]";proto=https;host=shop.example', {"ip": "2001:db8::7"}),
    ('for="[2001:db8::7]:_p.1-x";proto=https;host=shop.example', {"ip": "2001:db8::7"}),
    ('for=203.0.113.7;proto=https;host="shop.example:8443"', {"host": "shop.example:8443", "port": 8443}),
    ('for=203.0.113.7;proto=https;host="[::1]:8443"', {"host": "[::1]:8443", "port": 8443}),
    ("for=203.0.113.7;proto=http;host=shop.example", {"scheme": "http", "port": 80}),
    ("proto=https;host=shop.example", {"ip": None, "problems": ("for_absent",)}),
    ("for=unknown;proto=https;host=shop.example", {"ip": None, "problems": ("for_unknown",)}),
    ("for=UnKnown;proto=https;host=shop.example", {"ip": None, "problems": ("for_unknown",)}),
    ('for="unknown:80";proto=https;host=shop.example', {"ip": None, "problems": ("for_unknown",)}),
    ("for=_x;proto=https;host=shop.example", {"ip": None, "problems": ("for_obfuscated",)}),
    ('for="_gazonk-1.b:_p";proto=https;host=shop.example', {"ip": None, "problems": ("for_obfuscated",)}),
    ("for=_;proto=https;host=shop.example", {"ip": None, "problems": ("for_malformed",)}),
    ('for="";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ('for="203.0.113.7:0";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ('for="203.0.113.7:x";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ('for="2001:db8::7";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ('for="[203.0.113.7]";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ('for="[fe80::1%eth0]";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ('for="[::]";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ("for=0.0.0.0;proto=https;host=shop.example", {"ip": None, "problems": ("for_malformed",)}),
    ("for=localhost;proto=https;host=shop.example", {"ip": None, "problems": ("for_malformed",)}),
    ('for=" 203.0.113.7";proto=https;host=shop.example', {"ip": None, "problems": ("for_malformed",)}),
    ("for=203.0.113.7;proto=wsx;host=shop.example", {"scheme": "http", "port": 80, "problems": ("proto_malformed",)}),
    ("for=203.0.113.7;host=shop.example", {"scheme": "http", "port": 80, "problems": ("proto_absent",)}),
    ("for=203.0.113.7;proto=https", {"host": "app.int:8000", "port": 8000}),
    ('for=203.0.113.7;proto=https;host="a b"', {"host": "app.int:8000", "port": 8000, "problems": ("host_malformed",)}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "expected"),
    ELEMENTS,
)
def test_one_element_of_forwarded(header: str, expected: dict[str, Any]) -> None:
    good = Client(CLIENT, "https", "shop.example", 443, "", ())

    assert resolve_client(environ(**{FWD: header}), RFC7239) == good._replace(**expected)


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[::ffff:203.0.113.7]", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
    ],
)
@pytest.mark.parametrize("by", ["", "by=10.0.0.9;", "by=10.0.0.9:80;", "By=[2001:db8::9]:80;"])
def test_p2_an_address_that_lacks_its_quotes_is_understood(address: str, ip: str, by: str) -> None:
    # RFC 7239 section 4 wants a quoted string wherever there is a colon; AWS API Gateway, too,
    # writes none.
    header = f"for=6.6.6.6, {by}for={address};proto=https;host=shop.example"

    client = resolve_client(environ(**{FWD: header}), RFC7239)

    assert client == Client(ip, "https", "shop.example", 443, "", ())


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (None, ("fwd_absent",)),
        ("", ("for_absent", "proto_absent")),
        ("for=1.1.1.1, ", ("for_absent", "proto_absent")),
        (";", ("for_absent", "proto_absent")),
        ("garbage", ("fwd_malformed",)),
        ("for", ("fwd_malformed",)),
        ("=1.1.1.1", ("fwd_malformed",)),
        ("for=;proto=https", ("fwd_malformed",)),
        ("for =1.1.1.1;proto=https", ("fwd_malformed",)),
        ("for= 1.1.1.1;proto=https", ("fwd_malformed",)),
        ("for=1.1.1.1 proto=https", ("fwd_malformed",)),
        ("for=2001:db8::7;proto=https", ("fwd_malformed",)),
        ("for=[2001:db8::7;proto=https", ("fwd_malformed",)),
        ("for=[2001:db8::7]:;proto=https", ("fwd_malformed",)),
        ("for=[2001:db8::7]:99999;proto=https", ("fwd_malformed",)),
        ("for=[2001:db8::7]:_p;proto=https", ("fwd_malformed",)),
        ("for=[fe80::1%eth0];proto=https", ("fwd_malformed",)),
        ("for=[::];proto=https", ("fwd_malformed",)),
        ("for=[1.1.1.1];proto=https", ("fwd_malformed",)),
        ("for=[2001:db8::7]x;proto=https", ("fwd_malformed",)),
        ("for=1.1.1.1:0;proto=https", ("fwd_malformed",)),
        ("for=1.1.1.1:_p;proto=https", ("fwd_malformed",)),
        ("for=01.1.1.1:80;proto=https", ("fwd_malformed",)),
        ("for=localhost:80;proto=https", ("fwd_malformed",)),
        ("for=1.1.1.1;proto=https;host=shop.example:8443", ("fwd_malformed",)),
        ("for=1.1.1.1;proto=https;before=[2001:db8::7]", ("fwd_malformed",)),
        ('for="1.1.1.1;proto=https', ("fwd_malformed",)),
        ('for=1.1.1.1";proto=https', ("fwd_malformed",)),
        ('for="1.1.1.1"x;proto=https', ("fwd_malformed",)),
        ('for=x"1.1.1.1";proto=https', ("fwd_malformed",)),
        ('for=""1.1.1.1"";proto=https', ("fwd_malformed",)),
        ('for="1.1.1.1\\";proto=https', ("fwd_malformed",)),
        ("for='1.1.1.1:80';proto=https", ("fwd_malformed",)),
        ("for=1.1.1.1;proto=https;garbage", ("fwd_malformed",)),
        ('for="1.1.1.1\x01";proto=https', ("fwd_malformed",)),
        ("f\xfcr=1.1.1.1;proto=https", ("fwd_malformed",)),
        ("for=1.1.1.1;proto=https;x=" + "y" * 2000, ("fwd_malformed",)),
        ("for=1.1.1.1;FOR=2.2.2.2;proto=https", ("fwd_dup",)),
        ("for=1.1.1.1;proto=http;proto=https", ("fwd_dup",)),
        ("for=1.1.1.1;proto=https;x=1;X=1", ("fwd_dup",)),
        ('for=6.6.6.6;x="a, for=1.1.1.1;proto=https"', ("proto_absent",)),
    ],
)
def test_an_unusable_element_of_forwarded(header: str | None, problem: tuple[str, ...]) -> None:
    client = resolve_client(environ(**{FWD: header}), RFC7239)

    ip = "6.6.6.6" if header and header.startswith("for=6.6.6.6") else None
    assert client == Client(ip, "http", "app.int:8000", 8000, "", problem)


@pytest.mark.parametrize(
    ("header", "ip", "scheme", "problems"),
    [
        (f"for={CLIENT};proto=https, for=1.1.1.1;proto=http", CLIENT, "https", ()),
        (f"x, for={CLIENT};proto=https, garbage", CLIENT, "https", ()),
        (f'for={CLIENT};proto=https, for="1.1.1.1, x"', CLIENT, "https", ()),
        (f"for={CLIENT}, for=1.1.1.1;proto=https", CLIENT, "http", ("proto_absent",)),
        (f"for={CLIENT};proto=https", None, "http", ("fwd_short",)),
        ("", None, "http", ("fwd_short",)),
        # Where the elements can't be told apart, none is guessed.
        (f'for={CLIENT};proto=https, for="1.1.1.1', None, "http", ("fwd_malformed",)),
        (f'for={CLIENT};proto=https, for=1.1.1.1\\"', None, "http", ("fwd_malformed",)),
    ],
)
def test_the_nth_element_of_forwarded_counts(
    header: str, ip: str | None, scheme: str, problems: tuple[str, ...]
) -> None:
    client = resolve_client(environ(**{FWD: header}), TrustedProxies(2, header="forwarded"))

    assert client == Client(ip, scheme, "app.int:8000", 8000, "", problems)


@pytest.mark.parametrize(
    ("header", "ip", "scheme", "problems"),
    [
        (f"for=6.6.6.6;proto=http, for={CLIENT};proto=https, for=10.0.0.2", CLIENT, "https", ()),
        ('for=10.0.0.3;proto=https, for="10.0.0.2:80"', "10.0.0.3", "https", ("all_trusted",)),
        (f"for={CLIENT}, for=unknown;proto=https, for=10.0.0.2", None, "https", ("for_unknown",)),
        (f"for={CLIENT}, for=_x;proto=https, for=10.0.0.2", None, "https", ("for_obfuscated",)),
        (f"for={CLIENT}, proto=https, for=10.0.0.2", None, "https", ("for_absent",)),
        (f"for={CLIENT}, garbage, for=10.0.0.2;proto=https", None, "http", ("fwd_malformed",)),
        ("for=10.0.0.1;proto=https," * 100, None, "http", ("for_absent", "proto_absent")),
        (",".join(["for=10.0.0.1;proto=https"] * 100), None, "http", ("fwd_long",)),
        (",for=10.0.0.2;proto=https", None, "http", ("for_absent", "proto_absent")),
        (None, "10.0.0.9", "http", ("fwd_absent",)),
    ],
)
def test_walking_over_forwarded(
    header: str | None, ip: str | None, scheme: str, problems: tuple[str, ...]
) -> None:
    proxies = TrustedProxies(networks=("10.0.0.0/8",), header="forwarded")

    client = resolve_client(environ(**{FWD: header}), proxies)

    assert client == Client(ip, scheme, "app.int:8000", 8000, "", problems)


def test_nothing_is_missed_in_forwarded_that_nobody_asked_for() -> None:
    proxies = TrustedProxies(networks=("10.0.0.0/8",), header="forwarded", proto=0)

    assert resolve_client(environ(), proxies).problems == ()
    assert resolve_client(environ(REMOTE_ADDR="10.0.0.9"), proxies).ip == "10.0.0.9"


@pytest.mark.parametrize("key", [FOR, PROTO, HOST, PORT, PREFIX])
def test_the_other_family_is_named_and_not_read(key: str) -> None:
    made = environ(**{FWD: f"for={CLIENT};proto=https", key: "6.6.6.6"})

    client = resolve_client(made, RFC7239)

    assert client == Client(CLIENT, "https", "app.int:8000", 8000, "", ("other_family_ignored",))


def test_the_other_family_never_stands_in() -> None:
    only_forwarded = resolve_client(environ(**{FWD: f"for={CLIENT};proto=https"}), 1)
    only_x = resolve_client(through(CLIENT), RFC7239)

    assert only_forwarded == Client(
        None,
        "http",
        "app.int:8000",
        8000,
        "",
        ("for_absent", "proto_absent", "other_family_ignored"),
    )
    assert only_x.problems == ("fwd_absent", "other_family_ignored")
    assert only_x.ip is None


# Rewriting


def test_the_app_sees_the_clients_truth_and_the_originals_are_kept() -> None:
    made = through(
        CLIENT, **{HOST: "shop.example", PORT: "8443", PREFIX: "/app", "REMOTE_PORT": "1234"}
    )
    before = dict(made)

    client = rewrite_environ(made, ALL)

    assert made == {
        **before,
        "REMOTE_ADDR": CLIENT,
        "wsgi.url_scheme": "https",
        "HTTP_HOST": "shop.example:8443",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "8443",
        "SCRIPT_NAME": "/app",
        CLIENT_KEY: client,
        ORIGINAL_KEY: {
            "REMOTE_ADDR": "10.0.0.9",
            "wsgi.url_scheme": "http",
            "HTTP_HOST": "app.int:8000",
            "SERVER_NAME": "app.int",
            "SERVER_PORT": "8000",
            "SCRIPT_NAME": "",
        },
    }
    assert client == resolve_client(before, ALL)


@pytest.mark.parametrize(
    ("proxies", "changes", "rewritten"),
    [
        pytest.param(1, {PROTO: "http"}, {"REMOTE_ADDR"}, id="what stays the same isn't rewritten"),
        pytest.param(1, {FOR: "unknown"}, {"wsgi.url_scheme"}, id="an unknown client"),
        pytest.param(
            1,
            {HOST: "a.example", PORT: "1", PREFIX: "/a"},
            {"REMOTE_ADDR", "wsgi.url_scheme"},
            id="untrusted host",
        ),
        pytest.param(TrustedProxies(1, proto=0), {}, {"REMOTE_ADDR"}, id="scheme by the server"),
        pytest.param(
            TrustedProxies(1, port=1),
            {PORT: "8443"},
            {"REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SERVER_PORT"},
            id="port alone: the server's name stays",
        ),
        pytest.param(
            TrustedProxies(1, port=1),
            {PORT: "8443", "HTTP_HOST": None},
            {"REMOTE_ADDR", "wsgi.url_scheme", "SERVER_PORT"},
            id="port alone: no host header is made up",
        ),
        pytest.param(
            ALL, {HOST: "a b", PREFIX: "x"}, {"REMOTE_ADDR", "wsgi.url_scheme"}, id="malformed"
        ),
        pytest.param(ALL, {}, {"REMOTE_ADDR", "wsgi.url_scheme"}, id="absent"),
        pytest.param(TrustedProxies(1, peers=("unix",)), {}, set(), id="untrusted peer"),
        pytest.param(
            TrustedProxies(1, peers=("unix",)),
            {"REMOTE_ADDR": "::ffff:10.0.0.9"},
            {"REMOTE_ADDR"},
            id="untrusted peer, normalised",
        ),
        pytest.param(
            TrustedProxies(1, peers=("10.0.0.0/8",)),
            {"REMOTE_ADDR": ""},
            set(),
            id="untrusted peer without an address",
        ),
        pytest.param(0, {}, set(), id="no proxies"),
    ],
)
def test_only_what_the_proxies_said_is_rewritten(
    proxies: Any, changes: dict[str, Any], rewritten: set[str]
) -> None:
    made = environ(**{FOR: CLIENT, PROTO: "https", **changes})
    before = dict(made)

    rewrite_environ(made, as_trusted_proxies(proxies))

    changed = {key for key in made if key in before and made[key] != before[key]}
    assert changed == set(made[ORIGINAL_KEY]) == rewritten


def test_a_trusted_port_is_told_where_the_host_is_not() -> None:
    made = through(CLIENT, **{HOST: "evil.example", PORT: "8443"})

    rewrite_environ(made, TrustedProxies(1, port=1))

    assert (made["SERVER_NAME"], made["SERVER_PORT"]) == ("app.int", "8443")
    assert made["HTTP_HOST"] == "app.int:8443"


def test_a_trusted_host_brings_no_word_of_the_port_header() -> None:
    made = through(CLIENT, **{HOST: "shop.example", PORT: "8443"})

    client = rewrite_environ(made, TrustedProxies(1, host=1))

    assert (client.host, client.port) == ("shop.example", 443)
    assert (made["HTTP_HOST"], made["SERVER_PORT"]) == ("shop.example", "443")


def test_an_environ_that_was_never_rewritten_is_its_own_original() -> None:
    made = through(CLIENT)

    assert original_environ(made) == made


def test_the_original_is_found_when_the_app_removed_a_key() -> None:
    made = through(CLIENT, REMOTE_ADDR=None)
    rewrite_environ(made, ALL)
    del made["REMOTE_ADDR"]

    assert "REMOTE_ADDR" not in original_environ(made)


def test_a_key_that_was_absent_is_remembered_as_none() -> None:
    made = through(CLIENT, **{"REMOTE_ADDR": None, "HTTP_HOST": None, HOST: "shop.example"})
    before = dict(made)

    rewrite_environ(made, ALL)

    assert made[ORIGINAL_KEY]["REMOTE_ADDR"] is None
    assert made[ORIGINAL_KEY]["HTTP_HOST"] is None
    restored = original_environ(made)
    assert {
        key: restored[key] for key in restored if not key.startswith("wsgi_sessions.")
    } == before


def test_an_environ_is_rewritten_once() -> None:
    made = through(f"{CLIENT}, 198.51.100.2")
    first = rewrite_environ(made, as_trusted_proxies(2))
    after = dict(made)

    second = rewrite_environ(made, as_trusted_proxies(1))

    assert second is first
    assert made == after


def test_no_header_can_pose_as_the_client() -> None:
    # A request header always comes as HTTP_…, so nothing that a client sends has this key.
    made = through(CLIENT, **{CLIENT_KEY: "not a Client"})

    assert rewrite_environ(made, as_trusted_proxies(1)).ip == CLIENT


# Wrong settings


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hops": -1}, "from 0 to 10"),
        ({"hops": 11}, "from 0 to 10"),
        ({"hops": True}, "True"),
        ({"hops": False}, "False"),
        ({"hops": 1.0}, "1.0"),
        ({"hops": "1"}, "'1'"),
        ({"hops": None}, "None"),
        ({"hops": float("nan")}, "nan"),
        *(
            ({name: wrong}, name)
            for name in ("proto", "host", "port", "prefix")
            for wrong in (-1, 11, True, 1.0, "1", None)
        ),
        ({"hops": 1, "networks": ["10.0.0.0/8"]}, "one of them"),
        ({"networks": ["10.0.0.0/8"], "exact": True}, "exact"),
        ({"exact": 1}, "TrustedProxies: exact is 1; write True or False"),
        ({"exact": None}, "TrustedProxies: exact is None; write True or False"),
        ({"header": "x"}, "'forwarded'"),
        ({"header": "X-Forwarded"}, "'x-forwarded'"),
        ({"header": "both"}, "Never both"),
        ({"header": ["x-forwarded", "forwarded"]}, "Never both"),
        ({"header": ("x-forwarded", "forwarded")}, "Never both"),
        ({"header": None}, "'x-forwarded'"),
        ({"hops": 1, "header": "forwarded", "port": 1}, "RFC 7239"),
        ({"hops": 1, "header": "forwarded", "prefix": 1}, "RFC 7239"),
        ({"hops": 1, "header": "forwarded", "proto": 2}, "proto=1"),
        ({"hops": 1, "header": "forwarded", "host": 3}, "host=1"),
        ({"hop": 1}, "write hops"),
        ({"trust": "*"}, "allowed are"),
    ],
)
def test_a_wrong_setting_says_what_to_write(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        TrustedProxies(**options)


NO_NETWORKS = [
    ("10.0.0.0/8", "('10.0.0.0/8',)"),
    ("10.0.0.0/8, 192.168.0.1", "('10.0.0.0/8', '192.168.0.1')"),
    ("*", "believe everybody"),
    ("x", "n't a network"),
    (b"10.0.0.0/8", "a tuple such as"),
    (10, "a tuple such as"),
    (None, "a tuple such as"),
    ({"10.0.0.0/8": 1}, "a tuple such as"),
    ([10], "write a str"),
    ([None], "write a str"),
    ([ipaddress.ip_network("10.0.0.0/8")], "write a str"),
    (["*"], "believe everybody"),
    (["0.0.0.0/0"], "wider than /8"),
    (["::/0"], "wider than"),
    (["0.0.0.0/1"], "wider than /8"),
    (["128.0.0.0/1"], "wider than /8"),
    (["10.0.0.0/7"], "wider than /8"),
    (["2000::/3"], "wider than /16"),
    (["2000::/15"], "wider than /16"),
    (["fc00::/7"], "wider than /16"),
    (["0.0.0.0"], "nobody's address"),
    (["0.0.0.0/32"], "nobody's address"),
    (["::"], "nobody's address"),
    (["10.0.0.1/8"], "write '10.0.0.0/8'"),
    (["10.0.0.2/26"], "write '10.0.0.0/26'"),
    (["10.0.0.1/255.255.255.0"], "write '10.0.0.0/24'"),
    (["2001:db8::1/32"], "write '2001:db8::/32'"),
    (["::ffff:10.0.0.1/104"], "write '10.0.0.0/8'"),
    (["::ffff:10.0.0.0/103"], "wider than /8"),
    (["::ffff:0:0/96"], "wider than"),
    (["::ffff:10.0.0.0/95"], "IPv4 network"),
    (["::ffff:10.0.0.0/8"], "wider than"),
    (["::/64"], "IPv4 network"),
    (["proxy.internal"], "Host names aren't looked up"),
    (["localhost"], "n't a network"),
    (["blargh"], "n't a network"),
    (["-1"], "n't a network"),
    (["1"], "n't a network"),
    ([""], "n't a network"),
    ([" "], "n't a network"),
    ([" 10.0.0.0/8"], "n't a network"),
    (["10.0.0.0/8,"], "n't a network"),
    (["10.0.300.1"], "n't a network"),
    (["010.0.0.1"], "n't a network"),
    (["2130706433"], "n't a network"),
    (["::ffff:30.168.1.9000"], "n't a network"),
    (["10.0.0.1/internet"], "n't a network"),
    (["10.0.0.1/6000"], "n't a network"),
    (["10.0.0.0/33"], "n't a network"),
    (["10.0.0.0/-1"], "n't a network"),
    (["10.0.0.0/"], "n't a network"),
    (["/8"], "n't a network"),
    (["::1/6000"], "n't a network"),
    (["::ffff:a00:2/136"], "n't a network"),
    (["::ffff:a00:2/-1"], "n't a network"),
    (["10.0.0.0/255.0.255.0"], "n't a network"),
    (["10.0.0.1/ffc0::"], "n't a network"),
    (["fe80::/ffc0::"], "n't a network"),
    (["fe80::/255.255.255.0"], "n't a network"),
    (["[::1]"], "n't a network"),
    (["1.2.3.4:80"], "n't a network"),
    (["10.0.0.0-10.0.0.9"], "n't a network"),
    (["10.0.0.*"], "n't a network"),
    (["10.0.0.0/8\n"], "n't a network"),
    (["\uff11\uff10.0.0.0/8"], "n't a network"),
    (["fe80::1%eth0"], "zone"),
    (["fe80::%eth0/64"], "zone"),
    (["Loopback"], "write 'loopback'"),
    (["uniqueLocal"], "write 'uniquelocal'"),
    (["private"], "'uniquelocal'"),
    (["10.0.0.0/8", "*"], "believe everybody"),
]  # fmt: skip


@pytest.mark.parametrize("option", ["networks", "peers"])
@pytest.mark.parametrize(
    ("value", "says"),
    NO_NETWORKS,
)
def test_a_wrong_network_says_what_to_write(option: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)) as caught:
        TrustedProxies(**{option: value})

    assert f"TrustedProxies: {option} " in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "*",
            (
                "networks has '*', which would believe everybody, the client included; name the"
                " networks that your own proxies are in, or count them with hops"
            ),
        ),
        (
            "unix",
            "networks has 'unix', but a unix socket has no address; write peers=('unix',) for it",
        ),
        (
            "fe80::1%eth0",
            (
                "networks has 'fe80::1%eth0', but a zone means something on one machine only; write"
                " the address without it"
            ),
        ),
        (
            "proxy.internal",
            (
                "networks has 'proxy.internal', which isn't a network; write one such as '10.0.0.0/8', or"
                " 'loopback', 'linklocal' or 'uniquelocal'. Host names aren't looked up"
            ),
        ),
        (
            "10.0.0.1/8",
            (
                "networks has '10.0.0.1/8', which has bits set beyond its length; write '10.0.0.0/8' for"
                " the network, or '10.0.0.1' for that address alone"
            ),
        ),
    ],
)
def test_what_is_wrong_with_a_network_is_said(value: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TrustedProxies(networks=(value,))

    assert str(caught.value) == f"TrustedProxies: {message}"


def test_networks_may_be_written_in_either_case() -> None:
    upper = TrustedProxies(networks=("2001:DB8:ABCD::/48",))
    environ = {"REMOTE_ADDR": "2001:db8:abcd::1", "HTTP_X_FORWARDED_FOR": "192.0.2.7"}

    assert resolve_client(environ, upper).ip == "192.0.2.7"


def test_unix_is_no_network() -> None:
    with pytest.raises(ConfigurationError, match=r"write peers=\('unix',\)"):
        TrustedProxies(networks=("unix",))


@pytest.mark.parametrize("value", [-1, 11, True, False, 1.0, "1", None, [1], ("10.0.0.0/8",), "*"])
def test_a_wrong_setting_of_the_middleware_says_what_to_write(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="^trusted_proxies is .*from 0 to 10"):
        as_trusted_proxies(value)
    if value is not None:
        with pytest.raises(ConfigurationError):
            resolve_client(environ(), value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hops": 10, "proto": 10, "host": 10, "port": 10, "prefix": 10},
        {"networks": []},
        {"networks": ["10.0.0.0/8", "fd00::/16", "1.2.3.4", "::1", "loopback"]},
        {"networks": {"10.0.0.0/8"}},
        {"hops": 1, "peers": frozenset({"unix"})},
        {"hops": 1, "peers": ["::ffff:10.0.0.0/104", "uniquelocal", "unix"]},
        {"networks": ["10.0.0.0/8"], "header": "forwarded", "proto": 1, "host": 1},
        {"hops": 3, "header": "forwarded", "proto": 3, "host": 0},
        {"hops": 0, "host": 1, "peers": ["unix"]},
    ],
)
def test_a_right_setting_is_taken(options: dict[str, Any]) -> None:
    proxies = TrustedProxies(**options)

    assert as_trusted_proxies(proxies) is proxies
    assert hash(proxies) == hash(TrustedProxies(**options))


def test_no_networks_trust_nobody() -> None:
    client = resolve_client(through("6.6.6.6"), TrustedProxies(networks=()))

    assert client == Client("10.0.0.9", "http", "app.int:8000", 8000, "", ())


def test_a_number_is_that_many_hops() -> None:
    assert as_trusted_proxies(2) == TrustedProxies(hops=2)


def test_settings_are_frozen() -> None:
    networks = ["10.0.0.0/8"]
    proxies = TrustedProxies(networks=networks)  # type: ignore[arg-type] # a list is taken, too

    networks.append("203.0.113.0/24")

    assert proxies.networks == ("10.0.0.0/8",)
    with pytest.raises(AttributeError):
        proxies.hops = 3  # type: ignore[misc] # that is what is tested


def test_the_names_are_where_users_import_them() -> None:
    assert wsgi_sessions.TrustedProxies is TrustedProxies
    assert wsgi_sessions.Client is Client


# What the docs say


def test_the_docs_list_each_problem() -> None:
    page = (Path(__file__).parent.parent / "docs" / "behind-a-proxy.md").read_text("utf-8")
    table = re.findall(r"^\| `(\w+)` \| (.+) \|$", page.partition("| code |")[2], re.MULTILINE)

    assert dict(table) == PROBLEMS
    assert len(table) == len(PROBLEMS)


@pytest.mark.parametrize(
    ("headers", "address", "scheme"),
    [
        pytest.param({FOR: f'"6.6.6.6, {CLIENT}'}, "10.0.0.9", "https", id="a quote swallows"),
        pytest.param({FOR: None}, "10.0.0.9", "https", id="no header: the proxy is the client"),
        pytest.param({FOR: "<x>"}, "<x>", "https", id="no address"),
        pytest.param({PROTO: "javascript"}, CLIENT, "javascript", id="any scheme"),
        pytest.param({FOR: f"{CLIENT}:80"}, f"{CLIENT}:80", "https", id="ports are kept"),
    ],
)
def test_what_the_docs_say_of_proxyfix_is_true(
    headers: dict[str, Any], address: str, scheme: str
) -> None:
    made = environ(**{FOR: CLIENT, PROTO: "https", **headers})
    ours = resolve_client(made, 1)

    ProxyFix(lambda environ, start_response: [])(made, lambda *_: lambda _: None)

    assert (made["REMOTE_ADDR"], made["wsgi.url_scheme"]) == (address, scheme)
    assert (ours.ip, ours.scheme) != (address, scheme)


# What never may be


ANY_TEXT = st.text(st.characters(max_codepoint=0xFF), max_size=60)
PIECES = st.lists(
    st.sampled_from(
        [
            *("6.6.6.6", "203.0.113.7:80", "[2001:db8::1]:443", "::ffff:1.2.3.4", "::", "10.0.0.1"),
            *("for=", "For=", "proto=", "host=", "https", "http", "unknown", "_x", "shop.example"),
            *(",", ", ", ";", '"', '""', "\\", '\\"', "=", " ", "\t", "\x00", "\r\n", "\xff"),
            *("/", "/app", "..", "%2e", "[", "]", ":", "65536", "443", "a" * 600),
        ]
    ),
    max_size=12,
).map("".join)
HEADER = ANY_TEXT | PIECES
SETTINGS = st.sampled_from(
    [
        TrustedProxies(1, host=1, port=1, prefix=1),
        TrustedProxies(3, proto=2, host=1, port=2, prefix=1),
        TrustedProxies(2, proto=2, exact=True, host=1),
        TrustedProxies(1, peers=("10.0.0.0/8", "unix"), host=1),
        TrustedProxies(networks=("10.0.0.0/8", "loopback"), host=1, prefix=1),
        TrustedProxies(1, host=1, header="forwarded"),
        TrustedProxies(3, host=1, header="forwarded"),
        TrustedProxies(2, host=1, header="forwarded", exact=True),
        TrustedProxies(networks=("10.0.0.0/8",), host=1, header="forwarded"),
        TrustedProxies(),
    ]
)


@given(
    proxies=SETTINGS,
    own=st.fixed_dictionaries(
        {},
        optional={
            "REMOTE_ADDR": st.sampled_from(["10.0.0.9", "", "::1", "unix:"]) | HEADER,
            "HTTP_HOST": HEADER,
            "SERVER_NAME": HEADER,
            "SERVER_PORT": HEADER,
            "wsgi.url_scheme": st.sampled_from(["http", "https", "HTTPS", "x"]),
        },
    ),
    headers=st.dictionaries(st.sampled_from([FOR, PROTO, HOST, PORT, PREFIX, FWD]), HEADER),
)
def test_whatever_comes_in_the_answer_keeps_the_grammar(
    proxies: TrustedProxies, own: dict[str, str], headers: dict[str, str]
) -> None:
    made = {"SCRIPT_NAME": "", **own, **headers}

    client = resolve_client(made, proxies)

    if client.ip is not None:
        assert client.ip == str(ipaddress.ip_address(client.ip))
        assert "%" not in client.ip
    assert client.scheme in ("http", "https")
    assert re.fullmatch(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])?(?::\d+)?", client.host, re.ASCII)
    assert 1 <= client.port <= 65535
    assert re.fullmatch(r"(?:/[^/\\?#\x00-\x1f\x7f;%]+)*", client.prefix)
    assert not re.search(r"/\.\.?(?:/|$)", client.prefix)
    assert set(client.problems) <= set(PROBLEMS)
    assert len(set(client.problems)) == len(client.problems)

    rewrite_environ(made, proxies)

    assert all(type(made[key]) is str for key in made[ORIGINAL_KEY])
    assert {k: v for k, v in original_environ(made).items() if "wsgi_" not in k} == {
        "SCRIPT_NAME": "",
        **own,
        **headers,
    }


NOBODY = {"0.0.0.0", "::", "::ffff:0:0", "::ffff:0.0.0.0"}
ADDRESSES = st.ip_addresses().map(str).filter(lambda address: address not in NOBODY)


@given(
    client=HEADER,
    chain=st.lists(ADDRESSES, min_size=1, max_size=4),
    separator=st.sampled_from([",", ", ", " ,\t"]),
    proto=st.sampled_from(["http", "https"]),
    other=HEADER,
)
def test_what_the_client_puts_before_the_proxies_entries_changes_nothing(
    client: str, chain: list[str], separator: str, proto: str, other: str
) -> None:
    appended = {FOR: separator.join(chain), PROTO: proto, HOST: "shop.example", PREFIX: "/app"}
    spoofed = {key: f"{client}{separator}{value}" for key, value in appended.items()}
    proxies = TrustedProxies(len(chain), host=1, prefix=1)

    honest = resolve_client(environ(**appended), proxies)
    lying = resolve_client(environ(**spoofed, HTTP_FORWARDED=other, HTTP_X_REAL_IP=other), proxies)

    assert honest.ip is not None
    assert honest.problems == ()
    assert lying == honest._replace(problems=("other_family_ignored",))


def node(address: str) -> str:
    return f'"[{address}]"' if ":" in address else address


@given(
    client=HEADER,
    chain=st.lists(ADDRESSES, min_size=1, max_size=4),
    separator=st.sampled_from([",", ", ", " ,\t"]),
    proto=st.sampled_from(["http", "https"]),
    extension=st.sampled_from(["", ';by="_a,b"', r';x="\"\\,"', ";host=shop.example"]),
)
def test_what_the_client_puts_before_the_proxies_elements_changes_nothing(
    client: str, chain: list[str], separator: str, proto: str, extension: str
) -> None:
    appended = separator.join(f"for={node(ip)};proto={proto}{extension}" for ip in chain)
    proxies = TrustedProxies(len(chain), host=1, header="forwarded")

    honest = resolve_client(environ(**{FWD: appended}), proxies)
    lying = resolve_client(environ(**{FWD: f"{client}{separator}{appended}"}), proxies)

    assert honest.ip is not None
    assert honest.problems == ()
    assert lying == honest


@given(client=HEADER, address=ADDRESSES, inner=st.lists(st.just("10.0.0.7"), max_size=3))
def test_what_the_client_puts_before_the_networks_own_entries_changes_nothing(
    client: str, address: str, inner: list[str]
) -> None:
    appended = ", ".join([address, *inner])
    honest = resolve_client(through(appended), TENS)
    lying = resolve_client(through(f"{client}, {appended}"), TENS)

    if "all_trusted" not in honest.problems:
        assert lying == honest


def test_the_key_under_which_proxy_fix_keeps_what_was_there_is_known() -> None:
    environ = dict(BASE)
    ProxyFix(lambda environ, start_response: [])(environ, lambda *_: lambda _: None)

    assert PROXY_FIX_KEY in environ
