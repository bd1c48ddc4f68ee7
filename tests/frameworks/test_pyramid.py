"""Pyramid: an ISession of ours, settings as text, tweens and callbacks, streams, 503s."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # WebOb imports cgi
    from pyramid.config import Configurator
    from pyramid.csrf import (
        CookieCSRFStoragePolicy,
        LegacySessionCSRFStoragePolicy,
        SessionCSRFStoragePolicy,
        get_csrf_token,
        new_csrf_token,
    )
    from pyramid.events import NewRequest, NewResponse
    from pyramid.interfaces import ISession
    from pyramid.request import Request
    from pyramid.response import FileResponse, Response
    from pyramid.scripting import prepare
    from zope.interface.verify import verifyObject

from wsgi import SECRET, Browser, call, environ
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    DeviceBinding,
    Lifetime,
    SessionCommitted,
    SessionMiddleware,
    SessionTooLarge,
    StoreError,
)
from wsgi_sessions.pyramid import REGISTRY_KEY, PyramidSession, options_from
from wsgi_sessions.stores import ClientSideStore, MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore

View = Callable[[Any], Any]


class Shop:
    def __init__(self, setup: Callable[[Any], None] = lambda config: None, **settings: Any) -> None:
        self.store = FaultyStore(MemoryStore())
        given = {"secret_key": SECRET, "store": self.store, **settings}
        config = Configurator(
            settings={f"wsgi_sessions.{name}": value for name, value in given.items()}
        )
        config.include("wsgi_sessions.pyramid")
        config.add_route("run", "/run")
        config.add_view(self._serve, route_name="run")
        setup(config)
        self.app = config.make_wsgi_app()
        self.steps = self.app.registry[REGISTRY_KEY]
        self.view: View = lambda request: "-"

    def _serve(self, request: Any) -> Any:
        made = self.view(request)
        return made if isinstance(made, Response) else Response(str(made))

    def run(self, browser: Browser, view: View) -> Any:
        self.view = view
        return browser.get("/run")

    def kept(self, browser: Browser) -> dict[str, Any]:
        return dict(self.steps.open_token(browser.cookies.get("session")))


class Body:
    """A stream that counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"x"])

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def browser(shop: Shop) -> Browser:
    return Browser(shop.app)


def put(request: Any) -> str:
    request.session["n"] = request.session.get("n", 0) + 1
    return "kept"


# Requests


def test_a_session_goes_on_from_request_to_request(shop: Shop, browser: Browser) -> None:
    assert shop.run(browser, put).get("Vary") == "Cookie"
    shop.run(browser, put)

    assert shop.kept(browser) == {"n": 2}


def test_an_untouched_session_costs_nothing(shop: Shop, browser: Browser) -> None:
    response = shop.run(browser, lambda request: "-")

    assert response.set_cookie is None and response.get("Vary") is None
    assert not shop.store.calls


def test_an_exception_keeps_nothing(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)

    with pytest.raises(ZeroDivisionError):
        shop.run(browser, lambda request: [put(request), 1 / 0])

    assert shop.kept(browser) == {"n": 1}


@pytest.mark.parametrize("error", [StoreError("another store"), ZeroDivisionError()])
def test_with_save_on_error_what_a_failed_request_changed_is_kept(error: Exception) -> None:
    def fail(request: Any) -> None:
        put(request)
        raise error

    shop = Shop(save_on_error=True)
    browser = Browser(shop.app)
    shop.run(browser, put)
    with suppress(ZeroDivisionError):
        shop.run(browser, fail)

    assert shop.kept(browser) == {"n": 2}


def test_what_callbacks_of_the_app_change_is_kept(shop: Shop, browser: Browser) -> None:
    def view(request: Any) -> str:
        request.add_response_callback(lambda request, response: put(request))
        return "-"

    shop.run(browser, view)

    assert shop.kept(browser) == {"n": 1}


def test_a_stream_goes_on_with_the_session(shop: Shop, browser: Browser) -> None:
    def view(request: Any) -> Any:
        session = request.session
        session["before"] = 1

        def body() -> Iterator[bytes]:
            yield b"a"
            session["within"] = 2

        return Response(app_iter=body())

    assert shop.run(browser, view).body == b"a"
    assert shop.kept(browser) == {"before": 1, "within": 2}


def streaming(*, first: View = lambda request: None, empty: int = 0, closed: list[str]) -> View:
    """A view whose stream does this before its first chunk."""

    class Body:
        def __init__(self, request: Any) -> None:
            self.chunks = self.made(request)

        def made(self, request: Any) -> Iterator[bytes]:
            yield from [b""] * empty
            first(request)
            yield from (b"a", b"b")
            request.session["late"] = 2

        def __iter__(self) -> Iterator[bytes]:
            return self.chunks

        def close(self) -> None:
            closed.append("closed")

    return lambda request: Response(app_iter=Body(request))


@pytest.mark.parametrize("empty", [0, 2])
def test_a_stream_may_begin_a_session_before_its_first_chunk(
    shop: Shop, browser: Browser, empty: int
) -> None:
    closed: list[str] = []

    response = shop.run(browser, streaming(first=put, empty=empty, closed=closed))

    assert response.body == b"ab" and closed == ["closed"]
    assert shop.kept(browser) == {"n": 1, "late": 2}


def test_a_stream_that_meets_an_outage_before_its_first_chunk_is_a_503(
    shop: Shop, browser: Browser
) -> None:
    closed: list[str] = []
    shop.run(browser, put)
    shop.store.fail("load")

    response = shop.run(browser, streaming(first=put, closed=closed))

    assert response.code == 503 and closed == ["closed"]


def test_a_stream_that_breaks_off_before_its_first_chunk_keeps_nothing(
    shop: Shop, browser: Browser
) -> None:
    closed: list[str] = []

    with pytest.raises(ZeroDivisionError):
        shop.run(browser, streaming(first=lambda r: [put(r), 1 / 0], closed=closed))

    assert list(shop.store.keys()) == [] and closed == ["closed"]


def test_an_empty_stream_is_whole(shop: Shop, browser: Browser) -> None:
    def view(request: Any) -> Any:
        put(request)
        return Response(app_iter=iter(()))

    assert shop.run(browser, view).body == b"" and shop.kept(browser) == {"n": 1}


def test_nothing_of_a_stream_is_made_for_a_head(shop: Shop, browser: Browser) -> None:
    closed: list[str] = []
    shop.view = streaming(first=put, closed=closed)

    response = browser.get("/run", REQUEST_METHOD="HEAD")

    assert response.body == b"" and closed == ["closed"]
    assert list(shop.store.keys()) == []


def test_a_file_is_left_to_the_server(shop: Shop, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"file")

    def view(request: Any) -> Any:
        put(request)
        return FileResponse(str(path), request=request)

    assert shop.run(browser, view).body == b"file"
    assert shop.kept(browser) == {"n": 1}


def test_a_subrequest_with_the_environ_of_its_own_has_a_session_of_its_own(
    shop: Shop, browser: Browser
) -> None:
    def outer(request: Any) -> str:
        put(request)
        shop.view = lambda request: [put(request), put(request)]
        inner = request.invoke_subrequest(Request.blank("/run"), use_tweens=False)
        return str(inner.headers["Set-Cookie"])

    response = shop.run(browser, outer)

    assert response.text.startswith("session=") and response.text != response.set_cookie
    assert shop.kept(browser) == {"n": 1}


def test_the_session_of_a_middleware_around_it_is_its_session(shop: Shop) -> None:
    outer = MemoryStore()
    wrapped = SessionMiddleware(shop.app, secret_key=SECRET, store=outer)
    browser = Browser(wrapped)

    def use(request: Any) -> str:
        session = request.session
        session["n"] = session.get("n", 0) + 1
        session.flash("hello")
        token = session.get_csrf_token()
        assert verifyObject(ISession, session)
        assert session is request.session
        return f"{session['n']} {token == session.get_csrf_token()} {session.owner}"

    assert shop.run(browser, lambda request: "-").text == "-"
    assert list(outer.keys()) == []
    assert shop.run(browser, use).text == "1 True None"
    assert shop.run(browser, use).text == "2 True None"
    assert shop.run(browser, lambda r: str(r.session.pop_flash())).text == "['hello', 'hello']"
    shop.run(browser, lambda request: request.session.login("ada"))
    assert shop.run(browser, use).text == "3 True ada"
    assert len(list(wrapped.registry)) == 1
    assert list(shop.store.keys()) == []
    shop.run(browser, lambda request: request.session.invalidate())
    assert list(wrapped.registry) == []
    assert shop.run(browser, use).text == "1 True None"


def test_a_middleware_of_another_name_around_it_is_fine() -> None:
    shop = Shop(environ_key="shop.session", cookie=Cookie("shop"))
    wrapped = SessionMiddleware(shop.app, secret_key=SECRET, store=MemoryStore())
    browser = Browser(wrapped)
    shop.run(browser, put)

    assert shop.run(browser, lambda request: request.session["n"]).text == "1"
    assert list(browser.cookies) == ["shop"]


def test_a_subrequest_with_our_environ_shares_our_session(shop: Shop, browser: Browser) -> None:
    def outer(request: Any) -> str:
        put(request)
        shop.view = put
        inner = request.invoke_subrequest(Request(dict(request.environ)), use_tweens=True)
        return str("Set-Cookie" in inner.headers)

    assert shop.run(browser, outer).text == "False"
    assert shop.kept(browser) == {"n": 2}


def test_what_callbacks_change_is_kept_in_a_stream_too(shop: Shop, browser: Browser) -> None:
    def view(request: Any) -> Any:
        request.add_response_callback(lambda request, response: put(request))
        return Response(app_iter=iter([b"a"]))

    shop.run(browser, view)

    assert shop.kept(browser) == {"n": 1}


def test_a_callback_that_fails_keeps_nothing_and_has_the_stream_closed(
    shop: Shop, browser: Browser
) -> None:
    body = Body()

    def view(request: Any) -> Any:
        request.add_response_callback(lambda request, response: [put(request), 1 / 0])
        return Response(app_iter=body)

    with pytest.raises(ZeroDivisionError):
        shop.run(browser, view)

    assert list(shop.store.keys()) == [] and body.closed == 1


def test_a_test_may_call_the_callback_itself(shop: Shop) -> None:
    request, response = Request.blank("/"), Response()
    request.registry = shop.app.registry
    put(request)

    (callback,) = request.response_callbacks
    callback(request, response)

    assert "Set-Cookie" in response.headers


def test_a_subscriber_to_new_response_comes_too_late() -> None:
    shop = Shop(lambda config: config.add_subscriber(lambda e: put(e.request), NewResponse))

    with pytest.raises(SessionCommitted):
        shop.run(Browser(shop.app), lambda request: "-")


# Subrequests with a session of their own


def part_of(request: Any, **environ: Any) -> Any:
    """A subrequest with the browser's cookies."""
    given = {"HTTP_COOKIE": request.environ.get("HTTP_COOKIE", ""), **environ}
    return Request.blank("/run", environ=given)


def handing_on(shop: Shop, part: View, *, use_tweens: bool = True, **environ: Any) -> View:
    """A view that leaves the answer to a subrequest."""

    def outer(request: Any) -> Any:
        shop.view = part
        return request.invoke_subrequest(part_of(request, **environ), use_tweens=use_tweens)

    return outer


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelname != "DEBUG"]


TWEENS = pytest.mark.parametrize("use_tweens", [True, False])


@TWEENS
def test_a_subrequests_response_brings_a_new_visitor_the_cookie(
    shop: Shop, browser: Browser, caplog: pytest.LogCaptureFixture, use_tweens: bool
) -> None:
    response = shop.run(browser, handing_on(shop, put, use_tweens=use_tweens))

    assert response.get("Vary") == "Cookie" and response.get("Cache-Control") == "no-store"
    assert shop.kept(browser) == {"n": 1} and not warned(caplog)


@TWEENS
def test_a_login_in_a_subrequest_reaches_the_browser(
    shop: Shop, browser: Browser, use_tweens: bool
) -> None:
    shop.run(browser, put)

    shop.run(browser, handing_on(shop, lambda r: r.session.login("ada"), use_tweens=use_tweens))

    assert shop.run(browser, lambda r: f"{r.session.owner} {r.session['n']}").text == "ada 1"


def test_a_subrequest_of_a_subrequest_is_no_different(shop: Shop, browser: Browser) -> None:
    shop.run(browser, handing_on(shop, handing_on(shop, put)))

    assert shop.kept(browser) == {"n": 1}


def test_a_stream_of_a_subrequest_goes_on_with_its_session(shop: Shop, browser: Browser) -> None:
    def stream(request: Any) -> Any:
        put(request)

        def body() -> Iterator[bytes]:
            yield b"a"
            put(request)

        return Response(app_iter=body())

    assert shop.run(browser, handing_on(shop, stream)).body == b"a"
    assert shop.kept(browser) == {"n": 2}


def test_a_cookie_that_is_passed_on_makes_a_response_private(shop: Shop, browser: Browser) -> None:
    def outer(request: Any) -> Any:
        shop.view = put
        part = request.invoke_subrequest(Request.blank("/run"))
        page = Response("page", cache_control="public")
        page.set_cookie("session", "of-the-app")
        return part.merge_cookies(page)

    response = shop.run(browser, outer)

    assert response.get("Vary") == "Cookie" and response.get("Cache-Control") == "no-store"
    assert shop.kept(browser) == {"n": 1}


def test_a_session_that_has_nothing_to_do_with_the_browser_is_not_given_to_it(
    shop: Shop, browser: Browser
) -> None:
    def outer(request: Any) -> str:
        shop.view = put
        return str(request.invoke_subrequest(Request.blank("/run")).text)

    assert shop.run(browser, outer).set_cookie is None


@pytest.mark.parametrize("read", [True, False])
def test_a_rotation_in_a_part_of_a_page_reaches_the_browser(read: bool) -> None:
    clock, events = FakeClock(), list[str]()
    shop = Shop(clock=clock, rotate_after=3600, on_event=lambda event: events.append(event.kind))
    browser = Browser(shop.app)
    shop.run(browser, put)

    def outer(request: Any) -> str:
        if read:
            assert request.session["n"] == 1
        shop.view = lambda request: request.session["n"]
        return str(request.invoke_subrequest(part_of(request)).text)

    clock.advance(3700)
    shop.run(browser, outer)
    clock.advance(60)

    assert shop.run(browser, outer).text == "1"
    assert events == ["created", "rotated"]


@TWEENS
def test_a_sign_out_in_a_subrequest_reaches_the_browser(
    shop: Shop, browser: Browser, use_tweens: bool
) -> None:
    shop.run(browser, put)
    out = handing_on(shop, lambda request: request.session.invalidate(), use_tweens=use_tweens)

    shop.run(browser, out)

    assert not browser.cookies and list(shop.store.keys()) == []


def sign_in(request: Any) -> None:
    request.session.login("ada")


def seen(request: Any) -> str:
    return f"{request.session.owner} {dict(request.session)}"


@TWEENS
@pytest.mark.parametrize("part", [sign_in, lambda request: request.session.regenerate()])
@pytest.mark.parametrize("options", [{}, {"store": ClientSideStore()}])
def test_a_session_that_is_first_used_after_a_subrequest_is_the_one_that_it_left(
    options: dict[str, Any], part: View, use_tweens: bool
) -> None:
    shop = Shop(**options)
    browser = Browser(shop.app)
    owner = "ada" if part is sign_in else None

    def outer(request: Any) -> Any:
        response = handing_on(shop, part, use_tweens=use_tweens)(request)
        put(request)
        return response

    def twice(request: Any) -> Any:
        """By way of a subrequest that uses its session only after its own."""
        return handing_on(shop, outer, use_tweens=use_tweens)(request)

    for view, n in ((outer, 2), (twice, 3)):
        if n == 2:
            shop.run(browser, put)
        browser.cookies["language"] = "de"
        shop.run(browser, view)
        assert shop.run(browser, seen).text == f"{owner} {{'n': {n}}}"


def test_a_token_in_a_header_is_handed_on_as_well() -> None:
    shop = Shop(token_header="X-Token")
    shop.view = put
    first = call(shop.app, environ("/run", HTTP_X_TOKEN=""))

    def outer(request: Any) -> Any:
        token = request.environ["HTTP_X_TOKEN"]
        response = handing_on(shop, sign_in, HTTP_X_TOKEN=token)(request)
        put(request)
        return response

    shop.view = outer
    second = call(shop.app, environ("/run", HTTP_X_TOKEN=first.get("X-Token")))

    session = shop.steps.open_token(second.get("X-Token"))
    assert session.owner == "ada" and dict(session) == {"n": 2}


@pytest.mark.parametrize("ends_before", [False, True])
def test_a_further_subrequest_goes_on_with_what_the_first_one_left(
    shop: Shop, browser: Browser, ends_before: bool
) -> None:
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        if ends_before:
            request.session.invalidate()
        handing_on(shop, sign_in)(request)
        handing_on(shop, put)(request)
        return "-"

    shop.run(browser, outer)

    n = 1 if ends_before else 2
    assert shop.run(browser, seen).text == f"ada {{'n': {n}}}"


@pytest.mark.parametrize("then", [lambda request: None, put, seen])
def test_who_signs_out_before_a_subrequest_signs_in_is_signed_in(
    shop: Shop, browser: Browser, then: View
) -> None:
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        request.session.invalidate()
        response = handing_on(shop, sign_in)(request)
        then(request)
        return response

    shop.run(browser, outer)

    assert shop.run(browser, lambda request: request.session.owner).text == "ada"


@pytest.mark.parametrize("rolling", [True, False])
def test_who_empties_the_session_after_a_subrequest_leaves_no_cookie(rolling: bool) -> None:
    shop = Shop(rolling=rolling)
    browser = Browser(shop.app)
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        response = handing_on(shop, lambda request: request.session.regenerate())(request)
        request.session.take("n")
        return response

    shop.run(browser, outer)

    assert not browser.cookies and list(shop.store.keys()) == []


def test_a_sign_out_is_not_undone_by_a_subrequest_whose_token_is_the_session_itself() -> None:
    shop = Shop(store=ClientSideStore())
    browser = Browser(shop.app)
    shop.run(browser, sign_in)

    def outer(request: Any) -> str:
        request.session.invalidate()
        handing_on(shop, put)(request)
        return "a page made of parts"

    shop.run(browser, outer)

    assert shop.run(browser, lambda request: request.session.owner).text == "None"


def test_a_new_session_of_the_view_is_not_given_up_for_a_subrequests(
    shop: Shop, browser: Browser
) -> None:
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        request.session.invalidate()
        request.session["new"] = True
        return handing_on(shop, sign_in)(request)

    shop.run(browser, outer)

    assert shop.run(browser, seen).text == "None {'new': True}"


def test_a_middleware_around_the_app_goes_on_with_its_own_token(shop: Shop) -> None:
    browser = Browser(SessionMiddleware(shop.app, secret_key=SECRET, store=MemoryStore()))
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        handing_on(shop, sign_in)(request)
        return put(request)

    shop.run(browser, outer)

    assert shop.run(browser, seen).text == "None {'n': 2}"


def test_who_signs_in_after_a_subrequest_has_signed_out_is_signed_in(
    shop: Shop, browser: Browser
) -> None:
    shop.run(browser, put)
    out = handing_on(shop, lambda request: request.session.invalidate())

    def outer(request: Any) -> Any:
        response = out(request)
        request.session.login("ada")
        return response

    shop.run(browser, outer)

    assert shop.run(browser, lambda request: request.session.owner).text == "ada"


@pytest.mark.parametrize("client_side", [True, False])
def test_who_only_looks_at_the_session_leaves_a_subrequests_cookie(client_side: bool) -> None:
    kept_in: dict[str, Any] = {"store": ClientSideStore()} if client_side else {}
    shop = Shop(rolling=True, **kept_in)
    browser = Browser(shop.app)
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        assert request.session["n"] == 1
        return handing_on(shop, put)(request)

    shop.run(browser, outer)

    assert shop.kept(browser) == {"n": 2}


@pytest.mark.parametrize("saved", [True, False])
def test_of_two_new_sessions_the_browser_gets_the_one_that_was_committed_last(
    shop: Shop, browser: Browser, saved: bool
) -> None:
    def outer(request: Any) -> Any:
        request.session["outer"] = 1
        if saved:
            request.session.save()
        return handing_on(shop, put)(request)

    shop.run(browser, outer)

    assert shop.kept(browser) == {"outer": 1}


def test_a_cookie_of_a_subrequest_is_passed_on_beside_a_token_in_a_header() -> None:
    shop = Shop(token_header="X-Session-Token")
    browser = Browser(shop.app)

    def outer(request: Any) -> Any:
        put(request)
        return handing_on(shop, put)(request)

    shop.view = outer
    response = browser.get("/run", HTTP_X_SESSION_TOKEN="")

    assert response.get("X-Session-Token") and shop.kept(browser) == {"n": 1}


@TWEENS
@pytest.mark.parametrize("proxies", [0, 1])
def test_a_subrequest_comes_from_the_client_and_by_the_scheme_of_the_browsers_request(
    proxies: int, use_tweens: bool
) -> None:
    shop = Shop(trusted_proxies=proxies, cookie=Cookie("__Host-session", secure=True))
    forwarded = {"HTTP_X_FORWARDED_FOR": "203.0.113.9", "HTTP_X_FORWARDED_PROTO": "https"}
    browser = Browser(shop.app, **(forwarded if proxies else {"wsgi.url_scheme": "https"}))
    shop.run(browser, put)

    def part(request: Any) -> str:
        request.session.login("ada")
        return f"{request.session['n']} {request.session.label['ip']} {request.scheme}"

    made = shop.run(browser, handing_on(shop, handing_on(shop, part), use_tweens=use_tweens))

    assert made.text == f"1 {'203.0.113.9' if proxies else '192.0.2.1'} http"
    assert shop.run(browser, lambda request: request.session.owner).text == "ada"


def test_a_request_that_a_script_or_a_test_has_prepared_is_not_the_browsers() -> None:
    shop = Shop(cookie=Cookie("__Host-session", secure=True))
    browser = Browser(shop.app, **{"wsgi.url_scheme": "https"})

    with prepare(registry=shop.app.registry) as prepared:
        put(prepared["request"])
        made = shop.run(browser, lambda r: [r.session.login("ada"), r.session.label["ip"]])

    assert made.text == "[None, '192.0.2.1']"
    assert shop.run(browser, lambda request: request.session.owner).text == "ada"


def test_an_environ_that_is_used_again_has_forgotten_its_subrequests(shop: Shop) -> None:
    used = environ("/run")

    def outer(request: Any) -> Any:
        shop.view = put
        return request.invoke_subrequest(Request.blank("/run"))

    shop.view = outer
    cookie = call(shop.app, used).set_cookie
    assert cookie is not None
    again = Response("-")
    again.headers["Set-Cookie"] = cookie
    shop.view = lambda request: again

    assert call(shop.app, used).set_cookie is None


def test_another_app_within_has_cookies_of_its_own(shop: Shop, browser: Browser) -> None:
    inner = Shop(environ_key="inner", cookie=Cookie("inner"))
    inner.view = put

    def outer(request: Any) -> Any:
        put(request)
        return request.get_response(inner.app)

    response = shop.run(browser, outer)

    assert len(response.all("Set-Cookie")) == 2
    assert shop.kept(browser) == {"n": 1}
    assert dict(inner.steps.open_token(browser.cookies["inner"])) == {"n": 1}


def test_another_app_within_does_not_set_our_cookie(shop: Shop, browser: Browser) -> None:
    inner = Shop(environ_key="inner", secret_key=SECRET[::-1])
    inner.view = put

    def outer(request: Any) -> Any:
        return part_of(request).get_response(inner.app)

    assert shop.run(browser, outer).set_cookie is None


@TWEENS
def test_a_later_callback_of_a_subrequest_may_change_its_session(
    shop: Shop, browser: Browser, use_tweens: bool
) -> None:
    def part(request: Any) -> str:
        put(request)
        request.add_response_callback(lambda request, response: put(request))
        return "-"

    shop.run(browser, handing_on(shop, part, use_tweens=use_tweens))

    assert shop.kept(browser) == {"n": 2}


def test_a_subrequests_new_id_reaches_the_browser_with_a_503(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        shop.view = lambda request: request.session.login("ada")
        request.invoke_subrequest(part_of(request))
        shop.store.fail("load")
        return put(request)

    assert shop.run(browser, outer).code == 503
    shop.store.recover()
    assert shop.run(browser, lambda request: request.session.owner).text == "ada"


@TWEENS
def test_a_sign_out_that_fails_in_a_subrequest_takes_the_cookie_away(
    shop: Shop, browser: Browser, use_tweens: bool
) -> None:
    shop.run(browser, put)
    shop.store.fail("delete")
    out = handing_on(shop, lambda request: request.session.invalidate(), use_tweens=use_tweens)

    assert shop.run(browser, out).code == 503
    assert not browser.cookies


def test_a_sign_out_that_fails_after_a_subrequest_takes_its_cookie_away() -> None:
    shop = Shop(rolling=True)
    browser = Browser(shop.app)
    shop.run(browser, put)

    def outer(request: Any) -> Any:
        assert request.session["n"] == 1
        shop.view = put
        request.invoke_subrequest(part_of(request))
        shop.store.fail("delete")
        return request.session.invalidate()

    assert shop.run(browser, outer).code == 503
    assert not browser.cookies


# A store that fails


@pytest.mark.parametrize("handler", [False, True])
@pytest.mark.parametrize("case", ["load", "update", "save"])
def test_w1_a_failed_store_is_a_503(handler: bool, case: str) -> None:
    def setup(config: Any) -> None:
        if handler:
            config.add_exception_view(
                lambda error, request: Response("oops", status=500), context=Exception
            )

    shop = Shop(setup)
    browser = Browser(shop.app)
    shop.run(browser, put)
    shop.store.fail("load" if case == "load" else "update")

    def view(request: Any) -> str:
        put(request)
        if case == "save":
            request.session.save()
        return "-"

    response = shop.run(browser, view)

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert browser.cookies


def with_error_page(config: Any) -> None:
    config.add_exception_view(
        lambda error, request: Response("oops", status=500), context=Exception
    )


def with_token_cookie(config: Any) -> None:
    """As apps do that give scripts their CSRF token."""

    def set_it(request: Any, response: Any) -> None:
        response.set_cookie("XSRF-TOKEN", request.session.get_csrf_token())

    config.add_subscriber(lambda event: event.request.add_response_callback(set_it), NewRequest)


ERROR_PAGE = pytest.mark.parametrize("error_page", [True, False])


@ERROR_PAGE
def test_a_sign_out_that_fails_takes_the_cookie_away_whatever_a_callback_writes(
    error_page: bool,
) -> None:
    def setup(config: Any) -> None:
        with_token_cookie(config)
        if error_page:
            with_error_page(config)

    shop = Shop(setup)
    browser = Browser(shop.app)
    shop.run(browser, lambda request: request.session.login("ada"))
    shop.store.fail("delete")

    response = shop.run(browser, lambda request: request.session.invalidate())

    assert response.code == 503 and "session" not in browser.cookies


@pytest.mark.parametrize("callback_signs_out", [True, False])
@pytest.mark.parametrize("caught", [True, False])
def test_a_sign_out_that_fails_takes_the_cookie_away_also_where_the_app_goes_on(
    shop: Shop, browser: Browser, caught: bool, callback_signs_out: bool
) -> None:
    shop.run(browser, put)
    shop.store.fail("delete")

    def sign_out(request: Any, response: Any = None) -> None:
        try:
            request.session.invalidate()
        except StoreError:
            if not caught:
                raise

    def view(request: Any) -> str:
        if callback_signs_out:
            request.add_response_callback(sign_out)
        else:
            sign_out(request)
        return "out"

    assert shop.run(browser, view).code == (200 if caught else 503)
    assert not browser.cookies


@ERROR_PAGE
@pytest.mark.parametrize("uses", [True, False])
def test_a_callback_that_meets_an_outage_is_answered_with_503(error_page: bool, uses: bool) -> None:
    def setup(config: Any) -> None:
        with_token_cookie(config)
        if error_page:
            with_error_page(config)

    shop = Shop(setup)
    browser = Browser(shop.app)
    shop.run(browser, put)
    shop.store.fail("load")

    response = shop.run(browser, put if uses else lambda request: "-")

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert browser.cookies


def test_a_stream_whose_callback_meets_an_outage_is_closed(shop: Shop, browser: Browser) -> None:
    body, called = Body(), list[str]()
    shop.run(browser, put)
    shop.store.fail("load")

    def view(request: Any) -> Any:
        request.add_response_callback(lambda request, response: put(request))
        request.add_response_callback(lambda request, response: called.append("another"))
        return Response(app_iter=body)

    response = shop.run(browser, view)

    assert response.code == 503 and b"x" not in response.body and body.closed == 1
    assert called == []  # as after any exception


def test_a_session_that_an_execution_policy_opens_is_answered_for_as_well() -> None:
    def policy(environ: Any, router: Any) -> Any:
        with router.request_context(environ) as request:
            assert request.session.owner is None
            return router.invoke_request(request)

    shop = Shop(lambda config: config.set_execution_policy(policy))
    browser = Browser(shop.app)
    shop.store.fail("insert")

    response = shop.run(browser, lambda request: [put(request), request.session.save()])

    assert response.code == 503 and response.get("Retry-After") == "5"


@ERROR_PAGE
def test_an_outage_within_a_middleware_around_the_app_is_its_503(error_page: bool) -> None:
    body, store = Body(), FaultyStore(MemoryStore())

    def page(error: Any, request: Any) -> Response:
        return Response(app_iter=body, status=500)

    def setup(config: Any) -> None:
        if error_page:
            config.add_exception_view(page, context=Exception)

    shop = Shop(setup)
    browser = Browser(SessionMiddleware(shop.app, secret_key=SECRET, store=store))
    store.fail("insert")

    response = shop.run(browser, lambda request: [put(request), request.session.save()])

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert body.closed == error_page


def test_an_outage_in_a_subrequest_that_shares_the_session_is_left_to_the_view() -> None:
    shop = Shop(with_error_page)
    browser = Browser(shop.app)

    def outer(request: Any) -> Any:
        shop.view = lambda request: [put(request), request.session.save()]
        shop.store.fail("insert")
        part = Request.blank("/run", environ={"wsgi_sessions.session": request.session})
        answer = request.invoke_subrequest(part, use_tweens=True)
        shop.store.recover()
        return answer.status

    assert shop.run(browser, outer).text == "500 Internal Server Error"
    assert shop.kept(browser) == {"n": 1}


def test_another_exception_views_500_stays(shop: Shop) -> None:
    def setup(config: Any) -> None:
        config.add_exception_view(
            lambda error, request: Response("oops", status=500), context=Exception
        )

    shop = Shop(setup)

    assert shop.run(Browser(shop.app), lambda request: 1 / 0).text == "oops"


# ISession


def opened(shop: Shop) -> PyramidSession:
    session = shop.steps.open_session(Request.blank("/").environ)
    assert isinstance(session, PyramidSession)
    return session


def test_it_is_an_isession(shop: Shop) -> None:
    session = opened(shop)

    verifyObject(ISession, session)
    assert session.new and isinstance(session.created, int)
    session.changed()


def test_invalidate_begins_a_new_session(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)
    before = browser.cookies["session"]

    def view(request: Any) -> str:
        assert not request.session.new
        request.session.invalidate()
        assert request.session.new and not request.session
        return put(request)

    shop.run(browser, view)

    assert browser.cookies["session"] != before and shop.kept(browser) == {"n": 1}


def test_flash_messages_wait_in_queues(shop: Shop) -> None:
    session = opened(shop)

    session.flash("a")
    session.flash("a", allow_duplicate=False)
    session.flash("a")
    session.flash("b", "other")

    assert session.peek_flash() == ["a", "a"] and session.peek_flash("none") == []
    assert session.pop_flash() == ["a", "a"] and session.pop_flash() == []
    assert session.pop_flash("other") == ["b"]


def test_of_two_requests_one_gets_the_message(shop: Shop, browser: Browser) -> None:
    shop.run(browser, lambda request: request.session.flash("once"))
    twin = Browser(shop.app)
    twin.cookies = dict(browser.cookies)

    def slow(request: Any) -> Any:
        request.session.peek_flash()
        assert shop.run(twin, lambda request: request.session.pop_flash()).text == "['once']"
        return request.session.pop_flash()

    assert shop.run(browser, slow).text == "[]"


def test_in_the_cookie_itself_flash_works_too() -> None:
    shop = Shop(store=ClientSideStore())
    browser = Browser(shop.app)
    shop.run(browser, lambda request: request.session.flash("x"))

    assert shop.run(browser, lambda request: request.session.pop_flash()).text == "['x']"


@pytest.mark.parametrize(
    "policy", [SessionCSRFStoragePolicy, LegacySessionCSRFStoragePolicy, CookieCSRFStoragePolicy]
)
def test_csrf_tokens_last_until_they_are_renewed(policy: Any) -> None:
    shop = Shop(lambda config: config.set_csrf_storage_policy(policy()))
    browser = Browser(shop.app)

    first = shop.run(browser, get_csrf_token).text
    assert shop.run(browser, get_csrf_token).text == first
    renewed = shop.run(browser, new_csrf_token).text

    assert renewed != first and shop.run(browser, get_csrf_token).text == renewed


# Settings


def read(**settings: Any) -> dict[str, Any]:
    return options_from(
        {
            "wsgi_sessions.secret_key": SECRET,
            **{f"wsgi_sessions.{name.replace('__', '.')}": v for name, v in settings.items()},
            "other.thing": "1",
        }
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rolling", "true", True),
        ("rolling", "Off", False),
        ("rolling", " 1 ", True),
        ("rolling", "0", False),
        ("save_on_error", "Y", True),
        ("encryption_migrate", "t", True),
        ("trusted_proxies", "2", 2),
        ("touch_interval", "0.5", 0.5),
        ("rotate_after", "none", None),
        ("max_per_owner", "5", 5),
        ("label", "ip, user_agent", ["ip", "user_agent"]),
        ("label", "none", None),
        ("store", "memory://", "memory://"),
        ("store", " none ", None),
        ("when_full", "refuse", "refuse"),
        ("secret_key", f"\n{SECRET}\n {SECRET}x", [SECRET, f"{SECRET}x"]),
        ("trusted_proxies", 3, 3),
    ],
)
def test_text_means_what_it_says(name: str, text: Any, value: Any) -> None:
    assert read(**{name: text})[name] == value


def test_the_parts_of_a_cookie_and_a_lifetime_have_names_of_their_own() -> None:
    options = read(
        cookie__name="sid",
        cookie__secure="auto",
        cookie__domain="none",
        cookie__persistent="yes",
        lifetime__idle="3600",
        lifetime__absolute="none",
    )

    assert options["cookie"] == Cookie("sid", persistent=True)
    assert options["lifetime"] == Lifetime(idle=3600, absolute=None)


def test_a_store_that_is_left_empty_is_no_choice() -> None:
    with pytest.raises(ConfigurationError, match="store"):
        Shop(store="")


def test_a_dotted_name_is_the_object() -> None:
    options = options_from(
        {"wsgi_sessions.secret_key": SECRET, "wsgi_sessions.clock": "time.time"},
        lambda name: f"<{name}>",
    )

    assert options["clock"] == "<time.time>"


@pytest.mark.parametrize("text", ["none", " None ", ""])
@pytest.mark.parametrize("name", ["clock", "codec", "passive"])
def test_none_is_no_dotted_name(name: str, text: str) -> None:
    assert read(**{name: text})[name] is None


def test_a_dotted_name_of_nothing_is_named_with_its_setting() -> None:
    def resolve(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    with pytest.raises(ConfigurationError, match="wsgi_sessions.on_event names nothing that can"):
        options_from(
            {"wsgi_sessions.secret_key": SECRET, "wsgi_sessions.on_event": "shop.typo"}, resolve
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stroe": "x"}, "there is no wsgi_sessions.stroe; write wsgi_sessions.store"),
        ({"zzz": "x"}, "there are secret_key"),
        ({"cookie__nme": "x"}, "write wsgi_sessions.cookie.name"),
        ({"cookie": Cookie(), "cookie__name": "x"}, "write one or the other"),
        ({"max_bytes": "many"}, "write a number"),
        ({"cookie__secure": "perhaps"}, "write True, False or 'auto'"),
    ],
)
def test_a_wrong_setting_says_what_to_write(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(**settings)


def test_without_a_secret_key_there_is_nothing() -> None:
    with pytest.raises(ConfigurationError, match=r"no wsgi_sessions\.secret_key"):
        options_from({})


def test_device_bindings_own_requests_never_reach_a_view() -> None:
    shop = Shop(device_binding=DeviceBinding())
    browser = Browser(shop.app, **{"wsgi.url_scheme": "https"})

    response = browser.get("/.well-known/device-binding/register", REQUEST_METHOD="POST")

    assert 400 <= response.code < 500 and response.code != 404


@pytest.mark.parametrize("first", [True, False], ids=["included first", "included last"])
def test_whatever_tweens_an_app_adds_ours_is_outermost(first: bool) -> None:
    store = FaultyStore(MemoryStore())
    config = Configurator(settings={"wsgi_sessions.secret_key": SECRET})
    config.add_settings({"wsgi_sessions.store": store})
    if first:
        config.include("wsgi_sessions.pyramid")
    config.add_tween("frameworks.test_pyramid.writing_tween")
    if not first:
        config.include("wsgi_sessions.pyramid")
    config.add_route("x", "/")
    config.add_view(lambda request: Response("x"), route_name="x")
    app = config.make_wsgi_app()
    browser = Browser(app)
    browser.get("/")
    store.fail("load")

    assert len(list(store.keys())) == 1
    assert browser.get("/").code == 503


def writing_tween(handler: Any, registry: Any) -> Any:
    def tween(request: Any) -> Any:
        request.session["a"] = 1
        response = handler(request)
        request.session["b"] = 2
        return response

    return tween


def test_a_stream_is_closed_where_the_session_cannot_be_kept() -> None:
    shop = Shop()
    body = Body()

    def view(request: Any) -> Response:
        request.session["a"] = "x" * 70_000
        return Response(app_iter=body)

    with pytest.raises(SessionTooLarge):
        shop.run(Browser(shop.app), view)
    assert body.closed == 1
