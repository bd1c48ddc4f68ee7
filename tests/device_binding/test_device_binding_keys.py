"""Which public keys are taken, whoever signed with them."""

from __future__ import annotations

from typing import Any

import pytest

from device import Device, base64url, integer
from wsgi_sessions.device_binding.keys import DeviceKey, key_from_jwk, verifies

EC = Device().jwk
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
"""P-256's field (FIPS 186-5)."""


B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
"""P-256's second coefficient; the first is -3."""


def odd(bits: int) -> str:
    """An odd number of so many bits."""
    return integer((1 << (bits - 1)) + 1)


@pytest.mark.parametrize("bits", [2048, 2056, 3072, 4096])
def test_rsa_keys_of_2048_to_4096_bits_are_taken(bits: int) -> None:
    key = key_from_jwk("RS256", {"kty": "RSA", "n": odd(bits), "e": "AQAB"})

    assert key == DeviceKey("RS256", odd(bits))


@pytest.mark.parametrize(
    "members",
    [
        {"n": odd(1024)},
        {"n": odd(2047)},
        {"n": odd(4097)},
        {"n": integer(1 << 2047)},
        {"n": base64url(bytes(1) + b"\xff" * 256)},
        {"n": ""},
        {"n": None},
        {"n": 2**2048 + 1},
        {"n": odd(2048) + "="},
        {"e": "AQ"},
        {"e": "Aw"},
        {"e": ""},
        {"e": None},
        {"e": 65537},
        {"kty": "EC"},
        {"kty": "rsa"},
        {"kty": None},
    ],
    ids=lambda members: f"{next(iter(members))}-{str(next(iter(members.values())))[:12]}",
)
def test_other_rsa_keys_are_not(members: dict[str, Any]) -> None:
    good = {"kty": "RSA", "n": odd(2048), "e": "AQAB"}
    assert key_from_jwk("RS256", good) is not None

    assert key_from_jwk("RS256", {**good, **members}) is None


@pytest.mark.parametrize(
    "members",
    [
        {"kty": "RSA"},
        {"kty": "OKP"},
        {"kty": None},
        {"crv": "P-384"},
        {"crv": "p-256"},
        {"crv": None},
        {"crv": ["P-256"]},
        {"x": EC["y"], "y": EC["x"]},
        {"x": integer(0, 32), "y": integer(0, 32)},
        {"x": integer(P, 32)},
        {"x": integer(2**256 - 1, 32)},
        {"x": base64url(bytes(31))},
        {"x": base64url(bytes(1)) + EC["x"]},
        {"x": ""},
        {"y": None},
        {"y": 5},
        {"y": EC["y"] + "="},
    ],
)
def test_other_points_are_not_taken(members: dict[str, Any]) -> None:
    assert key_from_jwk("ES256", EC) is not None

    assert key_from_jwk("ES256", {**EC, **members}) is None


def on_curve(x: int) -> tuple[int, int] | None:
    """The point with this x, if the curve has one."""
    square = (x**3 - 3 * x + B) % P
    y = pow(square, (P + 1) // 4, P)
    return (x, y) if y * y % P == square else None


def test_the_coordinates_lengths_count_and_not_their_sum() -> None:
    device = Device()
    numbers = device.key.public_key().public_numbers()
    both = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    assert key_from_jwk("ES256", device.jwk) is not None

    for length in (0, 31, 33, 64):
        shifted = {"x": base64url(both[:length]), "y": base64url(both[length:])}
        assert key_from_jwk("ES256", {**device.jwk, **shifted}) is None


def point(x: int, y: int) -> dict[str, Any]:
    return {**EC, "x": integer(x, 32), "y": integer(y, 32)}


@pytest.mark.parametrize("x", [0, 5])
def test_a_coordinate_is_never_reduced(x: int) -> None:
    found = on_curve(x)
    assert found is not None
    assert key_from_jwk("ES256", point(*found)) is not None

    assert key_from_jwk("ES256", point(x + P, found[1])) is None


def test_the_largest_coordinates_are_taken() -> None:
    found = next(filter(None, (on_curve(P - below) for below in range(1, 50))))

    assert key_from_jwk("ES256", point(*found)) is not None


def test_a_damaged_key_verifies_nothing() -> None:
    for algorithm, length in (("ES256", 86), ("RS256", 345), ("RS256", 342)):
        damaged = DeviceKey(algorithm, "A" * length)  # type: ignore[arg-type] # any of them, from a table
        assert not verifies(damaged, bytes(64), b"message")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384", "PS256", "", "es256"])
def test_no_other_algorithm_has_keys(algorithm: str) -> None:
    assert key_from_jwk(algorithm, EC) is None


def test_a_key_is_for_its_own_algorithm_alone() -> None:
    rsa = Device("RS256").jwk

    assert key_from_jwk("RS256", EC) is None
    assert key_from_jwk("ES256", rsa) is None
    assert key_from_jwk("RS256", {**EC, **rsa}) == key_from_jwk("RS256", rsa)


@pytest.mark.parametrize("jwk", [None, "", "key", [], 7, {}], ids=str)
def test_what_is_no_jwk_is_not_taken(jwk: object) -> None:
    assert key_from_jwk("ES256", jwk) is None


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_only_the_holder_of_the_key_signs_for_it(algorithm: str) -> None:
    device, other = Device(algorithm), Device(algorithm)
    key = key_from_jwk(algorithm, device.jwk)
    assert key is not None

    assert verifies(key, device.sign(b"message"), b"message")
    assert not verifies(key, device.sign(b"message"), b"messagf")
    assert not verifies(key, other.sign(b"message"), b"message")


@pytest.mark.parametrize(
    "signature",
    [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65), bytes(31) + b"\1" + bytes(32)],
    ids=["empty", "zeros", "ones", "short", "long", "s-zero"],
)
def test_no_constant_signs_for_a_key(signature: bytes) -> None:
    key = key_from_jwk("ES256", EC)
    assert key is not None

    assert not verifies(key, signature, b"message")
