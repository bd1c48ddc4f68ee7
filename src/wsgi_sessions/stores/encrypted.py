"""SealedStore: encryption at rest, as a layer around any store.

Every field's value and the notes are sealed with AES-GCM, bound to the store key and the field's
name, so that reading the store shows nothing and values can't be moved between sessions or fields.
Owner, times and field names stay readable: stores work by them; the owner is sealed a second time
beside, so that nobody else can write one. The layer is itself a store and holds to the whole
contract; who calls it never sees a sealed byte.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ..crypto.encryption import Sealer
from ..data.codec import CorruptField
from ..errors import ConfigurationError, StoreError
from ..record import Changes, OwnedEntry, Record, UpdateResult
from .base import Store, StoreListener

KEY_BYTES = 32
# No plain value starts so: fields are JSON text, notes begin with their format's number.
_MARK = b"\xe1\x01"
# The tie: a random value that stands both in the notes and in a field of its own. Notes change
# together with it, so that older notes, put back by someone who writes the store, don't fit.
_TIE = "\0tie"
_TIE_BYTES = 16
# The owner, who never changes under one key: an owner that someone wrote into the store isn't this.
_OWNER = "\0owner"
_OURS = (_TIE, _OWNER)
_ATTEMPTS = 16
_ENCODING = "utf-8", "surrogatepass"


def check_keys(keys: object) -> tuple[bytes, ...]:
    """``encryption_keys`` as given, newest first.

    Raises:
        ConfigurationError: for anything but a list or tuple of 32 bytes each. Never quotes one.
    """
    if not isinstance(keys, (list, tuple)):
        raise ConfigurationError(
            f"encryption_keys is of type {type(keys).__name__}; write a list of keys of"
            f" {KEY_BYTES} bytes each, newest first"
        )
    for key in cast("Sequence[object]", keys):
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            size = f"{len(key)} bytes" if isinstance(key, bytes) else f"a {type(key).__name__}"
            raise ConfigurationError(
                f"encryption_keys holds a key of {size}; each must be {KEY_BYTES} bytes, such as"
                " os.urandom(32) gives, or the SHA-256 digest of a secret"
            )
        if len(set(key)) == 1:
            raise ConfigurationError(
                "encryption_keys holds a key of one byte repeated; make one with os.urandom(32)"
            )
    return tuple(cast("Sequence[bytes]", keys))


class SealedStore(Store):
    """Seals what goes into a store, and opens what comes out of it.

    Args:
        store: where the sealed records are kept.
        keys: 32 bytes each, newest first: the first seals, all open.
        migrate: True: plain records are still read, and sealed at their next write. Otherwise
            they are ``corrupt_record``, as is whatever fails to open.
    """

    def __init__(self, store: Store, keys: tuple[bytes, ...], *, migrate: bool = False) -> None:
        super().__init__()
        self._store = store
        self._sealer = Sealer(keys)
        self._migrate = migrate

    def __repr__(self) -> str:
        return f"SealedStore({self._store!r})"

    @property
    def clock(self) -> Callable[[], float]:  # pyright: ignore[reportIncompatibleMethodOverride] # an attribute there, the inner store's here
        """The inner store's clock."""
        return self._store.clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # as above
        self._store.clock = clock

    def subscribe(self, listener: StoreListener) -> None:
        """Have ``listener`` told of damaged records, here and in the inner store."""
        super().subscribe(listener)
        self._store.subscribe(listener)

    def load(self, key: str) -> Record | None:
        record = self._store.load(key)
        if record is None:
            return None
        if not record.notes.startswith(_MARK):
            if self._migrate:
                return self._partly_plain(key, record)
            self._notify("corrupt_record", key, "not encrypted")
            return None
        notes = self._open_notes(key, record)
        if notes is None:
            self._notify("corrupt_record", key, "can't be decrypted")
            return None
        return replace(record, notes=notes, fields=_SealedFields(self, key, record.fields))

    def _partly_plain(self, key: str, record: Record) -> Record:
        # A plain record may hold sealed fields only while it is being migrated.
        return replace(record, fields=_SealedFields(self, key, record.fields))

    def insert(self, key: str, record: Record) -> bool:
        return self._store.insert(key, self._sealed(key, record))

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        sealed = self._sealed(new_key, record)
        return self._store.replace(old_key, new_key, sealed, if_version=if_version)

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        if self._migrate:
            return self._update_migrating(key, changes, if_version)
        return self._store.update(key, self._sealed_changes(key, changes), if_version=if_version)

    def _update_migrating(self, key: str, changes: Changes, if_version: int | None) -> UpdateResult:
        for _ in range(_ATTEMPTS):
            record = self._store.load(key)
            if record is None or record.notes.startswith(_MARK):
                sealed = self._sealed_changes(key, changes)
                return self._store.update(key, sealed, if_version=if_version)
            if if_version is not None and record.version != if_version:
                return UpdateResult.CONFLICT
            plain = self._partly_plain(key, record).fields
            fields = {n: raw for n, raw in plain.items() if n not in changes.delete}
            notes = record.notes if changes.notes is None else changes.notes
            whole = replace(changes, set={**fields, **changes.set}, notes=notes)
            sealed = self._sealed_changes(key, whole)
            owned = replace(sealed, set={**sealed.set, **self._sealed_owner(key, record.owner)})
            written = self._store.update(key, owned, if_version=record.version)
            if written is not UpdateResult.CONFLICT or if_version is not None:
                return written
        raise StoreError("a plain record was changed too fast to be encrypted", operation="update")

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return self._store.delete(key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        return self._store.purge_expired(now)

    def keys(self) -> Iterator[str]:
        return self._store.keys()

    def clear(self) -> None:
        self._store.clear()

    def ping(self) -> None:
        self._store.ping()

    def close(self) -> None:
        self._store.close()

    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        return self._store.add_owned(owner, key, expires_at)

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        return self._store.owned_by(owner)

    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        self._store.remove_owned(owner, keys)

    def generation(self, owner: str) -> int:
        return self._store.generation(owner)

    def next_generation(self, owner: str) -> int:
        return self._store.next_generation(owner)

    def _sealed(self, key: str, record: Record) -> Record:
        sealed = self._sealed_changes(key, Changes(set=record.fields, notes=record.notes))
        fields = {**sealed.set, **self._sealed_owner(key, record.owner)}
        return replace(record, fields=fields, notes=sealed.notes or b"")

    def _sealed_owner(self, key: str, owner: str | None) -> dict[str, bytes]:
        if owner is None:
            return {}
        return {_OWNER: self._seal(owner.encode(*_ENCODING), _context(key, "owner"))}

    def _sealed_changes(self, key: str, changes: Changes) -> Changes:
        fields = {
            _outer(name): self._seal(raw, _context(key, "field", name))
            for name, raw in changes.set.items()
        }
        delete = frozenset(_outer(name) for name in changes.delete)
        notes = changes.notes
        if notes is not None:
            tie = os.urandom(_TIE_BYTES)
            notes = self._seal(tie + notes, _context(key, "notes"))
            fields[_TIE] = self._seal(tie, _context(key, "tie"))
        return replace(changes, set=fields, delete=delete, notes=notes)

    def _seal(self, plain: bytes, context: bytes) -> bytes:
        return _MARK + self._sealer.seal(plain, context)

    def open_value(self, sealed: bytes, context: bytes) -> bytes | None:
        """The plain bytes; None if they can't be opened. Plain ones only while migrating."""
        if not sealed.startswith(_MARK):
            return sealed if self._migrate else None
        opened = self._sealer.open(sealed[len(_MARK) :], context)
        return None if opened is None else opened[0]

    def _open_notes(self, key: str, record: Record) -> bytes | None:
        notes = self.open_value(record.notes, _context(key, "notes"))
        tie = self.open_value(record.fields.get(_TIE, b""), _context(key, "tie"))
        if notes is None or tie is None or len(tie) != _TIE_BYTES:
            return None
        if not self._is_owner(key, record):
            return None
        return notes[_TIE_BYTES:] if hmac.compare_digest(notes[:_TIE_BYTES], tie) else None

    def _is_owner(self, key: str, record: Record) -> bool:
        sealed = record.fields.get(_OWNER)
        if sealed is None or record.owner is None:
            return sealed is None and record.owner is None
        return self.open_value(sealed, _context(key, "owner")) == record.owner.encode(*_ENCODING)


class _SealedFields(Mapping[str, bytes]):
    """A record's fields, each opened when it is asked for."""

    __slots__ = ("_fields", "_key", "_store")

    def __init__(self, store: SealedStore, key: str, fields: Mapping[str, bytes]) -> None:
        self._store = store
        self._key = key
        self._fields = fields

    def __getitem__(self, name: str) -> bytes:
        sealed = self._fields[_outer(name)]
        plain = self._store.open_value(sealed, _context(self._key, "field", name))
        if plain is None:
            raise CorruptField("can't be decrypted")
        return plain

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _outer(name) in self._fields

    def __iter__(self) -> Iterator[str]:
        return (_inner(name) for name in self._fields if name not in _OURS)

    def __len__(self) -> int:
        return len(self._fields) - sum(name in self._fields for name in _OURS)


def _outer(name: str) -> str:
    """The field's name in the inner store: ours are out of the app's reach."""
    return "\0" + name if name.startswith("\0") else name


def _inner(name: str) -> str:
    return name[1:] if name.startswith("\0\0") else name


def _context(key: str, part: str, name: str = "") -> bytes:
    return f"wsgi-sessions.record\0{key}\0{part}\0{name}".encode()
