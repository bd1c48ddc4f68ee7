"""The values of one request's session: what the store has, what the app asked for, what it holds.

`Stored`, `Intent` and `Request` are immutable; `SessionState` holds the present ones. What the app
asks for goes into the intent (`ask`), the fields and the label; what the store has is replaced only
when the store has answered (`begin`, `adopt`, `after`). No store and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from .._options import kind_of
from .._values import replaced, value
from ..crypto.session_id import SessionID
from ..data.codec import Codec
from ..data.fields import NO_NAMES, Fields
from ..data.notes import MAX_LABEL_ENTRIES, MAX_LABEL_TEXT, Notes, first_notes, is_label
from ..data.standing import UNBOUND, Standing
from ..errors import StoreError
from ..events import printable
from ..http.transport import Transport
from ..record import NO_FIELDS, UNCHANGED, Record, Unchanged
from .decisions import CookieStep

if TYPE_CHECKING:
    from ..carry_over.source import Source
    from ..device_binding.transport import Evidence
    from .owners import Place

NO_SCHEME = "none"
"""The scheme where there is no request: a session is opened by its token alone. It may be one that
was begun on a secure connection, and what begins so may go on over any."""
NO_NOTES: Mapping[str, Any] = MappingProxyType({})

Keep = frozenset[str] | Literal[False] | None
"""What outlives a new ID: these fields and the label; None: all; False: nothing, the label neither.
"""


@value
class Request:
    """What the engine needs to know about the request."""

    transport: Transport
    tokens: tuple[str, ...]
    """What the client sent under our name, unchecked."""
    secure: bool
    """Whether the request is secure, as far as the trusted proxies say."""
    scheme: str
    client_ip: str | None
    """The client's address, as the trusted proxies report it."""
    user_agent: object
    forwarded_proto: object
    """The headers User-Agent and X-Forwarded-Proto as they came, or None."""
    proxy_problems: tuple[str, ...] | None
    """What was wrong with what the trusted proxies say; None: none are trusted."""
    passive: bool
    """Whether the middleware's function says that this request doesn't count as use."""
    logged: set[str]
    """The kinds of events that were reported in this request."""
    device: Evidence | None = None
    """What it shows of its device; None where sessions aren't bound to devices."""
    old_cookies: str = ""
    """The Cookie header, where cookies of another system's sessions are looked for in it."""

    def __repr__(self) -> str:
        # A token is as good as a password.
        return f"<Request from {self.client_ip} with {len(self.tokens)} tokens>"


@value
class Stored:
    """A session as the store has it."""

    id: SessionID
    """The present ID."""
    record: Record
    notes: Notes
    deadline: float
    """When it ends. UNIX seconds."""


@value
class Intent:
    """What the app asked for in this request, beside changing fields and label."""

    id: SessionID | None = None
    """The ID that the session is to have; of a stored session, a new one."""
    tried: tuple[SessionID, ...] = ()
    """IDs that it was to have in commits that failed: the store may have one of them, if only the
    answer was lost."""
    deleting: bool = False
    """Whether the session was to be deleted, as it was emptied, and the answer was lost."""
    label_doubt: frozenset[str] = frozenset()
    """Parts of the label that the store may or may not have, as the answer was lost."""
    login: bool = False
    """Whether ``login()`` was called, so that it must result in a live session."""
    revoked: bool = False
    """Whether the change of owner was revoked while a commit wrote it."""
    owner: str | Unchanged | None = UNCHANGED
    keep: Keep = None
    touch: bool = False
    notes: Mapping[str, Any] = field(default_factory=lambda: NO_NOTES)
    """Notes to change, to be put on whatever the store has by then."""
    place: Place | None = None
    """The place that a login holds in its owner's list already (``when_full="refuse"``)."""
    offered_at: float | None = None
    """When the response offers to bind the session, to be noted. UNIX seconds."""

    @property
    def own_ids(self) -> tuple[SessionID, ...]:
        """The IDs that this request may have brought into the store itself."""
        return self.tried if self.id is None else (self.id, *self.tried)


NO_INTENT = Intent()


class SessionState:
    """The session of one request."""

    __slots__ = (
        "base_notes",
        "carried_from",
        "cookie",
        "emptied",
        "error",
        "fields",
        "gone",
        "intent",
        "keep_empty",
        "label",
        "logged_in",
        "own_id",
        "passed_over",
        "passive",
        "request",
        "stale_token",
        "standing",
        "stored",
    )

    request: Request
    passive: bool
    """Whether mere use in this request doesn't count: as the middleware's function says, unless the
    app overrules it. It is about the request, whatever session it has."""
    error: StoreError | None
    """Why the session could not be loaded, if it couldn't."""
    stored: Stored | None
    """The session as the store has it; None: there is none."""
    passed_over: tuple[Stored, ...]
    """Live sessions that the client presented and that aren't used: several at once, say."""
    base_notes: Notes
    """The notes that the session has, or begins with, without what was asked for since."""
    intent: Intent
    fields: Fields
    label: dict[str, str]
    keep_empty: bool
    """Whether it is to be stored although it holds nothing."""
    emptied: bool
    """Whether a transaction has removed its last field, so that it ends with the request unless it
    is filled."""
    cookie: CookieStep
    """What the client has to learn of the commits so far."""
    stale_token: bool
    """Whether the cookie that the client sent should be replaced."""
    carried_from: Source | None
    """The source of the old cookie that led to the session, if one did."""
    gone: bool
    """Whether another request was found to have ended the session."""
    standing: Standing
    """What this request shows about the device that the session is bound to."""
    logged_in: bool
    """Whether ``login()`` was called in this request, saved or not."""
    own_id: bool
    """Whether this request made the present ID, so that no other can have replaced it yet."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.passive = request.passive
        self.cookie = CookieStep.LEAVE
        self.error = None
        self.intent = NO_INTENT
        self.passed_over = ()
        self.carried_from = None
        self.gone = False
        self.standing = UNBOUND
        self.logged_in = False
        self.own_id = self.keep_empty = self.emptied = False

    def begin(self, now: float, codec: Codec, passed_over: tuple[Stored, ...] = ()) -> None:
        """Start with no session; what the client has to learn stays."""
        self.error = None
        self.stored = None
        self.passed_over = passed_over
        self.base_notes = first_notes(now, persistent=self.request.transport.persistent)
        self.intent = NO_INTENT
        self.fields = Fields(NO_FIELDS, codec)
        self.label = {}
        self.stale_token = self.gone = self.own_id = self.keep_empty = self.emptied = False
        self.standing = UNBOUND

    def adopt(self, stored: Stored, codec: Codec, *, stale_token: bool) -> None:
        """Start from a session that was loaded."""
        self.error = None
        self.stored = stored
        self.base_notes = stored.notes
        self.intent = NO_INTENT
        self.keep_empty = False
        self.fields = Fields(stored.record.fields, codec)
        label = stored.notes.label
        self.label = dict(label) if label else {}
        self.stale_token = stale_token

    def drop(self, codec: Codec) -> None:
        """Give up what was asked for and changed since the last commit."""
        if self.stored is None:
            tried = self.intent.tried
            self.intent = Intent(tried=tried) if tried else NO_INTENT
            self.keep_empty = False
            self.fields, self.label = Fields(NO_FIELDS, codec), {}
        else:
            self.adopt(self.stored, codec, stale_token=self.stale_token)

    def ask(self, **changes: Any) -> None:
        """Note what the app asks for."""
        self.intent = replaced(self.intent, **changes)

    def ask_notes(self, **notes: Any) -> None:
        """Note changes of the notes that the app asks for."""
        self.ask(notes={**self.intent.notes, **notes})

    def after(self, stored: Stored, *, keep_intent: bool = False) -> None:
        """Go on from what the store has now: everything that was asked for is done."""
        if self.stored is None or self.stored.id.key != stored.id.key:
            self.standing = self.standing._replace(bound=False, proven=False)
        self.stored, self.gone = stored, False
        self.base_notes = stored.notes
        label = self.label
        if label != stored.notes.label:
            # The same dict: the app may hold it, and go on changing it.
            label.clear()
            label.update(stored.notes.label)
        if not keep_intent:
            self.intent = NO_INTENT

    @property
    def owner(self) -> str | None:
        """The owner as the app sees it."""
        asked = self.intent.owner
        if asked is not UNCHANGED:
            return asked
        return None if self.stored is None else self.stored.record.owner

    @property
    def notes(self) -> Notes:
        """The notes as the app sees them."""
        asked = self.intent.notes
        return self.base_notes._replace(**asked) if asked else self.base_notes

    @property
    def label_changed(self) -> bool:
        """Whether the label differs from the one that is stored."""
        return bool(self.intent.label_doubt) or self.label != self.base_notes.label

    @property
    def former_label(self) -> Mapping[str, str | None]:
        """The label that was loaded; None: a part that the store may or may not have by now."""
        doubt = self.intent.label_doubt
        return {**self.base_notes.label, **dict.fromkeys(doubt)} if doubt else self.base_notes.label

    @property
    def empty(self) -> bool:
        """Whether it holds nothing, neither field nor owner, and so needs no record."""
        return not self.fields and self.owner is None

    @property
    def is_use(self) -> bool:
        """Whether this request counts as use: `touch` does in any request."""
        return self.intent.touch or not self.passive

    @property
    def may_be_signed_in(self) -> bool:
        """Whether the client presented live sessions that can't be used, so that a sign-out is to
        end them. One that is only not proven in this request stays.
        """
        return bool(self.passed_over) and not self.standing.missing

    @property
    def known_id(self) -> SessionID | None:
        """The session's ID, if it has one yet."""
        if self.intent.id is not None:
            return self.intent.id
        return None if self.stored is None else self.stored.id

    @property
    def bound_at(self) -> float | None:
        """Since when the session is bound to its device; None: it isn't. UNIX seconds."""
        if self.stored is None or not self.standing.bound:
            return None
        from ..device_binding.binding import load_device_notes  # noqa: PLC0415 # few apps bind

        notes = load_device_notes(self.stored.notes.binding)
        return None if notes is None or notes.binding is None else notes.binding.bound_at


def kept_fields(keep: Keep) -> frozenset[str] | None:
    """Which fields are kept; None: all."""
    return NO_NAMES if keep is False else keep


def add_to_label(label: dict[str, str], request: Request, parts: frozenset[str]) -> None:
    """Note something about the client when a session gets an owner, as far as there is room."""
    for name, text in label_of(request, parts).items():
        if name in label or len(label) < MAX_LABEL_ENTRIES:
            label[name] = text


def label_of(request: Request, parts: frozenset[str]) -> dict[str, str]:
    """What can be noted about the client of this request."""
    known = {"ip": request.client_ip, "user_agent": request.user_agent}
    return {
        name: printable(text, MAX_LABEL_TEXT)
        for name, text in known.items()
        if name in parts and isinstance(text, str)
    }


def checked_label(label: dict[str, str]) -> dict[str, str]:
    """A copy of a label.

    Raises:
        TypeError: it isn't a dict of a few short strings.
        ValueError: one of them can't be encoded as UTF-8.
    """
    if not is_label(label):
        raise TypeError(_why_no_label(label))
    for name, text in label.items():
        try:
            (name + text).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"label[{name!a}] has text that can't be encoded as UTF-8") from None
    return dict(label)


def _why_no_label(label: Mapping[Any, Any]) -> str:
    for name, text in label.items():
        if not isinstance(name, str):
            return f"label has a name of type {type(name).__name__}; write a str"
        if len(name) > MAX_LABEL_TEXT:
            return (
                f"label has a name of {len(name)} characters; at most {MAX_LABEL_TEXT} are allowed"
            )
        if not isinstance(text, str):
            return f"label[{name!a}] is {kind_of(text)}; write a str"
        if len(text) > MAX_LABEL_TEXT:
            return (
                f"label[{name!a}] has {len(text)} characters; at most {MAX_LABEL_TEXT} are allowed"
            )
    return f"label has {len(label)} entries; at most {MAX_LABEL_ENTRIES} are allowed"
