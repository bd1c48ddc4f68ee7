"""Requirements 1.10: caching. Users A and B come in turn through a shared cache (RFC 9111)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from acts import id_of, login, nothing, put, read, started, token
from security.shared_cache import SharedCache
from wsgi import Browser, Site
from wsgi_sessions import Cookie, Session

FOR_CDNS = ["CDN-Cache-Control", "Surrogate-Control", "Cloudflare-CDN-Cache-Control",
            "Vercel-CDN-Cache-Control", "Netlify-CDN-Cache-Control", "Edge-Control",
            "X-Accel-Expires"]  # fmt: skip
CACHE_CONTROLS = [
    None,
    "public",
    "public, max-age=60",
    "s-maxage=60",
    "max-age=60",
    "max-age=60, immutable, stale-while-revalidate=60",
    "private",
    "private, max-age=60",
    "no-store",
    'private="x-secret", max-age=60',
    'private="set-cookie", max-age=60',
    'no-cache="set-cookie", max-age=60',
    "must-revalidate, max-age=60",
    "PUBLIC",
    "no-cache",
]
ACCESSES: list[Callable[[Session], Any]] = [
    lambda s: s.get("a"),
    lambda s: "a" in s,
    lambda s: len(s),
    lambda s: list(s),
    lambda s: bool(s),
    lambda s: s == {},
    lambda s: s.keys(),
    lambda s: dict(s),
    lambda s: s.id,
    lambda s: s.handle,
    lambda s: s.owner,
    lambda s: s.is_new,
    lambda s: s.is_fresh(60),
    lambda s: s.label,
]


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("given", [None, "Accept-Encoding", "cookie", "COOKIE, Accept", "*"])
def test_CA_1_any_look_at_the_session_varies_the_response(access: Any, given: Any) -> None:
    site, browser = started()
    site.headers = [] if given is None else [("Vary", given)]

    names = ", ".join(site.run(browser, access).all("Vary")).lower().split(", ")

    assert names == ["*"] if given == "*" else names.count("cookie") == 1


def test_CA_1_an_untouched_session_varies_nothing() -> None:
    site, browser = started()

    assert site.run(browser, nothing).all("Vary") == []


@pytest.mark.parametrize("given", [each for each in CACHE_CONTROLS if each is not None])
@pytest.mark.parametrize(
    "work", [put(b=2), login, lambda s: s.destroy()], ids=["put", "login", "end"]
)
def test_CA_2_a_response_with_our_cookie_is_never_cacheable(given: str, work: Any) -> None:
    site, browser = started(rolling=True)
    site.headers = [("Cache-Control", given), *((name, "max-age=60") for name in FOR_CDNS)]

    response = site.run(browser, work)
    if response.set_cookie is None:  # a mere refresh, left out of a public response
        assert "public" in given.lower() or "s-maxage" in given
        return

    said = ", ".join(response.all("Cache-Control"))
    assert "no-store" in said or said.startswith("private") and "=" not in said.partition(",")[0]
    assert "public" not in said.lower()
    assert "s-maxage" not in said
    assert [name for name in FOR_CDNS if response.all(name)] == []


@pytest.mark.parametrize("refresh", ["rolling", "persistent", "old secret", "rotation"])
def test_CA_3_a_public_response_is_never_given_a_mere_refresh(refresh: str) -> None:
    known: dict[str, dict[str, Any]] = {
        "rolling": {"rolling": True},
        "persistent": {"cookie": Cookie(persistent=True)},
        "rotation": {"rotate_after": 10},
    }
    site, browser = started(**known.get(refresh, {}))
    if refresh == "old secret":
        newer = ["another secret of at least thirty-two bytes, for tests",
                 "a secret of at least thirty-two bytes, for tests"]  # fmt: skip
        site = Site(secret_key=newer, store=site.store, clock=site.clock)
        browser.app = site.middleware
    site.headers = [("Cache-Control", "public, max-age=60")]
    site.clock.advance(100)

    response = site.run(browser, read)

    assert response.set_cookie is None
    assert response.get("Cache-Control") == "public, max-age=60"


STATUSES = ["200 OK", "206 Partial Content", "301 Moved Permanently", "302 Found",
            "304 Not Modified", "400 Bad Request", "404 Not Found"]  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_CA_5_every_status_and_method_follows_the_same_rules(status: str, method: str) -> None:
    site = Site()
    browser = site.browser(REQUEST_METHOD=method)
    site.status = status

    written = site.run(browser, put(a=1), check=False)
    again = site.run(browser, read, check=False)

    assert written.set_cookie is not None
    assert written.get("Cache-Control") == "no-store"
    assert written.get("Vary") == again.get("Vary") == "Cookie"
    assert again.set_cookie is None


def test_CA_6_a_path_that_looks_static_changes_nothing() -> None:
    site, browser = started()
    site.routes["/account/x.css"] = read

    assert browser.get("/account/x.css").get("Vary") == "Cookie"


WORKS: dict[str, Callable[[Session], Any]] = {
    "read": read,
    "write": lambda s: s.update(n=s.get("n", 0) + 1),
    "login": lambda s: s.login(s.get("name", "nobody")),
    "regenerate": lambda s: s.regenerate(),
    "destroy": lambda s: s.destroy(),
}


@pytest.mark.parametrize("cache_control", CACHE_CONTROLS)
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "301 Moved Permanently"])
def test_users_in_turn_never_get_each_others_body_or_cookie(
    cache_control: str | None, status: str
) -> None:
    """CVE-2023-30861, CVE-2026-27205, CVE-2024-26144, CVE-2022-24894."""
    site = Site(rolling=True, rotate_after=500, cookie=Cookie(persistent=True))
    cache = SharedCache(site.middleware)
    users = {name: site.browser() for name in ("A", "B", "nobody")}
    for name in ("A", "B"):
        site.run(users[name], put(name=name))
    site.headers = [] if cache_control is None else [("Cache-Control", cache_control)]
    site.status = status
    for (round_, work), (name, browser) in itertools.product(
        enumerate([*WORKS.values(), *WORKS.values()]), users.items()
    ):
        if round_ == len(WORKS) and name == "A":
            site.clock.advance(600)  # rotation is due
        made = {"/page": lambda s, work=work: (work(s), s.get("name"))[1]}
        site.routes.update(made)
        response = cache.get("/page", _header(browser))
        theirs = [
            token(other) for other in users.values() if other is not browser and other.cookies
        ]

        assert response.text in ("None" if name == "nobody" else name, "None")
        for cookie in response.all("Set-Cookie"):
            assert not any(each in cookie for each in theirs)
        _keep(browser, response)


@pytest.mark.parametrize("cache_control", CACHE_CONTROLS)
def test_users_with_tokens_in_headers_never_get_each_others(cache_control: str | None) -> None:
    site = Site(token_header="X-Session-Token", rolling=True, rotate_after=500)
    cache = SharedCache(site.middleware)
    site.headers = [] if cache_control is None else [("Cache-Control", cache_control)]
    tokens = dict.fromkeys(("A", "B", "nobody"), "")
    for (round_, work), name in itertools.product(
        enumerate([put(), *WORKS.values(), *WORKS.values()]), tokens
    ):
        if round_ == len(WORKS) + 1 and name == "A":
            site.clock.advance(600)

        def page(session: Session, name: str = name, work: Any = work) -> object:
            if name != "nobody":
                session.setdefault("name", name)
            work(session)
            return session.get("name")

        site.routes["/page"] = page
        extra = {"HTTP_X_SESSION_TOKEN": tokens[name]} if name != "nobody" else {}
        response = cache.get("/page", None, **extra)
        given = response.get("X-Session-Token")

        assert response.text in ("None" if name == "nobody" else name, "None")
        assert not given or given not in [each for n, each in tokens.items() if n != name]
        assert name == "nobody" or response.all("Set-Cookie") == []
        tokens[name] = tokens[name] if given is None else given


@pytest.mark.parametrize("said", ['private="set-cookie", max-age=60', 'no-cache="set-cookie"'])
def test_the_cache_of_these_tests_takes_a_qualified_directive_for_what_it_is(said: str) -> None:
    site, browser = started()
    site.headers = [("Cache-Control", said)]
    site.routes["/page"] = nothing
    cache = SharedCache(site.middleware)

    cache.get("/page", _header(browser))
    cache.get("/page", None)

    assert cache.hits == 1


def test_the_cache_of_these_tests_does_keep_what_it_may() -> None:
    site, browser = started()
    site.headers = [("Cache-Control", "public, max-age=60")]
    site.routes["/page"] = nothing
    cache = SharedCache(site.middleware)

    cache.get("/page", _header(browser))
    cache.get("/page", None)

    assert cache.hits == 1


def test_the_cache_of_these_tests_would_give_away_an_app_without_vary() -> None:
    def app(made: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Cache-Control", "max-age=60")])
        return [made["HTTP_COOKIE"].encode()]

    cache = SharedCache(app)
    cache.get("/page", "user=A")

    assert cache.get("/page", "user=B").text == "user=A"


def _header(browser: Browser) -> str | None:
    return f"session={token(browser)}" if browser.cookies else None


def _keep(browser: Browser, response: Any) -> None:
    for value in response.all("Set-Cookie"):
        text = value.partition("=")[2].partition(";")[0]
        browser.cookies = {"session": text} if text else {}
    assert browser.cookies == {} or len(id_of(browser)) == 43
