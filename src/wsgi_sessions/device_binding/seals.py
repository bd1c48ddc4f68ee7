"""Handle and time, signed for one purpose: challenges, and the second cookie's value.

Nothing of it is stored, so nothing has to be looked up to check it: one HMAC is enough. What a time
means (when it was issued, when it ends) depends on the purpose.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from typing import NamedTuple

from ..crypto.signing import derive_key, keyed, mac

# 32 bytes of handle, 5 of time (until the year 36812), 32 of HMAC: 69 bytes are 92 characters
# without padding or spare bits, so each seal has one spelling.
_HANDLE, _TIME = 32, 5
_BODY = _HANDLE + _TIME
_BYTES, _CHARACTERS = 69, 92
# What urlsafe_b64decode does, in half the time; requests of bound sessions come through here. The
# two characters of the other alphabet become some that strict decoding refuses.
_STANDARD = bytes.maketrans(b"-_+/", b"+/\0\0")


class Contents(NamedTuple):
    """What a seal says."""

    handle: str
    time: int
    """UNIX seconds."""


class Seal:
    """Signs handle and time for one purpose, with the first secret; reads back what any signed.

    Args:
        secrets: newest first.
        purpose: a seal for another purpose isn't accepted.
    """

    __slots__ = ("_states",)

    def __init__(self, secrets: tuple[bytes, ...], purpose: str) -> None:
        self._states = tuple(keyed(derive_key(secret, purpose)) for secret in secrets)

    def seal(self, handle: str, time: int) -> str:
        """Handle and time (UNIX seconds) as 92 characters of base64url."""
        body = bytes.fromhex(handle) + time.to_bytes(_TIME, "big")
        return urlsafe_b64encode(body + mac(self._states[0], body)).decode("ascii")

    def open(self, text: str) -> Contents | None:
        """What this text seals; None if it is anything else. Any text may be given."""
        raw = _decoded(text)
        if raw is None or not self._is_signed(raw):
            return None
        return Contents(raw[:_HANDLE].hex(), int.from_bytes(raw[_HANDLE:_BODY], "big"))

    def time_of(self, text: str, handle: str) -> int | None:
        """The time (UNIX seconds) that this text seals for this handle; None if it seals anything
        else, or nothing. Any text is safe to ask about.
        """
        raw = _decoded(text)
        # A handle is no secret, so one that differs may cost less time.
        if raw is None or raw[:_HANDLE] != bytes.fromhex(handle) or not self._is_signed(raw):
            return None
        return int.from_bytes(raw[_HANDLE:_BODY], "big")

    def _is_signed(self, raw: bytes) -> bool:
        body, signature = raw[:_BODY], raw[_BODY:]
        # The newest secret has signed nearly all.
        return hmac.compare_digest(mac(self._states[0], body), signature) or any(
            hmac.compare_digest(mac(state, body), signature) for state in self._states[1:]
        )


def _decoded(text: str) -> bytes | None:
    if len(text) != _CHARACTERS:
        return None
    try:
        raw = a2b_base64(text.encode("ascii").translate(_STANDARD), strict_mode=True)
    except ValueError:  # whatever isn't ASCII, or isn't base64url
        return None
    # Less where some of it was padding.
    return raw if len(raw) == _BYTES else None
