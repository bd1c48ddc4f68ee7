"""Falcon's middleware: req.context.session, Falcon's own errors, streams, 503s."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import falcon
import pytest

from wsgi import SECRET, Browser
from wsgi_sessions import Cookie, DeviceBinding, get_session
from wsgi_sessions import SessionMiddleware as PlainMiddleware
from wsgi_sessions.errors import SessionCommitted, StoreError, TooManySessions
from wsgi_sessions.falcon import SessionMiddleware
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore

ERRORS = {"wsgi.errors": io.StringIO()}
View = Callable[[Any, Any], Any]


class Shop:
    def __init__(self, *more: Any, **options: Any) -> None:
        self.store = FaultyStore(MemoryStore())
        self.sessions = SessionMiddleware(secret_key=SECRET, store=self.store, **options)
        self.app = falcon.App(middleware=[self.sessions, *more])
        self.app.add_sink(self._serve)
        self.view: View = lambda req, resp: None

    def _serve(self, req: Any, resp: Any, **options: Any) -> None:
        self.view(req, resp)

    def run(self, browser: Browser, view: View, **extra: Any) -> Any:
        self.view = view
        return browser.get("/", **{**ERRORS, **extra})

    def kept(self, browser: Browser) -> dict[str, Any]:
        return dict(self.sessions.steps.open_token(browser.cookies.get("session")))


def put(req: Any, resp: Any) -> None:
    req.context.session["n"] = req.context.session.get("n", 0) + 1
    resp.text = "kept"


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def browser(shop: Shop) -> Browser:
    return Browser(shop.app)


def test_a_session_goes_on_from_request_to_request(shop: Shop, browser: Browser) -> None:
    first = shop.run(browser, put)
    shop.run(browser, put)

    assert first.get("Vary") == "Cookie" and first.text == "kept"
    assert shop.kept(browser) == {"n": 2}


def test_an_untouched_session_costs_nothing(shop: Shop, browser: Browser) -> None:
    response = shop.run(browser, lambda req, resp: None)

    assert response.set_cookie is None and response.get("Vary") is None
    assert not shop.store.calls


def test_the_apps_own_headers_and_cookies_stay(shop: Shop, browser: Browser) -> None:
    def view(req: Any, resp: Any) -> None:
        put(req, resp)
        resp.set_cookie("theme", "dark", secure=False)
        resp.append_header("Set-Cookie", "raw=1")
        resp.set_header("X-Shop", "1")

    response = shop.run(browser, view)

    names = [value.partition("=")[0] for value in response.all("Set-Cookie")]
    assert sorted(names) == ["raw", "session", "theme"]
    assert response.get("X-Shop") == "1"


def test_an_app_that_unsets_the_cookie_signs_out(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)

    def view(req: Any, resp: Any) -> None:
        req.context.session.get("n")
        resp.unset_cookie("session")

    shop.run(browser, view)

    assert browser.cookies == {}


def test_errors_are_falcons_and_keep_nothing(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)

    def view(req: Any, resp: Any) -> None:
        put(req, resp)
        raise falcon.HTTPInternalServerError(title="ours")

    response = shop.run(browser, view)

    assert response.code == 500 and '"ours"' in response.text
    assert shop.kept(browser) == {"n": 1}


def test_a_value_that_turns_bad_in_place_is_falcons_500(shop: Shop, browser: Browser) -> None:
    def view(req: Any, resp: Any) -> None:
        req.context.session["bad"] = []
        req.context.session["bad"].append(object())

    assert shop.run(browser, view).code == 500
    assert browser.cookies == {}


def test_a_stream_goes_on_with_the_session(shop: Shop, browser: Browser) -> None:
    def view(req: Any, resp: Any) -> None:
        session = req.context.session
        session["before"] = 1

        def body() -> Iterator[bytes]:
            yield b"a"
            session["within"] = 2

        resp.stream = body()

    assert shop.run(browser, view).body == b"a"
    assert shop.kept(browser) == {"before": 1, "within": 2}


def begins(req: Any, resp: Any) -> None:
    session = req.context.session

    def body() -> Iterator[bytes]:
        session["within"] = 1
        yield b""
        session.login("ada")
        yield b"a"
        session["within"] += 1
        yield b"b"

    resp.stream = body()


def test_a_stream_may_begin_a_session_before_its_first_chunk(shop: Shop, browser: Browser) -> None:
    response = shop.run(browser, begins)

    assert response.body == b"ab" and response.set_cookie is not None
    assert shop.kept(browser) == {"within": 2}
    assert shop.sessions.registry.count("ada") == 1


def test_a_stream_without_chunks_may_begin_a_session(shop: Shop, browser: Browser) -> None:
    def view(req: Any, resp: Any) -> None:
        session = req.context.session
        resp.stream = (b"" for _ in range(2) if session.increment("n"))

    assert shop.run(browser, view).body == b""
    assert shop.kept(browser) == {"n": 2}


def test_a_stream_that_fails_before_its_first_chunk_is_falcons_500(
    shop: Shop, browser: Browser
) -> None:
    shop.run(browser, put)
    closed: list[str] = []

    def view(req: Any, resp: Any) -> None:
        session = req.context.session

        def body() -> Iterator[bytes]:
            session["n"] = 9
            if session:
                raise ZeroDivisionError
            yield b"a"

        class Closing:
            def __iter__(self) -> Iterator[bytes]:
                return body()

            def close(self) -> None:
                closed.append("closed")

        resp.stream = Closing()

    assert shop.run(browser, view).code == 500
    assert closed == ["closed"] and shop.kept(browser) == {"n": 1}


@pytest.mark.parametrize("why", ["HEAD", "text", "204"])
def test_a_stream_that_is_not_sent_is_not_begun(shop: Shop, browser: Browser, why: str) -> None:
    def view(req: Any, resp: Any) -> None:
        begins(req, resp)
        if why == "text":
            resp.text = "instead"
        elif why == "204":
            resp.status = falcon.HTTP_204

    shop.run(browser, view, **({"REQUEST_METHOD": "HEAD"} if why == "HEAD" else {}))

    assert browser.cookies == {}


def test_a_stream_that_breaks_off_keeps_what_came_before(shop: Shop, browser: Browser) -> None:
    def view(req: Any, resp: Any) -> None:
        session = req.context.session
        session["before"] = 1

        def body() -> Iterator[bytes]:
            yield b"a"
            session["within"] = 2
            raise ZeroDivisionError

        resp.stream = body()

    with pytest.raises(ZeroDivisionError):
        shop.run(browser, view)
    # The answer was lost with its cookie, but what stands is known to the store.
    (info,) = [shop.sessions.registry.get(handle) for handle in shop.sessions.registry]
    assert info is not None
    record = shop.store.load(info.handle)
    assert record is not None and [*record.fields] == ["before"]


def test_a_file_is_left_to_falcon(shop: Shop, browser: Browser) -> None:
    def view(req: Any, resp: Any) -> None:
        put(req, resp)
        resp.text = None
        resp.stream = io.BytesIO(b"file")

    assert shop.run(browser, view).body == b"file"
    assert shop.kept(browser) == {"n": 1}


@pytest.mark.parametrize("operation", ["load", "update"])
def test_w1_a_failed_store_is_a_503(shop: Shop, browser: Browser, operation: str) -> None:
    shop.run(browser, put)
    shop.store.fail(operation)

    response = shop.run(browser, put)

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert "temporarily" in response.text and browser.cookies


@pytest.mark.parametrize(
    ("operation", "act"),
    [
        ("update", lambda session: [session.update(n=9), session.save()]),
        ("update", lambda session: session.increment("n")),
        ("delete", lambda session: session.destroy()),
        ("load", lambda session: [session.get("n"), session.reload()]),
        ("load", lambda session: [session.get("n"), session.is_alive()]),
    ],
    ids=["save", "increment", "destroy", "reload", "is_alive"],
)
def test_a_store_that_fails_in_the_middle_is_a_503(
    shop: Shop, browser: Browser, operation: str, act: Callable[[Any], Any]
) -> None:
    shop.run(browser, put)

    def view(req: Any, resp: Any) -> None:
        req.context.session.get("n")
        shop.store.fail(operation)
        act(req.context.session)

    response = shop.run(browser, view)

    assert response.code == 503 and response.get("Retry-After") == "5"


@pytest.mark.parametrize(
    "act", [lambda s: s.login("ada"), lambda s: setattr(s, "owner", "ada")], ids=["login", "owner"]
)
def test_a_store_that_fails_where_a_login_may_be_refused_is_a_503(
    act: Callable[[Any], Any],
) -> None:
    shop = Shop(max_per_owner=1, when_full="refuse")

    def view(req: Any, resp: Any) -> None:
        assert req.context.session.owner is None
        shop.store.fail("load")
        act(req.context.session)

    response = shop.run(Browser(shop.app), view)

    assert response.code == 503 and response.get("Retry-After") == "5"


def test_an_owner_can_be_deleted(shop: Shop, browser: Browser) -> None:
    shop.run(browser, lambda req, resp: req.context.session.login("ada"))

    def view(req: Any, resp: Any) -> None:
        del req.context.session.owner
        owner_of(req, resp)

    assert shop.run(browser, view).text == "None"
    assert shop.run(browser, owner_of).text == "None"


def test_what_a_resource_caught_is_its_own_affair(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)
    shop.store.fail("update")

    def view(req: Any, resp: Any) -> None:
        put(req, resp)
        with pytest.raises(StoreError):
            req.context.session.save()
        req.context.session.reload()
        assert req.context.session.is_alive()
        resp.text = "later"

    assert shop.run(browser, view).text == "later"


def test_an_app_that_handles_the_failure_answers_itself(shop: Shop, browser: Browser) -> None:
    def later(req: Any, resp: Any, error: Any, params: Any) -> None:
        resp.text = "later"

    shop.app.add_error_handler(StoreError, later)
    shop.run(browser, put)
    shop.store.fail("load")

    assert shop.run(browser, put).text == "later"


def reads_the_session(req: Any, resp: Any, error: Any, params: Any) -> None:
    resp.status, resp.text = 500, f"{req.context.session.owner} has met an error"


def raises_again(req: Any, resp: Any, error: Any, params: Any) -> None:
    raise error


@pytest.mark.parametrize("kind", [Exception, StoreError, falcon.HTTPError])
@pytest.mark.parametrize("handler", [reads_the_session, raises_again])
@pytest.mark.parametrize(
    "act", [put, lambda req, resp: req.context.session.save()], ids=["access", "save"]
)
def test_a_failed_store_is_a_503_whatever_an_error_handler_does(
    shop: Shop, browser: Browser, kind: type[Exception], handler: Any, act: View
) -> None:
    shop.app.add_error_handler(kind, handler)
    shop.run(browser, put)
    shop.store.fail("load")

    response = shop.run(browser, act)

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert "temporarily" in response.text and browser.cookies


def test_an_error_handler_that_meets_the_failure_itself_leads_to_a_503(
    shop: Shop, browser: Browser
) -> None:
    shop.app.add_error_handler(ZeroDivisionError, reads_the_session)
    shop.run(browser, put)
    shop.store.fail("load")

    def view(req: Any, resp: Any) -> None:
        raise ZeroDivisionError

    response = shop.run(browser, view)

    assert response.code == 503 and response.get("Retry-After") == "5"


def test_a_stream_whose_first_chunk_meets_a_failure_is_a_503(shop: Shop, browser: Browser) -> None:
    def body() -> Iterator[bytes]:
        yield str(shop.sessions.registry.count("ada")).encode()

    def view(req: Any, resp: Any) -> None:
        resp.stream = body()

    shop.run(browser, put)
    shop.store.fail("load")

    response = shop.run(browser, view)

    assert response.code == 503 and response.get("Retry-After") == "5"
    assert "temporarily" in response.text and browser.cookies


def test_what_a_session_raises_says_the_same_as_any_other(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)
    shop.store.fail("load")

    def view(req: Any, resp: Any) -> None:
        with pytest.raises(StoreError, match="this test store was set to fail") as raised:
            req.context.session.get("n")
        assert raised.value.operation == "load"
        assert repr(raised.value).startswith("FalconStoreError('this test store")
        resp.text = "caught"

    assert shop.run(browser, view).text == "caught"


def too_large(req: Any, resp: Any) -> None:
    req.context.session["a"] = "x" * 70_000


def turns_bad(req: Any, resp: Any) -> None:
    req.context.session["a"] = []
    req.context.session["a"].append(object())


def cannot_be_rendered(req: Any, resp: Any) -> None:
    req.context.session["a"] = 1
    resp.media = {"x": object()}


@pytest.mark.parametrize("view", [too_large, turns_bad, cannot_be_rendered])
@pytest.mark.parametrize(
    "change",
    [lambda session: session.update(b=1), lambda session: session.login("ada")],
    ids=["write", "login"],
)
def test_an_error_handler_that_changes_the_session_too_late_leads_to_a_500_of_falcons(
    shop: Shop, browser: Browser, view: View, change: Callable[[Any], None]
) -> None:
    seen: list[str] = []

    def handler(req: Any, resp: Any, error: Exception, params: Any) -> None:
        try:
            change(req.context.session)
        except SessionCommitted as late:
            seen.append(repr(late))
            raise
        resp.status, resp.text = 500, "handled"

    shop.app.add_error_handler(Exception, handler)

    response = shop.run(browser, view)

    assert response.code == 500 and "Internal Server Error" in response.text
    assert [text.partition("(")[0] for text in seen] == ["FalconSessionCommitted"]
    assert browser.cookies == {} and list(shop.store.keys()) == []


@pytest.mark.parametrize("save_on_error", [False, True])
@pytest.mark.parametrize("view", [too_large, turns_bad])
def test_the_cookie_that_a_save_owes_goes_out_with_the_500_of_a_failed_commit(
    view: View, save_on_error: bool
) -> None:
    shop = Shop(save_on_error=save_on_error)
    browser = Browser(shop.app)

    def saved(req: Any, resp: Any) -> None:
        req.context.session.login("ada")
        req.context.session.save()
        resp.set_cookie("theme", "dark", secure=False)
        view(req, resp)

    response = shop.run(browser, saved)

    assert response.code == 500 and "Cookie" in response.all("Vary")[0]
    assert response.get("Cache-Control") == "no-store"
    assert browser.cookies.keys() == {"theme", "session"}
    assert shop.run(browser, owner_of).text == "ada"
    assert shop.kept(browser) == {}


def test_inside_another_the_outer_one_answers_for_the_session() -> None:
    inner = SessionMiddleware(secret_key=SECRET, store=MemoryStore())
    shop = Shop(inner)
    browser = Browser(shop.app)

    shop.run(browser, put)

    assert shop.kept(browser) == {"n": 1}
    assert [*inner.registry] == []


def test_device_bindings_own_requests_never_reach_a_resource() -> None:
    shop = Shop(device_binding=DeviceBinding())
    shop.view = put
    browser = Browser(shop.app, **{"wsgi.url_scheme": "https"})

    response = browser.get("/.well-known/device-binding/register", REQUEST_METHOD="POST")

    assert 400 <= response.code < 500 and browser.cookies == {}


@pytest.mark.parametrize("work", ["put", "login"])
def test_nothing_is_kept_where_what_it_answers_cannot_be_rendered(
    shop: Shop, browser: Browser, work: str
) -> None:
    def view(req: Any, resp: Any) -> None:
        session = req.context.session
        session.login("u") if work == "login" else session.update(a=1)
        resp.media = {"x": {1, 2}}

    response = shop.run(browser, view)

    assert response.code == 500
    assert response.set_cookie is None
    assert list(shop.store.keys()) == []


def test_what_is_rendered_is_sent(shop: Shop, browser: Browser) -> None:
    def view(req: Any, resp: Any) -> None:
        req.context.session["a"] = 1
        resp.media = {"x": 1}

    response = shop.run(browser, view)

    assert response.text == '{"x": 1}'
    assert shop.kept(browser) == {"a": 1}


class Body:
    """A stream that notes that it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"x"])

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("why", ["outage", "too large"])
def test_a_stream_is_closed_where_the_session_cannot_be_kept(
    shop: Shop, browser: Browser, why: str
) -> None:
    body = Body()

    def view(req: Any, resp: Any) -> None:
        req.context.session["a"] = "x" * (70_000 if why == "too large" else 1)
        resp.stream = body

    if why == "outage":
        shop.store.fail("insert")

    assert shop.run(browser, view).code == (503 if why == "outage" else 500)
    assert body.closed == 1


def test_two_sessions_of_their_own_keys_are_both_kept() -> None:
    stores = MemoryStore(), MemoryStore()
    parts = [
        SessionMiddleware(secret_key=SECRET, store=stores[0]),
        SessionMiddleware(
            secret_key=SECRET, store=stores[1], environ_key="other", cookie=Cookie("other")
        ),
    ]

    class Page:
        def on_get(self, req: Any, resp: Any) -> None:
            get_session(req.env)["n"] = 1
            get_session(req.env, "other")["n"] = 2

    app = falcon.App(middleware=parts)
    app.add_route("/", Page())
    browser = Browser(app)
    browser.get("/")

    assert browser.cookies.keys() == {"session", "other"}
    assert [len(list(store.keys())) for store in stores] == [1, 1]


@pytest.mark.parametrize("before", ["save", "destroy"])
def test_what_was_done_before_a_failed_rendering_is_told(
    shop: Shop, browser: Browser, before: str
) -> None:
    shop.run(browser, put)

    def view(req: Any, resp: Any) -> None:
        session = req.context.session
        if before == "save":
            session.login("u")
            session.save()
        else:
            session.destroy()
        resp.media = {"x": {1, 2}}

    response = shop.run(browser, view)

    assert response.code == 500
    if before == "save":
        assert shop.run(browser, owner_of).text == "u"
    else:
        assert browser.cookies == {}


def owner_of(req: Any, resp: Any) -> None:
    resp.text = str(req.context.session.owner)


def test_a_store_that_fails_while_it_is_rendered_is_a_503(shop: Shop, browser: Browser) -> None:
    shop.run(browser, put)
    shop.store.fail("load")

    seen: list[Any] = []

    class Handler(falcon.media.BaseHandler):
        def serialize(self, media: object, content_type: str) -> bytes:
            return str(seen[0]["n"]).encode()

    def view(req: Any, resp: Any) -> None:
        seen.append(req.context.session)
        resp.media = {}

    shop.app.resp_options.media_handlers[falcon.MEDIA_JSON] = Handler()
    response = shop.run(browser, view)

    assert response.code == 503
    assert response.get("Retry-After") is not None


def test_a_failure_of_either_of_two_sessions_is_a_503() -> None:
    store = FaultyStore(MemoryStore())
    parts = [
        SessionMiddleware(secret_key=SECRET, store=store),
        SessionMiddleware(
            secret_key=SECRET, store=MemoryStore(), environ_key="other", cookie=Cookie("other")
        ),
    ]

    class Page:
        def on_get(self, req: Any, resp: Any) -> None:
            session = get_session(req.env)
            session["n"] = 1
            session.save()

    app = falcon.App(middleware=parts)
    app.add_route("/", Page())
    store.fail("insert")

    extra: dict[str, Any] = {**ERRORS}
    assert Browser(app).get("/", **extra).code == 503


def test_a_plain_middleware_around_the_app_meets_what_leaves_falcon() -> None:
    class In:
        def on_get(self, req: Any, resp: Any) -> None:
            try:
                req.context.session.login("ada")
            except TooManySessions:
                resp.text = "full"
            else:
                resp.text = "in"
                if "boom" in req.query_string:
                    raise ZeroDivisionError

    options: dict[str, Any] = {"max_per_owner": 1, "when_full": "refuse", "secret_key": SECRET}
    app = falcon.App(middleware=[SessionMiddleware(secret_key=SECRET)])
    app.add_route("/", In())
    app.add_error_handler(ZeroDivisionError, raises_again)
    browser = Browser(PlainMiddleware(app, store=MemoryStore(), **options))

    with pytest.raises(ZeroDivisionError):
        browser.get("/", QUERY_STRING="boom")

    assert browser.get("/").text == "in"
