"""EncryptedStore: encryption at rest, as a layer around any store.

Every field's value, the notes and the owner are sealed with AES-GCM, bound to the store key and
the field's name, so that reading the store shows nothing and values can't be moved between sessions
or fields. Times, version, epoch and the names of fields stay readable, because stores work by them,
and so does the mark of an owner's list. The layer is itself a store and keeps the whole contract;
callers never see a sealed byte.

Two fields of its own tie a record's parts together, so that someone who can write the store can't
mix old parts with new ones: a random value that stands both in the notes and in a field changes
with every change of the notes, and the owner stands in a field as well, so that it can't be
removed or replaced. (A whole record can still be put back as it was: nothing in a store says how
old it is.)
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ..crypto.encryption import Sealer
from ..data.codec import CorruptField
from ..errors import ConfigurationError, StoreError
from ..record import (
    LIST_OWNER,
    UNCHANGED,
    Changes,
    Record,
    UpdateResult,
    apply_changes,
    list_key,
)
from .base import Store
from .wrapper import StoreWrapper

KEY_BYTES = 32
# No plain value starts like this: fields are JSON text, notes begin with their format's number.
_MARK = b"\xe1\x01"
_TIE = "\0tie"
_TIE_BYTES = 16
_OWNER = "\0owner"
_OURS = frozenset({_TIE, _OWNER})
_NO_OWNER = b"\0"
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
            size = f"{len(key)} bytes" if isinstance(key, bytes) else f"type {type(key).__name__}"
            raise ConfigurationError(
                f"encryption_keys holds a key of {size}; each must be {KEY_BYTES} bytes, such as"
                " os.urandom(32) gives, or the SHA-256 digest of a secret"
            )
    return tuple(cast("Sequence[bytes]", keys))


class EncryptedStore(StoreWrapper):
    """Seals what goes into a store, and opens what comes out of it.

    A record that is there but can't be decrypted (another key, damage, plain text) loads as None,
    like one that isn't there; ``update(key, Changes())`` tells the two apart, since it needs no
    key: UPDATED for the former, GONE for the latter. Of an owner's list that can't be, the names of
    its fields are given, with empty values: they are the keys of sessions, and need no key either.

    Args:
        store: where the sealed records are kept.
        keys: 32 bytes each, newest first: the first seals, all open.
        migrate: True: plain records are still read, and sealed at their next write (a mere touch
            is none). Otherwise they are ``corrupt_record``, as is whatever fails to open.
    """

    def __init__(self, store: Store, keys: tuple[bytes, ...], *, migrate: bool = False) -> None:
        super().__init__(store)
        self._sealer = Sealer(keys)
        self._migrate = migrate

    def load(self, key: str) -> Record | None:
        """The record, opened; its fields are opened when they are read.

        One that can't be opened is reported to listeners as ``corrupt_record``. A field that can't
        be raises `CorruptField` when it is read.
        """
        record = self.store.load(key)
        opened = None if record is None else self.opened(key, record)
        if record is not None and opened is None:
            self._notify("corrupt_record", key, _why(record))
            if record.is_owner_list:
                names = (_inner(name) for name in record.fields if name not in _OURS)
                return replace(record, fields=dict.fromkeys(names, b""), notes=b"")
        return opened

    def insert(self, key: str, record: Record) -> bool:
        """Seal and keep a new record."""
        whole = Changes(set=record.fields, notes=record.notes, owner=record.owner)
        sealed = self._sealed(key, whole)
        new = replace(
            record,
            fields=sealed.set,
            notes=sealed.notes or b"",
            owner=cast("str | None", sealed.owner),
        )
        return self.store.insert(key, new)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        """Seal and apply a change set."""
        if changes.is_touch:
            return self.store.update(key, changes, if_epoch=if_epoch, if_version=if_version)
        if self._migrate:
            return self._update_migrating(key, changes, if_epoch, if_version)
        sealed = self._sealed(key, changes)
        return self.store.update(key, sealed, if_epoch=if_epoch, if_version=if_version)

    def _update_migrating(
        self, key: str, changes: Changes, if_epoch: int | None, if_version: int | None
    ) -> UpdateResult:
        """The same, but what is plain in a record is sealed too, if it is still as it was read."""
        for _ in range(_ATTEMPTS):
            record = self.store.load(key)
            whole = changes if record is None else _with_plain_parts(changes, record)
            if record is None or whole is changes:
                sealed = self._sealed(key, changes)
                return self.store.update(key, sealed, if_epoch=if_epoch, if_version=if_version)
            if if_version is not None and record.version != if_version:
                return _answer(record, changes, if_epoch)
            if record.owner and not is_sealed(record):
                # Before the record: to a process that doesn't encrypt yet, a sealed owner is
                # another one, whose session doesn't belong in a list that it can read.
                self._seal_list(record.owner)
            written = self.store.update(
                key, self._sealed(key, whole), if_epoch=if_epoch, if_version=record.version
            )
            if written is not UpdateResult.CONFLICT or if_version is not None:
                return written
        raise StoreError("a plain record was changed too fast to be encrypted", operation="update")

    def _seal_list(self, owner: str) -> None:
        # Once plain records are refused, nobody could be signed out by a list that is still plain.
        at = list_key(owner)
        listed = self.store.load(at)
        if listed is not None and not is_sealed(listed):
            self._update_migrating(at, Changes(notes=listed.notes), None, None)

    def _sealed(self, key: str, changes: Changes) -> Changes:
        fields = {
            _outer(name): self._seal(raw, _context(key, "field", name))
            for name, raw in changes.set.items()
        }
        notes, owner, keep = changes.notes, changes.owner, changes.keep
        if notes is not None:
            tie = os.urandom(_TIE_BYTES)
            notes = self._seal(tie + notes, _context(key, "notes"))
            fields[_TIE] = self._seal(tie, _context(key, "tie"))
        if owner is not UNCHANGED:
            sealed = self._seal(_owner_bytes(owner), _context(key, "owner"))
            fields[_OWNER] = sealed
            owner = owner and _owner_text(sealed)
        return replace(
            changes,
            set=fields,
            delete=frozenset(_outer(name) for name in changes.delete),
            keep=None if keep is None else _OURS.union(map(_outer, keep)),
            notes=notes,
            owner=owner,
        )

    def _seal(self, plain: bytes, context: bytes) -> bytes:
        return _MARK + self._sealer.seal(plain, context)

    def open_value(self, sealed: bytes, context: bytes) -> tuple[bytes, int] | None:
        """The plain bytes and the index of their key; None if they weren't sealed like this."""
        if not sealed.startswith(_MARK):
            return None
        return self._sealer.open(sealed[len(_MARK) :], context)

    def open_field(self, key: str, name: str, kept: bytes) -> tuple[bytes, bool] | None:
        """The plain bytes of a field, and whether it should be sealed anew; None: not sealed like
        this.
        """
        if self._migrate and not kept.startswith(_MARK):
            # A process that doesn't encrypt yet wrote it after the record had been sealed.
            return kept, True
        opened = self.open_value(kept, _context(key, "field", name))
        return None if opened is None else (opened[0], opened[1] > 0)

    def opened(self, key: str, record: Record) -> Record | None:
        """The record, as the store inside keeps it, as it can be read; None if it can't."""
        if not is_sealed(record):
            return record if self._migrate else None
        sealed_owner = record.fields.get(_OWNER, b"")
        opened_notes = self.open_value(record.notes, _context(key, "notes"))
        opened_tie = self.open_value(record.fields.get(_TIE, b""), _context(key, "tie"))
        opened_owner = self.open_value(sealed_owner, _context(key, "owner"))
        if opened_notes is None or opened_tie is None or opened_owner is None:
            return None
        # Each with the index of its key, which is 0 for the newest.
        (notes, first), (tie, second), (owner, third) = opened_notes, opened_tie, opened_owner
        if len(tie) != _TIE_BYTES or not hmac.compare_digest(notes[:_TIE_BYTES], tie):
            return None
        if not _stands_for(record.owner, owner, sealed_owner):
            return None
        return replace(
            record,
            fields=_SealedFields(self, key, record.fields, outdated=any((first, second, third))),
            notes=notes[_TIE_BYTES:],
            owner=None if owner == _NO_OWNER else owner[1:].decode(*_ENCODING),
        )


class _SealedFields(Mapping[str, bytes]):
    """A record's fields, each opened when it is read."""

    __slots__ = ("_fields", "_key", "_store", "outdated")

    outdated: bool
    """Whether any part that was read so far was sealed under another key than the newest."""

    def __init__(
        self, store: EncryptedStore, key: str, fields: Mapping[str, bytes], *, outdated: bool
    ) -> None:
        self._store = store
        self._key = key
        self._fields = fields
        self.outdated = outdated

    def __getitem__(self, name: str) -> bytes:
        opened = self._store.open_field(self._key, name, self._fields[_outer(name)])
        if opened is None:
            raise CorruptField("can't be decrypted")
        plain, outdated = opened
        self.outdated = self.outdated or outdated
        return plain

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _outer(name) in self._fields

    def __iter__(self) -> Iterator[str]:
        return (_inner(name) for name in self._fields if name not in _OURS)

    def __len__(self) -> int:
        return len(self._fields) - sum(name in self._fields for name in _OURS)


def is_sealed(record: Record) -> bool:
    """Whether a record, as it is kept, was encrypted by an `EncryptedStore`."""
    return record.notes.startswith(_MARK)


def _why(record: Record) -> str:
    """Why a record can't be read."""
    return "can't be decrypted" if is_sealed(record) else "not encrypted"


def _with_plain_parts(changes: Changes, record: Record) -> Changes:
    """The changes, and with them all that isn't sealed yet; the same object if all of it is."""
    if not is_sealed(record):
        return replace(
            changes,
            set=apply_changes(record.fields, changes),
            delete=frozenset[str](),
            keep=frozenset[str](),
            notes=record.notes if changes.notes is None else changes.notes,
            owner=record.owner if changes.owner is UNCHANGED else changes.owner,
        )
    # A process that doesn't encrypt yet has written them.
    left = {
        _inner(name): raw
        for name, raw in record.fields.items()
        if not raw.startswith(_MARK) and name not in _OURS
    }
    return replace(changes, set=apply_changes(left, changes)) if left else changes


def _answer(record: Record, changes: Changes, if_epoch: int | None) -> UpdateResult:
    """The answer to an update of another version than this record has."""
    if if_epoch is not None and record.epoch != if_epoch:
        return UpdateResult.GONE
    if changes.used_at is not None and changes.used_at >= record.expires_at:
        return UpdateResult.GONE
    return UpdateResult.CONFLICT


def _owner_bytes(owner: str | None) -> bytes:
    return _NO_OWNER if owner is None else b"\1" + owner.encode(*_ENCODING)


def _owner_text(sealed: bytes) -> str:
    """A sealed owner as the text that the store inside takes for the owner."""
    return base64.b64encode(sealed).decode()


def _stands_for(kept: str | None, owner: bytes, sealed: bytes) -> bool:
    """Whether the store inside names that owner, and not one that somebody else wrote there."""
    if owner == _NO_OWNER:
        return kept is None
    if owner == _owner_bytes(LIST_OWNER):
        return kept == LIST_OWNER
    return kept == _owner_text(sealed)


def _outer(name: str) -> str:
    """The field's name in the inner store: ours are out of the app's reach."""
    return "\0" + name if name.startswith("\0") else name


def _inner(name: str) -> str:
    return name[1:] if name.startswith("\0\0") else name


def _context(key: str, part: str, name: str = "") -> bytes:
    # A subclass of str, such as an enum's, is read by what it equals, not by what it shows.
    plain = str.__str__(name)
    return f"wsgi-sessions.record\0{key}\0{part}\0{plain}".encode(*_ENCODING)
