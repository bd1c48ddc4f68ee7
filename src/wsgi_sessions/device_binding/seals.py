"""Handle and time, signed for one purpose: challenges, and the second cookie's value.

Nothing of it is stored, so nothing has to be looked up to check it: one HMAC tells. What a time
means (when it was issued, when it ends) is the purpose's affair.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from typing import NamedTuple

from ..crypto.signing import derive_key

# 32 bytes of handle, 5 of time (until the year 36812), 32 of HMAC: 69 bytes are 92 characters
# without padding or spare bits, so each seal has one spelling.
_HANDLE, _TIME = 32, 5
_BODY = _HANDLE + _TIME
# What urlsafe_b64decode does, in half the time; requests of bound sessions come through here.
_STANDARD = bytes.maketrans(b"-_", b"+/")
_FORM = re.compile(r"[A-Za-z0-9_-]{92}")


class Contents(NamedTuple):
    """What a seal says."""

    handle: str
    time: int
    """UNIX seconds."""


class Seal:
    """Signs handle and time for one purpose, with the first secret; reads back what any signed.

    Args:
        secrets: newest first.
        purpose: a seal for another purpose is none.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: tuple[bytes, ...], purpose: str) -> None:
        self._keys = tuple(derive_key(secret, purpose) for secret in secrets)

    def seal(self, handle: str, time: int) -> str:
        """Handle and time (UNIX seconds) as 92 characters of base64url."""
        body = bytes.fromhex(handle) + time.to_bytes(_TIME, "big")
        return urlsafe_b64encode(body + hmac.digest(self._keys[0], body, "sha256")).decode("ascii")

    def open(self, text: str) -> Contents | None:
        """What this text seals; None if it is anything else. Any text is safe to ask about."""
        if _FORM.fullmatch(text) is None:
            return None
        raw = a2b_base64(text.encode("ascii").translate(_STANDARD))
        body, signature = raw[:_BODY], raw[_BODY:]
        for key in self._keys:
            if hmac.compare_digest(hmac.digest(key, body, "sha256"), signature):
                return Contents(body[:_HANDLE].hex(), int.from_bytes(body[_HANDLE:], "big"))
        return None
