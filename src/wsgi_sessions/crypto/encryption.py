"""Sealing bytes: AES-GCM under one of several keys, bound to a context. No records, no cookies.

The extra ``[crypto]`` brings the cipher; nothing here is made up but the order of the parts.
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import ConfigurationError

_NONCE = 12


class Sealer:
    """Seals with the first of its keys, opens with any of them."""

    __slots__ = ("_ciphers", "_invalid")

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 # an extra
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 # an extra
        except ImportError:
            raise ConfigurationError(
                "encryption needs the package cryptography; install it with"
                " pip install 'wsgi-sessions[crypto]'"
            ) from None
        self._invalid: Any = InvalidTag
        self._ciphers = tuple(AESGCM(key) for key in keys)

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """The bytes, encrypted and authenticated together with their context."""
        nonce = os.urandom(_NONCE)
        return nonce + self._ciphers[0].encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> tuple[bytes, int] | None:
        """The plain bytes and the index of the key, or None if they weren't sealed so."""
        if len(sealed) <= _NONCE:
            return None
        for index, cipher in enumerate(self._ciphers):
            try:
                return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context), index
            except self._invalid:
                continue
        return None
