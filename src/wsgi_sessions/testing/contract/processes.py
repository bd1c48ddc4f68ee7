"""Races between processes, each of which opens the store for itself."""

# ruff: noqa: S101 # a contract is made of asserts

from __future__ import annotations

from functools import partial

from ..races import Meet, forked, in_step
from .material import (
    GONE,
    NEW_EPOCH,
    UPDATED,
    WRITE,
    a_key,
    a_record,
    a_touch,
    assert_renewed_or_gone,
    count,
    fields_of,
    fields_written,
    loaded,
    now,
    renew_all,
    write_fields,
)
from .subject import StoreUnderTest

_PROCESSES = 4


class ProcessRaces(StoreUnderTest):
    """Calls of several processes at the same moment."""

    def test_processes_that_write_different_fields_lose_nothing(self) -> None:
        key, writes = self._shared_session({}), self.rounds // _PROCESSES

        def write(who: int) -> None:
            write_fields(self.make_store(), key, who, writes)

        forked(*(partial(write, who) for who in range(_PROCESSES)))

        lost = fields_of(self.make_store(), key) != fields_written(_PROCESSES, writes)
        assert not lost, "fields were lost"

    def test_a_counter_in_processes_is_exact(self) -> None:
        key, counts = self._shared_session({"n": b"0"}), self.rounds // _PROCESSES

        forked(*[lambda: count(self.make_store(), key, counts)] * _PROCESSES)

        assert loaded(self.make_store(), key).fields["n"] == b"%d" % (counts * _PROCESSES)

    def test_a_session_deleted_in_another_process_stays_deleted(self) -> None:
        keys = self._shared_sessions()

        def writer(meet: Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                assert store.update(key, WRITE) in (UPDATED, GONE)
                meet()
                assert store.update(key, WRITE) is GONE
                assert store.update(key, a_touch()) is GONE
                assert store.load(key) is None

        def deleter(meet: Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                assert store.delete(key) is True
                meet()

        in_step(writer, deleter)

        store = self.make_store()
        assert [key for key in keys if store.load(key) is not None] == []

    def test_what_is_written_during_a_sign_in_in_another_process_is_before_it_or_gone(
        self,
    ) -> None:
        keys = self._shared_sessions()

        def writer(meet: Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                assert store.update(key, WRITE, if_epoch=0) in (UPDATED, GONE)
                meet()
                assert store.update(key, WRITE, if_epoch=0) is GONE
                assert fields_of(store, key) == {"b": b"1"}

        def signer_in(meet: Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                assert store.update(key, NEW_EPOCH, if_epoch=0) is UPDATED
                meet()

        in_step(writer, signer_in)

    def test_a_conditional_sign_in_in_another_process_loses_no_update(self) -> None:
        keys = self._shared_sessions()

        def writer(meet: Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                written = store.update(key, WRITE, if_epoch=0)
                meet()
                expected = {"a": b"2"} if written is UPDATED else {"b": b"1"}
                assert fields_of(store, key) == expected

        def signer_in(meet: Meet) -> None:
            store = self.make_store()
            for key in keys:
                meet()
                assert store.update(key, NEW_EPOCH, if_version=1) is not GONE
                meet()

        in_step(writer, signer_in)

    def test_a_session_that_expires_in_another_process_lives_or_is_gone(self) -> None:
        keys = self._shared_sessions(expires_at=now() + 10)

        def writer(meet: Meet) -> None:
            store = self.make_store()
            meet()
            results = renew_all(store, keys)
            meet()
            for key, result in zip(keys, results, strict=True):
                assert_renewed_or_gone(store, key, result)

        def purger(meet: Meet) -> None:
            store = self.make_store()
            meet()
            store.purge_expired(now() + 10)
            meet()

        in_step(writer, purger)

    def _shared_sessions(self, expires_at: float | None = None) -> list[str]:
        """As many sessions as there are rounds, or a skip as below."""
        keys = [self._shared_session({"a": b"1"}, expires_at)]
        store = self.make_store()
        for key in (a_key() for _ in range(1, self.rounds)):
            store.insert(key, a_record({"a": b"1"}, expires_at=expires_at))
            keys.append(key)
        return keys
