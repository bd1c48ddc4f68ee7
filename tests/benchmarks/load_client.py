"""Clients of a real server: so many keep-alive connections, each with one request under way.

One thread sends and receives for all of them; the next request goes out as soon as an answer is
complete. It knows as much of HTTP as the answers of `load_app` take.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from .work import NAME

_COOKIE = re.compile(rb"\r\nset-cookie: *(%b=[^;\r]*)" % NAME.encode(), re.IGNORECASE)
_PATIENCE = 30.0
"""Seconds without any answer after which the server is given up."""


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    headers: bytes
    body: bytes


@dataclass(slots=True)
class Browser:
    """A client's cookie, which goes with each of its requests; None: it has none yet."""

    cookie: str | None = None

    def request(self, action: str) -> bytes:
        lines = [f"GET /{action} HTTP/1.1", "Host: localhost", "User-Agent: bench", "Accept: */*"]
        if self.cookie is not None:
            lines.append(f"Cookie: _ga=GA1.2.1234.5678; {self.cookie}; theme=dark")
        return "\r\n".join([*lines, "", ""]).encode()

    def hear(self, answer: Answer) -> None:
        """Keep the cookie that came with it, if one did."""
        found = _COOKIE.search(answer.headers)
        if found is not None:
            self.cookie = found[1].decode()


@dataclass(slots=True)
class Seen:
    """What all answers together were like."""

    seconds: list[float] = field(default_factory=list)
    """How long each took, from its request's first byte to the last of its answer."""
    refused: int = 0
    """Answers with a status other than 200."""


class _Connection:
    """Opened with its first request: some servers hold a thread for one that says nothing yet."""

    def __init__(self, port: int, browser: Browser, action: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.ask(browser, action)

    def ask(self, browser: Browser, action: str) -> None:
        self.browser = browser
        request = browser.request(action)
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> Answer | None:
        """Read what is there; the answer, once it is complete."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed a connection that it was to keep")
        self.received += data
        answer = complete(self.received)
        if answer is not None:
            self.received = b""
        return answer


def complete(received: bytes) -> Answer | None:
    """The answer that these bytes are; None while some are missing."""
    head, found, rest = received.partition(b"\r\n\r\n")
    if not found:
        return None
    lower = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lower:
        if not rest.endswith(b"0\r\n\r\n"):
            return None
        body = b"".join(_chunks(rest))
    else:
        _, _, length = lower.partition(b"\r\ncontent-length: ")
        if len(rest) < int(length.partition(b"\r\n")[0]):
            return None
        body = rest
    return Answer(int(head[9:12]), head, body)


def _chunks(rest: bytes) -> Iterator[bytes]:
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return
        yield rest[:length]
        rest = rest[length + 2 :]


class Clients:
    """As many connections to a server as were ever used at once, until `close`."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._limit = connections
        self._connections: list[_Connection] = []
        self._selector = selectors.DefaultSelector()

    def close(self) -> None:
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()

    def ask(self, browser: Browser, action: str) -> Answer:
        """One request, with nothing else under way."""
        connection = self._send(0, browser, action)
        while (answer := connection.receive()) is None:
            pass
        browser.hear(answer)
        return answer

    def run(self, requests: Iterable[tuple[Browser, str]]) -> Seen:
        """Send all of these, as many at once as there may be connections."""
        waiting = iter(requests)
        seen = Seen()
        under_way = 0
        for browser, action in islice(waiting, self._limit):
            self._send(under_way, browser, action)
            under_way += 1
        while under_way:
            ready = self._selector.select(_PATIENCE)
            if not ready:
                raise TimeoutError(f"{under_way} requests without an answer")
            for key, _ in ready:
                connection: _Connection = key.data
                answer = connection.receive()
                if answer is None:
                    continue
                seen.seconds.append(time.perf_counter() - connection.sent_at)
                seen.refused += answer.status != 200
                connection.browser.hear(answer)
                request = next(waiting, None)
                if request is None:
                    under_way -= 1
                else:
                    connection.ask(*request)
        return seen

    def _send(self, number: int, browser: Browser, action: str) -> _Connection:
        if number < len(self._connections):
            connection = self._connections[number]
            connection.ask(browser, action)
            return connection
        connection = _Connection(self._port, browser, action)
        self._connections.append(connection)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection
