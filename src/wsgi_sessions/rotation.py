"""Forward records: how the holder of an ID that was rotated away reaches the session for a while.

A forward lies under a key of its own, which no ID hashes to. It holds a random nonce and the
successor's store key, never the new ID: that is an HMAC of the old ID and the nonce, under a key
derived from the app's secret, so that only someone with the old ID *and* the secret gets it. After
its grace a forward stays, as a tombstone, to tell theft from chance. No I/O here.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import struct
from base64 import urlsafe_b64encode
from typing import NamedTuple

from .record import Record, is_key
from .crypto.signing import Identity, derive_key

GRACE = 30.0
"""Seconds for which the immediate predecessor of an ID still reaches its session."""
TOMBSTONE = 30 * 24 * 60 * 60.0
"""Seconds for which a forward is kept where the session has no absolute deadline."""
_NONCE = 16
_HEAD = struct.Struct(">3sd16s64s")
_MAGIC = b"fw1"


class Forward(NamedTuple):
    """Where the holder of a rotated ID is sent."""

    until: float
    """The end of the grace. UNIX seconds."""
    nonce: bytes
    successor: str
    """The successor's store key."""


class Rotation:
    """Derives successors under the app's secrets, newest first."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._keys = tuple(derive_key(secret, "rotation") for secret in secrets)

    def start(self, old: Identity, now: float) -> tuple[Identity, Forward]:
        """A successor for ``old``, and the forward that leads to it."""
        nonce = os.urandom(_NONCE)
        new = _derive(self._keys[0], old, nonce)
        return new, Forward(now + GRACE, nonce, new.key)

    def follow(self, old: Identity, forward: Forward) -> Identity | None:
        """The successor that this forward leads the holder of ``old`` to.

        None if it was made under a secret that isn't known any more.
        """
        for key in self._keys:
            new = _derive(key, old, forward.nonce)
            if hmac.compare_digest(new.key, forward.successor):
                return new
        return None


def _derive(key: bytes, old: Identity, nonce: bytes) -> Identity:
    digest = hmac.digest(key, nonce + old.id.encode("ascii"), "sha256")
    return Identity(urlsafe_b64encode(digest).rstrip(b"=").decode("ascii"))


def forward_key(identity: Identity) -> str:
    """The store key of the forward for this ID."""
    return hashlib.sha256(b"forward:" + identity.id.encode("ascii")).hexdigest()


def forward_record(forward: Forward, now: float, ends_at: float) -> Record:
    """The forward as a record that lasts until ``ends_at`` (UNIX seconds; ``inf``: 30 days)."""
    notes = _HEAD.pack(_MAGIC, forward.until, forward.nonce, forward.successor.encode("ascii"))
    return Record({}, notes, now, now + TOMBSTONE if math.isinf(ends_at) else ends_at)


def read_forward(record: Record) -> Forward | None:
    """The forward that this record holds, or None if it is damaged."""
    try:
        magic, until, nonce, successor = _HEAD.unpack(record.notes)
        key = successor.decode("ascii")
    except (struct.error, UnicodeDecodeError):
        return None
    return Forward(until, nonce, key) if magic == _MAGIC and is_key(key) else None
