"""Requirements 1.1 and 1.2: session IDs, signatures, secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import random
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from itsdangerous import Signer, TimestampSigner

from acts import id_of, login, put, read, sending, started, token, twin
from raw import raw
from records import key_of
from wsgi import SECRET, Browser, Site, call, environ
from wsgi_sessions import ConfigurationError, Cookie, Session, SessionMiddleware
from wsgi_sessions.client_side import ClientSeal
from wsgi_sessions.crypto.encryption import Sealer
from wsgi_sessions.crypto.session_id import Rotation, SessionID, new_id
from wsgi_sessions.crypto.signing import TokenSigner, derive_key
from wsgi_sessions.record import Record
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore

OTHER = "another secret of at least thirty-two bytes, for tests"


def counting() -> tuple[Site, Browser, FaultyStore]:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    store.calls.clear()
    return site, browser, store


def test_ID_1_ids_are_256_random_bits_in_43_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    monkeypatch.setattr(random, "random", lambda: 0.5)
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=1))
    monkeypatch.setattr(time, "time", lambda: 1.0)
    ids = []
    for _ in range(10_000):
        session = site.middleware.open_session(environ())
        assert session is not None
        ids.append(session.id)

    assert len(set(ids)) == 10_000
    assert {len(each) for each in ids} == {43}
    for place in range(42):
        assert len({each[place] for each in ids}) == 64
    assert len({each[42] for each in ids}) == 16


def test_ID_2_without_randomness_there_is_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()

    def broken(size: int) -> bytes:
        raise OSError("no entropy")

    monkeypatch.setattr(os, "urandom", broken)
    with pytest.raises(OSError, match="entropy"):
        site.run(site.browser(), put(a=1))

    assert list(site.store.keys()) == []


def test_ID_3_an_id_says_nothing_of_its_session() -> None:
    site = Site()
    ids = []
    for _ in range(250):
        browser = site.browser()
        site.run(browser, login)
        ids.append(base64.urlsafe_b64decode(id_of(browser) + "="))

    for place in range(29):
        assert len({each[place : place + 3] for each in ids}) > 245


@pytest.mark.parametrize("end", ["deleted", "expired", "destroyed"])
def test_ID_4_an_id_not_in_the_store_is_never_adopted(end: str) -> None:
    site, browser = started()
    old = dict(browser.cookies)
    handle = key_of(id_of(browser))
    if end == "deleted":
        site.store.delete(handle)
    elif end == "expired":
        site.clock.advance(2 * 86400)
    else:
        site.run(twin(browser), lambda s: s.destroy())

    site.run(browser, put(b=2))

    assert browser.cookies != old
    assert key_of(id_of(browser)) != handle
    if end != "expired":
        assert handle not in set(site.store.keys())


def test_ID_5_an_attackers_own_id_is_ignored_without_asking_the_store() -> None:
    site, _, store = counting()
    attacker = sending(site, "session=attackerchosen1234")

    site.run(attacker, read)
    calls = dict(store.calls)
    site.run(attacker, login)

    assert calls == {}
    assert site.run(sending(site, "session=attackerchosen1234"), read).text == "{}"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "../" + t,
        lambda t: t + "\n",
        lambda t: t + "\r\n",
        lambda t: t + "\x00",
        lambda t: "\x00" + t,
        lambda t: t.replace(".", "\x00."),
        lambda t: "é" + t,
        lambda t: t + "\xff",
        lambda t: "*" + t[1:],
        lambda t: "{" + t[1:],
        lambda t: " ".join((t[:10], t[10:])),
        lambda t: "A" * 1_000_000 + t,
        lambda t: "../../etc/passwd",
        lambda t: "",
        lambda t: ".",
    ],
)
def test_ID_6_an_ids_form_is_checked_before_anything_else(change: Callable[[str], str]) -> None:
    site, browser, store = counting()

    response = site.run(sending(site, "session=" + change(token(browser))), read)

    assert response.code == 200
    assert response.text == "{}"
    assert store.calls == {}


@pytest.mark.parametrize(
    "place",
    [
        lambda t: {"QUERY_STRING": f"session={t}"},
        lambda t: {"PATH_INFO": f"/run;session={t}"},
        lambda t: {"HTTP_X_SESSION_ID": t, "HTTP_SESSION": t},
        lambda t: {"HTTP_AUTHORIZATION": f"Bearer {t}"},
    ],
)
def test_ID_7_ids_come_from_the_cookie_only(place: Callable[[str], dict[str, str]]) -> None:
    site, browser = started()
    extra = place(token(browser))
    site.routes["/run"] = site.routes[extra.get("PATH_INFO", "/run")] = read

    made = environ("/run")
    made.update(extra)

    assert call(site.middleware, made).text == "{}"


def numbered(number: int) -> str:
    """An ID; its selector and its verifier are this number's alone."""
    return f"{number:03d}" * 14 + "A"


@pytest.mark.parametrize("work", [put(b=2), login], ids=["put", "login"])
def test_ID_8_a_collision_yields_another_id_and_never_an_overwrite(work: Any) -> None:
    ids = iter(map(numbered, (1, 1, 2)))
    site = Site(id_factory=lambda: next(ids))
    victim, other = site.browser(), site.browser()
    site.run(victim, put(a="victim"))
    before = site.store.load(key_of(id_of(victim)))
    site.clock.advance(0.001)  # an ID alone, from the same moment, would be the request's own

    site.run(other, work)

    assert site.store.load(key_of(id_of(victim))) == before
    assert id_of(other) == numbered(2)


def test_ID_8_a_collision_at_a_new_id_takes_nothing_over() -> None:
    """A session keeps the part of its ID that finds it, whatever the rest comes to be."""
    ids = iter(map(numbered, (1, 2, 1)))
    site = Site(id_factory=lambda: next(ids))
    victim, other = site.browser(), site.browser()
    site.run(victim, put(a="victim"))
    site.run(other, put(a="other"))

    before = id_of(other)
    site.run(other, lambda s: s.regenerate())

    assert id_of(other) not in (before, id_of(victim))
    assert site.run(victim, read).text == "{'a': 'victim'}"
    assert site.run(other, read).text == "{'a': 'other'}"


@pytest.mark.parametrize("what", ["data", "login", "rotation"])
def test_ID_9_the_store_knows_no_id_and_its_keys_are_no_ids(what: str) -> None:
    site = Site(rotate_after=10)
    browser = site.browser()
    site.run(browser, login if what == "login" else put(a=1))
    seen = [token(browser)]
    if what == "rotation":
        site.clock.advance(10)
        site.run(browser, read)
        seen.append(token(browser))
    everything = raw(site.store)

    for each in seen:
        session_id, _, signature = each.partition(".")
        assert session_id.encode() not in everything
        assert signature.encode() not in everything
    for key in list(site.store.keys()):
        assert site.run(sending(site, f"session={key}"), read).text == "{}"
        signed = TokenSigner((SECRET.encode(),), "cookie.session").sign(key)
        assert site.run(sending(site, f"session={signed}"), read).text == "{}"


def test_ID_9_a_rotated_id_is_known_to_who_has_both_the_old_one_and_the_secret() -> None:
    old, other = SessionID(new_id()), SessionID(new_id())
    new, nonce = Rotation((SECRET.encode(),)).successor_of(old)

    found = Rotation((OTHER.encode(), SECRET.encode())).present_id(old, nonce, new.hash)

    assert found is not None
    assert (found.id, found.key) == (new.id, old.key)
    assert Rotation((SECRET.encode(),)).present_id(other, nonce, new.hash) is None
    assert Rotation((OTHER.encode(),)).present_id(old, nonce, new.hash) is None
    again, _ = Rotation((SECRET.encode(),)).successor_of(old)
    assert again.id != new.id  # nor is it a function of the old one alone


def test_ID_10_a_record_under_the_raw_id_is_never_found() -> None:
    site, browser = started()
    store = site.store
    assert isinstance(store, MemoryStore)
    key = key_of(id_of(browser))
    record = store.load(key)
    assert record is not None
    store.delete(key)
    store._hot[id_of(browser)] = record  # as a careless administrator might

    assert site.run(browser, read).text == "{}"


def _fail(session: Session) -> None:
    session.login("bob")
    session["bad"] = object()


def test_ID_11_no_text_about_a_session_shows_its_id() -> None:
    site, browser = started()
    shown: list[str] = []

    def work(session: Session) -> None:
        try:
            _fail(session)
        except TypeError as error:
            told = traceback.TracebackException.from_exception(error, capture_locals=True)
            shown.extend(told.format())
        shown.extend([repr(session), f"{session}", str(session)])

    before = token(browser)
    site.run(browser, work)

    text = "\n".join(shown)
    assert "session = <Session" in text
    for each in (before, token(browser)):
        assert each not in text
        assert each.partition(".")[0] not in text


def test_SG_1_no_bit_of_the_signature_can_be_flipped() -> None:
    site, browser, store = counting()
    session_id, _, signature = token(browser).partition(".")
    mac = base64.urlsafe_b64decode(signature + "=")
    assert len(signature) >= 43

    for bit in range(len(mac) * 8):
        flipped = bytearray(mac)
        flipped[bit // 8] ^= 1 << bit % 8
        forged = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
        assert site.run(sending(site, f"session={session_id}.{forged}"), read).text == "{}"

    assert store.calls == {}


def test_SG_2_tokens_made_for_something_else_are_no_good() -> None:
    site, browser, store = counting()
    session_id = id_of(browser)
    other = TokenSigner((SECRET.encode(),), "cookie.other").sign(session_id)
    header = TokenSigner((SECRET.encode(),), "header.x-session-token").sign(session_id)
    default = Signer(SECRET).sign(session_id).decode()
    sha256 = Signer(SECRET, digest_method=hashlib.sha256).sign(session_id).decode()
    stamped = TimestampSigner(SECRET).sign(session_id).decode()

    for forged in (other, header, default, sha256, stamped):
        assert site.run(sending(site, f"session={forged}"), read).text == "{}"
    assert store.calls == {}


def test_SG_3_only_the_canonical_spelling_of_a_token_is_accepted() -> None:
    site, browser, store = counting()
    good = token(browser)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [good[:-1] + letter for letter in letters if letter != good[-1]]
    others += [good + "=", good + "==", good + "é", good[:50] + "é" + good[50:], good + "."]
    others += [good.upper(), good.lower(), good.replace(".", ".."), "." + good]

    for forged in others:
        assert site.run(sending(site, f"session={forged}"), read).text == "{}"
    assert store.calls == {}
    assert site.run(browser, read).text == "{'a': 1}"


def test_SG_4_a_token_that_is_not_ascii_never_raises() -> None:
    site, browser = started()

    for forged in ("é", token(browser)[:-1] + "é", "\xff" * 87, "é" * 43 + "." + "é" * 43):
        response = site.run(sending(site, f"session={forged}"), read)
        assert (response.code, response.text) == (200, "{}")


@pytest.mark.parametrize(
    "secret",
    [
        "",
        b"",
        None,
        " " * 40,
        "\0" * 40,
        "secret",
        "changeme" * 8,
        os.urandom(31),
        [],
        [""],
        [None],
    ],
    ids=lambda secret: f"{type(secret).__name__}-{len(secret) if secret else 0}",
)
def test_SG_5_a_weak_secret_is_refused_and_never_quoted(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret_key") as caught:
        SessionMiddleware(lambda e, s: [], secret_key=secret)

    assert isinstance(caught.value, ValueError)
    if secret and secret != "secret" and isinstance(secret, (str, bytes)):
        assert str(secret) not in str(caught.value)


@pytest.mark.parametrize(
    "secret",
    [
        {SECRET, OTHER},
        frozenset({SECRET}),
        (each for each in [SECRET]),
        bytearray(SECRET.encode()),
        12345,
        [SECRET, None],
        [[SECRET]],
        {SECRET: 1},
        iter([SECRET]),
        True,
    ],
    ids=lambda secret: type(secret).__name__,
)
def test_SG_6_secrets_are_text_bytes_or_an_ordered_list_of_them(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret_key"):
        SessionMiddleware(lambda e, s: [], secret_key=secret)


def test_SG_7_the_newest_secret_comes_first_and_signs() -> None:
    first, browser = started()
    both = Site(secret_key=[OTHER, SECRET], store=first.store, clock=first.clock)
    newest = Site(secret_key=OTHER, store=first.store, clock=first.clock)
    old = twin(browser)

    browser.app = both.middleware
    assert both.run(browser, read).text == "{'a': 1}"
    browser.app = old.app = newest.middleware

    assert newest.run(browser, read).text == "{'a': 1}"
    assert newest.run(old, read).text == "{}"


def test_SG_8_an_older_secret_is_reported_and_the_cookie_signed_anew_once() -> None:
    first, browser = started()
    both = Site(secret_key=[OTHER, SECRET], store=first.store, clock=first.clock)
    browser.app = both.middleware

    again = both.run(browser, read)
    after = both.run(browser, read)

    assert again.set_cookie is not None
    assert after.set_cookie is None
    assert both.kinds == ["old_secret"]


def test_SG_9_a_new_secret_alone_signs_everybody_out() -> None:
    first, browser = started()
    store = FaultyStore(first.store)
    newest = Site(secret_key=OTHER, store=store, clock=first.clock)
    browser.app = newest.middleware

    assert newest.run(browser, read).text == "{}"
    assert store.calls == {}


def test_SG_10_a_bare_id_is_no_token() -> None:
    site, browser, store = counting()

    for bare in (id_of(browser), id_of(browser) + ".", key_of(id_of(browser))):
        assert site.run(sending(site, f"session={bare}"), read).text == "{}"
    assert store.calls == {}


def test_SG_11_each_purpose_has_a_key_of_its_own() -> None:
    secret = SECRET.encode()
    purposes = ["cookie.session", "cookie.other", "header.session", "rotation", "client"]
    keys = [derive_key(secret, purpose) for purpose in purposes]

    assert len(set(keys)) == len(purposes)
    assert secret not in keys


def test_SG_11_a_client_side_session_is_signed_and_encrypted_under_two_keys() -> None:
    purpose, secrets = "cookie.session", (SECRET.encode(),)
    record = Record({"a": b"1"}, b"notes", 1.0, 2.0)
    value = ClientSeal(secrets, encrypt=True).seal("A" * 43, record, purpose)
    sealed = base64.urlsafe_b64decode(value.partition(".")[2] + "==")
    signed = ClientSeal(secrets, encrypt=False).seal("A" * 43, record, purpose)
    text, _, mac = signed.rpartition(".")
    signing = derive_key(SECRET.encode(), f"client-side.{purpose}")

    assert base64.urlsafe_b64encode(hmac.digest(signing, text.encode(), "sha256"))[:43] == (
        mac.encode()
    )  # this is the key that signs
    assert Sealer((signing,)).open(sealed, purpose.encode()) is None
    assert ClientSeal(secrets, encrypt=True).open(value, purpose) is not None


def test_SG_12_no_text_about_the_middleware_shows_a_secret() -> None:
    middleware = SessionMiddleware(
        lambda e, s: [],
        secret_key=[SECRET, OTHER],
        encryption_keys=[hashlib.sha256(b"key").digest()],
        cookie=Cookie(name="sid"),
    )

    text = repr(middleware) + middleware.describe() + repr(middleware.registry)
    text += repr(vars(middleware)) + repr(vars(middleware.registry))  # as a debugger shows them

    for secret in (SECRET, OTHER, repr(hashlib.sha256(b"key").digest())):
        assert secret not in text
    with pytest.raises(ConfigurationError) as caught:
        SessionMiddleware(lambda e, s: [], secret_key=SECRET, store="redis://u:pa55word@h:port/0")
    assert "pa55word" not in str(caught.value)
