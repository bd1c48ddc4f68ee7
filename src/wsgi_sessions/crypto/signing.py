"""Tokens: a session ID and its signature, and the secrets that sign.

The wire format is itsdangerous' own (``ID.signature``, HMAC-SHA-256, base64url), and itsdangerous
derives the keys. The HMAC itself is computed here, from keyed states that are copied for each call:
in an attack every request brings a forged cookie, and `itsdangerous.Signer` derives its key anew
each time (5.4 µs instead of 0.9). Tests check that both give the same bytes.

This module doesn't know what an ID means, or whether there is a session for it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from itsdangerous import Signer

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from _hashlib import HASH

MIN_SECRET_BYTES = 32
_TOKEN = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")
# Not compiled here: that would take longer than the rest of this module's import.
_PLACEHOLDER = (
    r"(?i:(?:change[-_ ]?(?:me|this|it)|replace[-_ ]?(?:me|this)|(?:my|your|the|a|top|super)?[-_ ]?"
    r"secret(?:[-_ ]?key)?(?:[-_ ]?here)?|secret|passw(?:or)?d|keyboard[-_ ]?cat|insecure|"
    r"placeholder|put[-_ ]the[-_ ]output[-_ ]of[-_ ]wsgi[-_ ]sessions[-_ ]secret[-_ ]here)"
    r"[-_ .!]*)+"
)
# Keys from the documentation of well-known projects, or from an earlier version of ours, which may
# have been deployed as they are: SHA-256 of their lower-case text, so as not to publish them again.
_PUBLISHED = frozenset(
    {
        "2598f7d6adc142d88161630f3db12ab2bd3403521c281811e5e1ce60d4ac5d76",
        "45e01209a141a1fab0d0f045e98db4c156b3a53aca66eac6bcae0b6707f09bc6",
        "fb31ba5fd7593ad1b423feb1f00a9109b310d93a5f97334f952bd386528eeb4d",
        "b65c66d1a752206a5ee79c91ec5767a6b871a529684effde20007214e1f57a8c",
        "dfb211718971e42a26f0e11d87b362fd855bdccc236238f749af5156394df462",
        "c0ef97111f009fbecda689c015c0a22383496f9d27a6f9f00a091b9401f34bc1",
        "dfba647cb92d459a616a39b217373450799ddf8557f1be06076110af122d1550",
        "eaf327e86f3fdbffdf5eafa48383a4a09e8878734b9d734f1539c5642037c5c2",
        "6b16431e2f9fb092728e4f7d26d1bfa421706b62597ba3c69005ac1a6ec116c0",
    }
)

Secret = str | bytes
Secrets = Secret | Sequence[Secret]


def check_secrets(secret_key: object, option: str = "secret_key") -> tuple[bytes, ...]:
    """The secrets as bytes, newest first.

    Raises:
        ConfigurationError: for anything but str, bytes or a list or tuple of them, and for secrets
            that are short, blank or well known. The message never quotes one.
    """
    given: Sequence[object]
    if isinstance(secret_key, (str, bytes)):
        given = (secret_key,)
    elif isinstance(secret_key, (list, tuple)):
        given = tuple(cast("Sequence[object]", secret_key))
    else:
        raise ConfigurationError(
            f"{option} is of type {type(secret_key).__name__}; give str or bytes of at least"
            f" {MIN_SECRET_BYTES} bytes, or a list of them, newest first"
            " (python -m wsgi_sessions secret prints a good one)"
        )
    if not given:
        kind = "tuple" if isinstance(secret_key, tuple) else "list"
        raise ConfigurationError(
            f"{option} is an empty {kind}; give at least one secret"
            " (python -m wsgi_sessions secret prints a good one)"
        )
    return tuple(_check_secret(secret, option) for secret in given)


def _check_secret(secret: object, option: str) -> bytes:
    if isinstance(secret, str):
        try:
            raw = secret.encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"{option} has characters that can't be encoded as UTF-8"
            ) from None
    elif isinstance(secret, bytes):
        raw = secret
    else:
        raise ConfigurationError(
            f"{option} has a secret of type {type(secret).__name__}; give str or bytes"
        )
    if not raw:
        raise ConfigurationError(
            f"{option} is empty; make one in the shell that starts the app:"
            " export SECRET_KEY=$(python -m wsgi_sessions secret)"
        )
    if len(raw) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"{option} has a secret of {len(raw)} bytes; at least {MIN_SECRET_BYTES} are needed"
            " (python -m wsgi_sessions secret prints a good one)"
        )
    text = raw.decode("latin-1").strip().strip("\0")
    if not text or re.fullmatch(_PLACEHOLDER, text) or _is_published(text):
        raise ConfigurationError(
            f"{option} has a secret that is blank or a well-known placeholder; write one of your"
            " own (python -m wsgi_sessions secret prints a good one)"
        )
    return raw


def _is_published(text: str) -> bool:
    return hashlib.sha256(text.lower().encode("latin-1")).hexdigest() in _PUBLISHED


def derive_key(secret: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for this purpose alone (ASVS 5.0, 11.1.2), derived by itsdangerous."""
    signer = Signer(
        secret,
        salt=b"wsgi-sessions." + purpose.encode("utf-8"),
        key_derivation="hmac",
        digest_method=hashlib.sha256,
    )
    return signer.derive_key(secret)


class TokenSigner:
    """Signs session IDs for one purpose (``"cookie.session"``), and verifies what comes back.

    The purpose is bound in: a token of another cookie or header isn't one here (ASVS 9.2.2).
    """

    __slots__ = ("_states",)

    def __init__(self, secrets: tuple[bytes, ...], purpose: str) -> None:
        self._states = tuple(keyed(derive_key(secret, purpose)) for secret in secrets)

    def sign(self, session_id: str) -> str:
        """The token of this ID, signed with the newest secret."""
        return f"{session_id}.{_signature(self._states[0], session_id.encode('ascii'))}"

    def verify(self, token: str) -> tuple[str, int] | None:
        """The ID and the index of the secret that signed it (0 is the newest), or None.

        The form is checked before anything else, so any text can be passed safely. The signature
        is compared as text, so only its canonical spelling is valid: base64url has four spellings
        of the last character, and lenient decoders accept more.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        session_id, signature = match.groups()
        message = session_id.encode("ascii")
        for index, state in enumerate(self._states):
            if hmac.compare_digest(_signature(state, message), signature):
                return session_id, index
        return None


_HASH_BLOCK = 64
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
KeyedState = tuple["HASH", "HASH"]
"""The inner and the outer hash of an HMAC with some key, before the message (RFC 2104)."""


def keyed(key: bytes) -> KeyedState:
    """The state that `mac` needs for a key of at most 64 bytes, computed once."""
    block = key.ljust(_HASH_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
    return inner, outer


def mac(state: KeyedState, message: bytes) -> bytes:
    """The HMAC-SHA-256 of a message, in a third of the time that `hmac.digest` takes."""
    inner, outer = state[0].copy(), state[1].copy()
    inner.update(message)
    outer.update(inner.digest())
    return outer.digest()


def _signature(state: KeyedState, message: bytes) -> str:
    return _base64url(mac(state, message))


def _base64url(raw: bytes) -> str:
    """Like `base64.urlsafe_b64encode`, at a third of its cost and without padding."""
    return b2a_base64(raw, newline=False).translate(_URL_SAFE, b"=").decode("ascii")
