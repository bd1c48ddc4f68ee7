"""The core's notes: what they keep comes back, and anything else is no session."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from effort import VERY_DEEP
from records import a_record
from wsgi_sessions._options import MAX_SECONDS
from wsgi_sessions.data.notes import (
    EARLIEST,
    LATEST,
    CorruptNotes,
    Former,
    Notes,
    dump_notes,
    load_notes,
    notes_of,
)

HEAD = struct.Struct(">BBddddd32s")
FULL = Notes(
    1.5, 2.5, 3.5, b"h" * 32, 4.5, 5.5, secure=True, persistent=True, idle=60, absolute=600.5,
    former=Former(b"f" * 32, b"n" * 16, 6.5), label={"ip": "192.0.2.1"}, binding={"key": "k"},
    cookie_behind=True,
)  # fmt: skip
FORMER = struct.Struct(">32s16sd")


def head(
    fmt: int = 2,
    flags: int = 0,
    at: float = 1.0,
    authenticated: float = math.nan,
    listed: float = math.inf,
) -> bytes:
    return HEAD.pack(fmt, flags, at, at, at, authenticated, listed, b"h" * 32)


@pytest.mark.parametrize("notes", [Notes(1.0, 1.0, 1.0), FULL], ids=["few", "all"])
def test_notes_come_back_as_they_were(notes: Notes) -> None:
    assert load_notes(dump_notes(notes)) == notes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        head()[:-1],
        head(fmt=1),
        head(flags=16),
        head(at=math.inf),
        head(at=math.nan),
        head(at=1e300),
        head(at=-1e12),
        head(authenticated=-math.inf),
        head(authenticated=1e300),
        head(listed=math.nan),
        head(flags=4),
        head(flags=4) + FORMER.pack(b"f" * 32, b"n" * 16, math.inf),
        head() + b"{",
        head() + b"[" * VERY_DEEP,
        head() + b"\xff",
        head() + b"[]",
        head() + b"null",
    ],
)
def test_what_are_no_notes_is_refused(raw: bytes) -> None:
    with pytest.raises(CorruptNotes):
        load_notes(raw)


@pytest.mark.parametrize(
    "extra",
    [
        {"binding": []},
        {"label": []},
        {"label": {"ip": 1}},
        {"label": {str(n): "" for n in range(17)}},
        {"label": {"ip": "x" * 257}},
        {"idle": 0},
        {"idle": -1},
        {"idle": "60"},
        {"idle": 10**400},
        {"idle": math.nan},
        {"idle": True},
        {"idle": 1e300},
        {"absolute": None},
    ],
    ids=str,
)
def test_an_impossible_entry_makes_all_of_it_no_notes(extra: object) -> None:
    with pytest.raises(CorruptNotes):
        load_notes(head() + json.dumps(extra).encode())


@pytest.mark.parametrize("owner", [None, "", "bob", "Bärbel", "x" * 255])
def test_the_notes_of_a_record_are_those_in_it(owner: str | None) -> None:
    assert notes_of(a_record(notes=dump_notes(FULL), owner=owner)) == FULL


@pytest.mark.parametrize(
    "changed",
    [
        {"used_at": 1e300},
        {"used_at": -1e12},
        {"used_at": math.nan},
        {"expires_at": 1e300},
        {"expires_at": math.inf},
        {"expires_at": math.nan},
        {"owner": "\ud800"},
        {"notes": b""},
    ],
    ids=str,
)
def test_a_record_whose_times_or_owner_cannot_be_shown_has_none(changed: dict[str, Any]) -> None:
    with pytest.raises(CorruptNotes):
        notes_of(a_record(**{"notes": dump_notes(FULL), **changed}))


@pytest.mark.parametrize("at", [EARLIEST, LATEST])
def test_a_time_that_is_allowed_can_be_shown_in_any_zone(at: float) -> None:
    for hours in (-14, 0, 14):
        zone = timezone(timedelta(hours=hours))
        assert datetime.fromtimestamp(at, UTC).astimezone(zone).timestamp() == at
    assert datetime.fromtimestamp(LATEST + MAX_SECONDS, UTC).year < 10_000
