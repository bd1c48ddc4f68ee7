"""What one request shows about the device that its session is bound to. A plain value.

Apart from the rest of device binding, which is imported only where sessions are bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Standing(NamedTuple):
    """What one request of a session shows about its binding."""

    bound: bool
    """The session is bound: `session.device_bound`."""
    proven: bool
    """It is, and this request proved it: `session.is_proven`."""
    missing: bool
    """A proof was due and is missing: act as ``when_missing`` says."""
    confirm: bool
    """The binding was pending, and its second cookie is here: write `Binding.confirmed`."""


UNBOUND = Standing(bound=False, proven=False, missing=False, confirm=False)


def with_offer(kept: Mapping[str, Any], offered_at: float) -> dict[str, Any]:
    """What is kept once an offer was made; a binding that is there stays. UNIX seconds."""
    return {**kept, "offered_at": offered_at}
