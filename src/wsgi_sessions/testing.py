"""For tests: the contract of stores, a clock that is set by hand, a store that fails on demand, and
a way into the session of a test client.

`StoreContract` is a pytest class that checks every promise of `wsgi_sessions.stores.Store`, for our
stores and for yours. It needs pytest's rewriting to say more than ``AssertionError``; ask for it in
conftest.py, before anything imports this module::

    pytest.register_assert_rewrite("wsgi_sessions.testing")

Nothing here is for production.
"""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from datetime import timedelta
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar, cast

from .errors import StoreError
from .record import Changes, OwnedEntry, Record, UpdateResult
from .stores.base import Store, StoreListener
from .testclient import session_of

__all__ = ["FakeClock", "FaultyStore", "StoreContract", "session_of"]

P = ParamSpec("P")
T = TypeVar("T")
Hook = Callable[..., object]
_Meet = Callable[[], None]
"""Returns when another process has come as far."""

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT


class FakeClock:
    """A clock that stands still until it is set: pass it as ``clock``.

    Args:
        now: where it begins. UNIX seconds.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now: float = now
        """What it shows. UNIX seconds; set it freely, backwards too."""

    def __call__(self) -> float:
        """UNIX seconds."""
        return self.now

    def advance(self, by: float | timedelta) -> None:
        """Move on by seconds or a timedelta; a negative one moves back."""
        self.now += by.total_seconds() if isinstance(by, timedelta) else by


class FaultyStore(Store):
    """A store around another, which counts calls, fails on demand and lets others in between.

    Args:
        store: does the work.
    """

    OPERATIONS = Store.__abstractmethods__
    """The names of all that a store does."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.calls: Counter[str] = Counter()
        """How often each operation was asked for, the ones that failed included."""
        self._failing: dict[str, bool] = {}
        self._before: defaultdict[str, list[Hook]] = defaultdict(list)
        self._after: defaultdict[str, list[Hook]] = defaultdict(list)

    @property
    def shared(self) -> bool:  # type: ignore[override] # a ClassVar there, the other store's here
        """As the other store says."""
        return self.store.shared

    @property
    def clock(self) -> Callable[[], float]:
        """The other store's clock."""
        return self.store.clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # as above
        self.store.clock = clock

    def fail(self, *operations: str, answer_lost: bool = False) -> None:
        """Have these operations raise StoreError from now on.

        Args:
            operations: their names, as `Store` has them.
            answer_lost: True: what was asked is done, and only then it fails.
        """
        for operation in operations:
            self._failing[_known(operation)] = answer_lost

    def recover(self) -> None:
        """Have nothing fail any more."""
        self._failing.clear()

    def before(self, operation: str, hook: Hook) -> None:
        """Call ``hook`` before each such operation, with its arguments: another request's turn."""
        self._before[_known(operation)].append(hook)

    def after(self, operation: str, hook: Hook) -> None:
        """Call ``hook`` after each such operation, with its arguments."""
        self._after[_known(operation)].append(hook)

    def subscribe(self, listener: StoreListener) -> None:
        """Have the other store tell ``listener``."""
        self.store.subscribe(listener)

    def load(self, key: str) -> Record | None:
        """As the other store."""
        return self._ask(self.store.load, key)

    def insert(self, key: str, record: Record) -> bool:
        """As the other store."""
        return self._ask(self.store.insert, key, record)

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        """As the other store."""
        return self._ask(self.store.update, key, changes, if_version=if_version)

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        """As the other store."""
        return self._ask(self.store.replace, old_key, new_key, record, if_version=if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """As the other store."""
        return self._ask(self.store.delete, key, if_version=if_version)

    def purge_expired(self, now: float) -> int:
        """As the other store."""
        return self._ask(self.store.purge_expired, now)

    def keys(self) -> Iterator[str]:
        """As the other store."""
        return self._ask(self.store.keys)

    def clear(self) -> None:
        """As the other store."""
        self._ask(self.store.clear)

    def ping(self) -> None:
        """As the other store."""
        self._ask(self.store.ping)

    def close(self) -> None:
        """As the other store."""
        self._ask(self.store.close)

    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        """As the other store."""
        return self._ask(self.store.add_owned, owner, key, expires_at)

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        """As the other store."""
        return self._ask(self.store.owned_by, owner)

    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        """As the other store."""
        self._ask(self.store.remove_owned, owner, keys)

    def generation(self, owner: str) -> int:
        """As the other store."""
        return self._ask(self.store.generation, owner)

    def next_generation(self, owner: str) -> int:
        """As the other store."""
        return self._ask(self.store.next_generation, owner)

    def _ask(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        operation = method.__name__
        self.calls[operation] += 1
        for hook in tuple(self._before[operation]):
            hook(*args, **kwargs)
        if self._failing.get(operation) is False:
            raise StoreError("the store was told to fail", operation=operation)
        answer = method(*args, **kwargs)
        for hook in tuple(self._after[operation]):
            hook(*args, **kwargs)
        if operation in self._failing:
            raise StoreError("the store was told to lose its answer", operation=operation)
        return answer


def _known(operation: str) -> str:
    if operation not in FaultyStore.OPERATIONS:
        raise ValueError(
            f"a store has no operation {operation!r}; it has"
            f" {', '.join(sorted(FaultyStore.OPERATIONS))}"
        )
    return operation


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
"""What is no key: another length, capitals, paths, patterns, digits of other scripts, no str."""

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
    "owner",
    "notes",
    "used_at",
    "expires_at",
    "fields",
    ":owner",
    "f:a",
    "x" * 256,
)
"""Names of fields, and of owners, that a store must keep apart and give back as they are."""


class StoreContract:
    """Every promise of `Store`, as tests. For a store of yours::

        class TestMyStore(StoreContract):
            def make_store(self) -> Store:
                return MyStore(...)

    ``make_store`` opens a store that other tests don't use at the same time; it is called once per
    test, and again in the tests of races between processes, which are skipped if that doesn't open
    the same data. The times used are around the real time, because a store may have an expiry of
    its own that goes by that.
    """

    rounds: int = 100
    """How often two calls meet in each race. More rounds find rarer accidents, and take longer."""

    def make_store(self) -> Store:
        """Open the store that is to be tested."""
        raise NotImplementedError("a StoreContract needs make_store(self) -> Store")

    # Keeping and giving back

    def test_a_record_comes_back_as_it_was(self) -> None:
        store, key = self.make_store(), _key()
        record = _record({"a": b"1", "b": b"2"}, notes=b"notes", owner="42", version=7)

        assert store.insert(key, record) is True
        _assert_same(store.load(key), record)

    def test_an_owner_of_none_is_not_an_empty_one(self) -> None:
        store, nobody, empty = self.make_store(), _key(), _key()
        store.insert(nobody, _record(owner=None))
        store.insert(empty, _record(owner=""))

        assert _loaded(store, nobody).owner is None
        assert _loaded(store, empty).owner == ""

    def test_a_record_without_fields_is_a_record(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({}, notes=b""))

        _assert_same(store.load(key), _record({}, notes=b""))

    def test_values_and_notes_are_any_bytes(self) -> None:
        store, key = self.make_store(), _key()
        fields = {
            "empty": b"",
            "all": bytes(range(256)),
            "zeros": bytes(1000),
            "text": "né\u2028\U0001f36a".encode(),
            "invalid utf-8": b"\xff\xfe\xc3(",
            "large": bytes(range(256)) * 4096,
        }
        record = _record(fields, notes=bytes(range(256)))
        store.insert(key, record)

        _assert_same(store.load(key), record)

    def test_values_stay_exact_through_updates(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}))
        value = bytes(range(255, -1, -1))

        assert store.update(key, Changes(set={"b": value, "c": b""}, notes=value)) is UPDATED
        loaded = _loaded(store, key)
        assert dict(loaded.fields) == {"a": b"1", "b": value, "c": b""}
        assert loaded.notes == value

    def test_names_of_fields_are_any_text(self) -> None:
        store, key = self.make_store(), _key()
        fields = {name: str(number).encode() for number, name in enumerate(HOSTILE_NAMES)}
        store.insert(key, _record(fields, owner="42", notes=b"n"))

        _assert_same(store.load(key), _record(fields, owner="42", notes=b"n"))
        for name in HOSTILE_NAMES:
            assert store.update(key, Changes(delete=frozenset({name}))) is UPDATED, repr(name)
            del fields[name]
            assert dict(_loaded(store, key).fields) == fields, repr(name)

    def test_there_can_be_many_fields(self) -> None:
        store, key = self.make_store(), _key()
        fields = {f"field {number}": b"%d" % number for number in range(500)}
        store.insert(key, _record(fields))

        changed = dict(_loaded(store, key).fields) != fields
        assert not changed, "many fields came back changed"

    # Absence

    def test_absent_is_none_false_and_gone(self) -> None:
        store, key = self.make_store(), _key()

        assert store.load(key) is None
        assert store.delete(key) is False
        assert store.delete(key, if_version=1) is False
        assert store.update(key, Changes(set={"a": b"1"})) is GONE
        assert store.update(key, Changes(set={"a": b"1"}), if_version=1) is GONE
        assert store.update(key, _touch()) is GONE
        assert store.replace(key, _key(), _record()) is GONE
        assert store.replace(key, _key(), _record(), if_version=1) is GONE

    def test_no_write_makes_a_record_but_insert_and_replace(self) -> None:
        store, key = self.make_store(), _key()
        store.update(key, Changes(set={"a": b"1"}))
        store.update(key, Changes(set={"a": b"1"}, notes=b"n", used_at=_now(), expires_at=_later()))
        store.update(key, _touch())

        assert store.load(key) is None

    def test_a_deleted_record_is_gone_for_all(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record())

        assert store.delete(key) is True
        assert store.load(key) is None
        assert store.delete(key) is False
        assert store.update(key, Changes(set={"a": b"2"})) is GONE
        assert store.update(key, _touch()) is GONE
        assert store.replace(key, _key(), _record()) is GONE
        assert store.load(key) is None

    def test_insert_never_overwrites(self) -> None:
        store, key = self.make_store(), _key()
        first = _record({"a": b"first"}, owner="one")
        store.insert(key, first)

        assert store.insert(key, _record({"a": b"second"}, owner="two")) is False
        _assert_same(store.load(key), first)

    # Change sets

    def test_an_update_sets_and_deletes_the_named_fields_alone(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1", "b": b"2", "c": b"3"}, notes=b"n", owner="42"))
        changes = Changes(set={"b": b"two", "d": b"4"}, delete=frozenset({"c", "never was"}))

        assert store.update(key, changes) is UPDATED
        loaded = _loaded(store, key)
        assert dict(loaded.fields) == {"a": b"1", "b": b"two", "d": b"4"}
        assert (loaded.notes, loaded.owner) == (b"n", "42")

    def test_an_update_keeps_what_another_request_wrote(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1", "b": b"2"}))
        store.load(key)
        store.update(key, Changes(set={"theirs": b"x"}, delete=frozenset({"a"})))
        store.update(key, Changes(set={"ours": b"y"}))

        assert dict(_loaded(store, key).fields) == {"b": b"2", "theirs": b"x", "ours": b"y"}

    def test_a_deleted_field_stays_deleted(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"is_admin": b"true", "a": b"1"}))
        store.update(key, Changes(delete=frozenset({"is_admin"})))
        store.update(key, Changes(set={"a": b"2"}))
        store.update(key, _touch())

        assert dict(_loaded(store, key).fields) == {"a": b"2"}

    def test_a_record_outlives_its_last_field(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}))

        assert store.update(key, Changes(delete=frozenset({"a"}))) is UPDATED
        assert dict(_loaded(store, key).fields) == {}

    def test_notes_change_only_where_they_are_given(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}, notes=b"before"))
        store.update(key, Changes(set={"a": b"2"}))
        kept = _loaded(store, key).notes
        store.update(key, Changes(notes=b""))

        assert kept == b"before"
        assert _loaded(store, key).notes == b""
        assert dict(_loaded(store, key).fields) == {"a": b"2"}

    def test_times_change_only_where_they_are_given(self) -> None:
        store, key = self.make_store(), _key()
        record = _record({"a": b"1"})
        store.insert(key, record)
        store.update(key, Changes(set={"a": b"2"}))
        kept = _loaded(store, key)
        store.update(key, Changes(set={"a": b"3"}, used_at=_now() + 1, expires_at=_later() + 1))
        moved = _loaded(store, key)

        _assert_times(kept, record.used_at, record.expires_at)
        _assert_times(moved, _now() + 1, _later() + 1)

    def test_a_touch_moves_the_times_alone(self) -> None:
        store, key = self.make_store(), _key()
        record = _record({"a": b"1"}, notes=b"n", owner="42", version=3)
        store.insert(key, record)

        assert store.update(key, _touch(used_at=_now() + 5, expires_at=_later() + 5)) is UPDATED
        loaded = _loaded(store, key)
        _assert_times(loaded, _now() + 5, _later() + 5)
        assert (dict(loaded.fields), loaded.notes) == ({"a": b"1"}, b"n")
        assert (loaded.owner, loaded.version) == ("42", 3)

    # Versions

    def test_every_change_of_data_raises_the_version_by_one(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}))
        versions: list[int] = []
        for changes in (
            Changes(set={"a": b"2"}),
            Changes(set={"a": b"2"}),
            Changes(delete=frozenset({"a"})),
            Changes(notes=b"n"),
            Changes(set={"a": b"1", "b": b"2"}, delete=frozenset({"c"}), notes=b"m"),
        ):
            store.update(key, changes)
            versions.append(_loaded(store, key).version)

        assert versions == [2, 3, 4, 5, 6]

    def test_a_touch_fails_no_transaction(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}))
        store.update(key, _touch())

        assert _loaded(store, key).version == 1
        assert store.update(key, Changes(set={"a": b"2"}), if_version=1) is UPDATED

    def test_another_version_is_a_conflict_that_changes_nothing(self) -> None:
        store, key = self.make_store(), _key()
        record = _record({"a": b"1"}, notes=b"n", version=5)
        store.insert(key, record)
        changes = Changes(set={"a": b"2"}, notes=b"m", used_at=_now() + 1, expires_at=_later() + 1)

        for wrong in (4, 6, 1, 0):
            assert store.update(key, changes, if_version=wrong) is CONFLICT
            assert store.update(key, _touch(), if_version=wrong) is CONFLICT
            assert store.delete(key, if_version=wrong) is False
            assert store.replace(key, _key(), _record(), if_version=wrong) is CONFLICT
        _assert_same(store.load(key), record)

    def test_the_right_version_goes_through(self) -> None:
        store, key, new = self.make_store(), _key(), _key()
        store.insert(key, _record({"a": b"1"}, version=5))

        assert store.update(key, Changes(set={"a": b"2"}), if_version=5) is UPDATED
        assert store.update(key, _touch(), if_version=6) is UPDATED
        assert store.replace(key, new, _record(version=9), if_version=6) is UPDATED
        assert store.delete(new, if_version=9) is True

    # Replacing

    def test_replace_moves_the_session_and_ends_the_old_key(self) -> None:
        store, old, new = self.make_store(), _key(), _key()
        record = _record({"b": b"2"}, notes=b"n", owner="42", version=4)
        store.insert(old, _record({"a": b"1"}))

        assert store.replace(old, new, record) is UPDATED
        assert store.load(old) is None
        _assert_same(store.load(new), record)
        assert store.update(old, Changes(set={"a": b"2"})) is GONE
        assert store.update(old, _touch()) is GONE
        assert store.delete(old) is False
        assert store.load(old) is None

    def test_replace_of_what_is_gone_or_changed_makes_nothing(self) -> None:
        store, old, new = self.make_store(), _key(), _key()
        record = _record({"a": b"1"}, version=2)

        assert store.replace(old, new, _record()) is GONE
        assert store.load(new) is None
        store.insert(old, record)
        assert store.replace(old, new, _record(), if_version=1) is CONFLICT
        assert store.load(new) is None
        _assert_same(store.load(old), record)

    def test_replace_never_overwrites_another_session(self) -> None:
        store, old, taken = self.make_store(), _key(), _key()
        ours, theirs = _record({"a": b"ours"}), _record({"a": b"theirs"})
        store.insert(old, ours)
        store.insert(taken, theirs)

        _assert_refused(lambda: store.replace(old, taken, _record({"a": b"new"})))
        _assert_same(store.load(old), ours)
        _assert_same(store.load(taken), theirs)

    # Keys

    def test_what_is_no_key_is_absent(self) -> None:
        store = self.make_store()

        for key in HOSTILE_KEYS:
            shown = repr(key)[:80]
            assert store.load(key) is None, shown
            assert store.update(key, Changes(set={"a": b"1"})) is GONE, shown
            assert store.update(key, _touch()) is GONE, shown
            assert store.delete(key) is False, shown
            assert store.replace(key, _key(), _record()) is GONE, shown

    def test_nothing_is_kept_under_what_is_no_key(self) -> None:
        store, old = self.make_store(), _key()
        record = _record({"a": b"1"})
        store.insert(old, record)

        for key in HOSTILE_KEYS:
            _assert_refused(partial(store.insert, key, _record()))
            _assert_refused(partial(store.replace, old, key, _record()))
        _assert_same(store.load(old), record)

    def test_keys_are_those_of_the_records(self) -> None:
        store = self.make_store()
        ours = {_key() for _ in range(20)}
        for key in ours:
            store.insert(key, _record({"a": b"1"}, owner="42"))
            store.add_owned("42", key, _later())
        deleted, moved, new = ours.pop(), ours.pop(), _key()
        store.delete(deleted)
        store.replace(moved, new, _record())
        listed = list(store.keys())

        assert len(listed) == len(set(listed))
        assert set(listed) >= ours | {new}
        assert not {deleted, moved} & set(listed)
        assert all(isinstance(key, str) and len(key) == 64 for key in listed)

    # Nothing is shared with the caller

    def test_what_was_passed_in_can_be_changed_without_harm(self) -> None:
        store, key = self.make_store(), _key()
        fields = {"a": b"1"}
        store.insert(key, _record(fields))
        fields["a"] = b"changed"
        fields["b"] = b"added"
        inserted = dict(_loaded(store, key).fields)
        changed = {"c": b"3"}
        store.update(key, Changes(set=changed))
        changed["c"] = b"changed"
        fields["c"] = b"changed"

        assert inserted == {"a": b"1"}
        assert dict(_loaded(store, key).fields) == {"a": b"1", "c": b"3"}

    def test_what_was_passed_to_replace_can_be_changed_without_harm(self) -> None:
        store, old, new = self.make_store(), _key(), _key()
        fields = {"a": b"1"}
        store.insert(old, _record())
        store.replace(old, new, _record(fields))
        fields["a"] = b"changed"

        assert dict(_loaded(store, new).fields) == {"a": b"1"}

    def test_what_was_handed_out_can_be_changed_without_harm(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}))
        handed_out = cast("MutableMapping[str, bytes]", _loaded(store, key).fields)
        with contextlib.suppress(TypeError, AttributeError):  # it may well refuse
            handed_out["a"] = b"changed"
        entries = cast("MutableMapping[str, OwnedEntry]", store.owned_by("42"))
        with contextlib.suppress(TypeError, AttributeError):
            entries[key] = OwnedEntry(_now(), _later(), 0)

        assert dict(_loaded(store, key).fields) == {"a": b"1"}
        assert not store.owned_by("42")

    def test_what_was_handed_out_is_a_snapshot(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}))
        before = _loaded(store, key)
        store.update(
            key, Changes(set={"a": b"2", "b": b"3"}, used_at=_now() + 1, expires_at=_later() + 1)
        )

        after = _loaded(store, key)

        assert dict(after.fields) == {"a": b"2", "b": b"3"}
        assert dict(before.fields) == {"a": b"1"}
        assert before.version == 1
        _assert_times(before, _now(), _later())

    # Expiry

    def test_an_update_after_the_deadline_is_gone(self) -> None:
        store, key = self.make_store(), _key()
        record = _record({"a": b"1"}, expires_at=_now() + 1000)
        store.insert(key, record)
        for late in (1000, 1001, 10**6):
            changes = Changes(
                set={"a": b"2"}, used_at=_now() + late, expires_at=_now() + late + 1000
            )
            assert store.update(key, changes) is GONE
            assert store.update(key, changes, if_version=1) is GONE
            assert store.update(key, _touch(changes.used_at, changes.expires_at)) is GONE

        loaded = store.load(key)
        assert loaded is None or dict(loaded.fields) == {"a": b"1"}

    def test_an_update_just_before_the_deadline_is_in_time(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}, expires_at=_now() + 1000))
        changes = Changes(set={"a": b"2"}, used_at=_now() + 999, expires_at=_now() + 2000)

        assert store.update(key, changes) is UPDATED
        _assert_times(_loaded(store, key), _now() + 999, _now() + 2000)

    def test_a_touch_moves_the_deadline_that_counts(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"a": b"1"}, expires_at=_now() + 1000))
        store.update(key, _touch(_now() + 500, _now() + 3000))
        store.purge_expired(_now() + 2000)

        assert store.update(key, _touch(_now() + 2000, _now() + 4000)) is UPDATED
        assert store.load(key) is not None

    def test_purging_removes_what_expired_and_nothing_else(self) -> None:
        store = self.make_store()
        dead, live, moved = _key(), _key(), _key()
        store.insert(dead, _record(used_at=_now() - 100, expires_at=_now() - 10))
        store.insert(live, _record())
        store.insert(moved, _record(expires_at=_now() + 50))
        store.update(moved, Changes(set={"a": b"2"}, used_at=_now(), expires_at=_later()))

        assert store.purge_expired(_now()) >= 0
        assert store.load(dead) is None
        assert dead not in set(store.keys())
        assert store.load(live) is not None
        store.purge_expired(_now() + 60)
        assert store.load(live) is not None
        assert store.load(moved) is not None

    def test_many_live_records_survive_a_purge(self) -> None:
        store = self.make_store()
        keys = [_key() for _ in range(300)]
        for number, key in enumerate(keys):
            live = number % 3 == 0
            store.insert(key, _record(expires_at=_later() if live else _now() - 1))
        store.purge_expired(_now())

        assert [store.load(key) is not None for key in keys] == [n % 3 == 0 for n in range(300)]

    # The owner's index

    def test_the_index_lists_what_was_entered(self) -> None:
        store, owner = self.make_store(), _owner()
        one, two = _key(), _key()

        assert store.owned_by(owner) == {}
        assert store.add_owned(owner, one, _later()) == 0
        assert store.add_owned(owner, two, float("inf")) == 0
        entries = store.owned_by(owner)
        assert set(entries) == {one, two}
        assert abs(entries[one].expires_at - _later()) < 0.001
        assert entries[two].expires_at == float("inf")
        assert entries[one].generation == entries[two].generation == 0

    def test_entries_are_dated_by_the_clock_and_strictly_rise(self) -> None:
        store, owner, clock = self.make_store(), _owner(), FakeClock(_now())
        store.clock = clock
        keys = [_key() for _ in range(20)]
        for key in keys[:10]:
            store.add_owned(owner, key, _later())
        clock.advance(-5)
        for key in keys[10:]:
            store.add_owned(owner, key, _later())
        entries = store.owned_by(owner)
        dates = [entries[key].added_at for key in keys]

        assert dates == sorted(set(dates))
        assert abs(dates[0] - _now()) < 0.001
        assert dates[-1] - dates[0] < 1

    def test_entering_again_dates_anew(self) -> None:
        store, owner, clock = self.make_store(), _owner(), FakeClock(_now())
        store.clock = clock
        one, two = _key(), _key()
        store.add_owned(owner, one, _later())
        store.add_owned(owner, two, _later())
        store.next_generation(owner)

        assert store.add_owned(owner, one, _later() + 7) == 1
        entries = store.owned_by(owner)
        assert entries[one].added_at > entries[two].added_at
        assert abs(entries[one].expires_at - _later() - 7) < 0.001
        assert (entries[one].generation, entries[two].generation) == (1, 0)
        three = _key()
        store.add_owned(owner, three, _later())
        assert store.owned_by(owner)[three].added_at > entries[one].added_at

    def test_removing_takes_out_the_named_keys(self) -> None:
        store, owner = self.make_store(), _owner()
        one, two, three = _key(), _key(), _key()
        for key in (one, two, three):
            store.add_owned(owner, key, _later())
        store.remove_owned(owner, [one, _key(), three])
        left = set(store.owned_by(owner))
        store.remove_owned(owner, [])
        store.remove_owned(_owner(), [two])

        assert left == {two}
        assert set(store.owned_by(owner)) == {two}

    def test_generations_count_up_from_zero(self) -> None:
        store, owner = self.make_store(), _owner()

        assert store.generation(owner) == 0
        assert [store.next_generation(owner) for _ in range(3)] == [1, 2, 3]
        assert store.generation(owner) == 3
        assert store.add_owned(owner, _key(), _later()) == 3
        assert store.generation(_owner()) == 0

    def test_the_generation_outlives_an_empty_index(self) -> None:
        store, removing, expiring, key = self.make_store(), _owner(), _owner(), _key()
        store.add_owned(removing, key, _later())
        store.add_owned(expiring, key, _now() - 10)
        store.next_generation(removing)
        store.next_generation(expiring)
        store.remove_owned(removing, [key])
        store.purge_expired(_now() + 60)

        for owner in (removing, expiring):
            assert store.owned_by(owner) == {}
            assert store.generation(owner) == 1
            assert store.next_generation(owner) == 2

    def test_purging_takes_expired_entries_out_and_leaves_the_others(self) -> None:
        store, owner = self.make_store(), _owner()
        dead, live, forever = _key(), _key(), _key()
        store.add_owned(owner, dead, _now() - 10)
        store.add_owned(owner, live, _later())
        store.add_owned(owner, forever, float("inf"))
        store.purge_expired(_now())

        assert set(store.owned_by(owner)) == {live, forever}

    def test_owners_are_any_text_and_kept_apart(self) -> None:
        store = self.make_store()
        owners = {name: _key() for name in HOSTILE_NAMES}
        for owner, key in owners.items():
            store.add_owned(owner, key, _later())
            store.insert(key, _record(owner=owner))
        store.next_generation("a")

        for owner, key in owners.items():
            assert set(store.owned_by(owner)) == {key}, repr(owner)
            assert _loaded(store, key).owner == owner
            assert store.generation(owner) == (owner == "a"), repr(owner)

    def test_parallel_logins_are_all_listed(self) -> None:
        store, owner = self.make_store(), _owner()
        keys = [[_key() for _ in range(10)] for _ in range(8)]

        _together(*(partial(_enter, store, owner, mine) for mine in keys))

        entries = store.owned_by(owner)
        assert set(entries) == {key for mine in keys for key in mine}
        assert len({entry.added_at for entry in entries.values()}) == 80

    def test_parallel_revocations_are_all_counted(self) -> None:
        store, owner = self.make_store(), _owner()
        numbers: list[int] = []

        _together(*[lambda: numbers.extend(store.next_generation(owner) for _ in range(10))] * 8)

        assert sorted(numbers) == list(range(1, 81))

    # The store as a whole

    def test_clearing_removes_sessions_and_owners(self) -> None:
        store, owner = self.make_store(), _owner()
        keys = [_key() for _ in range(10)]
        for key in keys:
            store.insert(key, _record(owner=owner))
            store.add_owned(owner, key, _later())
        store.clear()

        assert all(store.load(key) is None for key in keys)
        assert list(store.keys()) == []
        assert store.owned_by(owner) == {}
        assert store.insert(keys[0], _record()) is True

    def test_a_store_that_is_there_answers_a_ping(self) -> None:
        self.make_store().ping()

    def test_a_closed_store_may_be_used_again(self) -> None:
        store, key = self.make_store(), _key()
        store.close()
        store.close()

        assert store.insert(key, _record({"a": b"1"})) is True
        assert dict(_loaded(store, key).fields) == {"a": b"1"}

    # Races between threads

    def test_threads_that_write_different_fields_lose_nothing(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({}))

        _together(*(partial(_write_fields, store, key, who) for who in range(8)))

        assert dict(_loaded(store, key).fields) == _fields_of(8)
        assert _loaded(store, key).version == 1 + 8 * _WRITES

    def test_a_counter_in_threads_is_exact(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({"n": b"0"}))

        _together(*[lambda: _count(store, key)] * 8)

        assert _loaded(store, key).fields["n"] == b"%d" % (8 * _COUNTS)

    def test_touches_and_writes_do_not_undo_each_other(self) -> None:
        store, key = self.make_store(), _key()
        store.insert(key, _record({}))

        def touch() -> None:
            for _ in range(_WRITES):
                assert store.update(key, _touch(expires_at=_later() + 5)) is UPDATED

        _together(touch, lambda: _write_fields(store, key, 0), touch)

        assert dict(_loaded(store, key).fields) == _fields_of(1)
        _assert_times(_loaded(store, key), _now(), _later() + 5)

    def test_a_session_deleted_while_it_is_written_stays_deleted(self) -> None:
        store = self.make_store()

        with _Racers() as race:
            for number in range(self.rounds):
                changes = _touch() if number % 2 else Changes(set={"a": b"2"})
                key = _key()
                store.insert(key, _record({"a": b"1"}))
                deleted, updated = race(
                    partial(store.delete, key),
                    partial(store.update, key, changes),
                )
                assert deleted is True
                assert updated in (UPDATED, GONE)
                assert store.load(key) is None
                assert store.update(key, changes) is GONE
                assert store.load(key) is None

    def test_a_session_replaced_while_it_is_written_stays_replaced(self) -> None:
        store = self.make_store()

        with _Racers() as race:
            for _ in range(self.rounds):
                old, new = _key(), _key()
                store.insert(old, _record({"a": b"1"}))
                replaced, updated = race(
                    partial(store.replace, old, new, _record({"b": b"1"})),
                    partial(store.update, old, Changes(set={"a": b"2"})),
                )
                assert replaced is UPDATED
                assert updated in (UPDATED, GONE)
                assert store.update(old, Changes(set={"a": b"3"})) is GONE
                assert store.load(old) is None
                assert dict(_loaded(store, new).fields) == {"b": b"1"}

    def test_a_conditional_replace_loses_no_update(self) -> None:
        store = self.make_store()

        with _Racers() as race:
            for _ in range(self.rounds):
                old, new = _key(), _key()
                store.insert(old, _record({"a": b"1"}))
                replaced, updated = race(
                    partial(store.replace, old, new, _record(), if_version=1),
                    partial(store.update, old, Changes(set={"a": b"2"})),
                )
                assert (replaced, updated) in ((UPDATED, GONE), (CONFLICT, UPDATED))
                assert (store.load(old) is None) == (replaced is UPDATED)
                assert (store.load(new) is None) == (replaced is CONFLICT)

    def test_of_two_replaces_one_wins(self) -> None:
        store = self.make_store()

        with _Racers() as race:
            for _ in range(self.rounds):
                old, one, two = _key(), _key(), _key()
                store.insert(old, _record())
                results = race(
                    partial(store.replace, old, one, _record()),
                    partial(store.replace, old, two, _record()),
                )
                assert sorted(result.value for result in results) == ["gone", "updated"]
                assert store.load(old) is None
                assert (store.load(one) is not None) == (results[0] is UPDATED)
                assert (store.load(two) is not None) == (results[1] is UPDATED)

    def test_a_replace_and_a_delete_leave_one_session_or_none(self) -> None:
        store = self.make_store()

        with _Racers() as race:
            for _ in range(self.rounds):
                old, new = _key(), _key()
                store.insert(old, _record())
                replaced, deleted = race(
                    partial(store.replace, old, new, _record()),
                    partial(store.delete, old),
                )
                assert (replaced is UPDATED) != deleted
                assert store.load(old) is None
                assert (store.load(new) is not None) == (replaced is UPDATED)

    def test_of_two_inserts_and_of_two_deletes_one_wins(self) -> None:
        store = self.make_store()

        with _Racers() as race:
            for _ in range(self.rounds):
                key = _key()
                inserted = race(
                    partial(store.insert, key, _record()),
                    partial(store.insert, key, _record()),
                )
                deleted = race(partial(store.delete, key), partial(store.delete, key))
                assert sorted(inserted) == sorted(deleted) == [False, True]

    def test_a_session_that_expires_while_it_is_written_lives_or_is_gone(self) -> None:
        store = self.make_store()

        with _Racers() as race:
            for _ in range(_PURGES):
                keys = [_key() for _ in range(self.rounds // _PURGES)]
                for key in keys:
                    store.insert(key, _record({"a": b"1"}, expires_at=_now() + 10))
                _, results = race(
                    partial(store.purge_expired, _now() + 10),
                    partial(_renew_all, store, keys),
                )
                for key, result in zip(keys, results, strict=True):
                    _assert_renewed_or_gone(store, key, result)

    def test_a_session_that_is_renewed_survives_the_purges_meanwhile(self) -> None:
        store, key, clock = self.make_store(), _key(), FakeClock(_now())
        store.insert(key, _record({"a": b"1"}, expires_at=_now() + 10))

        def renew() -> None:
            try:
                for step in range(1, _WRITES):
                    now = _now() + step * 9
                    assert store.update(key, _touch(now, now + 10)) is UPDATED
                    clock.now = now
                    store.purge_expired(now)
            finally:
                clock.now = float("inf")

        def purge() -> None:
            while (now := clock.now) < float("inf"):
                store.purge_expired(now)

        _together(renew, purge)

        assert store.load(key) is not None

    # Races between processes

    def test_processes_that_write_different_fields_lose_nothing(self) -> None:
        key = self._shared_session({})

        def write(who: int) -> None:
            _write_fields(self.make_store(), key, who, self.rounds // 4)

        _forked(*(partial(write, who) for who in range(4)))

        lost = dict(_loaded(self.make_store(), key).fields) != _fields_of(4, self.rounds // 4)
        assert not lost, "fields were lost"

    def test_a_counter_in_processes_is_exact(self) -> None:
        key = self._shared_session({"n": b"0"})

        _forked(*[lambda: _count(self.make_store(), key, self.rounds // 4)] * 4)

        assert _loaded(self.make_store(), key).fields["n"] == b"%d" % (self.rounds // 4 * 4)

    def test_a_session_deleted_in_another_process_stays_deleted(self) -> None:
        keys = self._shared_sessions()

        def writer(meet: _Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                assert store.update(key, _WRITE) in (UPDATED, GONE)
                meet()
                assert store.update(key, _WRITE) is GONE
                assert store.update(key, _touch()) is GONE
                assert store.load(key) is None

        def deleter(meet: _Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                assert store.delete(key) is True
                meet()

        _in_step(writer, deleter)

        store = self.make_store()
        assert [key for key in keys if store.load(key) is not None] == []

    def test_a_session_replaced_in_another_process_stays_replaced(self) -> None:
        moves = [(key, _key()) for key in self._shared_sessions()]

        def writer(meet: _Meet) -> None:
            store = self.make_store()
            for old, new in moves:
                meet()
                assert store.update(old, _WRITE) in (UPDATED, GONE)
                meet()
                assert store.update(old, _WRITE) is GONE
                assert store.load(old) is None
                assert dict(_loaded(store, new).fields) == {"b": b"1"}

        def replacer(meet: _Meet) -> None:
            store = self.make_store()
            for old, new in moves:
                meet()
                assert store.replace(old, new, _record({"b": b"1"})) is UPDATED
                meet()

        _in_step(writer, replacer)

    def test_a_conditional_replace_in_another_process_loses_no_update(self) -> None:
        moves = [(key, _key()) for key in self._shared_sessions()]

        def writer(meet: _Meet) -> None:
            store = self.make_store()
            for old, new in moves:
                meet()
                written = store.update(old, _WRITE)
                meet()
                assert (store.load(old) is None) == (written is GONE)
                assert (store.load(new) is None) == (written is UPDATED)

        def replacer(meet: _Meet) -> None:
            store = self.make_store()
            for old, new in moves:
                meet()
                replaced = store.replace(old, new, _record(), if_version=1)
                assert replaced in (UPDATED, CONFLICT)
                meet()

        _in_step(writer, replacer)

    def test_a_session_that_expires_in_another_process_lives_or_is_gone(self) -> None:
        keys = self._shared_sessions(expires_at=_now() + 10)

        def writer(meet: _Meet) -> None:
            store = self.make_store()
            meet()
            results = _renew_all(store, keys)
            meet()
            for key, result in zip(keys, results, strict=True):
                _assert_renewed_or_gone(store, key, result)

        def purger(meet: _Meet) -> None:
            store = self.make_store()
            meet()
            store.purge_expired(_now() + 10)
            meet()

        _in_step(writer, purger)

    def _shared_sessions(self, expires_at: float | None = None) -> list[str]:
        """As many sessions as there are rounds, or a skip as below."""
        keys = [self._shared_session({"a": b"1"}, expires_at)]
        store = self.make_store()
        for key in (_key() for _ in range(1, self.rounds)):
            store.insert(key, _record({"a": b"1"}, expires_at=expires_at))
            keys.append(key)
        return keys

    def _shared_session(self, fields: Mapping[str, bytes], expires_at: float | None = None) -> str:
        """A session that another process made, or a skip if this one can't see it."""
        import pytest  # noqa: PLC0415 # only tests have it

        key = _key()
        if not hasattr(os, "fork"):
            pytest.skip("this platform has no fork")
        _forked(lambda: self.make_store().insert(key, _record(fields, expires_at=expires_at)))
        if self.make_store().load(key) is None:
            pytest.skip("make_store() opens other data in another process")
        return key


_WRITES = 25
_COUNTS = 10
_PURGES = 10
_PATIENCE = 60.0
"""Seconds after which who waits for another thread or process gives up: that one has died."""
_STARTED = float(int(time.time())) + 0.25


def _now() -> float:
    """The same for the whole run, and a fraction that every format can hold."""
    return _STARTED


def _later() -> float:
    return _STARTED + 100_000


def _key() -> str:
    return secrets.token_hex(32)


def _owner() -> str:
    return f"owner {secrets.token_hex(8)}"


def _record(
    fields: Mapping[str, bytes] | None = None,
    *,
    notes: bytes = b"",
    used_at: float | None = None,
    expires_at: float | None = None,
    version: int = 1,
    owner: str | None = None,
) -> Record:
    return Record(
        fields={} if fields is None else fields,
        notes=notes,
        used_at=_now() if used_at is None else used_at,
        expires_at=_later() if expires_at is None else expires_at,
        version=version,
        owner=owner,
    )


def _touch(used_at: float | None = None, expires_at: float | None = None) -> Changes:
    return Changes(
        used_at=_now() if used_at is None else used_at,
        expires_at=_later() if expires_at is None else expires_at,
    )


def _renewal() -> Changes:
    """What a request writes that came just before a deadline of 10 seconds."""
    return Changes(set={"a": b"2"}, used_at=_now() + 9, expires_at=_later())


def _renew_all(store: Store, keys: list[str]) -> list[UpdateResult]:
    return [store.update(key, _renewal()) for key in keys]


_WRITE = Changes(set={"a": b"2"})


def _assert_renewed_or_gone(store: Store, key: str, result: UpdateResult) -> None:
    if result is UPDATED:
        assert dict(_loaded(store, key).fields) == {"a": b"2"}
    else:
        assert result is GONE
        assert store.load(key) is None
        assert store.update(key, _renewal()) is GONE
        assert store.load(key) is None


def _loaded(store: Store, key: str) -> Record:
    record = store.load(key)
    assert record is not None, "a live record can't be loaded"
    return record


def _assert_same(found: Record | None, expected: Record) -> None:
    assert found is not None, "a live record can't be loaded"
    # By name, because a diff of megabytes would take a test runner for ever.
    names = {*found.fields, *expected.fields}
    wrong = [n for n in names if found.fields.get(n) != expected.fields.get(n)]
    assert not wrong, f"these fields came back changed: {sorted(wrong)}"
    assert all(type(value) is bytes for value in found.fields.values())
    assert found.notes == expected.notes
    assert (found.version, found.owner) == (expected.version, expected.owner)
    _assert_times(found, expected.used_at, expected.expires_at)


def _assert_times(found: Record, used_at: float, expires_at: float) -> None:
    assert abs(found.used_at - used_at) < 0.001, (found.used_at, used_at)
    assert abs(found.expires_at - expires_at) < 0.001, (found.expires_at, expires_at)


def _assert_refused(call: Callable[[], object]) -> None:
    try:
        answer = call()
    except StoreError:
        return
    raise AssertionError(f"StoreError was due, and the answer was {answer!r}")


def _enter(store: Store, owner: str, keys: list[str]) -> None:
    for key in keys:
        store.add_owned(owner, key, _later())


def _write_fields(store: Store, key: str, who: int, writes: int = _WRITES) -> None:
    for number in range(writes):
        changes = Changes(set={f"{who} {number}": b"%d" % number})
        assert store.update(key, changes) is UPDATED


def _fields_of(writers: int, writes: int = _WRITES) -> dict[str, bytes]:
    return {f"{who} {number}": b"%d" % number for who in range(writers) for number in range(writes)}


def _count(store: Store, key: str, counts: int = _COUNTS) -> None:
    done = 0
    while done < counts:
        record = _loaded(store, key)
        after = b"%d" % (int(record.fields["n"]) + 1)
        result = store.update(key, Changes(set={"n": after}), if_version=record.version)
        assert result in (UPDATED, CONFLICT)
        done += result is UPDATED


class _Racers:
    """Two threads that make two calls at the same moment, as often as asked: a context manager."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=_PATIENCE)
        self._call: Callable[[], object] | None = None
        self._answer: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(_OFTEN)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self._interval)
        self._call = None
        with contextlib.suppress(threading.BrokenBarrierError):  # it has died; its error is known
            self._barrier.wait()
        self._thread.join()

    def __call__(self, one: Callable[[], object], two: Callable[[], object]) -> tuple[Any, Any]:
        """Their answers."""
        self._call = two
        self._barrier.wait()
        _dawdle()
        try:
            answer = one()
        finally:
            self._barrier.wait()
        if self._error is not None:
            raise self._error
        return answer, self._answer

    def _run(self) -> None:
        while True:
            self._barrier.wait()
            if self._call is None:
                return
            _dawdle()
            try:
                self._answer = self._call()
            except BaseException as error:  # noqa: BLE001 # raised again in the test's own thread
                self._error = error
            self._barrier.wait()


_OFTEN = 1e-6
"""Seconds; threads that take turns often meet in more places."""


def _together(*calls: Callable[[], object]) -> list[Any]:
    """The answers of calls that start at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))
    answers: dict[int, object] = {}
    errors: list[BaseException] = []

    def run(number: int, call: Callable[[], object]) -> None:
        try:
            barrier.wait(timeout=_PATIENCE)
            _dawdle()
            answers[number] = call()
        except BaseException as error:  # noqa: BLE001 # raised again in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_OFTEN)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]
    return [answers[number] for number in range(len(calls))]


def _dawdle() -> None:
    """Let nothing but chance decide who comes first, by how much, and at which step they meet."""
    for _ in range(secrets.randbelow(1 << secrets.randbelow(12))):
        pass


def _forked(*calls: Callable[[], object]) -> None:
    """Make each call in a process of its own, all at once; fails if one of them does."""
    waiting, starting = os.pipe()
    children = [_fork(partial(_call_when_closed, call, waiting, starting)) for call in calls]
    os.close(starting)
    os.close(waiting)
    _wait_for(children)


def _call_when_closed(call: Callable[[], object], waiting: int, starting: int) -> None:
    os.close(starting)
    os.read(waiting, 1)
    call()


def _in_step(one: Callable[[_Meet], object], two: Callable[[_Meet], object]) -> None:
    """The same with two calls that can wait for each other."""
    ends = socket.socketpair()
    children = [
        _fork(partial(_call_in_step, call, *ends[::way])) for call, way in ((one, 1), (two, -1))
    ]
    for end in ends:  # or nobody would see that the other one has died
        end.close()
    _wait_for(children)


def _call_in_step(
    call: Callable[[_Meet], object], mine: socket.socket, theirs: socket.socket
) -> None:
    theirs.close()
    mine.settimeout(_PATIENCE)

    def meet() -> None:
        mine.send(b".")
        assert mine.recv(1) == b".", "the other process has died"
        _dawdle()

    call(meet)


def _fork(call: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        # Python warns of forks while there are threads; ours have ended.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _call_and_exit(call)
    return child


def _wait_for(children: list[int]) -> None:
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    assert not failed, "a process failed; its error is above"


def _call_and_exit(call: Callable[[], object]) -> None:  # pragma: no cover # in a child
    status = 1
    try:
        call()
        status = 0
    except BaseException:  # noqa: BLE001 # the other process sees the status
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
