"""What a thief or a broken browser might send instead of a proof, by name.

Each takes an Agent and the challenge that it was given, and makes the text of the header.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from device import Agent, Answer, Device, base64url, integer

P256 = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
Attack = Callable[[Agent, str], str]

REGISTRATION_ATTACKS: dict[str, Attack] = {
    "empty": lambda a, c: "",
    "not a JWT": lambda a, c: "hello",
    "two parts": lambda a, c: a.device.registration(c).rpartition(".")[0],
    "four parts": lambda a, c: a.device.registration(c) + ".AAAA",
    "no signature": lambda a, c: a.device.registration(c, signature=b""),
    "not base64url": lambda a, c: a.device.registration(c) + "=",
    "characters of other alphabets": lambda a, c: "é" + a.device.registration(c),
    "a length that base64url hasn't": lambda a, c: "AAAAA.AAAA.AAAA",
    "header is not JSON": lambda a, c: f"{base64url(b'{')}.{base64url(b'{}')}.AAAA",
    "header is a list": lambda a, c: f"{base64url(b'[]')}.{base64url(b'{}')}.AAAA",
    "header is not UTF-8": lambda a, c: f"{base64url(bytes([255, 254, 253]))}.AAAA.AAAA",
    "nested without end": lambda a, c: f"{base64url(b'[' * 5000)}.AAAA.AAAA",
    "a number without end": lambda a, c: f"{base64url(b'9' * 5000)}.AAAA.AAAA",
    "payload is text": lambda a, c: (
        a.device.registration(c).split(".")[0] + f".{base64url(b'1')}.AAAA"
    ),
    "oversized": lambda a, c: a.device.registration(c, payload={"x": "y" * 9000}),
    "no challenge": lambda a, c: a.device.registration(None),
    "challenge is a number": lambda a, c: a.device.proof(7, jwk=a.device.jwk),
    "challenge is a list": lambda a, c: a.device.proof([c], jwk=a.device.jwk),
    "wrong challenge": lambda a, c: a.device.registration("A" * 92),
    "challenge is not ASCII": lambda a, c: a.device.registration("ä" * 92),
    "challenge with something behind": lambda a, c: a.device.registration(c + "A"),
    "another type": lambda a, c: a.device.registration(c, typ="jwt"),
    "no type": lambda a, c: a.device.registration(c, typ=None),
    "type is a list": lambda a, c: a.device.registration(c, typ=["dbsc+jwt"]),
    "none": lambda a, c: a.device.registration(c, alg="none", signature=b"x"),
    "none, without a signature": lambda a, c: a.device.registration(c, alg="none", signature=b""),
    "None": lambda a, c: a.device.registration(c, alg="None"),
    "no algorithm": lambda a, c: a.device.registration(c, alg=None),
    "algorithm is a list": lambda a, c: a.device.registration(c, alg=["ES256"]),
    "HS256": lambda a, c: a.device.registration(c, alg="HS256"),
    "ES384": lambda a, c: a.device.registration(c, alg="ES384"),
    "PS256": lambda a, c: Device("RS256").registration(c, alg="PS256"),
    "RS256 with an EC key": lambda a, c: a.device.registration(c, alg="RS256"),
    "ES256 with an RSA key": lambda a, c: Device("RS256").registration(c, alg="ES256"),
    "must understand": lambda a, c: a.device.registration(c, crit=["b64"], b64=False),
    "no key": lambda a, c: a.device.proof(c),
    "key is text": lambda a, c: a.device.proof(c, jwk="key"),
    "key is empty": lambda a, c: a.device.proof(c, jwk={}),
    "another key signed": lambda a, c: a.device.proof(c, jwk=Device().jwk),
    "another RSA key signed": lambda a, c: Device("RS256").proof(c, jwk=Device("RS256").jwk),
    "another curve": lambda a, c: a.device.proof(c, jwk={**a.device.jwk, "crv": "P-384"}),
    "secp256k1": lambda a, c: a.device.proof(c, jwk={**a.device.jwk, "crv": "secp256k1"}),
    "octets": lambda a, c: a.device.proof(c, jwk={"kty": "oct", "k": "AAAA"}),
    "off the curve": lambda a, c: a.device.proof(c, jwk={**a.device.jwk, "x": integer(7, 32)}),
    "the point at infinity": lambda a, c: a.device.proof(
        c, jwk={**a.device.jwk, "x": integer(0, 32), "y": integer(0, 32)}
    ),
    "coordinate beyond the field": lambda a, c: a.device.proof(
        c, jwk={**a.device.jwk, "x": integer(P256 + 5, 32)}
    ),
    "coordinate too short": lambda a, c: a.device.proof(c, jwk={**a.device.jwk, "y": "AAAA"}),
    "coordinate is a number": lambda a, c: a.device.proof(c, jwk={**a.device.jwk, "y": 5}),
    "no coordinate": lambda a, c: a.device.proof(c, jwk={"kty": "EC", "crv": "P-256"}),
    "RSA too small": lambda a, c: Device("RS256", 1024).registration(c),
    "RSA of 2047 bits": lambda a, c: _rsa(c, n=integer((1 << 2046) + 1)),
    "RSA too large": lambda a, c: _rsa(c, n=integer((1 << 4096) + 1)),
    "RSA modulus even": lambda a, c: _rsa(c, n=integer(1 << 2047)),
    "RSA modulus with leading zeros": lambda a, c: _rsa(c, n=base64url(bytes(8) + b"\xff" * 256)),
    "RSA modulus empty": lambda a, c: _rsa(c, n=""),
    "RSA without a modulus": lambda a, c: _rsa(c, n=None),
    "RSA exponent 1": lambda a, c: _rsa(c, e="AQ"),
    "RSA exponent 3": lambda a, c: _rsa(c, e="Aw"),
    "RSA exponent missing": lambda a, c: _rsa(c, e=None),
    "signature of zeros": lambda a, c: a.device.registration(c, signature=bytes(64)),
    "signature as DER": lambda a, c: _der(a, c),
    "signature too long": lambda a, c: a.device.registration(c, signature=b"\1" * 65),
    "RSA signature of zeros": lambda a, c: Device("RS256").registration(c, signature=bytes(256)),
    "payload swapped after signing": lambda a, c: _swapped(a, c),
}


REFRESH_ATTACKS: dict[str, Attack] = {
    "another device": lambda a, c: Device().proof(c),
    "a key of its own in the header": lambda a, c: Device().registration(c),
    "another algorithm": lambda a, c: Device("RS256").registration(c),
    "the stored key under another algorithm": lambda a, c: a.device.proof(c, alg="RS256"),
    "unsigned": lambda a, c: a.device.proof(c, signature=bytes(64)),
    "wrong challenge": lambda a, c: a.device.proof("A" * 92),
    "none": lambda a, c: a.device.proof(c, alg="none"),
    "HMAC under the public key": lambda a, c: a.device.proof(c, alg="HS256"),
    "malformed": lambda a, c: "x.y",
    "oversized": lambda a, c: a.device.proof(c, payload={"x": "y" * 9000}),
    "payload swapped after signing": lambda a, c: _swapped(a, c),
}


def _rsa(challenge: str, **members: Any) -> str:
    device = Device("RS256")
    return device.proof(challenge, jwk={**device.jwk, **members})


def _der(agent: Agent, challenge: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    signed = agent.device.registration(challenge).rpartition(".")[0]
    return f"{signed}.{base64url(agent.device.key.sign(signed.encode(), ec.ECDSA(SHA256())))}"


def _swapped(agent: Agent, challenge: str) -> str:
    header, _, signature = agent.device.registration("another").split(".")
    payload = base64url(json.dumps({"jti": challenge}).encode())
    return f"{header}.{payload}.{signature}"


def is_refused(answer: Answer) -> bool:
    return (
        400 <= answer.status < 500
        and answer.header("Set-Cookie") is None
        and answer.header("Cache-Control") == "no-store"
    )
