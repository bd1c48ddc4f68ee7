"""The proof that a browser sends: a JWT that names a challenge, signed with the device's key.

Anything may be sent; reading and verifying return a value or None, and never raise. Whether the
challenge is alive, and whose it is, isn't known here.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, cast

from .keys import ALGORITHMS, DeviceKey, key_from_jwk, unbase64url, verifies

MAX_PROOF = 8 * 1024
"""Characters. An RS256 proof with a key of 4096 bits has less than 2,000."""
TYPE = "dbsc+jwt"


class Proof(NamedTuple):
    """A proof as it was sent: well-formed, but not verified."""

    algorithm: str
    jwk: object
    """The header's key, unchecked; None where there is none, as in every refresh."""
    challenge: str
    signature: bytes
    signed: bytes
    """What the signature covers."""


def read_proof(text: str) -> Proof | None:
    """The proof in a Secure-Session-Response header; None if it isn't one.

    Chromium sends it bare, the specification wants a quoted string: both are read.
    """
    if len(text) > MAX_PROOF:
        return None
    token = unquoted(text)
    parts = token.split(".")
    if len(parts) != 3:
        return None
    header, payload = _json_object(parts[0]), _json_object(parts[1])
    signature = unbase64url(parts[2])
    if header is None or payload is None or not signature:
        return None
    algorithm, challenge = header.get("alg"), payload.get("jti")
    # An extension that must be understood isn't (RFC 7515 section 4.1.11).
    if header.get("typ") != TYPE or algorithm not in ALGORITHMS or "crit" in header:
        return None
    if not isinstance(challenge, str):
        return None
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    return Proof(algorithm, header.get("jwk"), challenge, signature, signed)


def new_key(proof: Proof) -> DeviceKey | None:
    """The key that a registration brings, if it is sound and signed the proof itself."""
    key = key_from_jwk(proof.algorithm, proof.jwk)
    return key if key is not None and is_signed_by(proof, key) else None


def is_signed_by(proof: Proof, key: DeviceKey) -> bool:
    """Whether this key signed the proof.

    The key says with which algorithm, and the proof must agree (RFC 8725 section 3.1): no header
    can turn one kind of key into another.
    """
    return proof.algorithm == key.algorithm and verifies(key, proof.signature, proof.signed)


def unquoted(text: str) -> str:
    """The text without the blanks, and the one pair of quotes, around it."""
    text = text.strip(" \t")
    return text[1:-1] if text[:1] == text[-1:] == '"' else text


def _json_object(part: str) -> dict[str, Any] | None:
    raw = unbase64url(part)
    try:
        value = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
