"""Requirements 1.7, RD: a Redis-compatible server."""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsgi_sessions
from acts import id_of, login, put, read
from raw import raw
from records import key_of
from servers import NamedServer, Server
from wsgi import Site
from wsgi_sessions import StoreError
from wsgi_sessions.stores import RedisStore
from wsgi_sessions.testing import FakeClock


@pytest.fixture
def store(redis_server: Server | NamedServer) -> Iterator[RedisStore]:
    store = RedisStore.from_url(redis_server.url, prefix=f"test-{secrets.token_hex(8)}:")
    yield store
    store.clear()
    store.close()


def site(store: RedisStore, **options: Any) -> Site:
    here = Site(store=store, clock=FakeClock(time.time()), **options)
    here.clock = here.middleware._settings.clock  # type: ignore[assignment] # the one above
    return here


def test_RD_1_every_record_expires_and_a_write_makes_none(store: RedisStore) -> None:
    here = site(store)
    browser = here.browser()
    for work in (put(a=1), put(b=2), login, read):
        here.clock.advance(120)
        here.run(browser, work)
        for key in store.client.keys(f"{store.prefix}*"):
            assert store.client.ttl(key) > 0
    record = store.load(key_of(id_of(browser)))
    assert record is not None

    here.run(browser, lambda s: (s.update(c=3), store.delete(key_of(id_of(browser)))))

    assert store.load(key_of(id_of(browser))) is None


@pytest.mark.usefixtures("impatient")
def test_RD_2_a_server_that_never_answers_is_an_outage_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisStore.from_url(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        kwargs = store.client.connection_pool.connection_kwargs

        assert 0 < kwargs["socket_timeout"] <= 2
        assert 0 < kwargs["socket_connect_timeout"] <= 2
        impatient = RedisStore.from_url(
            f"redis://127.0.0.1:{silent.getsockname()[1]}/0", socket_timeout=0.2
        )
        with pytest.raises(StoreError):
            impatient.insert("a" * 64, wsgi_sessions.record.Record({}, b"", 0.0, 9e9))


def test_RD_2_no_command_that_scans_or_flushes_everything() -> None:
    stores = Path(wsgi_sessions.__file__).parent / "stores"

    for module in stores.rglob("*.py"):
        assert not re.search(r'"(?:KEYS|FLUSHDB|FLUSHALL)"', module.read_text("utf-8"))


@pytest.mark.parametrize("owner", ["a\r\nFLUSHALL\r\n", "{x}", "x" * 256, "名", "a\0b", "*", "%s"])
def test_RD_3_an_owner_never_gets_into_a_key(owner: str, store: RedisStore) -> None:
    here = site(store)
    here.run(here.browser(), lambda s: s.login(owner))

    keys = [bytes(key) for key in store.client.keys(f"{store.prefix}*")]

    assert len(keys) == 2
    for key in keys:
        assert re.fullmatch(re.escape(store.prefix.encode()) + rb"[a-z0-9:{}-]+", key)
    assert here.middleware.registry.count(owner) == 1


def test_RD_4_what_the_server_evicted_is_no_session_and_leaves_the_index(
    store: RedisStore,
) -> None:
    here = site(store)
    browser = here.browser()
    here.run(browser, login)
    store.client.delete(f"{store.prefix}{key_of(id_of(browser))}")

    assert here.run(browser, lambda s: s.owner).text == "None"
    assert here.middleware.registry.sessions("bob") == []
    here.clock.advance(61)
    assert here.middleware.registry.sessions("bob") == []
    assert list(store.keys()) == []


def test_ID_9_redis_knows_no_id(store: RedisStore) -> None:
    here = site(store, rotate_after=10)
    browser = here.browser()
    here.run(browser, login)
    seen = [id_of(browser)]
    here.clock.advance(10)
    here.run(browser, read)
    seen.append(id_of(browser))

    everything = raw(store)

    assert here.kinds[-1] == "rotated"
    for session_id in seen:
        assert session_id.encode() not in everything
        assert key_of(session_id).encode() in everything or session_id == seen[0]
