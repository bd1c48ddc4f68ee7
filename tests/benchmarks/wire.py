"""What goes over the wire: Redis commands, round trips and bytes of one request.

A proxy on loopback sits between the contender and the server and writes down what passes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import contenders as c
from .cost import begin, place
from .server import Server
from .work import payload, request, send


@dataclass(slots=True)
class Traffic:
    """What passed the proxy."""

    sent: bytearray
    received: int = 0
    round_trips: int = 0

    def row(self, counted: Callable[[bytes], int]) -> dict[str, int]:
        return {
            "commands": counted(bytes(self.sent)),
            "round trips": self.round_trips,
            "sent": len(self.sent),
            "received": self.received,
        }


class Proxy:
    """Hands on connections to a server, and writes down what passes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.traffic = Traffic(bytearray())
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        self.traffic = Traffic(bytearray())

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self._target))
            for source, target, up in ((client, upstream, True), (upstream, client, False)):
                threading.Thread(
                    target=self._hand_on, args=(source, target, up), daemon=True
                ).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        while True:
            try:
                data = source.recv(1 << 20)
            except OSError:
                return
            if not data:
                target.close()
                return
            if up:
                self.traffic.sent += data
                self._asked = True
            else:
                self.traffic.received += len(data)
                # An answer after a question: one round trip, however many packets it takes.
                self.traffic.round_trips += self._asked
                self._asked = False
            target.sendall(data)

    _asked = False


def commands(sent: bytes) -> int:
    """How many commands these bytes are (RESP arrays of bulk strings)."""
    count = at = 0
    while at < len(sent):
        end = sent.index(b"\r\n", at)
        parts = int(sent[at + 1 : end])
        at = end + 2
        for _ in range(parts):
            end = sent.index(b"\r\n", at)
            at = end + 2 + int(sent[at + 1 : end]) + 2
        count += 1
    return count


def traffic(server: Server) -> dict[str, dict[str, dict[str, int]]]:
    """By kind of request, then by contender."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for title, size, fields, actions in (
        ("", 100, 1, ("untouched", "read", "change", "new", "sign-in", "login")),
        (" in a 100 KB session", 100_000, 50, ("read", "change", "add-counter")),
    ):
        proxy = Proxy(server.port)
        with place(server, payload(size, fields)) as where:
            through = replace(where, redis_url=f"redis://127.0.0.1:{proxy.port}/0")
            for name, make in makers().items():
                for action in actions:
                    if action == "login" and name != "ours":
                        continue
                    contender = make(through, "redis")
                    contender.select()
                    # Connections and scripts are there by then, as in production.
                    send(contender.app, request(action, begin(contender)))
                    cookie = None if action in ("untouched", "new") else begin(contender)
                    proxy.reset()
                    send(contender.app, request(action, cookie))
                    table.setdefault(f"{action}{title}", {})[name] = proxy.traffic.row(commands)
        proxy.close()
    return table


def makers() -> dict[str, Any]:
    """Who has sessions in Redis; Django's are left out, as its connections are shared."""
    return {
        "ours": c.ours,
        "minimum": c.minimum,
        "Beaker": c.beaker,
        "Flask-Session": c.flask_session,
    }
