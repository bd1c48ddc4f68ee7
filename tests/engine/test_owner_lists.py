"""What other requests do to an owner's list between two calls of one that reads or writes it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest

from records import a_key
from wsgi import Browser, Site
from wsgi_sessions import Lifetime, Session, StoreError, TooManySessions
from wsgi_sessions.data.notes import Notes, dump_notes
from wsgi_sessions.engine.decisions import SKEW
from wsgi_sessions.engine.owners import HEALING_AGE, Entry, Limits, OwnerLists, Place
from wsgi_sessions.record import LIST_OWNER, Changes, Record, UpdateResult, list_key
from wsgi_sessions.registry import SessionRegistry
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.stores.encrypted import EncryptedStore
from wsgi_sessions.stores.wrapper import StoreWrapper
from wsgi_sessions.testing import FakeClock, FaultyStore

ONE, TWO = a_key(), a_key()


class Lists:
    """Owners' lists as one request sees them, and as all others do."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.clock = FakeClock()
        self.mine = OwnerLists(self.store, Limits(), self.clock)
        self.others = OwnerLists(self.store.store, Limits(), self.clock)

    def between(self, operation: str, *works: Callable[[], object]) -> None:
        """Have one work done before each of the next calls of this operation."""
        left = iter(works)
        self.store.before(operation, lambda *a, **k: next(left, lambda: None)())

    def enter(self, key: str, epoch: int = 0) -> None:
        self.others.enter("bob", key, until=math.inf, epoch=epoch)

    def take_out(self, key: str) -> None:
        self.others.take_out("bob", [key])

    def heal(self) -> list[str]:
        """List and heal; returns the keys of what can't be read."""
        failures: list[StoreError] = []
        listing = self.mine.list_and_heal("bob", failures.append)
        assert failures == []
        return listing.unreadable

    @property
    def listed(self) -> set[str]:
        present = self.others.read("bob")
        return set() if present is None else set(present.entries)


@pytest.fixture
def lists() -> Lists:
    return Lists()


def test_a_list_that_was_made_anew_is_not_taken_for_the_one_before(lists: Lists) -> None:
    lists.enter(ONE)

    def replace() -> None:
        lists.take_out(ONE)
        lists.enter(TWO)

    lists.between("delete", replace)
    lists.mine.take_out("bob", [ONE])

    assert lists.listed == {TWO}


def test_a_list_that_is_made_while_it_is_looked_for_can_be_read(lists: Lists) -> None:
    lists.between("update", lambda: lists.enter(ONE))
    present = lists.mine.read("bob")

    assert present is not None
    assert set(present.entries) == {ONE}


@pytest.mark.parametrize("unknown", [False, True], ids=["damaged", "of another format"])
def test_a_list_that_is_there_and_stays_unreadable_is_an_error(
    lists: Lists, *, unknown: bool
) -> None:
    lists.enter(ONE)
    whole = lists.store.load(list_key("bob"))
    assert whole is not None
    entry = b"?" + whole.fields[ONE][1:] if unknown else b"?"
    lists.store.update(list_key("bob"), Changes(set={ONE: entry}))

    with pytest.raises(StoreError, match="list can't be read"):
        lists.mine.read("bob")


def test_a_login_stands_though_a_request_from_before_it_entered_the_session_again(
    lists: Lists,
) -> None:
    lists.mine.enter("bob", ONE, until=math.inf, epoch=2)
    lists.enter(ONE, epoch=1)

    assert lists.mine.confirmed("bob", ONE) is not None


@pytest.mark.parametrize("limit", [1, 2])
def test_a_place_is_held_in_a_list_that_another_login_made_first(lists: Lists, limit: int) -> None:
    lists.between("insert", lambda: lists.enter(TWO))

    def enter() -> Place:
        return lists.mine.enter_if_free("bob", ONE, until=math.inf, epoch=0, limit=limit)

    if limit == 1:
        with pytest.raises(TooManySessions, match="has 1 live sessions"):
            enter()
    else:
        assert enter() == Place("bob", Entry(lists.clock(), math.inf, 0))
    assert lists.listed == ({TWO} if limit == 1 else {ONE, TWO})


def test_a_place_is_held_though_a_list_came_and_went_meanwhile(lists: Lists) -> None:
    lists.between("insert", lambda: lists.enter(TWO))
    lists.between("load", lambda: None, lambda: lists.take_out(TWO))

    lists.mine.enter_if_free("bob", ONE, until=math.inf, epoch=0, limit=1)

    assert lists.listed == {ONE}


def test_a_session_whose_notes_cant_be_read_keeps_its_entry(lists: Lists) -> None:
    lists.enter(ONE)
    lists.store.insert(ONE, Record({}, b"?", lists.clock(), lists.clock() + 9, owner="bob"))

    assert lists.heal() == [ONE]
    assert lists.listed == {ONE}


def test_a_place_that_is_not_there_any_more_is_given_back(lists: Lists) -> None:
    place = Place("bob", Entry(lists.clock(), math.inf, 0))
    lists.mine.give_back(ONE, place)
    lists.enter(TWO)
    lists.mine.give_back(ONE, place)

    assert lists.listed == {TWO}


def test_a_place_that_another_request_took_anew_is_not_given_back(lists: Lists) -> None:
    place = lists.mine.enter_if_free("bob", ONE, until=math.inf, epoch=0, limit=1)
    lists.clock.advance(1)
    lists.enter(ONE)

    lists.mine.give_back(ONE, place)

    assert lists.listed == {ONE}


class TestALeftoverEntry:
    """One without a session of this owner's, which a login enters anew while others look at it."""

    def late_login(self, lists: Lists) -> None:
        lists.others.enter("bob", ONE, until=lists.clock() + 1000, epoch=1)
        now = lists.clock()
        lists.store.store.insert(
            ONE, Record({}, dump_notes(Notes(now, now, now)), now, now + 1000, owner="bob")
        )

    def when_it_was_looked_at(self, lists: Lists) -> None:
        """Have the login happen before the session's record is loaded for a second time."""
        looked: list[str] = []

        def hook(key: str) -> None:
            if key == ONE:
                looked.append(key)
                if len(looked) == 2:
                    self.late_login(lists)

        lists.store.before("load", hook)

    def test_a_listing_leaves_the_session(self, lists: Lists) -> None:
        lists.enter(ONE)
        lists.clock.advance(600)
        self.when_it_was_looked_at(lists)

        lists.heal()

        assert lists.store.store.load(ONE) is not None
        assert lists.listed == {ONE}

    def test_so_does_the_tidying_of_another_login(self, lists: Lists) -> None:
        others = {a_key() for _ in range(15)}
        for key in {ONE, *others}:
            lists.enter(key)
        lists.clock.advance(600)
        self.when_it_was_looked_at(lists)
        present = lists.others.read("bob")
        assert present is not None

        lists.mine.tidy("bob", present)

        assert lists.store.store.load(ONE) is not None
        assert lists.listed == {ONE}

    def test_its_new_entry_is_not_overwritten_with_the_one_that_was_seen(
        self, lists: Lists
    ) -> None:
        lists.enter(ONE)
        lists.clock.advance(600)
        read: list[str] = []

        def hook(key: str) -> None:
            if key == list_key("bob"):
                read.append(key)
                if len(read) == 2:
                    self.late_login(lists)

        lists.store.before("load", hook)
        lists.mine.heal_all()

        present = lists.others.read("bob")
        assert present is not None
        assert present.entries[ONE] == Entry(lists.clock(), lists.clock() + 1000, 1)


class TestAPurge:
    def test_it_leaves_the_entry_of_a_login_that_is_under_way(self, lists: Lists) -> None:
        lists.enter(ONE)

        lists.mine.heal_all()

        assert lists.listed == {ONE}

    def test_it_takes_out_what_is_over_and_leaves_the_rest(self, lists: Lists) -> None:
        lists.enter(ONE)
        lists.clock.advance(600)
        lists.enter(TWO)

        lists.mine.heal_all()

        assert lists.listed == {TWO}

    @pytest.mark.parametrize("left", [set(), {TWO}], ids=["gone", "of another session"])
    def test_what_it_would_take_out_may_be_gone_already(self, lists: Lists, left: set[str]) -> None:
        lists.enter(ONE)
        lists.clock.advance(600)

        def meanwhile() -> None:
            for key in left:
                lists.enter(key)
            lists.take_out(ONE)

        # The list is read, then the session, then the list again.
        lists.between("load", lambda: None, lambda: None, meanwhile)
        lists.mine.heal_all()

        assert lists.listed == left

    def test_it_takes_its_time_and_leaves_what_was_entered_meanwhile(self, lists: Lists) -> None:
        lists.enter(ONE)
        lists.clock.advance(600)

        def meanwhile() -> None:
            lists.clock.advance(90)
            lists.enter(TWO)

        lists.between("load", meanwhile)
        lists.mine.heal_all()

        assert lists.listed == {TWO}

    def test_a_list_that_cannot_be_healed_just_now_hinders_no_other(self, lists: Lists) -> None:
        lists.enter(ONE)
        lists.others.enter("eve", TWO, until=math.inf, epoch=0)
        lists.clock.advance(600)
        failed: list[str] = []

        def fail(key: str, **_: object) -> None:
            if not failed:
                failed.append(key)
                raise StoreError("not just now", operation="delete")

        lists.store.before("delete", fail)
        with pytest.raises(StoreError, match="not just now"):
            lists.mine.heal_all()

        left = [owner for owner in ("bob", "eve") if lists.others.read(owner) is not None]
        assert [list_key(owner) for owner in left] == failed


# Keys of encryption that come and go

OLDER, NEWER, ELSE = (bytes([number]) * 32 for number in (1, 2, 3))
DAY = 86400.0
MONTH = 30 * DAY


class Encrypted:
    """Logins of one user through sites that differ in their keys, on one store."""

    def __init__(self, **options: Any) -> None:
        self.store = FaultyStore(MemoryStore())
        self.options = options
        self.now = 1_800_000_000.0

    def site(self, *keys: bytes, migrate: bool = False) -> Site:
        site = Site(
            store=self.store,
            encryption_keys=list(keys),
            encryption_migrate=migrate,
            **self.options,
        )
        site.clock.now = self.now
        return site

    def sign_in(self, *keys: bytes, migrate: bool = False, site: Site | None = None) -> int:
        site = site or self.site(*keys, migrate=migrate)
        site.clock.now = self.now
        return site.run(site.browser(), lambda session: session.login("bob")).code

    def devices(self, *keys: bytes) -> int:
        return self.registry(*keys).count("bob")

    def registry(self, *keys: bytes) -> SessionRegistry:
        return self.site(*keys).middleware.registry


@pytest.fixture(params=["end_oldest", "refuse"])
def encrypted(request: pytest.FixtureRequest) -> Encrypted:
    return Encrypted(max_per_owner=99, when_full=request.param)


def test_who_signs_in_again_and_again_needs_no_key_of_before(encrypted: Encrypted) -> None:
    encrypted.sign_in(OLDER)
    for _ in range(6):
        encrypted.now += 7 * DAY
        assert encrypted.sign_in(NEWER, OLDER) == 200

    assert encrypted.sign_in(NEWER) == 200
    assert encrypted.devices(NEWER) == 2


def test_a_login_under_the_newest_key_alone_seals_no_list_anew(encrypted: Encrypted) -> None:
    encrypted.sign_in(NEWER, OLDER)
    encrypted.store.calls.clear()
    encrypted.sign_in(NEWER, OLDER)
    usual = dict(encrypted.store.calls)
    encrypted.store.calls.clear()
    encrypted.sign_in(ELSE, NEWER)
    once_more = dict(encrypted.store.calls)

    assert once_more == {**usual, "update": usual.get("update", 0) + 1}


@pytest.mark.parametrize("keys", [(), (OLDER,)])
@pytest.mark.parametrize("absolute", [MONTH, None])
class TestAListThatCannotBeRead:
    """As good as none as soon as its sessions are over, which may be long before it ends."""

    @pytest.fixture
    def signed_in(
        self, encrypted: Encrypted, keys: tuple[bytes, ...], absolute: float | None
    ) -> Encrypted:
        encrypted.options["lifetime"] = Lifetime(DAY, absolute)
        encrypted.sign_in(*keys)
        return encrypted

    def test_it_is_one_as_long_as_a_session_on_it_may_live(self, signed_in: Encrypted) -> None:
        signed_in.now += DAY - 1
        assert signed_in.sign_in(ELSE) == 503
        for ask in (signed_in.devices, lambda key: signed_in.registry(key).revoke_all("bob")):
            with pytest.raises(StoreError, match="list can't be read.* add it again"):
                ask(ELSE)

        signed_in.now += SKEW + 1
        assert signed_in.devices(ELSE) == 0
        assert signed_in.sign_in(ELSE) == 200
        assert signed_in.devices(ELSE) == 1

    def test_use_of_a_session_keeps_it_though_nothing_is_written_to_it(
        self, encrypted: Encrypted, keys: tuple[bytes, ...], absolute: float | None
    ) -> None:
        encrypted.options["lifetime"] = Lifetime(DAY, absolute)
        site = encrypted.site(*keys)
        browser = site.browser()
        for _ in range(3):
            site.run(browser, lambda session: session.login("bob") if session.is_new else None)
            encrypted.now = site.clock.now = site.clock.now + DAY / 2

        assert encrypted.sign_in(ELSE) == 503

    def test_so_does_a_login_under_way(self, signed_in: Encrypted, keys: tuple[bytes, ...]) -> None:
        signed_in.now += 2 * DAY
        late = signed_in.site(*keys)
        answers: list[int] = []

        def meanwhile(key: str, *_: object, **__: object) -> None:
            if key == list_key("bob") and not answers:
                answers.append(0)
                answers.append(signed_in.sign_in(ELSE))
                signed_in.registry().purge_expired()

        signed_in.store.after("update", meanwhile)

        assert signed_in.sign_in(site=late) == 200
        assert answers == [0, 503]
        assert late.middleware.registry.count("bob") == 1

    @pytest.mark.parametrize("purging", [(), (ELSE,)])
    def test_a_purge_removes_it_with_or_without_a_key(
        self, signed_in: Encrypted, purging: tuple[bytes, ...]
    ) -> None:
        registry = signed_in.registry(*purging)
        signed_in.now += DAY - 1
        registry.purge_expired()
        assert list_key("bob") in set(signed_in.store.keys())

        signed_in.now += SKEW + 2
        signed_in.registry(*purging).purge_expired()
        assert list(signed_in.store.keys()) == []


def test_what_says_where_a_session_was_carried_is_no_list_that_cannot_be_read() -> None:
    inner, clock = MemoryStore(), FakeClock()
    record = Record({}, b"where", clock(), clock() + MONTH, owner=LIST_OWNER)
    EncryptedStore(inner, (OLDER,)).insert(ONE, record)
    clock.advance(DAY)

    for store in (inner, EncryptedStore(inner, (NEWER,))):
        SessionRegistry(store, clock=clock).purge_expired()
        assert inner.load(ONE) is not None


class TestAppsWithOtherLimits:
    """A list ends when none of its sessions can live any more, whoever enters another one."""

    @pytest.mark.parametrize("made_anew", [False, True])
    @pytest.mark.parametrize("limit", [None, 9])
    def test_a_list_ends_no_earlier_than_its_sessions(
        self, lists: Lists, limit: int | None, *, made_anew: bool
    ) -> None:
        def enter(absolute: float, key: str) -> None:
            app, until = apps[absolute], lists.clock() + absolute
            if limit is None:
                app.enter("bob", key, until=until, epoch=0)
            else:
                app.enter_if_free("bob", key, until=until, epoch=0, limit=limit)

        apps = {
            absolute: OwnerLists(lists.store, Limits(60, absolute), lists.clock)
            for absolute in (60, MONTH)
        }
        ends = lists.clock() + MONTH
        if made_anew:
            enter(MONTH, ONE)
            lists.take_out(ONE)
            enter(60, TWO)
            enter(MONTH, ONE)
        else:
            enter(60, ONE)
            enter(MONTH, TWO)
            lists.clock.advance(30)
            enter(60, ONE)

        record = lists.store.load(list_key("bob"))
        assert record is not None
        assert record.expires_at >= ends

    @pytest.mark.parametrize("limit", [None, 9])
    @pytest.mark.parametrize(("epoch", "days"), [(0, 59), (10**5, 30)], ids=["none", "another"])
    def test_one_whose_day_is_not_that_of_its_end_ends_no_earlier(
        self, lists: Lists, epoch: int, days: int, limit: int | None
    ) -> None:
        """As former versions write them."""
        began = lists.clock()
        lists.enter(ONE)
        ends = began + 86400 * days
        lists.store.update(
            list_key("bob"), Changes(used_at=began, expires_at=ends, epoch=epoch), if_epoch=None
        )
        lists.clock.advance(86400 * 31)
        calls = lists.store.calls.total()

        if limit is None:
            lists.mine.enter("bob", TWO, until=lists.clock() + 9, epoch=0)
        else:
            lists.mine.enter_if_free("bob", TWO, until=lists.clock() + 9, epoch=0, limit=limit)

        record = lists.store.load(list_key("bob"))
        assert record is not None
        assert record.expires_at >= max(ends, lists.clock() + 9)
        assert record.used_at == min(lists.clock(), ends - 1)
        assert lists.listed == {ONE, TWO}
        assert lists.store.calls.total() - calls <= 6

    def test_one_without_a_limit_never_ends(self, lists: Lists) -> None:
        lists.enter(ONE)
        lists.mine.enter("bob", TWO, until=lists.clock() + 9, epoch=0)

        record = lists.store.load(list_key("bob"))
        assert record is not None
        assert record.expires_at == math.inf

    def test_one_that_has_expired_by_this_clock_is_used_all_the_same(self, lists: Lists) -> None:
        lists.mine.enter("bob", ONE, until=lists.clock() + 9, epoch=0)
        lists.clock.advance(MONTH)
        lists.mine.enter("bob", TWO, until=lists.clock() + 9, epoch=0)
        lists.clock.advance(-MONTH)

        assert lists.listed == {ONE, TWO}


def test_a_process_that_does_not_encrypt_yet_spoils_no_list(encrypted: Encrypted) -> None:
    old, new = encrypted.site(), encrypted.site(NEWER, migrate=True)
    answers = [encrypted.sign_in(site=site) for site in (old, new, old, new)]

    assert answers == [200, 200, 503, 200]
    assert encrypted.sign_in(NEWER, migrate=True) == 200
    assert encrypted.sign_in(NEWER) == 200
    # The first one was never written again, so it is plain still.
    assert encrypted.devices(NEWER) == 5 - 1


def test_a_field_that_such_a_process_wrote_is_read_while_records_migrate() -> None:
    encrypted = Encrypted()
    site = encrypted.site(NEWER, migrate=True)
    browser = site.browser()
    site.run(browser, lambda session: session.update(a=1))
    (key,) = encrypted.store.keys()
    encrypted.store.update(key, Changes(set={"b": b"2"}))

    assert site.run(browser, lambda session: dict(session)).text == "{'a': 1, 'b': 2}"
    strict = encrypted.site(NEWER)
    again = strict.browser()
    again.cookies.update(browser.cookies)
    assert strict.run(again, lambda session: session.get("b")).text == "None"


def test_and_sealed_by_the_next_write() -> None:
    encrypted = Encrypted()
    site = encrypted.site(NEWER, migrate=True)
    browser = site.browser()
    site.run(browser, lambda session: session.update(a=1, d=1))
    (key,) = encrypted.store.keys()
    encrypted.store.update(key, Changes(set={"b": b"2", "c": b"3"}, delete=frozenset({"d"})))
    site.run(browser, lambda session: session.pop("c") and session.update(a=2))

    strict = encrypted.site(NEWER)
    again = strict.browser()
    again.cookies.update(browser.cookies)
    assert strict.run(again, lambda session: dict(session)).text == "{'a': 2, 'b': 2}"


class TestAPlainSessionThatIsSealed:
    """Its list is sealed before it, for a plain process takes a sealed owner for another one."""

    @pytest.fixture
    def encrypted(self) -> Encrypted:
        return Encrypted()

    def sealing(self, encrypted: Encrypted) -> tuple[Site, Browser]:
        """A site that seals, and the browser of a plain session."""
        plain, migrating = encrypted.site(), encrypted.site(NEWER, migrate=True)
        browser = plain.browser()
        plain.run(browser, lambda session: session.login("bob"))
        browser.app = migrating.middleware
        return migrating, browser

    @pytest.mark.parametrize("ask", ["sessions", "revoke_all"])
    def test_it_stays_listed_whatever_a_plain_process_does_meanwhile(
        self, encrypted: Encrypted, ask: str
    ) -> None:
        migrating, browser = self.sealing(encrypted)
        registry = encrypted.site().middleware.registry
        answers: list[str] = []

        def meanwhile(*_: object, **__: object) -> None:
            if not answers:
                answers.append("asking")
                with contextlib.suppress(StoreError):
                    answers.append(f"{ask}: {getattr(registry, ask)('bob')}")

        encrypted.store.after("update", meanwhile)
        migrating.run(browser, lambda session: session.update(a=1))

        assert answers == ["asking"]
        assert migrating.middleware.registry.count("bob") == 1
        assert migrating.middleware.registry.revoke_all("bob") == 1
        assert migrating.run(browser, lambda session: session.owner).text == "None"

    def test_nor_is_it_sealed_if_its_list_cannot_be(self, encrypted: Encrypted) -> None:
        migrating, browser = self.sealing(encrypted)
        failing = [list_key("bob")]

        def fail(key: str, *_: object, **__: object) -> None:
            if key in failing:
                failing.remove(key)
                raise StoreError("not just now", operation="update")

        encrypted.store.before("update", fail)
        answers = [migrating.run(browser, lambda session: session.update(a=1)) for _ in range(2)]
        assert [answer.code for answer in answers] == [503, 200]

        with pytest.raises(StoreError, match="list can't be read"):
            encrypted.site().middleware.registry.revoke_all("bob")
        assert migrating.middleware.registry.revoke_all("bob") == 1


def test_a_list_of_which_one_entry_cannot_be_read_is_over_with_the_others(
    encrypted: Encrypted,
) -> None:
    encrypted.sign_in(NEWER, OLDER)
    site = encrypted.site(NEWER)
    encrypted.sign_in(site=site)
    plain = EncryptedStore(encrypted.store, (OLDER,))
    plain.update(list_key("bob"), Changes(set={a_key(): b"of a process with the older key"}))
    encrypted.now += DAY - 1
    assert [encrypted.sign_in(site=site) for _ in range(2)] == [503, 503]
    with pytest.raises(StoreError, match="list can't be read"):
        encrypted.devices(NEWER)

    # The first of the two may have entered itself before it read the list.
    encrypted.now += 2 * HEALING_AGE
    assert encrypted.devices(NEWER) == 0
    assert encrypted.sign_in(site=site) == 200
    assert encrypted.devices(NEWER) == 1


def spoilt(encrypted: Encrypted) -> None:
    """A list that the newer key opens, with an entry that only the older one does."""
    encrypted.sign_in(NEWER)
    other = EncryptedStore(encrypted.store, (OLDER,))
    other.update(list_key("bob"), Changes(set={a_key(): b"of a process with the older key"}))


@pytest.mark.parametrize(
    "spoil", [lambda encrypted: encrypted.sign_in(OLDER), spoilt], ids=["all of it", "a field"]
)
class TestAListThatIsOverAndCannotBeRead:
    def test_it_is_the_only_record_that_the_next_login_deletes(
        self,
        encrypted: Encrypted,
        spoil: Callable[[Encrypted], object],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        spoil(encrypted)
        encrypted.now += MONTH + 1
        deleted: list[str] = []
        encrypted.store.before("delete", lambda key, **_: deleted.append(key))

        assert encrypted.sign_in(NEWER) == 200
        assert encrypted.devices(NEWER) == 1
        assert deleted == [list_key("bob")]
        assert encrypted.store.calls["purge_expired"] == 0
        (line,) = (text for text in caplog.messages if "removed" in text)
        assert list_key("bob") in line

    def test_where_two_logins_delete_it_neither_takes_the_others(
        self, encrypted: Encrypted, spoil: Callable[[Encrypted], object]
    ) -> None:
        spoil(encrypted)
        encrypted.now += MONTH + 1
        left = [True]

        def meanwhile(*_: object, **__: object) -> None:
            if left:
                left.clear()
                assert encrypted.sign_in(NEWER) == 200

        encrypted.store.before("delete", meanwhile)

        assert encrypted.sign_in(NEWER) == 200
        assert encrypted.devices(NEWER) == 2

    def test_one_that_went_meanwhile_is_in_nobodys_way(
        self, encrypted: Encrypted, spoil: Callable[[Encrypted], object]
    ) -> None:
        spoil(encrypted)
        encrypted.now += MONTH + 1
        left = [list_key("bob")]

        def meanwhile(key: str, *_: object) -> None:
            if key in left:
                left.clear()
                encrypted.store.store.delete(key)

        encrypted.store.after("insert", meanwhile)

        assert encrypted.sign_in(NEWER) == 200
        assert encrypted.devices(NEWER) == 1


class NeverThere(StoreWrapper):
    """To which a damaged record is there, and yet never takes an update but an empty one."""

    damaged = False
    knows_its_end = False

    def load(self, key: str) -> Record | None:
        return None if self.damaged and key == list_key("bob") else self.store.load(key)

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        blind = self.damaged and not self.knows_its_end
        if blind and key == list_key("bob") and changes != Changes():
            return UpdateResult.GONE
        return self.store.update(key, changes, if_epoch=if_epoch, if_version=if_version)


def test_a_list_that_is_damaged_is_not_one_that_is_over() -> None:
    store = NeverThere(MemoryStore())
    site = Site(store=store)
    site.run(site.browser(), lambda session: session.login("bob"))
    store.damaged = True
    registry = Site(store=store).middleware.registry

    for ask in (registry.sessions, registry.count, registry.revoke_all):
        with pytest.raises(StoreError, match="list can't be read"):
            ask("bob")


def test_one_whose_entries_are_lost_is_over_when_it_ends() -> None:
    store = NeverThere(MemoryStore())
    site = Site(store=store)
    site.run(site.browser(), lambda session: session.login("bob"))
    store.damaged = store.knows_its_end = True

    site.clock.advance(MONTH)
    with pytest.raises(StoreError, match="list can't be read"):
        site.middleware.registry.count("bob")
    site.clock.advance(2 * DAY)
    assert site.middleware.registry.count("bob") == 0


def test_a_login_that_is_taken_back_leaves_no_session_that_is_in_no_list(lists: Lists) -> None:
    site = Site(store=lists.store)
    site.run(site.browser(), lambda session: session.login("eve"))
    browser = site.browser()
    site.run(browser, lambda session: session.login("bob"))
    lists.store.update(list_key("eve"), Changes(set={a_key(): b"damaged"}))

    assert site.run(browser, lambda session: session.login("eve")).code == 503
    assert site.run(browser, lambda session: session.owner).text == "None"
    assert site.middleware.registry.count("bob") == 0


@pytest.mark.parametrize("alone", [False, True], ids=["of a middleware", "alone"])
def test_a_session_is_revoked_though_its_owners_list_cannot_be_read(
    lists: Lists, caplog: pytest.LogCaptureFixture, alone: bool
) -> None:
    site = Site(store=lists.store)
    browser = site.browser()
    site.run(browser, lambda session: session.login("bob"))
    handle = site.run(browser, lambda session: session.handle).text
    lists.store.update(list_key("bob"), Changes(set={a_key(): b"damaged"}))
    alone_registry = SessionRegistry(lists.store, clock=site.clock)
    registry = alone_registry if alone else site.middleware.registry
    site.events.clear()
    caplog.clear()

    assert registry.revoke(handle) is True
    assert registry.revoke(handle) is False
    told = [(event.kind, event.handle) for event in site.events]
    assert site.run(browser, lambda session: session.owner).text == "None"
    assert told == ([] if alone else [("revoked", handle), ("store_error", handle)])
    assert [text for text in caplog.messages if "take out: an owner's list can't be read" in text]


@pytest.mark.parametrize("keys", [(), (OLDER,), (NEWER,)])
class TestRevokingByHandle:
    @staticmethod
    def signed_in(encrypted: Encrypted) -> tuple[Site, Browser, str]:
        site = encrypted.site(OLDER)
        browser = site.browser()
        site.run(browser, lambda session: session.login("bob"))
        return site, browser, site.run(browser, lambda session: session.handle).text

    def test_it_needs_no_key(self, keys: tuple[bytes, ...]) -> None:
        encrypted = Encrypted()
        site, browser, handle = self.signed_in(encrypted)
        registry = encrypted.registry(*keys)

        assert [registry.revoke(handle), registry.revoke(handle)] == [True, False]
        assert site.run(browser, lambda session: session.owner).text == "None"

    def test_what_is_over_is_not_ended_once_more(self, keys: tuple[bytes, ...]) -> None:
        encrypted = Encrypted()
        _, _, handle = self.signed_in(encrypted)
        encrypted.now += DAY + 1

        assert encrypted.registry(*keys).revoke(handle) is False

    def test_it_ends_no_list(self, keys: tuple[bytes, ...]) -> None:
        encrypted = Encrypted()
        encrypted.sign_in(OLDER)

        assert encrypted.registry(*keys).revoke(list_key("bob")) is False
        assert encrypted.devices(OLDER) == 1


def test_a_process_that_refuses_none_does_not_let_another_go_over_the_limit(lists: Lists) -> None:
    refusing, ending = (
        Site(store=lists.store, max_per_owner=2, when_full=when_full)
        for when_full in ("refuse", "end_oldest")
    )
    ending.run(ending.browser(), lambda session: session.login("bob"))

    def login(session: Session) -> None:
        session.login("bob")  # which holds a place until the end of the request
        ending.run(ending.browser(), lambda session: session.login("bob"))

    refusing.run(refusing.browser(), login)

    assert refusing.middleware.registry.count("bob") == 2


# A server that is full


def full(key: str, changes: Changes, **_: object) -> None:
    """Refuse whatever takes room, as a server does that may not evict."""
    if changes.set:
        raise StoreError("no room", operation="update")


def test_revoking_needs_no_room(lists: Lists) -> None:
    site = Site(store=lists.store)
    browsers = [site.browser() for _ in range(3)]
    for browser in browsers:
        site.run(browser, lambda session: session.login("bob"))
    lists.store.before("update", full)

    assert site.middleware.registry.revoke_all("bob") == 3
    assert list(lists.store.keys()) == []


def test_a_login_that_writes_meanwhile_is_revoked_as_well(lists: Lists) -> None:
    site = Site(store=lists.store)
    site.run(site.browser(), lambda session: session.login("bob"))
    late = a_key()
    lists.enter(late)
    began = 1_800_000_000.0

    def write() -> None:
        if not lists.store.store.load(late):
            notes = dump_notes(Notes(began, began, began))
            lists.store.store.insert(late, Record({}, notes, began, math.inf, owner="bob"))

    lists.store.before("update", full)
    # After both records were looked at once, when the list itself is to go.
    lists.store.before("delete", lambda key, **_: write() if key == list_key("bob") else None)
    site.middleware.registry.revoke_all("bob")

    assert lists.store.store.load(late) is None


def test_a_login_counts_as_use_of_the_list_from_which_a_server_counts_its_end(
    encrypted: Encrypted,
) -> None:
    for _ in range(20):
        encrypted.sign_in(NEWER)
        encrypted.now += 7 * DAY

    record = encrypted.store.load(list_key("bob"))
    assert record is not None
    assert record.used_at == encrypted.now - 7 * DAY
    assert MONTH + DAY <= record.expires_at - record.used_at <= MONTH + 2 * DAY
