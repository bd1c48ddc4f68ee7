"""What went wrong in a client, and how much of it may be shown.

Exceptions are recognised by the names of their classes: redis-py and valkey-py have the same names
in two trees, and a client may be wrapped in something that belongs to neither.
"""

from __future__ import annotations

import re

from ...errors import StoreError

_QUOTABLE = ("ResponseError", "ConnectionError", "TimeoutError", "OSError")
"""The text of these doesn't quote whole commands, as that of other exceptions may."""
_LOST = ("ConnectionError", "TimeoutError", "OSError")


def is_refusal(error: object) -> bool:
    """Whether the server refused; the connection is still good."""
    return has_name(error, "ResponseError")


def is_lost(error: object) -> bool:
    """Whether a connection failed, or an answer didn't come in time."""
    return any(has_name(error, name) for name in _LOST)


def is_wrong_type(error: object) -> bool:
    """Whether the server says that the key holds something other than a hash."""
    return is_refusal(error) and str(error).startswith("WRONGTYPE")


def has_name(error: object, name: str) -> bool:
    """Whether this is an exception of a class of that name, or of a subclass of one."""
    return isinstance(error, BaseException) and any(
        base.__name__ == name for base in type(error).__mro__
    )


def store_error(operation: str, error: Exception) -> StoreError:
    """The StoreError to raise instead, outside of the ``except`` block.

    What the client raised is neither its cause nor its context: its traceback leads through the
    client library, where the values that were sent and the connection's password are at hand for
    every tool that shows local variables.
    """
    kind = type(error).__name__
    if not any(has_name(error, name) for name in _QUOTABLE):
        return StoreError(
            f"the Redis client can't do this ({operation}): {kind}", operation=operation
        )
    # Some servers repeat what they were sent, values included.
    told = re.sub(r"[0-9a-f]{40,}", "…", str(error).partition(", with args")[0])[:200]
    what = "doesn't answer" if is_lost(error) else "can't do this"
    return StoreError(f"the Redis server {what} ({operation}): {kind}: {told}", operation=operation)
