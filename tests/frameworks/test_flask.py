"""flask.session on top of ours: Flask's semantics, settings, and what is built on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from flask import (
    Flask,
    Response,
    flash,
    get_flashed_messages,
    redirect,
    render_template_string,
    send_file,
    session,
    stream_with_context,
)
from flask.testing import FlaskClient
from markupsafe import Markup
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import create_environ

from wsgi import call
from wsgi_sessions import ConfigurationError, Cookie, Lifetime, Session, SessionMiddleware
from wsgi_sessions.data.codec import CorruptField, JSONCodec
from wsgi_sessions.errors import StoreError
from wsgi_sessions.flask import FlaskSession, FlaskSessions, MarkupCodec, Options
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore

SECRET = "a secret of at least thirty-two bytes, for tests"
OLD_SECRET = "an older secret, also of at least thirty-two bytes"


def make_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, **config)

    @app.get("/put/<key>/<value>")
    def put(key: str, value: str) -> str:
        session[key] = value
        return "kept"

    @app.get("/all")
    def everything() -> dict[str, Any]:
        return dict(session)

    @app.get("/untouched")
    def untouched() -> str:
        return "-"

    @app.get("/permanent")
    def permanent() -> str:
        session.permanent = True
        session["seen"] = True
        return "-"

    return app


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def app(clock: FakeClock) -> Flask:
    app = make_app()
    FlaskSessions(app, store=MemoryStore(), clock=clock)
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def cookies(response: Any) -> list[str]:
    return list(response.headers.getlist("Set-Cookie"))


# The session object


def test_flask_session_is_a_session_of_ours(app: Flask, client: FlaskClient) -> None:
    @app.get("/kind")
    def kind() -> list[bool]:
        return [isinstance(session, Session), isinstance(session, FlaskSession)]

    assert client.get("/kind").json == [True, True]


def test_what_one_request_keeps_the_next_one_finds(client: FlaskClient) -> None:
    client.get("/put/name/Ada")

    assert client.get("/all").json == {"name": "Ada"}


def test_the_cookie_holds_no_data(client: FlaskClient) -> None:
    client.get("/put/name/Ada")

    cookie = client.get_cookie("session")
    assert cookie is not None
    assert len(cookie.value) < 100


def test_changes_inside_nested_values_need_no_modified_flag(
    app: Flask, client: FlaskClient
) -> None:
    @app.get("/start")
    def start() -> str:
        session["cart"] = {"items": []}
        return "-"

    @app.get("/add")
    def add() -> str:
        session["cart"]["items"].append("tea")
        return "-"

    client.get("/start")
    client.get("/add")

    assert client.get("/all").json == {"cart": {"items": ["tea"]}}


def test_flasks_own_flags_say_what_happened(app: Flask, client: FlaskClient) -> None:
    seen: list[tuple[bool, bool, bool]] = []

    @app.get("/flags")
    def flags() -> str:
        seen.append((session.new, session.modified, session.accessed))
        session["a"] = len(seen)
        seen.append((session.new, session.modified, session.accessed))
        return "-"

    client.get("/flags")
    client.get("/flags")

    assert seen == [
        (True, False, True),
        (True, True, True),
        (False, False, True),
        (False, True, True),
    ]


def test_looking_at_flags_through_the_proxy_is_no_access(app: Flask, client: FlaskClient) -> None:
    @app.get("/look")
    def look() -> str:
        return f"{session.accessed} {session.modified}"

    response = client.get("/look")

    assert response.text == "False False"
    assert "Vary" not in response.headers


def test_modified_may_be_set_as_flasks_sessions_need_it(app: Flask, client: FlaskClient) -> None:
    @app.get("/modify")
    def modify() -> str:
        session["n"] = [1]
        session["n"].append(2)
        session.modified = True
        return "-"

    client.get("/modify")

    assert client.get("/all").json == {"n": [1, 2]}


def test_modified_can_be_taken_back_as_in_flask(app: Flask, client: FlaskClient) -> None:
    @app.get("/unmodify/<int:then>")
    def unmodify(then: int) -> str:
        session.modified = False  # nothing was changed yet
        session["n"] = then
        session.modified = False
        assert not session.modified
        if then:
            session["more"] = True
            assert session.modified
        return str(session["n"])

    client.get("/put/a/1")
    assert client.get("/unmodify/0").text == "0"
    assert client.get("/all").json == {"a": "1"}
    client.get("/unmodify/1")
    assert client.get("/all").json == {"a": "1", "n": 1, "more": True}


def test_modified_does_not_take_back_a_login(app: Flask, client: FlaskClient) -> None:
    @app.get("/login")
    def login() -> str:
        session["n"] = 1
        session.login("ada")  # type: ignore[attr-defined] # Flask's type knows its own members only
        session.modified = False
        session.modified = True
        session.modified = False
        return "-"

    client.get("/login")
    assert client.get("/all").json == {"n": 1}


def test_a_permanent_session_outlives_the_browser(client: FlaskClient) -> None:
    (cookie,) = cookies(client.get("/permanent"))

    assert f"Max-Age={31 * 24 * 60 * 60};" in cookie


def test_any_other_ends_with_the_browser(client: FlaskClient) -> None:
    (cookie,) = cookies(client.get("/put/a/1"))

    assert "Max-Age" not in cookie
    assert "Expires" not in cookie


@pytest.mark.parametrize(
    ("permanent", "refresh", "again"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_a_permanent_sessions_cookie_is_sent_again_as_flask_is_told(
    clock: FakeClock, permanent: bool, refresh: bool, again: bool
) -> None:
    app = make_app(SESSION_REFRESH_EACH_REQUEST=refresh)
    FlaskSessions(app, store=MemoryStore(), clock=clock)

    @app.get("/bump")
    def bump() -> str:
        session.permanent = permanent
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    client = app.test_client()

    assert [client.get("/bump").text for _ in range(3)] == ["1", "2", "3"]
    assert bool(cookies(client.get("/all"))) is again
    assert cookies(client.get("/untouched")) == []


def test_an_explicit_rolling_wins_over_the_config(clock: FakeClock) -> None:
    app = make_app(SESSION_REFRESH_EACH_REQUEST=True)
    FlaskSessions(app, store=MemoryStore(), clock=clock, rolling=False)
    client = app.test_client()
    client.get("/permanent")

    assert cookies(client.get("/all")) == []


def test_permanent_for_every_request_stores_nothing_for_visitors(clock: FakeClock) -> None:
    app = make_app()
    sessions = FlaskSessions(app, store=MemoryStore(), clock=clock)

    @app.before_request
    def remember_everybody() -> None:
        session.permanent = True

    response = app.test_client().get("/untouched")

    assert cookies(response) == []
    assert list(sessions.registry) == []


def test_nothing_happens_to_requests_that_leave_the_session_alone(client: FlaskClient) -> None:
    client.get("/put/a/1")

    response = client.get("/untouched")

    assert cookies(response) == []
    assert "Vary" not in response.headers


def test_login_and_registry_work_through_the_proxy(clock: FakeClock) -> None:
    app = make_app()
    sessions = FlaskSessions(app, store=MemoryStore(), clock=clock)

    @app.get("/login")
    def login() -> str:
        session["cart"] = ["tea"]
        session.login("ada")  # type: ignore[attr-defined] # Flask's type knows its own members only
        return "-"

    client = app.test_client()
    client.get("/put/before/1")
    before = client.get_cookie("session")
    client.get("/login")
    after = client.get_cookie("session")

    assert before is not None and after is not None and before.value != after.value
    assert client.get("/all").json == {"before": "1", "cart": ["tea"]}
    assert sessions.registry.count("ada") == 1
    assert sessions.registry.revoke_all("ada") == 1
    assert client.get("/all").json == {}


# Flashes


def test_flashes_come_once(app: Flask, client: FlaskClient) -> None:
    @app.get("/flash")
    def make() -> Any:
        flash("saved", "info")
        flash(Markup("<b>bold</b>"))
        return redirect("/show")

    @app.get("/show")
    def show() -> str:
        return render_template_string(
            "{% for kind, text in get_flashed_messages(with_categories=True) %}"
            "{{ kind }}: {{ text }}. {% endfor %}"
        )

    first = client.get("/flash", follow_redirects=True)

    assert first.text == "info: saved. message: <b>bold</b>. "
    assert client.get("/show").text == ""


@pytest.mark.parametrize(
    "value",
    [
        Markup("<b>"),
        [("message", Markup("x")), ("message", "x")],
        {"markup": Markup("x")},
        {"~markup": "no markup"},
        {"~~markup": Markup("x"), "markup": ["~markup"]},
        [{"~markup": "a"}, Markup("b")],
        {"~x": (1, Markup("y"))},
        {"~markup": 1, "other": Markup("z")},
        '"~~markup"',
    ],
    ids=repr,
)
def test_markup_and_what_looks_like_it_come_back_as_they_were(value: Any) -> None:
    codec = MarkupCodec()

    assert repr(codec.decode(codec.encode(value))) == repr(value)


def test_what_cannot_be_stored_is_named_in_spite_of_markup() -> None:
    endless: list[Any] = [Markup("x")]
    endless.append(endless)

    with pytest.raises(TypeError, match=r"\[1\]: a value of type object"):
        MarkupCodec().encode([Markup("x"), object()])
    with pytest.raises(TypeError, match="levels deep"):
        MarkupCodec().encode(endless)


# The test client


def test_session_transaction_opens_changes_and_keeps(client: FlaskClient) -> None:
    with client.session_transaction() as opened:
        opened["cart"] = ["tea"]
    with client.session_transaction() as opened:
        opened["cart"].append("milk")

    assert client.get("/all").json == {"cart": ["tea", "milk"]}


def test_session_transaction_reads_what_a_request_kept(client: FlaskClient) -> None:
    client.get("/put/name/Ada")

    with client.session_transaction() as opened:
        assert dict(opened) == {"name": "Ada"}


def test_a_test_client_that_speaks_https_keeps_secure_cookies() -> None:
    app = make_app(SESSION_COOKIE_SECURE=True, PREFERRED_URL_SCHEME="https")
    FlaskSessions(app, store=MemoryStore())
    client = app.test_client()

    with client.session_transaction() as opened:
        opened["a"] = 1

    assert client.get("/all").json == {"a": 1}


def test_session_transaction_can_sign_in_and_destroy(client: FlaskClient) -> None:
    with client.session_transaction() as opened:
        opened.login("ada")  # type: ignore[attr-defined] # Flask's type knows its own members only
    with client.session_transaction() as opened:
        assert opened.owner == "ada"  # type: ignore[attr-defined] # as above
        opened.destroy()  # type: ignore[attr-defined] # as above

    assert client.get_cookie("session") is None


def test_the_session_can_be_read_after_the_request(client: FlaskClient) -> None:
    with client:
        client.get("/put/name/Ada")

        assert session["name"] == "Ada"


def test_a_request_context_has_a_session_that_is_not_kept(app: Flask) -> None:
    with app.test_request_context():
        flash("hello")

        assert get_flashed_messages() == ["hello"]
    assert list(app.extensions["wsgi_sessions"].registry) == []


def test_process_response_keeps_the_session_of_a_request_context(app: Flask) -> None:
    with app.test_request_context():
        session["a"] = 1
        response = app.process_response(app.make_response("-"))

    assert len(cookies(response)) == 1
    assert response.headers["Vary"] == "Cookie"


# Streams, errors, headers: the middleware's


def test_a_stream_can_read_and_save_the_session(app: Flask, client: FlaskClient) -> None:
    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            yield str(session.get("name"))
            session["streamed"] = True

        return Response(stream_with_context(parts()))

    client.get("/put/name/Ada")

    assert client.get("/stream", buffered=True).text == "Ada"
    assert client.get("/all").json == {"name": "Ada", "streamed": True}


def test_a_file_reaches_the_server_in_its_own_wrapper(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")

    @app.get("/file")
    def send() -> Response:
        session["sent"] = True
        return send_file(file)

    started: list[list[tuple[str, str]]] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append(headers)
        return bytes

    environ = create_environ("/file")
    environ["wsgi.file_wrapper"] = FileWrapper
    body: Any = app(environ, start)

    assert isinstance(body, FileWrapper)
    assert "Set-Cookie" in dict(started[0])
    body.close()


def test_an_error_page_keeps_nothing_unless_it_is_asked_to(clock: FakeClock) -> None:
    kept: dict[bool, Any] = {}
    for save_on_error in (False, True):
        app = make_app()
        FlaskSessions(app, store=MemoryStore(), clock=clock, save_on_error=save_on_error)

        @app.get("/fail")
        def fail() -> str:
            session["half"] = "done"
            raise ZeroDivisionError

        client = app.test_client()
        client.get("/put/a/1")
        assert client.get("/fail").status_code == 500
        kept[save_on_error] = client.get("/all").json

    assert kept == {False: {"a": "1"}, True: {"a": "1", "half": "done"}}


def test_vary_names_the_cookie_once(app: Flask, client: FlaskClient) -> None:
    @app.get("/vary")
    def vary() -> Response:
        response = Response(str(session.get("a")))
        response.vary.update(["Accept-Language", "Cookie"])
        return response

    assert client.get("/vary").headers.getlist("Vary") == ["Accept-Language, Cookie"]


# A store that fails


def failing_app(**config: Any) -> tuple[Flask, FaultyStore]:
    app = make_app(**config)
    store = FaultyStore(MemoryStore())
    FlaskSessions(app, store=store)
    return app, store


@pytest.mark.parametrize("config", [{}, {"TESTING": True}], ids=["production", "testing"])
@pytest.mark.parametrize("path", ["/all", "/put/a/2"])
def test_an_outage_is_a_503_and_keeps_the_cookie(config: dict[str, Any], path: str) -> None:
    app, store = failing_app(**config)
    client = app.test_client()
    client.get("/put/a/1")
    store.fail("load")

    response = client.get(path)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert cookies(response) == []
    store.recover()
    assert client.get("/all").json == {"a": "1"}


@pytest.mark.parametrize("config", [{}, {"TESTING": True}], ids=["production", "testing"])
def test_an_outage_is_over_for_an_environ_that_is_used_again(config: dict[str, Any]) -> None:
    app, store = failing_app(**config)
    made = create_environ("/all", headers={"Cookie": cookie_of(app)})
    store.fail("load")
    assert call(app, made).code == 503

    store.recover()

    assert call(app, made).code == 200


def cookie_of(app: Flask) -> str:
    client = app.test_client()
    client.get("/put/a/1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    return f"session={cookie.value}"


def test_an_outage_after_the_view_is_a_503_too() -> None:
    app, store = failing_app()

    @app.after_request
    def count(response: Response) -> Response:
        response.headers["X-Count"] = str(len(session))
        return response

    client = app.test_client()
    client.get("/put/a/1")
    store.fail("load")

    assert client.get("/untouched").status_code == 503


def test_an_apps_own_handler_for_outages_is_heard() -> None:
    app, store = failing_app()

    @app.errorhandler(StoreError)
    def sorry(error: StoreError) -> tuple[str, int]:
        return "sorry", 503

    client = app.test_client()
    client.get("/put/a/1")
    store.fail("load")

    response = client.get("/all")
    assert (response.status_code, response.text) == (503, "sorry")


def test_other_errors_stay_flasks(app: Flask, client: FlaskClient) -> None:
    @app.get("/fail")
    def fail() -> str:
        raise ZeroDivisionError

    @app.errorhandler(500)
    def sorry(error: Exception) -> tuple[str, int]:
        return "our own page", 500

    assert client.get("/fail").text == "our own page"


# Settings


def options(app: Flask) -> dict[str, str]:
    described: str = app.extensions["wsgi_sessions"].describe()
    return dict(line.split(": ", 1) for line in described.splitlines())


def test_flasks_names_are_understood(clock: FakeClock) -> None:
    app = make_app(
        SESSION_COOKIE_NAME="__Secure-s",
        SESSION_COOKIE_DOMAIN="example.test",
        SESSION_COOKIE_PATH="/shop",
        SESSION_COOKIE_HTTPONLY=False,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_PARTITIONED=True,
        PERMANENT_SESSION_LIFETIME=3600,
        SESSION_STORE="memory://",
        SESSION_TRUSTED_PROXIES=2,
        SESSION_MAX_PER_OWNER=3,
    )
    FlaskSessions(app)

    assert options(app)["cookie"] == repr(
        Cookie(
            "__Secure-s",
            domain="example.test",
            path="/shop",
            httponly=False,
            secure=True,
            samesite="Strict",
            partitioned=True,
        )
    )
    assert options(app)["lifetime"] == "idle 1:00:00, absolute 30 days"
    assert "hops=2" in options(app)["trusted_proxies"]
    assert options(app)["max_per_owner"].startswith("3")
    assert "Memory" in options(app)["store"]


def test_flasks_defaults_give_way_to_stricter_ones() -> None:
    app = make_app()
    FlaskSessions(app, store=MemoryStore())

    (plain,) = cookies(app.test_client().get("/put/a/1"))
    (secure,) = cookies(app.test_client().get("/put/a/1", base_url="https://localhost"))
    assert "SameSite=Lax" in plain and "HttpOnly" in plain and "Secure" not in plain
    assert "Secure" in secure


def test_explicit_arguments_win() -> None:
    app = make_app(
        SESSION_COOKIE_NAME="of-config", SESSION_STORE="redis://nowhere", SESSION_MAX_BYTES=10
    )
    FlaskSessions(
        app,
        secret_key=OLD_SECRET,
        store=MemoryStore(),
        cookie=Cookie("given"),
        lifetime=Lifetime(idle=60),
        max_bytes=5000,
    )

    assert "name='given'" in options(app)["cookie"]
    assert options(app)["max_bytes"] == "5000"
    assert options(app)["lifetime"].startswith("idle 0:01:00,")


def test_the_cookies_path_is_the_applications_root() -> None:
    app = make_app(APPLICATION_ROOT="/app")
    FlaskSessions(app, store=MemoryStore())

    (cookie,) = cookies(app.test_client().get("/put/a/1"))
    assert "Path=/app" in cookie


def test_fallback_keys_are_believed_and_replaced() -> None:
    store = MemoryStore()
    old = make_app()
    FlaskSessions(old, store=store, secret_key=OLD_SECRET)
    new = make_app(SECRET_KEY_FALLBACKS=[OLD_SECRET])
    FlaskSessions(new, store=store)
    client = old.test_client()
    client.get("/put/a/1")
    token = client.get_cookie("session")
    assert token is not None

    successor = new.test_client()
    successor.set_cookie("session", token.value)
    response = successor.get("/all")

    assert response.json == {"a": "1"}
    assert len(cookies(response)) == 1


def test_init_app_can_come_later(clock: FakeClock) -> None:
    sessions = FlaskSessions(store=MemoryStore(), clock=clock)
    app = make_app()
    sessions.init_app(app)

    app.test_client().get("/put/a/1")

    assert len(list(sessions.registry)) == 1


def test_one_instance_serves_several_apps() -> None:
    sessions = FlaskSessions()
    first, second = make_app(), make_app()
    sessions.init_app(first)
    sessions.init_app(second)

    with first.app_context():
        assert sessions.middleware is first.extensions["wsgi_sessions"]
    with second.app_context():
        assert sessions.middleware is second.extensions["wsgi_sessions"]
    with pytest.raises(RuntimeError, match="app context"):
        _ = sessions.middleware


def test_every_option_is_a_setting_too() -> None:
    app = Flask(__name__)
    app.config.update(
        SESSION_SECRET_KEY=SECRET,
        SESSION_COOKIE=Cookie("__Host-session", secure=True),
        SESSION_COOKIE_NAME="other",
        SESSION_STORE="memory://",
    )
    FlaskSessions(app)

    @app.get("/")
    def index() -> str:
        session["a"] = 1
        return ""

    response = app.test_client().get("/", base_url="https://localhost")
    assert response.headers["Set-Cookie"].startswith("__Host-session=")


def test_no_domain_may_be_false_as_in_older_versions_of_flask() -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, SESSION_COOKIE_DOMAIN=False, SESSION_STORE="memory://")

    assert "domain=None" in FlaskSessions(app).middleware.describe()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"SECRET_KEY": None}, "there is no secret key"),
        ({"SECRET_KEY": "dev"}, "32"),
        ({"SECRET_KEY": [SECRET]}, "SECRET_KEY is of type list"),
        ({"SECRET_KEY_FALLBACKS": OLD_SECRET}, "SECRET_KEY_FALLBACKS is of type str"),
        ({"SECRET_KEY_FALLBACKS": ["short"]}, "32"),
        ({"SESSION_COOKIE_SECURE": "yes"}, "write True, False or 'auto'"),
        ({"SESSION_COOKIE_SAMESITE": "None"}, "secure=True"),
        ({"SESSION_COOKIE_SAMESITE": "lacks"}, "'Lax', 'Strict' or 'None'"),
        ({"SESSION_COOKIE_PARTITIONED": True}, "secure=True"),
        ({"SESSION_COOKIE_NAME": "a b"}, "SESSION_COOKIE_NAME"),
        ({"SESSION_COOKIE_DOMAIN": "https://a.test"}, "domain"),
        ({"SESSION_COOKIE_PATH": "shop"}, "path"),
        ({"PERMANENT_SESSION_LIFETIME": timedelta(0)}, "PERMANENT_SESSION_LIFETIME"),
        ({"PERMANENT_SESSION_LIFETIME": None}, "PERMANENT_SESSION_LIFETIME"),
        ({"SESSION_REFRESH_EACH_REQUEST": 1}, "SESSION_REFRESH_EACH_REQUEST is 1"),
        ({"SESSION_TRUSTED_PROXIES": "many"}, "trusted_proxies is 'many'"),
        ({"SESSION_STORE": "somewhere"}, "store"),
        ({"SESSION_TYPE": "redis"}, "Flask-Session; SESSION_STORE"),
        ({"SESSION_TRUSTED_PROXY": 1}, "write SESSION_TRUSTED_PROXIES"),
        ({"SESSION_URL": "redis://localhost"}, "no SESSION_URL; write SESSION_STORE"),
        (
            {"SESSION_COOKIE_PERSISTENT": True},
            "no SESSION_COOKIE_PERSISTENT; set session.permanent",
        ),
        ({"SESSION_COOKIE_AGE": 3600}, "AGE; write PERMANENT_SESSION_LIFETIME"),
    ],
)
def test_settings_that_mean_nothing_fail_where_they_are_made(
    config: dict[str, Any], says: str
) -> None:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": SECRET, **config})

    with pytest.raises(ConfigurationError, match=says):
        FlaskSessions(app)


def test_an_apps_own_setting_may_begin_with_session() -> None:
    app = make_app(SESSION_ANALYTICS_ID="x")
    FlaskSessions(app)


def test_an_unknown_option_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="no option stor; write store"):
        FlaskSessions(stor=MemoryStore())  # type: ignore[call-arg] # the point


def test_what_is_no_flask_app_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="app is 'shop'; give the Flask app itself"):
        FlaskSessions("shop")  # type: ignore[arg-type] # the mistake


def test_an_app_gets_its_sessions_once(app: Flask) -> None:
    with pytest.raises(ConfigurationError, match="call init_app once"):
        FlaskSessions(app)


def test_the_options_are_the_middlewares() -> None:
    import inspect

    parameters = set(inspect.signature(SessionMiddleware).parameters) - {"app"}

    assert set(Options.__annotations__) == parameters


# Other apps around


def test_there_is_a_session_on_every_path() -> None:
    app = make_app(SESSION_COOKIE_PATH="/shop")
    FlaskSessions(app, store=MemoryStore())

    @app.get("/outside")
    def outside() -> str:
        session["a"] = 1
        return str(len(session))

    response = app.test_client().get("/outside")

    assert response.text == "1"
    assert "Path=/shop" in response.headers["Set-Cookie"]
    client = app.test_client()
    with client.session_transaction("/shop") as opened:
        opened["a"] = 1
    with client.session_transaction("/shop") as opened:
        assert opened["a"] == 1


def test_an_app_mounted_in_another_shares_its_session(app: Flask) -> None:
    inner = make_app()
    FlaskSessions(inner, store=MemoryStore())
    outer = make_app()
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/inner": inner})  # type: ignore[method-assign] # as Flask says to
    FlaskSessions(outer, store=MemoryStore())
    client = outer.test_client()
    client.get("/put/a/1")

    assert client.get("/inner/all").json == {"a": "1"}


def test_a_middleware_of_another_kind_around_it_is_pointed_out(app: Flask) -> None:
    app.config["TESTING"] = True
    wrapped = SessionMiddleware(app, secret_key=SECRET)
    from werkzeug.test import Client

    with pytest.raises(ConfigurationError, match="environ_key"):
        Client(wrapped).get("/all")


def test_a_middleware_of_another_kind_around_it_is_one_error_in_the_log(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    from werkzeug.test import Client

    assert Client(SessionMiddleware(app, secret_key=SECRET)).get("/all").status_code == 500

    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None and isinstance(record.exc_info[1], ConfigurationError)


def test_the_package_alone_does_not_import_flask() -> None:
    code = "import sys, wsgi_sessions, wsgi_sessions.stores; sys.exit('flask' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_codec_of_ones_own_is_used() -> None:
    app = make_app()
    FlaskSessions(app, store=MemoryStore(), codec=JSONCodec())

    with app.test_request_context(), pytest.raises(TypeError, match="Markup"):
        session["a"] = Markup("<b>")


def test_markup_nested_too_deep_is_damage() -> None:
    word = MarkupCodec().encode(Markup("<b>"))

    with pytest.raises(CorruptField):
        MarkupCodec().decode(b"[" * 900 + word + b"]" * 900)
