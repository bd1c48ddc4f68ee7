"""Falcon: a middleware component that puts our sessions into ``req.context.session``.

It goes into ``falcon.App(middleware=[…])`` and takes the steps of an Integration: open when the
request comes, commit when the response is made, finish when its stream ends. Errors are left to
Falcon, except those of a store. An exception that leaves Falcon passes a component by, so what a
session raises when the app can't help it is one that Falcon turns into a response wherever it is
raised. Nothing else in this package imports Falcon.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

import falcon

from .checks import DEFAULT_KEY
from .errors import SessionCommitted, StoreError
from .http.exchange import close
from .http.transport import Header
from .integration import Answer, Integration, SessionStream, takes_options
from .registry import SessionRegistry
from .session import Session

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .engine import SessionState
    from .flask_settings import Options

T = TypeVar("T")
_BODILESS = frozenset({"100", "101", "204", "304"})
_STEPS_KEY = "wsgi_sessions.falcon."
"""Before an ``environ_key``: which component opened that session, and so is responsible for it."""


class _Answered(falcon.HTTPInternalServerError):
    """An exception that Falcon answers with 500, and that reads like any other of ours."""

    def __init__(self, error: Exception, description: str | None = None) -> None:
        super().__init__(description=description)
        Exception.__init__(self, *error.args)

    def __str__(self) -> str:
        return Exception.__str__(self)

    def __repr__(self) -> str:
        return Exception.__repr__(self)


class FalconStoreError(StoreError, _Answered):
    """A StoreError that Falcon takes for a 500, even where an error handler raises it.

    `SessionMiddleware` answers that as ``on_store_error`` says. An app's handlers for StoreError
    and for ``falcon.HTTPError`` come first; those for Exception don't see it.
    """

    def __init__(self, error: StoreError) -> None:
        _Answered.__init__(self, error)
        self.operation: str | None = error.operation


class FalconSessionCommitted(SessionCommitted, _Answered):
    """A SessionCommitted that Falcon answers with 500, even where an error handler raises it."""

    def __init__(self, error: SessionCommitted) -> None:
        _Answered.__init__(self, error, str(error))


class FalconSession(Session):
    """A Session whose failures reach Falcon's middleware, which sees no exceptions."""

    failure: StoreError | None = None
    """An error that the app may have let through to Falcon, which then answers 500."""

    @contextmanager
    def _telling(self) -> Generator[None, None, None]:
        """Remember a failure of the store, and raise what Falcon turns into a response."""
        try:
            yield
        except falcon.HTTPError:
            raise
        except StoreError as error:
            self.failure = error
            raise FalconStoreError(error) from error
        except SessionCommitted as error:
            raise FalconSessionCommitted(error) from error

    def _begin(self) -> SessionState:
        state = super()._begin()
        if state.error is not None:
            error = FalconStoreError(state.error)
            error.__cause__, state.error = state.error, error
        return state

    def _check_late(self, state: SessionState) -> None:
        with self._telling():
            super()._check_late(state)

    def _new_cookie(self) -> SessionState:
        with self._telling():
            return super()._new_cookie()

    def save(self, *, keep_empty: bool = False) -> None:
        """As `Session.save`."""
        with self._telling():
            super().save(keep_empty=keep_empty)

    def login(self, owner: str, *, keep: bool | Iterable[str] = True) -> None:
        """As `Session.login`."""
        with self._telling():
            super().login(owner, keep=keep)

    @property
    def owner(self) -> str | None:
        """As `Session.owner`."""
        return super().owner

    @owner.setter
    def owner(self, owner: str | None) -> None:
        with self._telling():
            Session.owner.__set__(self, owner)  # type: ignore[attr-defined] # a property has it

    @owner.deleter
    def owner(self) -> None:
        self.owner = None

    def destroy(self) -> None:
        """As `Session.destroy`."""
        with self._telling():
            super().destroy()

    def reload(self) -> None:
        """As `Session.reload`."""
        with self._telling():
            super().reload()

    def is_alive(self) -> bool:
        """As `Session.is_alive`."""
        with self._telling():
            return super().is_alive()

    def transaction(self, fn: Callable[[MutableMapping[str, Any]], T]) -> T:
        """As `Session.transaction`."""
        with self._telling():
            return super().transaction(fn)


@takes_options
class SessionMiddleware:
    """Gives a Falcon app sessions: ``falcon.App(middleware=[SessionMiddleware(secret_key=…)])``.

    Put it first in the list of middleware, so that the others find the session, and what they
    change in it is kept.

    Args:
        **options: those of ``wsgi_sessions.SessionMiddleware``.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._key = options.get("environ_key", DEFAULT_KEY)
        self._steps_key = f"{_STEPS_KEY}{self._key}"
        self.steps: Integration[FalconSession, FalconSession] = Integration(
            FalconSession, any_path=True, **options
        )
        """The Integration that does the work, for ``session_of`` and for jobs."""

    @property
    def registry(self) -> SessionRegistry:
        """The sessions by owner and by handle, for "your devices" and "sign out everywhere"."""
        return self.steps.registry

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Called by Falcon before routing."""
        environ: WSGIEnvironment = req.env
        answer = self.steps.answer_device(environ)
        if answer is not None:
            _send(resp, answer)
            resp.complete = True
            return
        if not self.steps.is_open(environ):
            environ[self._steps_key] = self
        req.context.session = self.steps.open_session(environ)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Called by Falcon after the resource, whether it succeeded or not."""
        del resource, req_succeeded
        environ: WSGIEnvironment = req.env
        if environ.get(self._steps_key) is not self or not self.steps.is_open(environ):
            return
        failure = getattr(environ.get(self._key), "failure", None)
        if failure is not None and _status(resp)[:3] == "500":
            self._answer_failure(environ, resp, failure)
            return
        try:
            try:
                stream = self._stream(req, resp)
                if stream is not None:
                    stream.begin()
            except StoreError:
                raise
            except Exception:
                # Falcon answers 500 then, with the headers that are there.
                _let_go(resp)
                self._commit(environ, resp, "500 Internal Server Error", streaming=False)
                raise
            self._commit(environ, resp, _status(resp), streaming=stream is not None)
        except StoreError as error:
            self._answer_failure(environ, resp, error)
            return
        if stream is not None:
            resp.stream = stream

    def _stream(self, req: falcon.Request, resp: falcon.Response) -> SessionStream | None:
        """The app's stream with its session; None if no such stream will be sent."""
        # Falcon keeps what this makes of ``media``.
        whole = resp.render_body() is not None
        stream = resp.stream
        # What has read() may be sent by the server itself, which must see the file.
        if whole or stream is None or hasattr(stream, "read"):
            return None
        if req.method == "HEAD" or _status(resp)[:3] in _BODILESS:
            return None
        return SessionStream(
            cast("Any", stream),
            lambda failed: self.steps.finish_session(req.env, failed=failed),
        )

    def _commit(
        self, environ: WSGIEnvironment, resp: falcon.Response, status: str, *, streaming: bool
    ) -> None:
        given = _headers(resp)
        try:
            finished = self.steps.commit_session(
                environ,
                status=status,
                headers=given,
                streaming=streaming,
            )
        except StoreError:
            raise
        except BaseException:
            # Falcon answers 500 then, with the headers that are there.
            _let_go(resp)
            _put(resp, self.steps.fail_session(environ, headers=given))
            raise
        if finished != given:
            _put(resp, finished)

    def _answer_failure(
        self, environ: WSGIEnvironment, resp: falcon.Response, error: StoreError
    ) -> None:
        _let_go(resp)
        _send(resp, self.steps.answer_failure(environ, error))


def _status(resp: falcon.Response) -> str:
    status: str = falcon.code_to_http_status(resp.status)
    return status


def _let_go(resp: falcon.Response) -> None:
    """Close the stream of a response that isn't sent (PEP 3333)."""
    stream, resp.stream = resp.stream, None
    close(stream)


def _send(resp: falcon.Response, answer: Answer) -> None:
    resp.status = answer.status
    resp.media = resp.text = resp.stream = None
    resp.data = answer.body
    _put(resp, answer.headers)


def _headers(resp: falcon.Response) -> list[Header]:
    """All headers of the response so far, cookies included."""
    return resp._wsgi_headers()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # cookies are readable in no other way


def _put(resp: falcon.Response, headers: list[Header]) -> None:
    """Replace all headers of the response, cookies included."""
    cookies = [value for name, value in headers if name.lower() == "set-cookie"]
    plain = [(name, value) for name, value in headers if name.lower() != "set-cookie"]
    for name in resp.headers:
        resp.delete_header(name)
    resp.set_headers(plain)
    resp._cookies = resp._extra_headers = None  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # they come anew
    for value in cookies:
        resp.append_header("Set-Cookie", value)
