"""How old cookies are signed. Which system signs what, and how, is in that system's module.

Every comparison is of a whole, canonical signature in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import cast

from ..errors import ConfigurationError

Secrets = str | bytes | Sequence[str | bytes]
"""One secret, or several, newest first."""


def check_secrets(system: str, option: str, given: object) -> tuple[bytes, ...]:
    """The old system's secrets as bytes. They may be shorter than ours may be.

    Raises:
        ConfigurationError: for anything but str, bytes or a list or tuple of them, and for empty
            ones. The message never quotes one.
    """
    several: Sequence[object] = (
        cast("Sequence[object]", given) if isinstance(given, (list, tuple)) else (given,)
    )
    secrets: list[bytes] = []
    for secret in several:
        if not isinstance(secret, (str, bytes)):
            raise ConfigurationError(
                f"{system}: {option} is of type {type(secret).__name__}; write the old app's secret"
                " as str or bytes, or a list of them, newest first"
            )
        try:
            secrets.append(secret.encode("utf-8") if isinstance(secret, str) else secret)
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"{system}: {option} has characters that can't be encoded as UTF-8"
            ) from None
    if not secrets or not all(secrets):
        raise ConfigurationError(
            f"{system}: {option} is empty; write the old app's secret, or a list, newest first"
        )
    return tuple(secrets)


def same(given: str, expected: str) -> bool:
    """Whether a signature is the expected one, in constant time; any text may be given."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("ascii"))


def id_of(signed: str) -> str:
    """The ID of a session that is kept only in a cookie: a hash of its signed part."""
    return hashlib.sha256(signed.encode("utf-8", "surrogatepass")).hexdigest()


def base64url(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def from_base64(text: str | bytes, *, url_safe: bool = False) -> bytes | None:
    """The bytes, whether there is padding or not; None if it isn't base64."""
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        raw += b"=" * (-len(raw) % 4)
        return base64.b64decode(raw, altchars=b"-_" if url_safe else None, validate=True)
    except ValueError:
        return None


def itsdangerous_signature(secret: bytes, salt: bytes, message: str) -> str:
    """As ``itsdangerous.Signer(secret, salt, key_derivation="hmac")`` signs by default: SHA-1."""
    key = hmac.digest(secret, salt, "sha1")
    return base64url(hmac.digest(key, message.encode("utf-8", "surrogatepass"), "sha1"))


def django_signature(secret: bytes, salt: bytes, message: str) -> str:
    """As Django's ``Signer(key=secret, salt=salt)`` signs."""
    key = hashlib.sha256(salt + b"signer" + secret).digest()
    return base64url(hmac.digest(key, message.encode("utf-8", "surrogatepass"), "sha256"))
