"""ClientSideStore: the whole session travels in the cookie, sealed; the server keeps nothing.

Good for small sessions on many servers without a shared store. What it can't do is inherent: end a
session that somebody has a copy of, order concurrent requests, list a user's sessions. This module
has the setting, and seals and opens records; what is sealed is decided by the engine, by the same
table as for every store.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from itsdangerous import Signer

from ._options import check_flag, checked_options
from .cookie import MAX_BYTES
from .crypto.encryption import Sealer
from .crypto.session_id import is_id
from .crypto.signing import derive_key
from .data.notes import NO_LABEL, dump_notes, load_notes
from .errors import SessionTooLarge, UnsupportedByStore
from .record import Changes, Record, UpdateResult
from .stores.base import Store

_SIGNED = "s1."
_ENCRYPTED = "e1."
_FORM = re.compile(r"(?:s1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}|e1\.[A-Za-z0-9_-]+)")
_HEAD = struct.Struct(">ddQQBHH")
_LENGTHS = struct.Struct(">HI")


@checked_options
class ClientSideStore(Store):
    """Keeps the session in the client's cookie: sealed under the middleware's ``secret_key``.

    Args:
        encrypt: True encrypts (AES-GCM; needs ``pip install 'wsgi-sessions[crypto]'``); False
            only signs, so that the client can read the data, but not change it.

    The last response wins, at most 4096 bytes fit (`SessionTooLarge` names what is biggest),
    and ``destroy`` only expires the cookie: a stolen copy lives until its deadline. Whatever needs
    the server to know its sessions raises UnsupportedByStore.

    Raises:
        ConfigurationError: for an option that can't work; when the middleware is made, where
            ``cryptography`` is missing.
    """

    def __init__(self, *, encrypt: bool = True) -> None:
        check_flag("ClientSideStore", "encrypt", encrypt)
        self.encrypt = encrypt

    def __repr__(self) -> str:
        return f"ClientSideStore(encrypt={self.encrypt})"

    def load(self, key: str) -> Record | None:
        _refuse("load by key")

    def insert(self, key: str, record: Record) -> bool:
        _refuse("insert")

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        _refuse("update by key")

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        _refuse("delete by key")

    def purge_expired(self, now: float) -> int:
        """Nothing is kept, so there is nothing to remove: always 0."""
        return 0

    def keys(self) -> Iterator[str]:
        _refuse("list its keys")

    def clear(self) -> None:
        _refuse("clear")

    def ping(self) -> None:
        """There is no server that could fail."""

    def close(self) -> None:
        """There is nothing open."""


def _refuse(what: str) -> NoReturn:
    raise UnsupportedByStore(
        f"ClientSideStore can't {what}: the sessions live with the clients; use a store on the"
        " server for that"
    )


class UnsealedToken(NamedTuple):
    """A session that a client brought."""

    session_id: str
    record: Record
    old_secret: bool

    def __repr__(self) -> str:
        return f"UnsealedToken({self.record!r}, old_secret={self.old_secret})"


class ClientSeal:
    """Seals records into cookie values under the app's secrets, newest first.

    The purpose (cookie or header, and its name) is bound in. What was only signed is refused where
    encryption is expected, and the other way round.
    """

    __slots__ = ("_encrypt", "_secrets", "mark")

    mark: str
    """What a token of this kind begins with."""

    def __init__(self, secrets: tuple[bytes, ...], *, encrypt: bool) -> None:
        self._secrets = secrets
        self._encrypt = encrypt
        self.mark = _ENCRYPTED if encrypt else _SIGNED
        if encrypt:
            # So that a missing package is found out when the middleware is made.
            Sealer(())

    def seal(self, session_id: str, record: Record, purpose: str) -> str:
        """The cookie's value.

        Raises:
            SessionTooLarge: if no browser would keep it.
        """
        packed = _pack(session_id, record)
        if self._encrypt:
            sealed = self._sealer(purpose).seal(packed, purpose.encode())
            value = _ENCRYPTED + _base64(sealed)
        else:
            value = self._signer(self._secrets[0], purpose).sign(_SIGNED + _base64(packed)).decode()
        name = purpose.partition(".")[2]
        if len(name) + len(value) > MAX_BYTES:
            parts = sorted(_parts(record).items(), key=lambda part: part[1], reverse=True)
            sizes = ", ".join(f"{name} with {size} bytes" for name, size in parts[:3])
            raise SessionTooLarge(
                f"the session takes {len(value)} bytes as a cookie and browsers keep {MAX_BYTES};"
                f" its biggest parts are {sizes}; keep such data elsewhere, or use a store on"
                " the server"
            )
        return value

    def open(self, value: str, purpose: str) -> UnsealedToken | None:
        """The session in this value, or None if it isn't one that we sealed for this purpose."""
        if len(value) > MAX_BYTES or not _FORM.fullmatch(value):
            return None
        if not value.startswith(self.mark):
            return None
        opened = self._decrypt(value, purpose) if self._encrypt else self._unsign(value, purpose)
        if opened is None:
            return None
        packed, index = opened
        try:
            return UnsealedToken(*_unpack(packed), old_secret=index > 0)
        except (struct.error, UnicodeDecodeError, ValueError):
            return None

    def _decrypt(self, value: str, purpose: str) -> tuple[bytes, int] | None:
        raw = _unbase64(value.removeprefix(_ENCRYPTED))
        return None if raw is None else self._sealer(purpose).open(raw, purpose.encode())

    def _unsign(self, value: str, purpose: str) -> tuple[bytes, int] | None:
        text = value.rpartition(".")[0]
        for index, secret in enumerate(self._secrets):
            # Signed again and compared as a whole: only the canonical spelling is accepted.
            if hmac.compare_digest(self._signer(secret, purpose).sign(text), value.encode("ascii")):
                raw = _unbase64(text.removeprefix(_SIGNED))
                return None if raw is None else (raw, index)
        return None

    def _sealer(self, purpose: str) -> Sealer:
        # Not the key that signs: each key has only one purpose.
        purpose = f"client-side.encrypted.{purpose}"
        return Sealer(tuple(derive_key(secret, purpose) for secret in self._secrets))

    @staticmethod
    def _signer(secret: bytes, purpose: str) -> Signer:
        return Signer(
            secret,
            salt=f"wsgi-sessions.client-side.{purpose}".encode(),
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )


def _parts(record: Record) -> dict[str, int]:
    """What of a session may be large, with its size."""
    parts = {repr(name): len(raw) for name, raw in record.fields.items()}
    notes = load_notes(record.notes)
    if notes.label:
        plain = dump_notes(notes._replace(label=NO_LABEL))
        parts["session.label"] = len(record.notes) - len(plain)
    return parts


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _unbase64(text: str) -> bytes | None:
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return raw if _base64(raw) == text else None


def _pack(session_id: str, record: Record) -> bytes:
    owner = b"" if record.owner is None else record.owner.encode("utf-8")
    head = _HEAD.pack(
        record.used_at,
        record.expires_at,
        record.version,
        record.epoch,
        len(session_id),
        len(owner),
        len(record.notes),
    )
    parts = [head, session_id.encode("ascii"), owner, record.notes]
    for name, raw in record.fields.items():
        encoded = name.encode("utf-8")
        parts += [_LENGTHS.pack(len(encoded), len(raw)), encoded, raw]
    return b"".join(parts)


def _unpack(packed: bytes) -> tuple[str, Record]:
    used_at, expires_at, version, epoch, *lengths = _HEAD.unpack_from(packed)
    at = _HEAD.size
    parts: list[bytes] = []
    for length in lengths:
        parts.append(packed[at : at + length])
        at += length
    fields: dict[str, bytes] = {}
    while at < len(packed):
        name_length, length = _LENGTHS.unpack_from(packed, at)
        at += _LENGTHS.size
        name = packed[at : at + name_length].decode("utf-8")
        at += name_length
        fields[name] = packed[at : at + length]
        at += length
    session_id = parts[0].decode("ascii")
    if at != len(packed) or not is_id(session_id):
        raise ValueError("truncated")
    owner = parts[1].decode("utf-8") or None
    record = Record(fields, parts[2], used_at, expires_at, version, epoch, owner)
    return session_id, record
