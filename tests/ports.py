"""Ports of loopback for servers that can't be told to take any port that is free."""

from __future__ import annotations

import atexit
import socket
import sys


def free_port() -> int:
    """A port that nobody listens on, and that no other process is given while this one lives.

    The socket that found it stays bound. Linux lets a server listen beside a socket that doesn't,
    if both allow it with SO_REUSEADDR, as servers do; and it gives such a port to nobody who asks
    for any. So tests of other processes don't get the port between now and when the server
    starts, nor while the server is down on purpose.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    if sys.platform == "linux":
        atexit.register(held.close)  # which keeps it until then
    else:
        held.close()
    return port
