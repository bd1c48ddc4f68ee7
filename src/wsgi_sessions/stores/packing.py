"""A record as one string of bytes and back, without its times: what MemoryStore and FileStore keep.

A fixed head (version, epoch, number of fields, lengths of owner and notes), a table of lengths,
then owner, notes, and name and value of each field. Values are opaque: nothing here decodes them.
Whether the bytes are still those that were written is up to the caller.
"""

from __future__ import annotations

import functools
import struct
from types import MappingProxyType

from ..errors import StoreError
from ..record import UNCHANGED, Changes, Record, UpdateResult, apply_changes, is_key

TIMES = struct.Struct("<dd")
"""Use and expiry: kept beside the packed rest, because a touch changes nothing else."""

COUNTS = struct.Struct("<QQ")
"""Version and epoch: they come first, so that a conditional write needs to read no further."""

_HEAD = struct.Struct("<QQIII")
_MAX_COUNT = 2**64 - 1
_NO_OWNER = 0xFFFFFFFF
_ENCODING = "utf-8", "surrogatepass"
"""Names and owners may be any str, lone surrogates included."""


def pack(record: Record) -> bytes:
    """The record without its times.

    Raises:
        StoreError: a part of it has the wrong type or is too large to be kept.
    """
    try:
        owner = b"" if record.owner is None else record.owner.encode(*_ENCODING)
        notes = as_bytes(record.notes)
        fields = record.fields
        parts = [b""] * (2 * len(fields))
        parts[::2] = [name.encode(*_ENCODING) for name in fields]
        parts[1::2] = map(as_bytes, fields.values())
        lengths = list(map(len, parts))
        head = _HEAD.pack(
            record.version,
            record.epoch,
            len(fields),
            _NO_OWNER if record.owner is None else len(owner),
            len(notes),
        )
        return b"".join((head, _table(len(lengths)).pack(*lengths), owner, notes, *parts))
    except (AttributeError, TypeError, struct.error) as error:
        raise StoreError(f"this record can't be kept: {error}") from error


def unpack(packed: bytes, start: int, used_at: float, expires_at: float) -> Record:
    """The record that was packed into the bytes from ``start`` to the end.

    Raises:
        ValueError: the bytes can't be read as a record.
    """
    try:
        version, epoch, count, owner_length, notes_length = _HEAD.unpack_from(packed, start)
        if count > (len(packed) - start) // 8:
            raise ValueError("more fields than bytes")
        table = _table(2 * count)
        at = start + _HEAD.size
        lengths = table.unpack_from(packed, at)
        at += table.size
        owner = None
        if owner_length != _NO_OWNER:
            owner = packed[at : at + owner_length].decode(*_ENCODING)
            at += owner_length
        notes = packed[at : at + notes_length]
        at += notes_length
        fields: dict[str, bytes] = {}
        pairs = iter(lengths)
        for name_length, value_length in zip(pairs, pairs, strict=True):
            middle = at + name_length
            end = middle + value_length
            fields[packed[at:middle].decode(*_ENCODING)] = packed[middle:end]
            at = end
    except struct.error as error:
        raise ValueError(f"cut short: {error}") from error
    if at != len(packed) or len(fields) != count:
        raise ValueError("the lengths don't add up")
    return Record(MappingProxyType(fields), notes, used_at, expires_at, version, epoch, owner)


def refusal(
    version: int, epoch: int, if_epoch: int | None, if_version: int | None
) -> UpdateResult | None:
    """Why a conditional write to a live record can't be done; None if it can."""
    if if_epoch is not None and epoch != if_epoch:
        return UpdateResult.GONE
    if if_version is not None and version != if_version:
        return UpdateResult.CONFLICT
    return None


def changed(record: Record, changes: Changes) -> Record:
    """The record after these changes; one version higher, unless they are a touch.

    The same object if nothing changes.

    Raises:
        StoreError: a part of it has the wrong type.
    """
    used_at, expires_at, notes = changes.used_at, changes.expires_at, changes.notes
    used_at = record.used_at if used_at is None else as_use(used_at)
    expires_at = record.expires_at if expires_at is None else deadline(expires_at)
    fields, version, touches = record.fields, record.version, changes.is_touch
    if touches:
        if used_at == record.used_at and expires_at == record.expires_at:
            return record
    else:
        after = apply_changes(fields, changes)
        for name, value in changes.set.items():
            if type(value) is not bytes or type(name) is not str:
                # Taken out first: a dict keeps the key that it has, whatever equal one is set.
                del after[name]
                after[_as_name(name)] = as_bytes(value)
        fields = MappingProxyType(after)
        version += 1
        if version > _MAX_COUNT:
            raise StoreError("this record was changed too often: a version has at most 64 bits")
    return Record(
        fields,
        record.notes if notes is None else as_bytes(notes),
        used_at,
        expires_at,
        version,
        record.epoch if changes.epoch is None else _as_count(changes.epoch),
        record.owner if changes.owner is UNCHANGED else _as_owner(changes.owner),
    )


def _as_name(name: object) -> str:
    if isinstance(name, str):
        return "".join((name,))  # a plain one, whatever inherits from str
    raise StoreError(f"a field's name is a str, not {type(name).__name__}")


def _as_owner(owner: object) -> str | None:
    if owner is None or isinstance(owner, str):
        return None if owner is None else "".join((owner,))
    raise StoreError(f"an owner is a str or None, not {type(owner).__name__}")


def _as_count(epoch: object) -> int:
    if isinstance(epoch, int) and 0 <= epoch <= _MAX_COUNT:
        return int(epoch)
    raise StoreError("an epoch is a whole number of at most 64 bits")


def deadline(expires_at: float) -> float:
    """The time, unless it is NaN: then a record would neither live nor expire."""
    expires_at = as_time(expires_at)
    if expires_at != expires_at:  # noqa: PLR0124 # NaN
        raise StoreError("expires_at is NaN; write UNIX seconds")
    return expires_at


def as_use(used_at: object) -> float:
    """The time of a use: a number that a file or a table can be read back with."""
    used_at = as_time(used_at)
    if used_at - used_at != 0.0:
        raise StoreError(f"used_at is {used_at}; write UNIX seconds")
    return used_at


def as_time(value: object) -> float:
    """UNIX seconds as a plain float."""
    if type(value) is float:
        return value
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            raise StoreError("a time is a number of UNIX seconds that a float can hold") from None
    raise StoreError(f"a time is a number of UNIX seconds, not {type(value).__name__}")


def as_bytes(value: object) -> bytes:
    """The value as bytes that nobody else can change."""
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise StoreError(f"a store keeps bytes, not {type(value).__name__}; encode the value first")


def check_new_key(key: str, operation: str) -> None:
    """Refuse to keep anything under a key of another form."""
    if not is_key(key):
        raise StoreError(
            "not a store key; a key is 64 lower-case hexadecimal digits", operation=operation
        )


@functools.lru_cache(maxsize=256)
def _table(lengths: int) -> struct.Struct:
    return struct.Struct(f"<{lengths}I")
