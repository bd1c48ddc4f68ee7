"""The two requests that the browser makes by itself: registering its key, and refreshing.

Each decision is a function of what was sent and what the store knows; `answer` alone asks the
engine, through `BoundSessions`. What Chromium does with a status decides which one is sent:

    200 and a cookie   it goes on
    403 and challenge  it signs that, and asks again
    any other 4xx      it ends its binding: never for what may be different a moment later
    5xx                it keeps its binding, and tries again with its next request
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

from ..errors import StoreError
from . import protocol
from .binder import Binder, Header
from .binding import Binding, is_cross_site, may_bind
from .keys import DeviceKey
from .proofs import Proof, is_signed_by, new_key, read_proof, unquoted

Route = Literal["register", "refresh"]

_HANDLE = re.compile(r"[0-9a-f]{64}")
_ATTEMPTS = 5
_RETRY_AFTER = 10


class BoundState(NamedTuple):
    """What the store knows about one live session."""

    binding: Binding | None
    has_owner: bool


class BoundSessions(Protocol):
    """What the routes need of the engine; made for one request."""

    def find(self, handle: str) -> BoundState | None:
        """The live session of this handle, by one load; None if the store says that it is gone.

        Raises:
            StoreError: the store can't say.
        """
        ...

    def bind(self, handle: str, binding: Binding) -> bool:
        """Put the binding into the notes of the session that `find` gave last.

        A conditional update: False, and nothing changed, if the session was changed or ended since.

        Raises:
            StoreError: the store can't say.
        """
        ...


class RouteRequest(NamedTuple):
    """What the browser sent, unchecked."""

    route: Route
    script_name: str
    proof: str | None
    """Secure-Session-Response."""
    identifier: str | None
    """Sec-Secure-Session-Id."""
    fetch_site: str | None
    """Sec-Fetch-Site."""
    handles: tuple[str, ...]
    """Of the session cookies that came along and that we signed; coming from another site, there
    may be none."""


class Answer(NamedTuple):
    """The response to send."""

    status: str
    headers: list[Header]
    body: bytes
    bound: str | None = None
    """The handle of the session that was bound by this, for the event ``device_bound``."""


def route_of(binder: Binder, environ: Mapping[str, Any]) -> Route | None:
    """Which of the two routes a request is for; None: it is the app's."""
    if environ.get("REQUEST_METHOD") != "POST":
        return None
    path = environ.get("PATH_INFO", "")
    base = binder.settings.path
    # Rules out nearly all requests by one comparison.
    if not path.startswith(base):
        return None
    if path == base + protocol.REGISTER:
        return "register"
    return "refresh" if path == base + protocol.REFRESH else None


def read_request(
    route: Route, environ: Mapping[str, Any], handles: tuple[str, ...]
) -> RouteRequest:
    """What the environ holds for a route; ``handles``: see `RouteRequest`."""
    return RouteRequest(
        route,
        environ.get("SCRIPT_NAME", ""),
        environ.get("HTTP_SECURE_SESSION_RESPONSE"),
        environ.get("HTTP_SEC_SECURE_SESSION_ID"),
        environ.get("HTTP_SEC_FETCH_SITE"),
        handles,
    )


def answer(binder: Binder, request: RouteRequest, sessions: BoundSessions, now: float) -> Answer:
    """Answer one of the two requests; never raises for what was sent, nor for a store that fails.

    Args:
        binder: of the cookie that this request's site has.
        request: what was sent.
        sessions: the engine.
        now: UNIX seconds.
    """
    if is_cross_site(request.fetch_site):
        return _refused("403 Forbidden", "This route is not for other sites.")
    try:
        if request.route == "register":
            return _register(binder, request, sessions, now)
        return _refresh(binder, request, sessions, now)
    except StoreError:
        # Never a 4xx: the browser would end its binding, and the user be locked out.
        return _unavailable()


class _Registration(NamedTuple):
    """A registration that is valid by itself, before any session is looked at."""

    handle: str
    key: DeviceKey


def _register(binder: Binder, request: RouteRequest, sessions: BoundSessions, now: float) -> Answer:
    wanted = _read_registration(binder, request, now)
    if isinstance(wanted, Answer):
        return wanted
    # Other requests of the session may change it at the same time: the page that was asked for
    # together with this, for one. A sign-out among them wins.
    for _ in range(_ATTEMPTS):
        state = sessions.find(wanted.handle)
        if state is None or not state.has_owner:
            return _refused("403 Forbidden", "The session is not signed in any more.")
        if not may_bind(state.binding, now, binder.grace):
            return _refused("403 Forbidden", "The session is bound already.")
        if sessions.bind(wanted.handle, Binding(wanted.key, int(now), pending=True)):
            headers = [binder.set_cookie(wanted.handle, now=now)]
            body = _instructions(binder, wanted.handle, request.script_name)
            return _json(body, headers, bound=wanted.handle)
    return _unavailable()


def _read_registration(binder: Binder, request: RouteRequest, now: float) -> _Registration | Answer:
    """What is to be bound. The cheap checks come first, so that a flood costs an HMAC apiece."""
    proof = read_proof(request.proof) if request.proof is not None else None
    if proof is None:
        return _refused("400 Bad Request", "There is no well-formed proof.")
    handle = binder.register_challenges.handle_of(proof.challenge, now)
    if handle is None:
        return _refused("403 Forbidden", "The challenge is unknown or too old.")
    if _is_of_another(request.handles, handle):
        return _refused("403 Forbidden", "The challenge is another session's.")
    key = new_key(proof)
    if key is None:
        return _refused("403 Forbidden", "The key is refused, or did not sign the proof.")
    return _Registration(handle, key)


def _refresh(binder: Binder, request: RouteRequest, sessions: BoundSessions, now: float) -> Answer:
    handle = unquoted(request.identifier or "")
    if not _HANDLE.fullmatch(handle):
        return _refused("400 Bad Request", "There is no well-formed session identifier.")
    proof = read_proof(request.proof) if request.proof is not None else None
    if request.proof is not None and proof is None:
        return _refused("400 Bad Request", "There is no well-formed proof.")
    state = sessions.find(handle)
    if state is None:
        return _json(protocol.ending(handle), [])
    if _is_of_another(request.handles, handle):
        # Its second cookie would take the place of the present session's.
        return _refused("400 Bad Request", "The browser has another session now.")
    if state.binding is None:
        return _refused("400 Bad Request", "The session is not bound.")
    next_challenge = binder.refresh_challenges.issue(handle, now)
    headers = [protocol.challenge(handle, next_challenge)]
    if proof is None or not _is_proof_of(binder, proof, handle, state.binding.key, now):
        return _refused("403 Forbidden", "Sign the challenge.", headers)
    headers.append(binder.set_cookie(handle, now=now))
    return _json(_instructions(binder, handle, request.script_name), headers)


def _is_proof_of(binder: Binder, proof: Proof, handle: str, key: DeviceKey, now: float) -> bool:
    named = binder.refresh_challenges.handle_of(proof.challenge, now)
    return named == handle and is_signed_by(proof, key)


def _is_of_another(handles: tuple[str, ...], handle: str) -> bool:
    return bool(handles) and handle not in handles


def _instructions(binder: Binder, handle: str, script_name: str) -> dict[str, Any]:
    return protocol.instructions(binder.settings, binder.second_cookie, handle, script_name)


def _json(value: dict[str, Any], headers: list[Header], bound: str | None = None) -> Answer:
    return _answer("200 OK", "application/json", protocol.to_json(value), headers, bound)


def _refused(status: str, why: str, headers: list[Header] | None = None) -> Answer:
    body = f"{why}\n".encode("ascii")
    return _answer(status, "text/plain; charset=utf-8", body, headers or [])


def _unavailable() -> Answer:
    body = b"The service is temporarily unavailable. Please try again in a moment.\n"
    retry = [("Retry-After", str(_RETRY_AFTER))]
    return _answer("503 Service Unavailable", "text/plain; charset=utf-8", body, retry)


def _answer(
    status: str, media_type: str, body: bytes, headers: list[Header], bound: str | None = None
) -> Answer:
    common = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    return Answer(status, common + headers, body, bound)
