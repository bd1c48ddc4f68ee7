"""Session IDs: how they are made, what they are stored under, and how one follows another.

An ID is 32 bytes. The first 16, the selector, find the record and stay for the session's life; the
other 16, the verifier, prove that the client may use it, and are new in every new ID. This module
neither makes nor checks signatures, and doesn't know which sessions are live.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import NamedTuple

from ..errors import ConfigurationError
from .signing import derive_key

SELECTOR_BYTES = 16
VERIFIER_BYTES = 16
NONCE_BYTES = 16
_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class SessionID:
    """A session ID, the store key that it leads to, and the hash that it is known by there.

    The ID itself stays out of reprs, and so out of tracebacks.
    """

    __slots__ = ("hash", "id", "key")

    id: str
    """43 characters of base64url: as secret as a password."""
    key: str
    """SHA-256 of the selector in lower-case hex; public as the session's handle."""
    hash: bytes
    """SHA-256 of the ID: what the record's notes hold, 32 bytes."""

    def __init__(self, text: str) -> None:
        raw = text.encode("ascii")
        self.id = text
        selector = a2b_base64(raw[:24].translate(_FROM_URL))[:SELECTOR_BYTES]
        self.key = hashlib.sha256(selector).hexdigest()
        self.hash = hashlib.sha256(raw).digest()

    def __repr__(self) -> str:
        return f"<SessionID of {self.key[:12]}…>"

    def with_verifier(self, verifier: bytes) -> SessionID:
        """Another ID of the same session."""
        selector = a2b_base64(self.id[:24].encode("ascii").translate(_FROM_URL))[:SELECTOR_BYTES]
        return SessionID(_base64url(selector + verifier))

    def matches(self, known: bytes) -> bool:
        """Whether this ID is the one with that hash; compared in constant time."""
        return hmac.compare_digest(self.hash, known)


def new_id() -> str:
    """A session ID of the operating system's randomness (ASVS 5.0, 7.2.3).

    There is no other source to fall back to: if the system has none, this raises.
    """
    return _base64url(os.urandom(SELECTOR_BYTES + VERIFIER_BYTES))


def is_id(text: str) -> bool:
    """Whether this has the form of a session ID."""
    return _ID.fullmatch(text) is not None


class IDFactory:
    """Makes new IDs.

    Args:
        make: gives whole IDs, as `new_id` does.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def new(self) -> SessionID:
        """The ID of a new session.

        Raises:
            ConfigurationError: the function gave something that is not an ID.
        """
        if self._make is new_id:
            return SessionID(new_id())
        text = self._make()
        if not isinstance(text, str) or not is_id(text):  # pyright: ignore[reportUnnecessaryIsInstance] # the app's function may give anything
            raise ConfigurationError(
                "id_factory gave something that is not a session ID; it must return 32 bytes as a"
                " str of 43 base64url characters (A-Z a-z 0-9 - _), different ones each time"
            )
        return SessionID(text)

    def renew(self, present: SessionID) -> SessionID:
        """A new ID for a session: the same selector, another verifier."""
        if self._make is new_id:
            return present.with_verifier(os.urandom(VERIFIER_BYTES))
        made = a2b_base64(self.new().id.encode("ascii").translate(_FROM_URL) + b"=")
        return present.with_verifier(made[SELECTOR_BYTES:])


class Successor(NamedTuple):
    """The ID that follows another by rotation."""

    id: SessionID
    nonce: bytes
    """What it was derived with; whoever has the former ID *and* the secret can derive it again, so
    the present ID itself is never in the store."""


class Rotation:
    """Derives successors under the app's secrets, newest first."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._keys = tuple(derive_key(secret, "rotation") for secret in secrets)

    def successor_of(self, former: SessionID) -> Successor:
        """A successor, different each time."""
        nonce = os.urandom(NONCE_BYTES)
        return Successor(_derive(self._keys[0], former, nonce), nonce)

    def present_id(self, former: SessionID, nonce: bytes, known: bytes) -> SessionID | None:
        """The successor of ``former`` with the hash ``known``.

        None if it was made with a secret that isn't among these any more.
        """
        for key in self._keys:
            derived = _derive(key, former, nonce)
            if derived.matches(known):
                return derived
        return None


class Derivation:
    """Derives IDs from those of another system, under the app's secrets, newest first."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._keys = tuple(derive_key(secret, "carry-over") for secret in secrets)

    def ids_of(self, system: str, old_id: bytes) -> tuple[SessionID, ...]:
        """The IDs derived from an old one, by each secret: always the same ones."""
        message = system.encode("utf-8") + b"\0" + old_id
        return tuple(
            SessionID(_base64url(hmac.digest(key, message, "sha256"))) for key in self._keys
        )


def _derive(key: bytes, former: SessionID, nonce: bytes) -> SessionID:
    digest = hmac.digest(key, nonce + former.id.encode("ascii"), "sha256")
    return former.with_verifier(digest[:VERIFIER_BYTES])


def _base64url(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).translate(_TO_URL, b"=").decode("ascii")
