"""A device's public key: read from a JWK, checked, kept as text, and used to verify.

The package cryptography (the extra ``[crypto]``) does the mathematics; it is loaded when the first
key is needed. Nothing here knows of sessions.
"""

from __future__ import annotations

import importlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, Literal, NamedTuple, cast

from ..errors import ConfigurationError

Algorithm = Literal["ES256", "RS256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("ES256", "RS256")
"""What is offered and accepted; never ``none`` (RFC 8725 section 3.2)."""
COORDINATE = 32
"""Bytes of one coordinate on P-256, and of each half of an ES256 signature (RFC 7518 3.4)."""
MIN_RSA, MAX_RSA = 2048, 4096
"""Bits. Less is weak (RFC 7518 section 3.3), more makes verifying expensive."""
_EXPONENT = 65537
_FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
"""The prime of P-256. cryptography 50 takes larger coordinates and reduces them."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class DeviceKey(NamedTuple):
    """A public key and the only algorithm that it is good for."""

    algorithm: Algorithm
    material: str
    """base64url: for ES256 the point's x and y, 32 bytes each; for RS256 the modulus."""


def require_cryptography() -> None:
    """Make sure that keys can be used.

    Raises:
        ConfigurationError: if the extra isn't installed.
    """
    try:
        importlib.import_module("cryptography")
    except ImportError:
        raise ConfigurationError(
            "device_binding needs the package cryptography; install it with"
            " pip install 'wsgi-sessions[crypto]'"
        ) from None


def unbase64url(text: object) -> bytes | None:
    """The bytes of base64url without padding (RFC 7515 section 2); None for anything else."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return None
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base64url(raw: bytes) -> str:
    """The bytes as base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def key_from_jwk(algorithm: str, jwk: object) -> DeviceKey | None:
    """The key of this JWK for this algorithm; None unless it is a sound one (RFC 7518 section 6).

    Only what makes up the public key is read, so nothing else that a client sends is kept.
    """
    if not isinstance(jwk, dict):
        return None
    members = cast("dict[str, object]", jwk)
    kty = members.get("kty")
    if algorithm == "ES256" and kty == "EC" and members.get("crv") == "P-256":
        x, y = unbase64url(members.get("x")), unbase64url(members.get("y"))
        if x is None or y is None or not len(x) == len(y) == COORDINATE:
            return None
        return _usable(DeviceKey("ES256", base64url(x + y)))
    if algorithm == "RS256" and kty == "RSA":
        n, e = unbase64url(members.get("n")), unbase64url(members.get("e"))
        if not n or n[0] == 0 or e is None or int.from_bytes(e, "big") != _EXPONENT:
            return None
        return _usable(DeviceKey("RS256", base64url(n)))
    return None


def _usable(key: DeviceKey) -> DeviceKey | None:
    return None if _public_key(key) is None else key


def verifies(key: DeviceKey, signature: bytes, message: bytes) -> bool:
    """Whether the holder of this key signed the message."""
    public = _public_key(key)
    if public is None:
        return False
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 # an extra
    from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 # an extra
        ec,
        padding,
        utils,
    )
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 # an extra

    try:
        if key.algorithm == "RS256":
            public.verify(signature, message, padding.PKCS1v15(), SHA256())
        elif len(signature) == 2 * COORDINATE:
            r, s = signature[:COORDINATE], signature[COORDINATE:]
            pair = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
            public.verify(pair, message, ec.ECDSA(SHA256()))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _public_key(key: DeviceKey) -> Any:
    """The key as cryptography has it; None if it is off the curve, or of a size that is refused."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 # an extra

    raw = unbase64url(key.material) or b""
    if key.algorithm == "RS256":
        number = int.from_bytes(raw, "big")
        if not MIN_RSA <= number.bit_length() <= MAX_RSA or number % 2 == 0:
            return None
        return rsa.RSAPublicNumbers(_EXPONENT, number).public_key()
    x, y = int.from_bytes(raw[:COORDINATE], "big"), int.from_bytes(raw[COORDINATE:], "big")
    if max(x, y) >= _FIELD:
        return None
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        # Not a point of the curve.
        return None
