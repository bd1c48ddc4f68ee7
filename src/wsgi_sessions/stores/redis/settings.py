"""RedisStore's own options, checked where they are written; the client's are in ``client``."""

from __future__ import annotations

from ...errors import ConfigurationError

DEFAULT_PREFIX = "session:"
WAIT_MS = 500
"""Less than the time after which `RedisStore.from_url` gives up reading."""


def checked_prefix(prefix: object) -> bytes:
    """The prefix as it is sent.

    Raises:
        ConfigurationError: it isn't a str, or is empty.
    """
    if not isinstance(prefix, str) or not prefix:
        raise ConfigurationError(
            f"RedisStore: prefix is {prefix!r}; write a str such as 'session:', which no other app"
            " on this server uses"
        )
    return prefix.encode("utf-8", "surrogatepass")


def checked_wait(wait: object) -> tuple[int, int] | None:
    """How many replicas to wait for, and for how many milliseconds; None not to wait.

    Raises:
        ConfigurationError: it is neither.
    """
    match wait:
        case None:
            return None
        case (int(count), int(milliseconds)) if _are_counts(count, milliseconds):
            return count, milliseconds
        case int(count) if _are_counts(count):
            return count, WAIT_MS
        case _:
            raise ConfigurationError(
                f"RedisStore: wait_replicas is {wait!r}; write the number of replicas, such as 1,"
                f" or (number, milliseconds), such as (1, {WAIT_MS}), or None not to wait"
            )


def _are_counts(*values: int) -> bool:
    return all(value >= 1 and not isinstance(value, bool) for value in values)
