"""Fields: encoded fields seen as live values, each decoded when it is first read.

Changes inside nested values are noticed by comparing encoded bytes with what was loaded. A pure
data structure: no store, no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import StoreError
from .codec import Codec, CorruptField, UnstorableValue

# Of these, neither the value nor anything in it can change in place.
_FROZEN: frozenset[type] = frozenset({str, int, float, bool, type(None), bytes})

NO_NAMES: frozenset[str] = frozenset()


class FieldChanges(NamedTuple):
    """What differs from the base."""

    set: Mapping[str, bytes]
    delete: frozenset[str]

    def __repr__(self) -> str:
        # Only names: tools that show the locals of a traceback must not show what users store.
        return f"FieldChanges(set {sorted(self.set)}, delete {sorted(self.delete)})"


NO_FIELD_CHANGES = FieldChanges(MappingProxyType({}), NO_NAMES)


class Fields(MutableMapping[str, Any]):
    """A session's data.

    Args:
        base: the encoded fields as they are stored; never changed here.
        codec: turns one value into bytes and back.

    Reading, setting or removing a field that can't be decoded raises CorruptField. Setting a value
    that can't be stored raises TypeError, naming its path.
    """

    __slots__ = ("_base", "_codec", "_removed", "_stale", "_unsure", "_values", "_written")

    def __init__(self, base: Mapping[str, bytes], codec: Codec) -> None:
        self._base = base
        self._codec = codec
        self._values: dict[str, Any] = {}
        # The encoded form of the fields that were set.
        self._written: dict[str, bytes] = {}
        self._removed: set[str] = set()
        # What the store will have, or has, may differ from the base: these count as changed, even
        # if they are what they were.
        self._unsure: frozenset[str] = NO_NAMES
        self._stale: frozenset[str] = NO_NAMES

    def __getitem__(self, key: str) -> Any:
        values = self._values
        if key in values:
            return values[key]
        if key in self._removed:
            raise KeyError(key)
        value = values[key] = self._decode(self._base[key])
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value of this key, or ``default``."""
        values = self._values
        if key in values:
            return values[key]
        if key not in self._base or key in self._removed:
            return default
        value = values[key] = self._decode(self._base[key])
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str or not key.isascii():
            key = checked_key(key)
        encoded = self._encode(key, value)
        self._meet(key)
        self._written[key] = encoded
        self._values[key] = value
        self._removed.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._meet(key)
        self._remove(key)

    def _remove(self, key: str) -> None:
        self._values.pop(key, None)
        self._written.pop(key, None)
        if key in self._base:
            self._removed.add(checked_key(key))

    def __contains__(self, key: object) -> bool:
        return key in self._values or (key in self._base and key not in self._removed)

    def __iter__(self) -> Iterator[str]:
        # A copy, so that an app may change and commit the session while it goes through it.
        base, removed = self._base, self._removed
        names = [name for name in base if name not in removed]
        names.extend(name for name in self._values if name not in base)
        return iter(names)

    def __len__(self) -> int:
        new = sum(1 for name in self._values if name not in self._base)
        return len(self._base) - len(self._removed) + new

    def __bool__(self) -> bool:
        if len(self._base) > len(self._removed):
            return True
        return bool(self._values) and any(name not in self._base for name in self._values)

    def clear(self) -> None:
        """Remove all fields, without decoding any."""
        self._values.clear()
        self._written.clear()
        self._removed.update(self._base)

    def retain(self, keys: Collection[str]) -> None:
        """Remove all fields but these, without decoding any."""
        for name in [name for name in self if name not in keys]:
            self._remove(name)
        # Including those that were removed before: the store still has them.
        self._unsure |= self._removed.difference(keys)

    def restore(self, names: Iterable[str]) -> None:
        """Take back what was set or removed in these fields since the last rebase."""
        for name in names:
            self._values.pop(name, None)
            self._written.pop(name, None)
            self._removed.discard(name)

    def written(self) -> dict[str, Any]:
        """The fields that were set since the last rebase, not those that were only read."""
        return {name: self._values[name] for name in self._written}

    def changes(self) -> FieldChanges:
        """What differs from the base; the very object `NO_FIELD_CHANGES` if nothing does.

        Raises:
            TypeError: if a nested change made a value unstorable; names its path.
        """
        if not self._values and not self._removed and not self._unsure:
            return NO_FIELD_CHANGES
        set_, removed = self._set(), NO_NAMES
        if self._removed or self._unsure:
            removed = self._unsure.difference(self._values).union(self._removed)
        return FieldChanges(set_, removed) if set_ or removed else NO_FIELD_CHANGES

    def _set(self) -> dict[str, bytes]:
        """The fields that were set, or changed in place, to something else than the base's."""
        found: dict[str, bytes] = {}
        # No fields in locals that the request may never have touched: some tools show them.
        for name, value in self._values.items():
            set_to = self._written.get(name)
            if type(value) in _FROZEN:
                if set_to is None:
                    continue
                encoded = set_to
            else:
                encoded = self._reencode(
                    name, value, self._base[name] if set_to is None else set_to
                )
                if set_to is not None:
                    self._written[name] = encoded
            if (
                self._base.get(name) != encoded
                or name in self._unsure
                or (set_to is not None and name in self._stale)
            ):
                found[name] = encoded
        return found

    def encoded(self) -> dict[str, bytes]:
        """All fields as they would be stored now."""
        fields = {name: raw for name, raw in self._base.items() if name not in self._removed}
        fields.update(self._set())
        return fields

    def doubt(self, tried: FieldChanges) -> None:
        """Note that these may or may not have been written: the store failed meanwhile."""
        self._unsure = self._unsure.union(tried.set, tried.delete)

    def distrust(self, tried: FieldChanges) -> None:
        """Note that a transaction may or may not have written these. They aren't changes of the
        app's own; but what it sets there is written, even if that is what was loaded.
        """
        self._stale = self._stale.union(tried.set, tried.delete)

    def start_over(self, names: Iterable[str]) -> None:
        """Go on from nothing, with these of the fields as if they had just been set.

        Raises:
            TypeError: a nested change made a value unstorable; names its path.
        """
        values, written = self._values, self._written
        self._written = {
            name: written[name] if name in written else self._encode(name, values[name])
            for name in names
        }
        self._values = {name: values[name] for name in self._written}
        self._base, self._removed = dict[str, bytes](), set[str]()
        self._unsure = self._stale = NO_NAMES

    def rebase(self, base: Mapping[str, bytes], done: FieldChanges) -> None:
        """Go on from these encoded fields, which hold what was changed.

        Live values stay the same objects, and are still watched, unless another request has
        written the field since. What was changed meanwhile, by a listener say, is still to be
        written.

        Args:
            base: the fields as they are stored now.
            done: what this request wrote and removed.
        """
        expected = {**self._base, **done.set}
        for name in done.delete:
            expected.pop(name, None)
        values = self._values
        written = {name: raw for name, raw in self._written.items() if raw != expected.get(name)}
        removed = (self._removed - done.delete) | (done.set.keys() - values.keys())
        self._values = {
            name: value
            for name, value in values.items()
            if name in written or base.get(name) == expected.get(name)
        }
        self._base = base
        self._written = written
        self._removed = removed.intersection(base)
        self._unsure = self._stale = NO_NAMES

    def is_damaged(self, names: Collection[str] | None) -> bool:
        """Whether one of these fields (None: of all) can't be decoded."""
        try:
            for name in self._base if names is None else names:
                self._meet(name)
        except CorruptField:
            return True
        return False

    def _meet(self, key: str) -> None:
        """Decode what is replaced without having been read: it may be damaged."""
        if key not in self._values and key not in self._removed and key in self._base:
            self._decode(self._base[key])

    def loaded_names(self) -> list[str]:
        """The fields that were decoded or set so far."""
        return list(self._values)

    def _decode(self, raw: bytes) -> Any:
        try:
            return self._codec.decode(raw)
        except (CorruptField, StoreError, MemoryError, RecursionError):
            # The last two are about where it is read: elsewhere there may be room.
            raise
        except OSError as error:
            raise _failed("decode", error) from error
        except Exception as error:
            # A codec of the app's own that meets what another one wrote.
            raise CorruptField(f"not a value: {type(error).__name__}") from error

    def _encode(self, key: str, value: Any) -> bytes:
        try:
            encoded: object = self._codec.encode(value)
        except OSError as error:
            raise _failed("encode", error) from error
        except (TypeError, ValueError) as error:
            raise _unstorable(key, error) from None
        if not isinstance(encoded, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] # of an app's own codec
            kind = type(encoded).__name__
            raise _unstorable(key, TypeError(f"the codec's encode() gave {kind}, not bytes"))
        return encoded

    def _reencode(self, key: str, value: Any, known: bytes) -> bytes:
        """The value's encoding, which was this when it was read or set."""
        codec = self._codec
        # Its own method: one that a subclass inherits knows nothing of how that encodes.
        reencode = type(codec).__dict__.get("reencode")
        if reencode is None:
            return self._encode(key, value)
        try:
            encoded: bytes = reencode(codec, value, known)
        except OSError as error:
            raise _failed("encode", error) from error
        except (TypeError, ValueError) as error:
            raise _unstorable(key, error) from None
        return encoded


def _failed(operation: str, error: OSError) -> StoreError:
    """Of a codec that asks something else: neither the field nor the value is to blame.

    Caught before anything else, as a certificate's error is a ValueError, too.
    """
    return StoreError(f"the codec failed: {error}", operation=operation)


def _unstorable(key: str, error: Exception) -> TypeError:
    if isinstance(error, UnstorableValue):
        return TypeError(f"session[{key!r}]{error.path} can't be stored: {error.reason}")
    return TypeError(f"session[{key!r}] can't be stored: {error}")


def checked_key(key: object) -> str:
    """The key as a plain str: a subclass, such as an enum's, may show itself as another text.

    Raises:
        TypeError: it isn't a str, or can't be stored.
    """
    if not isinstance(key, str):
        raise TypeError(f"a session's keys are str, and this one is {type(key).__name__}")
    if not key.isascii():
        try:
            key.encode("utf-8")
        except UnicodeEncodeError:
            raise TypeError(
                "a session's key has characters that can't be encoded as UTF-8"
            ) from None
    return str.__str__(key)
