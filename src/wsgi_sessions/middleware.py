"""SessionMiddleware: the WSGI edge. Environ, start_response, iterables and close; nothing else.

All checking of settings happens when it is made; a request then only looks things up. What is to
be done with a session is the engine's to find out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ._options import check_flag, checked_options, seconds
from .codec import Codec, JSONCodec
from .cookie import Cookie, path_matches, wsgi_path
from .engine import CLIENT_KEY, Engine, Settings
from .errors import ConfigurationError, SessionError, StoreError
from .events import EventSink, SessionEvent, as_listeners
from .headers import finish, is_public
from .lifetime import Lifetime
from .owners import Limits
from .proxies import TrustedProxies, as_trusted_proxies, resolve_client, rewrite_environ
from .registry import SessionRegistry
from .rotation import Rotation
from .session import Phase, Session, enter_phase, visit_of
from .signing import Secrets, check_secrets, new_id
from .stores import ClientSideStore, MemoryStore, Store, store_from_url
from .stores.client import ClientSeal
from .transport import CookieTransport, Header, HeaderTransport, Transport, check_header_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

DEFAULT_KEY = "wsgi_sessions.session"
RETRY_AFTER = 5
"""Seconds that a client is asked to wait when the store doesn't answer."""
_COOKIE = Cookie()
_LIFETIME = Lifetime()
_LABEL_PARTS = ("ip", "user_agent")
_STORE_METHODS = (
    "load",
    "insert",
    "update",
    "replace",
    "delete",
    "purge_expired",
    "keys",
    "clear",
    "ping",
    "close",
    "add_owned",
    "owned_by",
    "remove_owned",
    "generation",
    "next_generation",
)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
CookieChoice = Cookie | Callable[["WSGIEnvironment"], Cookie]
OnStoreError = Callable[["WSGIEnvironment", "StartResponse", StoreError], Iterable[bytes]]
Listener = Callable[[SessionEvent], object]


@checked_options
class SessionMiddleware:
    """Gives any WSGI app sessions: ``environ["wsgi_sessions.session"]`` is a `Session`.

    Args:
        app: the WSGI app to wrap.
        secret_key: signs the session IDs; str or bytes of at least 32 bytes, or a list of them,
            newest first: the first signs, all verify.
        store: where sessions are kept: a Store, or a URL (``memory://``, ``file:///path``,
            ``redis://…``, ``rediss://…``, ``unix://…``). None is a MemoryStore, with a warning
            where the server runs several processes.
        cookie: a Cookie, or a function that gives one for an environ, for apps that serve several
            sites.
        lifetime: how long a session lives.
        trusted_proxies: how many proxies stand between the app and the client, or TrustedProxies.
        codec: turns one value into bytes and back; None is JSONCodec().
        save_uninitialized: True: a new session that was accessed is stored and its cookie set,
            even if nothing was put in.
        rolling: True: the cookie is re-sent on every response of a used session.
        save_on_error: True: changes are kept even if the app raised or answered 5xx.
        touch_interval: seconds (or timedelta); how often, at most, mere use writes the new idle
            deadline. Never later than a tenth of the idle limit.
        rotate_after: seconds or timedelta after which a session gets a new ID by itself; None:
            never.
        max_bytes: the encoded size limit of one session.
        id_factory: makes session IDs; for tests.
        clock: gives UNIX seconds; None asks ``time.time()`` at each use.
        max_per_owner: how many sessions of one owner may live; None: any number.
        when_full: ``"end_oldest"`` ends the least recently used one after a login too many;
            ``"refuse"`` has the login raise TooManySessions.
        label: what is noted of the client when an owner is set: some of ``"ip"`` and
            ``"user_agent"``; None: nothing.
        token_header: the name of a header that carries the token instead of the cookie, for
            clients that have no cookies.
        encryption_keys: keys of 32 bytes each, newest first; what the store keeps is encrypted.
        encryption_migrate: True: plain records are still read, and encrypted at the next write.
        on_event: called with every SessionEvent; one function or a list of them.
        on_store_error: answers when the store fails and the app doesn't handle it: called with
            environ, start_response and the StoreError, returns the body. None answers 503.
        environ_key: where the app finds the session.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    store: Store
    """The store as it was given."""
    registry: SessionRegistry
    """The sessions in it, by owner and by handle."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        secret_key: Secrets,
        store: Store | str | None = None,
        cookie: CookieChoice = _COOKIE,
        lifetime: Lifetime = _LIFETIME,
        trusted_proxies: int | TrustedProxies = 0,
        codec: Codec | None = None,
        save_uninitialized: bool = False,
        rolling: bool = False,
        save_on_error: bool = False,
        touch_interval: float | timedelta = 60,
        rotate_after: float | timedelta | None = None,
        max_bytes: int = 65536,
        id_factory: Callable[[], str] | None = None,
        clock: Callable[[], float] | None = None,
        max_per_owner: int | None = None,
        when_full: Literal["end_oldest", "refuse"] = "end_oldest",
        label: Collection[str] | None = _LABEL_PARTS,
        token_header: str | None = None,
        encryption_keys: Sequence[bytes] = (),
        encryption_migrate: bool = False,
        on_event: Listener | Sequence[Listener] | None = None,
        on_store_error: OnStoreError | None = None,
        environ_key: str = DEFAULT_KEY,
    ) -> None:
        _check_callable("app", app)
        for name, flag in (
            ("save_uninitialized", save_uninitialized),
            ("rolling", rolling),
            ("save_on_error", save_on_error),
            ("encryption_migrate", encryption_migrate),
        ):
            check_flag("SessionMiddleware", name, flag)
        for name, function in (
            ("id_factory", id_factory),
            ("clock", clock),
            ("on_store_error", on_store_error),
        ):
            if function is not None:
                _check_callable(name, function)
        secrets = check_secrets(secret_key)
        self.app = app
        self._environ_key = _check_environ_key(environ_key)
        self.store, self._warn_processes = _check_store(store)
        if not isinstance(lifetime, Lifetime):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise ConfigurationError(
                f"SessionMiddleware: lifetime is {lifetime!r}; write"
                " Lifetime(idle=…, absolute=…) with timedeltas or seconds"
            )
        self._lifetime = lifetime
        self._proxies = as_trusted_proxies(trusted_proxies)
        self._resolves = self._proxies != TrustedProxies()
        self._save_on_error = save_on_error
        self._on_store_error = on_store_error or _answer_503
        own_clock = clock or _now
        if clock is not None and hasattr(self.store, "clock"):
            self.store.clock = clock
        self._events = EventSink(as_listeners(on_event), own_clock)
        if hasattr(self.store, "subscribe"):
            self.store.subscribe(self._on_store_notice)
        limits = Limits(lifetime.idle_seconds, lifetime.absolute_seconds)
        client_side = isinstance(self.store, ClientSideStore)
        rotation_seconds = (
            math.inf
            if rotate_after is None
            else seconds("SessionMiddleware", "rotate_after", rotate_after)
        )
        if client_side:
            _check_client_side(rotate_after, max_per_owner, encryption_keys)
        working_store = _sealed(self.store, encryption_keys, migrate=encryption_migrate)
        self._settings = Settings(
            store=working_store,
            seal=ClientSeal(secrets, encrypt=self.store.encrypt) if client_side else None,
            codec=_check_codec(codec),
            limits=limits,
            clock=own_clock,
            id_factory=id_factory or new_id,
            events=self._events,
            touch_interval=seconds(
                "SessionMiddleware", "touch_interval", touch_interval, zero=True
            ),
            rotate_after=rotation_seconds,
            rotation=None if rotate_after is None else Rotation(secrets),
            max_bytes=_check_count("max_bytes", max_bytes),
            max_per_owner=(
                None if max_per_owner is None else _check_count("max_per_owner", max_per_owner)
            ),
            refuse_when_full=_check_when_full(when_full),
            label=_check_label(label),
            save_uninitialized=save_uninitialized,
            rolling=rolling,
        )
        self._engine = Engine(self._settings)
        self.registry = SessionRegistry(
            working_store, clock=own_clock, limits=limits, events=self._events
        )
        self._secrets = secrets
        header = check_header_name(token_header)
        self._header_transport = None if header is None else HeaderTransport(header, secrets)
        self._vary = ("Cookie",) if header is None else (header, "Cookie")
        self._cookie = cookie
        self._choose: Callable[[Cookie], _Site] | None = None
        if isinstance(cookie, Cookie):
            self._site = _Site(cookie, secrets)
        elif callable(cookie):
            # Bounded: a function might make a cookie from what the client sends.
            self._choose = lru_cache(maxsize=256)(lambda chosen: _Site(chosen, secrets))
        else:
            raise ConfigurationError(
                f"SessionMiddleware: cookie is {cookie!r}; write Cookie(…), or a function that"
                " takes the environ and returns one"
            )

    def __repr__(self) -> str:
        return f"<SessionMiddleware {self._environ_key!r} on {type(self.store).__name__}>"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        key = self._environ_key
        if key in environ:
            return self.app(environ, start_response)
        if self._resolves:
            client = resolve_client(environ, self._proxies)
            rewrite_environ(environ, client, self._proxies)
        elif "HTTP_X_FORWARDED_PROTO" in environ:
            self._explain_proxy(environ)
        if self._warn_processes and environ.get("wsgi.multiprocess"):
            self._explain_processes()
        site = self._site if self._choose is None else self._choose(self._chosen_cookie(environ))
        transport: Transport = site.transport
        header = self._header_transport
        if header is not None and header.environ_key in environ:
            transport = header
        elif not site.everywhere and not site.covers(environ):
            return self.app(environ, start_response)
        session = environ[key] = Session(self._engine, environ, transport)
        exchange = _Exchange(self, environ, start_response, session, transport)
        try:
            body = self.app(environ, exchange.start_response)
        except StoreError as error:
            exchange.abandon()
            return exchange.unavailable(error)
        except BaseException:
            exchange.abandon()
            raise
        return exchange.answer(body)

    def _chosen_cookie(self, environ: WSGIEnvironment) -> Cookie:
        cookie = self._cookie(environ) if callable(self._cookie) else self._cookie
        if not isinstance(cookie, Cookie):  # pyright: ignore[reportUnnecessaryIsInstance] # the app's function may give anything
            raise ConfigurationError(
                f"SessionMiddleware: the cookie function gave {cookie!r}; return a Cookie"
            )
        return cookie

    def _explain_proxy(self, environ: WSGIEnvironment) -> None:
        if str(environ["HTTP_X_FORWARDED_PROTO"]).strip().lower() == "https":
            self._events.explain(
                "untrusted-proxy",
                "A request has X-Forwarded-Proto: https, but trusted_proxies is 0, so it counts as"
                " plain http. If a proxy of yours set that header, set trusted_proxies to the"
                " number of proxies in front of the app (mount ProxyProbe to find it).",
            )

    def _explain_processes(self) -> None:
        self._warn_processes = False
        self._events.explain(
            "several-processes",
            "No store was given, so each of the server's processes keeps sessions of its own, and"
            " users will lose theirs from one request to the next. Give a store that the processes"
            " share, such as store='file:///var/lib/app/sessions' or store='redis://localhost'.",
        )

    def _on_store_notice(self, kind: str, key: str, detail: str) -> None:
        if kind == "evicted":
            self._events.emit("destroyed", handle=key, detail=f"evicted: {detail}")
        else:
            self._events.emit(kind, handle=key, detail=detail)

    def describe(self) -> str:
        """The settings in force as text, a line each, without secrets."""
        settings, cookie = self._settings, self._cookie
        lines = {
            "store": repr(self.store),
            "cookie": repr(cookie) if isinstance(cookie, Cookie) else "chosen per request",
            "lifetime": f"idle {self._lifetime.idle}, absolute {self._lifetime.absolute}",
            "touch_interval": f"{settings.touch_interval:g} s",
            "rotate_after": (
                "never" if settings.rotation is None else f"{settings.rotate_after:g} s"
            ),
            "trusted_proxies": repr(self._proxies),
            "token_header": repr(
                None if self._header_transport is None else self._header_transport.name
            ),
            "secret keys": f"{len(self._secrets)}",
            "encryption at rest": "yes" if settings.store is not self.store else "no",
            "max_bytes": str(settings.max_bytes),
            "max_per_owner": (
                "any number"
                if settings.max_per_owner is None
                else f"{settings.max_per_owner},"
                f" then {'refuse' if settings.refuse_when_full else 'end_oldest'}"
            ),
            "label": ", ".join(sorted(settings.label)) or "nothing",
            "save_uninitialized": str(settings.save_uninitialized),
            "rolling": str(settings.rolling),
            "save_on_error": str(self._save_on_error),
            "codec": type(settings.codec).__name__,
            "environ_key": repr(self._environ_key),
        }
        return "\n".join(f"{name}: {value}" for name, value in lines.items())


def get_session(environ: WSGIEnvironment, environ_key: str = DEFAULT_KEY) -> Session:
    """The session of this request.

    Raises:
        LookupError: if there is none: the app isn't wrapped, or the cookie's path doesn't cover
            the request's.
    """
    try:
        session: Session = environ[environ_key]
    except KeyError:
        raise LookupError(
            f"there is no {environ_key!r} in the environ; wrap the app in SessionMiddleware(app,"
            " secret_key=…), and see that Cookie(path=…) covers the path of this request"
        ) from None
    return session


class _Site:
    """One Cookie with all that is made from it."""

    __slots__ = ("_path", "everywhere", "transport")

    def __init__(self, cookie: Cookie, secrets: tuple[bytes, ...]) -> None:
        self.transport = CookieTransport(cookie, secrets)
        self.everywhere = cookie.path == "/"
        self._path = wsgi_path(cookie.path)

    def covers(self, environ: WSGIEnvironment) -> bool:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        return path_matches(self._path, path)


class _Exchange:
    """One request and its response: holds the headers back until the session is committed."""

    __slots__ = (
        "_begun",
        "_environ",
        "_exc_info",
        "_file",
        "_headers",
        "_middleware",
        "_session",
        "_start",
        "_status",
        "_token",
        "_transport",
        "_write",
    )

    def __init__(
        self,
        middleware: SessionMiddleware,
        environ: WSGIEnvironment,
        start: StartResponse,
        session: Session,
        transport: Transport,
    ) -> None:
        self._middleware = middleware
        self._environ = environ
        self._start = start
        self._session = session
        self._transport = transport
        self._status: str | None = None
        self._begun = False
        self._file: object = None
        file_wrapper = environ.get("wsgi.file_wrapper")
        if file_wrapper is not None and not isinstance(file_wrapper, type):
            environ["wsgi.file_wrapper"] = self._remember_file(file_wrapper)

    @property
    def begun(self) -> bool:
        """Whether the session was committed and the headers went on to the server."""
        return self._begun

    def _remember_file(self, file_wrapper: Callable[..., Any]) -> Callable[..., Any]:
        # Where file_wrapper is a function, only what it returned tells a file from a stream.
        def remember(*args: Any) -> Any:
            self._file = file_wrapper(*args)
            return self._file

        return remember

    def start_response(
        self, status: str, headers: list[Header], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """What the app calls: remembers, and hands on once the session is committed."""
        if self._begun:
            # Only legal with exc_info, and then for the server to refuse or to take.
            return self._start(status, self._finished(headers), exc_info)
        if self._status is not None and exc_info is None:
            raise AssertionError("start_response was called a second time without exc_info")
        self._status, self._headers, self._exc_info = status, headers, exc_info
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333's write(): the headers go out with its first call."""
        if not self._begun:
            self.begin(Phase.STREAMING)
        self._write(data)

    def answer(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The response's body, after or around the commit."""
        if not isinstance(body, (list, tuple)) and not self._is_file(body):
            return _Stream(self, body)
        if self._begun:
            self.finish(raised=False)
            return body
        if self._status is None:
            # The server is the one to complain about an app that didn't call start_response.
            return body
        try:
            self.begin(Phase.OVER)
        except StoreError as error:
            close(body)
            return self.unavailable(error)
        except BaseException:
            close(body)
            raise
        return body

    def _is_file(self, body: Iterable[bytes]) -> bool:
        file_wrapper = self._environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type):
            return isinstance(body, file_wrapper)
        return self._file is not None and body is self._file

    def begin(self, phase: Phase) -> None:
        """Commit the session, then let the headers go out."""
        status, headers, exc_info = self._status or "", self._headers, self._exc_info
        visit = visit_of(self._session)
        self._token: Header | None = None
        if visit is not None:
            failed = status[:1] == "5" and not self._middleware._save_on_error  # noqa: SLF001 # its own half
            self._token = self._middleware._engine.commit(  # noqa: SLF001 # its own half
                visit,
                failed=failed,
                refreshable=not is_public(headers),
                final=phase is Phase.OVER,
            )
        enter_phase(self._session, phase)
        self._begun = True
        finished = self._finished(headers)
        self._exc_info = None
        try:
            if exc_info is None:
                self._write = self._start(status, finished)
            else:
                self._write = self._start(status, finished, exc_info)
        finally:
            exc_info = None

    def _finished(self, headers: Sequence[Header]) -> list[Header]:
        if visit_of(self._session) is None:
            return list(headers)
        middleware = self._middleware
        finished = finish(
            headers,
            vary=middleware._vary,  # noqa: SLF001 # its own half
            cookie_name=self._transport.name,
            token=self._token,
        )
        if finished.foreign_cookies:
            middleware._events.explain(  # noqa: SLF001 # its own half
                "foreign-cookie",
                f"The app set a cookie {self._transport.name!r} itself; it was dropped, because"
                " that is the session's cookie. Give one of the two another name.",
            )
        if finished.was_public:
            middleware._events.explain(  # noqa: SLF001 # its own half
                "public-response",
                "A response that the app marked as cacheable for all sets the session cookie, so"
                " its Cache-Control was replaced by no-store. Don't use the session on public"
                " pages.",
            )
        return finished.headers

    def abandon(self) -> None:
        """The app failed before anything was sent."""
        self._settle(raised=True)

    def finish(self, *, raised: bool) -> None:
        """The response is complete, or was broken off."""
        if self._begun:
            self._settle(raised=raised)
        else:
            self.abandon()

    def _settle(self, *, raised: bool) -> None:
        visit = visit_of(self._session)
        enter_phase(self._session, Phase.OVER)
        if visit is None:
            return
        # A new ID can't be handed out any more, so it isn't made.
        failed = raised and (not self._middleware._save_on_error or visit.new_id)  # noqa: SLF001 # its own half
        if not raised:
            self._middleware._engine.commit(visit, failed=failed, cookie_possible=False)  # noqa: SLF001 # its own half
            return
        try:
            self._middleware._engine.commit(visit, failed=failed, cookie_possible=False)  # noqa: SLF001 # its own half
        except (SessionError, TypeError):
            # The app's own exception is on its way to the server, which must see that one; this
            # one was reported as an event.
            return

    def unavailable(self, error: StoreError) -> Iterable[bytes]:
        """The answer when the store failed and the app didn't handle it."""
        if self._begun:
            raise error
        self._begun = True
        visit = visit_of(self._session)
        enter_phase(self._session, Phase.OVER)
        self._token = None
        if visit is not None:
            self._token = self._middleware._engine.commit(visit, failed=True)  # noqa: SLF001 # its own half

        def start(
            status: str, headers: list[Header], exc_info: ExcInfo | None = None
        ) -> Callable[[bytes], object]:
            finished = self._finished(headers)
            return (
                self._start(status, finished)
                if exc_info is None
                else self._start(status, finished, exc_info)
            )

        return self._middleware._on_store_error(self._environ, start, error)  # noqa: SLF001 # its own half


class _Stream:
    """Any other iterable: the session is committed at its first chunk that isn't empty."""

    __slots__ = ("_body", "_closed", "_exchange", "_iterator", "_raised")

    def __init__(self, exchange: _Exchange, body: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._raised = self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
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
            self._iterator = iter(exchange.unavailable(error))
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


def close(body: object) -> None:
    """Call the body's close(), if it has one (PEP 3333)."""
    closing = getattr(body, "close", None)
    if closing is not None:
        closing()


def _now() -> float:
    # Looked up at each use, so that a test which replaces time.time is heard.
    return time.time()


def _answer_503(
    environ: WSGIEnvironment, start_response: StartResponse, error: StoreError
) -> Iterable[bytes]:
    del error  # what went wrong is in the log; a client learns nothing of the store
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


def _check_callable(name: str, value: object) -> None:
    if not callable(value):
        raise ConfigurationError(f"SessionMiddleware: {name} is {value!r}; it must be callable")


def _check_environ_key(key: object) -> str:
    if not isinstance(key, str) or not key or key.startswith("HTTP_") or key == CLIENT_KEY:
        raise ConfigurationError(
            f"SessionMiddleware: environ_key is {key!r}; write a str such as {DEFAULT_KEY!r} that"
            " no request header can set"
        )
    return key


def _check_store(store: object) -> tuple[Any, bool]:
    if store is None:
        return MemoryStore(), True
    if isinstance(store, str):
        return store_from_url(store), False
    missing = [name for name in _STORE_METHODS if not callable(getattr(store, name, None))]
    if missing or isinstance(store, type):
        raise ConfigurationError(
            f"SessionMiddleware: store is {store!r}; give a Store, such as MemoryStore() or"
            " FileStore('var/sessions'), or a URL, such as 'redis://localhost'"
            + (f" (it lacks {', '.join(missing)})" if 0 < len(missing) < 5 else "")
        )
    return store, False


def _check_codec(codec: Codec | None) -> Codec:
    if codec is None:
        return JSONCodec()
    if not callable(getattr(codec, "encode", None)) or not callable(getattr(codec, "decode", None)):
        raise ConfigurationError(
            f"SessionMiddleware: codec is {codec!r}; give an object with encode(value) -> bytes"
            " and decode(bytes) -> value"
        )
    return codec


def _check_count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"SessionMiddleware: {name} is {value!r}; write an int from 1 up")
    return value


def _check_when_full(value: object) -> bool:
    if value not in ("end_oldest", "refuse"):
        raise ConfigurationError(
            f"SessionMiddleware: when_full is {value!r}; write 'end_oldest' or 'refuse'"
        )
    return value == "refuse"


def _check_label(label: object) -> frozenset[str]:
    if label is None:
        return frozenset()
    given = None if isinstance(label, str) or not isinstance(label, Collection) else [*label]
    if given is None or not all(part in _LABEL_PARTS for part in given):
        raise ConfigurationError(
            f"SessionMiddleware: label is {label!r}; write None, or a tuple of 'ip' and"
            " 'user_agent'"
        )
    return frozenset(given)


def _check_client_side(rotate_after: object, max_per_owner: object, keys: object) -> None:
    for name, value, instead in (
        ("rotate_after", rotate_after, "the cookie is new with every change anyway"),
        ("max_per_owner", max_per_owner, "the server can't count what clients hold"),
        ("encryption_keys", keys, "ClientSideStore encrypts by itself, under secret_key"),
    ):
        if value:
            raise ConfigurationError(
                f"SessionMiddleware: {name} is of no use with ClientSideStore; leave it out"
                f" ({instead})"
            )


def _sealed(store: Store, keys: object, *, migrate: bool) -> Store:
    from .sealing import SealedStore, check_keys  # noqa: PLC0415 # needs the extra [crypto]

    if isinstance(keys, (list, tuple)) and not keys:
        if migrate:
            raise ConfigurationError(
                "SessionMiddleware: encryption_migrate is True, but there are no encryption_keys;"
                " give them, or leave encryption_migrate out"
            )
        return store
    return SealedStore(store, check_keys(keys), migrate=migrate)
