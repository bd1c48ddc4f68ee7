"""Integration: sessions for a framework that has a request cycle of its own.

A SessionMiddleware whose steps are taken one by one: open when the request comes, commit before
the response's headers go out, finish when its stream ends. Our own modules for frameworks are
built on it, and others can be; docs/writing-an-integration.md shows how. It knows no framework.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NoReturn,
    Unpack,
    cast,
    overload,
)

from ._options import check_flag, checked_options
from ._values import replaced
from .engine import Engine
from .engine.state import NO_SCHEME
from .errors import ConfigurationError, StoreError
from .http.exchange import Exchange, close, commit_for, noting
from .http.transport import Environ, Header, Transport
from .middleware import SessionMiddleware, get_session
from .session import Session, is_over, is_streaming, state_of, transport_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from typing_extensions import TypeVar

    from .flask_settings import Options

    T = TypeVar("T")
    S = TypeVar("S", bound=Session)
    # The defaults let an annotation be a mere Integration.
    S_co = TypeVar("S_co", bound=Session, default=Session, covariant=True)
    Opened_co = TypeVar("Opened_co", bound=Session | None, default=Session | None, covariant=True)
else:
    from typing import TypeVar

    S_co = TypeVar("S_co", covariant=True)
    Opened_co = TypeVar("Opened_co", covariant=True)


class Answer(NamedTuple):
    """A whole response, for the framework to send as it sends its own."""

    status: str
    """Such as ``"503 Service Unavailable"``."""
    headers: list[Header]
    body: bytes


def takes_options(cls: type[T]) -> type[T]:
    """Class decorator for what hands its options on: a mistake in a call is told in its own name.

    Its parameters are those of SessionMiddleware, but for the app, in place of ``**options``.
    """
    made: Any = cls.__init__
    given = inspect.signature(made).parameters.values()
    own = [each for each in given if each.kind is not each.VAR_KEYWORD]
    names = {"app", *(each.name for each in own)}
    options = inspect.signature(SessionMiddleware.__init__).parameters.values()
    others = [each for each in options if each.name not in names]
    made.__signature__ = inspect.Signature([*own, *others])
    checked: Any = checked_options(cls)
    # The documentation is made of what the code says; and a wrapper has all that it wraps has.
    del made.__signature__, checked.__init__.__signature__
    return cls


@takes_options
class Integration(SessionMiddleware, Generic[S_co, Opened_co]):
    """The steps of a request's session, for a framework to take.

    To type checkers, it is an ``Integration[S, S]`` for sessions of a class S with ``any_path``,
    and without an ``Integration[S, S | None]``: the second is what ``open_session`` returns.

    Args:
        session_class: what ``open_session`` makes: a subclass of `Session` with what the framework
            expects of one.
        any_path: True: there is a session on every path, whatever the cookie's.
        **options: those of SessionMiddleware.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    @overload
    def __init__(
        self: Integration[Session, Session | None],
        *,
        any_path: Literal[False] = False,
        **options: Unpack[Options],
    ) -> None: ...

    @overload
    def __init__(
        self: Integration[Session, Session],
        *,
        any_path: Literal[True],
        **options: Unpack[Options],
    ) -> None: ...

    @overload
    def __init__(
        self: Integration[S, S | None],
        session_class: type[S],
        *,
        any_path: Literal[False] = False,
        **options: Unpack[Options],
    ) -> None: ...

    @overload
    def __init__(
        self: Integration[S, S],
        session_class: type[S],
        *,
        any_path: Literal[True],
        **options: Unpack[Options],
    ) -> None: ...

    def __init__(
        self, session_class: type[Session] = Session, *, any_path: bool = False, **options: Any
    ) -> None:
        _check_class(session_class)
        check_flag("Integration", "any_path", any_path)
        super().__init__(_no_app, **options)
        self._session_class = session_class
        self._any_path = any_path

    if TYPE_CHECKING:

        def open_session(self, environ: WSGIEnvironment) -> Opened_co: ...

    def is_open(self, environ: WSGIEnvironment) -> bool:
        """Whether this environ has a session whose response isn't complete yet.

        Then a middleware further out is responsible for it, and will commit it.
        """
        session = environ.get(self._environ_key)
        return session is not None and not is_over(session)

    def is_streaming(self, environ: WSGIEnvironment) -> bool:
        """Whether the session was committed with ``streaming=True`` and isn't finished yet."""
        return is_streaming(environ.get(self._environ_key))

    def cookie_name(self, environ: WSGIEnvironment) -> str:
        """The name of the session cookie on this request."""
        return self._site_for(environ).transport.name

    def open_token(self, token: str | None) -> S_co:
        """Open the session of a token without a request, and so without a scheme.

        Commit it with ``session.save()``; no response is involved.

        Args:
            token: the value of a cookie or of the header of ``token_header``, or what `token_of`
                returned; for None, and for one without a session, it is a new session.
        """
        return cast("S_co", self._session_class(*self.parts_of(token)))

    def parts_of(self, token: str | None) -> tuple[Engine, Environ, Transport]:
        """What a Session of this token is made of, for a class that calls ``Session.__init__``."""
        environ: WSGIEnvironment = {"wsgi.url_scheme": NO_SCHEME, "PATH_INFO": "/"}
        site = self._site_for(environ)
        header = site.header
        if token is not None and header is not None:
            environ[header.environ_key] = token
            if self._engine.is_presented(environ, header):
                return self._engine, environ, header
        transport = site.transport
        if token is not None:
            environ["HTTP_COOKIE"] = f"{transport.name}={token}"
        return self._engine, environ, transport

    def token_of(self, session: Session) -> str | None:
        """The value of this session's cookie, or header. As secret as the ID.

        Returns:
            None as long as the session isn't stored; ``session.save(keep_empty=True)`` stores it.
        """
        # Loads it, as any access does.
        if session.is_new:
            return None
        state = state_of(session)
        return None if state is None else self._engine.token(state)

    def answer_device(self, environ: WSGIEnvironment) -> Answer | None:
        """The answer to a request that is part of device binding, and not for the app.

        Ask before the session is opened.

        Returns:
            None for all others, and where there is no ``device_binding``.
        """
        if self._device_binding is None or self.is_open(environ):
            return None
        transport = self._enter(environ)
        answer = None if transport is None else self._engine.answer_device(environ, transport)
        return None if answer is None else Answer(answer.status, answer.headers, answer.body)

    def fail_session(
        self, environ: WSGIEnvironment, *, headers: Sequence[Header] = ()
    ) -> list[Header]:
        """As ``discard_session``, where the framework answers with 500.

        Args:
            environ: the one that was given to ``open_session``.
            headers: of that response.

        Returns:
            ``headers``, and what the session adds to them: the cookie of what was saved before.

        Raises:
            LookupError: no session was opened.
            StoreError: it could not be loaded.
        """
        session = get_session(environ, self._environ_key)
        answers = replaced(self._answers, save_on_error=False)
        return commit_for(answers, environ, session, "500 Internal Server Error", headers)

    def answer_failure(self, environ: WSGIEnvironment, error: StoreError) -> Answer:
        """The answer to a request whose session's store failed, as ``on_store_error`` makes it.

        The session ends: only what was already saved is kept, and with ``save_on_error`` what else
        can be.
        """
        session: Session = environ[self._environ_key]
        if self._answers.save_on_error:
            self.finish_session(environ, failed=True)
        told: list[tuple[str, list[Header]]] = []
        written: list[bytes] = []
        start = noting(told, written)
        exchange = Exchange(self._answers, environ, start, session, transport_of(session))
        body = exchange.unavailable(error)
        try:
            written.extend(body)
        finally:
            close(body)
        if not told:
            raise AssertionError("on_store_error gave a body, and never called start_response")
        status, headers = told[-1]
        return Answer(status, headers, b"".join(written))


class SessionStream:
    """A response's stream, at whose end the session is finished.

    Args:
        body: the app's iterable.
        finish: called once, when the stream is closed, with whether it broke off with an exception.
    """

    def __init__(self, body: Iterable[Any], finish: Callable[[bool], object]) -> None:
        self._body = body
        self._iterator: Iterator[Any] | None = None
        self._first: Any = None
        self._finish = finish
        self._failed = self._closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def begin(self) -> None:
        """Go to the first chunk that isn't empty, so that a session can be begun until then.

        Before the session is committed. What the app's iterable raises comes out of it.
        """
        self._first = next((chunk for chunk in self if chunk), None)

    def __next__(self) -> Any:
        first, self._first = self._first, None
        if first is not None:
            return first
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException:
            self.break_off()
            raise

    def break_off(self) -> None:
        """Note that the stream broke off with an exception."""
        self._failed = True

    def close(self) -> None:
        """Close the app's iterable, then finish the session."""
        if self._closed:
            return
        self._closed = True
        try:
            close(self._body)
        finally:
            self._finish(self._failed)


def _check_class(given: object) -> None:
    if not isinstance(given, type) or not issubclass(given, Session):
        raise ConfigurationError(
            f"Integration: session_class is {given!r}; give a subclass of Session"
        )


def _no_app(environ: WSGIEnvironment, start_response: StartResponse) -> NoReturn:
    raise TypeError(
        "an Integration doesn't wrap a WSGI app; call its open_session and commit_session, or use"
        " SessionMiddleware"
    )
