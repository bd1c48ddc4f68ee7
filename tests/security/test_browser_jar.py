"""A browser that keeps cookies by the book ends where the server believes it is (RFC 6265bis).

Random sequences of requests, rotations, sign-outs, schemes, clocks and secrets, for each way to set
up the cookie.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acts import put, read
from effort import effort
from records import key_of
from security.jar import Jar
from wsgi import SECRET, Site
from wsgi_sessions import Cookie, Lifetime, Session, TrustedProxies

COOKIES = {
    "plain": Cookie(),
    "insecure": Cookie(secure=False),
    "domain": Cookie(domain="example.com", secure=True),
    "path": Cookie(path="/app"),
    "path-slash": Cookie(path="/app/"),
    "__Secure-": Cookie(name="__Secure-sid", secure=True, samesite="Strict"),
    "__Host-": Cookie(name="__Host-sid", secure=True),
    "__Http-": Cookie(name="__Http-sid", secure=True),
    "__Host-Http-": Cookie(name="__Host-Http-sid", secure=True),
    "partitioned": Cookie(name="__Host-p", secure=True, samesite="None", partitioned=True),
    "persistent": Cookie(persistent=True),
    "readable": Cookie(httponly=False),
}
STEPS = st.lists(
    st.sampled_from(
        ["write", "read", "login", "regenerate", "sign out", "clear", "over http", "second",
         "hour", "two days", "new secret", "restart", "error", "remember", "forget", "lost"]
    ),
    min_size=15,
    max_size=30,
)  # fmt: skip
WORKS: dict[str, Any] = {
    "write": lambda s: s.update(n=s.get("n", 0) + 1),
    "read": read,
    "login": lambda s: s.login("bob"),
    "regenerate": lambda s: s.regenerate(),
    "sign out": lambda s: s.destroy(),
    "clear": lambda s: s.clear(),
    "over http": lambda s: s.update(h=1),
    "error": lambda s: s.update(e=1),
    "remember": lambda s: setattr(s, "persistent", True),
    "forget": lambda s: setattr(s, "persistent", False),
}


class Visitor:
    """One browser and one site."""

    def __init__(self, cookie: Cookie) -> None:
        self.secrets = [SECRET]
        self.site = Site(**self._options(cookie))
        self.cookie = cookie
        self.jar = Jar(self.site.clock)

    def _options(self, cookie: Cookie) -> dict[str, Any]:
        return {
            "cookie": cookie,
            "rotate_after": 600,
            "lifetime": Lifetime(idle=86400, absolute=30 * 86400),
            "secret_key": self.secrets,
            "trusted_proxies": TrustedProxies(),
        }

    def step(self, name: str) -> None:
        clock = self.site.clock
        if name in ("second", "hour", "two days"):
            clock.advance({"second": 1, "hour": 3600, "two days": 2 * 86400}[name])
        elif name == "new secret":
            self.secrets = [f"secret number {len(self.secrets):30}", *self.secrets]
            new = Site(store=self.site.store, **self._options(self.cookie) | {"clock": clock})
            new.clock = clock
            self.site = new
        elif name == "restart":
            self.jar.close()
        elif name == "lost":
            self.lose_an_answer()
        else:
            self.request(WORKS[name], secure=name != "over http", error=name == "error")

    def lose_an_answer(self) -> None:
        """The answer to a change never arrives, and it was the one with a rotated ID."""
        self.site.clock.advance(600)
        live = set(self.site.middleware.registry)
        lived = self.held() in live
        self.request(lambda s: s.update(lost=True), answered=False)
        if not lived:  # a session that nobody holds, at most
            assert len(live ^ set(self.site.middleware.registry)) <= 1
            return
        seen: list[object] = []
        assert self.request(lambda s: seen.append(s.get("lost")))
        assert seen == [True]
        assert self.held() in set(self.site.middleware.registry)

    def request(
        self, work: Any, *, secure: bool = True, error: bool = False, answered: bool = True
    ) -> bool:
        """Whether the app saw a stored session, before it did its work."""
        seen: list[bool] = []

        def handler(session: Session) -> str:
            seen.append(not session.is_new)
            work(session)
            return ""

        self.site.routes["/app/page"] = handler
        self.site.status = "500 Internal Server Error" if error else "200 OK"
        dropped = len(self.jar.dropped)
        self.jar.get(self.site.middleware, "/app/page", secure=secure, answered=answered)
        if secure:
            assert len(self.jar.dropped) == dropped, "a cookie that a browser refuses"
        return seen[0]

    def held(self) -> str | None:
        """The handle of the session that the browser believes it has."""
        value = self.jar.value(self.cookie.name)
        return None if value is None else key_of(value.partition(".")[0])

    def check(self) -> None:
        """The browser's session is there if it lives; afterwards it holds one that lives."""
        lives = self.held() in set(self.site.middleware.registry)

        assert self.request(lambda s: None) is lives
        if lives:
            assert self.held() in set(self.site.middleware.registry)


@pytest.mark.parametrize("kind", COOKIES)
def test_the_jar_ends_where_the_server_believes_it_is(kind: str) -> None:
    cookie = COOKIES[kind]

    @effort(40)
    @given(STEPS)
    def run(steps: list[str]) -> None:
        visitor = Visitor(cookie)
        for step in steps:
            visitor.step(step)
            if step in ("write", "login"):
                assert visitor.held() in set(visitor.site.middleware.registry)
            if step == "sign out":
                assert visitor.held() is None
            visitor.check()

    run()


@pytest.mark.parametrize("kind", COOKIES)
def test_signing_out_leaves_an_empty_jar(kind: str) -> None:
    visitor = Visitor(COOKIES[kind])

    visitor.step("write")
    assert len(visitor.jar.kept) == 1
    visitor.step("sign out")

    assert visitor.jar.kept == {}
    assert list(visitor.site.store.keys()) == []


@pytest.mark.parametrize(
    "header",
    [
        "__Host-a=1; Secure; Path=/; Domain=example.com",
        "__Host-a=1; Secure; Path=/app",
        "__Host-a=1; Path=/",
        "__HOST-a=1; Path=/",
        "__Secure-a=1",
        "__Http-a=1; Secure",
        "__Host-Http-a=1; Secure; Path=/",
        "a=1; SameSite=None",
        "a=1; Partitioned",
        "a=1; Domain=evil.example",
        "a=" + "x" * 4096,
        "a=\x01",
        "=1",
    ],
)
def test_the_jar_of_these_tests_drops_what_browsers_drop(header: str) -> None:
    jar = Jar(lambda: 0.0)

    jar.store(header, host="app.example.com", path="/", secure=True, top="app.example.com")

    assert jar.kept == {}


def test_the_jar_of_these_tests_keeps_apart_what_browsers_keep_apart() -> None:
    jar = Jar(lambda: 0.0)
    where: dict[str, Any] = {"host": "app.example.com", "path": "/", "top": "app.example.com"}
    jar.store("a=host; Secure", secure=True, **where)
    jar.store("a=domain; Domain=example.com; Secure", secure=True, **where)
    jar.store("a=overlay", secure=False, **where)  # over http, on top of a Secure one
    jar.store("p=1; Secure; Partitioned", secure=True, **where)

    assert len(jar.kept) == 3
    assert jar.header(secure=False, **where) is None
    other = {**where, "host": "www.example.com", "top": "www.example.com"}
    assert jar.header(secure=True, **other) == "a=domain"


def test_a_cookie_from_a_sibling_is_a_conflict_and_never_a_session_of_its_own() -> None:
    visitor = Visitor(Cookie())
    attacker = Visitor(Cookie())
    attacker.site = visitor.site
    visitor.request(put(user="victim"))
    attacker.request(put(user="attacker"))
    planted = attacker.jar.value("session")
    visitor.jar.store(
        f"session={planted}; Domain=example.com; Path=/; Secure",
        host="evil.example.com", path="/", secure=True, top="evil.example.com",
    )  # fmt: skip
    seen: list[Any] = []

    visitor.request(lambda s: seen.append(s.get("user")))

    assert seen == [None]
    assert visitor.site.kinds[-1] == "cookie_conflict"


@pytest.mark.parametrize("same_site", ["Strict", "Lax", "None"])
@pytest.mark.parametrize("sent_from", ["itself", "link", "form", "frame"])
def test_what_another_site_sends_carries_the_cookie_only_where_it_may(
    same_site: Any, sent_from: str
) -> None:
    visitor = Visitor(Cookie(secure=True, samesite=same_site))
    visitor.step("write")
    seen: list[bool] = []
    visitor.site.routes["/app/page"] = lambda s: seen.append(not s.is_new)

    visitor.jar.get(visitor.site.middleware, "/app/page", sent_from=sent_from)

    allowed = {"Strict": 1, "Lax": 2, "None": 4}[same_site]
    assert seen == [sent_from in ["itself", "link", "form", "frame"][:allowed]]


def test_each_page_around_a_partitioned_cookie_has_a_session_of_its_own() -> None:
    visitor = Visitor(COOKIES["partitioned"])
    app, jar, routes = visitor.site.middleware, visitor.jar, visitor.site.routes
    tops = ["shop.example", "bank.example"]
    for top in tops:
        routes["/app/page"] = put(top=top)
        jar.get(app, "/app/page", top=top, sent_from="frame")
    routes["/app/page"] = read
    texts = [jar.get(app, "/app/page", top=top, sent_from="frame").text for top in tops]
    routes["/app/page"] = lambda s: s.destroy()
    jar.get(app, "/app/page", top=tops[0], sent_from="frame")

    assert texts == ["{'top': 'shop.example'}", "{'top': 'bank.example'}"]
    assert [key[3] for key in jar.kept] == [tops[1]]
    assert len(list(visitor.site.store.keys())) == 1


def test_a_persistent_cookie_is_kept_for_400_days_at_most_and_then_renewed_by_use() -> None:
    site = Site(cookie=Cookie(persistent=True), lifetime=Lifetime(idle=10**9, absolute=None))
    jar, day = Jar(site.clock), 86_400
    site.routes["/"] = put(a=1)
    jar.get(site.middleware, "/")
    site.routes["/"] = read

    site.clock.advance(399 * day)
    assert jar.get(site.middleware, "/").text == "{'a': 1}"
    site.clock.advance(399 * day)
    assert jar.get(site.middleware, "/").text == "{'a': 1}"
    site.clock.advance(401 * day)

    assert jar.get(site.middleware, "/").text == "{}"
    assert len(list(site.middleware.registry)) == 1


@pytest.mark.parametrize("kind", ["plain", "__Host-", "domain"])
def test_only_the_hosts_that_the_cookie_is_for_get_it(kind: str) -> None:
    cookie = COOKIES[kind]
    visitor = Visitor(cookie)
    visitor.step("write")
    where: dict[str, Any] = {"path": "/app/page", "secure": True, "top": "app.example.com"}

    sent_to = {
        host
        for host in ("app.example.com", "example.com", "www.example.com", "a.app.example.com",
                     "badexample.com", "example.com.evil.example")
        if visitor.jar.header(host=host, **where)
    }  # fmt: skip

    siblings = {"example.com", "www.example.com", "a.app.example.com"}
    assert sent_to == {"app.example.com"} | (siblings if cookie.domain else set())
