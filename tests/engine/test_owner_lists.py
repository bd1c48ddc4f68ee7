"""What other requests do to an owner's list between two calls of one that reads or writes it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from records import a_key
from wsgi_sessions import StoreError
from wsgi_sessions.data.notes import Notes, dump_notes
from wsgi_sessions.engine.owners import Entry, Limits, OwnerLists, Place
from wsgi_sessions.record import Changes, Record, list_key
from wsgi_sessions.stores import MemoryStore
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

    place = lists.mine.enter_if_free("bob", ONE, until=math.inf, epoch=0, limit=limit, leaving=())

    assert place == (1 if limit == 1 else Place("bob", Entry(lists.clock(), math.inf, 0)))
    assert lists.listed == ({TWO} if limit == 1 else {ONE, TWO})


def test_a_place_is_held_though_a_list_came_and_went_meanwhile(lists: Lists) -> None:
    lists.between("insert", lambda: lists.enter(TWO))
    lists.between("load", lambda: None, lambda: lists.take_out(TWO))

    place = lists.mine.enter_if_free("bob", ONE, until=math.inf, epoch=0, limit=1)

    assert isinstance(place, Place)
    assert lists.listed == {ONE}


def test_a_session_whose_notes_cant_be_read_keeps_its_entry(lists: Lists) -> None:
    lists.enter(ONE)
    lists.store.insert(ONE, Record({}, b"?", lists.clock(), lists.clock() + 9, owner="bob"))

    assert lists.mine.list_and_heal("bob").unreadable == [ONE]
    assert lists.listed == {ONE}


def test_a_place_that_is_not_there_any_more_is_given_back(lists: Lists) -> None:
    place = Place("bob", Entry(lists.clock(), math.inf, 0))
    lists.mine.give_back(ONE, place)
    lists.enter(TWO)
    lists.mine.give_back(ONE, place)

    assert lists.listed == {TWO}


def test_a_place_that_another_request_took_anew_is_not_given_back(lists: Lists) -> None:
    place = lists.mine.enter_if_free("bob", ONE, until=math.inf, epoch=0, limit=1)
    assert isinstance(place, Place)
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

        lists.mine.list_and_heal("bob")

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
