"""RedisStore without a server: what it sends at each step, and what it makes of odd answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import redis

from records import NOW, a_key, a_record
from stand_in import Client, ClusterClient
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import Changes, OwnedEntry, UpdateResult
from wsgi_sessions.stores import RedisStore, lua
from wsgi_sessions.stores import redis as module

GONE_AWAY = redis.ConnectionError("gone away")
OLD, NEW = a_key(), a_key()


def store_of(*answers: Any, apart: bool = False, wait: int | None = None) -> RedisStore:
    """A store whose client gives these answers, one for each command."""
    store = RedisStore(Client(*answers), wait_replicas=wait)
    store._apart = apart
    return store


def sent(store: RedisStore) -> list[Any]:
    return list(store.client.connection.sent)


def scripts(store: RedisStore) -> list[tuple[str, Any]]:
    """The names of the scripts that were run, each with the last of its keys."""
    names = {script.sha: name for name, script in vars(lua).items() if hasattr(script, "sha")}
    return [
        (names[command[1]], command[2 + command[2]])
        for command in sent(store)
        if command[0] == "EVALSHA"
    ]


def name_of(key: str) -> bytes:
    return b"session:" + key.encode()


SCANNED = [b"0", [name_of(OLD)]]
OWNER_SCANNED = [b"0", [b"session:owner:" + OLD.encode()]]


@pytest.mark.parametrize(
    ("operation", "work", "answers"),
    [
        ("load", lambda store: store.load(OLD), [GONE_AWAY, GONE_AWAY]),
        ("insert", lambda store: store.insert(OLD, a_record()), [GONE_AWAY]),
        ("update", lambda store: store.update(OLD, Changes()), [GONE_AWAY]),
        ("replace", lambda store: store.replace(OLD, NEW, a_record()), [GONE_AWAY]),
        ("delete", lambda store: store.delete(OLD), [GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [SCANNED, GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [SCANNED, b"1.0", GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [OWNER_SCANNED, GONE_AWAY]),
        ("keys", lambda store: list(store.keys()), [GONE_AWAY]),
        ("clear", lambda store: store.clear(), [GONE_AWAY]),
        ("clear", lambda store: store.clear(), [SCANNED, GONE_AWAY]),
        ("clear", lambda store: store.clear(), [SCANNED, redis.ResponseError("no")]),
        ("ping", lambda store: store.ping(), [GONE_AWAY]),
        ("info", lambda store: store.command("INFO"), [GONE_AWAY]),
        ("add_owned", lambda store: store.add_owned("42", OLD, NOW), [GONE_AWAY]),
        ("owned_by", lambda store: store.owned_by("42"), [GONE_AWAY, GONE_AWAY]),
        ("remove_owned", lambda store: store.remove_owned("42", [OLD]), [GONE_AWAY]),
        ("generation", lambda store: store.generation("42"), [GONE_AWAY, GONE_AWAY]),
        ("generation", lambda store: store.generation("42"), [b"many 1 2"]),
        ("next_generation", lambda store: store.next_generation("42"), [GONE_AWAY]),
    ],
)
def test_an_error_names_what_was_asked_for_at_each_step(
    operation: str, work: Callable[[RedisStore], object], answers: list[Any]
) -> None:
    store = store_of(*answers)

    reason = rf"\({operation}\): (ConnectionError: gone away|ResponseError: no)$"
    with pytest.raises(StoreError, match=rf"{reason}|owner index") as caught:
        work(store)
    assert caught.value.operation == operation
    assert store.client.connection.answers == []


class TestReplaceOnOneServer:
    def test_it_waits_for_replicas(self) -> None:
        store = store_of(1, 0, wait=1)

        with pytest.raises(StoreError, match="0 of 1 replicas had the change") as caught:
            store.replace(OLD, NEW, a_record())
        assert caught.value.operation == "replace"

    def test_damage_is_told_of_the_old_one(self) -> None:
        store, told = told_of(store_of(lua.DAMAGED))

        assert store.replace(OLD, NEW, a_record()) is UpdateResult.GONE
        assert told == [("corrupt_record", OLD)]

    @pytest.mark.parametrize("apart", [False, True])
    def test_a_new_key_that_is_taken_is_an_error(self, apart: bool) -> None:
        store = store_of(0 if apart else lua.TAKEN, apart=apart)

        with pytest.raises(StoreError, match="the new key is taken already") as caught:
            store.replace(OLD, NEW, a_record())
        assert caught.value.operation == "replace"
        assert len(scripts(store)) == 1

    @pytest.mark.parametrize(
        "error",
        [
            redis.ResponseError("CROSSSLOT Keys in request don't hash to the same slot"),
            redis.exceptions.ClusterCrossSlotError("Keys in request don't hash to the same slot"),
        ],
    )
    def test_keys_of_two_servers_are_found_out_once(self, error: Exception) -> None:
        store = store_of(error, 1, 1, 1, 1)

        assert store.replace(OLD, NEW, a_record()) is UpdateResult.UPDATED
        assert store.replace(OLD, NEW, a_record()) is UpdateResult.UPDATED
        assert [script for script, _ in scripts(store)] == [
            "REPLACE",
            *("INSERT", "DELETE"),
            *("INSERT", "DELETE"),
        ]

    def test_any_other_refusal_is_final(self) -> None:
        store = store_of(redis.ResponseError("READONLY"))

        with pytest.raises(StoreError, match="READONLY"):
            store.replace(OLD, NEW, a_record())
        assert store._apart is False


class TestReplaceBetweenTwoServers:
    def test_the_new_one_comes_first(self) -> None:
        store = store_of(1, 1, apart=True)

        assert store.replace(OLD, NEW, a_record()) is UpdateResult.UPDATED
        assert scripts(store) == [("INSERT", name_of(NEW)), ("DELETE", name_of(OLD))]

    @pytest.mark.parametrize("answers", [(1, 0), (1, 1, 1, 0, 1)])
    def test_each_step_waits_for_replicas(self, answers: tuple[int, ...]) -> None:
        store = store_of(*answers, apart=True, wait=1)

        with pytest.raises(StoreError, match="0 of 1 replicas had the change"):
            store.replace(OLD, NEW, a_record())
        assert store.client.connection.answers == []

    def test_an_error_at_the_old_one_takes_the_new_one_back(self) -> None:
        for last in (1, GONE_AWAY):
            store = store_of(1, redis.ResponseError("BUSY"), last, apart=True)

            with pytest.raises(StoreError, match="BUSY"):
                store.replace(OLD, NEW, a_record())
            assert scripts(store) == [
                ("INSERT", name_of(NEW)),
                ("DELETE", name_of(OLD)),
                ("DELETE", name_of(NEW)),
            ]

    @pytest.mark.parametrize(
        ("state", "result"),
        [(lua.GONE, UpdateResult.GONE), (lua.CONFLICT, UpdateResult.CONFLICT)],
    )
    def test_what_became_of_the_old_one_decides(self, state: int, result: UpdateResult) -> None:
        store = store_of(1, state, 1, apart=True)

        assert store.replace(OLD, NEW, a_record()) is result
        assert scripts(store)[-1] == ("DELETE", name_of(NEW))

    def test_an_error_while_it_is_taken_back_is_one_of_replace(self) -> None:
        store = store_of(1, lua.GONE, GONE_AWAY, apart=True)

        with pytest.raises(StoreError) as caught:
            store.replace(OLD, NEW, a_record())
        assert caught.value.operation == "replace"

    def test_damage_is_told_of_the_old_one(self) -> None:
        store, told = told_of(store_of(1, lua.DAMAGED, 1, apart=True))

        assert store.replace(OLD, NEW, a_record()) is UpdateResult.GONE
        assert told == [("corrupt_record", OLD)]


def told_of(store: RedisStore) -> tuple[RedisStore, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []

    def tell(kind: str, key: str, detail: str) -> None:
        assert detail == "the key holds something else than a session record"
        told.append((kind, key))

    store.subscribe(tell)
    return store, told


class TestWaiting:
    @pytest.mark.parametrize(
        ("given", "command"),
        [(1, ("WAIT", 1, module._WAIT_MS)), ((2, 50), ("WAIT", 2, 50)), (None, None)],
    )
    def test_how_many_and_how_long(self, given: Any, command: Any) -> None:
        store = store_of(1, 2, wait=given)

        assert store.delete(OLD) is True
        assert sent(store)[1:] == ([] if command is None else [command])

    def test_what_else_is_written_is_refused_with_an_example(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"wait_replicas is \(1, 2, 3\); write .* such as \(1, \d+\)"
        ):
            store_of(wait=(1, 2, 3))  # type: ignore[arg-type] # that is the test


def test_a_time_that_cannot_be_read_is_left_to_the_server() -> None:
    assert module._is_at_or_before(b"1.5", 1.5) is True
    assert module._is_at_or_before(b"1.5", 1.4) is False
    assert module._is_at_or_before(b"soon", NOW) is False


class TestCommands:
    """As they are documented, so that an access list may name them."""

    def test_purging_looks_first_and_has_the_script_decide(self) -> None:
        store = store_of([b"0", [name_of(OLD), name_of(NEW)]], b"1.0", b"9.0", b"sha", 1)

        assert store.purge_expired(2.0) == 1
        assert sent(store) == [
            ("SCAN", b"0", "MATCH", b"session:*", "COUNT", module._PAGE, "TYPE", "hash"),
            ("HGET", name_of(OLD), "e"),
            ("HGET", name_of(NEW), "e"),
            ("SCRIPT", "LOAD", lua.DELETE_EXPIRED.text),
            ("EVALSHA", lua.DELETE_EXPIRED.sha, 1, name_of(OLD), b"2.0"),
        ]

    def test_a_change_sends_what_changed(self) -> None:
        store = store_of(1, 1, 1)
        everything = Changes({"a": b"1"}, frozenset({"b"}), b"notes", 1.0, 2.0)

        store.update(OLD, everything, if_version=3)
        store.update(OLD, Changes(used_at=1.0, expires_at=2.0))
        store.update(OLD, Changes())
        sha, name = lua.UPDATE.sha, name_of(OLD)
        times = (b"u", b"1.0", b"e", b"2.0")
        assert sent(store) == [
            ("EVALSHA", sha, 1, name, b"3", b"1.0", b"2.0", b"1", b"1", b"f:b")
            + (*times, b"n", b"notes", b"f:a", b"1"),
            ("EVALSHA", sha, 1, name, b"", b"1.0", b"2.0", b"0", b"0", *times),
            ("EVALSHA", sha, 1, name, b"", b"", b"", b"0", b"0"),
        ]

    def test_any_other_command_is_sent_as_it_is(self) -> None:
        store = store_of(b"used_memory:1")

        assert store.command("INFO", "memory") == b"used_memory:1"
        assert sent(store) == [("INFO", "memory")]

    def test_clearing_removes_what_is_ours(self) -> None:
        store = store_of([b"0", [name_of(OLD), b"session:other", b"session:\xff"]], 1)

        store.clear()
        assert sent(store)[1:] == [("UNLINK", name_of(OLD))]

    def test_a_sign_of_life(self) -> None:
        store = store_of(b"PONG")

        store.ping()
        assert sent(store) == [("PING",)]

    def test_a_server_that_has_forgotten_the_scripts_is_told_them(self) -> None:
        store = store_of(redis.exceptions.NoScriptError("NOSCRIPT"), 1)

        assert store.delete(OLD) is True
        assert sent(store) == [
            ("EVALSHA", lua.DELETE.sha, 1, name_of(OLD), b""),
            ("EVAL", lua.DELETE.text, 1, name_of(OLD), b""),
        ]

    def test_and_then_waits_for_replicas_all_the_same(self) -> None:
        store = store_of(redis.exceptions.NoScriptError("NOSCRIPT"), 0, 1, 0, wait=1)

        with pytest.raises(
            StoreError, match=r"^0 of 1 replicas had the change after \d+ ms; the primary has it$"
        ) as caught:
            store.delete(OLD)
        assert caught.value.operation == "delete"
        assert [command[0] for command in sent(store)] == ["EVALSHA", "WAIT", "EVAL", "WAIT"]

    def test_revoking_waits_for_replicas(self) -> None:
        store = store_of(7, 0, wait=1)

        with pytest.raises(StoreError, match="0 of 1 replicas"):
            store.next_generation("42")


class TestOddAnswers:
    def test_nothing_is_no_damage(self) -> None:
        store, told = told_of(store_of([]))

        assert store.load(OLD) is None
        assert told == []

    def test_a_time_that_is_refused_is_left_alone(self) -> None:
        store = store_of(SCANNED, redis.ResponseError("WRONGTYPE"))

        assert store.purge_expired(NOW) == 0

    def test_names_that_are_no_text_are_not_ours(self) -> None:
        assert list(store_of([b"0", [b"session:\xff", name_of(OLD)]]).keys()) == [OLD]
        entries = [b"\xff", b"1.0 2.0 3", OLD.encode(), b"1.0 2.0 3", b"m", b"3 1.0 2.0"]
        assert store_of(entries).owned_by("42").keys() == {OLD}

    def test_a_damaged_entry_may_be_live(self) -> None:
        for damaged in (b"", b"1.0 2.0", b"1.0 2.0 many", b"soon 2.0 3"):
            store = store_of([OLD.encode(), damaged])
            assert store.owned_by("42") == {OLD: OwnedEntry(0.0, math.inf, 0)}

    def test_a_damaged_generation_is_an_error(self) -> None:
        with pytest.raises(StoreError, match="the owner index is damaged"):
            store_of(b"many 1 2").generation("42")

    def test_what_was_refused_is_said(self) -> None:
        with pytest.raises(StoreError, match=r"\(clear\): ResponseError: NOPERM"):
            store_of(SCANNED, redis.ResponseError("NOPERM")).clear()


@pytest.mark.parametrize(
    ("operation", "work"),
    [
        ("insert", lambda store: store.insert("x", a_record())),
        ("replace", lambda store: store.replace(OLD, "x", a_record())),
        ("add_owned", lambda store: store.add_owned("42", "x", NOW)),
    ],
)
def test_nothing_is_kept_under_what_is_no_key(
    operation: str, work: Callable[[RedisStore], object]
) -> None:
    store = store_of()

    with pytest.raises(StoreError, match="no store key") as caught:
        work(store)
    assert caught.value.operation == operation
    assert sent(store) == []


class Cluster(ClusterClient):
    """One that knows no record and no owner, and loses each first answer."""

    def execute_command(self, *command: Any, **options: Any) -> Any:
        super().execute_command(*command, **options)
        if len(self.asked) % 2:
            raise GONE_AWAY
        return [] if command[0] == "HGETALL" else None


def test_on_a_cluster_each_read_goes_to_the_node_of_its_key_twice_if_need_be() -> None:
    client = Cluster()
    store = RedisStore(client)

    assert store.load(OLD) is None
    assert store.owned_by("42") == {}
    assert store.generation("42") == 0
    assert [command[0] for _, command in client.asked] == ["HGETALL"] * 4 + ["HGET"] * 2


def test_on_a_cluster_each_script_goes_to_the_node_of_its_key() -> None:
    plain, waiting = ClusterClient(), ClusterClient(1, 2)

    assert RedisStore(plain).insert(OLD, a_record()) is False  # the answer is no number
    assert RedisStore(waiting, wait_replicas=1).delete(OLD) is True
    assert [command[0] for _, command in plain.asked] == ["EVALSHA"]
    with pytest.raises(StoreError, match="the new key is taken"):  # as above
        RedisStore(plain).replace(OLD, NEW, a_record())
    assert plain.asked[1][1][1] == lua.INSERT.sha  # no script is tried on both
    assert [command[0] for command in waiting.nodes["b"].connection.sent] == ["EVALSHA", "WAIT"]


class TestWhatIsSaid:
    def said(self, error: Exception) -> str:
        with pytest.raises(StoreError) as caught:
            store_of(error, error).ping()
        return str(caught.value)

    def test_what_a_server_refused_without_what_it_was_sent(self) -> None:
        error = redis.ResponseError(
            f"unknown command {OLD} 'x', with args beginning with: 'secret'"
        )

        assert self.said(error) == (
            "the Redis server can't do this (ping): ResponseError: unknown command … 'x'"
        )

    def test_no_more_than_200_characters_of_it(self) -> None:
        told = self.said(redis.ResponseError("no " * 100)).partition("ResponseError: ")[2]

        assert told == ("no " * 100)[:200]

    def test_of_what_the_client_refused_its_kind_alone(self) -> None:
        assert self.said(redis.DataError("Invalid input: 'secret'")) == (
            "the Redis client can't do this (ping): DataError"
        )
