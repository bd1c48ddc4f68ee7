"""How long a client of redis-py or valkey-py waits: briefly for what must fail, long for all else.

A machine may stand still for seconds, and a limit that ends then decides what it wasn't meant to.
"""

from __future__ import annotations

from typing import Any

LONG, BRIEFLY = 60.0, 0.2
"""Seconds."""


def wait(seconds: float, client: Any) -> None:
    """From now on this client waits so long, over its connections and over new ones."""
    pool = client.connection_pool
    pool.connection_kwargs.update(socket_timeout=seconds, socket_connect_timeout=seconds)
    for connection in pool._available_connections:
        connection.socket_timeout = connection.socket_connect_timeout = seconds
    wait_on_open_connections(seconds, client)


def wait_on_open_connections(seconds: float, client: Any) -> None:
    """From now on it waits so long over those that are open, until they are made anew."""
    for connection in client.connection_pool._available_connections:
        if connection._sock is None:
            continue
        connection._sock.settimeout(seconds)
        # The parser, which puts the limit back after each look, has a copy of it.
        parser = connection._parser
        if hasattr(parser, "_socket_timeout"):
            parser._socket_timeout = seconds
        else:
            parser._buffer.socket_timeout = seconds
