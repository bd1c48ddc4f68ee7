"""Ending an owner's sessions that are over: what it costs, whom it spares, and where it can't be
done."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from records import a_key
from wsgi import Browser, Site
from wsgi_sessions import Lifetime, SessionRegistry, StoreError
from wsgi_sessions.data.notes import Notes, dump_notes
from wsgi_sessions.engine.owners import Limits, OwnerLists
from wsgi_sessions.record import Changes, Record, UpdateResult, list_key
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FakeClock, FaultyStore

HOUR = 3600.0
BOB = list_key("bob")


def login(session: Any) -> None:
    session.login("bob")


def an_hour(store: Any, **options: Any) -> Site:
    """A site whose sessions are over an hour after their last use."""
    return Site(store=store, lifetime=Lifetime(HOUR, 24 * HOUR), **options)


def sign_in(site: Site, number: int) -> list[Browser]:
    browsers = [site.browser() for _ in range(number)]
    for browser in browsers:
        site.run(browser, login, check=False)
    return browsers


# What it costs


class Counting(StoreWrapper):
    """Counts calls, and the entries of lists that were read or written."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.calls = self.entries = 0

    @property
    def cost(self) -> tuple[int, int]:
        return self.calls, self.entries

    def load(self, key: str) -> Record | None:
        self.calls += 1
        record = self.store.load(key)
        self.entries += 0 if record is None or key != BOB else len(record.fields)
        return record

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        self.calls += 1
        self.entries += len(changes.set) + len(changes.delete)
        return self.store.update(key, changes, **conditions)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        self.calls += 1
        return self.store.delete(key, if_version=if_version)


def after_the_idle_limit(site: Site, work: Callable[[SessionRegistry], object]) -> None:
    site.clock.advance(HOUR + 1)
    work(site.middleware.registry)


def after_a_lower_limit(site: Site) -> None:
    lower = an_hour(site.store, max_per_owner=5, clock=site.clock)
    sign_in(lower, 1)
    assert lower.middleware.registry.count("bob") == 5


def after_half_a_revocation(site: Site) -> None:
    lists = OwnerLists(site.store, Limits(), site.clock)
    present = lists.read("bob")
    assert present is not None and lists.mark("bob", present.entries) is not None
    assert site.middleware.registry.count("bob") == 0


LONG_LISTS: dict[str, Callable[[Site], object]] = {
    "listing": lambda site: after_the_idle_limit(site, lambda r: r.sessions("bob")),
    "purging": lambda site: after_the_idle_limit(site, lambda r: r.purge_expired()),
    "revoking": lambda site: site.middleware.registry.revoke_all("bob"),
    "what was half revoked": after_half_a_revocation,
    "a login under a lower limit": after_a_lower_limit,
}


@pytest.mark.parametrize("work", LONG_LISTS.values(), ids=list(LONG_LISTS))
def test_twice_as_many_sessions_cost_twice_as_much(work: Callable[[Site], object]) -> None:
    costs = []
    for number in (20, 40, 60):
        store = Counting()
        site = an_hour(store)
        sign_in(site, number)
        before = store.cost
        work(site)
        costs.append([now - then for now, then in zip(store.cost, before, strict=True)])

    for one, two, three in zip(*costs, strict=True):
        assert three - two == two - one, costs


# Whom it spares


class Meanwhile:
    """A session that is over, and what happens to it while a listing deletes another's record."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.site = an_hour(self.store)
        self.lists = OwnerLists(self.store.store, Limits(), self.site.clock)
        self.key = a_key()
        self.lists.enter("bob", self.key, until=math.inf, epoch=0)
        now = self.site.clock()
        notes = dump_notes(Notes(now, now, now))
        self.store.insert(self.key, Record({}, notes, now, now + HOUR, owner="bob"))
        self.site.clock.advance(HOUR + 1)

    def write(self, **changes: Any) -> None:
        """A request that began before the session was over writes to it."""
        assert self.store.store.update(self.key, Changes(set={"a": b"1"}, **changes)) is (
            UpdateResult.UPDATED
        )

    def renew(self) -> None:
        """Such a request counts as use."""
        began = self.site.clock() - 2
        self.write(used_at=began, expires_at=began + HOUR)

    def once(self, operation: str, work: Callable[[], object], key: str | None = None) -> None:
        """Do this before the first such call, or the first that concerns the key."""
        done: list[bool] = []

        def hook(at: str, *_: object, **__: object) -> None:
            if not done and at == (key or self.key):
                done.append(True)
                work()

        self.store.before(operation, hook)

    @property
    def is_there(self) -> tuple[bool, bool]:
        """Whether its record is there, and its entry."""
        present = self.lists.read("bob")
        listed = present is not None and self.key in present.entries
        return self.store.store.load(self.key) is not None, listed

    def listing(self) -> int:
        return self.site.middleware.registry.count("bob")


@pytest.fixture
def meanwhile() -> Meanwhile:
    return Meanwhile()


def test_a_session_that_was_renewed_meanwhile_lives_and_stays_on_the_list(
    meanwhile: Meanwhile,
) -> None:
    meanwhile.once("delete", meanwhile.renew)
    taken: list[str] = []
    meanwhile.store.before("update", lambda at, changes, **_: taken.extend(changes.delete))

    assert meanwhile.listing() == 0  # as it was when it was looked at
    assert meanwhile.is_there == (True, True)
    assert meanwhile.listing() == 1
    assert taken == []


def test_one_that_was_renewed_before_the_list_was_read_again_lives(meanwhile: Meanwhile) -> None:
    reads: list[str] = []

    def hook(at: str) -> None:
        reads.append(at)
        if reads.count(BOB) == 2 and meanwhile.key in reads:
            reads.clear()
            meanwhile.renew()

    meanwhile.store.before("load", hook)

    meanwhile.listing()
    assert meanwhile.is_there == (True, True)


@pytest.mark.parametrize("writes", ["load", "delete"])
def test_one_that_a_login_has_entered_anew_lives(meanwhile: Meanwhile, writes: str) -> None:
    """Its record is written before it is looked at, or before it is to be deleted."""
    now = meanwhile.site.clock()

    def enter() -> None:
        meanwhile.lists.enter("bob", meanwhile.key, until=math.inf, epoch=1)

    if writes == "load":
        # What was read first says that it is being ended.
        meanwhile.lists.enter("bob", meanwhile.key, until=math.inf, epoch=0, ending=True)
        meanwhile.once("load", enter)
        meanwhile.once("load", lambda: meanwhile.write(epoch=1, expires_at=now + HOUR))
    else:
        meanwhile.once("delete", lambda: meanwhile.write(epoch=1, expires_at=now + HOUR))
        meanwhile.once("delete", enter)

    meanwhile.listing()
    assert meanwhile.is_there == (True, True)


@pytest.mark.parametrize("ending", [False, True])
def test_one_that_was_only_written_to_ends_all_the_same(meanwhile: Meanwhile, ending: bool) -> None:
    if ending:
        meanwhile.lists.enter("bob", meanwhile.key, until=math.inf, epoch=0, ending=True)
    meanwhile.once("delete", meanwhile.write)

    assert meanwhile.listing() == 0
    assert meanwhile.is_there == (False, False)


def test_one_that_another_listing_ended_first_is_taken_out(meanwhile: Meanwhile) -> None:
    meanwhile.once("delete", lambda: meanwhile.store.store.delete(meanwhile.key))

    assert meanwhile.listing() == 0
    assert meanwhile.is_there == (False, False)


def test_one_that_is_always_written_to_first_is_left_for_the_next_listing(
    meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    meanwhile.store.before("delete", lambda *_, **__: meanwhile.write())

    assert meanwhile.listing() == 0
    assert [event.detail for event in meanwhile.site.events if event.kind == "store_error"] == [
        "heal: a session could not be ended"
    ]
    assert meanwhile.is_there == (True, True)


def test_a_login_too_many_ends_also_what_is_written_to_meanwhile() -> None:
    store = FaultyStore(MemoryStore())
    site = an_hour(store, max_per_owner=1)
    (first,) = sign_in(site, 1)
    handle = site.run(first, lambda session: session.handle).text
    written: list[UpdateResult] = []

    def write(key: str, **_: object) -> None:
        if key == handle and not written:
            written.append(store.store.update(key, Changes(set={"a": b"1"})))

    store.before("delete", write)
    sign_in(site, 1)

    assert written == [UpdateResult.UPDATED]
    assert [(e.handle, e.detail) for e in site.events if e.kind == "revoked"] == [
        (handle, "max_per_owner")
    ]
    assert site.run(first, lambda session: session.owner).text == "None"


# Where it can't be done


class ReadOnly(StoreWrapper):
    """Can be read; like a replica, or a full disk."""

    def update(self, key: str, changes: Changes, **conditions: Any) -> UpdateResult:
        if changes == Changes():  # which writes nothing
            return self.store.update(key, changes, **conditions)
        raise StoreError("no writing here", operation="update")

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        raise StoreError("no writing here", operation="delete")


def lose(store: MemoryStore, handle: str) -> int:
    store.delete(handle)
    return 2


def expire(store: MemoryStore, handle: str) -> int:
    store.update(handle, Changes(expires_at=1.0))
    return 2


def half_revoke(store: MemoryStore, handle: str) -> int:
    lists = OwnerLists(store, Limits(), FakeClock())
    present = lists.read("bob")
    assert present is not None
    lists.mark("bob", {handle: present.entries[handle]})
    return 3  # it lives until it is ended


@pytest.mark.parametrize("spoil", [lose, expire, half_revoke])
def test_what_can_be_read_is_listed_where_nothing_can_be_written(
    spoil: Callable[[MemoryStore, str], int], caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    site = an_hour(store)
    first, *_ = sign_in(site, 3)
    handle = site.run(first, lambda session: session.handle).text
    site.clock.advance(120)
    live = spoil(store, handle)
    replica = an_hour(ReadOnly(store), clock=site.clock)
    registry = replica.middleware.registry

    assert len(registry.sessions("bob")) == registry.count("bob") == live
    assert [(e.kind, e.owner, e.detail) for e in replica.events] == [
        ("store_error", "bob", "heal: no writing here")
    ] * 2
    assert caplog.messages[-1] == "session event store_error; heal: no writing here"
    assert site.middleware.registry.count("bob") == 2


def test_what_could_be_ended_is_not_listed_though_its_entry_stays() -> None:
    """As on a full disk."""
    store = FaultyStore(inner := MemoryStore())
    site = an_hour(store)
    first, *_ = sign_in(site, 3)
    half_revoke(inner, site.run(first, lambda session: session.handle).text)
    site.clock.advance(120)
    store.fail("update")

    assert site.middleware.registry.count("bob") == 2


def test_what_cannot_be_read_is_still_an_error() -> None:
    store = FaultyStore(MemoryStore())
    site = an_hour(store)
    sign_in(site, 1)
    store.before("load", lambda key: store.fail("load") if key != BOB else None)

    with pytest.raises(StoreError, match="set to fail"):
        site.middleware.registry.count("bob")
