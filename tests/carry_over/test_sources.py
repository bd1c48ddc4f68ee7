"""What all sources have in common, and where each system has a way of its own."""

from __future__ import annotations

import base64
import errno
import hmac
import json
import os
import pickle
import socket
import sqlite3
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from markupsafe import Markup

import servers
from wsgi_sessions import carry_over
from wsgi_sessions.carry_over import (
    Beaker,
    Django,
    Express,
    FlaskCookie,
    FlaskSession,
    Found,
    LeftBehind,
    Source,
    signatures,
)
from wsgi_sessions.errors import ConfigurationError, StoreError, UnsupportedByStore

NOW = 1_800_000_000.0
SECRET = "the old app's secret"
SQLITE = "sqlite:////nowhere/db"


def flask_cookie(values: dict[str, Any], at: float = NOW) -> str:
    """As Flask itself makes it, but for the time."""
    app = Flask("old")
    app.secret_key = SECRET
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    payload = serializer.dump_payload(values).decode()
    return signed_for_flask(f"{payload}.{signatures.base64url(int(at).to_bytes(5, 'big'))}")


def signed_for_flask(text: str) -> str:
    signature = signatures.itsdangerous_signature(SECRET.encode(), b"cookie-session", text)
    return f"{text}.{signature}"


def found(source: Source, cookie: str, now: float = NOW) -> Found:
    result = source.find(cookie, now)
    assert type(result) is Found
    return result


def reason(source: Source, cookie: str, now: float = NOW) -> str:
    result = source.find(cookie, now)
    assert type(result) is LeftBehind
    return result.reason


# Options

ANY: Any = carry_over
"""Without its types: what is given may be anything."""

MAKERS: dict[str, Callable[..., Source]] = {
    "Beaker": lambda **more: Beaker("file:///x", **more),
    "FlaskSession": lambda **more: FlaskSession("file:///x", **more),
    "FlaskCookie": lambda **more: FlaskCookie(SECRET, **more),
    "Django": lambda **more: Django(SQLITE, SECRET, **more),
    "Express": lambda **more: Express("redis://localhost", SECRET, **more),
}
USUAL = {
    "Beaker": ("beaker", "beaker.session.id", None),
    "FlaskSession": ("flask-session", "session", "_user_id"),
    "FlaskCookie": ("flask-cookie", "session", "_user_id"),
    "Django": ("django", "sessionid", "_auth_user_id"),
    "Express": ("express", "connect.sid", "passport.user"),
}


@pytest.mark.parametrize("system", MAKERS)
def test_options_that_all_sources_take(system: str) -> None:
    usual, until = MAKERS[system](), datetime(2027, 1, 1, tzinfo=UTC)
    source = MAKERS[system](until=until, delete_old=True, cookie="old", owner="who")

    assert (usual.name, usual.cookie, usual.owner) == USUAL[system]
    assert (usual.until, usual.delete_old) == (None, False)
    assert not usual.is_over(NOW)
    assert (source.until, source.delete_old) == (until.timestamp(), True)
    assert (source.cookie, source.owner) == ("old", "who")
    assert not source.is_over(until.timestamp() - 1)
    assert source.is_over(until.timestamp())
    assert repr(source) == f"{system}(cookie='old')"


@pytest.mark.parametrize("system", MAKERS)
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "until",
            datetime(2027, 1, 1),
            "until is datetime.datetime(2027, 1, 1, 0, 0); write an aware",
        ),
        ("until", "2027-01-01", "until is '2027-01-01'; write an aware datetime"),
        ("delete_old", 1, "delete_old is 1; write True or False"),
        ("cookie", None, "cookie is of type NoneType; write the old cookie's name"),
        ("cookie", "a b", "Cookie: name is 'a b'"),
        ("owner", "", "owner is ''; write the name of the field"),
        ("owner", 1, "owner is 1; write the name of the field"),
        ("ownr", "x", "has no option ownr; write owner"),
    ],
)
def test_a_wrong_option_is_an_error_that_helps(
    system: str, option: str, value: object, said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MAKERS[system](**{option: value})

    assert said in str(caught.value)
    assert system in str(caught.value) or option == "cookie"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ANY.Beaker(3), "Beaker: store is of type int; write a URL: file:///data_dir"),
        (lambda: ANY.Beaker("sessions"), "Beaker: store is a str without a URL's scheme; write file://"),
        (lambda: ANY.Beaker(SQLITE), "Beaker: store is the URL of a database, which this doesn't read"),
        (lambda: ANY.Beaker("file://data"), "needs an absolute path, with three slashes"),
        (lambda: ANY.Beaker("file:///"), "needs an absolute path, with three slashes"),
        (lambda: ANY.Beaker("file:///x", timeout=0), "Beaker: timeout is 0; it must be finite"),
        (lambda: ANY.Beaker("file:///x", timeout="1"), "Beaker: timeout is '1'; write a timedelta"),
        (lambda: ANY.Beaker("file:///x", secret=1), "Beaker: secret is of type int; write the old app's"),
        (lambda: ANY.Beaker("file:///x", secret=""), "Beaker: secret is empty"),
        (lambda: ANY.Beaker("file:///x", secret=[]), "Beaker: secret is empty"),
        (lambda: ANY.Beaker("file:///x", secret=["a", None]), "Beaker: secret is of type NoneType"),
        (lambda: ANY.Beaker("file:///x", secret="\ud800"), "can't be encoded as UTF-8"),
        (lambda: ANY.Beaker("redis://localhost/0?y=1"), "Beaker: RedisStore: redis can't make a client"),
        (lambda: ANY.FlaskSession(SQLITE), "FlaskSession: store is the URL of a database"),
        (lambda: ANY.FlaskSession("file:///x", prefix=None), "FlaskSession: prefix is None; write a str"),
        (lambda: ANY.FlaskSession("file:///x", prefix="é"), "prefix is 'é'; write a str of ASCII"),
        (lambda: ANY.FlaskCookie(None), "FlaskCookie: secret_key is of type NoneType"),
        (lambda: ANY.FlaskCookie(SECRET, 0), "FlaskCookie: max_age is 0"),
        (lambda: ANY.FlaskCookie(), "FlaskCookie: missing a required argument: 'secret_key'"),
        (lambda: ANY.Django(SQLITE, SECRET, "cached_db"), "engine is 'cached_db'; write 'db' (also for cached"),
        (lambda: ANY.Django(SQLITE, SECRET, []), "Django: engine is []; write 'db'"),
        (lambda: ANY.Django(SQLITE, "db", SECRET), "Django: engine is a str that is too long; write 'db'"),
        (lambda: ANY.Django(None, SECRET), "store is None, which is not where engine='db' keeps"),
        (lambda: ANY.Django("redis://h", SECRET), "store is a URL for redis, which is not where"),
        (lambda: ANY.Django(SQLITE, SECRET, "signed_cookies"), "write None"),
        (lambda: ANY.Django("nosuch://h/x", SECRET), "SQLAlchemy can't make an engine of this URL"),
        (lambda: ANY.Django("oracle+cx_oracle://h/x", SECRET), "this database's driver isn't installed"),
        (lambda: ANY.Django(SQLITE, SECRET, max_age=-1), "Django: max_age is -1"),
        (lambda: ANY.Express("file:///x", SECRET), "Express: store is a file:// URL, which this doesn't"),
        (lambda: ANY.Express("redis://h", None), "Express: secret is of type NoneType"),
    ],
)  # fmt: skip
def test_what_a_system_is_told_wrongly_is_an_error_that_helps(
    make: Callable[[], Source], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()

    assert said in str(caught.value)


def test_no_error_shows_a_password() -> None:
    for make in (
        lambda: Beaker("redis://:hunter2@localhost/x?y=1"),
        lambda: Django("postgresql://u:hunter2@h:port/db", SECRET),
        lambda: Beaker("postgresql://u:hunter2@h/db"),
        lambda: Beaker("hunter2"),
        lambda: Beaker("file:///x", secret="hunter2\ud800"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("library", "make", "said"),
    [
        ("sqlalchemy", lambda: Django(SQLITE, SECRET), "pip install 'wsgi-sessions[sql]'"),
        ("psycopg", lambda: Django("postgresql://h/d", SECRET), "'wsgi-sessions[postgresql]'"),
        ("redis", lambda: Beaker("redis://h"), "pip install 'wsgi-sessions[redis]'"),
    ],
)
def test_a_library_that_is_not_there_is_named(
    library: str, make: Callable[[], Source], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    if library == "redis":
        monkeypatch.setitem(sys.modules, "valkey", None)

    with pytest.raises(ConfigurationError) as caught:
        make()

    assert said in str(caught.value)


def test_nothing_is_carried_over_after_the_date() -> None:
    source = FlaskCookie(SECRET, until=datetime.fromtimestamp(NOW + 10, UTC))
    cookie = flask_cookie({"a": 1})

    assert type(source.find(cookie, NOW + 9)) is Found
    assert source.find(cookie, NOW + 10) is None


# Owners and values


@pytest.mark.parametrize(
    ("user", "owner"), [("ada", "ada"), (42, "42"), ("x" * 256, "x" * 256), (None, None)]
)
def test_the_owner_is_text(user: Any, owner: str | None) -> None:
    session = found(FlaskCookie(SECRET), flask_cookie({"_user_id": user, "a": 1}))

    assert session.owner == owner
    assert session.fields == {"_user_id": user, "a": 1}


@pytest.mark.parametrize("user", ["", "x" * 257, True, 1.5, ["ada"], {"id": 1}])
def test_a_session_whose_owner_we_cannot_file_stays_behind(user: Any) -> None:
    said = reason(FlaskCookie(SECRET), flask_cookie({"_user_id": user}))

    assert said == (
        "the field '_user_id', which holds the user, is not a str of 1 to 256 characters, an int"
        f" or a UUID, but {type(user).__name__}"
    )


@pytest.mark.parametrize(
    ("fields", "owner"),
    [
        ({"passport": {"user": "ada"}}, "ada"),
        ({"passport.user": "bob", "passport": {"user": "ada"}}, "bob"),
        ({"passport": {}}, None),
        ({"passport": "ada"}, None),
        ({"a": 1}, None),
    ],
)
def test_the_owner_may_be_a_field_within_a_field(fields: Any, owner: str | None) -> None:
    source = FlaskCookie(SECRET, owner="passport.user")

    assert found(source, flask_cookie(fields)).owner == owner


def test_no_owner_where_none_is_named() -> None:
    cookie = flask_cookie({"_user_id": "ada"})

    assert found(FlaskCookie(SECRET, owner=None), cookie).owner is None


def test_a_session_without_data_of_the_app_is_none() -> None:
    assert FlaskCookie(SECRET).find(flask_cookie({"_permanent": True}), NOW) is None


def test_markup_is_kept_as_flask_keeps_it() -> None:
    values = {"_flashes": [("message", Markup("<b>hi</b>"))], "more": {"a": Markup("x")}}

    fields = found(FlaskCookie(SECRET), flask_cookie(values)).fields

    assert fields == values
    assert type(fields["_flashes"][0][1]) is Markup


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ('{"a":NaN}', "the field 'a' can't be kept: a float that isn't finite"),
        ('{"a":"\\ud800"}', "the field 'a' can't be kept: a str that can't be encoded as"),
        ('{"\\ud800":1}', "the field '\\ud800' can't be kept: a str that can't be"),
        ('{"a":' + "[" * 150 + "]" * 150 + "}", "the field 'a' can't be kept: nested more than"),
        ('{"' + "a" * 99 + '":NaN}', "the field '" + "a" * 60 + "' can't be kept"),
        ("[" * 100_000, "JSON that is nested too deep"),
        ("[1]", "a record that isn't a mapping of fields"),
        ("{", "damaged JSON"),
        ("1" * 5000, "damaged JSON"),
        ('"' + "a" * 2_000_000 + '"', "a record of more than 1048576 bytes"),
        ('{" t":1}', "a value that is not as Flask writes it"),
        ('{"a":{" b":"*"}}', "a value that is not as Flask writes it"),
        ('{"a":{" b":1}}', "a value that is not as Flask writes it"),
        ('{"a":{" u":"x"}}', "a value that is not as Flask writes it"),
        ('{"a":{" u":1}}', "a value that is not as Flask writes it"),
        ('{"a":{" d":"x"}}', "a value that is not as Flask writes it"),
        ('{"a":{" d":1}}', "a value that is not as Flask writes it"),
        ('{"a":{" m":1}}', "a value that is not as Flask writes it"),
        ('{"a":{" di":1}}', "a record that isn't a mapping of fields"),
        ('{"a":{" di":{"b":1,"c":2}}}', "a value that is not as Flask writes it"),
    ],
)
def test_one_value_that_cannot_be_kept_leaves_all_behind(payload: str, said: str) -> None:
    text = signatures.base64url(payload.encode())
    stamp = signatures.base64url(int(NOW).to_bytes(5, "big"))

    assert reason(FlaskCookie(SECRET), signed_for_flask(f"{text}.{stamp}")).startswith(said)


def test_json_nested_deeper_than_python_recurses_stays_behind() -> None:
    depth = sys.getrecursionlimit() - 200
    text = signatures.base64url(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    stamp = signatures.base64url(int(NOW).to_bytes(5, "big"))

    assert reason(FlaskCookie(SECRET), signed_for_flask(f"{text}.{stamp}"))


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (zlib.compress(b"a" * 3_000_000), "a record of more than 1048576 bytes"),
        (zlib.compress(b'{"a":1}')[:-3], "damaged compressed data"),
        (b"not zlib", "damaged compressed data"),
    ],
)
def test_compressed_data_is_bounded(packed: bytes, said: str) -> None:
    stamp = signatures.base64url(int(NOW).to_bytes(5, "big"))
    cookie = signed_for_flask(f".{signatures.base64url(packed)}.{stamp}")

    assert reason(FlaskCookie(SECRET), cookie) == said


# Flask's cookie


@pytest.mark.parametrize("stamp", ["", "*", "A" * 40])
def test_a_flask_cookie_without_a_time_is_none(stamp: str) -> None:
    assert FlaskCookie(SECRET).find(signed_for_flask(f"e30.{stamp}"), NOW) is None


def test_a_flask_cookie_that_is_not_base64_stays_behind() -> None:
    stamp = signatures.base64url(int(NOW).to_bytes(5, "big"))

    said = reason(FlaskCookie(SECRET), signed_for_flask(f"*.{stamp}"))
    assert said == "a cookie that isn't base64 inside"


def test_a_flask_cookie_lives_for_max_age() -> None:
    source, cookie = FlaskCookie(SECRET, timedelta(hours=1)), flask_cookie({"a": 1})

    assert found(source, cookie, NOW + 3600).expires_at == NOW + 3600
    assert source.find(cookie, NOW + 3601) is None


def test_deleting_what_is_in_a_cookie_alone_does_nothing() -> None:
    source, cookie = FlaskCookie(SECRET), flask_cookie({"a": 1})

    source.delete(found(source, cookie).old_id)

    assert found(source, cookie)


@pytest.mark.parametrize(
    "source", [FlaskCookie(SECRET), Django(None, SECRET, "signed_cookies")], ids=["flask", "django"]
)
def test_sessions_in_cookies_cannot_be_listed(source: Source) -> None:
    with pytest.raises(UnsupportedByStore, match="only in the browsers' cookies"):
        source.count()
    with pytest.raises(UnsupportedByStore, match="only in the browsers' cookies"):
        next(source.survey(NOW))


# Beaker

ID = "0123456789abcdef" * 2


def beaker_file(directory: Path, text: object, *, whole: bytes | None = None) -> None:
    path = directory / "container_file" / ID[0] / ID[:2] / f"{ID}.cache"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"session": text}) if whole is None else whole)


def beaker_text(session: object) -> str:
    return base64.b64encode(pickle.dumps(session)).decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (1, "a record that isn't base64 inside (is it encrypted?)"),
        ("é", "a record that isn't base64 inside (is it encrypted?)"),
        ("A", "a record that isn't base64 inside (is it encrypted?)"),
        (beaker_text([1]), "a record that isn't a mapping of fields"),
        (beaker_text({1: 2}), "it holds a dict with keys that aren't str"),
        (base64.b64encode(zlib.compress(b"{")).decode(), "damaged JSON"),
        (base64.b64encode(b"?").decode(), "damaged compressed data"),
    ],
)
def test_a_beaker_record_that_cannot_be_read_stays_behind(
    text: object, said: str, tmp_path: Path
) -> None:
    beaker_file(tmp_path, text)
    source = Beaker(f"file://{tmp_path}")

    assert reason(source, ID) == said
    assert list(source.survey(NOW)) == [LeftBehind(said)]


def test_beakers_record_as_bytes_is_read_too(tmp_path: Path) -> None:
    beaker_file(tmp_path, beaker_text({"a": 1, "_accessed_time": NOW}).encode())

    assert found(Beaker(f"file://{tmp_path}"), ID).fields == {"a": 1}


@pytest.mark.parametrize("accessed", [None, "x", float("nan"), True, 10**40])
def test_a_beaker_record_without_a_time_is_what_a_deleted_session_left(
    accessed: object, tmp_path: Path
) -> None:
    beaker_file(tmp_path, beaker_text({"a": 1, "_accessed_time": accessed}))

    assert Beaker(f"file://{tmp_path}").find(ID, NOW) is None


def test_other_files_are_not_beakers_sessions(tmp_path: Path) -> None:
    beaker_file(tmp_path, beaker_text({"a": 1, "_accessed_time": NOW}))
    (tmp_path / "container_file" / "0" / "01" / "other.cache").write_bytes(b"x")
    (tmp_path / "container_file" / "0" / "01" / f"{'f' * 32}.cache").mkdir()
    source = Beaker(f"file://{tmp_path}")

    assert source.count() == 1
    assert len(list(source.survey(NOW))) == 1


def test_when_a_beaker_session_ends(tmp_path: Path) -> None:
    beaker_file(tmp_path, beaker_text({"a": 1, "_accessed_time": NOW, "_creation_time": NOW - 9}))
    source = Beaker(f"file://{tmp_path}", timeout=timedelta(hours=1))

    session = found(source, ID, NOW + 3600)
    assert (session.created_at, session.used_at, session.expires_at) == (NOW - 9, NOW, NOW + 3600)
    assert source.find(ID, NOW + 3601) is None


# Flask-Session


def flask_file(directory: Path, content: bytes, expires: int = 0) -> FlaskSession:
    source = FlaskSession(f"file://{directory}")
    (name, _) = source._names_of(ID)
    (directory / name).write_bytes(struct.pack("I", expires) + content)
    return source


def test_a_file_that_never_expires(tmp_path: Path) -> None:
    source = flask_file(tmp_path, pickle.dumps({"a": 1}))

    assert found(source, ID).expires_at is None


def test_a_file_whose_time_is_up_is_none(tmp_path: Path) -> None:
    source = flask_file(tmp_path, pickle.dumps({"a": 1}), int(NOW) - 1)

    assert source.find(ID, NOW) is None
    assert list(source.survey(NOW)) == [None]


def test_a_file_without_even_a_time_stays_behind(tmp_path: Path) -> None:
    source = flask_file(tmp_path, b"")
    (tmp_path / source._names_of(ID)[0]).write_bytes(b"x")

    assert reason(source, ID) == "a damaged file"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a damaged pickle"),
        (b"{", "damaged JSON"),
        (b"!x", "a damaged pickle"),
        (b"\x81", "damaged msgpack"),
        (b"\x81\x01\x02", "a field whose name isn't a str"),
        (
            b"\xde\x00\x01\xa1a\xd4\x05x",
            "the field 'a' can't be kept: a value of type Ext would not come back as it was",
        ),
        (b"\x81\xa1a" + b"\x91" * 100_000, "damaged msgpack"),
        (b"\x81\xa1a\xc6\x00\x10\x00\x00" + b"a" * 0x100000, "a record of more than 1048576"),
        (b"\x80", None),
    ],
)
def test_a_flask_session_record_that_cannot_be_read_stays_behind(
    data: bytes, said: str | None, tmp_path: Path
) -> None:
    source = flask_file(tmp_path, data)

    result = source.find(ID, NOW)

    assert result is None if said is None else result.reason.startswith(said)  # type: ignore[union-attr] # asserted


def test_pickles_as_cachelib_keeps_them_in_redis(tmp_path: Path) -> None:
    source = flask_file(tmp_path, b"!" + pickle.dumps({"a": 1}))

    assert found(source, ID).fields == {"a": 1}


def test_without_msgspec_a_msgpack_session_is_not_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = flask_file(tmp_path, b"\x81\xa1a\x01")
    assert found(source, ID).fields == {"a": 1}
    monkeypatch.setitem(sys.modules, "msgspec", None)

    with pytest.raises(StoreError, match=r"pip install 'wsgi-sessions\[carry-over\]'"):
        source.find(ID, NOW)


# Django


def django_text(session: object, salt: bytes, at: float = NOW) -> str:
    from django.core.signing import b62_encode

    value = signatures.base64url(json.dumps(session).encode("latin-1"))
    signed = f"{value}:{b62_encode(int(at))}"
    return f"{signed}:{signatures.django_signature(SECRET.encode(), salt, signed)}"


IN_COOKIE = b"django.contrib.sessions.backends.signed_cookies"
STORED = b"django.contrib.sessions.SessionStore"


@pytest.mark.parametrize(
    ("expiry", "ends"),
    [
        (None, NOW + 3600),
        (0, NOW + 3600),
        (600, NOW + 600),
        (7200, NOW + 3600),
        ("2027-01-15T08:10:00+00:00", 1_800_000_600),
        ("2027-01-15T08:10:00", 1_800_000_600),
        ("soon", NOW + 3600),
    ],
)
def test_when_a_signed_cookie_of_django_ends(expiry: Any, ends: float) -> None:
    cookie = django_text({"a": 1, "_session_expiry": expiry}, IN_COOKIE)
    source = Django(None, SECRET, "signed_cookies", max_age=3600)

    session = found(source, cookie)

    assert (session.used_at, session.expires_at) == (NOW, ends)
    assert source.find(cookie, ends) is None


@pytest.mark.parametrize(
    "signed", ["*:1", ".*:1", f".{signatures.base64url(b'x')}:1", "W10:1"], ids=str
)
def test_a_django_cookie_that_cannot_be_read_stays_behind(signed: str) -> None:
    signature = signatures.django_signature(SECRET.encode(), IN_COOKIE, signed)

    assert reason(Django(None, SECRET, "signed_cookies"), f"{signed}:{signature}")


def test_a_text_of_another_backend_is_not_a_cookie() -> None:
    source = Django(None, SECRET, "signed_cookies")

    assert source.find(django_text({"a": 1}, STORED), NOW) is None


def django_row(directory: Path, data: object, expires: object) -> Django:
    with sqlite3.connect(directory / "db") as database:
        database.execute("CREATE TABLE django_session (session_key, session_data, expire_date)")
        database.execute("INSERT INTO django_session VALUES (?, ?, ?)", (ID, data, expires))
    database.close()
    return Django(f"sqlite:///{directory}/db", SECRET)


def test_when_a_row_of_django_ends(tmp_path: Path) -> None:
    source = django_row(tmp_path, django_text({"a": 1}, STORED), "2027-01-15 08:10:00.500000")

    assert found(source, ID).expires_at == 1_800_000_600.5
    assert source.find(ID, NOW + 601) is None
    assert source.find("f" * 32, NOW) is None


def test_rows_are_listed_and_deleted(tmp_path: Path) -> None:
    source = django_row(tmp_path, django_text({"a": 1}, STORED), None)
    session = found(source, ID)

    assert source.count() == 1
    assert list(source.survey(NOW)) == [session]
    source.delete(session.old_id)
    assert source.count() == 0
    assert source.find(ID, NOW) is None


def test_a_row_that_does_not_end_is_read(tmp_path: Path) -> None:
    source = django_row(tmp_path, django_text({"a": 1}, STORED).encode(), None)

    assert found(source, ID).expires_at is None


def test_a_row_with_a_time_that_is_none_is_a_store_that_cannot_answer(tmp_path: Path) -> None:
    source = django_row(tmp_path, django_text({"a": 1}, STORED), "soon")

    with pytest.raises(StoreError, match=r"database can't answer \(ValueError; "):
        source.find(ID, NOW)


def test_a_moment_in_a_pickled_session_of_django_ends_it(tmp_path: Path) -> None:
    end = datetime.fromtimestamp(NOW + 60, UTC)
    raw = signatures.base64url(pickle.dumps({"a": 1, "_session_expiry": end}))
    signature = signatures.django_signature(SECRET.encode(), IN_COOKIE, f"{raw}:1")
    source = Django(None, SECRET, "signed_cookies")

    assert found(source, f"{raw}:1:{signature}").expires_at == NOW + 60


# express-session


def express_cookie(sid: str, secret: str = SECRET) -> str:
    digest = hmac.digest(secret.encode(), sid.encode(), "sha256")
    return quote(f"s:{sid}.{base64.b64encode(digest).decode().rstrip('=')}", safe="")


@pytest.fixture
def express(redis_url: str) -> Express:
    return Express(redis_url, SECRET)


def put(server: servers.Server, session: object, **options: Any) -> None:
    server.client().set("sess:x", json.dumps(session), **options)


def test_the_servers_word_on_when_it_ends_counts(
    express: Express, redis_server: servers.Server
) -> None:
    """A mere use moves the key's end, and leaves the JSON as it is."""
    cookie = {"expires": "2020-01-01T00:00:00.000Z", "originalMaxAge": 1000}
    put(redis_server, {"cookie": cookie, "a": 1}, ex=600)

    session = found(express, express_cookie("x"), time.time())

    assert session.expires_at == pytest.approx(time.time() + 600, abs=30)
    assert session.persistent is True
    assert session.fields == {"a": 1}


@pytest.mark.parametrize(
    ("expires", "ends"),
    [
        ("2027-01-15T08:10:00.000Z", 1_800_000_600),
        ("2027-01-15T08:10:00", 1_800_000_600),
        (None, None),
        ("soon", None),
        (5, None),
    ],
)
def test_a_key_without_an_end_ends_as_the_cookie_says(
    expires: Any, ends: float | None, express: Express, redis_server: servers.Server
) -> None:
    put(redis_server, {"cookie": {"expires": expires}, "a": 1})

    assert found(express, express_cookie("x")).expires_at == ends
    if ends is not None:
        assert express.find(express_cookie("x"), ends + 1) is None


def test_a_key_whose_cookie_ended_before_clocks_were_made_is_over(
    express: Express, redis_server: servers.Server
) -> None:
    put(redis_server, {"cookie": {"expires": "0001-01-01T00:00:00"}, "a": 1})

    assert express.find(express_cookie("x"), NOW) is None
    assert list(express.survey(NOW)) == [None]


def test_an_id_of_the_apps_own_making(express: Express, redis_server: servers.Server) -> None:
    put(redis_server, {"a": 1})
    redis_server.client().rename("sess:x", "sess:id/with.dots+")

    session = found(express, express_cookie("id/with.dots+"))

    assert (session.old_id, session.persistent) == (b"id/with.dots+", False)


@pytest.mark.parametrize("sid", ["", "a b", "\n", "é"])
def test_a_signed_id_that_is_none(sid: str, express: Express) -> None:
    assert express.find(express_cookie(sid), NOW) is None


def test_a_cookie_that_is_not_percent_encoded(
    express: Express, redis_server: servers.Server
) -> None:
    put(redis_server, {"a": 1})

    assert found(express, express_cookie("x").replace("s%3A", "s:").replace("%2B", "+"))


@pytest.mark.parametrize("session", [[1], {"cookie": [1], "a": 1}])
def test_an_express_record_that_cannot_be_read_stays_behind(
    session: object, express: Express, redis_server: servers.Server
) -> None:
    put(redis_server, session)

    assert reason(express, express_cookie("x")) == "a record that isn't a mapping of fields"


@pytest.mark.parametrize("left", [60, 300])
def test_json_as_deep_as_python_reads_it_stays_behind(
    left: int, express: Express, redis_server: servers.Server
) -> None:
    depth = sys.getrecursionlimit() - left
    deep = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    redis_server.client().set("sess:x", deep)

    assert "nested" in reason(express, express_cookie("x"))


def test_a_table_in_another_database_than_postgresql(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute('CREATE TABLE "session" (sid, sess, expire)')
        database.execute(
            'INSERT INTO "session" VALUES (?, ?, ?)', ("x", '{"a": 1}', "2027-01-15 08:10:00")
        )
    database.close()
    source = Express(f"sqlite:///{tmp_path}/db", SECRET)

    assert found(source, express_cookie("x")).expires_at == 1_800_000_600


# Stores that can't answer, and other people's records


@pytest.mark.parametrize(
    ("make", "cookie", "said"),
    [
        (lambda: Beaker("file:///nonexistent/dir"), ID, "the old sessions' directory isn't there"),
        (lambda: FlaskSession("file:///nonexistent/dir"), ID, "directory isn't there"),
        (lambda: Beaker("redis://127.0.0.1:1"), ID, "the old sessions' Redis can't answer"),
        (lambda: Django(SQLITE, SECRET), ID, "the old sessions' database can't answer"),
        (
            lambda: Django("postgresql://u:hunter2@127.0.0.1:1/db", SECRET),
            ID,
            "the old sessions' database can't answer",
        ),
        (
            lambda: Express("mysql://u:hunter2@127.0.0.1:1/db", SECRET),
            express_cookie("x"),
            "the old sessions' database can't answer",
        ),
    ],
)
def test_a_store_that_cannot_answer_is_not_no_session(
    make: Callable[[], Source], cookie: str, said: str
) -> None:
    source = make()

    for ask in (
        lambda: source.find(cookie, NOW),
        lambda: source.delete(ID.encode()),
        lambda: source.count(),
        lambda: list(source.survey(NOW)),
    ):
        with pytest.raises(StoreError) as caught:
            ask()
        assert said in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        assert caught.value.operation in ("load", "delete", "keys")
        assert ID not in str(caught.value)


def test_a_table_that_is_not_there_is_not_no_session(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"database can't answer \(.*; asked for django_session in '.*/db'\)"
    ):
        Django(f"sqlite:///{tmp_path}/db", SECRET).find(ID, NOW)


def test_a_record_under_another_secret_is_left_behind_and_said_to_be(tmp_path: Path) -> None:
    source = django_row(tmp_path, django_text({"a": 1}, STORED), None)
    other = Django(f"sqlite:///{next(tmp_path.iterdir())}", "another secret")

    assert found(source, ID).fields == {"a": 1}
    assert other.find(ID, NOW) == LeftBehind(
        "a record that isn't signed with the secret_key given here", genuine=False
    )


def test_a_date_that_no_clock_can_show_is_left_behind() -> None:
    odd = {" d": "Thu, 01 Jan 1970 00:00:00 +99999999999999"}
    raw = signatures.base64url(json.dumps({"a": odd}).encode())
    signed = f"{raw}.{signatures.base64url(int(NOW).to_bytes(4, 'big'))}"
    signature = signatures.itsdangerous_signature(SECRET.encode(), b"cookie-session", signed)

    assert isinstance(FlaskCookie(SECRET).find(f"{signed}.{signature}", NOW), LeftBehind)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "typo.db"

    with pytest.raises(StoreError, match="database can't answer"):
        Django(f"sqlite:///{missing}", SECRET).count()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("query", ["", "?timeout=3", "?uri=true"])
def test_a_database_whose_name_means_something_in_a_uri_is_read(tmp_path: Path, query: str) -> None:
    path = tmp_path / ("plain" if "uri" in query else "50% #1")
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE django_session (session_key TEXT)")
        database.execute("INSERT INTO django_session VALUES ('x')")
    database.close()
    prefix = "file:" if "uri" in query else ""

    assert Django(f"sqlite:///{prefix}{path}{query}", SECRET).count() == 1


def test_a_file_that_cannot_be_read_is_not_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beaker_file(tmp_path, "x")

    def refused(*args: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr("wsgi_sessions.carry_over.records.os.open", refused)

    with pytest.raises(StoreError, match=r"directory can't answer \(PermissionError\)"):
        Beaker(f"file://{tmp_path}").find(ID, NOW)


@pytest.mark.parametrize("kind", ["directory", "FIFO", "socket", "symlink"])
def test_what_is_no_file_is_no_session(tmp_path: Path, kind: str) -> None:
    beaker_file(tmp_path, {"a": 1, "_creation_time": NOW})
    source = Beaker(f"file://{tmp_path}")
    assert source.count() == 1
    path = tmp_path / "container_file" / ID[0] / ID[:2] / f"{ID}.cache"
    moved = path.rename(tmp_path / "moved")
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        short = Path(tempfile.mkdtemp()) / "s"  # the names of sockets must be short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(short))
        short.rename(path)
        short.parent.rmdir()
    else:
        path.symlink_to(moved)

    assert source.find(ID, NOW) is None
    assert source.count() == 0


def test_a_key_of_another_kind_is_no_session(redis_url: str, redis_server: servers.Server) -> None:
    """Our own records may lie under the very prefix of Flask-Session's."""
    redis_server.client().hset(f"session:{ID}", "a", "1")
    source = FlaskSession(redis_url)

    assert source.find(ID, NOW) is None
    assert source.count() == 0


def test_a_key_that_ends_while_it_is_read_is_no_session(
    redis_url: str, redis_server: servers.Server
) -> None:
    redis_server.client().set(f"session:{ID}", b'{"a": 1}')
    source = FlaskSession(redis_url)
    records: Any = source._records
    asked = records._client.pttl

    def ended_meanwhile(name: str) -> Any:
        redis_server.client().delete(name)
        return asked(name)

    records._client.pttl = ended_meanwhile

    assert source.find(ID, NOW) is None


def test_a_record_that_goes_during_a_survey_is_not_live(
    redis_url: str, redis_server: servers.Server
) -> None:
    for number in range(3):
        redis_server.client().set(f"session:{number}{ID[1:]}", b'{"a": 1}')
    source = FlaskSession(redis_url)
    survey = source.survey(NOW)
    assert type(next(survey)) is Found
    redis_server.client().flushall()

    assert list(survey) == [None, None]


def test_a_name_that_a_scan_gives_twice_counts_once(
    redis_url: str, redis_server: servers.Server
) -> None:
    redis_server.client().set(f"session:{ID}", b'{"a": 1}')
    source = FlaskSession(redis_url)
    client: Any = source._records._client  # type: ignore[attr-defined] # it is in Redis
    scan = client.scan_iter
    client.scan_iter = lambda *args, **options: [*scan(*args, **options)] * 2

    assert source.count() == 1


@pytest.mark.parametrize("size", [1024 * 1024, 1024 * 1024 + 1, 5 * 1024 * 1024])
def test_records_are_bounded(size: int, redis_url: str, redis_server: servers.Server) -> None:
    redis_server.client().set(f"session:{ID}", b'{"a": "' + b"x" * (size - 9) + b'"}')
    source = FlaskSession(redis_url)

    result = source.find(ID, NOW)

    if size <= 1024 * 1024:
        assert type(result) is Found
    else:
        assert result == LeftBehind("a record of more than 1048576 bytes")


def test_a_survey_changes_nothing(redis_url: str, redis_server: servers.Server) -> None:
    client = redis_server.client()
    client.set(f"session:{ID}", b'{"a": 1}', ex=600)
    client.set("session:left-behind-0000000", b"{")
    client.set("other", b"x")
    before = {key: client.dump(key) for key in client.keys("*")}

    assert FlaskSession(redis_url).count() == 2
    kinds = {type(result) for result in FlaskSession(redis_url).survey(time.time())}

    assert kinds == {Found, LeftBehind}
    assert {key: client.dump(key) for key in client.keys("*")} == before
