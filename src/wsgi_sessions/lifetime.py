"""Lifetime: how long a session lives, and the arithmetic of it. No clock, no store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from ._options import checked_options, seconds_or_none
from .errors import ConfigurationError

Duration = timedelta | int | float


@checked_options
@dataclass(frozen=True, slots=True, eq=False)
class Lifetime:
    """How long a session lives.

    Args:
        idle: the time since the last use after which it ends; timedelta or seconds. None: no such
            limit (ASVS 5.0, 7.3.1 asks for one).
        absolute: the time since creation, or since the last login, after which it ends however
            much it is used; timedelta or seconds. None: no such limit (ASVS 5.0, 7.3.2).

    Raises:
        ConfigurationError: for zero, negative, infinite, NaN, bool, more than a hundred years,
            and if both are None.
    """

    idle: Duration | None = timedelta(days=1)
    absolute: Duration | None = timedelta(days=30)

    def __post_init__(self) -> None:
        if self.idle is None and self.absolute is None:
            raise ConfigurationError(
                "Lifetime: idle and absolute are both None, so sessions would never end;"
                " give at least one of them"
            )
        for name in ("idle", "absolute"):
            _seconds(name, getattr(self, name))

    def __eq__(self, other: object) -> bool:
        # A minute is a minute, however it was written.
        return isinstance(other, Lifetime) and self._in_seconds() == other._in_seconds()

    def __hash__(self) -> int:
        return hash(self._in_seconds())

    def _in_seconds(self) -> tuple[float, float]:
        return self.idle_seconds, self.absolute_seconds

    @property
    def idle_seconds(self) -> float:
        """The idle limit in seconds; ``inf`` where there is none."""
        return _seconds("idle", self.idle)

    @property
    def absolute_seconds(self) -> float:
        """The absolute limit in seconds; ``inf`` where there is none."""
        return _seconds("absolute", self.absolute)


def _seconds(name: str, limit: object) -> float:
    number = seconds_or_none("Lifetime", name, limit, "no such limit")
    return math.inf if number is None else number


def as_text(lifetime: Lifetime) -> str:
    """Such as "idle 0:30:00, absolute 30 days", however the limits were given."""
    return f"idle {_limit(lifetime.idle_seconds)}, absolute {_limit(lifetime.absolute_seconds)}"


def _limit(seconds: float) -> str:
    if math.isinf(seconds):
        return "none"
    return str(timedelta(seconds=seconds)).removesuffix(", 0:00:00")


def from_seconds(idle: float, absolute: float) -> Lifetime:
    """The Lifetime of two limits in seconds, ``inf`` standing for "no such limit"."""
    return Lifetime(
        idle=None if math.isinf(idle) else timedelta(seconds=idle),
        absolute=None if math.isinf(absolute) else timedelta(seconds=absolute),
    )
