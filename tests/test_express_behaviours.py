"""What express-session's own suite checks, as behaviours of a WSGI middleware, row by row.

The number in a name is the row's in the inventory of that suite (its tests in order; 1 to 18 are of
cookies, 19 to 160 of sessions). Rows that pin a defect, or that were reversed in its next version,
are turned round here. What has no meaning for us is left out: per-session cookie attributes,
absolute expiry dates, Priority, SameSite "auto", callbacks, other middlewares' parsed cookies.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

import wsgi_sessions
from wsgi import SECRET, Browser, Handler, Response, Site, call, environ
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    Lifetime,
    Session,
    SessionMiddleware,
    StoreError,
    TrustedProxies,
)
from wsgi_sessions.record import Changes
from wsgi_sessions.stores import FileStore, MemoryStore, Store
from wsgi_sessions.testing import FakeClock, FaultyStore

KEY = "wsgi_sessions.session"
DAY = 24 * 60 * 60
HTTPS = {"wsgi.url_scheme": "https"}


def nothing(session: Session) -> str:
    return "-"


def write(session: Session) -> int:
    session["n"] = session.get("n", 0) + 1
    return int(session["n"])


def read(session: Session) -> str:
    return json.dumps(dict(session))


def site(**options: Any) -> tuple[Site, Browser, FaultyStore]:
    """A site on a store that counts, and a browser for it."""
    store = FaultyStore(options.pop("store", None) or MemoryStore())
    made = Site(store=store, **options)
    return made, made.browser(), store


def run(made: Site, browser: Browser, *works: Handler, **extra: Any) -> Response:
    for work in works:
        response = made.run(browser, work, **extra)
    return response


def attributes(cookie: str | None) -> dict[str, str | None]:
    """Of a Set-Cookie, in lower case; the first is the cookie itself."""
    assert cookie is not None, "no Set-Cookie"
    pairs = (part.strip().partition("=") for part in cookie.split(";")[1:])
    return {name.lower(): value or None for name, _, value in pairs}


def count(store: Store) -> int:
    return len(list(store.keys()))


def operations(store: FaultyStore) -> set[str]:
    return {name for name, times in store.calls.items() if times}


def started(app: Any, made: dict[str, Any], seen: list[Any]) -> Response:
    """A request, noting in ``seen`` that the headers went out."""

    def spy(made: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            seen.append("headers")
            return start_response(status, headers, exc_info)

        return app(made, start)

    return call(spy, made)


# 2.1 The cookie's settings


def test_001_to_005_a_cookie_has_safe_settings_by_default() -> None:
    made, browser, _ = site(cookie=Cookie())

    sent = attributes(run(made, browser, write).set_cookie)
    assert sent == {"httponly": None, "path": "/", "samesite": "Lax"}


def test_006_no_options_at_all_are_fine() -> None:
    assert Cookie() == Cookie()


@pytest.mark.parametrize("wrong", [42, "lax", True, None], ids=repr)
def test_007_cookie_options_of_another_type_are_named(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"cookie is {wrong!r}")):
        Site(cookie=wrong)


def test_008_and_018_an_unknown_option_cannot_slip_in() -> None:
    with pytest.raises(ConfigurationError, match="no option data"):
        Cookie(data={"path": "/x"})  # type: ignore[call-arg] # the point


def test_011_httponly_can_be_turned_off() -> None:
    made, browser, _ = site(cookie=Cookie(httponly=False))

    assert "httponly" not in attributes(run(made, browser, write).set_cookie)


def test_012_the_cookies_age_is_the_sessions() -> None:
    made, browser, _ = site(cookie=Cookie(persistent=True), lifetime=Lifetime(idle=100))

    assert attributes(run(made, browser, write).set_cookie)["max-age"] == "100"


def test_013_the_sessions_end_can_be_read() -> None:
    made, browser, _ = site(lifetime=Lifetime(idle=100))

    ends = run(made, browser, write, lambda session: session.expires_at.timestamp())
    assert ends.text == str(made.clock.now + 100)


@pytest.mark.parametrize(
    "wrong",
    [datetime(2030, 1, 1, tzinfo=UTC), "5", True, lambda: 5, float("nan"), -1, 0],
    ids=["date", "str", "bool", "callable", "nan", "negative", "zero"],
)
def test_014_and_015_a_lifetime_is_seconds_or_a_timedelta(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="idle is "):
        Lifetime(idle=wrong)


def test_016_and_154_partitioned_can_be_set() -> None:
    made, browser, _ = site(cookie=Cookie(partitioned=True, secure=True, samesite="None"))

    sent = attributes(run(made, browser, write, **HTTPS).set_cookie)
    assert "partitioned" in sent and "secure" in sent
    with pytest.raises(ConfigurationError, match="secure=True"):
        Cookie(partitioned=True)


def test_017_the_path_can_be_set() -> None:
    made, browser, _ = site(cookie=Cookie(path="/run"))

    assert attributes(run(made, browser, write).set_cookie)["path"] == "/run"


# 2.2 Basics


def test_019_the_public_names_are_there() -> None:
    for name in ("SessionMiddleware", "Session", "SessionRegistry", "Cookie", "get_session"):
        assert name in wsgi_sessions.__all__ and hasattr(wsgi_sessions, name)
    assert {"Store", "MemoryStore"} <= set(wsgi_sessions.stores.__all__)


def test_020_a_session_that_is_there_already_is_left_alone() -> None:
    made, _, store = site()
    present = {"of": "somebody else"}

    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(made[KEY] is present).encode()]

    wrapped = SessionMiddleware(app, secret_key=SECRET, store=store)
    response = call(wrapped, {**environ(), KEY: present})

    assert (response.text, response.set_cookie, operations(store)) == ("True", None, set())


def test_021_no_secret_is_an_error_at_once() -> None:
    with pytest.raises(ConfigurationError, match="secret"):
        SessionMiddleware(lambda made, start: [])  # type: ignore[call-arg] # the point


def test_023_the_first_write_sets_the_cookie_and_makes_one_record() -> None:
    made, browser, store = site()

    assert run(made, browser, write).set_cookie is not None
    assert count(store) == 1


def test_024_the_second_request_sees_the_firsts_data() -> None:
    made, browser, _ = site()

    assert run(made, browser, write, write, write).text == "3"


def test_025_a_store_that_cannot_read_is_no_sign_out() -> None:
    made, browser, store = site()
    run(made, browser, write)
    cookies = dict(browser.cookies)
    store.fail("load")

    response = run(made, browser, read)

    assert (response.code, response.set_cookie) == (503, None)
    store.recover()
    assert browser.cookies == cookies
    assert run(made, browser, write).text == "2"


def test_026_a_missing_file_is_a_new_session(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    made, browser, _ = site(store=FileStore(path))
    run(made, browser, write)
    for file in path.rglob("*"):
        if file.is_file():
            file.unlink()

    assert run(made, browser, read).text == "{}"


def test_027_two_first_requests_are_two_sessions() -> None:
    made, browser, store = site()
    run(made, browser, write)
    run(made, made.browser(), write)

    assert count(store) == 2


@pytest.mark.parametrize("script", ["", "/app"])
def test_028_an_empty_path_works(script: str) -> None:
    made, _, _ = site()
    made.routes[""] = write

    response = call(made.middleware, environ("", SCRIPT_NAME=script), check=bool(script))

    assert response.code == 200 and response.set_cookie is not None


def test_029_ending_twice_is_harmless() -> None:
    made, browser, store = site()

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write(made[KEY])
        start_response("200 OK", [])
        yield b"once"

    wrapped = SessionMiddleware(app, secret_key=SECRET, store=store)
    body: Any = wrapped(environ(), lambda status, headers, exc_info=None: bytes)
    assert list(body) == [b"once"]
    assert list(body) == []
    body.close()
    body.close()
    assert store.calls["insert"] == 1


@pytest.mark.parametrize(
    "make_body",
    [list, lambda: [b""], tuple, lambda: iter(()), lambda: iter([b""])],
    ids=["list", "list of one empty", "tuple", "iterator", "iterator of one empty"],
)
def test_030_an_empty_body_is_an_empty_200(make_body: Callable[[], Any]) -> None:
    def app(made: dict[str, Any], start_response: Any) -> Any:
        write(made[KEY])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return make_body()

    response = call(SessionMiddleware(app, secret_key=SECRET), environ())

    assert (response.code, response.body) == (200, b"") and response.set_cookie is not None


NAMES = ("save", "id", "keys", "get", "destroy", "owner", "__class__", "_visit", "cookie", "")


def test_031_and_120_data_never_shadows_the_sessions_own_names() -> None:
    made, browser, _ = site()

    def fill(session: Session) -> None:
        session.update({name: name for name in NAMES})

    run(made, browser, fill)

    def check(session: Session) -> bool:
        assert callable(session.save) and session.owner is None and len(session.id) == 43
        return all(session[name] == name for name in NAMES)

    assert run(made, browser, check).text == "True"


def test_032_iterating_gives_the_apps_data_alone() -> None:
    made, browser, _ = site()

    assert run(made, browser, write, lambda session: session.login("ada"), list).text == "['n']"


def test_033_the_id_cannot_be_replaced() -> None:
    made, browser, store = site()

    def replace(session: Session) -> None:
        session.id = 42  # type: ignore[misc,assignment] # the point

    with pytest.raises(AttributeError):
        run(made, browser, replace)
    assert count(store) == 0


def test_034_a_rolling_stream_renews_the_cookie() -> None:
    clock = FakeClock(1_800_000_000.0)

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        made[KEY]["n"] = 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"slow"
        clock.advance(100)
        yield b"stream"

    store = MemoryStore()
    wrapped = SessionMiddleware(
        app,
        secret_key=SECRET,
        store=store,
        clock=clock,
        rolling=True,
        cookie=Cookie(persistent=True),
    )
    browser = Browser(wrapped)

    for _ in range(2):
        assert attributes(browser.get().set_cookie)["max-age"] == str(DAY)
        (key,) = store.keys()
        record = store.load(key)
        assert record is not None and record.expires_at == clock.now + DAY


# 2.3 The record is there before the headers are


class Bodies:
    """Apps that write to their session and answer in different ways."""

    @staticmethod
    def whole(made: dict[str, Any], start: Any) -> Any:
        write(made[KEY])
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]

    @staticmethod
    def empty(made: dict[str, Any], start: Any) -> Any:
        write(made[KEY])
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []

    @staticmethod
    def several(made: dict[str, Any], start: Any) -> Any:
        write(made[KEY])
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"he", b"l", b"lo"]

    @staticmethod
    def generator(made: dict[str, Any], start: Any) -> Any:
        write(made[KEY])
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        yield b"he"
        yield b"llo"

    @staticmethod
    def written(made: dict[str, Any], start: Any) -> Any:
        write(made[KEY])
        writer = start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        writer(b"he")
        writer(b"llo")
        return []


@pytest.mark.parametrize("kind", ["whole", "empty", "several", "generator", "written"])
def test_035_to_038_the_record_is_written_before_any_header_goes_out(kind: str) -> None:
    store = FaultyStore(MemoryStore())
    order: list[str] = []
    store.after("insert", lambda *args: order.append("record"))
    wrapped = SessionMiddleware(getattr(Bodies, kind), secret_key=SECRET, store=store)

    response = started(wrapped, environ(), order)

    assert order == ["record", "headers"]
    assert response.body == (b"" if kind == "empty" else b"hello")
    assert response.get("Content-Length") == str(len(response.body))


def test_039_the_records_end_is_the_cookies_and_moves_with_use() -> None:
    made, browser, store = site(cookie=Cookie(persistent=True), lifetime=Lifetime(idle=1000))
    first = attributes(run(made, browser, write).set_cookie)["max-age"]
    (key,) = store.keys()
    record = store.load(key)
    assert record is not None and first is not None
    assert record.expires_at == made.clock.now + int(first)

    made.clock.advance(500)
    again = attributes(run(made, browser, read).set_cookie)["max-age"]

    moved = store.load(key)
    assert moved is not None and moved.expires_at == made.clock.now + 1000
    assert again == "1000"


# 2.4 Unknown, forged, expired, damaged


def test_040_and_041_an_unknown_id_is_never_adopted() -> None:
    made, browser, store = site()
    run(made, browser, write)
    before = browser.cookies["session"]
    store.clear()

    assert run(made, browser, read).text == "{}"
    run(made, browser, write)
    assert browser.cookies["session"].split(".")[0] != before.split(".")[0]


@pytest.mark.parametrize("damage", ["bare", "cut", "changed", "foreign"])
def test_042_and_043_without_its_signature_an_id_is_nothing(damage: str) -> None:
    made, browser, store = site()
    run(made, browser, write)
    token = browser.cookies["session"]
    session_id, _, signature = token.partition(".")
    other = "A" if signature[0] != "A" else "B"
    browser.cookies["session"] = {
        "bare": session_id,
        "cut": token[:-1],
        "changed": f"{session_id}.{other}{signature[1:]}",
        "foreign": f"s:{token}",
    }[damage]
    store.calls.clear()

    assert run(made, browser, read).text == "{}"
    assert operations(store) == set()
    run(made, browser, write)
    assert not browser.cookies["session"].startswith(session_id)


@pytest.mark.parametrize(("after", "lives"), [(999.0, True), (1000.0, False), (1001.0, False)])
def test_044_to_046_an_expired_session_is_over(after: float, lives: bool) -> None:
    made, browser, _ = site(lifetime=Lifetime(idle=1000))
    run(made, browser, write)
    before = browser.cookies["session"]
    made.clock.advance(after)

    assert len(list(made.middleware.registry)) == lives
    assert run(made, browser, write).text == ("2" if lives else "1")
    assert (browser.cookies["session"] == before) is lives


@pytest.mark.parametrize(
    "damage", [b"", b"null", b"[]", b"text", b"{}", b"\xff\xfe", b"\x01"], ids=repr
)
def test_047_a_damaged_record_is_no_session_and_locks_nobody_out(damage: bytes) -> None:
    made, browser, store = site()
    run(made, browser, write)
    (key,) = store.keys()
    store.update(key, Changes(notes=damage))

    assert run(made, browser, read).text == "{}"
    assert made.kinds[-1] == "corrupt_record"
    assert run(made, browser, write).code == 200
    assert run(made, browser, read).text == '{"n": 1}'


def test_047_a_damaged_field_is_no_half_session() -> None:
    made, browser, store = site()
    run(made, browser, write)
    (key,) = store.keys()
    store.update(key, Changes(set={"n": b"{"}))

    assert run(made, browser, lambda session: session.get("n")).text == "None"
    assert made.kinds[-1] == "corrupt_record"


# 2.5 and 2.7 What counts as secure


@pytest.mark.parametrize(
    ("row", "hops", "scheme", "forwarded", "sent"),
    [
        (48, 1, "http", "https", True),
        (49, 1, "http", "https,http", False),  # from the right: what the proxy itself saw
        (49, 1, "http", "http,https", True),
        (50, 1, "http", None, False),
        (51, 0, "http", "https", False),
        (52, 0, "http", None, False),
        (53, 0, "http", "https", False),
        (54, 0, "https", None, True),
        (77, 0, "http", None, False),
        (143, 0, "https", None, True),
        (144, 0, "http", None, False),
    ],
)
def test_048_to_054_a_secure_cookie_goes_out_on_secure_requests_only(
    row: int, hops: int, scheme: str, forwarded: str | None, sent: bool
) -> None:
    made, browser, store = site(cookie=Cookie(secure=True), trusted_proxies=hops)
    extra: dict[str, Any] = {"wsgi.url_scheme": scheme}
    if forwarded is not None:
        extra["HTTP_X_FORWARDED_PROTO"] = forwarded

    response = run(made, browser, write, **extra)

    assert response.code == 200
    assert (response.set_cookie is not None) is sent
    assert count(store) == sent


@pytest.mark.parametrize(
    ("row", "hops", "scheme", "forwarded", "secure"),
    [
        (61, 1, "http", "https", True),
        (62, 0, "http", "https", False),
        (63, 0, "https", None, True),
        (64, 0, "http", None, False),
    ],
)
def test_061_to_064_auto_follows_the_request(
    row: int, hops: int, scheme: str, forwarded: str | None, secure: bool
) -> None:
    made, browser, _ = site(cookie=Cookie(secure="auto"), trusted_proxies=TrustedProxies(hops))
    extra: dict[str, Any] = {"wsgi.url_scheme": scheme}
    if forwarded is not None:
        extra["HTTP_X_FORWARDED_PROTO"] = forwarded

    assert ("secure" in attributes(run(made, browser, write, **extra).set_cookie)) is secure


@pytest.mark.parametrize(("extra", "secure"), [({}, False), (HTTPS, True)], ids=["http", "https"])
def test_065_and_066_a_function_chooses_the_cookie_once_per_request(
    extra: dict[str, Any], secure: bool
) -> None:
    asked: list[str] = []

    def choose(made: dict[str, Any]) -> Cookie:
        asked.append(made["PATH_INFO"])
        return Cookie("chosen", path="/run", httponly=False)

    made, browser, _ = site(cookie=choose)

    sent = attributes(run(made, browser, write, **extra).set_cookie)
    assert sent == {"path": "/run", "samesite": "Lax"} | ({"secure": None} if secure else {})
    assert list(browser.cookies) == ["chosen"]
    assert asked == ["/run"]


def test_074_samesite_none_without_secure_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="samesite='None'"):
        Cookie(samesite="None", secure=False)


# 2.6 The cookie's path


@pytest.mark.parametrize(
    ("row", "cookie_path", "script", "path", "covered"),
    [
        (55, "/foo/bar", "", "/", False),
        (57, "/foo/bar", "", "/foo/bar", True),
        (58, "/foo/bar", "", "/foo/bar/baz", True),
        (59, "/foo/bar", "/foo", "/bar", True),
        (60, "/foo/bar", "/foo", "/foo/bar", False),
        (1114, "/", "", "/", True),
        (1114, "/", "", "/foo", True),
        (1114, "/", "", "/foo/bar/baz", True),
        (1114, "/admin", "", "/admin", True),
        (1114, "/admin", "", "/admin/", True),
        (1114, "/admin", "", "/admin/users", True),
        (1114, "/admin", "", "/administrator", False),
        (1114, "/admin/", "", "/admin/x", True),
        (1114, "/admin/", "", "/admin", False),
        (1114, "/admin/", "", "/administrator", False),
        (1114, "/admin", "", "//admin", False),
        (1114, "/admin", "", "/ADMIN", False),
        (1114, "/caf%C3%A9", "", "/café".encode().decode("latin-1"), True),
    ],
)
def test_055_to_060_a_session_is_where_its_cookies_path_is(
    row: int, cookie_path: str, script: str, path: str, covered: bool
) -> None:
    found: list[bool] = []

    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        found.append(KEY in made)
        if KEY in made:
            write(made[KEY])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"-"]

    wrapped = SessionMiddleware(app, secret_key=SECRET, cookie=Cookie(path=cookie_path))
    response = call(wrapped, environ(path, SCRIPT_NAME=script))

    assert found == [covered]
    assert (response.set_cookie is not None) is covered


def test_056_a_host_header_does_not_fool_the_path() -> None:
    made, browser, _ = site(cookie=Cookie(path="/foo/bar"))
    made.routes["/"] = nothing

    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(KEY in made).encode()]

    wrapped = SessionMiddleware(app, secret_key=SECRET, cookie=Cookie(path="/foo/bar"))
    assert call(wrapped, environ("/", HTTP_HOST="http://foo/bar")).text == "False"


# 2.8 IDs and names


def test_078_a_factory_of_ids_is_callable() -> None:
    with pytest.raises(ConfigurationError, match="id_factory"):
        Site(id_factory="x" * 43)


def test_079_ids_are_long_plain_and_different() -> None:
    made, browser, _ = site()
    ids = {run(made, made.browser(), lambda session: session.id).text for _ in range(1000)}

    assert len(ids) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", session_id) for session_id in ids)


def test_080_a_known_id_and_secret_make_a_known_cookie() -> None:
    session_id = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
    made, browser, _ = site(id_factory=lambda: session_id)
    run(made, browser, write)

    derived = hmac.digest(SECRET.encode(), b"wsgi-sessions.cookie.session", "sha256")
    signature = base64.urlsafe_b64encode(hmac.digest(derived, session_id.encode(), "sha256"))
    assert browser.cookies["session"] == f"{session_id}.{signature.decode().rstrip('=')}"
    assert browser.cookies["session"].endswith(".MUVw80_HScxoDI7WRhy4eWJz7LuKIxF3RVXmL0yayqo")


@pytest.mark.parametrize(
    "unsafe", ["%" * 43, "a/b" * 15, "short", "", "ä" * 43, "a" * 42 + "\n", 7]
)
def test_081_an_id_that_is_unsafe_or_too_short_is_refused(unsafe: Any) -> None:
    made, browser, store = site(id_factory=lambda: unsafe)

    with pytest.raises(ConfigurationError, match="id_factory"):
        run(made, browser, write)
    assert count(store) == 0


def test_083_and_085_the_cookies_name_is_session() -> None:
    made, browser, _ = site()
    run(made, browser, write)

    assert list(browser.cookies) == ["session"]


def test_086_the_name_can_be_chosen_and_must_be_one() -> None:
    made, browser, _ = site(cookie=Cookie("shop.sid"))
    run(made, browser, write)

    assert list(browser.cookies) == ["shop.sid"]
    for wrong in ("", "a b", "a;b", "a=b", "ä", "__Host-x"):
        with pytest.raises(ConfigurationError, match="name"):
            Cookie(wrong)


# 2.9 to 2.11 rolling, and what is saved without a change


def test_087_an_unchanged_session_sends_no_cookie() -> None:
    made, browser, _ = site()

    assert run(made, browser, write, read).set_cookie is None


def test_088_rolling_sends_it_where_the_session_was_used() -> None:
    made, browser, _ = site(rolling=True)

    assert run(made, browser, write, read).set_cookie is not None
    assert run(made, browser, nothing).set_cookie is None


def test_089_rolling_makes_no_session_of_nothing() -> None:
    made, browser, store = site(rolling=True)

    assert run(made, browser, read).set_cookie is None
    assert count(store) == 0


def test_090_and_099_uninitialised_sessions_are_kept_if_asked_for() -> None:
    for rolling in (False, True):
        made, browser, store = site(save_uninitialized=True, rolling=rolling)

        assert run(made, browser, nothing).set_cookie is None
        assert run(made, browser, read).set_cookie is not None
        assert count(store) == 1


def test_091_rolling_keeps_what_was_written() -> None:
    made, browser, store = site(rolling=True)

    assert run(made, browser, write).set_cookie is not None
    assert count(store) == 1


def test_092_and_094_reading_writes_nothing() -> None:
    made, browser, store = site()
    run(made, browser, write)
    store.calls.clear()
    run(made, browser, read)

    assert dict(store.calls) == {"load": 1}


def test_095_only_changes_are_written() -> None:
    made, browser, store = site()
    written = []
    for work in (write, read, write):
        store.calls.clear()
        run(made, browser, work)
        written.append(store.calls["insert"] + store.calls["update"])

    assert written == [1, 0, 1]


def test_096_a_nested_name_like_ours_counts_as_a_change() -> None:
    made, browser, _ = site()

    def start(session: Session) -> None:
        session["user"] = {"cookie": 1, "notes": {"owner": 1}}

    def change(session: Session) -> None:
        session["user"]["cookie"] = 2
        session["user"]["notes"]["owner"] = 2

    assert run(made, browser, start, change, read).text == (
        '{"user": {"cookie": 2, "notes": {"owner": 2}}}'
    )


def test_097_a_touch_that_fails_is_no_failed_request() -> None:
    made, browser, store = site()
    run(made, browser, write)
    made.clock.advance(100)
    store.fail("update")

    response = run(made, browser, read)

    assert (response.code, response.text) == (200, '{"n": 1}')
    assert made.kinds[-1] == "store_error"


def test_098_and_100_an_untouched_new_session_is_not_kept() -> None:
    made, browser, store = site()

    for work in (nothing, read):
        assert run(made, browser, work).set_cookie is None
    assert count(store) == 0


def test_101_a_changed_one_is() -> None:
    made, browser, store = site(save_uninitialized=False)

    assert run(made, browser, write).set_cookie is not None
    assert count(store) == 1


def test_102_a_write_that_fails_is_seen_before_the_headers() -> None:
    made, browser, store = site()
    store.fail("insert")

    response = run(made, browser, write)

    assert (response.code, response.set_cookie) == (503, None)


def test_103_an_untouched_new_session_asks_the_store_for_nothing() -> None:
    made, browser, store = site()
    run(made, browser, nothing, read)

    assert operations(store) == set()


# 2.12 Secrets


@pytest.mark.parametrize(
    "wrong",
    [[], "", b"", None, [None], ["short"], "x" * 31, {SECRET}, [SECRET, ""], 42],
    ids=repr,
)
def test_104_a_secret_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret") as caught:
        SessionMiddleware(lambda made, start: [], secret_key=wrong)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode(), [SECRET], (SECRET.encode(),)])
def test_105_to_107_a_secret_is_text_or_bytes_or_a_list(secret: Any) -> None:
    made, browser, _ = site(secret_key=secret)

    assert run(made, browser, write, write).text == "2"


def test_108_and_109_the_first_signs_and_all_verify() -> None:
    old, new = "the older secret, long enough for this", "the newer secret, long enough for this"
    store = MemoryStore()
    both, only_old, only_new = (
        Site(store=store, secret_key=keys) for keys in ([new, old], old, new)
    )
    browser = only_old.browser()
    run(only_old, browser, write)
    browser.app = both.middleware

    again = run(both, browser, read)

    assert again.text == '{"n": 1}'
    assert again.set_cookie is not None
    browser.app = only_new.middleware
    assert run(only_new, browser, read).text == '{"n": 1}'
    browser.app = only_old.middleware
    assert run(only_old, browser, read).text == "{}"


# 2.13 Ending


def test_111_taking_the_session_out_of_the_environ_ends_nothing() -> None:
    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        write(made[KEY])
        del made[KEY]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"-"]

    store = MemoryStore()
    browser = Browser(SessionMiddleware(app, secret_key=SECRET, store=store))
    browser.get()

    assert count(store) == 1 and browser.cookies


def test_112_destroy_removes_the_record() -> None:
    made, browser, store = site()
    run(made, browser, write, Session.destroy)

    assert count(store) == 0


def test_113_destroying_a_fresh_session_costs_nothing() -> None:
    made, browser, store = site()

    def both(session: Session) -> None:
        write(session)
        session.destroy()

    for work in (Session.destroy, both):
        assert run(made, browser, work).set_cookie is None
    assert operations(store) == set()


def test_114_a_destroy_that_fails_is_told() -> None:
    made, browser, store = site()
    run(made, browser, write)
    store.fail("delete")
    told: list[StoreError] = []

    def end(session: Session) -> None:
        try:
            session.destroy()
        except StoreError as error:
            told.append(error)

    run(made, browser, end)

    assert len(told) == 1


# 2.14 Other middlewares


def zipping(app: Any) -> Any:
    """A middleware that rewrites body and headers, as gzip middlewares do."""

    def wrapped(made: dict[str, Any], start_response: Any) -> Any:
        kept: list[Any] = []

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            kept.append((status, [*headers, ("Content-Encoding", "gzip")]))
            return lambda data: None

        body = app(made, start)
        data = gzip.compress(b"".join(body))
        if hasattr(body, "close"):
            body.close()
        status, headers = kept[0]
        start_response(status, headers)
        return [data]

    return wrapped


@pytest.mark.parametrize("outside", [True, False], ids=["outside", "inside"])
def test_115_and_116_a_middleware_around_or_within_keeps_its_body(outside: bool) -> None:
    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write(made[KEY])
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"hello, "
        yield b"world"

    inner: Any = validator(app)
    if not outside:
        inner = zipping(inner)
    wrapped: Any = SessionMiddleware(inner, secret_key=SECRET)
    if outside:
        wrapped = zipping(wrapped)

    response = call(wrapped, environ())

    assert gzip.decompress(response.body) == b"hello, world"
    assert response.get("Content-Encoding") == "gzip"
    assert response.set_cookie is not None


def test_117_start_response_twice_is_the_same_error_as_without() -> None:
    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"-"]

    for wrapped in (app, SessionMiddleware(app, secret_key=SECRET)):
        with pytest.raises(AssertionError):
            call(wrapped, environ())


def test_117_exc_info_after_the_headers_raises_the_error_itself() -> None:
    import sys

    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())

    def server(app: Any) -> None:
        sent: list[bytes] = []

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            if sent and exc_info:
                raise exc_info[1]
            return sent.append

        for chunk in app(environ(), start):
            sent.append(chunk)

    for wrapped in (app, SessionMiddleware(app, secret_key=SECRET)):
        with pytest.raises(ZeroDivisionError):
            server(wrapped)


# 2.15 A session's life


def test_118_a_counter_goes_on_and_is_in_the_store() -> None:
    made, browser, store = site()

    assert [run(made, browser, write).text for _ in range(3)] == ["1", "2", "3"]
    handle = run(made, browser, lambda session: session.handle).text
    record = store.load(handle)
    assert record is not None and record.fields["n"] == b"3"


def test_119_a_persistent_cookie_is_sent_with_what_is_written() -> None:
    made, browser, _ = site(cookie=Cookie(persistent=True))

    sent = [run(made, browser, work).set_cookie is not None for work in (write, write, read, write)]
    assert sent == [True, True, False, True]


def test_122_after_an_outage_all_is_as_before() -> None:
    made, browser, store = site()
    run(made, browser, write)
    store.fail("load", "update", "insert")
    assert run(made, browser, write).code == 503

    store.recover()

    assert run(made, browser, write).text == "2"


def test_123_destroy_expires_the_cookie_with_the_same_attributes() -> None:
    made, browser, _ = site(cookie=Cookie(path="/run", httponly=False, samesite="Strict"))
    set_ = attributes(run(made, browser, write).set_cookie)
    response = run(made, browser, Session.destroy)

    expired = attributes(response.set_cookie)
    assert expired.pop("max-age") == "0"
    assert expired.pop("expires") == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert expired == set_
    assert run(made, browser, read).text == "{}"


@pytest.mark.parametrize("keep", [True, False])
def test_124_regenerate_gives_a_new_id_and_ends_the_old_one(keep: bool) -> None:
    made, browser, store = site()
    run(made, browser, write)
    old = dict(browser.cookies)

    def renew(session: Session) -> None:
        session.regenerate(keep=keep)
        session["renewed"] = True

    for _ in range(2):
        before = browser.cookies["session"]
        assert run(made, browser, renew).set_cookie is not None
        assert browser.cookies["session"] != before

    assert run(made, browser, read).text == (
        '{"n": 1, "renewed": true}' if keep else '{"renewed": true}'
    )
    assert count(store) == 1
    thief = made.browser()
    thief.cookies.update(old)
    assert run(made, thief, read).text == "{}"


def test_125_reload_shows_what_another_request_wrote() -> None:
    made, browser, _ = site()
    run(made, browser, write)
    other = made.browser()
    other.cookies.update(browser.cookies)

    def reloading(session: Session) -> str:
        session["n"] = "mine"
        made.routes["/other"] = write
        other.get("/other")
        session.reload()
        return read(session)

    assert run(made, browser, reloading).text == '{"n": 2}'
    assert run(made, browser, read).text == '{"n": 2}'


def test_126_reloading_what_was_ended_gives_a_new_session() -> None:
    made, browser, store = site()
    run(made, browser, write)

    def reloading(session: Session) -> str:
        read(session)
        store.clear()
        session.reload()
        return f"{read(session)} {session.is_new}"

    assert run(made, browser, reloading).text == "{} True"


def test_128_a_saved_record_can_be_read_at_once() -> None:
    made, browser, store = site()

    def saving(session: Session) -> int:
        write(session)
        session.save()
        return count(store)

    assert run(made, browser, saving).text == "1"


@pytest.mark.parametrize("reload", [False, True])
def test_129_to_131_what_was_saved_is_not_written_again(reload: bool) -> None:
    made, browser, store = site(save_uninitialized=False)

    def saving(session: Session) -> None:
        write(session)
        session.save()
        if reload:
            session.reload()

    for operation in ("insert", "update"):
        store.calls.clear()
        run(made, browser, saving)
        assert (store.calls["insert"], store.calls["update"]) == (
            (1, 0) if operation == "insert" else (0, 1)
        )
    assert run(made, browser, read).text == '{"n": 2}'


def test_132_touch_moves_the_records_end() -> None:
    made, browser, store = site(lifetime=Lifetime(idle=1000))
    run(made, browser, write)
    made.clock.advance(10)
    run(made, browser, Session.touch)

    (key,) = store.keys()
    record = store.load(key)
    assert record is not None and record.expires_at == made.clock.now + 1000


# 2.16 The cookie on the wire


def test_134_135_and_149_to_151_a_browser_sessions_cookie_is_sent_once() -> None:
    made, browser, _ = site()
    sent = attributes(run(made, browser, write).set_cookie)

    assert not {"max-age", "expires"} & set(sent)
    assert run(made, browser, read).set_cookie is None
    assert run(made, browser, write).set_cookie is None


def test_136_the_options_are_on_the_wire_and_nothing_else_is() -> None:
    cookie = Cookie(
        "s", path="/run", domain="example.test", httponly=False, samesite="Strict", persistent=True
    )
    made, browser, _ = site(cookie=cookie)

    on_the_wire = attributes(run(made, browser, write).set_cookie)

    assert on_the_wire.pop("expires")
    assert on_the_wire == {
        "path": "/run",
        "domain": "example.test",
        "samesite": "Strict",
        "max-age": str(DAY),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "a.test; Secure"},
        {"path": "/x\r\nSet-Cookie: a=b"},
        {"path": "x"},
        {"samesite": "maybe"},
        {"httponly": 1},
    ],
    ids=repr,
)
def test_137_a_wrong_attribute_fails_where_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Cookie(**wrong)


def test_138_and_139_the_apps_own_cookies_stay_as_they_are() -> None:
    made, browser, _ = site()
    made.headers = [("Set-Cookie", "b=2; Path=/"), ("X-Other", "-"), ("Set-Cookie", "a=1")]

    sent = run(made, browser, write).all("Set-Cookie")

    assert sent[:2] == ["b=2; Path=/", "a=1"]
    assert sent[2].startswith("session=") and len(sent) == 3


def test_140_to_142_the_age_does_not_erode() -> None:
    made, browser, _ = site(cookie=Cookie(persistent=True), lifetime=Lifetime(idle=1000))
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def keep(session: Session) -> None:
        session["at"] = moment

    run(made, browser, keep)
    for _ in range(5):
        made.clock.advance(timedelta(seconds=100.1))
        assert attributes(run(made, browser, write).set_cookie)["max-age"] == "1000"

    def check(session: Session) -> bool:
        return bool(session["at"] == moment) and session.lifetime.idle_seconds == 1000

    assert run(made, browser, check).text == "True"


def test_145_and_146_an_age_set_by_the_app_is_this_responses() -> None:
    made, browser, _ = site()

    def short(session: Session) -> None:
        session["n"] = 1
        session.lifetime = Lifetime(idle=5)
        session.persistent = True

    assert attributes(run(made, browser, short).set_cookie)["max-age"] == "5"
    made.clock.advance(5)
    assert run(made, browser, read).text == "{}"


@pytest.mark.parametrize(
    ("idle", "sent"), [(3_000_000, 3_000_000), (500 * DAY, 400 * DAY)], ids=["35 d", "500 d"]
)
def test_147_a_long_age_is_no_overflow_and_what_browsers_keep(idle: int, sent: int) -> None:
    made, browser, _ = site(
        cookie=Cookie(persistent=True), lifetime=Lifetime(idle=idle, absolute=None)
    )

    assert attributes(run(made, browser, write).set_cookie)["max-age"] == str(sent)


def test_152_and_153_partitioned_is_off_by_default() -> None:
    made, browser, _ = site()
    response = run(made, browser, write)
    other = Site(cookie=Cookie(partitioned=False))

    assert "partitioned" not in attributes(response.set_cookie)
    assert "partitioned" not in attributes(run(other, other.browser(), write).set_cookie)


# 2.17 Streams


def test_155_and_156_saving_and_ending_in_a_stream_keep_the_body() -> None:
    def app(made: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        session = made[KEY]
        read(session)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"one "
        write(session)
        session.save()
        yield b"two "
        session.destroy()
        yield b"three"

    store = MemoryStore()
    made, browser, _ = site(store=store)
    run(made, browser, write)
    browser.app = SessionMiddleware(app, secret_key=SECRET, store=store, clock=made.clock)

    assert browser.get().text == "one two three"
    assert count(store) == 0


def test_the_handle_is_the_hash_of_the_id() -> None:
    made, browser, _ = site()
    both = run(made, browser, lambda session: f"{session.id} {session.handle}").text.split()

    selector = base64.urlsafe_b64decode(both[0] + "=")[:16]
    assert hashlib.sha256(selector).hexdigest() == both[1]
