"""Sessions that travel in the cookie: nothing but what we sealed for this very purpose is one."""

from __future__ import annotations

import os
import struct
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsgi import SECRET, Browser, Site, environ
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    Lifetime,
    Session,
    SessionCommitted,
    SessionMiddleware,
    SessionTooLarge,
    UnsupportedByStore,
)
from wsgi_sessions import client_side as client
from wsgi_sessions.client_side import ClientSeal
from wsgi_sessions.cookie import MAX_BYTES
from wsgi_sessions.data.notes import dump_notes, first_notes
from wsgi_sessions.record import Changes, Record
from wsgi_sessions.stores import ClientSideStore
from wsgi_sessions.testing import FakeClock

NOTES = dump_notes(first_notes(1.8e9, persistent=False))


def read(session: Session) -> str:
    return repr(dict(session))


@pytest.fixture(params=[True, False], ids=["encrypted", "signed"])
def encrypt(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def started(encrypt: bool, **options: Any) -> tuple[Site, Browser]:
    site = Site(store=ClientSideStore(encrypt=encrypt), **options)
    browser = site.browser()
    site.run(browser, lambda s: s.update(a=[1, "plain-text"]))
    return site, browser


def seen_by(site: Site, value: str, name: str = "session") -> str:
    browser = site.browser()
    browser.cookies[name] = value
    return site.run(browser, read).text


def test_a_session_comes_back(encrypt: bool) -> None:
    site, browser = started(encrypt)

    site.run(browser, lambda s: s["a"].append(2))

    assert site.run(browser, read).text == "{'a': [1, 'plain-text', 2]}"


def test_encrypted_cookies_show_nothing() -> None:
    _, browser = started(encrypt=True)

    assert browser.cookies["session"].startswith("e1.")
    assert "plain-text" not in browser.cookies["session"]


def test_no_byte_of_the_cookie_can_be_changed(encrypt: bool) -> None:
    site, browser = started(encrypt)
    value = browser.cookies["session"]

    for position in range(len(value)):
        changed = "A" if value[position] != "A" else "B"
        assert seen_by(site, value[:position] + changed + value[position + 1 :]) == "{}"
    for length in range(0, len(value), 7):
        assert seen_by(site, value[:length]) == "{}"
    assert seen_by(site, value + "A") == "{}"


def test_two_apps_names_and_purposes_are_kept_apart(encrypt: bool) -> None:
    _, browser = started(encrypt)
    value = browser.cookies["session"]
    store = ClientSideStore(encrypt=encrypt)

    assert seen_by(Site(store=store, secret_key="another secret, also long enough"), value) == "{}"
    assert seen_by(Site(store=store, cookie=Cookie("other")), value, "other") == "{}"
    header = Site(store=store, token_header="X-Session-Token")
    assert header.run(header.browser(), read, HTTP_X_SESSION_TOKEN=value).text == "{}"


def test_no_downgrade_and_no_upgrade(encrypt: bool) -> None:
    _, browser = started(encrypt)
    _, other_way = started(not encrypt)
    on_the_server = Site()
    plain = on_the_server.browser()
    on_the_server.run(plain, lambda s: s.update(a=1))
    site = Site(store=ClientSideStore(encrypt=encrypt))

    assert seen_by(site, browser.cookies["session"]) != "{}"
    assert seen_by(site, other_way.cookies["session"]) == "{}"
    assert seen_by(site, plain.cookies["session"]) == "{}"
    assert seen_by(on_the_server, browser.cookies["session"]) == "{}"


def test_the_limits_are_enforced_from_inside(encrypt: bool) -> None:
    site, browser = started(encrypt, lifetime=Lifetime(idle=60, absolute=100))
    old = browser.cookies["session"]
    site.clock.advance(50)
    site.run(browser, read)

    site.clock.advance(15)

    assert seen_by(site, old) == "{}"  # a replay after its own idle deadline
    assert site.run(browser, read).text != "{}"
    site.clock.advance(35)
    assert site.run(browser, read).text == "{}"


def test_secrets_rotate(encrypt: bool) -> None:
    _, browser = started(encrypt)
    site = Site(
        store=ClientSideStore(encrypt=encrypt), secret_key=["n" * 20 + "ew key" * 3, SECRET]
    )
    browser.app = site.middleware

    first = site.run(browser, read)

    assert first.text != "{}"
    assert first.set_cookie is not None
    assert site.run(browser, read).set_cookie is None
    assert site.kinds == ["old_secret"]


def test_too_large_names_the_biggest_fields(encrypt: bool) -> None:
    site, browser = started(encrypt)

    with pytest.raises(SessionTooLarge, match="'big' with 5002 bytes"):
        site.run(browser, lambda s: s.update(big="x" * 5000))

    assert site.run(browser, read).text == "{'a': [1, 'plain-text']}"


def test_too_large_names_the_label_if_it_is_big(encrypt: bool) -> None:
    site, browser = started(encrypt)
    label = {f"{n:>256}": "x" * 256 for n in range(16)}

    with pytest.raises(
        SessionTooLarge,
        match=r"its biggest parts are session\.label with 8299 bytes, 'b' with 99 bytes, 'a' with",
    ):
        site.run(browser, lambda s: (s.label.update(label), s.update(b="x" * 97)))

    assert site.run(browser, read).text == "{'a': [1, 'plain-text']}"


def test_what_cant_work_says_so(encrypt: bool) -> None:
    site, browser = started(encrypt)

    def work(session: Session) -> None:
        for attempt in (
            lambda: session.transaction(len),
            lambda: session.take("a"),
            lambda: session.increment("n"),
        ):
            with pytest.raises(UnsupportedByStore):
                attempt()

    site.run(browser, work)
    registry = site.middleware.registry
    for attempt in (
        lambda: registry.sessions("x"),
        lambda: registry.count("x"),
        lambda: registry.revoke("a" * 64),
        lambda: registry.revoke_all("x"),
        lambda: list(registry),
    ):
        with pytest.raises(UnsupportedByStore):
            attempt()


def test_the_life_of_a_session(encrypt: bool) -> None:
    site, browser = started(encrypt)
    before = site.run(browser, lambda s: s.handle).text

    site.run(browser, lambda s: (s.login("ada"), setattr(s, "persistent", True)))

    who = site.run(browser, lambda s: (s.owner, s.persistent, s.is_fresh(60), s.handle == before))
    assert who.text == "('ada', True, True, True)"
    again = site.run(browser, lambda s: (s.update(b=1), s.save(), s.update(c=2), read(s))[3])
    assert "Max-Age" in str(again.set_cookie)
    gone = site.run(browser, lambda s: s.destroy())
    assert "Max-Age=0" in str(gone.set_cookie)
    assert site.run(browser, read).text == "{}"


def test_an_emptied_session_expires_its_cookie(encrypt: bool) -> None:
    site, browser = started(encrypt)

    assert "Max-Age=0" in str(site.run(browser, lambda s: s.clear()).set_cookie)


def test_a_touch_sends_the_cookie_again_but_a_read_does_not(encrypt: bool) -> None:
    site, browser = started(encrypt)

    assert site.run(browser, read).set_cookie is None
    site.clock.advance(60)
    assert site.run(browser, read).set_cookie is not None
    site.clock.advance(60)
    site.headers = [("Cache-Control", "public")]
    assert site.run(browser, read).set_cookie is None
    assert isinstance(site.clock, FakeClock)


def test_a_5xx_answer_keeps_the_cookie_as_it_was(encrypt: bool) -> None:
    site, browser = started(encrypt)
    site.status = "500 Oops"

    assert site.run(browser, lambda s: s.update(a=2)).set_cookie is None


def test_random_values_are_no_cookies(encrypt: bool) -> None:
    site = Site(store=ClientSideStore(encrypt=encrypt))
    for prefix in ("e1.", "s1.", ""):
        for _ in range(20):
            assert seen_by(site, prefix + os.urandom(40).hex()) == "{}"


STORE_OPERATIONS: dict[str, Callable[[ClientSideStore], object]] = {
    "load": lambda store: store.load("a" * 64),
    "insert": lambda store: store.insert("a" * 64, Record({}, b"", 0, 1)),
    "update": lambda store: store.update("a" * 64, Changes()),
    "delete": lambda store: store.delete("a" * 64),
    "keys": lambda store: store.keys(),
    "clear": lambda store: store.clear(),
}


@pytest.mark.parametrize("operation", STORE_OPERATIONS)
def test_what_needs_a_server_that_keeps_sessions_says_so(operation: str) -> None:
    with pytest.raises(UnsupportedByStore, match="the sessions live with the clients"):
        STORE_OPERATIONS[operation](ClientSideStore())


def test_there_is_nothing_to_purge_to_ask_or_to_close() -> None:
    store = ClientSideStore(encrypt=False)

    assert store.purge_expired(1e12) == 0
    store.ping()
    store.close()
    assert repr(store) == "ClientSideStore(encrypt=False)"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 20, struct.pack(">ddQQBHH", 0, 1, 1, 0, 200, 0, 0) + b"short"]
)
def test_a_sealed_value_of_another_format_is_no_session(content: bytes) -> None:
    """As a later version may write one, under the same secret."""
    purpose = "cookie.session"
    seal = ClientSeal((SECRET.encode(),), encrypt=True)
    sealed = seal._sealer(purpose).seal(content, purpose.encode())
    value = "e1." + urlsafe_b64encode(sealed).rstrip(b"=").decode()

    assert seal._decrypt(value, purpose) == (content, 0)
    assert seal.open(value, purpose) is None


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda store: store.load("k"), "load by key"),
        (lambda store: store.insert("k", Record({}, b"", 1.0, 2.0)), "insert"),
        (lambda store: store.update("k", Changes()), "update by key"),
        (lambda store: store.delete("k"), "delete by key"),
        (lambda store: store.keys(), "list its keys"),
        (lambda store: store.clear(), "clear"),
    ],
)
def test_what_cannot_work_says_what_it_is(
    call: Callable[[ClientSideStore], object], what: str
) -> None:
    with pytest.raises(UnsupportedByStore, match=f"^ClientSideStore can't {what}: the sessions"):
        call(ClientSideStore())


def test_it_encrypts_unless_told_otherwise_in_so_many_words() -> None:
    wrong: Any = 1
    assert repr(ClientSideStore()) == repr(ClientSideStore(encrypt=True))
    assert repr(ClientSideStore()) != repr(ClientSideStore(encrypt=False))

    with pytest.raises(ConfigurationError, match="^ClientSideStore: encrypt is 1; write"):
        ClientSideStore(encrypt=wrong)


def test_of_a_session_that_is_too_large_the_three_biggest_fields_are_named() -> None:
    seal = ClientSeal((SECRET.encode(),), encrypt=False)
    fields = {"a": b"x" * 10, "b": b"x" * 3000, "c": b"x" * 2000, "d": b"x" * 1000}

    with pytest.raises(SessionTooLarge) as caught:
        seal.seal("I" * 43, Record(fields, NOTES, 1.0, 2.0), "cookie.session")

    said = str(caught.value)
    assert "'b' with 3000 bytes, 'c' with 2000 bytes, 'd' with 1000 bytes" in said
    assert "'a'" not in said


def test_what_was_opened_shows_no_values() -> None:
    record = Record({"name": b'"a secret value"'}, b"", 1.0, 2.0)
    seal = ClientSeal((SECRET.encode(),), encrypt=False)

    opened = seal.open(seal.seal("i" * 43, record, "cookie.session"), "cookie.session")

    assert opened is not None
    assert opened.record == record
    assert "a secret value" not in repr(opened)


def signed(record: Record, purpose: str = "cookie.s") -> str:
    return ClientSeal((SECRET.encode(),), encrypt=False).seal("i" * 43, record, purpose)


def test_the_id_is_sealed_in() -> None:
    seal = ClientSeal((SECRET.encode(),), encrypt=False)

    opened = seal.open(signed(Record({}, b"", 1.0, 2.0, owner="bob")), "cookie.s")

    assert opened is not None
    assert opened.session_id == "i" * 43


def test_name_and_value_have_4096_bytes_at_most() -> None:
    record = Record({"a": b"x" * 1000}, NOTES, 1.0, 2.0)
    rest = MAX_BYTES - len(signed(record))

    assert len(signed(record, "cookie.a." + "b" * (rest - 2))) + rest == MAX_BYTES
    with pytest.raises(SessionTooLarge, match="browsers keep 4096"):
        signed(record, "cookie.a." + "b" * (rest - 1))


def test_a_signed_value_that_is_no_base64_is_no_session() -> None:
    seal = ClientSeal((SECRET.encode(),), encrypt=False)
    value = seal._signer(SECRET.encode(), "cookie.s").sign(b"s1.AAAAA").decode()

    assert seal.open(value, "cookie.s") is None


def test_the_signature_is_itsdangerous_own() -> None:
    """So that values which another version of ours has signed stay good."""
    value = signed(Record({"a": b"1"}, b"n", 1.0, 2.0))

    assert value == (
        "s1.P_AAAAAAAABAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAArAAAAAWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlp"
        "aWlpaWlpaWlpaWlpaWluAAEAAAABYTE.y0JjQgCOUQUhlWn1anUuujvhxLJj-fyDPeqnGui7F-M"
    )


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\0", b"\0\0\x17", b"\xff" * 7])
def test_any_bytes_survive_base64(raw: bytes) -> None:
    assert client._unbase64(client._base64(raw)) == raw


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("value", ["s1.\xe9." + "A" * 43, "e1.\xe9\xe9\xe9\xe9", "\xe9", ""])
def test_what_has_no_such_form_is_no_session(value: str, encrypt: bool) -> None:
    assert ClientSeal((SECRET.encode(),), encrypt=encrypt).open(value, "cookie.s") is None


@pytest.mark.parametrize("change", [lambda s: s["a"].append(2), lambda s: s.label.update(n="x")])
def test_a_change_inside_a_value_after_the_headers_is_an_error_and_not_lost_in_silence(
    encrypt: bool, change: Callable[[Session], Any]
) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        session = environ["wsgi_sessions.session"]
        session.setdefault("a", [1])
        start_response("200 OK", [])
        yield b"first"
        change(session)

    body = SessionMiddleware(app, secret_key=SECRET, store=ClientSideStore(encrypt=encrypt))(
        environ(), lambda *_: lambda _: None
    )

    assert b"".join(body) == b"first"
    with pytest.raises(SessionCommitted, match="before the body's first chunk"):
        body.close()  # type: ignore[attr-defined] # a stream's has one


@pytest.mark.parametrize("encrypt", [True, False])
def test_a_missing_package_is_found_out_when_the_middleware_is_made(
    encrypt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)

    if encrypt:
        with pytest.raises(ConfigurationError, match=r"pip install 'wsgi-sessions\[crypto\]'"):
            Site(store=ClientSideStore())
    else:
        site = Site(store=ClientSideStore(encrypt=False))
        assert site.run(site.browser(), lambda s: s.update(a=1)).code == 200
