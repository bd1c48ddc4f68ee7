"""The engine's settings: the validated options, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .._values import value
from ..crypto.session_id import Derivation, IDFactory, Rotation
from ..data.codec import Codec
from ..data.notes import Notes
from ..events import EventSink
from ..record import Record
from ..stores.base import Store
from .decisions import SKEW, deadline_of, next_deadline
from .owners import Limits

if TYPE_CHECKING:
    from ..carry_over.source import Source
    from ..client_side import ClientSeal


class CarryOver(NamedTuple):
    """Other systems' sessions that are carried over."""

    sources: tuple[Source, ...]
    derivation: Derivation


@value
class EngineSettings:
    """The validated options that a session's life depends on."""

    store: Store
    seal: ClientSeal | None
    """Seals the records that live with the clients; None where they live in the store."""
    codec: Codec
    limits: Limits
    clock: Callable[[], float]
    ids: IDFactory
    rotation: Rotation
    events: EventSink
    touch_interval: float
    """Seconds."""
    rotate_after: float | None
    """Seconds; None: never."""
    max_bytes: int
    max_per_owner: int | None
    refuse_when_full: bool
    label: frozenset[str]
    save_uninitialized: bool
    rolling: bool
    carry_over: CarryOver | None = None
    """The systems whose sessions are carried over; None: there are none."""
    binds_devices: bool = False
    """Whether sessions are bound to devices, so that every transport is a BoundTransport."""

    @property
    def places(self) -> int | None:
        """How many sessions of one owner there may be, where a login too many is refused."""
        return self.max_per_owner if self.refuse_when_full else None

    def deadline_of(self, record: Record, notes: Notes, now: float) -> float:
        """When this record ends under the limits in force today. UNIX seconds."""
        limits = self.limits
        return deadline_of(record, notes, limits.idle, limits.absolute, now)

    def next_deadline(self, notes: Notes, now: float) -> float:
        """When a session that is used ``now`` ends. UNIX seconds."""
        limits = self.limits
        return next_deadline(notes, limits.idle, limits.absolute, now)

    def touch_due(self, record: Record, notes: Notes, now: float) -> bool:
        """Whether mere use has to write the new idle deadline."""
        limit, own = self.limits.idle, notes.idle
        tenth = (own if own < limit else limit) / 10  # noqa: FURB136 # hot
        interval = self.touch_interval
        interval = interval if interval < tenth else tenth  # noqa: FURB136 # hot
        # It may have been noted meanwhile, or by a server whose clock is ahead a little.
        skew = interval if interval < SKEW else SKEW  # noqa: FURB136 # hot
        return not -skew <= now - record.used_at < interval
