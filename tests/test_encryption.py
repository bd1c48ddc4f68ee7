"""Encryption at rest: the store shows nothing, and nothing can be moved about in it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from acts import login
from raw import raw
from servers import NamedServer, Server
from wsgi import Browser, Site
from wsgi_sessions import Lifetime, Session
from wsgi_sessions.record import Changes, UpdateResult, list_key
from wsgi_sessions.stores import FileStore, MemoryStore, RedisStore, Store
from wsgi_sessions.stores.packing import TIMES

CONFLICT = UpdateResult.CONFLICT
KEY, NEWER = os.urandom(32), os.urandom(32)
SECRETS = ("card-4111", "in-a-list", "Fox/1.0")


def read(session: Session) -> str:
    return repr(dict(session))


def started(store: Store, **options: Any) -> tuple[Site, Browser]:
    site = Site(store=store, **{"encryption_keys": [KEY], **options})
    browser = site.browser(HTTP_USER_AGENT=SECRETS[2])
    site.run(browser, lambda s: s.update(a=SECRETS[0], b=[SECRETS[1]]))
    return site, browser


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_the_raw_store_shows_no_value(kind: str, tmp_path: Path) -> None:
    shows_nothing(MemoryStore() if kind == "memory" else FileStore(tmp_path / "sessions"))


def test_the_raw_redis_shows_no_value(redis_server: Server | NamedServer) -> None:
    store = RedisStore.from_url(redis_server.url, prefix=f"sealed-{os.urandom(6).hex()}:")
    try:
        shows_nothing(store)
        store.clear()
    finally:
        store.close()


def shows_nothing(store: Store) -> None:
    site, browser = started(store, rotate_after=100)
    site.run(browser, lambda s: (s.login("ada"), s.label.update(device="phone-of-ada")))
    site.clock.advance(100)
    site.run(browser, lambda s: s["b"].append("later-on"))

    text = raw(store)

    for secret in (*SECRETS, "later-on", "phone-of-ada"):
        assert secret.encode() not in text
    assert site.run(browser, lambda s: (s["b"], s.label["device"])).text == (
        "(['in-a-list', 'later-on'], 'phone-of-ada')"
    )
    assert site.middleware.registry.count("ada") == 1
    assert site.middleware.registry.revoke_all("ada") == 1
    assert site.run(browser, read).text == "{}"


def test_keys_rotate() -> None:
    store = MemoryStore()
    _, browser = started(store)
    both = Site(store=store, encryption_keys=[NEWER, KEY])
    browser.app = both.middleware

    assert both.run(browser, lambda s: s["a"]).text == SECRETS[0]
    both.run(browser, lambda s: (s.regenerate(), s.update(c=1)))
    later = both.browser()
    both.run(later, lambda s: (s.login("ada"), s.update(c=1)))
    newer = Site(store=store, encryption_keys=[NEWER])
    later.app = browser.app = newer.middleware
    assert newer.run(later, lambda s: (s.owner, s["c"])).text == "('ada', 1)"
    # What was sealed under the older key stays so: it is needed as long as such a session can live.
    no_session(newer, browser)


def test_a_login_seals_anew_what_it_keeps() -> None:
    store = MemoryStore()
    _, browser = started(store)
    both = Site(store=store, encryption_keys=[NEWER, KEY])
    browser.app = both.middleware
    # Under the newer key are the notes alone by now, and nothing has read the fields since.
    both.run(browser, lambda s: s.regenerate())
    both.run(browser, lambda s: (s.pop("b"), s.login("ada"), s.update(c=1)))

    newer = Site(store=store, encryption_keys=[NEWER])
    browser.app = newer.middleware
    kept = {"a": SECRETS[0], "c": 1}
    assert newer.run(browser, lambda s: (s.owner, dict(s))).text == repr(("ada", kept))
    assert "corrupt_record" not in newer.kinds


def test_a_login_under_the_newest_key_sends_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Changes] = []
    store = MemoryStore()
    update = store.update

    def noting(key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        written.append(changes)
        return update(key, changes, **conditions)

    monkeypatch.setattr(store, "update", noting)
    site, browser = started(store)
    site.run(browser, lambda s: (s.login("ada"), s.update(c=1)))
    assert not any({"a", "b"} & changes.set.keys() for changes in written)


def no_session(site: Site, browser: Browser) -> None:
    before = len(list(site.store.keys()))

    assert site.run(browser, read).text == "{}"
    assert "corrupt_record" in site.kinds
    assert len(list(site.store.keys())) == before


def test_a_plain_record_is_refused() -> None:
    store = MemoryStore()
    plain = Site(store=store)
    browser = plain.browser()
    plain.run(browser, lambda s: s.update(a=1))
    site = Site(store=store, encryption_keys=[KEY])
    browser.app = site.middleware

    no_session(site, browser)


def test_sealed_records_without_the_key_are_no_session() -> None:
    store = MemoryStore()
    _, browser = started(store)
    for options in ({"encryption_keys": [NEWER]}, {}):
        site = Site(store=store, **options)
        browser.app = site.middleware

        no_session(site, browser)


@pytest.mark.parametrize("part", ["a", "notes"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "plain"])
def test_damaged_values(part: str, damage: str) -> None:
    store = MemoryStore()
    site, browser = started(store)
    (key,) = store.keys()
    record = store.load(key)
    assert record is not None
    value = record.notes if part == "notes" else record.fields[part]
    bad = {
        "flip": value[:20] + bytes([value[20] ^ 1]) + value[21:],
        "cut": value[:-1],
        "empty": b"",
        "plain": b'"x"',
    }[damage]
    changes = Changes(notes=bad) if part == "notes" else Changes(set={part: bad})
    store.update(key, changes)

    no_session(site, browser)


def test_values_cant_be_moved_between_fields_or_sessions() -> None:
    store = MemoryStore()
    site, browser = started(store)
    (key,) = store.keys()
    other = site.browser()
    site.run(other, lambda s: s.update(a="other"))
    (other_key,) = set(store.keys()) - {key}
    mine, theirs = store.load(key), store.load(other_key)
    assert mine is not None
    assert theirs is not None

    for changes in (
        Changes(set={"a": mine.fields["b"], "b": mine.fields["a"]}),
        Changes(set={"a": theirs.fields["a"]}),
        Changes(notes=theirs.notes),
        Changes(set=dict(theirs.fields), notes=theirs.notes),
    ):
        store.update(key, changes)
        no_session(site, browser)
        store.update(key, Changes(set=dict(mine.fields), notes=mine.notes))
        assert site.run(browser, lambda s: s["a"]).text == SECRETS[0]


@pytest.mark.parametrize("owner", [None, "mallory"])
@pytest.mark.parametrize("forged", ["root", "", None])
def test_who_writes_the_store_cant_change_the_owner(owner: str | None, forged: str | None) -> None:
    if owner == forged:
        return
    store = MemoryStore()
    site, browser = started(store)
    if owner is not None:
        site.run(browser, lambda s: s.login(owner))
    (key,) = (key for key in list(store.keys()) if owner is None or key != list_key(owner))
    record = store.load(key)
    assert record is not None

    store.delete(key)
    store.insert(key, replace(record, owner=forged))

    no_session(site, browser)


def test_the_owner_of_another_session_cant_be_copied() -> None:
    store = MemoryStore()
    site, browser = started(store)
    root = site.browser()
    site.run(root, lambda s: s.login("root"))
    records = {key: record for key in list(store.keys()) if (record := store.load(key))}
    (key,) = (key for key, record in records.items() if record.owner is None)
    mine = records.pop(key)
    del records[list_key("root")]
    (theirs,) = records.values()
    of_theirs = {n: raw for n, raw in theirs.fields.items() if n.startswith("\0")}
    for fields in ({**of_theirs, **mine.fields}, {**mine.fields, **of_theirs}):
        store.delete(key)
        store.insert(key, replace(mine, owner="root", fields=fields))

        no_session(site, browser)


def test_no_written_time_lifts_the_absolute_limit(tmp_path: Path) -> None:
    # Times stay plain, as stores work by them; the limit counts from the sealed notes.
    for at, value in ((0, math.nan), (1, math.nan), (0, math.inf), (1, math.inf)):
        store = FileStore(tmp_path / f"{at}-{value}")
        site, browser = started(store, lifetime=Lifetime(idle=60, absolute=600))
        (key,) = store.keys()
        path = store.path / key[:2] / key
        content = path.read_bytes()
        times = [*TIMES.unpack_from(content, 8)]
        times[at] = value
        written = TIMES.pack(*times)
        path.write_bytes(
            content[:8] + written + crc32(written).to_bytes(4, "little") + content[28:]
        )
        site.clock.advance(601)

        assert site.run(browser, read).text == "{}", (at, value)


def test_older_notes_cant_be_put_back() -> None:
    store = MemoryStore()
    site, browser = started(store)
    (key,) = store.keys()
    before = store.load(key)
    assert before is not None
    site.run(browser, lambda s: s.label.update(trusted="no"))

    store.update(key, Changes(notes=before.notes))

    no_session(site, browser)


def test_migration_seals_at_the_next_write() -> None:
    store = MemoryStore()
    plain = Site(store=store)
    browser = plain.browser()
    plain.run(browser, lambda s: s.update(a=SECRETS[0], b=1))
    migrating = Site(store=store, encryption_keys=[KEY], encryption_migrate=True)
    browser.app = migrating.middleware

    assert migrating.run(browser, lambda s: s["a"]).text == SECRETS[0]
    assert SECRETS[0].encode() in raw(store)
    migrating.run(browser, lambda s: s.update(b=2))
    assert SECRETS[0].encode() not in raw(store)

    strict = Site(store=store, encryption_keys=[KEY])
    browser.app = strict.middleware
    assert strict.run(browser, read).text == f"{{'a': '{SECRETS[0]}', 'b': 2}}"


def test_migration_seals_the_owner_too() -> None:
    store = MemoryStore()
    plain = Site(store=store)
    browser = plain.browser()
    plain.run(browser, login)
    migrating = Site(store=store, encryption_keys=[KEY], encryption_migrate=True)
    browser.app = migrating.middleware
    migrating.run(browser, lambda s: s.update(b=2))

    strict = Site(store=store, encryption_keys=[KEY])
    browser.app = strict.middleware
    assert strict.run(browser, lambda s: (s.owner, dict(s))).text == "('bob', {'b': 2})"
    assert strict.middleware.registry.count("bob") == 1


def test_field_names_of_ours_are_out_of_the_apps_reach() -> None:
    site, browser = started(MemoryStore())

    site.run(browser, login)
    ours = {"\0tie": "mine", "\0owner": 1, "\0\0": 2, "": 3}

    site.run(browser, lambda s: (s.clear(), s.update(ours)))

    assert site.run(browser, lambda s: dict(s) == ours).text == "True"
    assert site.run(browser, lambda s: (len(s), s.owner)).text == "(4, 'bob')"
