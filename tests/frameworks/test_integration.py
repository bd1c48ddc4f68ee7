"""The steps that an integration takes, without any framework."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from test_docs import blocks
from wsgi import SECRET, environ
from wsgi_sessions import ConfigurationError, Cookie, DeviceBinding, Session
from wsgi_sessions.bottle import SessionPlugin
from wsgi_sessions.errors import SessionCommitted, SessionTooLarge, StoreError
from wsgi_sessions.falcon import SessionMiddleware as FalconMiddleware
from wsgi_sessions.integration import Integration, SessionStream
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore


class OwnSession(Session):
    pass


def make(**options: Any) -> Integration:
    return Integration(OwnSession, secret_key=SECRET, store=MemoryStore(), **options)


def token_in(headers: list[tuple[str, str]]) -> str:
    (value,) = [value for name, value in headers if name == "Set-Cookie"]
    return value.partition(";")[0].partition("=")[2]


def test_it_wraps_no_app() -> None:
    with pytest.raises(TypeError, match="doesn't wrap a WSGI app"):
        make()(environ(), lambda *args: None)  # type: ignore[arg-type] # never called


def test_open_commit_and_open_again() -> None:
    steps, made = make(), environ()
    session = steps.open_session(made)
    assert isinstance(session, OwnSession) and steps.is_open(made)
    session["a"] = 1

    token = token_in(steps.commit_session(made))

    assert not steps.is_open(made)
    again = environ(cookie=f"session={token}")
    assert dict(steps.open_session(again) or {}) == {"a": 1}


@pytest.mark.parametrize("made", [Integration, SessionPlugin, FalconMiddleware])
@pytest.mark.parametrize("given", [(), (SECRET,)], ids=["without a secret", "by position"])
def test_a_call_that_cannot_work_is_told_what_to_write(made: Any, given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        made(*given)

    name = made.__name__
    assert str(raised.value).startswith(f"{name}: ")
    assert f"; write {name}(secret_key=…, …); the options are " in str(raised.value)
    assert " app," not in str(raised.value)


@pytest.mark.parametrize("made", [Integration, SessionPlugin, FalconMiddleware])
@pytest.mark.parametrize(("wrong", "help"), [("stroe", "write store"), ("app", "allowed are ")])
def test_an_option_that_does_not_exist_is_told_by_the_name_of_what_was_called(
    made: Any, wrong: str, help: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{made.__name__} has no option {wrong}; {help}"):
        made(secret_key=SECRET, **{wrong: 1})


@pytest.mark.parametrize("given", [dict, 3, None, lambda *args: None])
def test_a_session_class_that_is_none_is_refused_at_once(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="^Integration: session_class is .*; give a sub"):
        Integration(given, secret_key=SECRET)


def test_any_path_is_a_flag() -> None:
    with pytest.raises(ConfigurationError, match="any_path is 'no'; write True or False"):
        make(any_path="no")


def test_any_path_has_a_session() -> None:
    cookie = Cookie(path="/shop")

    assert make(cookie=cookie).open_session(environ("/")) is None
    assert make(cookie=cookie, any_path=True).open_session(environ("/")) is not None


def test_a_token_is_known_once_the_session_is_stored() -> None:
    steps = make()
    session = steps.open_token(None)
    assert steps.token_of(session) is None

    session.save(keep_empty=True)

    token = steps.token_of(session)
    assert token is not None
    found = steps.open_token(token)
    assert not found.is_new and not found
    session.regenerate()
    session.save()
    assert steps.token_of(session) not in (None, token)
    assert steps.open_token(token).is_new


def test_a_session_that_is_to_stay_though_empty_stays() -> None:
    steps = make()
    session = steps.open_token(None)
    session["a"] = 1
    session.save()
    session.clear()
    session.save(keep_empty=True)

    again = environ(cookie=f"session={steps.token_of(session)}")
    opened = steps.open_session(again)
    assert opened is not None and not opened.is_new and not opened
    steps.commit_session(again)
    assert not steps.open_token(steps.token_of(session)).is_new


def test_an_empty_session_is_not_begun_after_the_headers() -> None:
    steps, made = make(), environ()
    session = steps.open_session(made)
    assert session is not None
    steps.commit_session(made, streaming=True)

    with pytest.raises(SessionCommitted):
        session.save(keep_empty=True)


def test_what_has_no_scheme_may_go_on_over_any() -> None:
    steps = make()
    session = steps.open_token(None)
    session["a"] = 1
    session.save()
    header = f"session={steps.token_of(session)}"

    for scheme in ("http", "https"):
        opened = steps.open_session(environ(cookie=header, **{"wsgi.url_scheme": scheme}))
        assert opened is not None and opened["a"] == 1


def test_what_was_begun_over_https_stays_secure_without_a_scheme() -> None:
    steps = make()
    made = environ(**{"wsgi.url_scheme": "https"})
    session = steps.open_session(made)
    assert session is not None
    session["a"] = 1
    opened = steps.open_token(token_in(steps.commit_session(made)))
    assert opened["a"] == 1
    opened.regenerate()
    opened.save()

    replay = steps.open_session(environ(cookie=f"session={steps.token_of(opened)}"))

    assert replay is not None and not replay


@pytest.mark.parametrize(("failed", "kept"), [(False, {"a": 1, "b": 2}), (True, {"a": 1})])
def test_what_a_stream_changes_is_kept_unless_it_failed(failed: bool, kept: dict[str, int]) -> None:
    steps, made = make(), environ()
    session = steps.open_session(made)
    assert session is not None
    session["a"] = 1
    token = token_in(steps.commit_session(made, streaming=True))
    assert steps.is_streaming(made)

    session["b"] = 2
    steps.finish_session(made, failed=failed)

    assert not steps.is_streaming(made) and not steps.is_open(made)
    assert dict(steps.open_token(token)) == kept


def test_with_save_on_error_a_broken_stream_keeps_its_changes() -> None:
    steps, made = make(save_on_error=True), environ()
    session = steps.open_session(made)
    assert session is not None
    session["a"] = 1
    token = token_in(steps.commit_session(made, streaming=True))

    session["b"] = 2
    steps.finish_session(made, failed=True)

    assert dict(steps.open_token(token)) == {"a": 1, "b": 2}


def test_an_untouched_stream_is_finished_without_a_word() -> None:
    steps, made = make(), environ()
    steps.open_session(made)
    steps.commit_session(made, streaming=True)

    steps.finish_session(made)

    assert not steps.is_open(made)


def test_a_failure_is_answered_as_on_store_error_says() -> None:
    def later(made: Any, start_response: Any, error: StoreError) -> Any:
        start_response("503 Later", [("Retry-After", "9")])(b"in ")
        yield b"a moment"

    store = FaultyStore(MemoryStore())
    steps = Integration(secret_key=SECRET, store=store, on_store_error=later)
    made = environ(cookie=f"session={_stored(steps)}")
    session = steps.open_session(made)
    store.fail("load")
    assert session is not None
    with pytest.raises(StoreError) as raised:
        session.get("a")

    answer = steps.answer_failure(made, raised.value)

    assert answer.status == "503 Later" and answer.body == b"in a moment"
    assert ("Retry-After", "9") in answer.headers and ("Vary", "Cookie") in answer.headers
    assert not steps.is_open(made)


def test_an_answer_to_a_failure_that_forgets_start_response_is_told_so() -> None:
    steps, made = make(on_store_error=lambda environ, start_response, error: [b"later"]), environ()
    steps.open_session(made)

    with pytest.raises(AssertionError, match="on_store_error gave a body, and never called start_"):
        steps.answer_failure(made, StoreError("down"))


@pytest.mark.parametrize("save_on_error", [False, True])
def test_a_request_that_a_failure_ends_keeps_what_save_on_error_says(save_on_error: bool) -> None:
    steps = make(save_on_error=save_on_error)
    token = _stored(steps)
    made = environ(cookie=f"session={token}")
    session = steps.open_session(made)
    assert session is not None
    session["a"] = 2

    answer = steps.answer_failure(made, StoreError("another store"))

    assert answer.status.startswith("503") and not steps.is_open(made)
    assert dict(steps.open_token(token)) == {"a": 2 if save_on_error else 1}


def test_what_a_failed_request_cannot_keep_is_dropped_without_another_error() -> None:
    steps = make(save_on_error=True)
    token = _stored(steps)
    made = environ(cookie=f"session={token}")
    session = steps.open_session(made)
    assert session is not None
    session["a"] = "x" * 70_000

    steps.finish_session(made, failed=True)

    assert not steps.is_open(made) and dict(steps.open_token(token)) == {"a": 1}


def test_what_a_whole_stream_cannot_keep_is_an_error() -> None:
    steps, made = make(), environ()
    session = steps.open_session(made)
    assert session is not None
    session["a"] = 1
    steps.commit_session(made, streaming=True)
    session["a"] = "x" * 70_000

    with pytest.raises(SessionTooLarge):
        steps.finish_session(made)


@pytest.mark.parametrize("save_on_error", [False, True])
def test_a_framework_that_answers_500_sends_the_cookie_of_what_was_saved(
    save_on_error: bool,
) -> None:
    steps, made = make(save_on_error=save_on_error), environ()
    session = steps.open_session(made)
    assert session is not None
    session["saved"] = 1
    session.save()
    session["a"] = "x" * 70_000
    with pytest.raises(SessionTooLarge):
        steps.commit_session(made)

    headers = steps.fail_session(made, headers=[("Vary", "Accept")])

    assert dict(steps.open_token(token_in(headers))) == {"saved": 1}
    assert ("Vary", "Accept, Cookie") in headers and ("Cache-Control", "no-store") in headers
    assert not steps.is_open(made)


def test_a_failed_request_whose_session_could_not_be_loaded_is_the_stores_failure() -> None:
    store = FaultyStore(MemoryStore())
    steps = Integration(secret_key=SECRET, store=store)
    made = environ(cookie=f"session={_stored(steps)}")
    session = steps.open_session(made)
    store.fail("load")
    assert session is not None
    with pytest.raises(StoreError):
        session.get("a")

    with pytest.raises(StoreError):
        steps.fail_session(made)


class Body:
    """A stream that knows how often it was closed."""

    closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a"])

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("fate", ["kept", "too large", "unstorable", "an outage", "an interrupt"])
def test_the_documented_steps_close_the_body_of_a_view_once(
    fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET)
    page = Path(__file__).parents[2] / "docs" / "writing-an-integration.md"
    names: dict[str, Any] = {}
    for _, code in blocks(page)[:2]:
        exec(code, names)
    store = FaultyStore(MemoryStore())
    names["steps"] = steps = Integration(any_path=True, secret_key=SECRET, store=store)
    body, made = Body(), environ()

    def view(environ: dict[str, Any], session: Session) -> tuple[str, list[Any], Body]:
        session["a"] = "x" * 70_000 if fate == "too large" else []
        if fate == "unstorable":
            session["a"].append(object())
        if fate == "an outage":
            store.fail("insert")
        if fate == "an interrupt":
            store.before("insert", interrupted)
        return "200 OK", [], body

    def interrupted() -> None:
        raise KeyboardInterrupt

    try:
        status, _, sent = names["respond"](made, view)
    except (SessionTooLarge, TypeError, KeyboardInterrupt):
        assert fate in ("too large", "unstorable", "an interrupt")
    else:
        assert status[:3] == ("503" if fate == "an outage" else "200")
        assert body.closed == (fate == "an outage")
        assert b"".join(sent) == b"a" or fate == "an outage"
        getattr(sent, "close", lambda: None)()

    assert body.closed == 1 and not steps.is_open(made)


def _stored(steps: Integration) -> str | None:
    session = steps.open_token(None)
    session["a"] = 1
    session.save()
    return steps.token_of(session)


def test_a_stream_is_finished_once() -> None:
    told: list[bool] = []
    stream = SessionStream(iter([1, 2]), told.append)

    assert list(stream) == [1, 2]
    stream.close()
    stream.close()

    assert told == [False]


def test_device_bindings_own_requests_are_told_from_the_apps() -> None:
    steps = make(device_binding=DeviceBinding(), cookie=Cookie(path="/shop"))
    route = {"REQUEST_METHOD": "POST", "wsgi.url_scheme": "https"}
    bound = make(device_binding=DeviceBinding())

    answer = bound.answer_device(environ("/.well-known/device-binding/register", **route))

    assert answer is not None and answer.status.startswith("4")
    assert bound.answer_device(environ("/", **route)) is None
    assert make().answer_device(environ("/.well-known/device-binding/register", **route)) is None
    assert steps.answer_device(environ("/elsewhere", **route)) is None


def test_a_token_that_travels_in_a_header_opens_its_session() -> None:
    steps = make(token_header="X-Session-Token")
    made = environ(HTTP_X_SESSION_TOKEN="")
    session = steps.open_session(made)
    assert session is not None
    session["a"] = 1
    session.save()
    in_a_cookie = steps.open_token(None)
    in_a_cookie["b"] = 2
    in_a_cookie.save()

    assert dict(steps.open_token(steps.token_of(session))) == {"a": 1}
    assert dict(steps.open_token(steps.token_of(in_a_cookie))) == {"b": 2}
    assert steps.open_token("nonsense").is_new
