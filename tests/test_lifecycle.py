"""The policy is a table; this is it, row by row, and what must hold for rows that nobody wrote."""

from __future__ import annotations

import itertools
import math

import pytest

from wsgi_sessions.lifecycle import (
    CookieStep,
    Death,
    Origin,
    Plan,
    StoreStep,
    deadline_of,
    death_at,
    decide,
    next_deadline,
)
from wsgi_sessions.data.notes import Notes
from wsgi_sessions.record import Record

NEW, STORED, SAVED = Origin.NEW, Origin.STORED, Origin.SAVED
NOTHING, TOUCH, UPDATE, INSERT = (
    StoreStep.NOTHING,
    StoreStep.TOUCH,
    StoreStep.UPDATE,
    StoreStep.INSERT,
)
DELETE_EMPTIED, END, REPLACE, ROTATE = (
    StoreStep.DELETE_EMPTIED,
    StoreStep.END,
    StoreStep.REPLACE,
    StoreStep.ROTATE,
)
LEAVE, SET, EXPIRE = CookieStep.LEAVE, CookieStep.SET, CookieStep.EXPIRE

# what happened                        origin  facts                                   store  cookie
TABLE = [
    ("read",                           STORED, "",                                     NOTHING, LEAVE),
    ("read, rolling",                  STORED, "rolling",                              NOTHING, SET),
    ("read, persistent",               STORED, "persistent",                           NOTHING, LEAVE),
    ("read, deadline old",             STORED, "touch_due",                            TOUCH,   LEAVE),
    ("read, deadline old, persistent", STORED, "touch_due persistent",                 TOUCH,   SET),
    ("read, older secret",             STORED, "cookie_stale",                         NOTHING, SET),
    ("changed",                        STORED, "changed",                              UPDATE,  LEAVE),
    ("changed, persistent",            STORED, "changed persistent",                   UPDATE,  SET),
    ("changed, rolling",               STORED, "changed rolling",                      UPDATE,  SET),
    ("changed and touched",            STORED, "changed touch_due",                    UPDATE,  LEAVE),
    ("new, something put in",          NEW,    "changed",                              INSERT,  SET),
    ("new, nothing put in",            NEW,    "empty",                                NOTHING, LEAVE),
    ("new, only noted",                NEW,    "empty changed",                        NOTHING, LEAVE),
    ("new, nothing put in, uninit.",   NEW,    "empty save_uninitialized",             INSERT,  SET),
    ("unknown cookie, read",           NEW,    "empty cookie_sent",                    NOTHING, LEAVE),
    ("unknown cookie, written",        NEW,    "changed cookie_sent",                  INSERT,  SET),
    ("emptied",                        STORED, "changed empty",                        DELETE_EMPTIED, EXPIRE),
    ("empty all along",                STORED, "empty",                                NOTHING, LEAVE),
    ("empty all along, touched",       STORED, "empty touch_due",                      TOUCH,   LEAVE),
    ("regenerated",                    STORED, "new_id",                               REPLACE, SET),
    ("regenerated and changed",        STORED, "new_id changed",                       REPLACE, SET),
    ("regenerated, nothing kept",      STORED, "new_id changed empty",                 END,     EXPIRE),
    ("regenerated before rotation",    STORED, "new_id rotation_due",                  REPLACE, SET),
    ("rotation due",                   STORED, "rotation_due",                         ROTATE,  SET),
    ("rotation due, changed",          STORED, "rotation_due changed",                 ROTATE,  SET),
    ("rotation due, emptied",          STORED, "rotation_due changed empty",           DELETE_EMPTIED, EXPIRE),
    ("destroyed",                      NEW,    "ended empty cookie_sent",              NOTHING, EXPIRE),
    ("destroyed, no cookie sent",      NEW,    "ended empty",                          NOTHING, LEAVE),
    ("destroyed, then written",        NEW,    "ended changed cookie_sent",            INSERT,  SET),
    ("saved in this request",          SAVED,  "",                                     NOTHING, SET),
    ("saved, then changed",            SAVED,  "changed",                              UPDATE,  SET),
    ("found dead, older secret",       STORED, "gone cookie_stale",                    NOTHING, LEAVE),
    ("found dead, saved before",       SAVED,  "gone",                                 NOTHING, LEAVE),
    ("found dead, failed, saved",      SAVED,  "gone failed",                          NOTHING, LEAVE),
    ("found dead, changed, rolling",   STORED, "gone changed rolling",                 UPDATE,  SET),
    ("failed, changed",                STORED, "failed changed",                       NOTHING, LEAVE),
    ("failed, new",                    NEW,    "failed changed",                       NOTHING, LEAVE),
    ("failed, regenerated",            STORED, "failed new_id",                        NOTHING, LEAVE),
    ("failed, deadline old",           STORED, "failed touch_due rolling",             NOTHING, LEAVE),
    ("failed, destroyed before",       NEW,    "failed ended empty cookie_sent",       NOTHING, EXPIRE),
    ("failed, destroyed and written",  NEW,    "failed ended changed cookie_sent",     NOTHING, EXPIRE),
    ("failed, saved before",           SAVED,  "failed",                               NOTHING, SET),
    ("public, rolling",                STORED, "rolling !refreshable",                 NOTHING, LEAVE),
    ("public, persistent touch",       STORED, "touch_due persistent !refreshable",    TOUCH,   LEAVE),
    ("public, changed",                STORED, "changed persistent !refreshable",      UPDATE,  LEAVE),
    ("public, rotation due",           STORED, "rotation_due !refreshable",            NOTHING, LEAVE),
    ("public, new",                    NEW,    "changed !refreshable",                 INSERT,  SET),
    ("public, regenerated",            STORED, "new_id !refreshable",                  REPLACE, SET),
    ("insecure, new",                  NEW,    "changed !deliverable",                 NOTHING, LEAVE),
    ("insecure, changed, rolling",     STORED, "changed rolling !deliverable",         UPDATE,  LEAVE),
    ("insecure, regenerated",          STORED, "new_id !deliverable",                  END,     EXPIRE),
    ("insecure, rotation due",         STORED, "rotation_due !deliverable",            NOTHING, LEAVE),
    ("insecure, failed, saved",        SAVED,  "failed !deliverable",                  NOTHING, LEAVE),
]  # fmt: skip


def facts(text: str) -> dict[str, bool]:
    return {word.lstrip("!"): not word.startswith("!") for word in text.split()}


@pytest.mark.parametrize(
    ("origin", "given", "store", "cookie"),
    [pytest.param(*row[1:], id=row[0]) for row in TABLE],
)
def test_the_table(origin: Origin, given: str, store: StoreStep, cookie: CookieStep) -> None:
    assert decide(origin=origin, **facts(given)) == Plan(store, cookie)


FLAGS = [
    "changed",
    "empty",
    "new_id",
    "touch_due",
    "rotation_due",
    "ended",
    "gone",
    "cookie_sent",
    "cookie_stale",
    "persistent",
    "rolling",
    "refreshable",
    "deliverable",
    "save_uninitialized",
    "failed",
]
EVERY_CASE = [
    (origin, dict(zip(FLAGS, flags, strict=True)))
    for origin in Origin
    for flags in itertools.product((False, True), repeat=len(FLAGS))
]


def test_a_failed_response_writes_nothing() -> None:
    for origin, given in EVERY_CASE:
        if given["failed"]:
            assert decide(origin=origin, **given).store is NOTHING


def test_a_cookie_that_cant_be_delivered_is_never_set() -> None:
    for origin, given in EVERY_CASE:
        if not given["deliverable"]:
            assert decide(origin=origin, **given).cookie is not SET


def test_a_record_is_only_made_together_with_its_cookie() -> None:
    for origin, given in EVERY_CASE:
        plan = decide(origin=origin, **given)
        if plan.store in (INSERT, REPLACE, ROTATE):
            assert plan.cookie is SET


def test_nothing_is_written_over_a_session_that_isnt_there() -> None:
    for origin, given in EVERY_CASE:
        if origin is NEW:
            assert decide(origin=origin, **given).store in (NOTHING, INSERT)


def test_an_empty_new_session_is_never_stored_unless_asked_for() -> None:
    for origin, given in EVERY_CASE:
        if origin is NEW and given["empty"] and not given["save_uninitialized"]:
            assert decide(origin=origin, **given).store is NOTHING


def test_a_public_response_is_never_given_a_mere_refresh() -> None:
    for origin, given in EVERY_CASE:
        plan = decide(origin=origin, **given)
        if origin is STORED and not given["refreshable"] and not given["new_id"]:
            assert plan.cookie is not SET


def test_what_was_found_dead_isnt_handed_out() -> None:
    for origin, given in EVERY_CASE:
        plan = decide(origin=origin, **given)
        if origin is not NEW and given["gone"] and plan.store is NOTHING:
            assert plan.cookie is not SET


def test_an_id_that_was_to_be_replaced_never_survives_a_good_response() -> None:
    for origin, given in EVERY_CASE:
        if origin is not NEW and given["new_id"] and not given["failed"]:
            assert decide(origin=origin, **given).store in (REPLACE, END)


def record(*, used_at: float, expires_at: float) -> Record:
    return Record({}, b"", used_at, expires_at)


@pytest.mark.parametrize(
    ("now", "death"),
    [
        (1_000.0, None),
        (1_059.9, None),
        (1_060.0, Death.IDLE),
        (1_100.0, Death.ABSOLUTE),
        (9_999.0, Death.ABSOLUTE),
    ],
)
def test_a_session_ends_exactly_at_its_limits(now: float, death: Death | None) -> None:
    notes = Notes(500.0, 500.0, 500.0)

    limits = {"idle": 60.0, "absolute": 600.0}
    kept = record(used_at=1_000.0, expires_at=1_060.0)

    assert (now >= deadline_of(kept, notes, **limits)) is (death is not None)
    if death is not None:
        assert death_at(notes, absolute=600.0, now=now) is death


def test_a_limit_that_was_shortened_counts_at_once() -> None:
    notes = Notes(0.0, 0.0, 0.0)
    kept = record(used_at=1_000.0, expires_at=90_000.0)

    assert deadline_of(kept, notes, idle=60.0, absolute=math.inf) == 1_060.0


@pytest.mark.parametrize(
    ("expires_at", "used_at", "started_at"), [(7.0, 8.0, 8.0), (8.0, 7.0, 8.0), (8.0, 8.0, 7.0)]
)
def test_the_earliest_of_three_deadlines_ends_a_session(
    expires_at: float, used_at: float, started_at: float
) -> None:
    notes = Notes(0.0, started_at, started_at)
    kept = record(used_at=used_at, expires_at=100.0 + expires_at)

    assert deadline_of(kept, notes, idle=100.0, absolute=100.0) == 107.0


def test_the_sessions_own_limits_are_capped_by_the_middlewares() -> None:
    own = Notes(0.0, 0.0, 0.0, idle=500.0, absolute=5_000.0)

    assert next_deadline(own, idle=60.0, absolute=math.inf, now=100.0) == 160.0
    assert next_deadline(own, idle=math.inf, absolute=math.inf, now=100.0) == 600.0
    assert next_deadline(own, idle=9_999.0, absolute=9_999.0, now=4_900.0) == 5_000.0


def test_the_absolute_limit_counts_from_the_last_login() -> None:
    notes = Notes(0.0, 1_000.0, 1_000.0)

    assert next_deadline(notes, idle=math.inf, absolute=60.0, now=1_010.0) == 1_060.0
