"""What can happen, as plain values: their repr is Python, so a finding can be pasted and run again.

A `Scenario` is a store, the middleware's options, and events. Most events are requests; a request
is a list of operations on its session, a way to end, and what befalls its store calls.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

Op = tuple[Any, ...]
"""A name of `operations.OPERATIONS` and its arguments; or one of
``("try", op)``, whose exception the app catches, and ``("meanwhile", event)``."""


class Shown:
    """Shows what differs from the defaults."""

    def __repr__(self) -> str:
        parts = []
        for each in fields(self):  # type: ignore[arg-type] # all that inherit are dataclasses
            value = getattr(self, each.name)
            default = each.default if each.default_factory is MISSING else each.default_factory()
            if each.default is MISSING and each.default_factory is MISSING:
                parts.append(repr(value))
            elif value != default:
                parts.append(f"{each.name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


@dataclass(repr=False)
class Fail(Shown):
    """A store call raises StoreError."""

    answer_lost: bool = False
    """Whether the call takes effect all the same."""
    lasting: bool = False
    """Whether all later calls of the request fail, too."""


@dataclass(repr=False)
class Request(Shown):
    """One request of a browser."""

    browser: int
    ops: list[Op] = field(default_factory=list)
    tail: list[Op] = field(default_factory=list)
    """What a stream does to the session after its first chunk."""
    end: str = "list"
    """list, stream, error (500), raise, stream_raise (after the first chunk), stream_error."""
    at: dict[int, Any] = field(default_factory=dict)
    """By number of a store call of this request: a Fail, or an Event that happens just before."""
    late: bool = False
    """The browser gets the answer only at its next Deliver."""
    via: str = "wsgi"
    """wsgi, or session_of: the test helper in place of a request."""


@dataclass(repr=False)
class Tick(Shown):
    """Time passes, or the clock is put back."""

    seconds: float


@dataclass(repr=False)
class Revoke(Shown):
    """Someone ends the session that this browser has."""

    browser: int


@dataclass(repr=False)
class RevokeAll(Shown):
    """Someone ends all sessions of an owner, but for the one that browser ``spare`` has."""

    owner: str
    spare: int | None = None


@dataclass(repr=False)
class Deliver(Shown):
    """The latest of the answers that were kept back arrives."""

    browser: int


@dataclass(repr=False)
class Forget(Shown):
    """The browser loses its cookies."""

    browser: int


@dataclass(repr=False)
class Share(Shown):
    """One browser gets the cookie of another."""

    giver: int
    taker: int


@dataclass(repr=False)
class Audit(Shown):
    """Someone looks at the registry: what it says must be right."""


@dataclass(repr=False)
class Purge(Shown):
    """The store is purged."""


@dataclass(repr=False)
class NewSecret(Shown):
    """The servers start anew with another secret key; the one before is still accepted."""


@dataclass(repr=False)
class Damage(Shown):
    """A field of this browser's session becomes unreadable in the store."""

    browser: int
    name: str


@dataclass(repr=False)
class Stranger(Shown):
    """A process without the encryption key lists an owner's sessions, and purges."""

    owner: str


Event = (
    Request
    | Tick
    | Revoke
    | RevokeAll
    | Deliver
    | Forget
    | Share
    | Audit
    | Purge
    | NewSecret
    | Damage
    | Stranger
)


@dataclass(repr=False)
class Scenario(Shown):
    """All that a run needs: the same scenario gives the same run."""

    store: str
    """memory, file, redis, client or encrypted."""
    options: dict[str, Any] = field(default_factory=dict)
    """Those of the middleware; ``max_sessions`` is the memory store's, ``persistent`` the
    cookie's; ``ticking``: time passes with each look at the clock."""
    events: list[Event] = field(default_factory=list)
