"""A URL names a store; and an app pays only for the store that it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wsgi_sessions import SessionMiddleware, stores
from wsgi_sessions.errors import ConfigurationError
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, store_from_url

PASSWORD = "hunter2"


@pytest.mark.parametrize("url", ["memory://", "MEMORY://", "memory:///"])
def test_memory(url: str) -> None:
    assert isinstance(store_from_url(url), MemoryStore)


def test_a_file_url_names_a_directory(tmp_path: Path) -> None:
    store = store_from_url(f"file://{tmp_path}/a%20b/sessions")

    assert isinstance(store, FileStore)
    assert store.path == tmp_path / "a b" / "sessions"
    assert (tmp_path / "a b" / "sessions").is_dir()


def test_a_file_url_may_name_this_host(tmp_path: Path) -> None:
    store_from_url(f"file://localhost{tmp_path}/sessions").ping()


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("file://var/sessions", "three slashes"),
        ("file://./sessions", "three slashes"),
        ("file://", "three slashes"),
        ("file:///", "three slashes"),
        ("file:///var/sessions?mode=600", "%3F"),
        ("file:///var/sessions#1", "%23"),
        ("file:///var/%00sessions", "path"),
        ("file://[x/a", "can't be read"),
        ("sqlite:////var/\0x", "can't be the path of a file"),
        ("sqlite:////var/\ud800", "can't be the path of a file"),
        ("memory://10", "takes nothing"),
        ("memory", "must begin with a scheme"),
        ("", "must begin with a scheme"),
        ("/var/sessions", "must begin with a scheme"),
        ("redis:localhost", "must begin with a scheme"),
        ("http://localhost", "scheme 'http'"),
        ("mongodb://u:p@h/db", "scheme 'mongodb'"),
        ("://x", "must begin with a scheme"),
        ("a b://x", "must begin with a scheme"),
        (None, "NoneType"),
        (b"memory://", "bytes"),
        (Path("/var/sessions"), "Path"),
    ],
)
def test_what_names_no_store_is_refused_with_a_hint(url: Any, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        store_from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        f"redsi://user:{PASSWORD}@host:6379/0",
        f"user:{PASSWORD}@host:6379/0",
        f"file://user:{PASSWORD}@host/path",
        f"memory://user:{PASSWORD}@host/",
        f"redis://user:{PASSWORD}@host:notaport/0",
        f"redis://user:{PASSWORD}@host:6379/0?no_such_option=1",
        f"redis://user:{PASSWORD}@host:6379/0?prefix=",
        f"postgresql://user:{PASSWORD}@host/db?table=1",
        f"postgresql://user:?table={PASSWORD}@host/db?table=a&table=b",
        f"user:{PASSWORD}@host://x",
        f"redis:user:{PASSWORD}@host",
    ],
)
def test_no_message_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        store_from_url(url)

    shown = str(caught.value)
    assert PASSWORD not in shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redsi://host/0", "the store URL 'redsi://host/0': no store has the URL scheme 'redsi'; "),
        (
            "/var/sessions",
            "the store URL '/var/sessions' must begin with a scheme (for this directory: file:///v",
        ),
        (
            "var/sessions",
            "the store URL 'var/sessions' must begin with a scheme (for this directory: FileStore('",
        ),
        ("redis", "the store URL 'redis' must begin with a scheme; "),
        ("memory://x", "the store URL 'memory://x': memory:// takes nothing after it; "),
        ("file://var/x", "the store URL 'file://var/x': a file:// URL needs an absolute path"),
        ("redsi://:pw", "the store URL: no store has the URL scheme 'redsi'; "),
        ("redsi://h?password=x", "the store URL: no store has the URL scheme 'redsi'; "),
        ("k" * 43, "the store URL must begin with a scheme; "),
    ],
)
def test_what_was_given_is_quoted_where_it_cannot_hold_a_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        store_from_url(url)

    assert str(caught.value).startswith(message)


ALLOWED = (
    "write memory://, file:///absolute/path, redis://host:port/0, rediss://host:port/0,"
    " unix:///path/to/socket, postgresql://user@host/db, mysql://user@host/db,"
    " mariadb://user@host/db or sqlite:////absolute/path.db"
)


@pytest.mark.parametrize("url", ["x://y", "x", 5])
def test_a_url_of_no_store_is_answered_with_what_can_be_written(url: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        store_from_url(url)

    assert str(caught.value).endswith(f"; {ALLOWED}")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://h:1/0", "unix:///s?db=1"])
def test_redis_is_connected_to_when_it_is_used(url: str) -> None:
    store = store_from_url(url)

    assert isinstance(store, RedisStore)
    store.close()


def test_a_store_url_may_name_the_prefix_and_the_table(tmp_path: Path) -> None:
    redis = SessionMiddleware(
        lambda *_: [], secret_key="k" * 32, store="redis://h?prefix=shop:"
    ).store
    database = store_from_url(f"sqlite:///{tmp_path}/sessions.db?table=shop")

    assert repr(redis) == "RedisStore(prefix='shop:')"
    assert repr(database) == "SQLStore(sqlite, table='shop')"
    database.close()


@pytest.mark.parametrize("url", ["memory://X", "memory:///X/", "memory://x://"])
def test_anything_after_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory:// takes nothing after it"):
        store_from_url(url)


def test_no_store_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, wsgi_sessions.stores\n"
        "wsgi_sessions.stores.RedisStore\n"
        "assert not {'redis', 'valkey', 'fcntl'} & set(sys.modules), sys.modules.keys()\n"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("sqlalchemy", "ConfigurationError: SQLStore needs SQLAlchemy 2; run pip install 'wsgi-s"),
        ("sqlalchemy.dialects", "ModuleNotFoundError: import of sqlalchemy.dialects halted"),
    ],
)
def test_a_database_without_sqlalchemy_says_what_to_install(missing: str, says: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from wsgi_sessions.stores import store_from_url\n"
        "store_from_url('sqlite:////x.db')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert says in done.stderr.splitlines()[-1]


def test_help_works_where_a_store_cannot_be_loaded() -> None:
    code = (
        "import pydoc, sys; sys.modules['sqlalchemy'] = None\n"
        "import wsgi_sessions.stores\n"
        "told = pydoc.render_doc(wsgi_sessions.stores)\n"
        "assert 'FileStore' in told and 'class SQLStore' not in told, told\n"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_every_store_can_be_imported_from_one_place() -> None:
    assert set(stores.__all__) <= set(dir(stores))
    assert all(getattr(stores, name) is not None for name in stores.__all__)
    with pytest.raises(AttributeError, match="no attribute 'MongoStore'"):
        stores.MongoStore  # type: ignore[attr-defined]  # noqa: B018 # asking is the test
