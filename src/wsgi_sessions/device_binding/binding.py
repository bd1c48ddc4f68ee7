"""What a session's notes keep about its device, and what a missing proof means. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from ..data.standing import UNBOUND, Standing
from .keys import Algorithm, DeviceKey

OFFER_EVERY = 24 * 60 * 60
"""Seconds between offers to one session, unless it logs in."""
# The longest key, RSA of 4096 bits, has 683 characters. The time ends in the year 5138.
_FORM = re.compile(r"(ES256|RS256):([0-9]{1,11}):([pc]):([A-Za-z0-9_-]{86}|[A-Za-z0-9_-]{342,683})")


class Binding(NamedTuple):
    """That a session is bound to a device's key."""

    key: DeviceKey
    bound_at: int
    """When the key was registered. UNIX seconds."""
    pending: bool
    """Whether the second cookie hasn't been seen with the session yet: the answer that set it may
    have been lost, so nothing is enforced, and another key may take this one's place."""

    def confirmed(self) -> Binding:
        """This binding once its second cookie was seen."""
        return self._replace(pending=False)


def dump_binding(binding: Binding) -> str:
    """The binding as ASCII text for the notes: 105 characters for ES256, at most 702 for RS256."""
    state = "p" if binding.pending else "c"
    return f"{binding.key.algorithm}:{binding.bound_at}:{state}:{binding.key.material}"


def load_binding(text: object) -> Binding | None:
    """The binding that `dump_binding` wrote; None if this is anything else."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    algorithm, bound_at, state, material = match.groups()
    key = DeviceKey(cast("Algorithm", algorithm), material)
    return Binding(key, int(bound_at), state == "p")


class DeviceNotes(NamedTuple):
    """What a session's notes keep about its device."""

    binding: Binding | None = None
    offered_at: float | None = None
    """When binding was last offered, as far as that counted (see `counts`). UNIX seconds."""


def dump_device_notes(notes: DeviceNotes) -> dict[str, Any]:
    """The notes as JSON can hold them; empty where there is nothing to keep."""
    kept: dict[str, Any] = {}
    if notes.binding is not None:
        kept["device"] = dump_binding(notes.binding)
    if notes.offered_at is not None:
        kept["offered_at"] = notes.offered_at
    return kept


def load_device_notes(kept: Mapping[str, Any]) -> DeviceNotes | None:
    """What `dump_device_notes` wrote; None if it is damaged.

    A damaged binding must not count as none: the session would then be good without proof.
    """
    binding, offered_at = None, kept.get("offered_at")
    if "device" in kept:
        binding = load_binding(kept["device"])
        if binding is None:
            return None
    if offered_at is not None and type(offered_at) not in (int, float):
        return None
    return DeviceNotes(binding, offered_at)


def is_confirmed(kept: Mapping[str, Any]) -> bool:
    """Whether what is kept says that the session is bound, and that its second cookie has arrived.

    A request that proves itself needs to know no more of it: half of `load_device_notes`' time.
    """
    text = kept.get("device")
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    return match is not None and match[3] == "c"


def is_bound(kept: Mapping[str, Any]) -> bool:
    """Whether what is kept of a session binds it to a device, as `judge` would without a proof."""
    notes = load_device_notes(kept) if kept else None
    return notes is not None and notes.binding is not None and not notes.binding.pending


PROVEN = Standing(bound=True, proven=True, missing=False, confirm=False)
ARRIVED = Standing(bound=True, proven=True, missing=False, confirm=True)


def judge(binding: Binding | None, *, proven: bool, now: float, grace: float) -> Standing:
    """Judge a request by its proof.

    Args:
        binding: what the notes say.
        proven: whether a good second cookie came with the request.
        now: UNIX seconds.
        grace: seconds after binding in which a proof may be missing.
    """
    if binding is None:
        return UNBOUND
    if proven:
        return ARRIVED if binding.pending else PROVEN
    if binding.pending:
        return UNBOUND
    missing = not is_young(binding, now, grace)
    return Standing(bound=True, proven=False, missing=missing, confirm=False)


def is_young(binding: Binding, now: float, grace: float) -> bool:
    """Whether a binding was made less than ``grace`` seconds ago.

    Servers' clocks differ a little, so one made just as short a time ahead is young, too; one from
    further ahead isn't, as a clock that was wrong once mustn't lift the binding for long.
    """
    return abs(now - binding.bound_at) < grace


def may_bind(binding: Binding | None, now: float, grace: float) -> bool:
    """Whether a key may be registered: there is none, or one whose cookie never came back."""
    return binding is None or (binding.pending and not is_young(binding, now, grace))


def offer_is_due(
    binding: Binding | None,
    *,
    logged_in: bool,
    offered_at: float | None,
    now: float,
    grace: float,
) -> bool:
    """Whether a response should offer to bind a session that has an owner.

    Args:
        binding: what the notes say.
        logged_in: whether this request called `login`.
        offered_at: when it was last offered, as far as that counted (see `counts`). UNIX seconds.
        now: UNIX seconds.
        grace: seconds in which a pending binding keeps its place.
    """
    if not may_bind(binding, now, grace):
        # The browser registers every offer, so a confirmed binding is never offered again.
        return False
    # A time ahead of the clock was noted by a wrong one, and doesn't count.
    return logged_in or offered_at is None or not 0 <= now - offered_at < OFFER_EVERY


def counts(fetch_site: str | None) -> bool:
    """Whether an offer counts for the day: False on the answer to a request from another site.

    Its registration comes without cookies (SameSite), and what it sets may be lost.
    """
    return not is_cross_site(fetch_site)


def is_cross_site(fetch_site: str | None) -> bool:
    """Whether Sec-Fetch-Site says that another site made this request; older browsers send none."""
    return fetch_site is not None and fetch_site.strip(" \t").lower() == "cross-site"
