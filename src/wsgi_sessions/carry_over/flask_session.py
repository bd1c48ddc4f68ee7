"""Flask-Session's sessions in Redis (msgpack, JSON, pickle) and in cachelib's files (pickle).

The cookie is an ID, signed by itsdangerous where ``SESSION_USE_SIGNER`` was set. cachelib names its
files by a hash of prefix and ID, and begins them with four bytes: when they expire.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from .._options import checked_options
from ..errors import ConfigurationError
from . import records, signatures, values
from .pickles import read_pickle
from .records import FileRecords, OldRecord, Records, RedisRecords
from .source import CannotKeep, Found, Source, check_common

_ID = re.compile(r"[A-Za-z0-9_-]{16,256}")
_SALT = b"flask-session"
_URLS = "redis://host:port/0 (SESSION_REDIS) or file:///directory (SESSION_FILE_DIR)"
_HASHED = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


def _file_names(key: str) -> Iterator[str]:
    """What cachelib calls the file of this key: until 0.13 by MD5. Names, not secrets."""
    yield hashlib.sha256(key.encode()).hexdigest()
    yield hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


_COUNT_FILES = frozenset(_file_names("__wz_cache_count"))
"""Where cachelib counts its files."""
_EXPIRY = struct.Struct("I")
_MAP_OF_MSGPACK = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})
OWN = frozenset({"_permanent"})
"""Flask's own field."""


@checked_options
class FlaskSession(Source):
    """Sessions of Flask-Session.

    Args:
        store: ``redis://…``, or ``file:///flask_session`` for its types filesystem and cachelib.
        secret_key: Flask's ``SECRET_KEY``, or a list, newest first, where ``SESSION_USE_SIGNER`` is
            set; None where it isn't.
        prefix: ``SESSION_KEY_PREFIX``.
        until: an aware datetime after which nothing is carried over any more.
        delete_old: whether the old record is deleted, and the old cookie expires, once it was
            carried over. The old app then can't be put back without signing people out.
        cookie: the old cookie's name, ``SESSION_COOKIE_NAME``.
        owner: the field that holds the user; Flask-Login's by default.

    Raises:
        ConfigurationError: for an option that can't work.
    """

    name = "flask-session"

    def __init__(
        self,
        store: str,
        secret_key: signatures.Secrets | None = None,
        prefix: str = "session:",
        *,
        until: datetime | None = None,
        delete_old: bool = False,
        cookie: str = "session",
        owner: str | None = "_user_id",
    ) -> None:
        system = "FlaskSession"
        prefix = records.check_prefix(system, prefix)
        super().__init__(
            check_common(system, cookie=cookie, owner=owner, until=until, delete_old=delete_old),
            _open(store, prefix),
            prefix,
        )
        self._secrets = (
            None
            if secret_key is None
            else signatures.check_secrets(system, "secret_key", secret_key)
        )
        self._in_files = isinstance(self._records, FileRecords)

    def _verified(self, value: str) -> str | None:
        old_id = value
        if self._secrets is not None:
            old_id, _, signature = value.rpartition(".")
            if not any(
                signatures.same(signature, signatures.itsdangerous_signature(secret, _SALT, old_id))
                for secret in self._secrets
            ):
                return None
        return old_id if _ID.fullmatch(old_id) else None

    def _names_of(self, old_id: str) -> tuple[str, ...]:
        names = super()._names_of(old_id)
        return tuple(_file_names(*names)) if self._in_files else names

    def _id_in(self, name: str) -> str | None:
        if not self._in_files:
            return super()._id_in(name)
        # Not the ID, which a file's name doesn't tell; a survey doesn't need it.
        return name if _HASHED.fullmatch(name) and name not in _COUNT_FILES else None

    def _look(self, old_id: str, record: OldRecord, now: float) -> Found | None:
        data, expires_at = record.data, record.expires_at
        if self._in_files:
            if len(data) < _EXPIRY.size:
                raise CannotKeep("a damaged file")
            # 0 is never.
            expires_at = float(_EXPIRY.unpack_from(data)[0]) or None
            data = data[_EXPIRY.size :]
        if expires_at is not None and expires_at < now:
            return None
        session = values.as_fields(_read(data))
        return values.found(
            old_id,
            session,
            owner=self.owner,
            own=OWN,
            expires_at=expires_at,
            persistent=session.get("_permanent") is True,
        )


def _open(store: str, prefix: str) -> Records:
    match records.scheme_of("FlaskSession", store, _URLS):
        case "file":
            return FileRecords("FlaskSession", store)
        case "redis":
            pattern = records.escaped_for_scan(prefix) + "*"
            return RedisRecords("FlaskSession", store, pattern=pattern)
        case _:
            raise ConfigurationError(
                "FlaskSession: store is the URL of a database, which this doesn't read; write"
                f" {_URLS}"
            )


def _read(data: bytes) -> Any:
    """The value, in whichever of the formats that Flask-Session has had.

    The first byte tells them apart, where Flask-Session tries one after the other.
    """
    if data[:1] == b"!":
        return read_pickle(data[1:])  # as cachelib marks them in Redis
    if data[:1] == b"{":
        return values.read_json(data)
    if data[:1] == b"\x80" and len(data) > 1:
        return read_pickle(data)
    if data and data[0] in _MAP_OF_MSGPACK:
        return values.read_msgpack(data)
    return read_pickle(data)
