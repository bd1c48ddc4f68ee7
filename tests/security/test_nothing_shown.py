"""Reprs, tracebacks and error pages show no ID, token, key or value, even where locals are shown."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acts import put, read, token
from wsgi import SECRET, Browser, Response, Site
from wsgi_sessions import Cookie, Session, SessionError, StoreError
from wsgi_sessions.flask import MarkupCodec
from wsgi_sessions.record import Changes
from wsgi_sessions.session import state_of, transport_of
from wsgi_sessions.stores import ClientSideStore, FileStore, MemoryStore, Store
from wsgi_sessions.testing import FaultyStore

PIN = "4111-1111-2222-3333"
KEY = os.urandom(32)


def started(**options: Any) -> tuple[Site, Browser]:
    site = Site(**options)
    browser = site.browser()
    site.run(browser, put(pin=PIN, pins=[PIN]))
    return site, browser


def ours(value: object) -> bool:
    """Whether it is one of the library's objects."""
    return type(value).__module__.startswith("wsgi_sessions")


def held_by(whole: object) -> list[object]:
    """The library's objects that this one holds, whatever it calls them."""
    found = gc.get_referents(whole)
    for namespace in [each for each in found if type(each) is dict]:
        found += namespace.values()
    return [*filter(ours, found)]


def secrets_of(browser: Browser) -> list[str]:
    """What gives access: the token and its parts, and the keys."""
    return [token(browser), *token(browser).split("."), SECRET, repr(KEY)[2:-1], KEY.hex()]


def assert_hidden(text: str, secrets: list[str], *more: str) -> None:
    for secret in (*secrets, *more):
        if len(secret) > 2:  # the mark of a client-side token says nothing
            assert secret not in text


STORES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "memory": lambda path: {"rotate_after": 100},
    "file": lambda path: {"store": FileStore(path / "s")},
    "encrypted": lambda path: {"encryption_keys": [KEY]},
    "client": lambda path: {"store": ClientSideStore()},
    "client, signed": lambda path: {"store": ClientSideStore(encrypt=False)},
}


@pytest.mark.parametrize("kind", STORES)
def test_no_repr_of_a_request_shows_a_secret(kind: str, tmp_path: Path) -> None:
    site, browser = started(**STORES[kind](tmp_path))
    shown: list[str] = []

    def work(session: Session) -> None:
        assert session["pin"] == PIN
        session["new"] = PIN
        state = state_of(session)
        assert state is not None
        parts = [session, state, transport_of(session), *held_by(state)]
        for part in (*parts, *(inner for part in parts for inner in held_by(part))):
            shown.extend((repr(part), str(part)))

    secrets = secrets_of(browser)
    site.run(browser, work)

    assert len(shown) > 12
    for text in shown:
        assert_hidden(text, secrets, PIN)


@pytest.mark.parametrize("kind", STORES)
def test_no_repr_of_what_lasts_shows_a_secret(kind: str, tmp_path: Path) -> None:
    site, browser = started(token_header="X-Session-Token", **STORES[kind](tmp_path))
    secrets = secrets_of(browser)
    middleware = site.middleware
    settings = middleware._settings
    parts = [middleware, settings, middleware.describe(), Cookie(), MarkupCodec()]
    parts += [*held_by(middleware), *held_by(settings)]
    if settings.seal is not None:
        parts.append(settings.seal.open(token(browser), "cookie.session"))
    else:
        parts += records(site.store)
        parts += records(settings.store)

    for part in parts:
        for text in (repr(part), str(part), f"{part}"):
            assert_hidden(text, secrets, PIN)


def records(store: Store) -> Iterator[object]:
    for key in list(store.keys()):
        record = store.load(key)
        assert record is not None
        yield record
        yield Changes(record.fields, frozenset({"other"}), notes=record.notes)


def test_the_repr_of_a_record_says_what_is_needed_to_find_a_fault() -> None:
    site, _ = started()
    (key,) = site.store.keys()
    record = site.store.load(key)

    assert repr(record) == (
        "Record(fields ['pin', 'pins'], notes of 74 bytes, used_at=1800000000.0,"
        " expires_at=1800086400.0, version=1, epoch=0, owner=None)"
    )
    assert repr(Changes({"a": b"1"}, frozenset({"b"}), used_at=1.0)) == (
        "Changes(set fields ['a'], delete ['b'], no notes, used_at=1.0, expires_at=None)"
    )


class Failing(Site):
    """A site that keeps the errors that come out of a request or would be answered."""

    def __init__(self, **options: Any) -> None:
        self.errors: list[BaseException] = []
        super().__init__(on_store_error=self._note, **options)

    def _note(self, environ: Any, start_response: Any, error: StoreError) -> list[bytes]:
        self.errors.append(error)
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"sorry"]

    def fails(self, browser: Browser, work: Any) -> BaseException:
        """The error that a request of this work ends in."""
        try:
            self.run(browser, work, check=False)
        except Exception as error:
            self.errors.append(error)
        return self.errors[-1]


change = put(pin=PIN + "-changed")


FAILURES: dict[str, tuple[str, Any]] = {
    "load": ("load", read),
    "update": ("update", change),
    "regenerate": ("update", lambda s: (change(s), s.regenerate())),
    "login": ("insert", lambda s: (change(s), s.login("bob"))),
    "delete": ("delete", lambda s: (s["pin"], s.destroy())),
    "reload": ("load", lambda s: s.reload()),
    "transaction": ("update", lambda s: s.transaction(lambda f: f.update(pin=PIN + "-new"))),
    "too large": ("", lambda s: s.update(pin=PIN * 20)),
    "unstorable": ("", lambda s: s.update(pin=[PIN, object()])),
    "not valid text": ("", lambda s: s.update(pin=[PIN, "\ud800" + PIN])),
    "not valid text at all": ("", lambda s: s.update(pin="\ud800" + PIN)),
    "too deep": ("", lambda s: s["pins"].append(s["pins"])),
    "no number": ("", lambda s: s.increment("pin")),
    "a nested change": ("", lambda s: s["pins"].append(object())),
    "not there": ("", lambda s: s["pin"] and s["missing"]),
    "pickled": ("", lambda s: s["pin"] and s.__reduce_ex__(2)),
    "no owner": ("", lambda s: s.login(b"x" * 300)),
}


@pytest.mark.parametrize("encryption", [(), (KEY,)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("failure", FAILURES)
def test_no_traceback_shows_a_secret(failure: str, encryption: tuple[bytes, ...]) -> None:
    operation, work = FAILURES[failure]
    store = FaultyStore(MemoryStore())
    site = Failing(store=store, max_bytes=300, encryption_keys=encryption)
    browser = site.browser()
    site.run(browser, put(pin=PIN, pins=[PIN]))
    secrets = secrets_of(browser)
    store.fail(*operation.split())

    error = site.fails(browser, work)

    assert isinstance(error, (SessionError, TypeError, KeyError))
    assert_hidden("".join(traceback.format_exception(error)), secrets, PIN)
    # Tools that show locals show the environ with its Cookie header, and what the app gave us.
    # Beyond that, ours hold nothing that gives access, and objects of ours show no value.
    for name, value in our_locals(error):
        if name != "environ":
            assert_hidden(repr(value), secrets)
        if ours(value):
            assert_hidden(repr(value), secrets, PIN)


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [*itertools.product(["too large", "a bad value"], STORES), ("a full disk", "file")],
)
@pytest.mark.parametrize("save", [False, True], ids=["at the end", "by save()"])
def test_no_local_of_ours_shows_a_field_that_the_request_never_touched(
    failure: str, save: bool, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Failing(**STORES[kind](tmp_path), max_bytes=900)
    browser = site.browser()
    site.run(browser, put(pin=PIN, other=[]))

    def work(session: Session) -> None:
        if failure == "too large":
            session["big"] = "x" * 1000
        else:
            session["other"].append(object() if failure == "a bad value" else "more")
        if failure == "a full disk":
            monkeypatch.setattr(os, "write", full_disk)
        if save:
            session.save()

    error = site.fails(browser, work)
    monkeypatch.undo()

    assert isinstance(error, (SessionError, TypeError))
    for name, value in our_locals(error):
        if name != "environ":
            assert PIN not in repr(value), name


def our_locals(error: BaseException | None) -> Iterator[tuple[str, object]]:
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals["__name__"].startswith("wsgi_sessions"):
                yield from frame.f_locals.items()
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("failure", ["load", "update", "regenerate", "login", "delete"])
def test_no_error_page_shows_anything_of_the_session(failure: str) -> None:
    operation, work = FAILURES[failure]
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    secrets = secrets_of(browser)
    (handle,) = store.keys()
    store.fail(operation)

    response: Response = site.run(browser, work, check=False)

    assert response.code == 503
    for text in (response.text, response.status, repr(response.headers)):
        assert_hidden(text, secrets, PIN, handle, "set to fail", "pin")
