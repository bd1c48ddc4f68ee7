"""Sessions that the real libraries made, of today and of two years ago, are read as they were."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy

from carry_over import old
from carry_over.worlds import sample
from wsgi_sessions.carry_over import (
    Beaker,
    Django,
    Express,
    FlaskCookie,
    FlaskSession,
    Found,
    Source,
)

if TYPE_CHECKING:
    from databases import DatabaseServer

pytestmark = pytest.mark.programs

DAY = 86400.0
SECRET = "the old app's secret"


def check(
    source: Source, session: old.OldSession, values: dict[str, Any], *, ends_in: float | None
) -> Found:
    """It was live there; here it is the same, once, until it ended there, and gone when deleted."""
    assert session.live == "42"
    assert session.name == source.cookie
    found = source.find(session.cookie, time.time())
    assert type(found) is Found
    assert {name: found.fields[name] for name in values} == values
    assert {name: type(found.fields[name]) for name in values} == {
        name: type(value) for name, value in values.items()
    }
    if ends_in is None:
        assert found.expires_at is None
    else:
        assert found.expires_at is not None
        assert found.expires_at == pytest.approx(session.made_at + ends_in, abs=30)
        assert source.find(session.cookie, found.expires_at + 1) is None
    for place in range(len(session.cookie)):
        changed = "A" if session.cookie[place] != "A" else "B"
        forged = session.cookie[:place] + changed + session.cookie[place + 1 :]
        assert source.find(forged, time.time()) is None
    return found


def check_listed(source: Source, session: old.OldSession, found: Found) -> None:
    assert source.count() == 1
    (listed,) = source.survey(time.time())
    assert type(listed) is Found
    assert listed.fields == found.fields

    source.delete(found.old_id)

    assert source.find(session.cookie, time.time()) is None
    assert source.count() == 0


@pytest.mark.usefixtures("old_python")
class TestBeaker:
    @pytest.mark.parametrize("serializer", ["pickle", "json"])
    @pytest.mark.parametrize("secret", [SECRET, None])
    def test_in_files(self, era: str, serializer: str, secret: str | None, tmp_path: Path) -> None:
        values = sample.PLAIN if serializer == "json" else sample.RICH
        config = {"type": "file", "data_dir": str(tmp_path), "data_serializer": serializer}
        if secret is not None:
            config["secret"] = secret
        session = old.make(
            "beaker",
            era,
            sample="PLAIN" if serializer == "json" else "RICH",
            config={**config, "timeout": 3600},
        )

        source = Beaker(f"file://{tmp_path}", secret, 3600, owner="user_id")

        found = check(source, session, values, ends_in=3600)
        assert found.fields == values
        assert found.owner == "42"
        assert found.created_at == pytest.approx(session.made_at, abs=30)
        assert found.used_at == found.created_at
        check_listed(source, session, found)

    def test_in_a_directory_of_its_own(self, tmp_path: Path) -> None:
        config = {"type": "file", "file_dir": str(tmp_path), "lock_dir": str(tmp_path / "locks")}
        session = old.make("beaker", "today", sample="RICH", config=config)

        check(Beaker(f"file://{tmp_path}"), session, sample.RICH, ends_in=None)

    @pytest.mark.parametrize("timeout", [3600, None])
    def test_in_redis(self, era: str, timeout: int | None, redis_url: str) -> None:
        config = {"type": "ext:redis", "url": redis_url, "secret": SECRET, "timeout": timeout}
        session = old.make("beaker", era, sample="RICH", config=config)

        source = Beaker(redis_url, ["a newer one", SECRET], timeout)

        found = check(source, session, sample.RICH, ends_in=timeout)
        check_listed(source, session, found)

    def test_one_that_was_deleted_is_none(self, era: str, tmp_path: Path) -> None:
        config = {"type": "file", "data_dir": str(tmp_path), "secret": SECRET}
        session = old.make("beaker", era, sample="RICH", config=config, end=True)

        assert session.live == "42"
        assert Beaker(f"file://{tmp_path}", SECRET).find(session.cookie, time.time()) is None


@pytest.mark.usefixtures("old_python")
class TestFlaskSession:
    @pytest.mark.parametrize("signed", [True, False])
    def test_in_redis(self, era: str, signed: bool, redis_url: str) -> None:
        values = "PLAIN" if era == "today" else "RICH"
        config = {"SESSION_TYPE": "redis", "SESSION_USE_SIGNER": signed}
        session = old.make(
            "flask-session", era, sample=values, config=config, secret=SECRET, redis=redis_url
        )

        source = FlaskSession(redis_url, SECRET if signed else None, owner="user_id")

        found = check(source, session, getattr(sample, values), ends_in=31 * DAY)
        assert found.persistent is True
        assert found.owner == "42"
        check_listed(source, session, found)

    def test_as_json_in_redis_under_another_prefix(self, redis_url: str) -> None:
        config = {"SESSION_TYPE": "redis", "SESSION_SERIALIZATION_FORMAT": "json"}
        config["SESSION_KEY_PREFIX"] = "old[*]:"
        session = old.make("flask-session", "today", sample="PLAIN", config=config, redis=redis_url)

        source = FlaskSession(redis_url, prefix="old[*]:")

        check_listed(source, session, check(source, session, sample.PLAIN, ends_in=31 * DAY))

    def test_in_files(self, era: str, tmp_path: Path) -> None:
        config: dict[str, Any] = {"SESSION_TYPE": "filesystem", "SESSION_FILE_DIR": str(tmp_path)}
        config["SESSION_PERMANENT"] = False
        session = old.make("flask-session", era, sample="RICH", config=config)

        source = FlaskSession(f"file://{tmp_path}")

        found = check(source, session, sample.RICH, ends_in=31 * DAY)
        assert found.persistent is False
        check_listed(source, session, found)

    def test_in_cachelib(self, tmp_path: Path) -> None:
        config = {"SESSION_TYPE": "cachelib"}
        session = old.make(
            "flask-session", "today", sample="RICH", config=config, cachelib=str(tmp_path)
        )

        source = FlaskSession(f"file://{tmp_path}")

        check_listed(source, session, check(source, session, sample.RICH, ends_in=31 * DAY))

    def test_one_that_was_cleared_is_none(self, era: str, redis_url: str) -> None:
        session = old.make(
            "flask-session",
            era,
            sample="PLAIN",
            config={"SESSION_TYPE": "redis"},
            redis=redis_url,
            end=True,
        )

        assert session.live == "42"
        assert FlaskSession(redis_url).find(session.cookie, time.time()) is None


@pytest.mark.usefixtures("old_python")
class TestFlaskCookie:
    @pytest.mark.parametrize("permanent", [True, False])
    def test_it(self, era: str, permanent: bool) -> None:
        session = old.make(
            "flask-cookie", era, sample="PLAIN", config={}, secret=SECRET, permanent=permanent
        )

        source = FlaskCookie(["a newer one", SECRET], owner="user_id")

        found = check(source, session, sample.PLAIN, ends_in=31 * DAY)
        assert found.fields == sample.PLAIN
        assert found.persistent is permanent
        assert found.owner == "42"
        assert found.used_at == pytest.approx(session.made_at, abs=30)

    def test_types_that_flask_tags(self, era: str) -> None:
        session = old.make("flask-cookie", era, sample="TAGGED", config={}, secret=SECRET)

        check(FlaskCookie(SECRET), session, sample.TAGGED, ends_in=31 * DAY)


SQLITE = "django.db.backends.sqlite3"


@pytest.mark.usefixtures("old_python")
class TestDjango:
    @pytest.mark.parametrize("engine", ["db", "cached_db"])
    def test_in_a_database(self, era: str, engine: str, tmp_path: Path) -> None:
        file = tmp_path / "site.db"
        config = {
            "DATABASES": {"default": {"ENGINE": SQLITE, "NAME": str(file)}},
            "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        }
        session = old.make(
            "django", era, sample="PLAIN", config=config, secret=SECRET, sign_in=True
        )

        source = Django(f"sqlite:///{file}", ["a newer one", SECRET])

        found = check(source, session, sample.PLAIN, ends_in=14 * DAY)
        assert found.owner == "1"
        assert found.persistent is None
        check_listed(source, session, found)

    def test_in_postgresql(self, era: str, postgresql: DatabaseServer) -> None:
        url = postgresql.new_database()
        parts = sqlalchemy.make_url(url)
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.database,
            "HOST": parts.host,
            "PORT": parts.port,
            "USER": parts.username,
        }
        config = {"DATABASES": {"default": database}, "TIME_ZONE": "America/Lima"}
        session = old.make("django", era, sample="PLAIN", config=config, secret=SECRET)

        source = Django(url, SECRET)

        check_listed(source, session, check(source, session, sample.PLAIN, ends_in=14 * DAY))

    def test_in_a_cache(self, era: str, redis_url: str) -> None:
        backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_url}
        config = {
            "CACHES": {"default": {**backend, "KEY_PREFIX": "site"}},
            "DATABASES": {},
            "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
            "SESSION_SERIALIZER": "django.contrib.sessions.serializers.JSONSerializer",
        }
        session = old.make("django", era, sample="RICH", config=config, expiry=3600)

        source = Django(redis_url, SECRET, "cache", prefix="site:1:", owner="user_id")

        found = check(source, session, sample.RICH, ends_in=3600)
        assert found.persistent is True
        assert found.owner == "42"
        check_listed(source, session, found)

    @pytest.mark.parametrize("expiry", [None, 0, 600])
    def test_in_files(self, era: str, expiry: int | None, tmp_path: Path) -> None:
        config = {
            "DATABASES": {},
            "SESSION_ENGINE": "django.contrib.sessions.backends.file",
            "SESSION_FILE_PATH": str(tmp_path),
            "SESSION_COOKIE_NAME": "site",
        }
        more = {} if expiry is None else {"expiry": expiry}
        session = old.make("django", era, sample="PLAIN", config=config, secret=SECRET, **more)

        source = Django(f"file://{tmp_path}", SECRET, "file", cookie="site")

        found = check(source, session, sample.PLAIN, ends_in=expiry or 14 * DAY)
        assert found.persistent is {None: None, 0: False, 600: True}[expiry]
        check_listed(source, session, found)

    def test_in_signed_cookies(self, era: str) -> None:
        config = {
            "DATABASES": {},
            "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
            "SESSION_COOKIE_AGE": 3600,
        }
        session = old.make("django", era, sample="PLAIN", config=config, secret=SECRET)

        source = Django(None, SECRET, "signed_cookies", max_age=3600)

        check(source, session, sample.PLAIN, ends_in=3600)

    def test_pickled_by_the_serializer_that_django_5_took_out(self, tmp_path: Path) -> None:
        file = tmp_path / "site.db"
        config = {
            "DATABASES": {"default": {"ENGINE": SQLITE, "NAME": str(file)}},
            "SESSION_SERIALIZER": "django.contrib.sessions.serializers.PickleSerializer",
        }
        session = old.make("django", "then", sample="RICH", config=config, secret=SECRET)

        check(Django(f"sqlite:///{file}", SECRET), session, sample.RICH, ends_in=14 * DAY)

    def test_one_that_was_flushed_is_none(self, era: str, tmp_path: Path) -> None:
        file = tmp_path / "site.db"
        config = {"DATABASES": {"default": {"ENGINE": SQLITE, "NAME": str(file)}}}
        session = old.make("django", era, sample="PLAIN", config=config, secret=SECRET, end=True)

        assert session.live == "42"
        assert Django(f"sqlite:///{file}", SECRET).find(session.cookie, time.time()) is None


WITH_PASSPORT = {**sample.PLAIN, "passport": {"user": "ada"}}


@pytest.mark.usefixtures("old_node")
class TestExpress:
    @pytest.mark.parametrize("max_age", [3600, None])
    def test_in_redis(self, era: str, max_age: int | None, redis_url: str) -> None:
        session = old.make(
            "express",
            era,
            store="redis",
            url=redis_url,
            storeOptions={"prefix": "old:"},
            secret=["a newer one", SECRET],
            cookie={} if max_age is None else {"maxAge": max_age * 1000},
            sample=WITH_PASSPORT,
        )

        source = Express(redis_url, [SECRET, "a newer one"], "old:")

        found = check(source, session, WITH_PASSPORT, ends_in=max_age or DAY)
        assert found.fields == WITH_PASSPORT
        assert found.owner == "ada"
        assert found.persistent is (max_age is not None)
        check_listed(source, session, found)

    @pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
    def test_in_postgresql(self, era: str, zone: str, postgresql: DatabaseServer) -> None:
        url = postgresql.new_database()
        parts = sqlalchemy.make_url(url)
        with postgresql.engine().connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {parts.database} SET timezone TO '{zone}'")
        pool = {"host": parts.host, "port": parts.port, "user": parts.username}
        session = old.make(
            "express",
            era,
            store="postgresql",
            pool={**pool, "database": parts.database},
            secret=SECRET,
            cookie={"maxAge": 3600 * 1000},
            sample=WITH_PASSPORT,
        )

        source = Express(url, SECRET)

        found = check(source, session, WITH_PASSPORT, ends_in=3600)
        check_listed(source, session, found)
