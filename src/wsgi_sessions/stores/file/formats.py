"""What is in a session's file. Where it is and how it gets there is up to `directory`.

``WSF2``, CRC-32 of what is packed, use and expiry, CRC-32 of these two, packed record. The times
have a checksum of their own, because a touch rewrites them in place.
"""

from __future__ import annotations

import math
import os
import struct
from typing import NamedTuple
from zlib import crc32

from ...record import Record, UpdateResult
from ..packing import COUNTS, TIMES, as_use, deadline, pack, refusal, unpack
from .directory import Damaged

_CRC = struct.Struct("<I")
_MAGIC = b"WSF2"
_HEAD = struct.Struct("<4sIddI")
_PEEK = _HEAD.size + COUNTS.size
TIMES_AT = len(_MAGIC) + _CRC.size
"""Where in a file the times begin."""


class Head(NamedTuple):
    """What can be known about a session without reading its data."""

    used_at: float
    expires_at: float
    version: int
    epoch: int


def refused(
    found: Head | Record, used_at: float | None, if_epoch: int | None, if_version: int | None
) -> UpdateResult | None:
    """Why an update can't be done; None if it can."""
    if used_at is not None and used_at >= found.expires_at:
        return UpdateResult.GONE
    return refusal(found.version, found.epoch, if_epoch, if_version)


def encode(record: Record) -> bytes:
    """The whole content of a file."""
    packed = pack(record)
    times = encode_times(as_use(record.used_at), deadline(record.expires_at))
    return b"".join((_MAGIC, _CRC.pack(crc32(packed)), times, packed))


def encode_times(used_at: float, expires_at: float) -> bytes:
    """The part of a file that a touch overwrites."""
    times = TIMES.pack(used_at, expires_at)
    return times + _CRC.pack(crc32(times))


def decode(content: bytes) -> Record:
    """The record that a file holds; Damaged if it doesn't hold one."""
    checksum, used_at, expires_at = _decode_head(content)
    if checksum != crc32(memoryview(content)[_HEAD.size :]):
        raise Damaged("the data have another checksum")
    try:
        return unpack(content, _HEAD.size, used_at, expires_at)
    except ValueError as error:
        raise Damaged(str(error)) from error


def peek(file: int) -> Head:
    """The head of an opened file; Damaged if it isn't one of ours."""
    content = os.pread(file, _PEEK, 0)
    _, used_at, expires_at = _decode_head(content)
    if len(content) < _PEEK:
        raise Damaged("cut short")
    return Head(used_at, expires_at, *COUNTS.unpack_from(content, _HEAD.size))


def _decode_head(content: bytes) -> tuple[int, float, float]:
    """Checksum of the data, use and expiry."""
    if len(content) < _HEAD.size or not content.startswith(_MAGIC):
        raise Damaged("not in the format of a session")
    _, checksum, used_at, expires_at, times_checksum = _HEAD.unpack_from(content)
    if times_checksum != crc32(content[TIMES_AT : TIMES_AT + TIMES.size]):
        raise Damaged("the times have another checksum")
    if not math.isfinite(used_at) or math.isnan(expires_at):
        raise Damaged("a time is not a number")
    return checksum, used_at, expires_at
