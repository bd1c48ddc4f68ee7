"""Pyramid: ``config.include("wsgi_sessions.pyramid")`` makes ``request.session`` ours.

Options are settings that begin with ``wsgi_sessions.``, as text from an .ini file or as objects. A
tween opens the session first; a request that no tween sees (a subrequest, say) opens its session at
first use. Either commits it after the last response callback. Nothing else in this package imports
Pyramid.
"""

# Pyramid has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from pyramid.interfaces import ISession
from pyramid.response import FileResponse, Response
from pyramid.settings import falsey, truthy
from pyramid.threadlocal import manager
from pyramid.tweens import INGRESS
from zope.interface import implementer

from ._options import closest
from ._values import value
from .cookie import Cookie
from .engine.decisions import CookieStep
from .errors import ConfigurationError, StoreError
from .http.exchange import close
from .http.response_headers import finish, names_of, without_token
from .http.transport import environ_key
from .integration import Answer, Integration, SessionStream
from .lifetime import Lifetime
from .middleware import SessionMiddleware
from .proxies import CLIENT_KEY
from .session import Session, state_of, transport_of

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.registry import Registry
    from pyramid.request import Request

    from .engine import SessionState
    from .http.transport import Environ, Header, Transport

PREFIX = "wsgi_sessions."
REGISTRY_KEY = "wsgi_sessions"
"""The key of the Integration in the application registry."""
_TOLD_KEY = "wsgi_sessions.pyramid.told"
"""In the environ: what the responses of subrequests tell, in the order of their commits."""
_SCHEME = "wsgi.url_scheme"
_CSRF_KEY = "_csrft_"
"""Pyramid's own name, which is the default of ``SessionCSRFStoragePolicy``."""


@implementer(ISession)  # pyright: ignore[reportUntypedClassDecorator] # zope.interface has no types
class PyramidSession(Session):
    """A Session that also has what Pyramid expects of one."""

    _scheme: object = None
    """By which its cookie travels, if that isn't the scheme of its environ."""

    @property
    def created(self) -> int:
        """When the session was created. UNIX seconds."""
        return int(self.created_at.timestamp())

    @property
    def new(self) -> bool:
        """Pyramid's name for `is_new`: it has not been stored yet."""
        return self.is_new

    def invalidate(self) -> None:
        """Pyramid's name for `destroy`: what is written afterwards begins a new session."""
        self.destroy()

    def changed(self) -> None:
        """Does nothing: changes inside values are noticed by themselves."""

    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Keep a message until it is popped."""
        messages = self.setdefault(f"_f_{queue}", [])
        if allow_duplicate or msg not in messages:
            messages.append(msg)

    def pop_flash(self, queue: str = "") -> list[Any]:
        """Remove and return the messages of a queue; of concurrent requests only one gets them."""
        key = f"_f_{queue}"
        if key not in self:
            return []
        if self._engine.in_token or self.is_new or self.modified:
            # A take() commits what is pending, too, which is for the end of the request to do.
            return cast("list[Any]", self.pop(key))
        return cast("list[Any]", self.take(key, []))

    def peek_flash(self, queue: str = "") -> list[Any]:
        """The messages of a queue, which stay."""
        return cast("list[Any]", self.get(f"_f_{queue}", []))

    def new_csrf_token(self) -> str:
        """A new CSRF token for this session."""
        token = self[_CSRF_KEY] = secrets.token_hex(32)
        return token

    def get_csrf_token(self) -> str:
        """The CSRF token of this session; a new one if there is none."""
        token = self.get(_CSRF_KEY)
        return self.new_csrf_token() if token is None else cast("str", token)

    def _begin(self) -> SessionState:
        if self._scheme is not None and self._environ:
            self._environ = {**self._environ, _SCHEME: self._scheme}
        return super()._begin()

    def _look_again(self, environ: Environ) -> None:
        """Look in this environ for a session in place of one that was ended, and not begun anew."""
        state = self._state
        # A token that is the session itself outlives its end.
        ended = state is not None and state.cookie is CookieStep.EXPIRE
        if not ended or self.modified or self._engine.in_token:
            return
        self._state, self._begun, self._environ = None, [], environ


def _of_outer(name: str) -> Any:
    return property(
        lambda self: getattr(self.outer, name), lambda self, value: setattr(self.outer, name, value)
    )


class _OuterSession(PyramidSession):
    """The session of a middleware around the app, with what Pyramid expects of one besides.

    All that it is made of is the other's: they are one session.
    """

    _engine = _of_outer("_engine")
    _environ = _of_outer("_environ")
    _transport = _of_outer("_transport")
    _begun = _of_outer("_begun")
    _state = _of_outer("_state")
    _phase = _of_outer("_phase")

    def __init__(self, outer: Session | None) -> None:
        self.outer = outer


def includeme(config: Configurator) -> None:
    """Called by ``config.include("wsgi_sessions.pyramid")``.

    Raises:
        ConfigurationError: a setting is wrong, or there is no secret key.
    """
    registry: Any = config.registry
    options = options_from(registry.settings, config.maybe_dotted)
    steps = Integration(PyramidSession, any_path=True, **options)
    registry[REGISTRY_KEY] = steps
    config.set_session_factory(_Factory(steps))

    def add_tween() -> None:
        config.add_tween(f"{__name__}.session_tween_factory", under=INGRESS)

    # After those of the app, and so outermost: whatever they change in the session is kept.
    config.action(None, add_tween)


def options_from(
    settings: Mapping[str, Any], resolve: Callable[[Any], Any] = lambda name: name
) -> dict[str, Any]:
    """The options of SessionMiddleware in an app's settings.

    Args:
        settings: all settings of the app.
        resolve: turns the dotted name of an object into the object.

    Raises:
        ConfigurationError: for unknown names, and text that can't be understood.
    """
    found = {
        name.removeprefix(PREFIX): value
        for name, value in settings.items()
        if name.startswith(PREFIX)
    }
    options: dict[str, Any] = {}
    for whole, parts_of in (("cookie", Cookie), ("lifetime", Lifetime)):
        parts = {
            name.partition(".")[2]: _read(name, found.pop(name))
            for name in list(found)
            if name.startswith(f"{whole}.")
        }
        if not parts:
            continue
        if whole in found:
            raise ConfigurationError(
                f"settings: there is {PREFIX}{whole} and {PREFIX}{whole}.{next(iter(parts))};"
                " write one or the other"
            )
        _check_names(f"{whole}.", parts, [field.name for field in fields(parts_of)])
        options[whole] = parts_of(**parts)
    _check_names("", found, [*_allowed()])
    for name, given in found.items():
        options[name] = _resolved(name, given, resolve) if name in _DOTTED else _read(name, given)
    if "secret_key" not in options:
        raise ConfigurationError(
            f"settings: there is no {PREFIX}secret_key; write one (make it with"
            " `python -m wsgi_sessions secret`)"
        )
    return options


_FLAGS = frozenset(
    {"save_uninitialized", "rolling", "save_on_error", "encryption_migrate"}
    | {"cookie.httponly", "cookie.partitioned", "cookie.persistent", "cookie.secure"}
)
_NUMBERS = frozenset(
    {"trusted_proxies", "touch_interval", "rotate_after", "max_bytes", "max_per_owner"}
    | {"lifetime.idle", "lifetime.absolute"}
)
_DOTTED = frozenset({"id_factory", "clock", "codec", "on_event", "on_store_error", "passive"})
_NONE = frozenset({"none", ""})


def _resolved(name: str, value: Any, resolve: Callable[[Any], Any]) -> Any:
    """What a dotted name stands for; "none" is None."""
    if isinstance(value, str) and value.strip().lower() in _NONE:
        return None
    try:
        return resolve(value)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"settings: {PREFIX}{name} names nothing that can be imported ({error}); write a dotted"
            " name, such as shop.sessions.clock, or none"
        ) from error


def _allowed() -> list[str]:
    names = inspect.signature(SessionMiddleware.__init__).parameters
    return [name for name in names if name not in ("self", "app")]


def _check_names(where: str, given: Mapping[str, Any], allowed: list[str]) -> None:
    for name in given:
        if name not in allowed:
            near = closest(name, allowed)
            hint = f"write {PREFIX}{where}{near}" if near else f"there are {', '.join(allowed)}"
            raise ConfigurationError(f"settings: there is no {PREFIX}{where}{name}; {hint}")


def _read(name: str, value: Any) -> Any:
    """The value of an option; text as an .ini file has it means what it says."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if name in _FLAGS:
        word = text.lower()
        # Where it is neither, the option itself says what is allowed: cookie.secure may be "auto".
        return word in truthy if word in truthy or word in falsey else text
    if name in _NUMBERS:
        return None if text.lower() in _NONE else _number(name, text)
    if name == "label":
        return None if text.lower() in _NONE else text.replace(",", " ").split()
    if name == "secret_key":
        lines = text.splitlines()
        return [line.strip() for line in lines] if len(lines) > 1 else text
    if name in ("cookie.domain", "token_header") and text.lower() in _NONE:
        return None
    if name == "store" and text.lower() == "none":
        return None
    return text


def _number(name: str, text: str) -> int | float:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        raise ConfigurationError(f"settings: {PREFIX}{name} is {text!r}; write a number") from None


@value
class _Told:
    """What a subrequest's response tells the browser about the session of that subrequest."""

    header: Header
    transport: Transport
    is_own: bool
    """Whether that session was looked for by the very tokens that the outer request came with."""


def _outer_environs(request: Request) -> list[Environ]:
    """Those of the requests that this one is a subrequest of, the browser's first."""
    requests = [frame["request"] for frame in manager.stack]
    # An app of its own within this one has sessions of its own. What `pyramid.scripting.prepare`
    # puts there has no response that could reach a browser, and can't invoke subrequests.
    return [
        cast("Environ", outer.environ)
        for outer in requests
        if outer is not request
        and getattr(outer, "registry", None) is request.registry
        and hasattr(outer, "invoke_subrequest")
    ]


def _browsers_environ(request: Request) -> Environ | None:
    """That of the request whose response will reach the browser, if this one is part of it."""
    outer = (environ for environ in _outer_environs(request) if CLIENT_KEY in environ)
    return next(outer, None)


def _tokens(transport: Transport, headers: list[Header]) -> list[Header]:
    """Those of the headers that set or end a token of ours."""
    others = without_token(headers, transport.carrier, transport.name)
    return [header for header in headers if header not in others]


def _note_told(
    steps: Integration, request: Request, transport: Transport, headers: list[Header]
) -> None:
    """Let the requests that this one is a subrequest of know what its response tells."""
    presented = transport.candidates(request.environ).values
    for header in _tokens(transport, headers):
        for outer in _outer_environs(request):
            is_own = bool(presented) and transport.candidates(outer).values == presented
            told = cast("list[_Told]", outer.setdefault(_TOLD_KEY, []))
            told.append(_Told(header, transport, is_own))
            if is_own:
                _hand_on(steps, outer, transport, header)


def _hand_on(steps: Integration, environ: Environ, transport: Transport, header: Header) -> None:
    """Put the token that a subrequest's response sets in place of the one that it has replaced.

    So that it isn't by a dead one that a session is looked for later in the outer request.
    """
    name = transport.name
    token = header[1].partition(";")[0].removeprefix(f"{name}=")
    session = steps.open_session(environ) if steps.is_open(environ) else None
    if not token or not isinstance(session, (PyramidSession, NoneType)):
        return
    if transport.carrier == "set-cookie":
        pairs = str(environ["HTTP_COOKIE"]).split(";")
        others = [pair for pair in pairs if pair.partition("=")[0].strip() != name]
        environ["HTTP_COOKIE"] = ";".join([f"{name}={token}", *others])
    else:
        environ[environ_key(name)] = token
    if session is not None:
        session._look_again(environ)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # ours


def _told(
    environ: Environ, transport: Transport, headers: list[Header]
) -> tuple[Header | None, list[Header]]:
    """What subrequests have told this request's browser last, and the headers without such.

    That is in the headers, if the app passes it on. If it is about the browser's own session, the
    browser needs it whatever the app passes on.
    """
    name = transport.carrier, transport.name
    noted = cast("list[_Told]", environ.get(_TOLD_KEY, []))
    noted = [each for each in noted if (each.transport.carrier, each.transport.name) == name]
    if not noted:
        return None, headers
    news: Header | None = None
    for each in noted:
        if each.header in headers or each.is_own:
            news = each.header
    known = [each.header for each in noted]
    return news, [header for header in headers if header not in known]


def _tell(
    steps: Integration, transport: Transport, headers: list[Header], news: Header
) -> list[Header]:
    """The headers with this token, and no other."""
    token = transport.carrier, transport.name
    vary = steps._answers.vary  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # a side door
    return finish(headers, names_of(headers), vary, token, (news,)).headers


class _Factory:
    """Pyramid's session factory."""

    def __init__(self, steps: Integration) -> None:
        self._steps = steps

    def __call__(self, request: Request) -> PyramidSession:
        steps = self._steps
        if not steps.is_open(request.environ):
            # No tween of ours has seen this request.
            _enter(request)
            _open(steps, request)
        session = steps.open_session(request.environ)
        return session if isinstance(session, PyramidSession) else _OuterSession(session)


def session_tween_factory(
    handler: Callable[[Request], Response], registry: Registry
) -> Callable[[Request], Response]:
    """Makes the tween that opens each request's session."""
    steps = cast("Integration", registry[REGISTRY_KEY])

    def session_tween(request: Request) -> Response:
        environ = request.environ
        if not steps.is_open(environ):
            _enter(request)
            device = steps.answer_device(environ)
            if device is not None:
                return Response(device.body, device.status, device.headers)
            _open(steps, request)
        elif _commit not in _callbacks(request):
            response = handler(request)
            if not isinstance(steps.open_session(environ), PyramidSession):
                # A middleware further out is responsible for it, and sees no more than this.
                try:
                    _raise_failure(request, response)
                except StoreError:
                    close(response.app_iter)
                    raise
            return response
        try:
            return handler(request)
        except StoreError as error:
            answer = _failed(request, error, [])
            return Response(answer.body, answer.status, answer.headers)

    return session_tween


def _enter(request: Request) -> None:
    """Have a subrequest come from the client whose request it is part of."""
    browsers = _browsers_environ(request)
    if browsers is not None:
        request.environ.setdefault(CLIENT_KEY, browsers[CLIENT_KEY])


def _open(steps: Integration, request: Request) -> None:
    environ = request.environ
    session = cast("PyramidSession", steps.open_session(environ))
    browsers = _browsers_environ(request)
    if browsers is not None:
        # Its own scheme is that of the URLs that it makes, http if nobody has said otherwise.
        session._scheme = browsers[_SCHEME]  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # ours
    # The first of the callbacks sees what the others do, whenever they are added.
    _callbacks(request).appendleft(_commit)
    # Where an exception ends the request, nothing commits it.
    request.add_finished_callback(_discard)


def _callbacks(request: Request) -> deque[Callable[[Request, Response], object]]:
    """The response callbacks that haven't been called yet."""
    callbacks: deque[Callable[[Request, Response], object]] = cast(
        "Any", request
    ).response_callbacks
    return callbacks


def _steps_of(request: Request) -> Integration:
    return cast("Integration", request.registry[REGISTRY_KEY])


def _is_changed(session: Session) -> bool:
    """Whether the request itself has done more to its session than look at it."""
    state = state_of(session)
    if state is None:
        return False
    ends = state.emptied or state.cookie is CookieStep.EXPIRE
    return ends or session.modified or state.cookie is CookieStep.SET


def _transport_of(steps: Integration, request: Request) -> Transport:
    return transport_of(cast("Session", steps.open_session(request.environ)))


def _discard(request: Request) -> None:
    steps, environ = _steps_of(request), request.environ
    if steps.is_open(environ) and not steps.is_streaming(environ):
        transport = _transport_of(steps, request)
        steps.finish_session(environ, failed=True)
        _note_told(steps, request, transport, steps.discard_session(environ))
    # An environ that is used again has other subrequests.
    environ.pop(_TOLD_KEY, None)


def _raise_failure(request: Request, response: Response) -> None:
    """Raise the StoreError that the app has let through, and that became a 500."""
    failure = getattr(request, "exception", None)
    if isinstance(failure, StoreError) and response.status_code == 500:
        raise failure


def _failed(request: Request, error: StoreError, headers: list[Header]) -> Answer:
    """The answer in place of a response with these headers, when the store failed."""
    # As after any exception; nor could they use the session.
    _callbacks(request).clear()
    steps, environ = _steps_of(request), request.environ
    transport = _transport_of(steps, request)
    news, _ = _told(environ, transport, headers)
    answer = steps.answer_failure(environ, error)
    if news is not None and not _tokens(transport, answer.headers):
        answer = answer._replace(headers=_tell(steps, transport, answer.headers, news))
    _note_told(steps, request, transport, answer.headers)
    return answer


def _run_others(request: Request, response: Response) -> None:
    callbacks = _callbacks(request)
    while callbacks:
        callback = callbacks.popleft()
        if callback is not _commit:
            callback(request, response)


def _commit(request: Request, response: Response) -> None:
    """A response callback: has all others run, and then commits the session.

    It puts into the response what that takes.
    """
    # So that a subscriber to NewResponse, which comes too late, doesn't open another one.
    request.session  # noqa: B018
    steps, environ = _steps_of(request), request.environ
    try:
        _run_others(request, response)
        _raise_failure(request, response)
        body = response.app_iter
        streaming = not isinstance(body, (list, tuple)) and not isinstance(response, FileResponse)
        stream = SessionStream(body, lambda failed: steps.finish_session(environ, failed=failed))
        if streaming and request.method != "HEAD":
            stream.begin()
        finished = _committed(steps, request, response, streaming=streaming)
    except StoreError as error:
        close(response.app_iter)
        answer = _failed(request, error, response.headerlist)
        response.status, response.headerlist = answer.status, answer.headers
        response.body = answer.body
        return
    except BaseException:
        close(response.app_iter)
        raise
    response.headerlist = finished
    if streaming:
        response.app_iter = stream


def _committed(
    steps: Integration, request: Request, response: Response, *, streaming: bool
) -> list[Header]:
    """The headers of the response, after the commit."""
    environ = request.environ
    session = cast("Session", steps.open_session(environ))
    transport = transport_of(session)
    news, headers = _told(environ, transport, response.headerlist)
    changed = news is not None and _is_changed(session)
    finished = steps.commit_session(
        environ, status=response.status, headers=headers, streaming=streaming
    )
    # It is the last to have changed the browser's session whose token is the right one.
    if news is not None and not (changed and _tokens(transport, finished)):
        finished = _tell(steps, transport, finished, news)
    _note_told(steps, request, transport, finished)
    return finished
