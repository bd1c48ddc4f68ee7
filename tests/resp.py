"""A scripted Redis server on loopback: what a real one answers only on a bad day."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import BinaryIO

Reply = Callable[[list[bytes]], bytes | None]

HANG_UP = None
NIL_MAP = b"*0\r\n"
_GREETINGS = (b"CLIENT", b"SELECT", b"PING", b"AUTH")


class ScriptedServer:
    """Answers each command as ``reply`` says; None closes the connection without an answer.

    What a client says of itself when it connects is answered with OK, a PING with PONG; neither is
    counted.
    """

    def __init__(self, reply: Reply, tls: ssl.SSLContext | None = None) -> None:
        self.reply = reply
        self._tls = tls
        self.commands: list[list[bytes]] = []
        """What was asked, in order."""
        self.received = 0
        """How many bytes the commands had, as sent."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._cut: list[socket.socket] = []
        self._frozen = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        scheme = "redis" if self._tls is None else "rediss"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._open)

    def freeze(self) -> None:
        """From now on connections are accepted, and nothing is answered, not even a greeting."""
        self._frozen = True

    def thaw(self) -> None:
        """From now on answers are given again, but not to what came meanwhile."""
        self._frozen = False

    def cut_idle_connections(self) -> None:
        """As an impatient firewall does: what comes over those that are open is never answered."""
        self._cut += self._open

    def close(self) -> None:
        _shut(self._listener, *self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                if self._tls is not None:
                    try:
                        connection = self._tls.wrap_socket(connection, server_side=True)
                    except OSError:  # the client doesn't like the certificate
                        connection.close()
                        continue
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A client may leave in the middle of a command.
        left = contextlib.suppress(OSError, ValueError)
        with connection, connection.makefile("rb") as stream, left:
            while (command := self._read(stream)) is not None:
                if self._frozen or connection in self._cut:
                    continue
                if command[0] in _GREETINGS:
                    connection.sendall(b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")
                    continue
                self.commands.append(command)
                answer = self.reply(command)
                if answer is HANG_UP:
                    return
                connection.sendall(answer)

    def _read(self, stream: BinaryIO) -> list[bytes] | None:
        head = stream.readline()
        if not head:
            return None
        size, parts = len(head), []
        for _ in range(int(head[1:])):
            line = stream.readline()
            content = stream.read(int(line[1:]) + 2)
            size += len(line) + len(content)
            parts.append(content[:-2])
        if parts[0] not in _GREETINGS:
            self.received += size
        return parts


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        # A thread that waits for something from it would otherwise go on waiting, and then, its
        # number having been given anew, take what is another's.
        with contextlib.suppress(OSError):  # it was closed by the other side
            each.shutdown(socket.SHUT_RDWR)
        each.close()


class Forwarder:
    """A ``reply`` that asks a real server, and loses the answers to commands of one's choice."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self._address = address
        self.lose: set[bytes] = set()
        """Names of commands that are carried out, and whose answer is then lost."""

    def __call__(self, command: list[bytes]) -> bytes | None:
        with self._connected() as connection:
            # QUIT has the server close the connection once all of its answer is sent.
            connection.sendall(_packed(command) + _packed([b"QUIT"]))
            with connection.makefile("rb") as stream:
                answer = stream.read().removesuffix(b"+OK\r\n")
        return HANG_UP if command[0] in self.lose else answer

    def _connected(self) -> socket.socket:
        if not isinstance(self._address, str):
            return socket.create_connection(self._address)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        return connection


def _packed(command: list[bytes]) -> bytes:
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in command)
    return b"*%d\r\n%b" % (len(command), parts)


class SilentProxy:
    """Stands between an app and a server until it falls silent: connections that were open then stay
    open, and nothing goes through them any more. New ones work.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        """How many there have been."""
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        self._silent.update(self._open)

    def close(self) -> None:
        _shut(self._listener, *self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self.connections += 1
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._silent:
                    target.sendall(data)
