"""Tokens in a header: the whole life cycle with a client that has no cookies."""

from __future__ import annotations

from typing import Any

import pytest

from wsgi import SECRET, Browser, Response, Site, call, environ
from wsgi_sessions import Cookie, Lifetime, Session, SessionMiddleware, get_session
from wsgi_sessions.stores import ClientSideStore, MemoryStore
from wsgi_sessions.testing import FaultyStore

NAME = "X-Session-Token"


class Device:
    """Sends its token, keeps what comes back, knows no cookies."""

    def __init__(self, site: Site, token: str = "") -> None:
        self.site = site
        self.token = token

    def run(self, work: Any, path: str = "/run", **extra: Any) -> Response:
        self.site.routes[path] = work
        made = environ(path, HTTP_X_SESSION_TOKEN=self.token, **extra)
        response = call(self.site.middleware, made)
        assert response.all("Set-Cookie") == []
        given = response.get(NAME)
        if given is not None:
            self.token = given
        return response


def read(session: Session) -> str:
    return repr(dict(session))


def started(**options: Any) -> tuple[Site, Device]:
    site = Site(token_header=NAME, **options)
    device = Device(site)
    device.run(lambda s: s.update(a=1))
    return site, device


def test_an_empty_header_asks_for_a_first_token() -> None:
    site = Site(token_header=NAME)
    device = Device(site)

    assert device.run(read).get(NAME) is None
    first = device.run(lambda s: s.update(a=1))

    assert first.get(NAME)
    assert first.get("Cache-Control") == "no-store"
    assert {part.strip() for part in str(first.get("Vary")).split(",")} == {NAME, "Cookie"}
    assert device.run(read).text == "{'a': 1}"


def test_a_token_is_sent_again_only_when_it_is_new() -> None:
    _, device = started()

    assert device.run(lambda s: s.update(a=2)).get(NAME) is None
    assert device.run(lambda s: s.regenerate()).get(NAME)
    assert device.run(lambda s: s.login("ada")).get(NAME)
    assert device.run(lambda s: s.owner).text == "ada"


def test_an_ended_session_answers_with_an_empty_token() -> None:
    _, device = started()
    old = device.token

    assert device.run(lambda s: s.destroy()).get(NAME) == ""
    device.token = old
    assert device.run(read).text == "{}"


def test_a_new_id_kills_the_old_token() -> None:
    _, device = started()
    old = device.token
    device.run(lambda s: s.login("ada"))

    device.token = old

    assert device.run(lambda s: s.owner).text == "None"


@pytest.mark.parametrize("token", ["nonsense", "é", "a" * 43 + "." + "b" * 43, "x" * 100_000])
def test_a_token_that_is_none_is_no_session(token: str) -> None:
    site = Site(token_header=NAME, store=(store := FaultyStore(MemoryStore())))

    response = Device(site, token).run(read)

    assert response.text == "{}"
    assert response.get(NAME) is None
    assert not store.calls


def test_cookie_tokens_and_header_tokens_are_no_good_for_each_other() -> None:
    site, device = started()
    browser = site.browser()
    site.run(browser, lambda s: s.update(who="browser"))

    assert Device(site, browser.cookies["session"]).run(read).text == "{}"
    thief = Browser(site.middleware)
    thief.cookies["session"] = device.token
    assert site.run(thief, read).text == "{}"


def test_a_request_with_the_header_is_served_by_it_alone() -> None:
    site, device = started()
    browser = site.browser()
    site.run(browser, lambda s: s.update(who="browser"))
    cookie = f"session={browser.cookies['session']}"

    assert device.run(read, HTTP_COOKIE=cookie).text == "{'a': 1}"
    assert Device(site).run(read, HTTP_COOKIE=cookie).text == "{}"
    assert site.run(browser, read).text == "{'who': 'browser'}"


def test_never_from_a_query_string() -> None:
    site, device = started()

    site.routes["/run"] = read
    for query in (f"{NAME}={device.token}", f"token={device.token}", device.token):
        assert call(site.middleware, environ("/run", QUERY_STRING=query)).text == "{}"


def test_the_limits_are_the_same() -> None:
    site, device = started(lifetime=Lifetime(idle=60))

    site.clock.advance(60)

    assert device.run(read).text == "{}"
    assert site.events[-1].kind == "expired"


def test_rotation_gives_a_new_token_and_the_old_one_a_grace() -> None:
    site, device = started(rotate_after=100)
    old = device.token
    site.clock.advance(100)

    assert device.run(read).get(NAME)
    late = Device(site, old)
    site.clock.advance(5)
    assert late.run(read).text == "{'a': 1}"
    assert late.token == device.token


def test_the_cookies_settings_dont_matter() -> None:
    site = Site(token_header=NAME, cookie=Cookie("__Host-s", secure=True))
    assert Device(site).run(lambda s: s.update(a=1)).get(NAME)
    site = Site(token_header=NAME, cookie=Cookie(path="/elsewhere"))
    assert Device(site).run(lambda s: s.update(a=1)).get(NAME)


def test_5xx_and_outages() -> None:
    store = FaultyStore(MemoryStore())
    site, device = started(store=store)
    site.status = "500 Oops"
    assert device.run(lambda s: s.regenerate()).get(NAME) is None
    site.status = "200 OK"
    store.fail("load")

    assert device.run(read).code == 503
    store.recover()
    assert device.run(read).text == "{'a': 1}"


def answering(headers: list[tuple[str, str]], work: Any, **options: Any) -> Any:
    """A middleware whose app uses the session, and answers with these headers."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        work(get_session(environ))
        start_response("200 OK", [("Content-Type", "text/plain"), *headers])
        return [b"ok"]

    made: dict[str, Any] = {"secret_key": SECRET, "store": MemoryStore(), "token_header": NAME}
    return SessionMiddleware(app, **{**made, **options})


def test_a_header_of_that_name_that_the_app_set_itself_is_dropped_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = [(NAME, "evil"), (NAME.lower(), "evil, too")]
    for work, tokens in ((read, 0), (lambda s: s.update(a=1), 1)):
        middleware = answering(own, work)
        for _ in range(2):
            response = call(middleware, environ("/", HTTP_X_SESSION_TOKEN=""))
            given = response.all(NAME)
            assert len(given) == tokens
            assert not any("evil" in value for value in given)

    said = [record.message for record in caplog.records if "itself" in record.message]
    assert len(said) == 2
    assert set(said) == {
        (
            f"The app set a header {NAME!r} itself; it was dropped, because that is the session's"
            " header. Give one of the two another name."
        )
    }


def test_who_never_uses_the_session_may_set_that_header() -> None:
    middleware = answering([(NAME, "mine")], lambda session: None)

    assert call(middleware, environ("/", HTTP_X_SESSION_TOKEN="")).all(NAME) == ["mine"]


@pytest.mark.parametrize(
    "cookie", [Cookie("sid"), lambda environ: Cookie("sid")], ids=["one", "chosen"]
)
def test_an_app_that_deletes_the_cookie_signs_a_client_without_cookies_out(cookie: Any) -> None:
    store = MemoryStore()
    begin = answering([], lambda s: s.login("ada"), store=store, cookie=cookie)
    token = call(begin, environ("/", HTTP_X_SESSION_TOKEN="")).get(NAME)
    for name, lives in (("other", True), ("sid", False)):
        leave = answering([("Set-Cookie", f"{name}=; Max-Age=0")], read, store=store, cookie=cookie)

        response = call(leave, environ("/", HTTP_X_SESSION_TOKEN=token))

        assert response.get(NAME) == (None if lives else "")
        assert leave.registry.count("ada") == int(lives)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.swapcase(), "in the header 'X-Session-Token' alone"),
        (lambda t: t[:-3], "limits or rewrites headers"),
        (lambda t: f'"{t}"', "without quotes"),
    ],
)
def test_a_bad_token_in_a_header_is_explained_without_cookies(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, change: Any, says: str
) -> None:
    monkeypatch.setattr("wsgi_sessions.events._explained_in_process", set[str]())
    _, device = started()
    device.token = change(device.token)
    device.run(read)

    (text,) = [
        record.message
        for record in caplog.records
        if record.message.startswith(("A token in", "A value in"))
    ]
    assert says in text
    assert "Cookie(" not in text and "cookies" not in text


@pytest.mark.parametrize("store", [MemoryStore(), ClientSideStore()], ids=["store", "client side"])
def test_the_log_says_so_where_a_token_comes_in_the_place_of_the_other(
    caplog: pytest.LogCaptureFixture, store: Any
) -> None:
    site, device = started(store=store)
    browser = site.browser()
    site.run(browser, lambda s: s.update(a=1))
    (cookie,) = browser.cookies.values()

    for _ in range(2):
        assert Device(site, cookie).run(read).text == "{}"
        assert site.run(site.browser(), read, HTTP_COOKIE=f"session={device.token}").text == "{}"

    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert [text.partition("; client")[0] for text in said if text.startswith("session ")] == [
        "session event bad_signature; X-Session-Token: the token of 'session'",
        "session event bad_signature; session: the token of 'X-Session-Token'",
    ] * 2
    in_header, in_cookie = [text for text in said if not text.startswith("session ")]
    assert "sent the token of the cookie 'session' in the header 'X-Session-Token'" in in_header
    assert "Have it send just what the last response with the header" in in_header
    assert "sent the token of the header 'X-Session-Token' in the cookie 'session'" in in_cookie
    assert "Have it send that in the header" in in_cookie
