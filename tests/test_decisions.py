"""The policy is a table; this is it, row by row, and what must hold for rows that nobody wrote."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import fields

import pytest

from wsgi_sessions.data.notes import Notes
from wsgi_sessions.engine.decisions import (
    GRACE,
    SKEW,
    CookieStep,
    Death,
    Facts,
    Result,
    StoreStep,
    cookie_step,
    deadline_of,
    death_at,
    in_grace,
    is_due,
    next_deadline,
    only_reads,
    store_step,
    told,
)
from wsgi_sessions.record import Record

NOTHING, TOUCH, UPDATE, INSERT = (
    StoreStep.NOTHING,
    StoreStep.TOUCH,
    StoreStep.UPDATE,
    StoreStep.INSERT,
)
DELETE_EMPTIED, END, REGENERATE, ROTATE = (
    StoreStep.DELETE_EMPTIED,
    StoreStep.END,
    StoreStep.REGENERATE,
    StoreStep.ROTATE,
)
LEAVE, RENEW, SET, EXPIRE = (
    CookieStep.LEAVE,
    CookieStep.RENEW,
    CookieStep.SET,
    CookieStep.EXPIRE,
)
DONE = Result.NOTHING
WRITTEN, NEW_ID, MOVED = Result.WRITTEN, Result.NEW_ID, Result.MOVED
OVERTAKEN, DELETED, GONE = Result.OVERTAKEN, Result.DELETED, Result.GONE
REVOKED = Result.REVOKED

# what happened                                   facts                                           store           came to    cookie
TABLE = [
    ("read",                                      "stored",                                       NOTHING,        DONE,      LEAVE),
    ("read, persistent",                          "stored persistent",                            NOTHING,        DONE,      LEAVE),
    ("read, deadline old",                        "stored touch_due",                             TOUCH,          WRITTEN,   LEAVE),
    ("read, deadline old, persistent",            "stored touch_due persistent",                  TOUCH,          WRITTEN,   RENEW),
    ("read, rolling",                             "stored cookie_due",                            TOUCH,          WRITTEN,   RENEW),
    ("read, rolling, ended meanwhile",            "stored cookie_due",                            TOUCH,          GONE,      LEAVE),
    ("read, rolling, store failed",               "stored cookie_due",                            TOUCH,          DONE,      LEAVE),
    ("read, rolling, rotated meanwhile",          "stored cookie_due",                            TOUCH,          MOVED,     RENEW),
    ("read, older secret",                        "stored cookie_due",                            TOUCH,          WRITTEN,   RENEW),
    ("read, former ID",                           "stored cookie_due",                            TOUCH,          WRITTEN,   RENEW),
    ("changed",                                   "stored changed",                               UPDATE,         WRITTEN,   LEAVE),
    ("changed, ended meanwhile",                  "stored changed",                               UPDATE,         GONE,      LEAVE),
    ("changed, persistent",                       "stored changed persistent",                    UPDATE,         WRITTEN,   RENEW),
    ("changed, rolling",                          "stored changed cookie_due",                    UPDATE,         WRITTEN,   RENEW),
    ("changed, rolling, rotated twice meanwhile", "stored changed cookie_due",                    UPDATE,         OVERTAKEN, LEAVE),
    ("made persistent",                           "stored changed attributes_changed persistent", UPDATE,         WRITTEN,   SET),
    ("new, something put in",                     "changed",                                      INSERT,         NEW_ID,    SET),
    ("new, revoked meanwhile",                    "changed",                                      INSERT,         REVOKED,   LEAVE),
    ("new, nothing put in",                       "empty",                                        NOTHING,        DONE,      LEAVE),
    ("new, only noted",                           "empty changed",                                NOTHING,        DONE,      LEAVE),
    ("new, nothing put in, uninit.",              "empty save_uninitialized",                     INSERT,         NEW_ID,    SET),
    ("emptied",                                   "stored changed empty",                         DELETE_EMPTIED, DELETED,   EXPIRE),
    ("emptied, changed meanwhile",                "stored changed empty",                         DELETE_EMPTIED, WRITTEN,   LEAVE),
    ("empty all along",                           "stored",                                       NOTHING,        DONE,      LEAVE),
    ("empty all along, labeled",                  "stored changed",                               UPDATE,         WRITTEN,   LEAVE),
    ("regenerated",                               "stored new_id",                                REGENERATE,     NEW_ID,    SET),
    ("regenerated, ended meanwhile",              "stored new_id",                                REGENERATE,     GONE,      LEAVE),
    ("regenerated, nothing kept",                 "stored new_id changed empty",                  DELETE_EMPTIED, DELETED,   EXPIRE),
    ("regenerated when rotation is due",          "stored new_id rotation_due",                   REGENERATE,     NEW_ID,    SET),
    ("rotation due",                              "stored rotation_due",                          ROTATE,         NEW_ID,    RENEW),
    ("rotation due, another was faster",          "stored rotation_due",                          ROTATE,         MOVED,     RENEW),
    ("rotation due, store failed",                "stored rotation_due",                          ROTATE,         DONE,      LEAVE),
    ("rotation due, changed",                     "stored rotation_due changed",                  ROTATE,         NEW_ID,    RENEW),
    ("failed, changed",                           "stored failed changed",                        NOTHING,        DONE,      LEAVE),
    ("failed, new",                               "failed changed",                               NOTHING,        DONE,      LEAVE),
    ("failed, regenerated",                       "stored failed new_id",                         NOTHING,        DONE,      LEAVE),
    ("failed, deadline old",                      "stored failed touch_due cookie_due",           NOTHING,        DONE,      LEAVE),
    ("public, rolling",                           "stored cookie_due !may_renew",                 NOTHING,        DONE,      LEAVE),
    ("public, persistent touch",                  "stored touch_due persistent !may_renew",       TOUCH,          WRITTEN,   LEAVE),
    ("public, rotation due",                      "stored rotation_due !may_renew",               NOTHING,        DONE,      LEAVE),
    ("public, new",                               "changed !may_renew",                           INSERT,         NEW_ID,    SET),
    ("public, regenerated",                       "stored new_id !may_renew",                     REGENERATE,     NEW_ID,    SET),
    ("passive, deadline old, rolling",            "stored !may_renew cookie_due persistent",      NOTHING,        DONE,      LEAVE),
    ("passive, rotation due",                     "stored !may_renew rotation_due",               NOTHING,        DONE,      LEAVE),
    ("passive, older secret",                     "stored !may_renew cookie_due",                 NOTHING,        DONE,      LEAVE),
    ("passive, changed, persistent",              "stored !may_renew changed persistent",         UPDATE,         WRITTEN,   LEAVE),
    ("passive, changed, rotated meanwhile",       "stored !may_renew changed",                    UPDATE,         MOVED,     LEAVE),
    ("passive, new",                              "!may_renew changed",                           INSERT,         NEW_ID,    SET),
    ("passive, signed in",                        "stored !may_renew new_id",                     REGENERATE,     NEW_ID,    SET),
    ("insecure, new",                             "changed !deliverable",                         NOTHING,        DONE,      LEAVE),
    ("insecure, changed, rolling",                "stored changed cookie_due !deliverable",       UPDATE,         WRITTEN,   LEAVE),
    ("insecure, regenerated",                     "stored new_id !deliverable",                   END,            DELETED,   LEAVE),
    ("insecure, rotation due",                    "stored rotation_due !deliverable",             NOTHING,        DONE,      LEAVE),
    ("stream, changed",                           "stored changed headers_sent persistent",       UPDATE,         WRITTEN,   LEAVE),
    ("raised, data kept, new ID not",             "stored changed new_id headers_sent",           UPDATE,         WRITTEN,   LEAVE),
    ("in the token, read",                        "stored in_token",                              NOTHING,        DONE,      LEAVE),
    ("in the token, changed",                     "stored in_token changed !may_renew",           UPDATE,         WRITTEN,   SET),
    ("in the token, touched",                     "stored in_token touch_due",                    TOUCH,          WRITTEN,   RENEW),
]  # fmt: skip


def facts(text: str) -> Facts:
    return Facts(**{word.lstrip("!"): not word.startswith("!") for word in text.split()})


@pytest.mark.parametrize(
    ("given", "store", "result", "cookie"), [pytest.param(*row[1:], id=row[0]) for row in TABLE]
)
def test_the_table(given: str, store: StoreStep, result: Result, cookie: CookieStep) -> None:
    known = facts(given)

    assert store_step(known) is store
    assert cookie_step(known, store, result) is cookie


def every_case() -> Iterator[Facts]:
    """All facts that can be true at once."""
    for flags in itertools.product((False, True), repeat=len(fields(Facts))):
        known = Facts(*flags)
        if known.new_id and not known.stored:
            continue
        if known.attributes_changed and not known.changed:
            continue
        yield known


EVERY_CASE = list(every_case())


@pytest.mark.parametrize(
    ("given", "only"),
    [
        ("stored", True),
        ("stored persistent", True),
        ("stored failed changed cookie_due", True),
        ("failed changed", True),
        ("stored !may_renew rotation_due", True),
        ("stored rotation_due", False),
        ("stored !may_renew touch_due", False),
        ("empty", True),
        ("empty save_uninitialized", False),
        ("changed", False),
    ],
)
def test_what_only_reads(given: str, only: bool) -> None:
    assert only_reads(facts(given)) is only


def test_a_request_that_only_read_is_told_as_the_table_tells_it() -> None:
    for known in EVERY_CASE:
        if only_reads(known):
            assert store_step(known) is NOTHING
            assert cookie_step(known, NOTHING, DONE) is LEAVE


def test_a_failed_response_writes_nothing() -> None:
    assert {store_step(known) for known in EVERY_CASE if known.failed} == {NOTHING}


def test_a_cookie_that_cant_be_delivered_is_never_sent() -> None:
    for known in EVERY_CASE:
        if not known.can_set_cookie:
            step = store_step(known)
            assert {cookie_step(known, step, result) for result in Result} == {LEAVE}


def test_nothing_is_written_over_a_session_that_isnt_there() -> None:
    assert {store_step(known) for known in EVERY_CASE if not known.stored} == {NOTHING, INSERT}


def test_an_id_is_only_made_where_it_can_be_handed_out() -> None:
    for known in EVERY_CASE:
        step = store_step(known)
        if step in (INSERT, REGENERATE, ROTATE):
            assert known.can_set_cookie
            assert cookie_step(known, step, NEW_ID) in (SET, RENEW)


def test_an_empty_new_session_is_never_stored_unless_asked_for() -> None:
    for known in EVERY_CASE:
        if not known.stored and known.empty and not known.save_uninitialized:
            assert store_step(known) is NOTHING


def test_neither_a_passive_request_nor_a_public_response_is_given_a_mere_renewal() -> None:
    for known in EVERY_CASE:
        if not known.may_renew and not known.attributes_changed and not known.in_token:
            step = store_step(known)
            assert step is not ROTATE
            assert step is not TOUCH or known.touch_due
            assert cookie_step(known, step, MOVED) is LEAVE
            assert cookie_step(known, step, WRITTEN) is LEAVE


def test_no_cookie_is_sent_for_what_the_store_said_is_gone_or_didnt_say_anything_of() -> None:
    for known in EVERY_CASE:
        for result in (DONE, GONE, REVOKED, OVERTAKEN):
            assert cookie_step(known, store_step(known), result) is LEAVE


def test_an_id_that_was_to_be_replaced_never_survives_a_good_response() -> None:
    for known in EVERY_CASE:
        if known.new_id and not known.failed and not known.headers_sent:
            assert store_step(known) in (REGENERATE, END, DELETE_EMPTIED)


@pytest.mark.parametrize(
    ("before", "now", "result", "after"),
    [
        (LEAVE, LEAVE, DONE, LEAVE),
        (SET, LEAVE, DONE, SET),
        (SET, RENEW, WRITTEN, SET),
        (RENEW, SET, NEW_ID, SET),
        (EXPIRE, LEAVE, DONE, EXPIRE),
        (EXPIRE, SET, NEW_ID, SET),
        (SET, EXPIRE, DELETED, EXPIRE),
        (SET, LEAVE, GONE, LEAVE),
        (SET, LEAVE, REVOKED, LEAVE),
        (RENEW, LEAVE, GONE, LEAVE),
        (EXPIRE, LEAVE, GONE, EXPIRE),
    ],
)
def test_what_the_client_is_told_of_several_commits(
    before: CookieStep, now: CookieStep, result: Result, after: CookieStep
) -> None:
    assert told(before, now, result) is after


@pytest.mark.parametrize(
    ("now", "due"),
    [(1_000.0, False), (1_059.9, False), (1_060.0, True), (970.0, False), (969.0, True)],
)
def test_s2_what_was_noted_in_the_future_is_due_at_once(now: float, due: bool) -> None:
    assert is_due(1_000.0, 60.0, now) is due


def test_a_grace_isnt_lengthened_by_a_clock_that_was_set_back() -> None:
    assert GRACE == 30.0
    assert in_grace(1_000.0, 1_000.0 - GRACE)
    assert in_grace(1_000.0, 999.5)
    assert in_grace(1_000.0, 1_000.0 - GRACE - SKEW)
    assert not in_grace(1_000.0, 1_000.0 - GRACE - SKEW - 0.1)
    assert not in_grace(1_000.0, 1_000.0)


def test_s2_a_use_in_the_future_counts_from_now() -> None:
    kept = record(used_at=9_000.0, expires_at=90_000.0)
    notes = Notes(0.0, 0.0, 0.0)

    assert deadline_of(kept, notes, idle=60.0, absolute=math.inf, now=1_000.0) == 1_060.0


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

    assert (now >= deadline_of(kept, notes, **limits, now=now)) is (death is not None)
    if death is not None:
        assert death_at(notes, absolute=600.0, now=now) is death


def test_a_limit_that_was_shortened_counts_at_once() -> None:
    notes = Notes(0.0, 0.0, 0.0)
    kept = record(used_at=1_000.0, expires_at=90_000.0)

    assert deadline_of(kept, notes, idle=60.0, absolute=math.inf, now=1_001.0) == 1_060.0


@pytest.mark.parametrize(
    ("expires_at", "used_at", "started_at"), [(7.0, 8.0, 8.0), (8.0, 7.0, 8.0), (8.0, 8.0, 7.0)]
)
def test_the_earliest_of_three_deadlines_ends_a_session(
    expires_at: float, used_at: float, started_at: float
) -> None:
    notes = Notes(0.0, started_at, started_at)
    kept = record(used_at=used_at, expires_at=100.0 + expires_at)

    assert deadline_of(kept, notes, idle=100.0, absolute=100.0, now=50.0) == 107.0


def test_the_sessions_own_limits_are_capped_by_the_middlewares() -> None:
    own = Notes(0.0, 0.0, 0.0, idle=500.0, absolute=5_000.0)

    assert next_deadline(own, idle=60.0, absolute=math.inf, now=100.0) == 160.0
    assert next_deadline(own, idle=math.inf, absolute=math.inf, now=100.0) == 600.0
    assert next_deadline(own, idle=9_999.0, absolute=9_999.0, now=4_900.0) == 5_000.0


def test_the_absolute_limit_counts_from_the_last_login() -> None:
    notes = Notes(0.0, 1_000.0, 1_000.0)

    assert next_deadline(notes, idle=math.inf, absolute=60.0, now=1_010.0) == 1_060.0
