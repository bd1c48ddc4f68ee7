"""Field reports F: what broke under Flask and what stands on it, row by row."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import OrderedDict, UserString, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

import flask
import pytest
from flask import Flask, render_template_string
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SecureCookieSession
from flask.testing import FlaskClient
from jinja2 import DictLoader
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

import flask_events
from wsgi_sessions import ConfigurationError, Lifetime
from wsgi_sessions.data.codec import CorruptField, UnstorableValue
from wsgi_sessions.errors import SessionCommitted, SessionTooLarge, StoreError
from wsgi_sessions.flask import FlaskSession, FlaskSessions, MarkupCodec, Options, session
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore, session_of

SECRET = "a secret of at least thirty-two bytes, for tests"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def app(clock: FakeClock) -> Flask:
    return make_app(clock=clock)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def make_app(app: Flask | None = None, /, *, clock: Any = None, **config: Any) -> Flask:
    app = app or Flask(__name__)
    app.config.update({"SECRET_KEY": SECRET, **config})
    FlaskSessions(app, store=MemoryStore(), clock=clock)
    return app


def run(app: Flask, client: FlaskClient, view: Callable[[], Any]) -> Any:
    """Let a request of this client do something."""
    results: list[Any] = []

    def run_view() -> str:
        results.append(view())
        return "-"

    app.view_functions["run"] = run_view
    if not any(rule.endpoint == "run" for rule in app.url_map.iter_rules()):
        app._got_first_request = False
        app.add_url_rule("/run", "run", run_view)
    response = client.get("/run")
    assert response.status_code == 200, response.text
    return results[0]


def put(name: str, value: Any) -> Callable[[], Any]:
    return lambda: session.__setitem__(name, value)


def unwrapped() -> FlaskSession:
    proxy: Any = session
    found: FlaskSession = proxy._get_current_object()
    return found


def everything() -> dict[str, Any]:
    return dict(session)


# F-1: kinds of values


class Token(dict[str, Any]):
    """As Authlib's OAuth2Token."""


class Names(list[str]):
    pass


class Text(str):  # noqa: SLOT000 # as apps write them
    pass


class Number(int):
    pass


class Size(float):
    pass


class Raw(bytes):
    pass


class Moment(datetime):
    pass


class Refused(enum.Enum):
    A = 1


class Color(enum.StrEnum):
    RED = "red"


class Old(str, enum.Enum):  # noqa: UP042 # as apps write them
    A = "a"

    def __str__(self) -> str:
        return "not this"


class Level(enum.IntEnum):
    HIGH = 3


class Plain(enum.Enum):
    A = "a"


class Lazy:
    """As a lazy translation."""

    def __html__(self) -> str:
        return "<i>saved</i>"

    def __repr__(self) -> str:
        return "Lazy()"


class Zone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=2)

    def dst(self, when: datetime | None) -> None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "here"


@dataclasses.dataclass
class Point:
    x: int
    y: int


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 # as apps write them


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        (Token(access_token="a", expires_at=3), {"access_token": "a", "expires_at": 3}),
        (OrderedDict(a=Token(b=1)), {"a": {"b": 1}}),
        (Token({"~markup": Text("x")}), {"~markup": "x"}),
        (Names(["a"]), ["a"]),
        (Pair(1, [Text("b")]), (1, ["b"])),
        (Text("x"), "x"),
        (Number(3), 3),
        (Size(1.5), 1.5),
        (Raw(b"x"), b"x"),
        (Color.RED, "red"),
        (Old.A, "a"),
        (Level.HIGH, 3),
        (HTTPStatus.OK, 200),
        (Lazy(), Markup("<i>saved</i>")),
        ([("message", Lazy())], [("message", Markup("<i>saved</i>"))]),
        (type("Sub", (Markup,), {})("<b>"), Markup("<b>")),
        (Point(1, 2), {"x": 1, "y": 2}),
        (type("Date", (date,), {})(2026, 1, 2), date(2026, 1, 2)),
        (type("Dec", (Decimal,), {})("1.5"), Decimal("1.5")),
        (type("Id", (UUID,), {})(int=5), UUID(int=5)),
        (Moment(2026, 1, 2, 3, fold=1), datetime(2026, 1, 2, 3, fold=1)),
        (Moment(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (datetime(2026, 1, 2, 3, tzinfo=Zone()), datetime(2026, 1, 2, 1, tzinfo=UTC)),
        ({None: "b", True: "c", 1.5: "d"}, {"null": "b", "true": "c", "1.5": "d"}),
        ({2: "a", Text("t"): "b", Color.RED: 1}, {"2": "a", "t": "b", "red": 1}),
        (math.inf, math.inf),
        ([-math.inf, {"~float": "inf"}, {"~~float": Markup("x")}], None),
        ({"a": {1, 2}, "b": Text("x")}, {"a": {1, 2}, "b": "x"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_f1_values_are_kept_as_flask_keeps_them(
    app: Flask, client: FlaskClient, value: Any, comes_back: Any
) -> None:
    if comes_back is None:
        comes_back = value
    run(app, client, put("value", value))

    kept = run(app, client, lambda: session["value"])

    assert kept == comes_back
    assert repr(kept) == repr(comes_back)


def test_f1_a_number_that_is_none_is_kept(app: Flask, client: FlaskClient) -> None:
    run(app, client, put("value", [math.nan]))

    assert math.isnan(run(app, client, lambda: session["value"])[0])
    assert run(app, client, lambda: (session["value"], session.modified)[1]) is False


@pytest.mark.parametrize(
    "value",
    [
        Token(a=1, b=[Names("x"), Pair(1, 2)]),
        Color.RED,
        Level.HIGH,
        Lazy(),
        Markup("<b>"),
        Number(7),
        {1: 2},
        {"a": b"x", "b": (1, 2)},
        UUID(int=1),
        Point(1, 2),
        math.inf,
    ],
    ids=lambda value: type(value).__name__,
)
def test_f1_what_comes_back_is_what_flasks_own_session_gives(value: Any) -> None:
    flasks, ours = TaggedJSONSerializer(), MarkupCodec()
    with Flask(__name__).app_context():
        expected = flasks.loads(flasks.dumps(value))

    assert repr(ours.decode(ours.encode(value))) == repr(expected)


@pytest.mark.parametrize(
    "value",
    [object(), Plain.A, Markup, {(1, 2): 3}, Point],
    ids=["object", "enum", "class", "key", "dataclass"],
)
def test_f1_what_flask_cannot_keep_is_refused_here_too(value: Any) -> None:
    with pytest.raises(TypeError):
        TaggedJSONSerializer().dumps(value)
    with pytest.raises(TypeError):
        MarkupCodec().encode(value)


def test_f1_text_like_objects_of_no_kind_are_refused_with_their_place() -> None:
    with pytest.raises(UnstorableValue) as refused:
        MarkupCodec().encode(Token(a=[UserString("x")]))

    assert refused.value.path == "['a'][0]"


def test_f1_a_value_within_itself_is_refused() -> None:
    token = Token()
    token["self"] = token

    with pytest.raises(UnstorableValue, match="within itself"):
        MarkupCodec().encode(token)


@pytest.mark.parametrize("data", [b'{"~~float":"x"}', b'{"~~float":[1]}'])
def test_f1_what_was_never_written_is_damage(data: bytes) -> None:
    with pytest.raises(CorruptField):
        MarkupCodec().decode(data)


def test_f1_changes_inside_such_a_value_are_noticed(app: Flask, client: FlaskClient) -> None:
    def set_and_change() -> None:
        session["token"] = Token(a=1)
        session["token"]["b"] = Text("2")

    run(app, client, set_and_change)

    assert run(app, client, everything) == {"token": {"a": 1, "b": "2"}}


def test_f1_an_enum_may_name_a_field(app: Flask, client: FlaskClient) -> None:
    run(app, client, put(Color.RED, 1))

    assert run(app, client, everything) == {"red": 1}


# F-2: templates

OF_OURS = ["id", "owner", "login", "label", "handle", "take", "destroy", "persistent", "_state"]


@pytest.mark.parametrize("name", OF_OURS)
@pytest.mark.parametrize("template", ["session.{}", "session['{}']", "session|attr('{}')"])
def test_f2_in_templates_the_keys_win(
    app: Flask, client: FlaskClient, name: str, template: str
) -> None:
    text = "{{ " + template.format(name) + " is defined }} {{ " + template.format(name) + " }}"

    def show(value: str | None) -> str:
        if value is not None:
            session[name] = value
        return render_template_string(text)

    assert run(app, client, lambda: show(None)) == "False "
    if "attr" not in template:
        assert run(app, client, lambda: show("mine")) == "True mine"


def test_f2_in_every_way_a_template_comes_to_the_session(app: Flask, client: FlaskClient) -> None:
    app.jinja_loader = DictLoader({"macros": "{% macro id() %}{{ session.id }}{% endmacro %}"})
    text = "{% from 'macros' import id %}[{{ id() }}][{{ given.id }}][{{ session.get('id') }}]"

    def show() -> str:
        return render_template_string(text, given=unwrapped())

    assert run(app, client, show) == "[][][None]"


@pytest.mark.parametrize("name", sorted(set(dir(SecureCookieSession)) - {"on_update", "fromkeys"}))
def test_f2_what_flasks_own_session_has_is_there(app: Flask, name: str) -> None:
    if name.startswith("_"):
        return
    with app.test_request_context():
        assert render_template_string("{{ session." + name + " is defined }}") == "True"


def test_f2_a_mapping_s_methods_work_as_in_flask(app: Flask, client: FlaskClient) -> None:
    run(app, client, put("items", ["tea"]))
    text = "{{ session.items()|list }}{{ session['items'] }}{{ session.permanent }}"

    assert run(app, client, lambda: render_template_string(text)) == (
        "[(&#39;items&#39;, [&#39;tea&#39;])][&#39;tea&#39;]False"
    )


def test_f2_an_environment_of_the_apps_own_is_kept() -> None:
    class Careful(SandboxedEnvironment):
        pass

    class App(Flask):
        jinja_environment = Careful  # type: ignore[assignment] # the app's choice

    app = App(__name__)
    make: Any = app
    make.create_jinja_environment = lambda: app.jinja_environment()  # it takes other options
    made = app.jinja_env  # before FlaskSessions
    make_app(app)

    assert isinstance(made, Careful)
    with app.test_request_context():
        session["a"] = {"b": 1}
        text = "{{ session.id is defined }}{{ session.a.b }}{{ ''.__class__ is defined }}"
        assert app.jinja_env.from_string(text).render(session=session) == "False1False"


# F-3: several requests with one environ


def test_f3_each_event_of_a_connection_sees_and_saves_the_session(
    app: Flask, client: FlaskClient
) -> None:
    run(app, client, put("http", 0))
    environ = flask_events.environ_of(client)

    flask_events.event(app, environ, put("first", 1))
    run(app, client, put("http", 1))
    seen = flask_events.event(app, environ, everything)
    flask_events.event(app, environ, put("second", 2))
    run(app, client, put("http", 2))

    assert seen == {"http": 1, "first": 1}
    assert flask_events.event(app, environ, everything) == {"http": 2, "first": 1, "second": 2}
    assert run(app, client, everything) == {"http": 2, "first": 1, "second": 2}


def test_f3_events_inside_of_the_connections_own_request_are_saved_at_once(
    app: Flask, client: FlaskClient
) -> None:
    run(app, client, put("a", 1))
    seen: list[Any] = []

    def connection(environ: Any, start_response: Any) -> list[bytes]:
        flask_events.event(app, environ, put("b", 2))
        seen.append(run(app, client, everything))
        run(app, client, put("c", 3))
        seen.append(flask_events.event(app, environ, everything))
        return []

    middleware = app.extensions["wsgi_sessions"]
    inner, middleware.app = middleware.app, connection
    environ = flask_events.environ_of(client, upgrade=True)
    environ.pop("flask.app")

    def nothing(*args: Any) -> Any:
        raise AssertionError("there is no response")

    def outer(environ: Any, start_response: Any) -> Any:
        if "HTTP_UPGRADE" in environ:
            return connection(environ, start_response)
        return inner(environ, start_response)

    middleware.app = outer
    app.wsgi_app(environ, nothing)

    assert seen == [{"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}]


def test_f3_a_rotation_that_is_due_waits_for_a_response(clock: FakeClock) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET)
    FlaskSessions(app, store=MemoryStore(), clock=clock, rotate_after=600)
    client = app.test_client()
    run(app, client, put("a", 1))
    clock.advance(900)
    environ = flask_events.environ_of(client)

    flask_events.event(app, environ, put("b", 2))
    clock.advance(60)

    assert run(app, client, everything) == {"a": 1, "b": 2}


def test_f3_a_context_that_was_only_looked_at_does_not_stand_in_for_a_request(
    app: Flask, client: FlaskClient
) -> None:
    run(app, client, put("a", 1))
    environ = flask_events.environ_of(client)
    environ.pop("flask.app")
    with app.request_context(environ):
        assert session["a"] == 1
    run(app, client, put("a", 2))

    seen: list[Any] = []
    app.view_functions["run"] = acting(lambda: seen.append(dict(session)))
    b"".join(app.wsgi_app({**environ, "PATH_INFO": "/run"}, lambda *args: bytes))

    assert seen == [{"a": 2}]


def test_f3_an_event_without_a_session_is_fine(app: Flask, client: FlaskClient) -> None:
    environ = flask_events.environ_of(client)

    assert flask_events.event(app, environ, lambda: None) is None
    with app.request_context(environ):
        app.process_response(app.response_class())
    flask_events.hold_websocket(app, client, lambda: None, "gunicorn", print)


# F-4: views that hold a WebSocket


@pytest.mark.parametrize("mode", ["gunicorn", "werkzeug", "gevent"])
def test_f4_what_a_websocket_view_wrote_is_saved_without_a_cookie(
    clock: FakeClock, mode: str
) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET)
    FlaskSessions(app, store=MemoryStore(), clock=clock, rotate_after=600)
    client = app.test_client()
    run(app, client, put("a", 1))
    clock.advance(900)  # a rotation is due, and its cookie could not be set
    started: list[Any] = []

    flask_events.hold_websocket(app, client, put("b", 2), mode, started.append)
    clock.advance(60)

    assert [name for headers in started for name, _ in headers if name == "Set-Cookie"] == []
    assert run(app, client, everything) == {"a": 1, "b": 2}


def test_f4_a_view_that_fails_keeps_nothing(app: Flask, client: FlaskClient) -> None:
    run(app, client, put("a", 1))

    def fail() -> None:
        session["b"] = 2
        raise ZeroDivisionError

    app.config["TESTING"] = True
    with pytest.raises(ZeroDivisionError):
        flask_events.hold_websocket(app, client, fail, "gunicorn", print)

    assert run(app, client, everything) == {"a": 1}


def test_f4_a_handshake_that_is_refused_may_set_a_cookie(app: Flask) -> None:
    client = app.test_client()

    @app.get("/ws", websocket=True)
    def refuse() -> tuple[str, int]:
        session["next"] = "/ws"
        return "sign in first", 401

    response = client.get(
        "/ws", base_url="ws://localhost", headers={"Upgrade": "websocket", "Connection": "Upgrade"}
    )

    assert len(response.headers.getlist("Set-Cookie")) == 1


# F-5, F-7: settings


def lifetime_now() -> Any:
    session["a"] = 1
    return session.lifetime.idle


def test_f5_a_lifetime_set_after_flask_sessions_is_heard(
    app: Flask, client: FlaskClient, clock: FakeClock
) -> None:
    app.permanent_session_lifetime = timedelta(minutes=5)

    assert run(app, client, lifetime_now) == timedelta(minutes=5)
    clock.advance(301)
    assert run(app, client, everything) == {}
    assert "lifetime: idle 0:05:00" in app.extensions["wsgi_sessions"].describe()


def test_f5_a_lifetime_set_in_before_request_is_heard(
    app: Flask, client: FlaskClient, clock: FakeClock
) -> None:
    @app.before_request
    def limit() -> None:
        session.permanent = True
        app.config["PERMANENT_SESSION_LIFETIME"] = 90 * 86400

    run(app, client, put("a", 1))
    cookie = client.get_cookie("session")
    assert cookie is not None and cookie.max_age == 90 * 86400
    clock.advance(60 * 86400)

    assert run(app, client, lambda: session["a"]) == 1


def test_f5_a_lifetime_of_a_class_is_heard(clock: FakeClock) -> None:
    class App(Flask):
        permanent_session_lifetime = timedelta(hours=1)

    app = make_app(App(__name__), clock=clock)

    assert "lifetime: idle 1:00:00" in app.extensions["wsgi_sessions"].describe()
    app.permanent_session_lifetime = timedelta(hours=2)
    run(app, app.test_client(), everything)
    assert "lifetime: idle 2:00:00" in app.extensions["wsgi_sessions"].describe()


@pytest.mark.parametrize("by", ["option", "config"])
def test_f5_a_lifetime_that_was_given_to_us_stays(by: str) -> None:
    app = Flask(__name__)
    lifetime = Lifetime(idle=600)
    app.config.update(
        SECRET_KEY=SECRET, **({"SESSION_LIFETIME": lifetime} if by == "config" else {})
    )
    options: Options = {"store": MemoryStore()}
    if by == "option":
        options["lifetime"] = lifetime
    FlaskSessions(app, **options)
    app.permanent_session_lifetime = timedelta(days=1)

    run(app, app.test_client(), everything)

    assert "lifetime: idle 0:10:00" in app.extensions["wsgi_sessions"].describe()


def test_f5_a_lifetime_that_is_none_is_an_error_of_the_app(app: Flask, client: FlaskClient) -> None:
    app.config.update(TESTING=True, PERMANENT_SESSION_LIFETIME=0)

    with pytest.raises(ConfigurationError, match="PERMANENT_SESSION_LIFETIME"):
        client.get("/")


def permanent() -> None:
    session.permanent = True
    session["a"] = 1


def test_f6_clear_takes_permanent_with_it(app: Flask, client: FlaskClient) -> None:
    def clear() -> bool:
        session.clear()
        session["b"] = 2
        return session.permanent

    run(app, client, permanent)
    assert run(app, client, clear) is False

    cookie = client.get_cookie("session")
    assert cookie is not None and cookie.max_age is None
    assert run(app, client, lambda: (session.permanent, dict(session))) == (False, {"b": 2})


def test_f6_clear_signs_out_whoever_was_signed_in(app: Flask, client: FlaskClient) -> None:
    run(app, client, lambda: session.login("ada"))
    before = client.get_cookie("session")
    run(app, client, lambda: (session.clear(), session.update(a=1)))

    after = client.get_cookie("session")
    assert run(app, client, lambda: (session.owner, dict(session))) == (None, {"a": 1})
    assert before is not None and after is not None and before.value != after.value


def test_f6_clear_in_a_stream_clears_the_data(app: Flask, client: FlaskClient) -> None:
    @app.get("/stream")
    def stream() -> Any:
        from flask import Response, stream_with_context

        def parts() -> Any:
            yield "a"
            session.clear()

        return Response(stream_with_context(parts()))

    run(app, client, permanent)
    client.get("/stream", buffered=True)

    assert run(app, client, everything) == {}


def test_f7_a_secret_key_of_the_class_is_found() -> None:
    class App(Flask):
        secret_key = SECRET

    app = App(__name__)
    FlaskSessions(app, store=MemoryStore())
    client = app.test_client()
    run(app, client, put("a", 1))

    assert run(app, client, everything) == {"a": 1}


@pytest.mark.parametrize(
    "name",
    [
        "SESSION_SQLALCHEMY",
        "SESSION_SQLALCHEMY_TABLE",
        "SESSION_SQLALCHEMY_BIND_KEY",
        "SESSION_MONGODB",
        "SESSION_MONGODB_COLLECT",
        "SESSION_MEMCACHED",
        "SESSION_DYNAMODB",
        "SESSION_DYNAMODB_TABLE",
        "SESSION_POSTGRESQL",
        "SESSION_CACHELIB",
        "SESSION_REDIS",
        "SESSION_SET_TTL",
        "SESSION_KEY_BITS",
    ],
)
def test_f8_settings_that_another_extension_left_are_an_error(name: str) -> None:
    app = Flask(__name__)
    app.config.update({"SECRET_KEY": SECRET, name: None})

    with pytest.raises(ConfigurationError, match=f"{name} is a setting of Flask-Session; "):
        FlaskSessions(app)


def test_f9_a_session_is_copied_and_merged_as_a_dict(app: Flask, client: FlaskClient) -> None:
    def merge() -> list[Any]:
        session: Any = flask.session
        session["a"] = 1
        copied = session.copy()
        copied["x"] = 1
        results = [copied, session | {"b": 2}, {"a": 0, "b": 2} | session, type(session.copy())]
        session |= {"c": 3}
        session |= [("d", 4)]
        with pytest.raises(TypeError):
            session | [1]
        with pytest.raises(TypeError):
            [1] | session
        return results

    assert run(app, client, merge) == [{"a": 1, "x": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}, dict]
    assert run(app, client, everything) == {"a": 1, "c": 3, "d": 4}


def test_f10_session_of_takes_the_flask_app(app: Flask, client: FlaskClient) -> None:
    with session_of(app, client) as opened:
        assert isinstance(opened, FlaskSession)
        opened["a"] = 1

    assert run(app, client, everything) == {"a": 1}


@pytest.mark.parametrize(
    "given",
    [Flask("bare"), object(), lambda environ, start_response: []],
    ids=["app", "object", "function"],
)
def test_f10_session_of_says_what_to_give(given: Any) -> None:
    with pytest.raises(TypeError, match=r"FlaskSessions\(app\)"), session_of(given, {}):
        pass


# F-11: what can't be stored


def nest() -> None:
    session["cart"] = []
    session["cart"].append(object())


def outgrow() -> None:
    session["a"] = "x" * 70_000


def bad_label() -> None:
    session["a"] = 1
    session.label["device"] = "D" * 300


def broken_label() -> None:
    session["a"] = 1
    session.label["device"] = "\ud800"


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        (nest, TypeError),
        (outgrow, SessionTooLarge),
        (bad_label, TypeError),
        (broken_label, ValueError),
    ],
)
def test_f11_what_cannot_be_stored_is_raised_in_the_apps_request(
    app: Flask, client: FlaskClient, view: Callable[[], None], kind: type[Exception]
) -> None:
    seen: list[BaseException | None] = []

    @app.errorhandler(500)
    def handler(error: Any) -> tuple[str, int]:
        seen.append(error.original_exception)
        return "sorry", 200

    app.add_url_rule("/bad", "bad", acting(view))
    response = client.get("/bad")

    assert (response.status_code, response.text) == (200, "sorry")
    assert [type(error) for error in seen] == [kind]
    assert run_again(app, client) == {}


def acting(act: Callable[[], object], text: str = "-", status: int = 200) -> Callable[[], Any]:
    def view() -> tuple[str, int]:
        act()
        return text, status

    return view


def run_again(app: Flask, client: FlaskClient) -> dict[str, Any]:
    with session_of(app, client) as opened:
        return dict(opened)


def test_f11_a_handler_may_put_the_session_right(app: Flask, client: FlaskClient) -> None:
    @app.errorhandler(500)
    def handler(error: Any) -> tuple[str, int]:
        session.clear()
        session["error"] = True
        return "sorry", 200

    app.add_url_rule("/bad", "bad", acting(nest))
    client.get("/bad")

    assert run_again(app, client) == {"error": True}


def test_f11_a_failed_answer_keeps_nothing_so_nothing_is_refused(
    app: Flask, client: FlaskClient
) -> None:
    app.add_url_rule("/bad", "bad", acting(nest, "mine", 503))

    assert client.get("/bad").text == "mine"


def test_f11_an_app_that_answers_an_outage_itself_is_left_alone() -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET)
    store = FaultyStore(MemoryStore())
    FlaskSessions(app, store=store)
    client = app.test_client()
    run(app, client, put("a", 1))
    store.fail("load")

    def look() -> str:
        with pytest.raises(StoreError):
            session.get("a")
        return "later"

    assert run(app, client, look) == "later"


# Outages


def test_an_outage_is_one_line_in_the_log_of_each_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET)
    store = FaultyStore(MemoryStore())
    FlaskSessions(app, store=store)
    app.add_url_rule("/all", "all", everything)
    app.add_url_rule("/fail", "fail", acting(lambda: 1 / 0))
    client = app.test_client()
    run(app, client, put("a", 1))
    store.fail("load")
    caplog.clear()

    assert client.get("/all").status_code == 503

    assert [record.name for record in caplog.records] == ["wsgi_sessions"]
    assert caplog.records[0].exc_info is None
    caplog.clear()
    assert client.get("/fail").status_code == 500
    assert [record.name for record in caplog.records] == [app.logger.name]


# WebSockets, and what only a response can do


CHANGES: dict[str, Callable[[], Any]] = {
    "login": lambda: session.login("u"),
    "owner": lambda: setattr(session, "owner", "u"),
    "regenerate": lambda: session.regenerate(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("kind", ["event", "gunicorn"])
def test_f3_a_new_id_in_a_websocket_is_refused_where_it_is_asked_for(
    app: Flask, client: FlaskClient, change: Callable[[], Any], kind: str
) -> None:
    run(app, client, put("a", 1))
    raised: list[type[Exception]] = []

    def handler() -> None:
        session["b"] = 2
        try:
            change()
        except SessionCommitted as error:
            raised.append(type(error))
        session.save()

    if kind == "event":
        flask_events.event(app, flask_events.environ_of(client), handler)
    else:
        flask_events.hold_websocket(app, client, handler, kind, lambda headers: None)

    assert raised == [SessionCommitted]
    assert run(app, client, everything) == {"a": 1, "b": 2}


def test_f4_before_a_handshake_a_visitor_is_not_turned_away(app: Flask) -> None:
    @app.before_request
    def remember() -> None:
        session.permanent = True
        session["seen"] = True

    client = app.test_client()
    flask_events.hold_websocket(app, client, lambda: None, "gunicorn", lambda headers: None)

    assert run(app, client, everything) == {"seen": True}


SAVES: dict[str, Callable[[], Any]] = {
    "save": lambda: session.save(),
    "save empty": lambda: (session.clear(), session.save(keep_empty=True)),
    "increment": lambda: session.increment("n"),
    "take": lambda: session.take("a"),
    "transaction": lambda: session.transaction(lambda fields: fields.update(n=1)),
    "persistent": lambda: setattr(session, "persistent", True),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES.keys())
@pytest.mark.parametrize("kind", ["event", "gunicorn", "werkzeug"])
def test_f3_what_would_begin_a_session_on_a_websocket_is_refused(
    app: Flask, save: Callable[[], Any], kind: str
) -> None:
    client = app.test_client()
    raised: list[type[Exception]] = []

    def handler() -> None:
        session["a"] = 1
        assert session["a"] == 1
        session.permanent = True
        try:
            save()
        except SessionCommitted as error:
            raised.append(type(error))

    if kind == "event":
        flask_events.event(app, flask_events.environ_of(client), handler)
    else:
        flask_events.hold_websocket(app, client, handler, kind, lambda headers: None)

    assert raised == [SessionCommitted] or (save is SAVES["take"] and not raised)
    assert list(app.extensions["wsgi_sessions"].registry) == []


def test_f3_a_handler_that_saves_nothing_may_save(app: Flask) -> None:
    environ = flask_events.environ_of(app.test_client())

    flask_events.event(app, environ, lambda: session.save())

    assert list(app.extensions["wsgi_sessions"].registry) == []


def test_f3_after_its_event_a_session_takes_nothing_any_more(
    app: Flask, client: FlaskClient
) -> None:
    run(app, client, put("a", 1))
    kept: list[FlaskSession] = []

    def keep() -> None:
        session["b"] = 2
        kept.append(unwrapped())

    flask_events.event(app, flask_events.environ_of(client), keep)

    with pytest.raises(SessionCommitted):
        kept[0]["c"] = 3


def test_f3_a_session_on_a_websocket_is_never_used_too_late_for_a_cache(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    run(app, client, put("a", 1))

    flask_events.event(app, flask_events.environ_of(client), everything)
    flask_events.hold_websocket(app, client, everything, "gunicorn", lambda headers: None)

    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


# A connection outlives the cookie that it was made with


class Connection:
    """A connection of Flask-SocketIO's, in an app whose sessions get a new ID every 10 minutes."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.kinds: list[str] = []
        self.store = FaultyStore(MemoryStore())
        self.app = Flask(__name__)
        self.app.config.update(SECRET_KEY=SECRET)
        options.setdefault("rotate_after", 600)
        self.sessions = FlaskSessions(
            self.app,
            store=self.store,
            clock=self.clock,
            on_event=lambda event: self.kinds.append(event.kind),
            **options,
        )
        self.client = self.app.test_client()
        self.page(lambda: session.login("ada"))
        self.environ = flask_events.environ_of(self.client)

    def page(self, view: Callable[[], Any]) -> Any:
        return run(self.app, self.client, view)

    def event(self, handler: Callable[[], Any]) -> Any:
        return flask_events.event(self.app, self.environ, handler)

    def rotate(self) -> None:
        self.clock.advance(900)
        self.page(put("page", self.clock()))
        self.clock.advance(60)


def test_f3_an_event_finds_its_session_under_the_id_that_a_page_has_given_it() -> None:
    connection = Connection()
    connection.event(lambda: None)  # that of the connection itself, say
    for count in range(1, 4):
        connection.rotate()
        if count == 3:
            connection.rotate()

        assert connection.event(lambda: session.increment("n")) == count
        connection.event(put("last", count))
        assert connection.event(lambda: session.owner) == "ada"

    assert connection.page(lambda: (session["n"], session["last"])) == (3, 3)
    assert connection.kinds == ["created", *["rotated"] * 4]


def test_f3_an_event_can_end_the_session_that_has_another_id_by_now() -> None:
    connection = Connection()
    connection.event(lambda: None)
    connection.rotate()

    connection.event(lambda: session.destroy())

    assert connection.page(lambda: session.owner) is None
    assert connection.event(lambda: session.owner) is None
    assert connection.event(everything) == {}
    assert "retired_id_used" not in connection.kinds


@pytest.mark.parametrize("options", [{}, {"rotate_after": None}], ids=["rotating", "not rotating"])
def test_f3_a_session_that_signed_in_anew_is_no_longer_the_connections(options: Any) -> None:
    connection = Connection(**options)
    connection.event(lambda: session.owner)
    connection.clock.advance(60)
    connection.page(lambda: session.login("bob"))
    connection.clock.advance(60)

    assert connection.event(lambda: session.owner) is None
    assert connection.page(lambda: session.owner) == "bob"
    assert connection.kinds == ["created", "regenerated"]


def test_f3_an_event_whose_store_fails_finds_the_session_once_it_works() -> None:
    connection = Connection()
    connection.event(lambda: None)
    connection.rotate()
    connection.store.fail("load")

    with pytest.raises(StoreError):
        connection.event(everything)
    connection.store.recover()

    assert connection.event(lambda: session.owner) == "ada"
    assert connection.kinds == ["created", "rotated", "store_error"]


def test_f3_an_event_beside_another_that_ends_the_session_has_none() -> None:
    connection = Connection()

    def end() -> None:
        other = unwrapped()
        with connection.app.request_context(connection.environ):
            other.destroy()
            assert session.owner is None
            assert everything() == {}

    connection.event(end)


def test_f3_events_of_one_connection_at_the_same_time_save_both_what_they_write() -> None:
    connection = Connection()

    def outer() -> None:
        connection.event(put("inner", 1))
        session["outer"] = 2

    connection.event(outer)

    assert connection.page(everything) == {"inner": 1, "outer": 2}


def test_f3_plain_requests_beside_socketio_are_as_ever(app: Flask) -> None:
    @app.get("/sign-in")
    def sign_in() -> str:
        session.login("u")
        session["a"] = 1
        return ""

    client = app.test_client()
    # Its middleware puts the app into the environ of each request.
    client.get("/sign-in", environ_overrides={"flask.app": app})

    assert run(app, client, lambda: session.owner) == "u"
    assert run(app, client, everything) == {"a": 1}


def test_e13_a_field_whose_key_was_taken_out_is_no_error_of_a_page_that_only_looks() -> None:
    former, present = bytes(range(32)), bytes(range(1, 33))
    store = MemoryStore()

    def shop(*keys: bytes) -> Flask:
        app = Flask(__name__)
        app.config["SECRET_KEY"] = SECRET
        FlaskSessions(app, store=store, encryption_keys=keys)
        return app

    before, after = shop(former), shop(present, former)
    client = before.test_client()
    with client.session_transaction() as opened:
        opened["cart"] = ["tea"]
    client.application = after
    with client.session_transaction() as opened:
        cast("FlaskSession", opened).owner = "ada"
        opened["user"] = 42
    client.application = last = shop(present)

    assert run(last, client, lambda: str(session.get("user"))) == "42"
    assert run(last, client, lambda: str(session.get("cart"))) == "None"

    run(last, client, lambda: session.update(n=1))
    assert run(last, client, lambda: str(dict(session))) == "{'n': 1}"
