"""SessionMiddleware: all settings in one place, and the way into a request.

All checking and all that can be built beforehand happens when it is made; a request then only
looks things up. `http.exchange` holds the response back until the session is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

from . import advice
from ._options import check_flag, checked_options, seconds, seconds_or_none
from .checks import (
    DEFAULT_KEY,
    LABEL_PARTS,
    check_app,
    check_carry_over,
    check_client_side,
    check_clock,
    check_codec,
    check_count,
    check_device_binding,
    check_environ_key,
    check_functions,
    check_label,
    check_store,
    check_trusted_proxies,
    check_when_full,
    client_seal,
    sealed,
)
from .cookie import Cookie, path_matches, wsgi_path
from .crypto.session_id import Derivation, IDFactory, Rotation, new_id
from .crypto.signing import Secrets, check_secrets
from .data.codec import Codec
from .engine import Engine, EngineSettings, Response
from .engine.engine import IsPassive
from .engine.owners import Limits
from .engine.settings import CarryOver
from .errors import ConfigurationError, StoreError
from .events import EventSink, SessionEvent, as_listeners
from .http.exchange import AnswerSettings, Exchange, OnStoreError, answer_503, commit_for
from .http.transport import CookieTransport, Header, HeaderTransport, Transport, check_header_name
from .lifetime import Lifetime, as_text
from .proxies import CLIENT_KEY, PROXY_FIX_KEY, Client, read_own
from .session import Phase, Session, enter_phase, is_over, state_of
from .stores import MemoryStore, Store
from .stores.guarded import guarded

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .carry_over.source import Source
    from .device_binding import DeviceBinding
    from .device_binding.transport import BoundTransport
    from .proxies import TrustedProxies
    from .proxies.advice import ProxyAdvice
    from .registry import SessionRegistry

_COOKIE = Cookie()
_LIFETIME = Lifetime()

CookieChoice = Cookie | Callable[["WSGIEnvironment"], Cookie]
Listener = Callable[[SessionEvent], object]


@checked_options
class SessionMiddleware:
    """Gives any WSGI app sessions: ``environ["wsgi_sessions.session"]`` is a `Session`.

    Args:
        app: the WSGI app to wrap.
        secret_key: signs the session IDs; str or bytes of at least 32 bytes, or a list of them,
            newest first: the first signs, all verify.
        store: where sessions are kept: a Store, or a URL (``memory://``, ``file:///path``,
            ``redis://…``, ``postgresql://…`` and so on, see `stores.store_from_url`). None is a
            MemoryStore, with a warning where the server runs several processes.
        cookie: a Cookie, or a function that returns one for an environ, for apps that serve several
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
        rotate_after: seconds or timedelta after which a session automatically gets a new ID;
            None: never.
        max_bytes: the encoded size limit of one session.
        id_factory: makes session IDs; for tests.
        clock: returns UNIX seconds; None asks ``time.time()`` at each use.
        max_per_owner: how many sessions of one owner may live; None: any number.
        when_full: ``"end_oldest"`` ends the least recently used one after a login too many;
            ``"refuse"``, only with ``max_per_owner``, has the login raise TooManySessions.
        label: what is noted about the client when an owner is set: some of ``"ip"`` and
            ``"user_agent"``; None: nothing.
        token_header: the name of a header that carries the token instead of the cookie, for
            clients that have no cookies.
        encryption_keys: keys of 32 bytes each, newest first; what the store keeps is encrypted.
        encryption_migrate: True: plain records are still read, and encrypted at the next write.
        carry_over: other systems whose live sessions are carried over when their browsers come
            back: a list of sources from `wsgi_sessions.carry_over`.
        passive: a function that says of an environ whether that request doesn't count as use:
            polling, prefetching, background work.
        device_binding: DeviceBinding(…): sessions are bound to the user's device, in browsers that
            support it.
        on_event: called with every SessionEvent; one function or a list of them.
        on_store_error: answers when the store fails and the app doesn't handle it: called with
            environ, start_response and the StoreError, returns the body. None answers 503.
        environ_key: where the app finds the session.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    _session_class: type[Session] = Session
    _any_path: bool = False
    """Whether there is a session even on paths that the cookie's path doesn't cover."""

    store: Store
    """The store as it was given."""
    carry_over: tuple[Source, ...]
    """The systems whose sessions are carried over."""

    def __init__(  # a checklist of options, one after the other
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
        label: Collection[str] | None = LABEL_PARTS,
        token_header: str | None = None,
        encryption_keys: Sequence[bytes] = (),
        encryption_migrate: bool = False,
        carry_over: Sequence[Source] = (),
        passive: IsPassive | None = None,
        device_binding: DeviceBinding | None = None,
        on_event: Listener | Sequence[Listener] | None = None,
        on_store_error: OnStoreError | None = None,
        environ_key: str = DEFAULT_KEY,
    ) -> None:
        check_app(app)
        for name, flag in (
            ("save_uninitialized", save_uninitialized),
            ("rolling", rolling),
            ("save_on_error", save_on_error),
            ("encryption_migrate", encryption_migrate),
        ):
            check_flag("SessionMiddleware", name, flag)
        check_functions(
            id_factory=id_factory, clock=clock, on_store_error=on_store_error, passive=passive
        )
        secrets = check_secrets(secret_key)
        self.app = app
        self._environ_key = check_environ_key(environ_key)
        self.store = check_store(store)
        self._no_store = store is None
        self._warn_processes = isinstance(self.store, MemoryStore)
        if not isinstance(lifetime, Lifetime):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise ConfigurationError(
                f"SessionMiddleware: lifetime is {lifetime!r}; write"
                " Lifetime(idle=…, absolute=…) with timedeltas or seconds"
            )
        self._lifetime = lifetime
        proxies = self._proxies = check_trusted_proxies(trusted_proxies)
        self._rewrite: Callable[[WSGIEnvironment, TrustedProxies], Client] | None = None
        if proxies is not None:
            from .proxies import rewrite_environ  # noqa: PLC0415 # not every app has any

            self._rewrite = rewrite_environ
        own_clock = _now if clock is None else check_clock(clock)
        self._passive = passive
        self._listeners = as_listeners(on_event)
        self._events = EventSink(self._listeners, own_clock)
        limits = self._limits = Limits(lifetime.idle_seconds, lifetime.absolute_seconds)
        seal = client_seal(self.store, secrets)
        rotation_seconds = seconds_or_none(
            "SessionMiddleware", "rotate_after", rotate_after, "no rotation"
        )
        if seal is not None:
            check_client_side(rotate_after, max_per_owner, encryption_keys, carry_over)
        sources = self.carry_over = check_carry_over(carry_over)
        working_store = sealed(guarded(self.store), encryption_keys, migrate=encryption_migrate)
        working_store.subscribe(self._on_store_notice)
        self._encrypts, self._migrates = bool(encryption_keys), encryption_migrate
        self._id_factory = id_factory
        self._settings = EngineSettings(
            store=working_store,
            seal=seal,
            codec=check_codec(codec),
            limits=limits,
            clock=own_clock,
            ids=IDFactory(id_factory or new_id),
            events=self._events,
            touch_interval=seconds(
                "SessionMiddleware", "touch_interval", touch_interval, zero=True
            ),
            rotate_after=rotation_seconds,
            rotation=Rotation(secrets),
            max_bytes=check_count("max_bytes", max_bytes),
            max_per_owner=(
                None if max_per_owner is None else check_count("max_per_owner", max_per_owner)
            ),
            refuse_when_full=check_when_full(when_full, max_per_owner),
            label=check_label(label),
            save_uninitialized=save_uninitialized,
            rolling=rolling,
            carry_over=CarryOver(sources, Derivation(secrets)) if sources else None,
            binds_devices=device_binding is not None,
        )
        self._engine = Engine(self._settings, passive)
        self._secret_count = len(secrets)
        header = check_header_name(token_header)
        self._device_binding = check_device_binding(
            device_binding,
            client_side=seal is not None,
            header=header,
            cookie=cookie if isinstance(cookie, Cookie) else None,
        )
        self._token_header = header
        self._answers = AnswerSettings(
            engine=self._engine,
            events=self._events,
            vary=("Cookie",) if header is None else (header, "Cookie"),
            vary_header=("Vary", "Cookie" if header is None else f"{header}, Cookie"),
            save_on_error=save_on_error,
            on_store_error=on_store_error or answer_503,
        )
        self._cookie = cookie
        self._choose: Callable[[Cookie], _Site] | None = None
        if isinstance(cookie, Cookie):
            self._site = _Site(cookie, secrets, device_binding, self._environ_key, header)
            if proxies is not None and cookie.secure == "auto" and not proxies.proto:
                self._events.explain(
                    "proto-untrusted",
                    "Proxies are trusted, but not with the scheme (proto=0), so secure='auto' goes"
                    " by what the server says: behind a proxy that speaks TLS and passes requests"
                    " on as plain http, it never sets Secure. If yours does, set proto=1, or"
                    " secure=True.",
                )
        elif callable(cookie) and not isinstance(cookie, type):
            check_functions(cookie=cookie)
            # Bounded: a function might make a cookie from what the client sends.

            @lru_cache(maxsize=256)
            def choose(chosen: Cookie) -> _Site:
                return _Site(chosen, secrets, device_binding, self._environ_key, header)

            self._choose = choose
        else:
            raise ConfigurationError(
                f"SessionMiddleware: cookie is {cookie!r}; write Cookie(…), or a function that"
                " takes the environ and returns one"
            )

    @cached_property
    def registry(self) -> SessionRegistry:
        """The sessions in the store, by owner and by handle."""
        from .registry import SessionRegistry  # noqa: PLC0415 # not every app asks for it

        settings = self._settings
        return SessionRegistry(
            settings.store, clock=settings.clock, limits=settings.limits, events=settings.events
        )

    @cached_property
    def _proxy_advice(self) -> ProxyAdvice:
        from .proxies import TrustedProxies  # noqa: PLC0415 # not every app has any
        from .proxies.advice import ProxyAdvice  # noqa: PLC0415 # few requests need any

        return ProxyAdvice(self._events, self._proxies or TrustedProxies())

    def __repr__(self) -> str:
        return f"<SessionMiddleware {self._environ_key!r} on {type(self.store).__name__}>"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        key = self._environ_key
        if key in environ and not is_over(environ[key]):
            return self.app(environ, start_response)
        transport = self._enter(environ)
        if transport is None:
            return self.app(environ, start_response)
        if self._device_binding is not None:
            answer = self._engine.answer_device(environ, transport)
            if answer is not None:
                start_response(answer.status, answer.headers)
                return [answer.body]
        session = environ[key] = self._session_class(self._engine, environ, transport)
        exchange = Exchange(self._answers, environ, start_response, session, transport)
        file_wrapper = environ.get("wsgi.file_wrapper")
        if file_wrapper is not None and not isinstance(file_wrapper, type):
            environ["wsgi.file_wrapper"] = exchange.watched(file_wrapper)
        try:
            body = self.app(environ, exchange.start_response)
        except StoreError as error:
            exchange.abandon(error)
            return exchange.unavailable(error)
        except BaseException as error:
            exchange.abandon(error)
            raise
        finally:
            if file_wrapper is not None:
                # An environ that is used again is as it was.
                environ["wsgi.file_wrapper"] = file_wrapper
        if PROXY_FIX_KEY in environ:
            self._proxy_advice.look_back(environ, environ[CLIENT_KEY])
        return exchange.answer(body)

    def open_session(self, environ: WSGIEnvironment) -> Session | None:
        """Open the session of an environ outside of a WSGI call, for tests and jobs.

        It is put into the environ as in a request, and stays unsaved without `commit_session`.

        Returns:
            None where the cookie's path doesn't cover the environ's.
        """
        key = self._environ_key
        if key not in environ or is_over(environ[key]):
            transport = self._enter(environ)
            if transport is None:
                return None
            environ[key] = self._session_class(self._engine, environ, transport)
        session: Session = environ[key]
        return session

    def commit_session(
        self,
        environ: WSGIEnvironment,
        *,
        status: str = "200 OK",
        headers: Sequence[Header] = (),
        streaming: bool = False,
    ) -> list[Header]:
        """Commit what `open_session` opened, as a response of this status would.

        Its headers must reach the client: they may hold the only token that the session has from
        now on, after a rotation, say. Where there is no response, use ``session.save()``.

        Args:
            environ: the one that was given to `open_session`.
            status: of the response; if it says that the request failed, nothing is kept.
            headers: of the response.
            streaming: True: the app goes on to use the session while the body is sent, and
                `finish_session` commits what it changes then.

        Returns:
            ``headers``, and what the session adds to them (Set-Cookie, Vary, Cache-Control).

        Raises:
            LookupError: no session was opened.
            StoreError: the store can't keep it.
        """
        session = get_session(environ, self._environ_key)
        phase = Phase.STREAMING if streaming else Phase.OVER
        return commit_for(self._answers, environ, session, status, headers, phase)

    def finish_session(self, environ: WSGIEnvironment, *, failed: bool = False) -> None:
        """Commit what a stream changed after `commit_session` with ``streaming=True``.

        Also for a request that an exception has ended before its response was committed.

        Args:
            environ: the one that was given to `open_session`.
            failed: whether it ended with an exception; then nothing is kept, but with
                ``save_on_error`` what can be.

        Raises:
            LookupError: no session was opened.
            StoreError: the store can't keep it, and it hasn't failed.
        """
        session = get_session(environ, self._environ_key)
        state = state_of(session)
        enter_phase(session, Phase.OVER)
        if state is None:
            return
        kept = self._answers.save_on_error or not failed
        try:
            self._engine.commit(state, Response(failed=not kept, headers_sent=True))
        except Exception:
            self._engine.commit(state, Response(failed=True, headers_sent=True))
            # The exception that ended it is on its way already.
            if not failed:
                raise

    def discard_session(self, environ: WSGIEnvironment) -> list[Header]:
        """Discard what `open_session` opened: only what was already saved is kept.

        Returns:
            The headers that tell the client of what was saved, or ended, before.

        Raises:
            LookupError: no session was opened.
        """
        session = get_session(environ, self._environ_key)
        state, told = state_of(session), list[Header]()
        if state is not None:
            told.extend(self._engine.commit(state, Response(failed=True)))
        enter_phase(session, Phase.OVER)
        return told

    def _change_lifetime(self, lifetime: Lifetime) -> None:
        """Have another lifetime from now on, for frameworks that let an app set it at any time."""
        self._lifetime = lifetime
        self._limits.idle = lifetime.idle_seconds
        self._limits.absolute = lifetime.absolute_seconds

    def _enter(self, environ: WSGIEnvironment) -> Transport | None:
        """Find the client, and how its token travels; None if the cookie's path doesn't match."""
        proxies = self._proxies
        if proxies is not None and self._rewrite is not None:
            client = self._rewrite(environ, proxies)
            if not self._proxy_advice.settled:
                self._proxy_advice.look(environ, client)
        elif CLIENT_KEY not in environ:
            client = environ[CLIENT_KEY] = read_own(environ)
            if "HTTP_X_FORWARDED_PROTO" in environ or "HTTP_FORWARDED" in environ:
                self._proxy_advice.look(environ, client)
        if self._warn_processes and environ.get("wsgi.multiprocess"):
            self._explain_processes()
        site = self._site if self._choose is None else self._site_for(environ)
        transport: Transport = site.transport
        header = site.header
        if header is not None and header.environ_key in environ:
            transport = header
        elif not (
            self._any_path
            or site.everywhere
            or site.covers(environ)
            or self._engine.is_presented(environ, transport)
        ):
            return None
        bound = site.bound
        if bound is not None and bound is transport:
            bound.enter(environ)
        return transport

    def _site_for(self, environ: WSGIEnvironment) -> _Site:
        return self._site if self._choose is None else self._choose(self._chosen_cookie(environ))

    def _chosen_cookie(self, environ: WSGIEnvironment) -> Cookie:
        cookie = self._cookie(environ) if callable(self._cookie) else self._cookie
        if not isinstance(cookie, Cookie):  # pyright: ignore[reportUnnecessaryIsInstance] # the app's function may give anything
            raise ConfigurationError(
                f"SessionMiddleware: the cookie function gave {cookie!r}; return a Cookie"
            )
        return cookie

    def _explain_processes(self) -> None:
        self._warn_processes = False
        text = advice.NO_STORE if self._no_store else advice.MEMORY_STORE
        self._events.explain("several-processes", text, per_process=True)

    def _on_store_notice(self, kind: str, key: str, detail: str) -> None:
        if kind == "evicted":
            self._events.emit("destroyed", handle=key, detail=f"evicted: {detail}")
        else:
            self._events.emit(kind, handle=key, detail=detail)

    def describe(self) -> str:
        """The settings in force as text, one per line, without secrets."""
        settings, cookie = self._settings, self._cookie
        lines = {
            "store": repr(self.store),
            "cookie": repr(cookie) if isinstance(cookie, Cookie) else "chosen per request",
            "lifetime": as_text(self._lifetime),
            "touch_interval": self._described_interval(),
            "rotate_after": (
                "never" if settings.rotate_after is None else f"{settings.rotate_after:g} s"
            ),
            "trusted_proxies": "none" if self._proxies is None else repr(self._proxies),
            "device_binding": "no" if self._device_binding is None else repr(self._device_binding),
            "token_header": self._token_header or "none",
            "secret keys": f"{self._secret_count}",
            "encryption at rest": "yes" if self._encrypts else "no",
            "encryption_migrate": str(self._migrates),
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
            "save_on_error": str(self._answers.save_on_error),
            "passive": "none" if self._passive is None else _name_of(self._passive),
            "carry_over": ", ".join(map(_described, self.carry_over)) or "nothing",
            "on_event": ", ".join(map(_name_of, self._listeners)) or "none",
            "on_store_error": (
                "503"
                if self._answers.on_store_error is answer_503
                else _name_of(self._answers.on_store_error)
            ),
            "codec": type(settings.codec).__name__,
            "id_factory": "random" if self._id_factory is None else _name_of(self._id_factory),
            "clock": "the system's" if settings.clock is _now else _name_of(settings.clock),
            "environ_key": repr(self._environ_key),
        }
        return "\n".join(f"{name}: {value}" for name, value in lines.items())

    def _described_interval(self) -> str:
        asked, tenth = self._settings.touch_interval, self._limits.idle / 10
        return f"{asked:g} s" if asked <= tenth else f"{tenth:g} s, a tenth of the idle limit"


def get_session(environ: WSGIEnvironment, environ_key: str = DEFAULT_KEY) -> Session:
    """The session of this request.

    Raises:
        LookupError: if there is none: the app isn't wrapped, or the cookie's path doesn't cover
            the request's.
    """
    try:
        session: Session = environ[environ_key]
    except KeyError:
        others = [key for key, value in environ.items() if isinstance(value, Session)]
        hint = (
            f"a session is at {others[0]!r}, so write get_session(environ, {others[0]!r})"
            if others
            else "wrap the app in SessionMiddleware(app, secret_key=…), and see that"
            " Cookie(path=…) covers the path of this request"
        )
        raise LookupError(f"there is no {environ_key!r} in the environ; {hint}") from None
    return session


class _Site:
    """One Cookie with all that is made from it."""

    __slots__ = ("_path", "bound", "everywhere", "header", "transport")

    def __init__(
        self,
        cookie: Cookie,
        secrets: tuple[bytes, ...],
        binding: DeviceBinding | None,
        environ_key: str,
        header: str | None,
    ) -> None:
        self.header = None if header is None else HeaderTransport(header, secrets, cookie.name)
        script_key = f"{environ_key}.script_name"
        self.bound = None if binding is None else _bound(cookie, secrets, binding, script_key)
        self.transport: CookieTransport = self.bound or CookieTransport(cookie, secrets)
        if self.header is not None:
            self.header.other, self.transport.other = self.transport, self.header
        self.everywhere = cookie.path == "/"
        self._path = wsgi_path(cookie.path)

    def covers(self, environ: WSGIEnvironment) -> bool:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        return path_matches(self._path, path)


def _bound(
    cookie: Cookie, secrets: tuple[bytes, ...], binding: DeviceBinding, script_key: str
) -> BoundTransport:
    from .device_binding import Binder  # noqa: PLC0415 # few apps bind sessions to devices
    from .device_binding.transport import BoundTransport  # noqa: PLC0415 # few apps need it

    return BoundTransport(cookie, secrets, Binder(binding, cookie, secrets), script_key)


def _name_of(function: object) -> str:
    """Where a function, or an object that can be called, was written: its module and name."""
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    module: str | None = getattr(function, "__module__", None)
    return name if module is None else f"{module}.{name}"


def _described(source: Source) -> str:
    end = "without end"
    if source.until is not None:
        end = f"until {datetime.fromtimestamp(source.until, UTC):%Y-%m-%d %H:%M} UTC"
    old = "deletes" if source.delete_old else "keeps"
    return f"{source.name} (cookie {source.cookie!r}, {end}, {old} the old session)"


def _now() -> float:
    # Looked up at each use, so that it can be replaced in a test.
    return time.time()
