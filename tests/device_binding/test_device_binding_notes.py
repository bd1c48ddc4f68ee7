"""What the notes keep of a device, and what follows where a proof is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device import Device
from wsgi_sessions.data.standing import Standing
from wsgi_sessions.device_binding import (
    Binding,
    DeviceNotes,
    dump_device_notes,
    judge,
    load_device_notes,
    offer_is_due,
)
from wsgi_sessions.device_binding.binding import (
    counts,
    dump_binding,
    is_confirmed,
    is_cross_site,
    load_binding,
    may_bind,
)
from wsgi_sessions.device_binding.keys import DeviceKey, key_from_jwk

NOW = 1_800_000_000
GRACE = 60
DAY = 24 * 60 * 60


def key(algorithm: str = "ES256", bits: int = 2048) -> DeviceKey:
    made = key_from_jwk(algorithm, Device(algorithm, bits).jwk)
    assert made is not None
    return made


KEY = key()


def bound(age: float = 1000, *, pending: bool = False) -> Binding:
    return Binding(KEY, int(NOW - age), pending)


@pytest.mark.parametrize(
    ("algorithm", "bits", "length"),
    [("ES256", 0, 105), ("RS256", 2048, 361), ("RS256", 4096, 702)],
)
@pytest.mark.parametrize("pending", [True, False])
def test_a_binding_is_kept_as_short_text(
    algorithm: str, bits: int, length: int, pending: bool
) -> None:
    binding = Binding(key(algorithm, bits), NOW, pending)
    text = dump_binding(binding)

    assert load_binding(text) == binding
    assert len(text) == length


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        7,
        "",
        "ES256:1:p:",
        "none:1:p:" + "A" * 86,
        "ES256:-1:p:" + "A" * 86,
        "ES256:1:x:" + "A" * 86,
        "ES256:1:p:" + "A" * 85,
        "ES256:1:p:" + "A" * 86 + "\n",
        "ES256:123456789012:p:" + "A" * 86,
    ],
)
def test_what_is_damaged_is_no_binding(damaged: object) -> None:
    assert load_binding(damaged) is None


@given(st.text())
def test_any_text_is_safe_to_load(text: str) -> None:
    assert load_binding(text) is None


@pytest.mark.parametrize("binding", [None, bound()])
@pytest.mark.parametrize("offered_at", [None, NOW, NOW + 0.5])
def test_notes_about_the_device_come_back_from_json(
    binding: Binding | None, offered_at: float | None
) -> None:
    notes = DeviceNotes(binding, offered_at)

    assert load_device_notes(json.loads(json.dumps(dump_device_notes(notes)))) == notes


@pytest.mark.parametrize("offered_at", [None, NOW])
@pytest.mark.parametrize(
    ("binding", "confirmed"), [(None, False), (bound(1, pending=True), False), (bound(1), True)]
)
def test_it_tells_whether_a_binding_was_confirmed(
    binding: Binding | None, confirmed: bool, offered_at: float | None
) -> None:
    assert is_confirmed(dump_device_notes(DeviceNotes(binding, offered_at))) == confirmed


@pytest.mark.parametrize("device", ["", "ES256:1:c:", "none:1:c:" + "A" * 86, None, {}, 7])
def test_a_damaged_binding_was_not_confirmed(device: object) -> None:
    assert not is_confirmed({"device": device})


def test_where_there_is_nothing_to_note_nothing_is_kept() -> None:
    assert dump_device_notes(DeviceNotes()) == {}


@pytest.mark.parametrize(
    "kept",
    [{"device": None}, {"device": ""}, {"device": {}}, {"offered_at": "1"}, {"offered_at": True}],
    ids=str,
)
def test_damaged_notes_do_not_pass_for_an_unbound_session(kept: dict[str, Any]) -> None:
    assert load_device_notes(kept) is None


YES, NO = True, False
STANDINGS = [
    # binding                      proven  bound proven missing confirm
    (None,                         NO,     (NO,  NO,    NO,     NO)),
    (None,                         YES,    (NO,  NO,    NO,     NO)),
    (bound(1000),                  YES,    (YES, YES,   NO,     NO)),
    (bound(1000),                  NO,     (YES, NO,    YES,    NO)),
    (bound(GRACE),                 NO,     (YES, NO,    YES,    NO)),
    (bound(GRACE - 1),             NO,     (YES, NO,    NO,     NO)),
    (bound(1 - GRACE),             NO,     (YES, NO,    NO,     NO)),
    (bound(-GRACE),                NO,     (YES, NO,    YES,    NO)),
    (bound(0, pending=True),       NO,     (NO,  NO,    NO,     NO)),
    (bound(1000, pending=True),    NO,     (NO,  NO,    NO,     NO)),
    (bound(1000, pending=True),    YES,    (YES, YES,   NO,     YES)),
]  # fmt: skip


@pytest.mark.parametrize(("binding", "proven", "expected"), STANDINGS)
def test_how_a_request_stands(
    binding: Binding | None, proven: bool, expected: tuple[bool, bool, bool, bool]
) -> None:
    assert judge(binding, proven=proven, now=NOW, grace=GRACE) == Standing(*expected)


def test_a_proof_is_never_missing_where_it_was_given() -> None:
    for binding, _, _ in STANDINGS:
        assert not judge(binding, proven=True, now=NOW, grace=GRACE).missing


def test_a_confirmed_binding_keeps_key_and_time() -> None:
    assert bound(5, pending=True).confirmed() == bound(5)


@pytest.mark.parametrize(
    ("binding", "may"),
    [
        (None, True),
        (bound(), False),
        (bound(GRACE - 1, pending=True), False),
        (bound(GRACE, pending=True), True),
    ],
)
def test_only_a_binding_that_never_came_to_life_can_be_replaced(
    binding: Binding | None, may: bool
) -> None:
    assert may_bind(binding, NOW, GRACE) == may


@pytest.mark.parametrize(
    ("facts", "due"),
    [
        ({"logged_in": True}, True),
        ({"logged_in": True, "offered_at": NOW}, True),
        ({"logged_in": True, "binding": bound()}, False),
        ({"logged_in": True, "binding": bound(1, pending=True)}, False),
        ({"logged_in": True, "binding": bound(100, pending=True)}, True),
        ({}, True),
        ({"binding": bound()}, False),
        ({"offered_at": NOW}, False),
        ({"offered_at": NOW - DAY + 1}, False),
        ({"offered_at": NOW - DAY}, True),
        ({"offered_at": NOW + 1}, True),
        ({"binding": bound(100, pending=True), "offered_at": NOW - 100}, False),
        ({"binding": bound(100, pending=True), "offered_at": NOW - DAY}, True),
    ],
)
def test_when_an_offer_is_due(facts: dict[str, Any], due: bool) -> None:
    plain: dict[str, Any] = {
        "binding": None,
        "logged_in": False,
        "offered_at": None,
    }

    assert offer_is_due(**{**plain, **facts}, now=NOW, grace=GRACE) == due


@pytest.mark.parametrize(
    ("header", "cross"),
    [
        (None, False),
        ("same-origin", False),
        ("same-site", False),
        ("none", False),
        ("", False),
        ("cross-site", True),
        (" Cross-Site\t", True),
    ],
)
def test_only_what_says_so_comes_from_another_site(header: str | None, cross: bool) -> None:
    assert is_cross_site(header) == cross
    assert counts(header) == (not cross)
