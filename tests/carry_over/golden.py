"""Old sessions that the real libraries made once, kept beside the tests: tests/data/carry_over.json.

With them `make test` reads every format without installing any old system. To make them anew (it
needs the old worlds and a Redis-compatible server):

    PYTHONPATH=src:tests python -m carry_over.golden
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import servers
from carry_over import old
from wsgi_sessions.carry_over import Beaker, Django, Express, FlaskCookie, FlaskSession, Source

FILE = Path(__file__).parent.parent / "data" / "carry_over.json"
SECRET = "the old app's secret"
_SQLITE = "django.db.backends.sqlite3"
_BACKENDS = "django.contrib.sessions.backends"


@dataclass(frozen=True)
class Place:
    """Where a session's record is: a directory and a server, of which it uses one or none."""

    directory: Path
    redis_url: str

    @property
    def files(self) -> str:
        return f"file://{self.directory}"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.directory}/db"


@dataclass(frozen=True)
class Case:
    """One format: how the old world is set up, and how we are to read it."""

    system: str
    sample: str
    options: Callable[[Place], dict[str, Any]]
    source: Callable[[Place], Source]
    eras: tuple[str, ...] = old.ERAS


def _beaker(**config: Any) -> dict[str, Any]:
    return {"config": {"secret": SECRET, "timeout": 3600, **config}}


def _django(engine: str, **config: Any) -> dict[str, Any]:
    config = {"SESSION_ENGINE": f"{_BACKENDS}.{engine}", "DATABASES": {}, **config}
    return {"config": config, "secret": SECRET}


CASES = {
    "beaker-pickle": Case(
        "beaker",
        "RICH",
        lambda place: _beaker(type="file", data_dir=str(place.directory)),
        lambda place: Beaker(place.files, SECRET, 3600),
    ),
    "beaker-json": Case(
        "beaker",
        "PLAIN",
        lambda place: _beaker(type="file", data_dir=str(place.directory), data_serializer="json"),
        lambda place: Beaker(place.files, SECRET, 3600),
    ),
    "beaker-redis": Case(
        "beaker",
        "RICH",
        lambda place: _beaker(type="ext:redis", url=place.redis_url),
        lambda place: Beaker(place.redis_url, SECRET, 3600),
    ),
    "flask-session-msgpack": Case(
        "flask-session",
        "PLAIN",
        lambda place: {"config": {"SESSION_TYPE": "redis"}, "redis": place.redis_url},
        lambda place: FlaskSession(place.redis_url),
        ("today",),
    ),
    "flask-session-pickle": Case(
        "flask-session",
        "RICH",
        lambda place: {
            "config": {"SESSION_TYPE": "redis", "SESSION_USE_SIGNER": True},
            "secret": SECRET,
            "redis": place.redis_url,
        },
        lambda place: FlaskSession(place.redis_url, SECRET),
        ("then",),
    ),
    "flask-session-json": Case(
        "flask-session",
        "PLAIN",
        lambda place: {
            "config": {"SESSION_TYPE": "redis", "SESSION_SERIALIZATION_FORMAT": "json"},
            "redis": place.redis_url,
        },
        lambda place: FlaskSession(place.redis_url),
        ("today",),
    ),
    "flask-session-files": Case(
        "flask-session",
        "RICH",
        lambda place: {
            "config": {"SESSION_TYPE": "filesystem", "SESSION_FILE_DIR": str(place.directory)}
        },
        lambda place: FlaskSession(place.files),
    ),
    "flask-cookie": Case(
        "flask-cookie",
        "TAGGED",
        lambda place: {"config": {}, "secret": SECRET},
        lambda place: FlaskCookie(SECRET),
    ),
    "django-db": Case(
        "django",
        "PLAIN",
        lambda place: _django(
            "db",
            DATABASES={"default": {"ENGINE": _SQLITE, "NAME": str(place.directory / "made")}},
        ),
        lambda place: Django(place.database, SECRET),
    ),
    "django-cache": Case(
        "django",
        "RICH",
        lambda place: _django(
            "cache",
            CACHES={
                "default": {
                    "BACKEND": "django.core.cache.backends.redis.RedisCache",
                    "LOCATION": place.redis_url,
                }
            },
        ),
        lambda place: Django(place.redis_url, SECRET, "cache"),
    ),
    "django-file": Case(
        "django",
        "PLAIN",
        lambda place: _django("file", SESSION_FILE_PATH=str(place.directory)),
        lambda place: Django(place.files, SECRET, "file"),
    ),
    "django-cookie": Case(
        "django",
        "PLAIN",
        lambda place: _django("signed_cookies"),
        lambda place: Django(None, SECRET, "signed_cookies"),
    ),
    "express-redis": Case(
        "express",
        "PLAIN",
        lambda place: {"store": "redis", "url": place.redis_url, "secret": SECRET},
        lambda place: Express(place.redis_url, SECRET),
    ),
}


@dataclass(frozen=True)
class Golden:
    """One kept session: its cookie, and what lay in its store."""

    case: str
    era: str
    cookie: str
    made_at: float
    files: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    rows: list[list[Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.case}-{self.era}"

    @property
    def pickles(self) -> list[bytes]:
        """Those in its store, without what cachelib puts before them."""
        contents = [
            base64.b64decode(content) for content in (*self.files.values(), *self.keys.values())
        ]
        return [
            content[start:]
            for content in contents
            for start in (0, 4)
            if content[start : start + 1] == b"\x80"
        ]

    def put_back(self, place: Place, client: Any) -> Source:
        """The source of a store in which it lies again."""
        for name, content in self.files.items():
            path = place.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(content))
            os.utime(path, (self.made_at, self.made_at))
        for name, content in self.keys.items():
            client.set(name, base64.b64decode(content), ex=3600)
        if self.rows:
            with sqlite3.connect(place.directory / "db") as database:
                database.execute(
                    "CREATE TABLE django_session"
                    " (session_key PRIMARY KEY, session_data TEXT, expire_date DATETIME)"
                )
                database.executemany("INSERT INTO django_session VALUES (?, ?, ?)", self.rows)
            database.close()
        return CASES[self.case].source(place)


def kept() -> list[Golden]:
    return [Golden(**one) for one in json.loads(FILE.read_text("utf-8"))]


def _make(name: str, era: str, redis_url: str, client: Any) -> Golden:
    from carry_over.worlds import sample

    case = CASES[name]
    client.flushall()
    with tempfile.TemporaryDirectory() as directory:
        place = Place(Path(directory), redis_url)
        options = case.options(place)
        values: Any = sample.PLAIN if case.system == "express" else case.sample
        session = old.make(case.system, era, sample=values, **options)
        assert session.live == "42"
        files = {
            path.relative_to(directory).as_posix(): base64.b64encode(path.read_bytes()).decode()
            for path in sorted(Path(directory).rglob("*"))
            if path.is_file() and path.suffix != ".lock" and path.name != "made"
        }
        rows: list[list[Any]] = []
        if (place.directory / "made").exists():
            with sqlite3.connect(place.directory / "made") as database:
                found = database.execute(
                    "SELECT session_key, session_data, expire_date FROM django_session"
                )
                rows = [list(row) for row in found]
            database.close()
    keys = {
        key.decode(): base64.b64encode(client.get(key) or b"").decode()
        for key in client.keys("*")
        if client.type(key) == b"string"
    }
    return Golden(name, era, session.cookie, session.made_at, files, keys, rows)


def main() -> None:
    with servers.running(min(servers.binaries().values())) as server:
        url = f"redis://127.0.0.1:{server.port}"
        made = [
            _make(name, era, url, server.client())
            for name, case in CASES.items()
            for era in case.eras
        ]
    FILE.write_text(json.dumps([asdict(one) for one in made], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
