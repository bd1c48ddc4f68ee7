"""The watch over all tests does see a secret that is logged."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any

import pytest

from acts import put, token
from plugins.secrets_in_logs import Watch, leaves
from wsgi import SECRET, Site
from wsgi_sessions.stores import ClientSideStore

LOGGER = logging.getLogger("wsgi_sessions")
VALUE = "4111-1111-2222-3333"


def fails_with(text: str) -> None:
    try:
        raise LookupError(text)
    except LookupError:
        LOGGER.exception("careless")


CARELESS: dict[str, Callable[[Any], None]] = {
    "message": lambda value: LOGGER.debug(f"careless: {value}"),  # noqa: G004 # that is the point
    "argument": lambda value: LOGGER.debug("careless: %r", {"in": [value]}),
    "traceback": lambda value: fails_with(f"careless: {value}"),
    "cut short": lambda value: LOGGER.debug("careless: %.60s", value),
    "another logger": lambda value: logging.getLogger("elsewhere").error("careless: %s", value),
}


def seen(watch: Watch) -> set[str]:
    """What the watch has seen; after that it is content."""
    leaked = watch.leaked()
    watch.begin()
    return leaked


@pytest.mark.parametrize("what", ["token", "id", "signature", "secret key"])
def test_a_secret_in_a_log_is_seen(what: str, _watch: Watch) -> None:
    site = Site()
    browser = site.browser()
    site.run(browser, put(a=1))
    session_id, _, signature = token(browser).partition(".")
    secret = {"token": token(browser), "id": session_id, "signature": signature,
              "secret key": SECRET}[what]  # fmt: skip

    LOGGER.debug("careless: %s", secret)

    assert secret in seen(_watch)


@pytest.mark.parametrize("way", CARELESS)
def test_a_value_in_a_log_is_seen(way: str, _watch: Watch) -> None:
    site = Site()
    site.run(site.browser(), put(card=VALUE))

    CARELESS[way](VALUE)

    assert seen(_watch) == {VALUE}


@pytest.mark.parametrize(
    "value",
    [
        [VALUE],
        {"name": VALUE},
        (1, {VALUE}),
        {"a": [{"b": frozenset({VALUE})}]},
        VALUE.encode(),
        [b"\0" + VALUE.encode() + b"\xff"],
        VALUE + "x" * 100,
        f"line\n{VALUE}",
    ],
    ids=repr,
)
@pytest.mark.parametrize("store", [None, ClientSideStore()], ids=["server", "client"])
def test_a_value_of_any_kind_is_seen(
    value: Any, store: ClientSideStore | None, _watch: Watch
) -> None:
    site = Site(store=store)
    site.run(site.browser(), put(card=value))

    for found in leaves(value):
        LOGGER.debug("careless: %r", found)

    assert seen(_watch)


@pytest.mark.parametrize("shape", ["encoded", "base64"])
def test_a_value_is_seen_as_it_is_stored(shape: str, _watch: Watch) -> None:
    site = Site()
    raw = bytes(range(120, 160))
    site.run(site.browser(), put(card=VALUE if shape == "encoded" else raw))
    (key,) = site.store.keys()
    record = site.store.load(key)
    assert record is not None

    LOGGER.debug("careless: %r", record.fields["card"])

    assert seen(_watch) == {VALUE if shape == "encoded" else base64.b64encode(raw).decode()[:40]}


def test_a_value_that_was_refused_is_seen(_watch: Watch) -> None:
    site = Site()

    def work(session: Any) -> None:
        with pytest.raises(TypeError):
            session["card"] = [VALUE, object()]

    site.run(site.browser(), work)
    LOGGER.debug("careless: %s", VALUE)

    assert seen(_watch) == {VALUE}


def test_a_leak_is_found_in_much_text_and_among_many_values(_watch: Watch) -> None:
    site = Site()
    site.run(site.browser(), put(many=[f"value number {n:06}" for n in range(2_000)], card=VALUE))
    for n in range(200):
        LOGGER.debug("nothing to see here: %d; %s", n, "-" * 100)

    LOGGER.debug("careless: %s", VALUE)

    assert seen(_watch) == {VALUE}


def test_what_proves_nothing_is_no_leak(_watch: Watch) -> None:
    site = Site()
    site.run(site.browser(), put(short="bob", filler="x" * 50, number=12345678))

    LOGGER.debug("bob %s 12345678, session event created", "x" * 50)

    assert seen(_watch) == set()
