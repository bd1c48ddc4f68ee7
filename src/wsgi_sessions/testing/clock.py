"""A clock for tests, set by hand. It keeps no time of its own."""

from __future__ import annotations

from datetime import timedelta


class FakeClock:
    """A clock that stands still until it is set: pass it as ``clock``.

    Args:
        now: where it begins. UNIX seconds.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now: float = now
        """What it shows. UNIX seconds; set it freely, backwards too."""

    def __call__(self) -> float:
        """UNIX seconds."""
        return self.now

    def advance(self, by: float | timedelta) -> None:
        """Move forward by seconds or a timedelta; back, if it is negative."""
        self.now += by.total_seconds() if isinstance(by, timedelta) else by
