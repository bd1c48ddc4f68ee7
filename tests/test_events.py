"""What listeners and the log hear: everything that matters, nothing secret, never too much."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from wsgi_sessions.errors import ConfigurationError
from wsgi_sessions.events import (
    KINDS,
    LINES_PER_MINUTE,
    EventSink,
    SessionEvent,
    as_listeners,
    printable,
)
from wsgi_sessions.testing import FakeClock

HANDLE = "ab" * 32
NOW = 1_800_000_000.0

# Design: the kinds of events, and how loud each is in the log.
LEVELS = {
    "created": "DEBUG",
    "regenerated": "DEBUG",
    "rotated": "DEBUG",
    "destroyed": "DEBUG",
    "expired": "DEBUG",
    "carried_over": "INFO",
    "revoked": "INFO",
    "device_bound": "INFO",
    "unproven": "INFO",
    "old_secret": "INFO",
    "unknown_id": "INFO",
    "write_after_end": "INFO",
    "bad_signature": "WARNING",
    "cookie_conflict": "WARNING",
    "cookie_not_found": "WARNING",
    "retired_id_used": "WARNING",
    "corrupt_record": "WARNING",
    "insecure": "WARNING",
    "left_behind": "WARNING",
    "too_large": "WARNING",
    "store_error": "ERROR",
}


def sink(*listeners: Callable[[SessionEvent], object], clock: Any = None) -> EventSink:
    return EventSink(listeners, clock or FakeClock(NOW))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "wsgi_sessions"]


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="wsgi_sessions")


class TestListeners:
    def test_they_get_the_event(self) -> None:
        heard: list[SessionEvent] = []
        sink(heard.append).emit(
            "expired", handle=HANDLE, owner="42", client_ip="192.0.2.1", detail="idle"
        )

        at = datetime.fromtimestamp(NOW, UTC)
        assert heard == [SessionEvent("expired", HANDLE, "42", "192.0.2.1", at, "idle")]
        assert heard[0].time.tzinfo is UTC

    def test_an_event_cant_be_changed(self) -> None:
        heard: list[SessionEvent] = []
        sink(heard.append).emit("created")

        with pytest.raises(dataclasses.FrozenInstanceError):
            heard[0].kind = "destroyed"  # type: ignore[misc] # the point of the test

    def test_one_that_raises_is_logged_and_changes_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def failing(event: SessionEvent) -> None:
            raise RuntimeError("listener down")

        heard: list[SessionEvent] = []
        sink(failing, heard.append).emit("created")

        assert [event.kind for event in heard] == ["created"]
        assert "a listener failed on the event created" in lines(caplog)

    def test_they_hear_what_the_log_leaves_out(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL, logger="wsgi_sessions")
        heard: list[SessionEvent] = []
        events = sink(heard.append)
        for _ in range(LINES_PER_MINUTE * 3):
            events.emit("bad_signature")

        assert len(heard) == LINES_PER_MINUTE * 3
        assert lines(caplog) == []

    def test_text_from_the_client_is_escaped(self) -> None:
        heard: list[SessionEvent] = []
        sink(heard.append).emit("unknown_id", client_ip="1\n2", detail="a\r\nb\x1b[31m" + "x" * 999)

        assert heard[0].detail.startswith(r"a\r\nb\x1b[31mx")
        assert len(heard[0].detail) <= 200
        assert heard[0].client_ip == r"1\n2"

    def test_nobody_listening_is_told_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL, logger="wsgi_sessions")

        def no_clock() -> float:
            raise AssertionError("asked for the time")

        events = sink(clock=no_clock)
        events.emit("created")


class TestLog:
    def test_the_kinds_are_those_of_the_design(self) -> None:
        assert LEVELS.keys() == KINDS

    @pytest.mark.parametrize("kind", sorted(LEVELS))
    def test_each_event_gives_one_line(self, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        sink().emit(kind, handle=HANDLE, client_ip="192.0.2.1", detail="why")

        assert lines(caplog) == [f"session event {kind}; why; handle {HANDLE}; client 192.0.2.1"]
        assert caplog.records[0].levelname == LEVELS[kind]

    def test_owners_stay_out_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        sink().emit("created", owner="someone@example.com")

        assert "someone" not in caplog.text

    def test_text_from_the_client_stays_on_its_line(self, caplog: pytest.LogCaptureFixture) -> None:
        sink().emit("unknown_id", client_ip="1\r\n2", detail="%s %d\nsession event created\u202e")

        assert lines(caplog) == [
            r"session event unknown_id; %s %d\nsession event created\u202e; client 1\r\n2"
        ]

    def test_lines_of_one_kind_are_limited(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = FakeClock(NOW)
        events = sink(clock=clock)
        for _ in range(LINES_PER_MINUTE + 5):
            events.emit("bad_signature")
        events.emit("insecure")

        assert len(lines(caplog)) == LINES_PER_MINUTE + 1
        caplog.clear()
        clock.advance(60)
        events.emit("bad_signature")
        assert lines(caplog) == [
            "session event bad_signature: 5 more lines were left out",
            "session event bad_signature",
        ]

    def test_a_clock_that_goes_back_doesnt_silence_it(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = FakeClock(NOW)
        events = sink(clock=clock)
        for _ in range(LINES_PER_MINUTE + 1):
            events.emit("insecure")
        caplog.clear()
        clock.advance(-86400)
        events.emit("insecure")

        assert lines(caplog)[-1] == "session event insecure"

    def test_the_limit_holds_for_threads_together(self, caplog: pytest.LogCaptureFixture) -> None:
        events = sink()

        def shout() -> None:
            for _ in range(50):
                events.emit("too_large")

        threads = [threading.Thread(target=shout) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(lines(caplog)) == LINES_PER_MINUTE

    def test_an_explanation_is_given_once_for_each_key(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        events = sink()
        events.explain("a", "100% longer text")
        events.explain("a", "100% longer text")
        events.explain("b", "another")

        assert lines(caplog) == ["100% longer text", "another"]
        assert {record.levelname for record in caplog.records} == {"WARNING"}


class TestPrintable:
    """ASVS 5.0, 16.4.1: what is logged is encoded so that it can't forge or steer a log."""

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain Grüße 日本 \U0001f600", "plain Grüße 日本 \U0001f600"),
            ("", ""),
            ("a\r\nb", r"a\r\nb"),
            ("\x00\x1b[2J\x7f\x85\x9b", r"\x00\x1b[2J\x7f\x85\x9b"),
            ("\u200e\u200f\u061c\u202a\u202e\u2066\u2069", None),
            ("\u2028\u2029", r"\u2028\u2029"),
            ("\u200b\ufeff\xad", r"\u200b\ufeff\xad"),
            ("\ud800", r"\ud800"),
            ("\U000e0041", r"\U000e0041"),
        ],
    )
    def test_nothing_in_it_steers(self, text: str, shown: str | None) -> None:
        result = printable(text)

        assert result.isprintable()
        assert result == (text.encode("unicode_escape").decode() if shown is None else shown)

    def test_it_is_never_longer_than_the_limit(self) -> None:
        assert printable("x" * 10, 10) == "x" * 10
        assert printable("x" * 11, 10) == "x" * 9 + "…"
        assert len(printable("\x00" * 10, 10)) == 10
        assert len(printable("\x00" * 10**6)) == 200


class TestConfiguration:
    def test_none_one_or_many(self) -> None:
        assert as_listeners(None) == ()
        assert as_listeners(print) == (print,)
        assert as_listeners([print, repr]) == (print, repr)
        assert as_listeners([]) == ()

    def test_a_list_changed_later_has_no_effect(self) -> None:
        given = [print]
        listeners = as_listeners(given)
        given.clear()

        assert listeners == (print,)

    @pytest.mark.parametrize("value", [1, "print", [print, None], {"a": print}, True])
    def test_anything_else_is_refused(self, value: object) -> None:
        with pytest.raises(ConfigurationError, match="on_event"):
            as_listeners(value)
