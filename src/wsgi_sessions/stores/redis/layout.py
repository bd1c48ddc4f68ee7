"""What a record looks like in Redis, and what the scripts are given. Pure: no client, no server.

A record is one hash. Each field of the session is a field of the hash, ``f:`` and the field's
name. All the rest is in ``h``, because every further part would cost each load some microseconds::

    version epoch used_at expires_at length ownernotes

The numbers are decimal text; ``length`` is the owner's in bytes, or ``-`` for no owner. The scripts
read and write the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import StoreError
from ...record import UNCHANGED, Changes, Record, UpdateResult
from ..packing import as_bytes, deadline
from . import scripts

RESULTS: Mapping[object, UpdateResult] = {
    scripts.DONE: UpdateResult.UPDATED,
    scripts.GONE: UpdateResult.GONE,
    scripts.DAMAGED: UpdateResult.GONE,
    scripts.CONFLICT: UpdateResult.CONFLICT,
}
"""What the answer of a script means."""

_ENCODING = "utf-8", "surrogatepass"
"""Names and owners may be any str, lone surrogates included."""
_HEAD = b"h"
_NUMBERS = re.compile(rb"(\d+) (\d+) (\S+) (\S+) (\d+|-) ")
_GRACE_MS = 60_000
"""How much longer than its record a key lives: an expired session can then be distinguished from an
unknown one."""
_LONGEST_MS = 10**13
"""300 years, in place of no limit: no key lives forever."""

_ARGUMENTS_OF_A_TOUCH = 4


def insert_arguments(record: Record) -> list[bytes]:
    """What the script INSERT is given.

    Raises:
        StoreError: a part of the record can't be kept.
    """
    try:
        used_at, expires_at = _finite(record.used_at), deadline(float(record.expires_at))
        owner = b"" if record.owner is None else record.owner.encode(*_ENCODING)
        head = b"%d %d %b %b %b %b%b" % (
            _counted(record.version),
            _counted(record.epoch),
            _number(used_at),
            _number(expires_at),
            b"-" if record.owner is None else b"%d" % len(owner),
            owner,
            as_bytes(record.notes),
        )
        arguments = [_milliseconds(used_at, expires_at), _HEAD, head]
        for name, value in record.fields.items():
            arguments += _field(name), as_bytes(value)
    except (AttributeError, TypeError, OverflowError) as error:
        raise StoreError(f"this record can't be kept: {error}", operation="insert") from None
    return arguments


def update_arguments(changes: Changes, if_epoch: int | None, if_version: int | None) -> list[bytes]:
    """What the script UPDATE is given.

    Raises:
        StoreError: a part of the changes can't be kept.
    """
    try:
        arguments = [
            optional(if_version),
            optional(if_epoch),
            b"" if changes.used_at is None else _number(_finite(changes.used_at)),
            b"" if changes.expires_at is None else _number(deadline(float(changes.expires_at))),
        ]
        if changes.is_touch:
            return arguments
        epoch = None if changes.epoch is None else _counted(changes.epoch)
        arguments += optional(epoch), _owner(changes.owner), _notes(changes.notes)
        if changes.keep is None:
            sign, names = b"-", changes.delete
        else:
            sign, names = b"+", changes.keep - changes.delete
        arguments += sign, b"%d" % len(names), *map(_field, names)
        for name, value in changes.set.items():
            arguments += _field(name), as_bytes(value)
    except (AttributeError, TypeError, OverflowError) as error:
        raise StoreError(f"these changes can't be kept: {error}", operation="update") from None
    return arguments


def record_of(answer: Any) -> Record:
    """The record that a hash holds.

    Raises:
        ValueError: it can't be read as a record.
        StoreError: these aren't the bytes of a hash, so something changes what the server says.
    """
    parts = _parts(answer)
    head = parts.pop(_HEAD, b"")
    numbers = _NUMBERS.match(head)
    if numbers is None:
        raise ValueError("no head that can be read")
    version, epoch, used, ends, length = numbers.groups()
    used_at, expires_at = float(used), float(ends)
    if not math.isfinite(used_at) or math.isnan(expires_at):
        raise ValueError("a time is not a number")
    owner, middle = None, numbers.end()
    if length != b"-":
        start, middle = middle, middle + int(length)
        if middle > len(head):
            raise ValueError("the owner is cut short")
        owner = head[start:middle].decode(*_ENCODING)
    fields: dict[str, bytes] = {}
    for name, value in parts.items():
        if name[:2] != b"f:":
            raise ValueError("an unknown part")
        fields[name[2:].decode(*_ENCODING)] = value
    return Record(fields, head[middle:], used_at, expires_at, int(version), int(epoch), owner)


def is_expired(head: object, now: float) -> bool:
    """Whether a record with this head ended at or before ``now``; False if it can't be read."""
    numbers = _NUMBERS.match(head) if isinstance(head, bytes) else None
    try:
        return numbers is not None and float(numbers[4]) <= now
    except ValueError:
        return False


def is_question(arguments: Sequence[bytes]) -> bool:
    """Whether these arguments of UPDATE change nothing, so that they may be sent twice."""
    return len(arguments) == _ARGUMENTS_OF_A_TOUCH and not (arguments[2] or arguments[3])


def optional(number: int | None) -> bytes:
    """A number, or nothing, as a script understands it."""
    return b"" if number is None else b"%d" % number


def time_text(seconds: float) -> bytes:
    """A time as a script understands it.

    Raises:
        StoreError: it is NaN.
    """
    return _number(deadline(seconds))


def _parts(answer: Any) -> dict[bytes, bytes]:
    pairs: Any = answer
    if isinstance(answer, list):  # in RESP2; in RESP3 a hash is a map
        pairs = zip(pairs[::2], pairs[1::2], strict=True)
    elif not isinstance(answer, dict):
        raise _not_the_servers()
    parts: dict[bytes, bytes] = dict(pairs)
    if not {bytes}.issuperset(map(type, parts)):
        raise _not_the_servers()
    return parts


def _not_the_servers() -> StoreError:
    return StoreError("the Redis client doesn't give what the server said", operation="load")


def _counted(number: int) -> int:
    # A script counts in floating point, which is exact up to here.
    if not 0 <= number < 2**53:
        raise StoreError("a version or an epoch is not between 0 and 2**53")
    return number


def _field(name: str) -> bytes:
    return b"f:" + name.encode(*_ENCODING)


def _owner(owner: object) -> bytes:
    if owner is UNCHANGED:
        return b""
    if owner is None:
        return b"-"
    if not isinstance(owner, str):
        raise TypeError(f"an owner is a str, not {type(owner).__name__}")
    return b"=" + owner.encode(*_ENCODING)


def _notes(notes: bytes | None) -> bytes:
    return b"" if notes is None else b"=" + as_bytes(notes)


def _finite(used_at: float) -> float:
    if not math.isfinite(used_at):
        raise StoreError(f"used_at is {used_at}; write UNIX seconds")
    return float(used_at)


def _number(seconds: float) -> bytes:
    return repr(float(seconds)).encode()


def _milliseconds(used_at: float, expires_at: float) -> bytes:
    left = (expires_at - used_at) * 1000 + _GRACE_MS
    return b"%d" % int(max(min(left, _LONGEST_MS), 1))
