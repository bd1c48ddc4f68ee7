"""EncryptedStore: the contract, what the store inside sees, and what can't be moved about in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from records import NOW, a_key, a_record
from wsgi_sessions.data.codec import CorruptField
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import LIST_OWNER, Changes, Record, UpdateResult
from wsgi_sessions.stores import MemoryStore, Store
from wsgi_sessions.stores.encrypted import EncryptedStore, check_keys
from wsgi_sessions.testing import FaultyStore, StoreContract

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT
KEY, NEWER = os.urandom(32), os.urandom(32)
# Long enough not to turn up in ciphertext by chance.
SECRETS = b"card-4111", b"later-on", b"notes-of-ours", b"ada.lovelace"


class TestContract(StoreContract):
    def make_store(self) -> Store:
        return EncryptedStore(MemoryStore(), (KEY,))

    def make_broken_store(self) -> Store:
        inner = FaultyStore(MemoryStore())
        inner.fail(*FaultyStore.OPERATIONS)
        return EncryptedStore(inner, (KEY,))


class InsertsPlain(EncryptedStore):
    """Whose records are all from before there was encryption."""

    def insert(self, key: str, record: Record) -> bool:
        return self.store.insert(key, record)


class TestContractWhileMigrating(StoreContract):
    rounds = 20

    def make_store(self) -> Store:
        return InsertsPlain(MemoryStore(), (KEY,), migrate=True)


def both(**options: Any) -> tuple[EncryptedStore, MemoryStore, list[str]]:
    """A store, the one inside, and what listeners are told."""
    inner, told = MemoryStore(), list[str]()
    store = EncryptedStore(inner, (KEY,), **options)
    store.subscribe(lambda kind, at, detail: told.append(f"{kind}: {detail}"))
    return store, inner, told


def there(store: Store, key: str) -> Record:
    record = store.load(key)
    assert record is not None
    return record


def test_the_store_inside_sees_nothing() -> None:
    store, inner, _ = both()
    key = a_key()
    store.insert(key, a_record(fields={"a": SECRETS[0]}, notes=SECRETS[2], owner="ada.lovelace"))
    store.update(key, Changes(set={"b": SECRETS[1]}, owner="ada.lovelace of another town"))
    seen = there(inner, key)
    shown = repr((dict(seen.fields), seen.notes, seen.owner)).encode()

    assert [secret for secret in SECRETS if secret in shown] == []
    assert (seen.version, seen.epoch, seen.used_at) == (2, 0, NOW)
    assert there(store, key).owner == "ada.lovelace of another town"


def test_an_owners_list_stays_one_for_the_store_inside() -> None:
    store, inner, _ = both()
    key = a_key()
    store.insert(key, a_record(fields={a_key(): b"entry"}, owner=LIST_OWNER))

    assert there(inner, key).is_owner_list
    assert there(store, key).is_owner_list


@pytest.mark.parametrize("name", ["\0tie", "\0owner", "\0\0", "\0", ""])
def test_no_name_of_a_field_reaches_one_of_ours(name: str) -> None:
    store, _, told = both()
    key = a_key()
    store.insert(key, a_record(fields={name: b"1", "a": b"2"}))
    store.update(key, Changes(delete=frozenset({name}), set={"b": b"3"}))
    without = dict(there(store, key).fields)
    store.update(key, Changes(set={name: b"4"}, keep=frozenset({name, "a"})))
    fields = there(store, key).fields

    assert without == {"a": b"2", "b": b"3"}
    assert dict(fields) == {"a": b"2", name: b"4"}
    assert len(fields) == 2
    assert name in fields
    assert "c" not in fields
    assert 1 not in fields  # type: ignore[comparison-overlap] # as any mapping may be asked
    assert told == []


def test_keys_rotate() -> None:
    _, inner, _ = both()
    old = EncryptedStore(inner, (KEY,))
    middle, new = EncryptedStore(inner, (NEWER, KEY)), EncryptedStore(inner, (NEWER,))
    key = a_key()
    old.insert(key, a_record(fields={"a": b"1"}, owner="ada"))
    middle.update(key, Changes(set={"a": b"2"}, notes=b"n", owner="ada"))

    assert there(new, key) == replace(there(middle, key), fields=there(new, key).fields)
    assert dict(there(new, key).fields) == {"a": b"2"}


class TestWhatCannotBeOpened:
    """It is no session for this process; but it is there, and stays as it is."""

    @pytest.mark.parametrize(
        ("keys", "detail"), [((NEWER,), "can't be decrypted"), (None, "not encrypted")]
    )
    def test_e1_what_cannot_be_opened_is_not_absent(
        self, keys: tuple[bytes, ...] | None, detail: str
    ) -> None:
        store, inner, told = both()
        key, writer = a_key(), inner if keys is None else EncryptedStore(inner, keys)
        writer.insert(key, a_record())
        before = there(inner, key)

        assert store.load(key) is None
        assert told == [f"corrupt_record: {detail}"]
        assert store.update(key, Changes()) is UPDATED
        assert store.update(a_key(), Changes()) is GONE
        assert there(inner, key) == before
        assert store.delete(key) is True

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "plain", "mark"])
    @pytest.mark.parametrize("part", ["a", "notes", "\0tie", "\0owner"])
    def test_damage(self, part: str, damage: str) -> None:
        store, inner, told = both()
        key = a_key()
        store.insert(key, a_record(owner="ada"))
        record = there(inner, key)
        value = record.notes if part == "notes" else record.fields[part]
        bad = {
            "flip": value[:20] + bytes([value[20] ^ 1]) + value[21:],
            "cut": value[:-1],
            "empty": b"",
            "plain": b'"x"',
            "mark": value[:2],
        }[damage]
        inner.update(key, Changes(notes=bad) if part == "notes" else Changes(set={part: bad}))

        if part == "a":
            with pytest.raises(CorruptField):
                dict(there(store, key).fields)
        else:
            assert store.load(key) is None
            assert len(told) == 1

    def test_values_and_notes_of_elsewhere(self) -> None:
        store, inner, _ = both()
        key, other = a_key(), a_key()
        for each in (key, other):
            store.insert(each, a_record(fields={"a": b"1", "b": b"2"}, owner="ada"))
        mine, theirs = there(inner, key), there(inner, other)

        for changes in (
            Changes(set={"a": mine.fields["b"], "b": mine.fields["a"]}),
            Changes(set={"a": theirs.fields["a"]}),
        ):
            inner.update(key, changes)
            with pytest.raises(CorruptField):
                dict(there(store, key).fields)
        for changes in (
            Changes(notes=theirs.notes),
            Changes(set=theirs.fields, notes=theirs.notes, owner=theirs.owner),
        ):
            inner.update(key, changes)
            assert store.load(key) is None

    def test_older_notes(self) -> None:
        store, inner, _ = both()
        key = a_key()
        store.insert(key, a_record())
        before = there(inner, key).notes
        store.update(key, Changes(notes=b"newer"))
        inner.update(key, Changes(notes=before))

        assert store.load(key) is None

    @pytest.mark.parametrize("owner", [None, "ada", LIST_OWNER])
    @pytest.mark.parametrize("forged", [None, "root", LIST_OWNER])
    def test_an_owner_that_somebody_else_wrote(self, owner: str | None, forged: str | None) -> None:
        store, inner, _ = both()
        key = a_key()
        store.insert(key, a_record(owner=owner))
        inner.update(key, Changes(owner=forged))

        if owner != forged == LIST_OWNER:
            assert_names_alone(there(store, key))
        else:
            assert (store.load(key) is None) == (owner != forged)

    def test_the_owner_of_another_session(self) -> None:
        store, inner, _ = both()
        key, other = a_key(), a_key()
        store.insert(key, a_record(owner=None))
        store.insert(other, a_record(owner="root"))
        root = there(inner, other)
        inner.update(key, Changes(owner=root.owner, set={"\0owner": root.fields["\0owner"]}))

        assert store.load(key) is None

    @pytest.mark.parametrize("plain", [False, True])
    def test_an_owners_list_gives_away_what_needs_no_key(self, *, plain: bool) -> None:
        inner = MemoryStore()
        key = a_key()
        (inner if plain else EncryptedStore(inner, (KEY,))).insert(key, a_record(owner=LIST_OWNER))
        store = EncryptedStore(inner, (NEWER,))
        told: list[tuple[str, str]] = []
        store.subscribe(lambda kind, key, detail: told.append((kind, detail)))

        assert_names_alone(there(store, key))
        why = "not encrypted" if plain else "can't be decrypted"
        assert told == [("corrupt_record", why)]


def assert_names_alone(record: Record) -> None:
    assert dict(record.fields) == {"a": b""}
    assert (record.notes, record.owner) == (b"", LIST_OWNER)


PLAIN = a_record(fields={"a": b"1", "b": b"2"}, owner="ada", epoch=2)


class TestMigrating:
    @staticmethod
    def stores() -> tuple[EncryptedStore, FaultyStore, str]:
        inner, key = FaultyStore(MemoryStore()), a_key()
        inner.insert(key, PLAIN)
        return EncryptedStore(inner, (KEY,), migrate=True), inner, key

    @staticmethod
    def overtaking(inner: FaultyStore, key: str, times: int) -> Callable[..., None]:
        """Another process, still without encryption, that writes before that many updates."""
        left = iter(range(times))

        def overtake(*_: object, **__: object) -> None:
            if next(left, None) is not None:
                inner.store.update(key, Changes(set={"b": b"3"}))

        return overtake

    def test_a_plain_record_is_read_and_sealed_at_its_next_write(self) -> None:
        store, inner, key = self.stores()
        strict = EncryptedStore(inner, (KEY,))
        read = store.load(key)
        store.update(key, Changes(used_at=NOW + 1, expires_at=NOW + 2000))
        touched = strict.load(key)
        store.update(key, Changes(set={"b": b"3"}))

        assert read == PLAIN
        assert touched is None
        sealed = there(strict, key)
        assert dict(sealed.fields) == {"a": b"1", "b": b"3"}
        assert (sealed.notes, sealed.owner, sealed.version) == (b"notes", "ada", 2)

    def test_a_record_that_changes_meanwhile_is_sealed_as_it_is_then(self) -> None:
        store, inner, key = self.stores()
        inner.before("update", self.overtaking(inner, key, 1))

        assert store.update(key, Changes(set={"a": b"9"})) is UPDATED
        assert dict(there(store, key).fields) == {"a": b"9", "b": b"3"}

    def test_a_condition_on_its_version_is_tried_once(self) -> None:
        store, inner, key = self.stores()
        inner.before("update", self.overtaking(inner, key, 1))

        assert store.update(key, Changes(set={"a": b"9"}), if_version=1) is CONFLICT
        assert inner.calls["update"] == 1

    @pytest.mark.parametrize(
        ("used_at", "if_epoch", "expected"),
        [
            (None, None, CONFLICT),
            (NOW, 2, CONFLICT),
            (NOW, 1, GONE),
            (NOW + 1000, 2, GONE),
        ],
    )
    def test_another_version_is_answered_as_it_was_read(
        self, used_at: float | None, if_epoch: int | None, expected: UpdateResult
    ) -> None:
        store, inner, key = self.stores()
        changes = Changes(set={"a": b"9"}, used_at=used_at)

        assert store.update(key, changes, if_epoch=if_epoch, if_version=7) is expected
        assert inner.calls["update"] == 0

    def test_a_record_that_never_stands_still_is_an_error(self) -> None:
        store, inner, key = self.stores()
        inner.before("update", self.overtaking(inner, key, 1000))

        with pytest.raises(StoreError, match="too fast to be encrypted"):
            store.update(key, Changes(set={"a": b"9"}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("k" * 32, r"is of type str; write a list"),
        (b"k" * 32, r"is of type bytes; write a list"),
        ([b"short"], r"a key of 5 bytes; each must be 32 bytes"),
        (["k" * 32], r"a key of type str; each must be 32 bytes"),
    ],
)
def test_keys_that_are_none_are_refused(keys: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_keys(keys)


def test_keys_are_kept_in_their_order() -> None:
    assert check_keys([NEWER, KEY]) == (NEWER, KEY)
    assert check_keys(()) == ()


def test_any_32_bytes_are_a_key() -> None:
    assert check_keys([b"k" * 32, bytes(32)]) == (b"k" * 32, bytes(32))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)

    with pytest.raises(ConfigurationError, match=r"wsgi-sessions\[crypto\]"):
        EncryptedStore(MemoryStore(), (KEY,))


def test_it_names_the_store_inside() -> None:
    inner = MemoryStore()

    assert repr(EncryptedStore(inner, (KEY,))) == f"EncryptedStore({inner!r})"
