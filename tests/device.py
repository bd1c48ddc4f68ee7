"""A device in software: keys, and the proofs that a browser would send. It can misbehave, too.

It reads the server's headers by their grammar (RFC 9651) and by nothing that the server's own code
knows, and makes its JWTs with `cryptography` alone.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256

_OFFER = re.compile(r'\(([A-Za-z0-9 ]+)\);path="([^"\\]+)";challenge="([^"\\]+)"')
_CHALLENGE = re.compile(r'"([^"\\]+)";id="([^"\\]+)"')


class Offer(NamedTuple):
    algorithms: tuple[str, ...]
    path: str
    challenge: str


def read_offer(value: str) -> Offer:
    """A Secure-Session-Registration header."""
    match = _OFFER.fullmatch(value)
    assert match is not None, value
    return Offer(tuple(match[1].split()), match[2], match[3])


def read_challenge(value: str) -> tuple[str, str]:
    """The challenge and the session identifier of a Secure-Session-Challenge header."""
    match = _CHALLENGE.fullmatch(value)
    assert match is not None, value
    return match[1], match[2]


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def integer(number: int, length: int | None = None) -> str:
    size = (number.bit_length() + 7) // 8 if length is None else length
    return base64url(number.to_bytes(size, "big"))


@functools.cache
def _rsa_keys(bits: int) -> Iterator[rsa.RSAPrivateKey]:
    """Two keys in turn: they take long to make, and no test needs more at a time."""
    return itertools.cycle([rsa.generate_private_key(65537, bits) for _ in range(2)])


class Device:
    """One key of a device.

    Args:
        algorithm: ES256 or RS256.
        bits: the RSA key's size.
    """

    def __init__(self, algorithm: str = "ES256", bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.key: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else next(_rsa_keys(bits))
        )

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as a registration brings it."""
        numbers = self.key.public_key().public_numbers()
        if self.algorithm == "ES256":
            x, y = integer(numbers.x, 32), integer(numbers.y, 32)
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        return {"kty": "RSA", "n": integer(numbers.n), "e": integer(numbers.e)}

    def sign(self, message: bytes) -> bytes:
        if self.algorithm == "RS256":
            return bytes(self.key.sign(message, padding.PKCS1v15(), SHA256()))
        r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def registration(self, challenge: Any, **header: Any) -> str:
        """The proof that registers this key; ``header`` puts other members in its place."""
        return self.proof(challenge, jwk=self.jwk, **header)

    def proof(
        self,
        challenge: Any,
        *,
        payload: dict[str, Any] | None = None,
        signature: bytes | None = None,
        **header: Any,
    ) -> str:
        """The proof of a refresh, unless told otherwise.

        Args:
            challenge: the claim ``jti``.
            payload: more claims.
            signature: instead of the true one.
            header: members that are put into the header; None leaves one out.
        """
        head = {"alg": self.algorithm, "typ": "dbsc+jwt", **header}
        head = {name: value for name, value in head.items() if value is not None}
        signed = f"{_part(head)}.{_part({'jti': challenge, **(payload or {})})}"
        made = self.sign(signed.encode("ascii")) if signature is None else signature
        return f"{signed}.{base64url(made)}"


def _part(value: Any) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The one header of this name."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Agent:
    """A browser in miniature: a cookie jar, a device and what the server told it. Speaks WSGI.

    It does by itself nothing of what a browser would: each step is the test's.
    """

    def __init__(self, app: Any, algorithm: str = "ES256", script_name: str = "") -> None:
        self.app = app
        self.device = Device(algorithm)
        self.script_name = script_name
        self.cookies: dict[str, str] = {}
        self.offer: Offer | None = None
        self.challenge: str | None = None
        self.instructions: dict[str, Any] = {}

    def request(self, path: str, method: str = "GET", **environ: Any) -> Answer:
        """One request; what its answer sets is kept. ``HTTP_COOKIE`` stands in for the jar."""
        path = path.removeprefix(self.script_name)
        sent = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": self.script_name,
            "PATH_INFO": path,
            "wsgi.url_scheme": "https",
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            **environ,
        }
        if not sent["HTTP_COOKIE"]:
            del sent["HTTP_COOKIE"]
        started: list[Any] = []
        body = b"".join(self.app(sent, lambda *given: started.append(given)))
        answer = Answer(int(started[0][0].split()[0]), list(started[0][1]), body)
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        for name, value in answer.headers:
            if name == "Set-Cookie":
                cookie, _, attributes = value.partition(";")
                key, _, text = cookie.partition("=")
                self.cookies.pop(key, None)
                if "Max-Age=0" not in attributes:
                    self.cookies[key] = text
            elif name == "Secure-Session-Registration":
                self.offer = read_offer(value)
            elif name == "Secure-Session-Challenge":
                self.challenge, _ = read_challenge(value)

    def register(self, proof: str | None = None, **environ: Any) -> Answer:
        """What the browser does with an offer; ``proof`` instead of the true one."""
        assert self.offer is not None
        made = self.device.registration(self.offer.challenge) if proof is None else proof
        sent = {"HTTP_SECURE_SESSION_RESPONSE": made, **environ}
        answer = self.request(self.offer.path, "POST", **sent)
        if answer.status == 200:
            self.instructions = answer.json
        return answer

    def refresh(self, proof: str | None = None, **environ: Any) -> Answer:
        """One step of a refresh: with a proof if there is a challenge, else without."""
        sent = {"HTTP_SEC_SECURE_SESSION_ID": self.instructions.get("session_identifier", "")}
        made = self.device.proof(self.challenge) if proof is None and self.challenge else proof
        if made is not None:
            sent["HTTP_SECURE_SESSION_RESPONSE"] = made
        return self.request(self.instructions["refresh_url"], "POST", **{**sent, **environ})

    @property
    def second(self) -> str:
        """The second cookie's name."""
        return str(self.instructions["credentials"][0]["name"])
