"""Every format, from sessions that the real libraries made once (see golden.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import servers
from carry_over import golden
from carry_over.golden import CASES, Golden, Place
from carry_over.worlds import sample
from wsgi_sessions.carry_over import Found, LeftBehind

KEPT = golden.kept()


@pytest.fixture
def place(tmp_path: Path, redis_url: str) -> Place:
    return Place(tmp_path, redis_url)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.id)
def test_it_is_read_as_it_was(kept: Golden, place: Place, redis_server: servers.Server) -> None:
    source = kept.put_back(place, redis_server.client())

    found = source.find(kept.cookie, kept.made_at)

    expected: dict[str, Any] = getattr(sample, CASES[kept.case].sample)
    assert type(found) is Found
    assert found.fields == expected
    assert found.old_id
    # What stands for a secret stays out of logs and tracebacks.
    assert kept.cookie[-20:] not in repr(found)
    assert "tea" not in repr(found)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.id)
def test_quotes_around_a_cookie_mean_nothing(
    kept: Golden, place: Place, redis_server: servers.Server
) -> None:
    source = kept.put_back(place, redis_server.client())

    assert type(source.find(f'"{kept.cookie}"', kept.made_at)) is Found


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.id)
def test_one_cookie_is_one_session_however_it_is_spelt(
    kept: Golden, place: Place, redis_server: servers.Server
) -> None:
    """Another spelling that was accepted must not become a second session."""
    source = kept.put_back(place, redis_server.client())
    found = source.find(kept.cookie, kept.made_at)
    assert type(found) is Found

    for last in "ABCDEFGHQRSTUVWXYZaghij0123456789-_=":
        for spelt in (kept.cookie[:-1] + last, kept.cookie + last, last + kept.cookie):
            other = source.find(spelt, kept.made_at)
            assert other is None or (type(other) is Found and other.old_id == found.old_id)


NONSENSE = ["", '"', '""', "x", ".", "..", ":", "s:", "s%3A.", "\xff\xfe", "%ff", "é" * 60,
            "../" * 20, "a" * 5000, "0" * 32, "*" * 43, "a.b.c", "a:b:c", "\x00" * 43]  # fmt: skip


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.id)
def test_any_cookie_is_survived(kept: Golden, place: Place, redis_server: servers.Server) -> None:
    source = kept.put_back(place, redis_server.client())

    assert [source.find(value, kept.made_at) for value in NONSENSE] == [None] * len(NONSENSE)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.id)
def test_another_secret_opens_nothing(
    kept: Golden, place: Place, redis_server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "SECRET", "not the old app's secret")
    source = kept.put_back(place, redis_server.client())

    found = source.find(kept.cookie, kept.made_at)

    is_signed = kept.case not in {
        *("flask-session-msgpack", "flask-session-json", "flask-session-files", "django-cache")
    }
    assert isinstance(found, Found) != is_signed


@pytest.mark.parametrize(
    "kept", [kept for kept in KEPT if kept.files or kept.keys], ids=lambda kept: kept.id
)
def test_a_record_that_is_cut_short_is_never_half_a_session(
    kept: Golden, place: Place, redis_server: servers.Server
) -> None:
    client = redis_server.client()
    source = kept.put_back(place, client)
    (name, *_) = (name for name in (*kept.keys, *kept.files) if "cache_count" not in name)
    paths = [path for path in place.directory.rglob("*") if path.is_file()]
    whole = client.get(name) if kept.keys else b""

    for length in range(0, 4000, 29):
        if kept.keys:
            client.set(name, whole[:length])
        for path in paths:
            path.write_bytes(path.read_bytes()[:-29])
        found = source.find(kept.cookie, kept.made_at)
        if kept.keys and length >= len(whole):
            break
        assert found is None or type(found) is LeftBehind


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.id)
def test_a_cookie_tells_which_session_it_means_though_the_record_is_gone(
    kept: Golden, place: Place, redis_server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = kept.put_back(place, redis_server.client())
    found = source.find(kept.cookie, kept.made_at)
    assert type(found) is Found
    source.delete(found.old_id)

    assert source.identify(kept.cookie) == source.identify(f'"{kept.cookie}"') == found.old_id
    nonsense = {source.identify(value) for value in NONSENSE if value != "0" * 32}
    assert nonsense <= {None}, "only one that isn't signed can look like an ID"
