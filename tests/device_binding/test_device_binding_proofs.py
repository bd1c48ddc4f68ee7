"""Reading a proof, whoever made it: what is well-formed, and how large it may be."""

from __future__ import annotations

import pytest

from device import Device
from wsgi_sessions.device_binding.proofs import read_proof

DEVICE = Device()


def test_what_is_sent_is_read() -> None:
    text = DEVICE.registration("c", kid="1")
    proof = read_proof(text)

    assert proof is not None
    assert (proof.algorithm, proof.jwk, proof.challenge) == ("ES256", DEVICE.jwk, "c")
    assert len(proof.signature) == 64
    assert proof.signed.decode() == text.rpartition(".")[0]


def test_a_refresh_brings_no_key() -> None:
    proof = read_proof(DEVICE.proof("c"))

    assert proof is not None
    assert proof.jwk is None


def test_eight_kibibytes_are_read_and_not_a_character_more() -> None:
    full = DEVICE.proof("c").ljust(8 * 1024)

    assert read_proof(full) is not None
    assert read_proof(f"{full} ") is None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS256", "ES384", "RS512", "", None])
def test_no_other_algorithm_is_read(algorithm: str | None) -> None:
    assert read_proof(DEVICE.registration("c", alg=algorithm)) is None
