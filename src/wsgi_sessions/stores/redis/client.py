"""Which clients can be used, judged by what they can do; and a client from a URL."""

from __future__ import annotations

import importlib
import inspect
import math
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ...errors import ConfigurationError
from .connection import Cluster, Server

_SECONDS = 1.0
"""How long a client from a URL waits for a connection, and for an answer."""
_IDLE_SECONDS = 30
"""How long a connection may be idle before it is checked on the next use: firewalls cut idle ones
silently, some after a minute."""
_FORM = "redis://user:password@host:port/0 with special characters percent-encoded"
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}
"""TCP keepalive: seconds of silence until the first probe, seconds in between, and how many."""


def way_to(client: Any) -> Server | Cluster:
    """The connection to this client's server or servers.

    Raises:
        ConfigurationError: it is not a client that can be used.
    """
    if inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
        raise ConfigurationError(
            "RedisStore: client is an asyncio one, and WSGI isn't; give redis.Redis(…) or"
            " valkey.Valkey(…)"
        )
    made = not inspect.isclass(client)
    if made and hasattr(client, "get_node_from_key"):
        way: Server | Cluster = Cluster(client)
    elif made and hasattr(getattr(client, "connection_pool", None), "get_connection"):
        way = Server(client)
    else:
        raise ConfigurationError(
            f"RedisStore: client is of type {type(client).__name__}; give a client object of"
            " redis-py or valkey-py, such as redis.Redis(host='localhost'), or something that"
            " wraps one and is connected to it already, or use RedisStore.from_url"
        )
    if way.caches:
        raise ConfigurationError(
            "RedisStore: client has a cache of its own, and a session that was ended elsewhere"
            " would live on in it; give a client without cache and cache_config"
        )
    return way


def client_from_url(url: object, options: Mapping[str, Any]) -> Any:
    """A client of the library that is installed; it has not connected yet.

    Raises:
        ConfigurationError: the URL or an option is wrong, or no library is installed.
    """
    if not isinstance(url, str) or not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError(
            "RedisStore: the URL must be a str that begins with redis://, rediss:// or unix://;"
            " write redis://host:port/0, rediss://host:port/0 or unix:///path/to/socket"
        )
    library = _library()
    try:
        if not url.startswith("unix://"):
            parts = urlsplit(url)
            _check_port(parts)
            _check_database(unquote(parts.path))
        return _client(library, url, {**_defaults(library, url), **options})
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 # the library's own, and what its parsers let through
        kind = type(error).__name__
    # Not what the error says of the URL, which may hold a password; nor the error as a context.
    names, wrong = ", ".join(sorted(options)), ", ".join(_wrong_options(library, url))
    raise ConfigurationError(
        f"RedisStore: {library.__name__} can't make a client of this URL"
        + (f" because of {wrong} in it" if wrong else "")
        + (f" with the options {names}" if names else "")
        + f" ({kind}); write {_FORM}, and options that the library has, with values that it takes"
    )


def _wrong_options(library: Any, url: str) -> list[str]:
    """The options in the URL that fail by themselves."""
    base, _, query = url.partition("?")
    if "@" in query:
        # Probably this is what follows a question mark in a password.
        return []
    wrong: list[str] = []
    for option in ("", *query.split("&")):
        try:
            _client(library, f"{base}?{option}", _defaults(library, base))
        except Exception:  # noqa: BLE001 # as above
            if not option:
                # So it isn't, or not only, an option.
                return []
            wrong.append(repr(option.partition("=")[0]))
    return wrong


def _check_port(url: SplitResult) -> None:
    with suppress(ValueError):
        url.port  # noqa: B018 # raises it
        return
    # Not with that error as a context: what was taken for a port may be part of a password.
    raise ConfigurationError(
        f"RedisStore: the URL's port isn't a number from 0 to 65535; write {_FORM}"
    )


def _check_database(path: str) -> None:
    # Of any other path, the libraries make database 0, or that of another number.
    if not re.fullmatch(r"/?|/[0-9]+/?", path):
        raise ConfigurationError(
            "RedisStore: the URL's path isn't the number of a database; write redis://host:port/0,"
            " or leave it out"
        )


def _client(library: Any, url: str, settings: dict[str, Any]) -> Any:
    client_class = library.Redis if library.__name__ == "redis" else library.Valkey
    client = client_class.from_url(url, **settings)
    pool = client.connection_pool
    # Makes a connection object, which connects to nothing yet, because an option that doesn't
    # exist would be found no sooner.
    connection = pool.connection_class(**pool.connection_kwargs)
    if url.startswith("rediss://"):
        # Not every version checks the host's name by default, nor gives that up where the
        # certificate isn't verified, as hosting companies tell their customers to set.
        pool.connection_kwargs.setdefault(
            "ssl_check_hostname", connection.cert_reqs != ssl.CERT_NONE
        )
    return client


def _defaults(library: Any, url: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "socket_timeout": _SECONDS,
        "socket_connect_timeout": _SECONDS,
        "health_check_interval": _IDLE_SECONDS,
        f"{library.__name__}_connect_func": _greet,
        "retry": _one_retry(library),
        # Enough here, and one command less for each new connection.
        "protocol": 2,
    }
    if not url.startswith("unix://"):
        settings["socket_keepalive"] = True
        settings["socket_keepalive_options"] = {
            getattr(socket, name): value
            for name, value in _KEEPALIVE.items()
            if hasattr(socket, name)
        }
    return settings


def _greet(connection: Any) -> None:
    """What a connection does first, without the check of its health.

    A new one needs none; and the libraries, which have it in the middle of connecting, try it with
    the retries for connecting, valkey-py again and again.
    """
    connection.next_health_check = math.inf  # the next answer sets it
    connection.on_connect()


def _library() -> Any:
    for name in ("redis", "valkey"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ConfigurationError(
        "RedisStore needs redis-py or valkey-py; run pip install 'wsgi-sessions[redis]' or"
        " pip install 'wsgi-sessions[valkey]'"
    )


def _one_retry(library: Any) -> Any:
    """Only for connecting and for the health check: commands don't go through it."""
    backoff = importlib.import_module(f"{library.__name__}.backoff").NoBackoff()
    return importlib.import_module(f"{library.__name__}.retry").Retry(backoff, 1)
