"""Every bad setting fails where it is written, and the message helps on without quoting secrets."""

from __future__ import annotations

import functools
import inspect
import math
import os
import secrets
import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from wsgi import SECRET, Site
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    Lifetime,
    SessionEvent,
    SessionMiddleware,
    StoreError,
    TrustedProxies,
    get_session,
)
from wsgi_sessions.crypto.session_id import new_id
from wsgi_sessions.data.codec import JSONCodec
from wsgi_sessions.stores import ClientSideStore, MemoryStore


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cookie": Cookie}, "write Cookie(…)"),
        ({"secret_key": None}, "NoneType"),
        ({"secret_key": ""}, "is empty"),
        ({"secret_key": b""}, "is empty"),
        ({"secret_key": "x" * 31}, "31 bytes"),
        ({"secret_key": " " * 40}, "blank"),
        ({"secret_key": "changeme" * 8}, "placeholder"),
        ({"secret_key": "secret-key-secret-key-secret-key-"}, "placeholder"),
        ({"secret_key": []}, "empty list"),
        ({"secret_key": ()}, "empty tuple"),
        ({"secret_key": [SECRET, "short"]}, "5 bytes"),
        ({"secret_key": [SECRET, None]}, "NoneType"),
        ({"secret_key": {SECRET}}, "set"),
        ({"secret_key": (s for s in [SECRET])}, "generator"),
        ({"secret_key": bytearray(40)}, "bytearray"),
        ({"secret_key": 7}, "int"),
        ({"store": object()}, "Store"),
        ({"store": MemoryStore}, "MemoryStore()"),
        ({"store": "nonsense://x"}, "scheme"),
        ({"cookie": "session"}, "Cookie("),
        ({"lifetime": 60}, "Lifetime("),
        ({"trusted_proxies": -1}, "trusted_proxies is -1; write how many proxies"),
        ({"trusted_proxies": True}, "trusted_proxies is True; write how many proxies"),
        ({"trusted_proxies": None}, "trusted_proxies is None; write how many proxies"),
        ({"trusted_proxies": "1"}, "trusted_proxies is '1'; write how many proxies"),
        ({"trusted_proxies": ["10.0.0.0/8"]}, "or TrustedProxies(…), such as TrustedProxies(netw"),
        ({"trusted_proxies": TrustedProxies}, "or TrustedProxies(…)"),
        ({"codec": object()}, "encode"),
        ({"codec": JSONCodec}, "such as JSONCodec()"),
        ({"save_uninitialized": 1}, "True or False"),
        ({"rolling": "yes"}, "True or False"),
        ({"save_on_error": None}, "True or False"),
        ({"touch_interval": -1}, "touch_interval is -1; it must be finite and 0 seconds or more"),
        ({"touch_interval": True}, "touch_interval"),
        ({"rotate_after": 0}, "it must be finite and more than 0 seconds, or None for no rotation"),
        ({"rotate_after": math.nan}, "rotate_after"),
        ({"rotate_after": "1h"}, "a number of seconds, or None for no rotation"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_bytes": True}, "max_bytes"),
        ({"max_bytes": 1.5}, "max_bytes"),
        ({"id_factory": "x"}, "id_factory is 'x'; give a function id_factory() that returns a new"),
        ({"clock": 5}, "clock is 5; give a function clock() that returns UNIX seconds"),
        ({"passive": True}, "passive is True; give a function passive(environ) that returns True"),
        ({"max_per_owner": 0}, "max_per_owner"),
        ({"when_full": "panic"}, "end_oldest"),
        (
            {"when_full": "refuse"},
            "max_per_owner is None; give max_per_owner=…, or leave when_full",
        ),
        ({"label": "ip"}, "user_agent"),
        ({"label": ("referer",)}, "user_agent"),
        ({"token_header": "x y"}, "token_header"),
        ({"token_header": "Set-Cookie"}, "token_header"),
        ({"token_header": "User-Agent"}, "a header name of your own"),
        ({"token_header": "X-Forwarded-For"}, "a hyphen, which neither HTTP nor proxies use, such"),
        *(
            ({"token_header": name}, f"token_header is {name!r}; write a header name of your own")
            for name in (
                *(
                    "Cookie",
                    "Authorization",
                    "Host",
                    "Forwarded",
                    "Proxy-Authorization",
                    "If-Match",
                ),
                *("x-forwarded-proto", "X-Forwarded-Whatever", "X-Real-IP", "CF-Connecting-IP"),
                *("X-Request-ID", "Sec-Fetch-Site", "Access-Control-Request-Method"),
                *("X-Requested-With", "Upgrade-Insecure-Requests"),
            )
        ),
        ({"store": b"redis://u:hidden@h/0"}, "store is of type bytes; give a Store"),
        ({"store": ["redis://u:hidden@h/0"]}, "store is a list of str; give a Store"),
        ({"carry_over": "redis://u:hidden@h/0"}, "carry_over is of type str; write a list"),
        ({"carry_over": ["redis://u:hidden@h/0"]}, "carry_over is a list of str; write a list"),
        ({"encryption_keys": [b"short"]}, "32 bytes"),
        ({"encryption_keys": ["x" * 32]}, "str"),
        ({"encryption_keys": os.urandom(32)}, "list"),
        ({"encryption_migrate": True}, "encryption_keys"),
        ({"on_event": 5}, "on_event is 5; give a function on_event(event) that takes a Session"),
        (
            {"on_store_error": 5},
            "on_store_error is 5; give a function on_store_error(environ, start_response, error)",
        ),
        ({"environ_key": ""}, "environ_key"),
        ({"environ_key": "HTTP_X"}, "environ_key"),
        ({"environ_key": "wsgi.input"}, "environ_key"),
        ({"environ_key": "PATH_INFO"}, "environ_key"),
        ({"environ_key": "REMOTE_ADDR"}, "environ_key"),
        ({"environ_key": "wsgi_sessions.client"}, "environ_key"),
        ({"environ_key": "wsgi_sessions.original"}, "environ_key"),
        ({"seucre_key": 1}, "secret_key"),
        ({"nonsense": 1}, "allowed are"),
        ({"store": ClientSideStore(encrypt=False), "rotate_after": 60}, "ClientSideStore"),
        ({"store": ClientSideStore(encrypt=False), "max_per_owner": 1}, "ClientSideStore"),
        (
            {"store": ClientSideStore(encrypt=False), "encryption_keys": [os.urandom(32)]},
            "ClientSideStore",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionMiddleware(app, **{"secret_key": SECRET, **options})

    assert isinstance(caught.value, ValueError)
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)
    secret = options.get("secret_key")
    if isinstance(secret, (str, bytes)) and len(secret) > 8:
        assert str(secret) not in str(caught.value)


WITH_ARGUMENTS = {
    "clock": 0,
    "id_factory": 0,
    "passive": 1,
    "cookie": 1,
    "on_event": 1,
    "on_store_error": 3,
}


NOW = 1_800_000_000.0


def told(one: object, two: object, *more: object) -> float:
    return NOW


def wrapped(function: Any) -> Any:
    """As it is often done: the wrapper takes other arguments than what it wraps."""

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(None, None, *arguments)

    return wrapper


class Unbound:
    """Such as a proxy of something that isn't there yet."""

    @property
    def __signature__(self) -> Any:
        raise RuntimeError("not now")

    def __call__(self, *arguments: Any) -> float:
        return NOW


@pytest.mark.parametrize(("name", "number"), WITH_ARGUMENTS.items())
def test_a_function_that_takes_other_arguments_fails_when_it_is_given(
    name: str, number: int
) -> None:
    takes: dict[int, Any] = {
        0: lambda: NOW,
        1: lambda one: None,
        2: lambda one, two: None,
        3: lambda one, two, three: None,
        4: lambda one, two, three, four: None,
    }
    for other in takes.keys() - {number}:
        with pytest.raises(
            ConfigurationError, match=rf"^SessionMiddleware: {name} is .* can't be called .*; give "
        ):
            SessionMiddleware(app, secret_key=SECRET, **{name: takes[other]})
    for function in (takes[number], wrapped(told), Unbound(), lambda *arguments, **more: NOW):
        SessionMiddleware(app, secret_key=SECRET, **{name: function})  # type: ignore[arg-type] # any option


@pytest.mark.parametrize(
    "clock",
    [
        datetime.now,
        time.time_ns,
        lambda: time.time() * 1000,
        lambda: math.nan,
        lambda: None,
        lambda: True,
        lambda: "1800000000",
    ],
)
def test_a_clock_of_another_kind_fails_when_it_is_given(clock: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^SessionMiddleware: clock\(\) returned .*; give .* that returns UNIX seconds, such",
    ):
        SessionMiddleware(app, secret_key=SECRET, clock=clock)


def test_functions_of_the_standard_library_are_taken() -> None:
    site = Site(id_factory=secrets.token_urlsafe, clock=time.time, on_event=[print, [].append])

    assert site.run(site.browser(), lambda s: s.update(a=1)).code == 200


def test_a_session_under_another_key_is_pointed_out() -> None:
    site = Site(environ_key="shop.session")
    environ: dict[str, Any] = {"wsgi.url_scheme": "http", "PATH_INFO": "/"}
    with pytest.raises(LookupError, match="wrap the app in SessionMiddleware"):
        get_session(environ)
    session = site.middleware.open_session(environ)

    with pytest.raises(
        LookupError,
        match=r"^.?there is no 'wsgi_sessions.session' in the environ; a session is at"
        r" 'shop.session', so write get_session\(environ, 'shop.session'\)",
    ):
        get_session(environ)
    assert get_session(environ, "shop.session") is session


def test_a_missing_secret() -> None:
    for given in ((app,), (app, SECRET)):
        with pytest.raises(ConfigurationError, match=r"SessionMiddleware\(app, secret_key=…, …\)"):
            SessionMiddleware(*given)  # type: ignore[call-arg] # the mistakes under test


def test_an_app_that_isnt_callable() -> None:
    with pytest.raises(ConfigurationError, match="app"):
        SessionMiddleware("app", secret_key=SECRET)  # type: ignore[arg-type] # the mistake


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode(), [SECRET], (SECRET, "y" * 32)])
def test_good_secrets(secret: Any) -> None:
    assert SessionMiddleware(app, secret_key=secret)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a=b"}, "name"),
        ({"name": "a;b"}, "name"),
        ({"name": "é"}, "name"),
        ({"name": "a\r\nb"}, "name"),
        ({"name": 7}, "int"),
        ({"name": "x" * 5000}, "256"),
        ({"path": "x"}, "path"),
        ({"path": ""}, "path"),
        ({"path": "/;Domain=evil"}, "path"),
        ({"path": "/\r\nX: y"}, "path"),
        ({"path": "/é"}, "path"),
        ({"path": "/\x7f"}, "path"),
        ({"path": None}, "path"),
        ({"path": "/" + "x" * 2000}, "1024"),
        ({"domain": ""}, "domain"),
        ({"domain": "a.test; Secure"}, "domain"),
        ({"domain": "a b"}, "domain"),
        ({"domain": "http://a.test"}, "domain"),
        ({"domain": "a.test:80"}, "domain"),
        ({"domain": "ä.test"}, "domain"),
        ({"domain": "a..test"}, "domain"),
        ({"domain": "a.test\n"}, "domain"),
        ({"secure": "yes"}, "secure"),
        ({"secure": 1}, "secure"),
        ({"secure": None}, "secure"),
        ({"httponly": 0}, "httponly"),
        ({"persistent": "no"}, "persistent"),
        ({"partitioned": 1}, "partitioned"),
        ({"samesite": "lux"}, "samesite"),
        ({"samesite": None}, "samesite"),
        ({"samesite": True}, "samesite"),
        ({"samesite": "None"}, "secure=True"),
        ({"samesite": "None", "secure": False}, "secure=True"),
        ({"partitioned": True}, "secure=True"),
        ({"name": "__Host-s"}, "secure=True"),
        ({"name": "__HOST-s", "secure": False}, "secure=True"),
        ({"name": "__Secure-s"}, "secure=True"),
        ({"name": "__secure-s"}, "secure=True"),
        ({"name": "__Http-s"}, "secure=True"),
        ({"name": "__Host-s", "secure": True, "path": "/x"}, "path"),
        ({"name": "__Host-s", "secure": True, "domain": "a.test"}, "domain"),
        ({"name": "__Http-s", "secure": True, "httponly": False}, "httponly"),
        ({"name": "__Host-Http-s", "secure": True, "httponly": False}, "httponly"),
        ({"name": "__Host-Http-s", "secure": True, "path": "/x"}, "path"),
        ({"max_age": 5}, "max_age"),
    ],
)
def test_wrong_cookies(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match="Cookie") as caught:
        Cookie(**options)

    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["name", "path", "domain"])
@pytest.mark.parametrize("byte", [*range(0x20), 0x3B, 0x7F])
def test_no_byte_breaks_out_of_the_header(name: str, byte: int) -> None:
    value = {"name": "n", "path": "/p", "domain": "d.test"}[name] + chr(byte) + "x"

    with pytest.raises(ConfigurationError):
        Cookie(**{name: value})  # type: ignore[arg-type] # one of three texts


@pytest.mark.parametrize(
    "options",
    [
        {"name": "__Host-s", "secure": True},
        {"name": "__Http-s", "secure": True, "path": "/x"},
        {"samesite": "none", "secure": True, "partitioned": True},
        {"samesite": "STRICT"},
        {"domain": ".example.com"},
        {"domain": "localhost"},
    ],
)
def test_good_cookies(options: dict[str, Any]) -> None:
    assert Cookie(**options)


@pytest.mark.parametrize("name", ["idle", "absolute"])
@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0, math.nan, math.inf, True, False, "1h", timedelta(0), timedelta(-1), 1e12, 10**400],
)
def test_wrong_lifetimes(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} is .*, or None for no such limit$"):
        Lifetime(**{name: value})


@pytest.mark.parametrize("value", [1e12, 1e308, 10**400, timedelta.max])
def test_a_length_of_time_beyond_all_sense_names_the_limit(value: Any) -> None:
    limit = r"at most a hundred years are allowed \(3155760000 seconds\)"
    for name in ("idle", "absolute"):
        with pytest.raises(ConfigurationError, match=f"^Lifetime: {name} is .*{limit}"):
            Lifetime(**{name: value})
    for name in ("rotate_after", "touch_interval"):
        with pytest.raises(ConfigurationError, match=f"^SessionMiddleware: {name} is .*{limit}"):
            SessionMiddleware(app, secret_key=SECRET, **{name: value})


def test_lifetimes_are_equal_however_they_are_written() -> None:
    minute, hour = timedelta(minutes=1), timedelta(hours=1)

    assert Lifetime(60, 3600) == Lifetime(minute, hour) == Lifetime(absolute=3600.0, idle=60.0)
    assert len({Lifetime(60, 3600), Lifetime(minute, hour), Lifetime(60.0, hour)}) == 1
    assert Lifetime(60, None) == Lifetime(minute, None)
    assert Lifetime(60, None) != Lifetime(60, 3600) != Lifetime(3600, 60)
    assert Lifetime(60) != 60


def test_all_but_the_first_argument_is_given_by_name() -> None:
    assert Cookie("sid") == Cookie(name="sid")
    assert TrustedProxies(2) == TrustedProxies(hops=2)
    with pytest.raises(ConfigurationError, match=r"^Cookie: too many positional arguments"):
        Cookie("sid", "/app")  # type: ignore[call-arg] # the mistake under test
    with pytest.raises(ConfigurationError, match=r"^TrustedProxies: too many positional arguments"):
        TrustedProxies(2, 1)  # type: ignore[call-arg] # the mistake under test


def test_a_lifetime_without_any_limit() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        Lifetime(idle=None, absolute=None)


def test_options_are_frozen() -> None:
    secrets = [SECRET]
    labels = ["ip"]
    site = Site(secret_key=secrets, label=labels)
    browser = site.browser()
    secrets[0] = "z" * 32
    labels.clear()

    site.run(browser, lambda s: s.login("bob"))

    assert site.run(browser, lambda s: s.label).text == "{'ip': '192.0.2.1'}"


def test_describe_and_repr_show_settings_without_secrets() -> None:
    key = os.urandom(32)
    middleware = SessionMiddleware(
        app, secret_key=[SECRET, "another " * 8], encryption_keys=[key], max_per_owner=3
    )

    text = middleware.describe()

    for shown in ("idle 1 day", "max_per_owner: 3", "secret keys: 2", "encryption at rest: yes"):
        assert shown in text
    for hidden in (SECRET, "another", repr(key)):
        assert hidden not in text + repr(middleware)


def answer_outage(environ: Any, start_response: Any, error: StoreError) -> list[bytes]:
    start_response("500 Sorry", [])
    return []


def polls(environ: dict[str, object]) -> bool:
    return environ["PATH_INFO"] == "/poll"


class Audit:
    def __call__(self, event: SessionEvent) -> None: ...


def test_describe_names_the_functions_that_were_given() -> None:
    given = SessionMiddleware(
        app,
        secret_key=SECRET,
        passive=polls,
        on_event=[Audit(), print],
        on_store_error=answer_outage,
        token_header="X-Session-Token",
        id_factory=new_id,
        clock=time.time,
    ).describe()
    bare = SessionMiddleware(app, secret_key=SECRET).describe()

    assert f"passive: {__name__}.polls\n" in given
    assert f"on_event: {__name__}.Audit, builtins.print\n" in given
    assert f"on_store_error: {__name__}.answer_outage\n" in given
    assert "token_header: X-Session-Token\n" in given
    assert "token_header: none\n" in bare
    assert "passive: none\n" in bare
    assert "on_event: none\n" in bare
    assert "on_store_error: 503\n" in bare
    assert f"id_factory: {new_id.__module__}.new_id\n" in given
    assert "clock: time.time\n" in given
    assert "id_factory: random\n" in bare
    assert "clock: the system's\n" in bare


def test_describe_shows_every_option() -> None:
    # Where a line has another name than the option, or one for two.
    named = {
        "secret_key": "secret keys",
        "encryption_keys": "encryption at rest",
        "when_full": "max_per_owner",
    }
    text = SessionMiddleware(app, secret_key=SECRET).describe()
    shown = {line.partition(":")[0] for line in text.splitlines()}

    options = set(inspect.signature(SessionMiddleware).parameters) - {"app"}

    assert {named.get(option, option) for option in options} == shown


@pytest.mark.parametrize(
    ("lifetime", "shown"),
    [
        (Lifetime(90, None), "9 s, a tenth of the idle limit"),
        (Lifetime(600, None), "60 s"),
        (Lifetime(None, 90), "60 s"),
    ],
)
def test_describe_shows_the_interval_in_force(lifetime: Lifetime, shown: str) -> None:
    text = SessionMiddleware(app, secret_key=SECRET, lifetime=lifetime).describe()

    assert f"touch_interval: {shown}\n" in text


@pytest.mark.parametrize(
    ("lifetime", "shown"),
    [
        (Lifetime(idle=1209600.0, absolute=timedelta(days=90)), "idle 14 days, absolute 90 days"),
        (Lifetime(idle=600, absolute=90000), "idle 0:10:00, absolute 1 day, 1:00:00"),
        (Lifetime(idle=None, absolute=60), "idle none, absolute 0:01:00"),
    ],
)
def test_describe_shows_both_limits_alike_however_they_were_given(
    lifetime: Lifetime, shown: str
) -> None:
    text = SessionMiddleware(app, secret_key=SECRET, lifetime=lifetime).describe()

    assert f"lifetime: {shown}\n" in text


@pytest.mark.parametrize("made", ["", "short", "x" * 21, "x" * 87, "bad character!" * 3, 7, None])
def test_an_id_factory_that_gives_no_id(made: Any) -> None:
    site = Site(id_factory=lambda: made)

    with pytest.raises(ConfigurationError, match="id_factory"):
        site.run(site.browser(), lambda s: s.update(a=1))


def test_an_id_that_exists_is_never_joined() -> None:
    ids = iter(["a" * 43, "a" * 43, "b" * 43])
    site = Site(id_factory=lambda: next(ids))
    first, second = site.browser(), site.browser()
    site.run(first, lambda s: s.update(who="first"))

    site.run(second, lambda s: s.update(who="second"))

    assert second.cookies["session"].startswith("b" * 43)
    assert site.run(first, lambda s: s["who"]).text == "first"


def test_an_id_factory_that_repeats_itself_is_an_error_at_last() -> None:
    site = Site(id_factory=lambda: "a" * 43)
    site.run(site.browser(), lambda s: s.update(a=1))

    assert site.run(site.browser(), lambda s: s.update(a=1)).code == 503


def test_a_cookie_function_must_give_a_cookie() -> None:
    site = Site(cookie=lambda environ: "session")

    with pytest.raises(ConfigurationError, match="return a Cookie"):
        site.run(site.browser(), lambda s: None)


def test_no_store_warns_where_there_are_several_processes(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()

    site.run(site.browser(), lambda s: s.get("a"), **{"wsgi.multiprocess": True})

    assert "store" in caplog.text
