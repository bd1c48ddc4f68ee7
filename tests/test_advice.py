"""What the log says once: what is wrong, and what to set."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from acts import put, read, sending, started, token
from wsgi import Site, call, environ
from wsgi_sessions import Cookie, Lifetime, advice
from wsgi_sessions.crypto.session_id import new_id
from wsgi_sessions.errors import StoreError
from wsgi_sessions.stores import ClientSideStore, FileStore, MemoryStore
from wsgi_sessions.testing import FaultyStore

ID, SIGNATURE = "a" * 43, "b" * 43


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log said beside its lines on events."""
    texts = [record.getMessage() for record in caplog.records if record.name == "wsgi_sessions"]
    return [text for text in texts if not text.startswith("session event")]


def lines(caplog: pytest.LogCaptureFixture, kind: str) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.name == "wsgi_sessions"]
    return [text for text in texts if text.startswith(f"session event {kind}")]


# Several processes


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (None, "No store was given"),
        ("memory://", "The store keeps sessions in memory (MemoryStore, memory://)"),
        (MemoryStore, "The store keeps sessions in memory"),
    ],
    ids=["none", "url", "store"],
)
def test_sessions_in_memory_under_several_processes_are_warned_of_once(
    caplog: pytest.LogCaptureFixture, store: Any, says: str
) -> None:
    for _ in range(2):
        given = store() if isinstance(store, type) else store
        site = Site(store=given)
        site.routes["/"] = read
        for _ in range(2):
            call(site.middleware, environ() | {"wsgi.multiprocess": True}, check=False)

    (warning,) = warnings(caplog)
    assert warning.startswith(says)
    assert "store='redis://localhost'" in warning


def test_a_single_process_or_a_store_that_is_shared_needs_no_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    for store, several in (("memory://", False), (FileStore(tmp_path / "sessions"), True)):
        site = Site(store=store)
        site.routes["/"] = read
        call(site.middleware, environ() | {"wsgi.multiprocess": several}, check=False)

    assert warnings(caplog) == []


# Signatures


@pytest.mark.parametrize("carrier", ["cookie", "header"])
def test_a_token_of_another_kind_of_store_isnt_said_to_be_of_another_secret(
    caplog: pytest.LogCaptureFixture, carrier: str
) -> None:
    options: dict[str, Any] = {} if carrier == "cookie" else {"token_header": "X-Session-Token"}
    before, after = Site(store=ClientSideStore(), **options), Site(**options)
    extra = {"HTTP_X_SESSION_TOKEN": ""} if options else {}
    answer = before.run(before.browser(), put(a=1), **extra)
    if options:
        sent = {"HTTP_X_SESSION_TOKEN": answer.get("X-Session-Token")}
    else:
        sent = {"HTTP_COOKIE": (answer.set_cookie or "").partition(";")[0]}
    after.run(after.browser(), read, **sent)

    (line,) = lines(caplog, "bad_signature")
    assert "made for another kind of store" in line
    (warning,) = warnings(caplog)
    assert "encrypt was changed" in warning and "secret key" not in warning


@pytest.mark.parametrize(
    ("sent", "mark", "look"),
    [
        ([f"{ID}.{SIGNATURE}"], "", "another secret"),
        (["e1.abc"], "e1.", "another secret"),
        (["s1.abc." + SIGNATURE], "s1.", "another secret"),
        ([f"{ID}.{SIGNATURE}"], "e1.", "another store"),
        (["e1.abc"], "", "another store"),
        (["e1.abc"], "s1.", "another store"),
        (["s1.abc." + SIGNATURE], "e1.", "another store"),
        (["e1.abc", f"{ID}.{SIGNATURE}"], "", "another secret"),
        ([f"{ID}.{SIGNATURE[:-1]}"], "", "cut short"),
        ([f"{ID}."], "", "cut short"),
        ([ID], "", "not ours"),
        (["eyJhIjoxfQ.ZwABCD.sig"], "", "not ours"),
        (["s%3Aabc.def"], "", "not ours"),
        (["", "x" * 5000], "", "not ours"),
        (["other", f"{ID}.", f"{ID}.{SIGNATURE}"], "", "another secret"),
        (["other", f"{ID}."], "", "cut short"),
    ],
)
def test_a_token_that_cannot_be_verified_looks_like_its_cause(
    sent: list[str], mark: str, look: str
) -> None:
    assert advice.look_of(sent, mark) == look


@pytest.mark.parametrize(
    ("change", "detail", "cause", "cure"),
    [
        (lambda t: t.swapcase(), "signed with another secret", "another secret", "[new, old]"),
        (lambda t: t[:-3], "cut short", "cut short on its way", "a proxy"),
        (lambda t: "eyJhIjoxfQ.ZwABCD.sig", "not a token of ours", "same name", "Cookie(name=…)"),
    ],
)
def test_a_bad_signature_says_what_it_looks_like_and_once_what_to_do(
    caplog: pytest.LogCaptureFixture, change: Any, detail: str, cause: str, cure: str
) -> None:
    site, browser = started()
    for _ in range(3):
        site.run(sending(site, "session=" + change(token(browser))), read)

    assert {event.detail for event in site.events if event.kind == "bad_signature"} == {
        f"session: {detail}"
    }
    assert f"session event bad_signature; session: {detail}" in lines(caplog, "bad_signature")[0]
    (warning,) = warnings(caplog)
    assert cause in warning and cure in warning and "'session'" in warning
    assert token(browser)[:20] not in caplog.text


def test_a_token_of_a_client_side_session_under_another_secret_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old, browser = started(store=ClientSideStore(encrypt=False))
    new = Site(
        store=ClientSideStore(encrypt=False), secret_key="another secret of thirty-two bytes, too"
    )

    new.run(sending(new, "session=" + token(browser)), read)

    assert "signed with another secret" in lines(caplog, "bad_signature")[0]
    assert old.kinds.count("bad_signature") == 0


# Cookies that aren't read


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ("a=" + "b" * 20_000 + "; ", "characters; only the first 16384 are read"),
        ("session=x; " * 8, "9 cookies are called 'session'; only the first 8 are looked at"),
    ],
)
def test_a_cookie_beyond_what_is_read_is_told_of_once_with_what_to_do(
    caplog: pytest.LogCaptureFixture, before: str, why: str
) -> None:
    site, browser = started()

    for _ in range(3):
        site.run(sending(site, f"{before}session={token(browser)}"), read)

    (warning,) = [text for text in warnings(caplog) if text.startswith("No session was found")]
    assert why in warning and "'session'" in warning
    assert "fewer and smaller cookies" in warning and "Cookie(name=…)" in warning
    assert len(lines(caplog, "cookie_not_found")) == 3


# Lifetimes


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Lifetime(idle=timedelta(days=60), absolute=timedelta(days=20)), ["idle=5.184e+06"]),
        (Lifetime(absolute=timedelta(days=60)), ["absolute=5.184e+06"]),
        (
            Lifetime(idle=timedelta(days=60), absolute=None),
            ["Lifetime(idle=5.184e+06)", "Lifetime(absolute=None)"],
        ),
        (Lifetime(idle=60), []),
        (Lifetime(idle=3600, absolute=60), []),
        (Lifetime(), []),
    ],
)
def test_a_lifetime_that_is_capped_is_told_of_once(
    caplog: pytest.LogCaptureFixture, asked: Lifetime, said: list[str]
) -> None:
    site, browser = started(lifetime=Lifetime(idle=3600, absolute=86400 * 20))

    def ask(session: Any) -> None:
        session.lifetime = asked

    for _ in range(2):
        site.run(browser, ask)

    found = [text for text in warnings(caplog) if text.startswith("session.lifetime asked for")]
    assert [any(words in text for text in found) for words in said] == [True] * len(said)
    assert len(found) == len(said)


# Outages

ALL = ("load", "insert", "update", "delete")


@pytest.mark.parametrize(
    "act",
    [
        read,
        put(b=2),
        lambda s: s.increment("n"),
        lambda s: s.login("u"),
        lambda s: s.destroy(),
        lambda s: (s.login("u"), s.login("v")),
    ],
    ids=["read", "write", "increment", "login", "destroy", "two logins"],
)
@pytest.mark.parametrize("failing", [ALL, ("update",), ("insert", "update", "delete")], ids=str)
def test_an_outage_is_one_line_per_request_without_a_traceback(
    caplog: pytest.LogCaptureFixture, act: Any, failing: tuple[str, ...]
) -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store, max_per_owner=1, when_full="refuse", rotate_after=600)
    site.clock.advance(900)
    store.fail(*failing)
    caplog.set_level(logging.DEBUG, logger="wsgi_sessions")
    caplog.clear()

    site.run(browser, act)

    assert len(lines(caplog, "store_error")) <= 1
    assert all(record.exc_info is None for record in caplog.records)
    if failing == ALL:
        assert len(lines(caplog, "store_error")) == 1


def test_an_outage_met_by_the_app_alone_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()

    def app(environ: Any, start_response: Any) -> Any:
        raise StoreError("down", operation="keys")

    site.middleware.app = app
    response = call(site.middleware, environ())

    assert response.code == 503
    assert lines(caplog, "store_error") == ["session event store_error; keys: down"]
    assert site.kinds == ["store_error"]


def test_lines_on_an_outage_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    store.fail(*ALL)
    caplog.clear()

    for _ in range(50):
        site.run(browser, read)

    assert len(caplog.records) == 10
    assert site.kinds.count("store_error") == 50


def test_a_cookie_of_another_name_is_nobodys_business(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(cookie=Cookie("mine"))
    site.run(sending(site, f"session={new_id()}"), read)

    assert caplog.records == []


# Cookies that a browser doesn't keep, or of which there are several


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("example.com", True),
        ("EXAMPLE.com:8000", True),
        ("shop.example.com", True),
        ("localhost:8000", False),
        ("notexample.com", False),
        ("com", False),
        ("[::1]:8000", False),
    ],
)
def test_a_cookie_for_another_domain_is_explained_once(
    caplog: pytest.LogCaptureFixture, host: str, kept: bool
) -> None:
    site = Site(cookie=Cookie(domain=".example.com"))
    for _ in range(2):
        site.run(site.browser(HTTP_HOST=host), put(a=1))

    found = [text for text in warnings(caplog) if "The session cookie is for domain=" in text]
    assert len(found) == (0 if kept else 1)
    assert all(repr(host) in text for text in found)


def test_several_live_sessions_at_once_are_explained(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    tokens = []
    for _ in range(2):
        browser = site.browser()
        site.run(browser, put(a=1))
        tokens.append(token(browser))
    both = sending(site, "; ".join(f"session={each}" for each in tokens))
    for _ in range(2):
        assert site.run(both, read).text == "{}"

    assert len(lines(caplog, "cookie_conflict")) == 2
    (text,) = warnings(caplog)
    assert text.startswith("A client sent 'session' several times, for different live sessions")
