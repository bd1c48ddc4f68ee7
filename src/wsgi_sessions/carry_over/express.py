"""express-session's sessions, in Redis (connect-redis) or PostgreSQL (connect-pg-simple).

The cookie is ``s:`` and the ID and its HMAC-SHA-256, percent-encoded. The record is JSON.
"""

from __future__ import annotations

import base64
import hmac
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from .._options import checked_options
from ..errors import ConfigurationError
from . import records, signatures, values
from .records import OldRecord, Records, RedisRecords, SQLRecords, Table
from .source import Found, Source, check_common

_ID = re.compile(r"[\x21-\x7e]{1,256}")
"""Any, as ``genid`` is the app's, and the signature was checked."""
_OWN = frozenset({"cookie"})
_URLS = "redis://host:port/0 (connect-redis) or postgresql://user@host/db (connect-pg-simple)"
_TABLE = Table(
    '"session"',
    "sid",
    "CAST(sess AS text)",
    # A time without a zone, that of the database's own setting.
    {"": "expire", "postgresql": "CAST(expire AS timestamptz)"},
)


@checked_options
class Express(Source):
    """Sessions of express-session.

    Args:
        store: ``redis://…`` for connect-redis; a SQLAlchemy URL for connect-pg-simple.
        secret: ``secret``, or a list, newest first.
        prefix: connect-redis's ``prefix``.
        until: an aware datetime after which nothing is carried over any more.
        delete_old: whether the old record is deleted, and the old cookie expires, once it was
            carried over. The old app then can't be put back without signing people out.
        cookie: the old cookie's name, ``name``.
        owner: the field that holds the user, a dot for a field within one; Passport's by default.

    Raises:
        ConfigurationError: for an option that can't work.
    """

    name = "express"

    def __init__(
        self,
        store: str,
        secret: signatures.Secrets,
        prefix: str = "sess:",
        *,
        until: datetime | None = None,
        delete_old: bool = False,
        cookie: str = "connect.sid",
        owner: str | None = "passport.user",
    ) -> None:
        prefix = records.check_prefix("Express", prefix)
        where = _open(store, prefix)
        super().__init__(
            check_common("Express", cookie=cookie, owner=owner, until=until, delete_old=delete_old),
            where,
            prefix if isinstance(where, RedisRecords) else "",
        )
        self._secrets = signatures.check_secrets("Express", "secret", secret)

    def _verified(self, value: str) -> str | None:
        token = unquote(value, errors="replace")
        old_id, _, signature = token.removeprefix("s:").rpartition(".")
        message = old_id.encode("utf-8", "surrogatepass")
        if not token.startswith("s:") or not any(
            signatures.same(signature, _signature(secret, message)) for secret in self._secrets
        ):
            return None
        return old_id if _ID.fullmatch(old_id) else None

    def _look(self, old_id: str, record: OldRecord, now: float) -> Found | None:
        session = values.as_fields(values.read_json(record.data))
        cookie = values.as_fields(session.get("cookie") or {})
        expires_at = record.expires_at
        if expires_at is None:
            # Not otherwise: a mere use moves the record's end alone, and not what is in it.
            expires_at = _moment(cookie.get("expires"))
        if expires_at is not None and expires_at < now:
            return None
        ends = (cookie.get("originalMaxAge"), cookie.get("expires"))
        return values.found(
            old_id,
            session,
            owner=self.owner,
            own=_OWN,
            expires_at=expires_at,
            persistent=any(end is not None for end in ends),
        )


def _open(store: str, prefix: str) -> Records:
    match records.scheme_of("Express", store, _URLS):
        case "redis":
            return RedisRecords("Express", store, pattern=records.escaped_for_scan(prefix) + "*")
        case "sql":
            return SQLRecords("Express", store, _TABLE)
        case _:
            raise ConfigurationError(
                f"Express: store is a file:// URL, which this doesn't read; write {_URLS}"
            )


def _signature(secret: bytes, message: bytes) -> str:
    digest = hmac.digest(secret, message, "sha256")
    return base64.b64encode(digest).rstrip(b"=").decode("ascii")


def _moment(text: Any) -> float | None:
    """UNIX seconds of what JavaScript writes for a Date; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text) if type(text) is str else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
