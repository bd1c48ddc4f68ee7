"""Exchange: one request and its response, held back until the session is committed.

PEP 3333's fine print lives here: headers that go out late, bodies that are lists, files or streams,
``write()``, ``exc_info``, and ``close()`` exactly once. The engine decides what is done with the
session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .._values import value
from ..engine import Engine, Response, SessionState
from ..engine.decisions import CookieStep
from ..errors import StoreError
from ..events import EventSink
from ..session import Phase, Session, enter_phase, state_of, transport_of
from .response_headers import app_expires_cookie, finish, is_public, names_of, without_token
from .transport import Header, Transport

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Looked up at each use, an enum's member costs a request as much as a whole call.
_OVER: Final = Phase.OVER
RETRY_AFTER = 5
"""Seconds that a client is asked to wait when the store doesn't answer."""


ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
OnStoreError = Callable[["WSGIEnvironment", "StartResponse", StoreError], Iterable[bytes]]


@value
class AnswerSettings:
    """How a middleware answers, the same for all its requests."""

    engine: Engine
    events: EventSink
    vary: tuple[str, ...]
    """The request headers that a session depends on."""
    vary_header: Header
    """The same as a response header."""
    save_on_error: bool
    on_store_error: OnStoreError


class Exchange:
    """One request and its response: holds the headers back until the session is committed."""

    __slots__ = (
        "_begun",
        "_environ",
        "_exc_info",
        "_file",
        "_headers",
        "_own",
        "_session",
        "_settings",
        "_start",
        "_status",
        "_transport",
        "_write",
    )

    def __init__(
        self,
        settings: AnswerSettings,
        environ: WSGIEnvironment,
        start: StartResponse,
        session: Session,
        transport: Transport,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._start = start
        self._session = session
        self._transport = transport
        self._status: str | None = None
        self._own: tuple[Header, ...] = ()
        self._begun = False
        self._file: object = None

    @property
    def begun(self) -> bool:
        """Whether the session was committed and the headers went on to the server."""
        return self._begun

    def watched(self, file_wrapper: Callable[..., Any]) -> Callable[..., Any]:
        """The same, but noticing which file the app answers with.

        Where ``wsgi.file_wrapper`` is a function, only what it returned tells a file from a stream.
        """

        def remember(*args: Any) -> Any:
            self._file = file_wrapper(*args)
            return self._file

        return remember

    def start_response(
        self, status: str, headers: Iterable[Header], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Called by the app: remembers, and passes on once the session is committed."""
        if self._begun:
            # Only legal with exc_info, and then for the server to refuse or to take.
            return self._start(status, self._finished(headers), exc_info)
        if self._status is not None and exc_info is None:
            raise AssertionError("start_response was called a second time without exc_info")
        # PEP 3333 demands a list, but servers take whatever can be gone through once.
        self._headers = headers if isinstance(headers, list) else list(headers)
        self._status, self._exc_info = status, exc_info
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333's write(): the headers go out with its first call."""
        if not self._begun:
            self.begin(Phase.STREAMING)
        self._write(data)

    def answer(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The response's body, after or around the commit."""
        if not isinstance(body, (list, tuple)) and not self._is_file(body):
            stream = Stream(self, body)
            stream.begin()
            return stream
        if self._begun:
            self.finish(raised=False)
            return body
        if self._status is None:
            if is_websocket(self._environ):
                self._settle(raised=False)
            # Otherwise it is for the server to complain that the app never called start_response.
            return body
        try:
            self.begin(_OVER)
        except StoreError as error:
            try:
                close(body)
            except BaseException:
                self.finish(raised=True)
                raise
            return self.unavailable(error)
        except BaseException:
            try:
                close(body)
            finally:
                self.finish(raised=True)
            raise
        return body

    def _is_file(self, body: Iterable[bytes]) -> bool:
        file_wrapper = self._environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type):
            return isinstance(body, file_wrapper)
        return self._file is not None and body is self._file

    def begin(self, phase: Phase) -> None:
        """Commit the session, then let the headers go out."""
        status = self._status
        if status is None:
            raise AssertionError("the app gave a body, and never called start_response")
        headers, exc_info = self._headers, self._exc_info
        session = self._session
        # Every response comes through here: what `state_of` and `enter_phase` do, without a call.
        state = session._state  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # hot
        if state is None:
            finished = list(headers)
            for header in finished:
                if len(header[0]) == 10 and header[0].lower() == "set-cookie":
                    finished = self._unused(status, finished, final=phase is _OVER)
                    break
        else:
            finished = self._committed(state, status, headers, final=phase is _OVER)
        session._phase = phase  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # hot
        self._begun = True
        self._exc_info = None
        try:
            if exc_info is None:
                self._write = self._start(status, finished)
            else:
                self._write = self._start(status, finished, exc_info)
        finally:
            exc_info = None

    def _unused(self, status: str, headers: list[Header], *, final: bool) -> list[Header]:
        """The headers, with a cookie, of a response whose session wasn't used."""
        transport = self._transport
        if app_expires_cookie(headers, transport.cookie_name, self._settings.engine.now()):
            state = self._session._begin()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door
            return self._committed(state, status, headers, final=final)
        kept = without_token(headers, transport.carrier, transport.name)
        if len(kept) != len(headers):
            self._explain_foreign_token()
        return kept

    def _committed(
        self, state: SessionState, status: str, headers: Sequence[Header], *, final: bool
    ) -> list[Header]:
        """The headers of a response whose session was used, after the commit."""
        if state.error is not None and status[:3] == "500":
            # A framework turned the StoreError into a page of its own.
            raise state.error
        settings, names = self._settings, names_of(headers)
        engine = settings.engine
        if "set-cookie" in names and app_expires_cookie(
            headers, self._transport.cookie_name, engine.now()
        ):
            # This is how an older app signs users out; what it meant is the session.
            engine.destroy(state)
        # A view that has held a WebSocket answers a connection that is closed already.
        held = "HTTP_UPGRADE" in self._environ and status[:1] == "2" and is_websocket(self._environ)
        if held:
            self._explain_untold(state)
        response = Response(
            status[:1] == "5" and not settings.save_on_error,
            "cache-control" in names and is_public(headers),
            held,
            final,
        )
        self._own = engine.commit(state, response)
        if self._own and (domain := self._transport.domain) is not None:
            engine.check_domain(self._environ, domain)
        return self._marked(headers, names)

    def _explain_untold(self, state: SessionState) -> None:
        """Say once what is lost where a WebSocket was held: no response can tell the client."""
        asked = state.intent.id is not None or state.cookie is CookieStep.SET
        if not state.empty if state.stored is None else asked:
            self._settings.events.explain(
                "websocket-cookie",
                "A request that asked for a WebSocket began a session, gave one a new ID or signed"
                " somebody in or out, and answered with success; no cookie can tell the browser, so"
                " that is lost. Do it in a request before, or refuse the handshake with a 4xx.",
            )

    def _finished(self, headers: Iterable[Header]) -> list[Header]:
        given = list(headers)
        if state_of(self._session) is None:
            return given
        return self._marked(given, names_of(given))

    def _marked(self, headers: Sequence[Header], names: set[str]) -> list[Header]:
        """The headers of a response whose session was used."""
        settings, transport = self._settings, self._transport
        carrier, name = transport.carrier, transport.name
        if not self._own and "vary" not in names and carrier not in names:
            return [*headers, settings.vary_header]
        finished = finish(headers, names, settings.vary, (carrier, name), self._own)
        if finished.foreign_tokens:
            self._explain_foreign_token()
        if finished.was_public:
            settings.events.explain(
                "public-response",
                "A response that the app marked as cacheable for all sets the session cookie, so"
                " its Cache-Control was replaced by no-store. Don't use the session on public"
                " pages.",
            )
        return finished.headers

    def _explain_foreign_token(self) -> None:
        kind = "cookie" if self._transport.carrier == "set-cookie" else "header"
        self._settings.events.explain(
            f"foreign-{kind}",
            f"The app set a {kind} {self._transport.name!r} itself; it was dropped, because that is"
            f" the session's {kind}. Give one of the two another name.",
        )

    def abandon(self, error: BaseException) -> None:
        """The app failed before anything was sent.

        Or so it seems: gunicorn expects a StopIteration from an app that has held a WebSocket.
        """
        done = isinstance(error, StopIteration) and is_websocket(self._environ)
        self._settle(raised=not done)

    def finish(self, *, raised: bool) -> None:
        """The response is complete, or was broken off."""
        self._settle(raised=raised or not self._begun)

    def _settle(self, *, raised: bool) -> None:
        state = state_of(self._session)
        enter_phase(self._session, Phase.OVER)
        if state is None:
            return
        engine = self._settings.engine
        failed = raised or (self._status or "")[:1] == "5"
        if not (failed or self._begun) and is_websocket(self._environ):
            self._explain_untold(state)
        response = Response(failed and not self._settings.save_on_error, headers_sent=True)
        try:
            engine.commit(state, response)
        except Exception:
            # What can't be kept gives back what it holds, such as a place in an owner's list.
            engine.commit(state, Response(failed=True, headers_sent=True))
            # The app's own exception is on its way to the server, which must see that one.
            if not raised:
                raise

    def unavailable(self, error: StoreError) -> Iterable[bytes]:
        """The answer when the store failed and the app didn't handle it."""
        if self._begun:
            raise error
        self._begun = True
        state = state_of(self._session)
        self._settings.engine.outage(state, error)
        enter_phase(self._session, Phase.OVER)
        self._own = ()
        if state is not None:
            self._own = self._settings.engine.commit(state, Response(failed=True))

        def start(
            status: str, headers: Iterable[Header], exc_info: ExcInfo | None = None
        ) -> Callable[[bytes], object]:
            finished = self._finished(headers)
            return (
                self._start(status, finished)
                if exc_info is None
                else self._start(status, finished, exc_info)
            )

        return self._settings.on_store_error(self._environ, start, error)


def commit_for(
    settings: AnswerSettings,
    environ: WSGIEnvironment,
    session: Session,
    status: str,
    headers: Sequence[Header],
    phase: Phase = Phase.OVER,
) -> list[Header]:
    """Commit the session for a response that is sent elsewhere; returns the headers it then has."""
    told: list[tuple[str, list[Header]]] = []
    exchange = Exchange(settings, environ, noting(told, []), session, transport_of(session))
    exchange.start_response(status, headers)
    exchange.begin(phase)
    return told[-1][1]


def noting(told: list[tuple[str, list[Header]]], written: list[bytes]) -> StartResponse:
    """A ``start_response`` that notes status and headers, and what is written."""

    def start_response(
        status: str, headers: list[Header], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        del exc_info
        told.append((status, headers))
        return written.append

    return start_response


class Stream:
    """Any other iterable: the session is committed at its first chunk that isn't empty."""

    __slots__ = ("_body", "_closed", "_exchange", "_first", "_iterator", "_raised")

    def __init__(self, exchange: Exchange, body: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._body = body
        self._first: bytes | None = None
        self._iterator: Iterator[bytes] | None = None
        self._raised = self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def begin(self) -> None:
        """Go to the first chunk that isn't empty, so that the headers are there.

        A server may take them before it asks for the body: Granian does, whatever PEP 3333 says.
        """
        try:
            self._first = next(self, None)
        except BaseException:
            self.close()
            raise

    def __next__(self) -> bytes:
        first = self._first
        if first is not None:
            self._first = None
            return first
        exchange = self._exchange
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            # An empty chunk can't be handed on before the headers are there.
            for chunk in self._iterator:
                if chunk and not exchange.begun:
                    exchange.begin(Phase.STREAMING)
                if exchange.begun:
                    return chunk
            if not exchange.begun:
                exchange.begin(Phase.STREAMING)
        except StoreError as error:
            self._fail()
            if exchange.begun:
                raise
            self._body, self._closed = exchange.unavailable(error), False
            self._iterator = iter(self._body)
            return next(self._iterator)
        except BaseException:
            self._fail()
            raise
        raise StopIteration

    def _fail(self) -> None:
        self._raised = True
        if not self._exchange.begun:
            # The server may answer with an error page of its own; the app's part ends first.
            self._close_body()

    def _close_body(self) -> None:
        if not self._closed:
            self._closed = True
            close(self._body)

    def close(self) -> None:
        """Close the app's iterable, then save what the stream changed."""
        try:
            self._close_body()
        finally:
            self._exchange.finish(raised=self._raised)


def is_websocket(environ: Mapping[str, object]) -> bool:
    """Whether this request asks for a WebSocket (RFC 6455 section 4.1).

    An app that grants it takes the connection over from the server, and sends no headers by WSGI.
    """
    return "HTTP_UPGRADE" in environ and str(environ["HTTP_UPGRADE"]).lower() == "websocket"


def close(body: object) -> None:
    """Call the body's close(), if it has one (PEP 3333)."""
    closing = getattr(body, "close", None)
    if closing is not None:
        closing()


def answer_503(
    environ: WSGIEnvironment, start_response: StartResponse, error: StoreError
) -> Iterable[bytes]:
    """The answer to a client when the store fails and the app didn't handle it."""
    del error  # what went wrong is in the log; a client learns nothing about the store
    body = b"The service is temporarily unavailable. Please try again in a moment.\n"
    start_response(
        "503 Service Unavailable",
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Retry-After", str(RETRY_AFTER)),
            ("Cache-Control", "no-store"),
        ],
    )
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]
