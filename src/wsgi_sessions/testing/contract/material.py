"""What the tests of the contract are made of: keys, records, names, and how two are compared."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from ...errors import StoreError
from ...record import Changes, Record, UpdateResult
from ...stores.base import Store
from .. import races

UPDATED: Final = UpdateResult.UPDATED
GONE: Final = UpdateResult.GONE
CONFLICT: Final = UpdateResult.CONFLICT

HOSTILE_KEYS: tuple[Any, ...] = (
    "",
    "a",
    "a" * 63,
    "a" * 65,
    "A" * 64,
    "g" * 64,
    "a" * 64 + "\n",
    "a" * 63 + "\n",
    "a" * 63 + "\0",
    " " + "a" * 63,
    "../" + "a" * 61,
    "/" + "a" * 63,
    "*" * 64,
    "\uff10" * 64,
    "\u0661" * 64,
    "a" * 1_000_000,
    b"a" * 64,
    None,
    1,
    1.5,
    ("a" * 64,),
    ["a" * 64],
    {"a" * 64: 1},
    object(),
)
"""Not keys: wrong lengths, capitals, paths, patterns, digits of other scripts, other types."""

HOSTILE_NAMES = (
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "a b",
    "a=b;c",
    "../../etc/passwd",
    "*",
    "{a}",
    "'; DROP TABLE sessions; --",
    "%s",
    "\\",
    "é",
    "e\u0301",
    "名",
    "\U0001f36a",
    "\u202e",
    "A",
    "a",
    "1",
    "_",
    "__class__",
    "v",
    "version",
    "epoch",
    "owner",
    "notes",
    "used_at",
    "expires_at",
    "fields",
    ":owner",
    "f:a",
    "x" * 256,
)
"""Names of fields, and owners, that a store must keep apart and give back as they are."""

_STARTED = float(int(time.time())) + 0.25


def now() -> float:
    """The same for the whole run, and a fraction that every format can hold."""
    return _STARTED


def later() -> float:
    """A deadline that no test reaches."""
    return _STARTED + 100_000


def a_key() -> str:
    """A key that nobody else uses."""
    return secrets.token_hex(32)


def a_record(
    fields: Mapping[str, bytes] | None = None,
    *,
    notes: bytes = b"",
    used_at: float | None = None,
    expires_at: float | None = None,
    version: int = 1,
    epoch: int = 0,
    owner: str | None = None,
) -> Record:
    """A record that was used now and lives until later, except for what is given."""
    return Record(
        fields={} if fields is None else fields,
        notes=notes,
        used_at=now() if used_at is None else used_at,
        expires_at=later() if expires_at is None else expires_at,
        version=version,
        epoch=epoch,
        owner=owner,
    )


def a_touch(used_at: float | None = None, expires_at: float | None = None) -> Changes:
    """Mere use."""
    return Changes(
        used_at=now() if used_at is None else used_at,
        expires_at=later() if expires_at is None else expires_at,
    )


WRITE: Final = Changes(set={"a": b"2"})
"""What a request writes."""
NEW_EPOCH: Final = Changes(set={"b": b"1"}, keep=frozenset(), epoch=1)
"""What a sign-in that keeps nothing writes."""


def a_renewal() -> Changes:
    """What a request that came just before a deadline of 10 seconds writes."""
    return Changes(set={"a": b"2"}, used_at=now() + 9, expires_at=later())


def renew_all(store: Store, keys: list[str]) -> list[UpdateResult]:
    """The results of as many renewals."""
    return [store.update(key, a_renewal()) for key in keys]


def loaded(store: Store, key: str) -> Record:
    """The record, which has to be there."""
    record = store.load(key)
    assert record is not None, "a live record can't be loaded"
    return record


def fields_of(store: Store, key: str) -> dict[str, bytes]:
    """The fields of the record, which has to be there."""
    return dict(loaded(store, key).fields)


def assert_same(found: Record | None, expected: Record) -> None:
    """Nothing was lost or changed on the way."""
    assert found is not None, "a live record can't be loaded"
    # By name, because a diff of megabytes would take a test runner forever.
    names = {*found.fields, *expected.fields}
    wrong = [name for name in names if found.fields.get(name) != expected.fields.get(name)]
    assert not wrong, f"these fields came back changed: {sorted(wrong)}"
    # A memoryview equals bytes, and 1.0 and True equal 1; but neither goes where these go.
    assert {type(value) for value in (found.notes, *found.fields.values())} == {bytes}
    assert type(found.version) is type(found.epoch) is int
    assert found.notes == expected.notes
    assert (found.version, found.epoch) == (expected.version, expected.epoch)
    assert found.owner == expected.owner
    assert_times(found, expected.used_at, expected.expires_at)


def assert_times(found: Record, used_at: float, expires_at: float) -> None:
    """To the millisecond: not every format is more precise."""
    assert abs(found.used_at - used_at) < 0.001, (found.used_at, used_at)
    assert abs(found.expires_at - expires_at) < 0.001, (found.expires_at, expires_at)


def assert_refused(call: Callable[[], object]) -> None:
    """It raises StoreError, and nothing else."""
    try:
        answer = call()
    except StoreError:
        return
    raise AssertionError(f"expected a StoreError, and the answer was {answer!r}")


def assert_renewed_or_gone(store: Store, key: str, result: UpdateResult) -> None:
    """Nothing in between: a session that was renewed lives, one that was GONE stays so."""
    if result is UPDATED:
        assert fields_of(store, key) == {"a": b"2"}
    else:
        assert result is GONE
        assert store.load(key) is None
        assert store.update(key, a_renewal()) is GONE
        assert store.load(key) is None


def write_fields(store: Store, key: str, who: int, writes: int) -> None:
    """Add fields of this writer's own to a session that others write to as well."""
    for number in range(writes):
        changes = Changes(set={f"{who} {number}": b"%d" % number})
        assert store.update(key, changes) is UPDATED


def fields_written(writers: int, writes: int) -> dict[str, bytes]:
    """The fields after this many calls of `write_fields`."""
    return {f"{who} {number}": b"%d" % number for who in range(writers) for number in range(writes)}


def count(store: Store, key: str, counts: int) -> None:
    """Raise the counter ``n`` that many times, by compare-and-set."""
    done = 0
    while done < counts:
        record = loaded(store, key)
        after = b"%d" % (int(record.fields["n"]) + 1)
        result = store.update(key, Changes(set={"n": after}), if_version=record.version)
        assert result in (UPDATED, CONFLICT)
        done += result is UPDATED


def live_a_life(store: Store, who: int, lives: int) -> None:
    """Sessions from their beginning to their end, with nobody else in them."""
    for number in range(lives):
        key, mine = a_key(), b"%d %d" % (who, number)
        assert store.insert(key, a_record({"mine": mine})) is True
        assert fields_of(store, key) == {"mine": mine}
        assert store.update(key, Changes(set={"more": mine}), if_version=1) is UPDATED
        assert fields_of(store, key) == {"mine": mine, "more": mine}
        assert store.delete(key) is True
        assert store.load(key) is None


def lives_at_once(store: Store, threads: int, lives: int) -> None:
    """As many threads that do so."""
    races.together(*(partial(live_a_life, store, who, lives) for who in range(threads)))
