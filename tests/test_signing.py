"""Tokens: the wire format, and that nothing but it is accepted."""

from __future__ import annotations

import hashlib
import string
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import Signer

from wsgi_sessions import ConfigurationError
from wsgi_sessions.crypto import signing
from wsgi_sessions.crypto.session_id import IDFactory, Rotation, SessionID, new_id
from wsgi_sessions.crypto.signing import TokenSigner, check_secrets

SECRET = b"k" * 32
ID = "A" * 43
ALPHABET = string.ascii_letters + string.digits + "-_"


def signer(*secrets: bytes, purpose: str = "cookie.session") -> TokenSigner:
    return TokenSigner(secrets or (SECRET,), purpose)


def test_the_wire_format_is_golden() -> None:
    assert signer().sign(ID) == f"{ID}.{GOLDEN}"


GOLDEN = "rC5HpTwdzHiLuimx6GGhMSMvVal7rw5mjJc7UwLbXes"


@given(st.binary(min_size=32, max_size=64), st.text(ALPHABET, min_size=43, max_size=43))
def test_it_is_itsdangerous_own_format(secret: bytes, session_id: str) -> None:
    oracle = Signer(
        secret,
        salt=b"wsgi-sessions.cookie.session",
        key_derivation="hmac",
        digest_method=hashlib.sha256,
    )

    assert signer(secret).sign(session_id) == oracle.sign(session_id).decode()


def test_an_id_is_256_bits_of_base64url() -> None:
    ids = [new_id() for _ in range(2000)]

    assert len(set(ids)) == len(ids)
    assert all(len(made) == 43 and set(made) <= set(ALPHABET) for made in ids)
    for position in range(42):
        assert len({made[position] for made in ids}) >= 60


def test_the_key_is_the_selectors_sha256_and_the_hash_the_ids() -> None:
    made = SessionID(new_id())

    selector = urlsafe_b64decode(made.id + "=")[:16]
    assert made.key == hashlib.sha256(selector).hexdigest()
    assert made.hash == hashlib.sha256(made.id.encode()).digest()
    assert made.matches(made.hash)
    assert not made.matches(SessionID(new_id()).hash)


def test_a_renewed_id_keeps_its_selector() -> None:
    made = IDFactory(new_id).new()
    for factory in (IDFactory(new_id), IDFactory(lambda: new_id())):
        renewed = factory.renew(made)

        assert renewed.key == made.key
        assert renewed.id != made.id
        assert len(renewed.id) == 43


def test_a_successor_is_found_again_by_who_holds_the_former_id_and_the_secret() -> None:
    former = SessionID(new_id())
    successor, nonce = Rotation((SECRET,)).successor_of(former)

    both = Rotation((b"n" * 32, SECRET))
    found = both.present_id(former, nonce, successor.hash)
    assert found is not None
    assert (found.id, found.key) == (successor.id, former.key)
    assert both.present_id(SessionID(new_id()), nonce, successor.hash) is None
    assert Rotation((b"n" * 32,)).present_id(former, nonce, successor.hash) is None
    assert Rotation((SECRET,)).successor_of(former).id.id != successor.id


def test_what_was_signed_is_verified() -> None:
    assert signer().verify(signer().sign(ID)) == (ID, 0)


def test_secrets_are_newest_first() -> None:
    old, new = b"o" * 32, b"n" * 32

    assert signer(new, old).verify(signer(old).sign(ID)) == (ID, 1)
    assert signer(new).verify(signer(new, old).sign(ID)) == (ID, 0)
    assert signer(new).verify(signer(old).sign(ID)) is None


def test_a_token_is_bound_to_its_purpose() -> None:
    token = signer().sign(ID)

    for purpose in ("cookie.sessio", "cookie.session2", "header.session"):
        assert signer(purpose=purpose).verify(token) is None


def test_only_the_canonical_spelling_is_accepted() -> None:
    token = signer().sign(ID)

    spellings = {token[:-1] + last for last in ALPHABET} - {token}
    spellings |= {token + "=", token + "==", token + "\n", " " + token, token + "é"}
    spellings |= {token[:50] + "\xe9" + token[50:], token.replace(".", ":"), token + ".x"}

    assert [spelling for spelling in spellings if signer().verify(spelling)] == []


def test_no_bit_of_a_token_can_be_flipped() -> None:
    token = signer().sign(ID)

    for position in range(len(token)):
        for bit in range(7):
            flipped = (
                token[:position] + chr(ord(token[position]) ^ 1 << bit) + token[position + 1 :]
            )
            assert signer().verify(flipped) is None


@given(st.text())
def test_any_text_is_safe_to_ask_about(text: str) -> None:
    assert signer().verify(text) is None


@pytest.mark.parametrize("default", [Signer(SECRET), Signer(SECRET, key_derivation="hmac")])
def test_itsdangerous_defaults_are_no_tokens(default: Signer) -> None:
    assert signer().verify(default.sign(ID).decode()) is None


def test_secrets_may_be_text_or_bytes() -> None:
    text = "é" * 20

    assert check_secrets(text) == check_secrets([text.encode()]) == (text.encode(),)


@pytest.mark.parametrize("made", [5, b"A" * 43, None, "A" * 42, "A" * 44, "A" * 42 + "=", ""])
def test_an_id_factory_that_gives_no_id_is_named(made: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"id_factory .* str of 43 base64url characters"):
        IDFactory(lambda: made).new()


def test_an_id_shows_the_start_of_its_key_alone() -> None:
    assert repr(SessionID(ID)) == f"<SessionID of {SessionID(ID).key[:12]}…>"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, r"secret_key is of type int; give str or bytes of at least 32 bytes, or a list"),
        ([], r"secret_key is an empty list; give at least one secret"),
        ([5], r"secret_key has a secret of type int; give str or bytes"),
        ("\ud800" * 40, r"secret_key has characters that can.t be encoded as UTF-8"),
        ("x" * 31, r"secret_key has a secret of 31 bytes; at least 32 are needed"),
        (" " * 40, r"secret_key has a secret that is blank or a well-known placeholder"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_it(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_secrets(given)


@pytest.mark.parametrize(
    "secret", [b"k" * 32, "k" * 32, "X" * 40, "not a secret at all, but long enough"]
)
def test_32_bytes_are_enough(secret: str | bytes) -> None:
    assert len(check_secrets(secret)) == 1


@pytest.mark.parametrize(
    "words",
    [
        "change-me ",
        "ChangeThis!",
        "replace_me",
        "replace this",
        "My-Secret-Key",
        "your_secret_key_here ",
        "supersecret",
        "TOP SECRET ",
        "password.",
        "passwd-",
        "keyboard cat ",
        "insecure-",
        "Placeholder ",
        "put-the-output-of-wsgi-sessions-secret-here",
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
        "Change_me_to_a_Complex_random_secret",
        "\0",
    ],
)
def test_a_placeholder_is_refused_in_any_spelling_and_however_often(words: str) -> None:
    secret = words if len(words) >= 32 else words * 32

    for spelling in (secret, secret.upper(), secret.lower(), f" {secret}\n", f"\0{secret}\0"):
        with pytest.raises(ConfigurationError, match="well-known placeholder"):
            check_secrets(spelling)


def test_no_published_key_is_forgotten() -> None:
    """Their texts aren't here: most were keys that somebody may still use."""
    known = "".join(sorted(signing._PUBLISHED))

    assert hashlib.sha256(known.encode()).hexdigest() == (
        "6799ee2eed04c841e210bf2fa49364a482cad63699f8c337d6cafd5e6020209d"
    )
