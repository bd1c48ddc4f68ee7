"""Events: what happens to sessions, for listeners and for the log.

Every event is one log line; lines of one kind are limited in number, events aren't. No session ID,
token, secret or value ever reaches either: a handle names the session.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from ._options import check_function

logger: logging.Logger = logging.getLogger("wsgi_sessions")

LINES_PER_MINUTE = 10
"""How many lines of one kind are logged per minute at most."""

_LONGEST = 200
_LONGEST_FAILURE = 1000
"""A store's own words, which no client chooses, end with what to do; so they are cut much later."""

_LEVELS = {
    "created": logging.DEBUG,
    "regenerated": logging.DEBUG,
    "rotated": logging.DEBUG,
    "destroyed": logging.DEBUG,
    "expired": logging.DEBUG,
    "carried_over": logging.INFO,
    "revoked": logging.INFO,
    "device_bound": logging.INFO,
    "unproven": logging.INFO,
    "old_secret": logging.INFO,
    "unknown_id": logging.INFO,
    "write_after_end": logging.INFO,
    "bad_signature": logging.WARNING,
    "cookie_conflict": logging.WARNING,
    "cookie_not_found": logging.WARNING,
    "retired_id_used": logging.WARNING,
    "corrupt_record": logging.WARNING,
    "insecure": logging.WARNING,
    "left_behind": logging.WARNING,
    "too_large": logging.WARNING,
    "store_error": logging.ERROR,
}
KINDS = frozenset(_LEVELS)
"""All kinds of events."""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """Something that happened to a session."""

    kind: str
    """One of `KINDS`."""
    handle: str | None
    """The session's public name; None where there is no session."""
    owner: str | None
    client_ip: str | None
    """The client's address, as the trusted proxies report it."""
    time: datetime
    """When it happened. Aware, UTC."""
    detail: str
    """More for humans: which limit, which operation. Text from the client is escaped."""


Listener = Callable[[SessionEvent], object]
_WANTED = "a function on_event(event) that takes a SessionEvent, a list of such functions, or None"


def as_listeners(value: object) -> tuple[Listener, ...]:
    """``on_event`` as given, as a tuple.

    Raises:
        ConfigurationError: if it is neither a function nor a list of them.
    """
    if value is None:
        return ()
    given = tuple(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else (value,)
    for listener in given:
        check_function("SessionMiddleware", "on_event", listener, 1, _WANTED)
    return cast("tuple[Listener, ...]", given)


def printable(text: str, limit: int = _LONGEST) -> str:
    """Text from outside, safe to log: one line, at most ``limit`` characters, no control sequences.

    Control characters, ANSI sequences and marks that change the writing direction are escaped
    (ASVS 5.0, 16.4.1).
    """
    cut = text[:limit]
    if not cut.isprintable():
        # Marks of writing direction count as not printable, like control characters.
        cut = "".join(char if char.isprintable() else _escaped(char) for char in cut)[:limit]
    return cut if len(text) <= limit else cut[: limit - 1] + "…"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


_explained_in_process: set[str] = set()


class EventSink:
    """Where events go: to the listeners, and to the log.

    Args:
        listeners: called with each event; one that raises is logged, and has no other effect.
        clock: gives UNIX seconds.
    """

    __slots__ = ("_clock", "_explained", "_listeners", "_lock", "_window")

    def __init__(self, listeners: tuple[Listener, ...], clock: Callable[[], float]) -> None:
        self._listeners = listeners
        self._clock = clock
        self._lock = threading.Lock()
        self._window: dict[str, tuple[float, int]] = {}
        self._explained: set[str] = set()

    def emit(
        self,
        kind: str,
        *,
        handle: str | None = None,
        owner: str | None = None,
        client_ip: str | None = None,
        detail: str = "",
        quiet: bool = False,
    ) -> None:
        """Report an event to listeners and log; ``quiet``: only to the listeners."""
        level = _LEVELS[kind]
        logged = not quiet and logger.isEnabledFor(level)
        if not logged and not self._listeners:
            return
        now = self._clock()
        left_out = self._admit(kind, now) if logged else None
        if left_out is None and not self._listeners:
            return
        detail = printable(detail, _LONGEST_FAILURE if kind == "store_error" else _LONGEST)
        if client_ip is not None:
            client_ip = printable(client_ip, 60)
        if left_out is not None:
            _log(level, kind, handle, client_ip, detail, left_out)
        at = datetime.fromtimestamp(now, UTC)
        event = SessionEvent(kind, handle, owner, client_ip, at, detail)
        for listener in self._listeners:
            self._tell(listener, event)

    def _tell(self, listener: Listener, event: SessionEvent) -> None:
        try:
            listener(event)
        except Exception:  # any listener of the app's, any error
            # A listener must not be able to undo a logout (CVE-2021-34428). Its error is logged
            # without the traceback's values, which may be secret.
            logger.exception("a listener failed on the event %s", event.kind)

    def _admit(self, kind: str, now: float) -> int | None:
        """None if this line is one too many; else how many were left out in the minute before."""
        with self._lock:
            begun, count = self._window.get(kind, (now, 0))
            if not 0 <= now - begun < 60:
                self._window[kind] = (now, 1)
                return max(0, count - LINES_PER_MINUTE)
            self._window[kind] = (begun, count + 1)
            return 0 if count < LINES_PER_MINUTE else None

    def is_heard(self, kind: str) -> bool:
        """Whether anybody would learn of an event of this kind."""
        return bool(self._listeners) or logger.isEnabledFor(_LEVELS[kind])

    def is_explained(self, key: str) -> bool:
        """Whether a longer text of this key, that this process logs once, was logged already."""
        return key in _explained_in_process

    def explain(self, key: str, text: str, *, per_process: bool = False) -> None:
        """Log a longer explanation, once for each key: per middleware, or per process."""
        explained = _explained_in_process if per_process else self._explained
        if key not in explained:
            explained.add(key)
            logger.warning("%s", text)


def _log(
    level: int, kind: str, handle: str | None, client_ip: str | None, detail: str, left_out: int
) -> None:
    if left_out:
        logger.log(level, "session event %s: %d more lines were left out", kind, left_out)
    parts = [f"session event {kind}"]
    if detail:
        parts.append(detail)
    if handle is not None:
        parts.append(f"handle {handle}")
    if client_ip is not None:
        parts.append(f"client {client_ip}")
    logger.log(level, "%s", "; ".join(parts))
