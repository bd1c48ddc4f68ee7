"""Flask's own sessions, which the cookie holds: ``payload.timestamp.signature``, by itsdangerous.

There is no record, and so no ID: a hash of the signed part takes its place. Each change of an
old session gave the browser another cookie, and each of those is a session of its own here, as it
was for Flask until its time was up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from markupsafe import Markup
from werkzeug.http import parse_date

from .._options import checked_options, seconds
from . import signatures, values
from .flask_session import OWN
from .records import InCookies, OldRecord
from .signatures import id_of
from .source import CannotKeep, Found, Source, check_common, kind_of

_SALT = b"cookie-session"
_MAX_AGE = timedelta(days=31)


@checked_options
class FlaskCookie(Source):
    """Flask's own signed cookies.

    Args:
        secret_key: Flask's ``SECRET_KEY``, or a list, newest first: with ``SECRET_KEY_FALLBACKS``.
        max_age: ``PERMANENT_SESSION_LIFETIME`` in seconds, or a timedelta.
        until: an aware datetime after which nothing is carried over any more.
        delete_old: whether the old cookie expires once it was carried over. The old app then can't
            be put back without signing people out.
        cookie: the old cookie's name, ``SESSION_COOKIE_NAME``.
        owner: the field that holds the user; Flask-Login's by default.

    Raises:
        ConfigurationError: for an option that can't work.
    """

    name = "flask-cookie"

    def __init__(
        self,
        secret_key: signatures.Secrets,
        max_age: float | timedelta = _MAX_AGE,
        *,
        until: datetime | None = None,
        delete_old: bool = False,
        cookie: str = "session",
        owner: str | None = "_user_id",
    ) -> None:
        system = "FlaskCookie"
        super().__init__(
            check_common(system, cookie=cookie, owner=owner, until=until, delete_old=delete_old),
            InCookies(system),
        )
        self._secrets = signatures.check_secrets(system, "secret_key", secret_key)
        self._max_age = seconds(system, "max_age", max_age)

    def _verified(self, value: str) -> str | None:
        signed, _, signature = value.rpartition(".")
        good = any(
            signatures.same(signature, signatures.itsdangerous_signature(secret, _SALT, signed))
            for secret in self._secrets
        )
        return signed if good else None

    def _identified(self, value: str) -> str | None:
        signed = self._verified(value)
        return None if signed is None else id_of(signed)

    def _find(self, value: str, now: float) -> Found | None:
        signed = self._verified(value)
        # A signature has one spelling here, and what it signs can't be changed: one cookie, one ID.
        return (
            None if signed is None else self._look(id_of(signed), OldRecord(signed.encode()), now)
        )

    def _look(self, old_id: str, record: OldRecord, now: float) -> Found | None:
        payload, _, stamp = record.data.decode().rpartition(".")
        raw = signatures.from_base64(stamp, url_safe=True)
        if not raw or len(raw) > 8:
            return None
        used_at = float(int.from_bytes(raw, "big"))
        if now > used_at + self._max_age:
            return None
        session = values.as_fields(_untagged(_read(payload)))
        return values.found(
            old_id,
            session,
            owner=self.owner,
            own=OWN,
            used_at=used_at,
            expires_at=used_at + self._max_age,
            persistent=session.get("_permanent") is True,
        )


def _read(payload: str) -> Any:
    raw = signatures.from_base64(payload.removeprefix("."), url_safe=True)
    if raw is None:
        raise CannotKeep("a cookie that isn't base64 inside")
    return values.read_json(values.unzip(raw) if payload.startswith(".") else raw)


# What Flask tags in its JSON


def _bytes(text: Any) -> bytes:
    raw = signatures.from_base64(text) if type(text) is str else None
    if raw is None:
        raise ValueError
    return raw


def _date(text: Any) -> datetime:
    moment = parse_date(text) if type(text) is str else None
    if moment is None:
        raise ValueError
    return moment


def _markup(text: Any) -> Markup:
    if type(text) is not str:
        raise ValueError
    return Markup(text)  # noqa: S704 # it was Markup before, and the cookie is signed


def _looked_like_a_tag(inner: Any) -> dict[str, Any]:
    ((key, value),) = values.as_fields(inner).items()
    return {key[:-2]: value}


_TAGS: dict[str, Callable[[Any], Any]] = {
    " t": tuple,
    " b": _bytes,
    " m": _markup,
    " u": UUID,
    " d": _date,
    " di": _looked_like_a_tag,
}


def _untagged(value: Any) -> Any:
    try:
        return _untag(value)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise CannotKeep("a value that is not as Flask writes it") from None


def _untag(value: Any) -> Any:
    kind = kind_of(value)
    if kind is list:
        return [_untag(item) for item in value]
    if kind is not dict:
        return value
    plain: dict[str, Any] = {name: _untag(item) for name, item in value.items()}
    if len(plain) == 1:
        ((name, inner),) = plain.items()
        if name in _TAGS:
            return _TAGS[name](inner)
    return plain
