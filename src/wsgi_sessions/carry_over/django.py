"""Django's sessions: in a database, in a cache on Redis, in files, or in signed cookies.

Database, files and cookies hold the same text: ``value:timestamp:signature``, where the value is
JSON, or, with the serializer that Django 5 took out, a pickle. The cache holds a pickle.
"""

from __future__ import annotations

import glob
import re
import string
from datetime import UTC, datetime, timedelta
from typing import Any

from .._options import checked_options, seconds
from ..errors import ConfigurationError
from . import records, signatures, values
from .pickles import read_pickle
from .records import (
    FileRecords,
    InCookies,
    OldRecord,
    Records,
    RedisRecords,
    SQLRecords,
    Table,
)
from .source import CannotKeep, Found, NotGenuine, Source, check_common

_KEY = re.compile(r"[a-z0-9]{32}")
_STORED = b"django.contrib.sessions.SessionStore"
_IN_COOKIES = b"django.contrib.sessions.backends.signed_cookies"
_IN_CACHE = "django.contrib.sessions.cache"
_TABLE = Table("django_session", "session_key", "session_data", {"": "expire_date"})
_LONGEST_NAME = 16
"""Characters; more than any engine's name has, even with a typing error."""
_TWO_WEEKS = timedelta(days=14)
_STORES = {
    "db": ("sql", "a SQLAlchemy URL, such as postgresql://user@host/db or sqlite:////path"),
    "cache": ("redis", "redis://host:port/0"),
    "file": ("file", "file:///directory (SESSION_FILE_PATH)"),
    "signed_cookies": (None, "None"),
}
_BASE62 = {
    digit: number
    for number, digit in enumerate(string.digits + string.ascii_uppercase + string.ascii_lowercase)
}


@checked_options
class Django(Source):
    """Sessions of Django.

    Args:
        store: for ``engine="db"`` the database's SQLAlchemy URL; for ``"cache"`` ``redis://…``; for
            ``"file"`` ``file:///directory``; for ``"signed_cookies"`` None.
        secret_key: ``SECRET_KEY``, or a list, newest first: with ``SECRET_KEY_FALLBACKS``.
        engine: the end of ``SESSION_ENGINE``; for ``cached_db`` write ``"db"``.
        max_age: ``SESSION_COOKIE_AGE`` in seconds, or a timedelta: files and signed cookies don't
            hold their own end.
        prefix: for ``"cache"``, what Django's cache puts before all keys:
            ``KEY_PREFIX:VERSION:``.
        until: an aware datetime after which nothing is carried over any more.
        delete_old: whether the old record is deleted, and the old cookie expires, once it was
            carried over. The old app then can't be put back without signing people out.
        cookie: the old cookie's name, ``SESSION_COOKIE_NAME``.
        owner: the field that holds the user; that of ``django.contrib.auth`` by default.

    Raises:
        ConfigurationError: for an option that can't work.
    """

    name = "django"

    def __init__(
        self,
        store: str | None,
        secret_key: signatures.Secrets,
        engine: str = "db",
        *,
        max_age: float | timedelta = _TWO_WEEKS,
        prefix: str = ":1:",
        until: datetime | None = None,
        delete_old: bool = False,
        cookie: str = "sessionid",
        owner: str | None = "_auth_user_id",
    ) -> None:
        self._engine = _check_engine(engine, store)
        prefix = records.check_prefix("Django", prefix)
        # Files are called as the cookie is.
        starts = {"cache": prefix + _IN_CACHE, "file": cookie}
        prefix = starts.get(self._engine, "")
        super().__init__(
            check_common("Django", cookie=cookie, owner=owner, until=until, delete_old=delete_old),
            _open(self._engine, store or "", prefix),
            prefix,
        )
        self._secrets = signatures.check_secrets("Django", "secret_key", secret_key)
        self._max_age = seconds("Django", "max_age", max_age)

    def _verified(self, value: str) -> str | None:
        return value if _KEY.fullmatch(value) else None

    def _identified(self, value: str) -> str | None:
        if self._engine != "signed_cookies":
            return super()._identified(value)
        data = value.encode("utf-8", "surrogatepass")
        if _unsigned(data, self._secrets, _IN_COOKIES) is None:
            return None
        return signatures.id_of(value.rpartition(":")[0])

    def _find(self, value: str, now: float) -> Found | None:
        if self._engine != "signed_cookies":
            return super()._find(value, now)
        if self._identified(value) is None:
            return None
        # The cookie is the record. Its signature has one spelling, so that it has one ID.
        signed, _, _ = value.rpartition(":")
        return self._look(
            signatures.id_of(signed), OldRecord(value.encode("utf-8", "surrogatepass")), now
        )

    def _look(self, old_id: str, record: OldRecord, now: float) -> Found | None:
        used_at: float | None = None
        if self._engine == "cache":
            session = values.as_fields(read_pickle(record.data))
        else:
            salt = _IN_COOKIES if self._engine == "signed_cookies" else _STORED
            verified = _unsigned(record.data, self._secrets, salt)
            if verified is None:
                raise NotGenuine("a record that isn't signed with the secret_key given here")
            session, used_at = values.as_fields(_read(verified[0])), verified[1]
        expiry = session.get("_session_expiry")
        expires_at = self._end(record, expiry, used_at)
        if expires_at is not None and expires_at <= now:
            return None
        return values.found(
            old_id,
            session,
            owner=self.owner,
            used_at=used_at,
            expires_at=expires_at,
            # 0 is "until the browser is closed"; None is for a setting to say.
            persistent=None if expiry is None else bool(expiry),
        )

    def _end(self, record: OldRecord, expiry: Any, used_at: float | None) -> float | None:
        if self._engine in ("db", "cache"):
            return record.expires_at
        begin = used_at if record.changed_at is None else record.changed_at
        moment = _moment(expiry)
        if moment is not None:
            return moment
        age = values.number(expiry) or self._max_age
        if self._engine == "signed_cookies":
            # Django accepts no such cookie for longer than the setting says.
            age = min(age, self._max_age)
        return None if begin is None else begin + age


def _check_engine(engine: object, store: object) -> str:
    if not isinstance(engine, str) or engine not in _STORES:
        # Where arguments were swapped, it is the secret.
        hidden = isinstance(engine, (str, bytes)) and len(engine) > _LONGEST_NAME
        shown = f"a {type(engine).__name__} that is too long" if hidden else repr(engine)
        raise ConfigurationError(
            f"Django: engine is {shown}; write 'db' (also for cached_db), 'cache', 'file' or"
            " 'signed_cookies'"
        )
    kind, allowed = _STORES[engine]
    given = None if store is None else records.scheme_of("Django", store, allowed)
    if given != kind:
        raise ConfigurationError(
            f"Django: store is {'None' if given is None else f'a URL for {given}'}, which is not"
            f" where engine={engine!r} keeps its sessions; write {allowed}"
        )
    return engine


def _open(engine: str, store: str, prefix: str) -> Records:
    match engine:
        case "db":
            return SQLRecords("Django", store, _TABLE)
        case "cache":
            return RedisRecords("Django", store, pattern=records.escaped_for_scan(prefix) + "*")
        case "file":
            return FileRecords("Django", store, pattern=glob.escape(prefix) + "?" * 32)
        case _:
            return InCookies("Django")


def _unsigned(data: bytes, secrets: tuple[bytes, ...], salt: bytes) -> tuple[str, float] | None:
    """The value that is signed, and when that was; None if it isn't signed like this."""
    signed, _, signature = data.decode("utf-8", "replace").rpartition(":")
    if not any(
        signatures.same(signature, signatures.django_signature(secret, salt, signed))
        for secret in secrets
    ):
        return None
    value, _, stamp = signed.rpartition(":")
    seconds_since = 0
    for digit in stamp[:12]:
        seconds_since = seconds_since * 62 + _BASE62.get(digit, 0)
    return value, float(seconds_since)


def _read(value: str) -> Any:
    raw = signatures.from_base64(value.removeprefix("."), url_safe=True)
    if raw is None:
        raise CannotKeep("a record that isn't base64 inside")
    plain = values.unzip(raw) if value.startswith(".") else raw
    if plain[:1] == b"\x80":
        return read_pickle(plain)
    return values.read_json(plain.decode("latin-1"))


def _moment(expiry: Any) -> float | None:
    """``_session_expiry`` as UNIX seconds, where it is a moment; without a zone it is UTC."""
    if type(expiry) is str:
        try:
            expiry = datetime.fromisoformat(expiry)
        except ValueError:
            return None
    if type(expiry) is not datetime:
        return None
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)).timestamp()
