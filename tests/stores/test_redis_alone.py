"""RedisStore without a server: what it sends at each step, and what it makes of odd answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from records import NOW, a_record
from stand_in import Client, ClusterClient
from wsgi_sessions.errors import ConfigurationError, StoreError
from wsgi_sessions.record import Changes, UpdateResult
from wsgi_sessions.stores import RedisStore
from wsgi_sessions.stores.redis import scripts
from wsgi_sessions.stores.redis import store as module
from wsgi_sessions.stores.redis.settings import WAIT_MS

UPDATED, GONE, CONFLICT = UpdateResult.UPDATED, UpdateResult.GONE, UpdateResult.CONFLICT
GONE_AWAY = redis.ConnectionError("gone away")
REFUSED = redis.ResponseError("no")
NO_SCRIPT = redis.exceptions.NoScriptError("NOSCRIPT")
KEY, OTHER = "3f" * 32, "5d" * 32
NAME, OTHER_NAME = b"session:" + KEY.encode(), b"session:" + OTHER.encode()
SCANNED = [b"0", [NAME]]
HEAD = b"1 0 0.5 1.0 - notes"


def store_of(*answers: Any, wait: Any = None) -> RedisStore:
    """A store whose client gives these answers, one for each command."""
    return RedisStore(Client(*answers), wait_replicas=wait)


def sent(store: RedisStore) -> list[Any]:
    return list(store.client.connection.sent)


def told_of(store: RedisStore) -> tuple[RedisStore, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []

    def tell(kind: str, key: str, detail: str) -> None:
        assert detail == "the key holds something other than a session record"
        told.append((kind, key))

    store.subscribe(tell)
    return store, told


@pytest.mark.parametrize(
    ("operation", "work", "answers"),
    [
        ("load", lambda store: store.load(KEY), [GONE_AWAY, GONE_AWAY]),
        ("insert", lambda store: store.insert(KEY, a_record()), [GONE_AWAY]),
        ("insert", lambda store: store.insert(KEY, a_record()), [NO_SCRIPT, GONE_AWAY]),
        ("update", lambda store: store.update(KEY, Changes(notes=b"")), [GONE_AWAY]),
        ("update", lambda store: store.update(KEY, Changes(used_at=NOW)), [GONE_AWAY]),
        ("update", lambda store: store.update(KEY, Changes()), [GONE_AWAY, GONE_AWAY]),
        ("update", lambda store: store.update(KEY, Changes(), if_epoch=1), [GONE_AWAY, GONE_AWAY]),
        ("delete", lambda store: store.delete(KEY), [GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [GONE_AWAY, GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [SCANNED, GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [SCANNED, HEAD, GONE_AWAY]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [SCANNED, REFUSED]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [SCANNED, HEAD, REFUSED, 1]),
        ("purge_expired", lambda store: store.purge_expired(NOW), [SCANNED, HEAD, b"sha", REFUSED]),
        ("keys", lambda store: list(store.keys()), [GONE_AWAY, GONE_AWAY]),
        ("clear", lambda store: store.clear(), [GONE_AWAY, GONE_AWAY]),
        ("clear", lambda store: store.clear(), [SCANNED, GONE_AWAY]),
        ("clear", lambda store: store.clear(), [SCANNED, REFUSED]),
        ("ping", lambda store: store.ping(), [GONE_AWAY, GONE_AWAY]),
        ("info", lambda store: store.command("INFO"), [GONE_AWAY]),
    ],
)
def test_an_error_names_what_was_asked_for_at_each_step(
    operation: str, work: Callable[[RedisStore], object], answers: list[Any]
) -> None:
    """And what changes nothing is asked twice, all else once."""
    store = store_of(*answers)

    reason = rf"\({operation}\): (ConnectionError: gone away|ResponseError: no)$"
    with pytest.raises(StoreError, match=reason) as caught:
        work(store)
    assert caught.value.operation == operation
    assert store.client.connection.answers == []


class TestWaiting:
    @pytest.mark.parametrize(
        ("given", "command"),
        [
            (1, (b"WAIT", b"1", b"%d" % WAIT_MS)),
            ((2, 50), (b"WAIT", b"2", b"50")),
            (None, None),
        ],
    )
    def test_how_many_and_how_long(self, given: Any, command: Any) -> None:
        store = store_of(1, 2, wait=given)

        assert store.delete(KEY) is True
        assert sent(store)[1:] == ([] if command is None else [command])

    @pytest.mark.parametrize(
        ("work", "waits"),
        [
            (lambda store: store.delete(KEY), True),
            (lambda store: store.update(KEY, Changes(epoch=2)), True),
            (lambda store: store.update(KEY, Changes(notes=b"")), False),
            (lambda store: store.insert(KEY, a_record()), False),
        ],
        ids=["an end", "a change of privilege", "another change", "a beginning"],
    )
    def test_for_what(self, work: Callable[[RedisStore], object], waits: bool) -> None:
        store = store_of(1, 1, wait=1)

        work(store)
        assert [command[0] for command in sent(store)] == [b"EVALSHA", *[b"WAIT"] * waits]

    def test_too_few_are_an_error(self) -> None:
        store = store_of(1, 0, wait=1)

        with pytest.raises(
            StoreError, match=r"^0 of 1 replicas had the change after 500 ms; the primary has it$"
        ) as caught:
            store.update(KEY, Changes(epoch=1))
        assert caught.value.operation == "update"

    @pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "1", (1,), (1, 0), (0, 1), (1, 2, 3)])
    def test_what_else_is_written_is_refused_with_an_example(self, wrong: Any) -> None:
        with pytest.raises(
            ConfigurationError, match=r"wait_replicas is .*; write .* such as \(1, \d+\)"
        ):
            store_of(wait=wrong)


class TestCommands:
    """As they are documented, so that an access list may name them."""

    def test_purging_looks_first_and_has_the_script_decide(self) -> None:
        store = store_of(
            [b"0", [NAME, OTHER_NAME, b"session:other"]], HEAD, b"1 0 0.5 9.0 - ", b"sha", 1
        )

        assert store.purge_expired(2.0) == 1
        page = b"%d" % module._PAGE
        assert sent(store) == [
            (b"SCAN", b"0", b"MATCH", b"session:*", b"COUNT", page, b"TYPE", b"hash"),
            (b"HGET", NAME, b"h"),
            (b"HGET", OTHER_NAME, b"h"),
            (b"SCRIPT", b"LOAD", scripts.DELETE_EXPIRED.text),
            (b"EVALSHA", scripts.DELETE_EXPIRED.sha, b"1", NAME, b"2.0"),
        ]

    def test_a_record_is_sent_with_its_time_to_live(self) -> None:
        store = store_of(1)
        record = a_record(owner="ada", epoch=4, version=2)

        store.insert(KEY, record)
        head = b"2 4 1700000000.0 1700001000.0 3 adanotes"
        assert sent(store) == [
            (b"EVALSHA", scripts.INSERT.sha, b"1", NAME, b"1060000", b"h", head, b"f:a", b"1")
        ]

    def test_a_change_sends_what_changed(self) -> None:
        store = store_of(1, 1, 1, 1, 1, 1)
        everything = Changes(
            {"a": b"1"}, frozenset({"b"}), None, b"notes", 1.0, 2.0, owner="ada", epoch=4
        )

        store.update(KEY, everything, if_epoch=3, if_version=7)
        store.update(KEY, Changes(owner=None, keep=frozenset({"b", "c"}), delete=frozenset({"b"})))
        store.update(KEY, Changes(keep=frozenset()))
        store.update(KEY, Changes(used_at=1.0, expires_at=2.0))
        store.update(KEY, Changes(), if_epoch=3)
        store.update(KEY, Changes())
        run = (b"EVALSHA", scripts.UPDATE.sha, b"1", NAME)
        assert sent(store) == [
            (*run, b"7", b"3", b"1.0", b"2.0", b"4", b"=ada", b"=notes")
            + (b"-", b"1", b"f:b", b"f:a", b"1"),
            (*run, b"", b"", b"", b"", b"", b"-", b"", b"+", b"1", b"f:c"),
            (*run, b"", b"", b"", b"", b"", b"", b"", b"+", b"0"),
            (*run, b"", b"", b"1.0", b"2.0"),
            (*run, b"", b"3", b"", b""),
            (b"EXISTS", NAME),
        ]

    def test_any_other_command_is_sent_as_it_is(self) -> None:
        store = store_of(b"used_memory:1", 1)

        assert store.command("INFO", "memory") == b"used_memory:1"
        assert store.command(b"WAIT", 1, b"2") == 1
        assert sent(store) == [(b"INFO", b"memory"), (b"WAIT", b"1", b"2")]

    def test_clearing_removes_what_is_ours(self) -> None:
        names = [NAME, b"session:other", b"session:\xff", NAME + b"0", b"x" + NAME]
        store = store_of([b"0", names], 1)

        store.clear()
        assert sent(store)[1:] == [(b"UNLINK", NAME)]

    def test_a_sign_of_life(self) -> None:
        store = store_of(b"PONG")

        store.ping()
        assert sent(store) == [(b"PING",)]

    def test_a_server_that_has_forgotten_the_scripts_is_told_them(self) -> None:
        store = store_of(NO_SCRIPT, 1)

        assert store.delete(KEY) is True
        assert sent(store) == [
            (b"EVALSHA", scripts.DELETE.sha, b"1", NAME, b""),
            (b"EVAL", scripts.DELETE.text, b"1", NAME, b""),
        ]

    def test_and_then_waits_for_replicas_all_the_same(self) -> None:
        store = store_of(NO_SCRIPT, 0, 1, 0, wait=1)

        with pytest.raises(StoreError, match=r"^0 of 1 replicas"):
            store.delete(KEY)
        assert [command[0] for command in sent(store)] == [b"EVALSHA", b"WAIT", b"EVAL", b"WAIT"]


class TestAnswers:
    def test_nothing_is_no_damage(self) -> None:
        nothing: list[Any] = [[], {}]
        for answer in nothing:
            store, told = told_of(store_of(answer))

            assert store.load(KEY) is None
            assert told == []

    @pytest.mark.parametrize("shape", [list, dict])
    def test_a_hash_comes_as_a_list_or_as_a_map(self, shape: type) -> None:
        parts = {b"h": b"2 4 1700000000.0 1700001000.0 3 adanotes", b"f:a": b"1"}
        pairs = [part for item in parts.items() for part in item]

        record = store_of(parts if shape is dict else pairs).load(KEY)

        assert record == a_record(owner="ada", epoch=4, version=2)

    @pytest.mark.parametrize(
        ("state", "result"),
        [
            (scripts.DONE, UPDATED),
            (scripts.GONE, GONE),
            (scripts.CONFLICT, CONFLICT),
            (scripts.DAMAGED, GONE),
        ],
    )
    def test_what_a_script_says(self, state: int, result: UpdateResult) -> None:
        store, told = told_of(store_of(state, state))

        assert store.update(KEY, Changes(notes=b"")) is result
        assert store.delete(KEY) is (result is UPDATED)
        assert told == [("corrupt_record", KEY)] * (2 * (state == scripts.DAMAGED))

    def test_a_key_that_changed_its_type_meanwhile_is_left_alone(self) -> None:
        store = store_of(SCANNED, redis.ResponseError("WRONGTYPE"))

        assert store.purge_expired(NOW) == 0

    def test_what_was_refused_is_said(self) -> None:
        with pytest.raises(StoreError, match=r"\(clear\): ResponseError: NOPERM"):
            store_of(SCANNED, redis.ResponseError("NOPERM")).clear()


class TestWhatIsNotAKey:
    @pytest.mark.parametrize("key", ["x", "", "A" * 64, KEY + "0", "../" + KEY[3:]])
    def test_it_is_absent_and_nobody_is_asked(self, key: str) -> None:
        store = store_of()

        assert store.load(key) is None
        assert store.update(key, Changes(notes=b"")) is GONE
        assert store.delete(key) is False
        with pytest.raises(StoreError, match="not a store key") as caught:
            store.insert(key, a_record())
        assert caught.value.operation == "insert"
        assert sent(store) == []


class Cluster(ClusterClient):
    """One that knows no record, and loses each first answer."""

    def execute_command(self, *command: Any, **options: Any) -> Any:
        super().execute_command(*command, **options)
        if len(self.asked) % 2:
            raise GONE_AWAY
        return [] if command[0] == "HGETALL" else 1


def test_on_a_cluster_each_read_goes_to_the_node_of_its_key_twice_if_need_be() -> None:
    client = Cluster()
    store = RedisStore(client)

    assert store.load(KEY) is None
    assert store.update(KEY, Changes()) is UPDATED
    assert [command[0] for _, command in client.asked] == ["HGETALL"] * 2 + ["EXISTS"] * 2


def test_on_a_cluster_each_script_goes_to_the_node_of_its_key() -> None:
    class Saying(ClusterClient):
        def execute_command(self, *command: Any, **options: Any) -> Any:
            super().execute_command(*command, **options)
            return 1

    plain, waiting = Saying(), ClusterClient(1, 2)

    assert RedisStore(plain).insert(KEY, a_record()) is True
    assert RedisStore(waiting, wait_replicas=1).delete(KEY) is True
    assert [command[0] for _, command in plain.asked] == ["EVALSHA"]
    assert [command[0] for command in waiting.nodes["b"].connection.sent] == [b"EVALSHA", b"WAIT"]


class TestWhatIsSaid:
    def raised(self, error: Exception) -> StoreError:
        with pytest.raises(StoreError) as caught:
            store_of(error, error).ping()
        return caught.value

    def said(self, error: Exception) -> str:
        return str(self.raised(error))

    def test_what_a_server_refused_without_what_it_was_sent(self) -> None:
        error = redis.ResponseError(
            f"unknown command {KEY} 'x', with args beginning with: 'secret'"
        )

        assert self.said(error) == (
            "the Redis server can't do this (ping): ResponseError: unknown command … 'x'"
        )

    def test_a_server_that_cannot_be_reached_is_not_said_to_refuse(self) -> None:
        error = redis.ConnectionError("Error 111 connecting to localhost:1. Connection refused.")

        assert self.said(error) == (
            "the Redis server doesn't answer (ping): ConnectionError: Error 111 connecting to"
            " localhost:1. Connection refused."
        )

    def test_no_more_than_200_characters_of_it(self) -> None:
        told = self.said(redis.ResponseError("no " * 100)).partition("ResponseError: ")[2]

        assert told == ("no " * 100)[:200]

    def test_of_what_the_client_refused_its_kind_alone(self) -> None:
        assert self.said(redis.DataError("Invalid input: 'secret'")) == (
            "the Redis client can't do this (ping): DataError"
        )

    @pytest.mark.parametrize("error", [GONE_AWAY, redis.DataError("secret"), ValueError("secret")])
    def test_nothing_of_the_clients_own_exception_hangs_on_it(self, error: Exception) -> None:
        """Its traceback leads to what was sent, and to the password of the connection."""
        raised = self.raised(error)

        assert (raised.__cause__, raised.__context__) == (None, None)
