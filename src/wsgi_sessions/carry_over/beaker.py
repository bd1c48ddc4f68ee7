"""Beaker's sessions on files and in Redis, pickled or JSON; encrypted ones stay behind.

The cookie is ``hex(HMAC-SHA1(secret, id))`` and the ID, or the bare ID. A record has three layers:
a pickle (in files of ``{"session": text}``) around base64 around a pickle or compressed JSON.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta
from typing import Any, cast

from .._options import checked_options, seconds_or_none
from ..errors import ConfigurationError
from . import records, signatures, values
from .pickles import read_pickle
from .records import FileRecords, OldRecord, Records, RedisRecords
from .source import CannotKeep, Found, Source, check_common

_ID = re.compile(r"[0-9a-f]{32}")
_SIGNATURE = 40
_URLS = "file:///data_dir (session.data_dir) or redis://host:port/0 (session.url)"
_OWN = frozenset({"_accessed_time", "_creation_time", "_domain", "_path"})


@checked_options
class Beaker(Source):
    """Sessions of Beaker.

    Args:
        store: ``file:///data_dir``, for ``session.data_dir`` or ``session.file_dir``; or
            ``redis://…``, for ``session.url`` of the type ``ext:redis``.
        secret: ``session.secret``, or a list, newest first; None where Beaker has none, so that
            cookies are not signed.
        timeout: ``session.timeout`` in seconds, or a timedelta. None where Beaker has none.
        until: an aware datetime after which nothing is carried over any more.
        delete_old: whether the old record is deleted, and the old cookie expires, once it was
            carried over. The old app then can't be put back without signing people out.
        cookie: the old cookie's name, ``session.key``.
        owner: the field that holds the user. Beaker has no usual one.

    Raises:
        ConfigurationError: for an option that can't work.
    """

    name = "beaker"

    def __init__(
        self,
        store: str,
        secret: signatures.Secrets | None = None,
        timeout: float | timedelta | None = None,
        *,
        until: datetime | None = None,
        delete_old: bool = False,
        cookie: str = "beaker.session.id",
        owner: str | None = None,
    ) -> None:
        super().__init__(
            check_common("Beaker", cookie=cookie, owner=owner, until=until, delete_old=delete_old),
            _open(store),
        )
        self._secrets = (
            None if secret is None else signatures.check_secrets("Beaker", "secret", secret)
        )
        self._timeout = seconds_or_none("Beaker", "timeout", timeout, "no such limit")

    def _verified(self, value: str) -> str | None:
        old_id = value
        if self._secrets is not None:
            old_id = value[_SIGNATURE:]
            message = old_id.encode("utf-8", "surrogatepass")
            if not any(
                signatures.same(value[:_SIGNATURE], hmac.digest(secret, message, "sha1").hex())
                for secret in self._secrets
            ):
                return None
        return old_id if _ID.fullmatch(old_id) else None

    def _names_of(self, old_id: str) -> tuple[str, ...]:
        if isinstance(self._records, RedisRecords):
            return (f"beaker_cache:{old_id}:session",)
        return (f"{old_id[0]}/{old_id[:2]}/{old_id}.cache",)

    def _id_in(self, name: str) -> str | None:
        match = _ID.search(name)
        return match and match[0]

    def _look(self, old_id: str, record: OldRecord, now: float) -> Found | None:
        session = _read(record.data)
        used_at = values.number(session.get("_accessed_time"))
        if used_at is None:
            return None  # what Beaker leaves of a session that was deleted
        expires_at = record.expires_at
        if self._timeout is not None:
            # Its time in Redis is two minutes longer.
            expires_at = used_at + self._timeout
        if expires_at is not None and expires_at < now:
            return None
        return values.found(
            old_id,
            session,
            owner=self.owner,
            own=_OWN,
            created_at=values.number(session.get("_creation_time")),
            used_at=used_at,
            expires_at=expires_at,
        )


def _open(store: str) -> Records:
    match records.scheme_of("Beaker", store, _URLS):
        case "file":
            places = ("container_file", "")  # the second is session.file_dir
            return FileRecords("Beaker", store, places=places, pattern="*/*/*.cache")
        case "redis":
            return RedisRecords("Beaker", store, pattern="beaker_cache:*:session")
        case _:
            raise ConfigurationError(
                f"Beaker: store is the URL of a database, which this doesn't read; write {_URLS}"
            )


def _read(data: bytes) -> dict[str, Any]:
    """The fields that the three layers hold."""
    text = read_pickle(data)
    if type(text) is dict:
        text = cast("dict[str, Any]", text).get("session")
    raw = signatures.from_base64(text) if isinstance(text, (str, bytes)) else None
    if raw is None:
        raise CannotKeep("a record that isn't base64 inside (is it encrypted?)")
    if raw[:1] == b"\x80":
        return values.as_fields(read_pickle(raw))
    return values.as_fields(values.read_json(values.unzip(raw)))
