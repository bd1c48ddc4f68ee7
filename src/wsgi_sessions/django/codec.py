"""Values as Django keeps them: what its JSON serializer takes, this codec takes.

TextChoices and SafeString come back as str, numbers that are keys as text, as after Django's own
sessions; whatever JSON has no type for, but ours has, comes back exactly as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.codec import MAX_DEPTH, TOO_DEEP, JSONCodec, UnstorableValue


class DjangoCodec:
    """JSONCodec, and what Django's serializer takes beyond it."""

    def __init__(self) -> None:
        self._plain = JSONCodec()

    def encode(self, value: Any) -> bytes:
        """The value as JSON.

        Raises:
            UnstorableValue: a TypeError that says where the trouble is.
        """
        try:
            return self._plain.encode(value)
        except UnstorableValue:
            # Once more in plain types; that raises if the value can't be kept even so.
            return self._plain.encode(plain(value))

    def reencode(self, value: Any, known: bytes) -> bytes:
        """The value as JSON; ``known`` itself if that is still its encoding.

        Raises:
            UnstorableValue: see `encode`.
        """
        try:
            return self._plain.reencode(value, known)
        except UnstorableValue:
            return self._plain.encode(plain(value))

    def decode(self, data: bytes) -> Any:
        """The value of this JSON.

        Raises:
            CorruptField: for anything that `encode` would not have written.
        """
        return self._plain.decode(data)


def plain(value: Any, depth: int = 0) -> Any:
    """The value with subclasses of JSON's types as those types, and keys as JSON has them."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if depth > MAX_DEPTH:
        raise UnstorableValue(TOO_DEEP)
    given: Any = value
    if isinstance(value, Mapping):
        items = given.items()
        return {_key(key): plain(item, depth + 1) for key, item in items}
    if isinstance(value, tuple):
        return tuple(plain(item, depth + 1) for item in given)
    if isinstance(value, list):
        return [plain(item, depth + 1) for item in given]
    return value


_CONSTANTS = {True: "true", False: "false", None: "null"}


def _key(key: Any) -> Any:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return _CONSTANTS[key]
    if isinstance(key, int):
        return int.__repr__(key)
    return float.__repr__(key) if isinstance(key, float) else key
