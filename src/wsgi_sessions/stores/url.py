"""A store named by a URL, so that a config file can choose it. Opens nothing by itself."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError
from .base import Store

_SCHEME = r"[a-z][a-z0-9+.-]{0,30}"
_PATH = r"[\w.-]*/[\w./-]*"
_HARMLESS = r"[\w.+/-]*(://[\w./-]*)?"
_DATABASES = frozenset({"postgresql", "postgres", "mysql", "mariadb", "sqlite"})
_ALLOWED = (
    "write memory://, file:///absolute/path, redis://host:port/0, rediss://host:port/0,"
    " unix:///path/to/socket, postgresql://user@host/db, mysql://user@host/db,"
    " mariadb://user@host/db or sqlite:////absolute/path.db"
)


def store_from_url(url: str, *, create: bool = True) -> Store:
    """The store that a URL names: ``memory://``, ``file:///absolute/path``, ``redis://…``,
    ``rediss://…`` or ``unix://…`` (see `RedisStore.from_url` for what these can say),
    ``postgresql://…``, ``mysql://…``, ``mariadb://…`` or ``sqlite:////absolute/path.db`` (see
    `SQLStore.from_url`). Redis keys of another prefix, and another table, are named in the query:
    ``?prefix=shop:session:``, ``?table=shop_sessions``.

    Args:
        url: as above.
        create: False: a directory, a SQLite file or a database's table that is missing is a
            StoreError, and isn't created. With Redis there is nothing to create.

    Raises:
        ConfigurationError: the URL doesn't name a store. The message shows the URL only if there
            can't be a password in it.
        StoreError: with ``create=False``, what it names isn't there.
    """
    scheme, found, rest = _text(url).partition("://")
    match scheme.lower() if found else None:
        case "memory":
            return _memory(url, rest)
        case "file":
            return _file(url, create=create)
        case "redis" | "rediss" | "unix":
            from .redis import RedisStore  # noqa: PLC0415 # an app pays only for its own store

            return RedisStore.from_url(url)
        case str(name) if name.partition("+")[0] in _DATABASES:
            return _sql(url, create=create)
        case str(other) if re.fullmatch(_SCHEME, other):
            raise ConfigurationError(
                f"{_named(url)}: no store has the URL scheme {other!r}; {_ALLOWED}"
            )
        case _:
            raise ConfigurationError(
                f"{_named(url)} must begin with a scheme{_path_hint(url)}; {_ALLOWED}"
            )


def needs_schema(url: str) -> bool:
    """Whether the store that a URL names keeps sessions in a table; True if it names none."""
    scheme = url.partition("://")[0].lower()
    return scheme not in {"memory", "file", "redis", "rediss", "unix"}


def _text(url: object) -> str:
    if isinstance(url, str):
        return url
    raise ConfigurationError(
        f"a store URL is a str, and this is of type {type(url).__name__}; {_ALLOWED}"
    )


def _named(url: str) -> str:
    """The URL for a message, itself if there can't be a password or a key in it."""
    shown = re.fullmatch(_HARMLESS, url) and ("/" in url or len(url) < 20)
    return f"the store URL {url!r}" if shown else "the store URL"


def _path_hint(url: str) -> str:
    if re.fullmatch(_PATH, url) is None:
        return ""
    if url.startswith("/"):
        return f" (for this directory: file://{url})"
    return f" (for this directory: FileStore({url!r}), or file:/// and its absolute path)"


def _memory(url: str, rest: str) -> Store:
    from .memory import MemoryStore  # noqa: PLC0415 # an app pays only for its own store

    if rest.strip("/"):
        raise ConfigurationError(
            f"{_named(url)}: memory:// takes nothing after it; write memory://"
        )
    return MemoryStore()


def _sql(url: str, *, create: bool) -> Store:
    try:
        from .sql import SQLStore  # noqa: PLC0415 # it needs SQLAlchemy
    except ModuleNotFoundError as error:
        if error.name != "sqlalchemy":
            raise
        problem = str(error)
    else:
        return SQLStore.from_url(url, create=create)
    raise ConfigurationError(problem)


def _file(url: str, *, create: bool) -> Store:
    path = _file_path(url)
    if create:
        from .file import FileStore  # noqa: PLC0415 # an app pays only for its own store

        return FileStore(path)
    from .file.existing import ExistingFiles  # noqa: PLC0415 # an app pays only for its own store

    return ExistingFiles(path)


def _file_path(url: str) -> str:
    try:
        parts = urlsplit("file" + url[url.index("://") :])
    except ValueError as error:
        raise ConfigurationError(
            f"{_named(url)}: this file:// URL can't be read: {error}"
        ) from None
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"{_named(url)}: a file:// URL takes a path and nothing else; write ? as %3F and # as"
            " %23, or use FileStore(path) for its options"
        )
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise ConfigurationError(
            f"{_named(url)}: a file:// URL needs an absolute path, with three slashes:"
            " file:///var/lib/app/sessions; for a relative one use FileStore(path)"
        )
    return unquote(parts.path)
