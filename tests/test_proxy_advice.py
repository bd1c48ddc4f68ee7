"""What the log says once of a setting of trusted proxies that doesn't fit the requests."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

from wsgi import SECRET, call, environ
from wsgi_sessions import SessionMiddleware, TrustedProxies
from wsgi_sessions.events import EventSink
from wsgi_sessions.proxies import MAX_HOPS, resolve_client, rewrite_environ
from wsgi_sessions.proxies.advice import (
    _WORDS,
    ENOUGH,
    Finding,
    ProxyAdvice,
    _Row,
    finding,
    proxy_fix_around,
    proxy_fix_within,
)

CLIENT, PROXY = "203.0.113.7", "10.0.0.2"
FOR, PROTO, FWD = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED"
FORWARDED = TrustedProxies(1, header="forwarded")
HOPS_TO_2 = "set hops of your TrustedProxies(…) to 2"


def through(*addresses: str, **changes: Any) -> dict[str, Any]:
    """The changes that proxies make to an environ, the outermost's entry first."""
    made = {FOR: ", ".join(addresses), PROTO: "https", **changes}
    return {key: value for key, value in made.items() if value is not None}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """What the log has said, a list of texts; asked when it is called."""
    return lambda: [r.getMessage() for r in caplog.records if r.name == "wsgi_sessions"]


def fed(settings: int | TrustedProxies, *requests: dict[str, Any], times: int = 1) -> ProxyAdvice:
    """An advice that has looked at these requests, so many times."""
    proxies = TrustedProxies(settings) if isinstance(settings, int) else settings
    advice = ProxyAdvice(EventSink((), lambda: 0.0), proxies)
    for changes in requests * times:
        made = environ(**changes)
        advice.look(made, rewrite_environ(made, proxies))
    return advice


def answer(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


# With nobody trusted


@pytest.mark.parametrize("proto", ["https", "HTTPS", "http, https", "wss", "https,http"])
def test_https_that_nobody_trusts_is_told(said: Any, proto: str) -> None:
    fed(0, {PROTO: proto}, {PROTO: proto})

    (text,) = said()
    assert text.startswith("A request has X-Forwarded-Proto: https, but trusted_proxies is 0")
    assert "ProxyProbe" in text


@pytest.mark.parametrize(
    "value",
    [
        f"for={CLIENT};proto=https",
        "for=unknown; Proto=HTTPS",
        "proto=https, for=192.0.2.60",
        'for="[::1]";proto=http, proto="wss"',
        "nonsense, proto=https",
    ],
)
def test_https_in_forwarded_that_nobody_trusts_is_told(said: Any, value: str) -> None:
    fed(0, {FWD: value}, {FWD: value, PROTO: "http"})

    (text,) = said()
    assert text.startswith("A request has Forwarded: …;proto=https, but trusted_proxies is 0")
    assert "TrustedProxies(hops=…, header='forwarded')" in text
    assert "ProxyProbe" in text


def test_https_that_nobody_trusts_is_told_by_the_middleware(said: Any) -> None:
    app = SessionMiddleware(answer, secret_key=SECRET)

    for changes in ({PROTO: "https"}, {FWD: "proto=https"}):
        call(app, environ(**changes), check=False)

    assert [text[:25] for text in said()] == [
        "A request has X-Forwarded",
        "A request has Forwarded: ",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        *({PROTO: proto} for proto in ("http", "", "httpsx", "ws", "https" + "," * 50_000)),
        *({FWD: value} for value in (f"for={CLIENT}", "proto=http", "proto=https;proto=https")),
        {FWD: "proto=https" + ",for=unknown" * 50_000},
        {FWD: '"proto=https'},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_anything_else_is_not(said: Any, changes: dict[str, str]) -> None:
    fed(0, changes, {})

    assert said() == []


@pytest.mark.parametrize("own", ["https", "wss"])
def test_p4_where_the_server_made_it_https_by_itself_nothing_is_said(said: Any, own: str) -> None:
    both = {PROTO: "https", FWD: "proto=https"}
    fed(0, {**both, "wsgi.url_scheme": own}, times=ENOUGH)

    assert said() == []


# Requests that lack what the setting expects


@pytest.mark.parametrize(
    "settings", [1, 2, FORWARDED, TrustedProxies(networks=("192.0.2.0/24",)), TrustedProxies(1, proto=0)]
)  # fmt: skip
def test_p3_request_after_request_without_the_header_is_told_once(
    said: Any, settings: int | TrustedProxies
) -> None:
    fed(settings, {}, times=ENOUGH - 1)
    before = said()

    fed(settings, {}, times=3 * ENOUGH)

    assert before == []
    (text,) = said()
    assert "clear_untrusted_proxy_headers=False" in text
    assert "trusted_proxies to 0" in text
    assert "ProxyProbe" in text


def test_p3_is_told_by_the_middleware_once_per_process(said: Any) -> None:
    app = SessionMiddleware(answer, secret_key=SECRET, trusted_proxies=1)
    other = SessionMiddleware(answer, secret_key=SECRET, trusted_proxies=1)

    for each in (app, other):
        for _ in range(2 * ENOUGH):
            call(each, environ(), check=False)

    assert [text for text in said() if "clear_untrusted_proxy_headers" in text] == said()
    assert len(said()) == 1


def test_one_request_as_expected_settles_the_matter(said: Any) -> None:
    advice = fed(1, *[{}] * (ENOUGH - 1), through(CLIENT), *[{}] * ENOUGH, through("x", CLIENT))

    assert advice.settled
    assert said() == []


@pytest.mark.parametrize(
    "agent", ["kube-probe/1.33", "ELB-HealthChecker/2.0", "GoogleHC/1.0", "Consul Health Check"]
)
def test_health_checks_come_past_the_proxies_and_say_nothing(said: Any, agent: str) -> None:
    fed(1, {"HTTP_USER_AGENT": agent}, times=2 * ENOUGH)

    assert said() == []


def test_direct_requests_from_others_than_the_peers_say_nothing(said: Any) -> None:
    fed(TrustedProxies(1, peers=("10.0.0.0/8",)), {}, times=2 * ENOUGH)

    assert said() == []


@pytest.mark.parametrize(
    ("settings", "changes", "write"),
    [
        (1, {FWD: f"for={CLIENT};proto=https"}, "header='forwarded'"),
        (FORWARDED, through(CLIENT), "header='x-forwarded'"),
    ],
)
def test_p3_headers_of_the_other_family_are_named(
    said: Any, settings: int | TrustedProxies, changes: dict[str, str], write: str
) -> None:
    fed(settings, changes, times=ENOUGH)

    (text,) = said()
    assert f"TrustedProxies(hops=1, {write})" in text


# Chains of another length


@pytest.mark.parametrize(
    ("settings", "changes", "cure"),
    [
        (3, through(CLIENT, PROXY), "set trusted_proxies to 2"),
        (TrustedProxies(3), through(CLIENT, PROXY), "set trusted_proxies to 2"),
        (TrustedProxies(3, exact=True), through(CLIENT, PROXY), HOPS_TO_2),
        (
            TrustedProxies(3, header="forwarded"),
            {FWD: f"for={CLIENT};proto=https, for={PROXY}"},
            HOPS_TO_2,
        ),
    ],
)
def test_a_chain_that_is_always_shorter_than_the_hops_is_told(
    said: Any, settings: int | TrustedProxies, changes: dict[str, str], cure: str
) -> None:
    fed(settings, changes, times=2 * ENOUGH)

    (text,) = said()
    assert "fewer than hops, which is 3" in text
    assert cure in text


@pytest.mark.parametrize(
    ("settings", "changes", "taken", "cure"),
    [
        (1, through(CLIENT, PROXY), PROXY, "set trusted_proxies to 2"),
        (
            TrustedProxies(1, exact=True),
            through(CLIENT, PROXY),
            "none of them is believed",
            HOPS_TO_2,
        ),
        (FORWARDED, {FWD: f"for={CLIENT}, for={PROXY};proto=https"}, PROXY, HOPS_TO_2),
        (1, through(CLIENT, "nonsense"), "unknown", "set trusted_proxies to 2"),
    ],
)
def test_a_chain_that_is_always_longer_than_the_hops_is_told(
    said: Any, settings: int | TrustedProxies, changes: dict[str, str], taken: str, cure: str
) -> None:
    fed(settings, changes, times=2 * ENOUGH)

    (text,) = said()
    assert "2 entries or more" in text
    assert cure in text
    assert taken in text


def test_a_number_that_cannot_be_set_is_not_told(said: Any) -> None:
    fed(1, through(*[CLIENT] * 12), times=ENOUGH)

    (text,) = said()
    assert "11 entries or more" in text
    assert "set trusted_proxies" not in text


def test_the_number_that_is_told_is_the_one_that_all_of_them_allow(said: Any) -> None:
    # The client itself may write any number in front.
    fed(1, through("x", "y", CLIENT, PROXY), through(CLIENT, PROXY), times=ENOUGH)
    fed(4, through(CLIENT), through(CLIENT, PROXY), times=ENOUGH)

    longer, shorter = said()
    assert "2 entries or more" in longer
    assert "only 2 entries in X-Forwarded-For, fewer than hops, which is 4, so" in shorter


def test_one_entry_is_called_one(said: Any) -> None:
    fed(2, through(CLIENT), times=ENOUGH)

    (text,) = said()
    assert text.startswith("Request after request has only 1 entry in X-Forwarded-For, fewer than")


def test_requests_past_the_proxies_dont_hide_that_the_chain_is_longer(said: Any) -> None:
    fed(1, through(CLIENT, PROXY), {}, times=ENOUGH)

    (text,) = said()
    assert "2 entries or more" in text


def test_what_changes_from_request_to_request_is_not_told(said: Any) -> None:
    fed(2, through(CLIENT), through("x", CLIENT, PROXY), times=2 * ENOUGH)

    assert said() == []


def test_any_chain_of_networks_is_right(said: Any) -> None:
    networks = TrustedProxies(networks=("192.0.2.0/24", "10.0.0.0/8"))

    advice = fed(networks, through(CLIENT, PROXY, PROXY))

    assert advice.settled
    assert said() == []


# The scheme, and the peer


@pytest.mark.parametrize(
    ("settings", "changes", "problem"),
    [
        (1, {FOR: CLIENT}, "proto_absent"),
        (1, through(CLIENT, **{PROTO: "on"}), "proto_malformed"),
        (TrustedProxies(1, proto=2), through(CLIENT), "proto_short"),
        (TrustedProxies(1, exact=True), through(CLIENT, **{PROTO: "http, https"}), "proto_long"),
        (FORWARDED, {FWD: f"for={CLIENT}"}, "proto_absent"),
    ],
)
def test_a_scheme_that_is_always_missing_is_told(
    said: Any, settings: int | TrustedProxies, changes: dict[str, str], problem: str
) -> None:
    fed(settings, changes, times=2 * ENOUGH)

    (text,) = said()
    assert problem in text
    assert ("proto=1" if problem == "proto_short" else "proto=0") in text


@pytest.mark.parametrize(
    ("settings", "peer", "write"),
    [
        (TrustedProxies(1, peers=("10.0.0.0/8",)), "192.0.2.1", "add '192.0.2.1' to peers"),
        (TrustedProxies(1, peers=("10.0.0.0/8",)), "", "add 'unix' to peers"),
        (TrustedProxies(networks=("10.0.0.0/8",)), "192.0.2.1", "add '192.0.2.1' to networks"),
        (TrustedProxies(networks=("10.0.0.0/8",)), "", "add 'unix' to peers"),
    ],
)
def test_headers_from_a_peer_that_is_never_trusted_are_told(
    said: Any, settings: TrustedProxies, peer: str, write: str
) -> None:
    fed(settings, through(CLIENT, REMOTE_ADDR=peer), times=2 * ENOUGH)

    (text,) = said()
    assert write in text


def test_a_finding_is_made_from_the_request_alone() -> None:
    made = environ(**through(CLIENT, PROXY))

    found = finding(made, resolve_client(made, 1), TrustedProxies(1))

    assert (found, finding(made, resolve_client(made, 2), TrustedProxies(2))) == ("long", None)


# Werkzeug's ProxyFix beside us


def inside(hops: int, **options: int) -> Any:
    return SessionMiddleware(ProxyFix(answer, **options), secret_key=SECRET, trusted_proxies=hops)


def around(hops: int, **options: int) -> Any:
    return ProxyFix(SessionMiddleware(answer, secret_key=SECRET, trusted_proxies=hops), **options)


@pytest.mark.parametrize(
    ("app", "addresses", "says"),
    [
        pytest.param(inside(0), [CLIENT], "labels and events name the proxy", id="inside, alone"),
        pytest.param(inside(1), [CLIENT], "Remove ProxyFix", id="inside, the same number"),
        pytest.param(inside(2), [CLIENT, PROXY], "Remove ProxyFix", id="inside, another number"),
        pytest.param(around(1), [CLIENT], "set trusted_proxies to 0", id="around"),
        pytest.param(
            around(2, x_for=1), [CLIENT, PROXY], "set trusted_proxies to 0", id="around, another"
        ),
    ],
)
def test_p5_two_readers_of_the_same_headers_are_told_once(
    said: Any, app: Any, addresses: list[str], says: str
) -> None:
    for _ in range(3):
        call(app, environ(**through(*addresses, **{PROTO: "http"})), check=False)

    (text,) = said()
    assert "ProxyFix" in text
    assert says in text


@pytest.mark.parametrize(
    ("app", "changes"),
    [
        pytest.param(around(0), through(CLIENT), id="the one around, alone"),
        pytest.param(around(1, x_for=0, x_prefix=1), through(CLIENT), id="for the prefix alone"),
        pytest.param(inside(0, x_for=0), through(CLIENT, **{PROTO: "http"}), id="not for this"),
        pytest.param(inside(0), {}, id="nothing to read"),
        pytest.param(inside(1), {}, id="nothing to read for either"),
        pytest.param(inside(2), through(CLIENT), id="the middleware knew no client"),
    ],
)
def test_p5_nothing_is_said_where_only_one_changes_the_address(
    said: Any, app: Any, changes: dict[str, Any]
) -> None:
    for _ in range(3):
        call(app, environ(**changes), check=False)

    assert said() == []


def test_p5_a_key_of_that_name_that_is_something_else_is_survived(said: Any) -> None:
    advice = fed(1, through(CLIENT, **{"werkzeug.proxy_fix.orig": "x"}))
    made = environ()
    made["werkzeug.proxy_fix.orig"] = None

    advice.look_back(made, resolve_client(made, 0))

    assert said() == []


def test_a_settled_advice_looks_no_further(said: Any) -> None:
    advice = fed(1, through(CLIENT))
    made = environ()

    for _ in range(2 * ENOUGH):
        advice.look(made, resolve_client(made, 1))

    assert said() == []


@pytest.mark.parametrize("found", _WORDS)
@pytest.mark.parametrize(
    ("header", "name"), [("x-forwarded", "X-Forwarded-For"), ("forwarded", "Forwarded")]
)
def test_each_text_names_the_header_that_is_read(
    found: Finding, header: Literal["x-forwarded", "forwarded"], name: str
) -> None:
    proxies = TrustedProxies(1, header=header)

    text = _WORDS[found](_Row(proxies, 2, resolve_client(environ(), proxies)))

    named = re.search(r"(?:without|only 2 entries in|or more in|comes with) ([\w-]+)", text)
    assert named is not None
    assert named[1] == name


def test_what_a_text_knows_of_the_client_and_its_problems() -> None:
    def text(found: Finding, ip: str | None, *problems: str, exact: bool = False) -> str:
        client = resolve_client(environ(), 0)._replace(ip=ip, problems=problems)
        return _WORDS[found](_Row(TrustedProxies(1, peers=("10.0.0.0/8",), exact=exact), 2, client))

    assert "The client was taken to be 1.2.3.4." in text("long", "1.2.3.4")
    assert "The client was taken to be unknown." in text("long", None)
    assert "With exact=True none of them is believed." in text("long", None, exact=True)
    assert "of their own, leave exact out." in text("long", None, exact=True)
    assert "of their own, all is well." in text("long", None)
    assert "from a unix socket, which" in text("peer", None)
    assert "(proto_absent, proto_malformed)" in text(
        "proto", None, "proto_absent", "proto_malformed"
    )


def test_a_text_is_said_once_whatever_its_numbers_and_each_for_itself(said: Any) -> None:
    fed(1, through(CLIENT, CLIENT, PROXY), times=ENOUGH)
    fed(1, through(CLIENT, CLIENT, CLIENT, PROXY), times=ENOUGH)
    assert len(said()) == 1

    fed(0, {PROTO: "https"})
    kept = {**environ(), "werkzeug.proxy_fix.orig": {"REMOTE_ADDR": PROXY}, FOR: CLIENT}
    advice = fed(0)
    advice.look_back(kept, resolve_client({**kept, "REMOTE_ADDR": PROXY}, 0))
    assert len(said()) == 3


def test_the_family_that_came_is_named() -> None:
    for header, other in (("x-forwarded", "Forwarded"), ("forwarded", "X-Forwarded-For")):
        proxies = TrustedProxies(1, header=header)  # type: ignore[arg-type] # one of the two
        text = _WORDS["other_family"](_Row(proxies, 0, resolve_client(environ(), proxies)))
        assert f"headers of the family of {other}. " in text


def test_quotes_mean_nothing_in_x_forwarded_for() -> None:
    made = environ(**through(CLIENT, '"6.6.6.6', '1.1.1.1"'))

    assert finding(made, resolve_client(made, 3), TrustedProxies(3)) is None


def test_a_chain_is_read_as_its_family_is_written() -> None:
    quoted = environ(**{FWD: f'for="{CLIENT}, 6.6.6.6"'})

    assert finding(quoted, resolve_client(quoted, FORWARDED), FORWARDED) == "proto"


@pytest.mark.parametrize(
    ("key", "https", "more"), [(PROTO, "https", ",http"), (FWD, "proto=https", ",for=unknown")]
)
def test_https_in_any_entry_that_may_count_is_told(
    said: Any, key: str, https: str, more: str
) -> None:
    fed(0, {key: https + more * MAX_HOPS})
    before = said()

    fed(0, {key: https + more * (MAX_HOPS - 1)})

    assert before == []
    assert len(said()) == 1


def test_once_a_header_arrived_requests_without_it_came_past_the_proxies(said: Any) -> None:
    fed(2, through(CLIENT), *[{}] * (2 * ENOUGH))

    assert ENOUGH == 5
    assert said() == []


def test_a_health_check_says_so_in_the_first_200_characters(said: Any) -> None:
    fed(1, {"HTTP_USER_AGENT": "x" * 195 + "health"}, times=ENOUGH)
    assert len(said()) == 1


def test_proxy_fix_is_seen_by_what_it_kept() -> None:
    around = {"werkzeug.proxy_fix.orig": {"REMOTE_ADDR": PROXY}, "REMOTE_ADDR": CLIENT}
    client = resolve_client(around, 0)

    assert proxy_fix_around(around)
    assert not proxy_fix_around({**around, "REMOTE_ADDR": PROXY})
    assert not proxy_fix_around({"REMOTE_ADDR": CLIENT})
    assert not proxy_fix_within(around, client)
    assert not proxy_fix_within({FOR: CLIENT, "REMOTE_ADDR": PROXY}, client)
    assert proxy_fix_within({**around, FOR: CLIENT, "REMOTE_ADDR": PROXY}, client)
    assert not proxy_fix_within({**around, FOR: CLIENT}, client)
