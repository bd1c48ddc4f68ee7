"""What other requests do to an owner's list between two calls of one that reads or writes it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from records import a_key
from wsgi_sessions import StoreError
from wsgi_sessions.engine.owners import Limits, OwnerLists
from wsgi_sessions.record import LIST_OWNER, Record, list_key
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore

ONE, TWO = a_key(), a_key()


class Lists:
    """Owners' lists as one request sees them, and as all others do."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        clock = FakeClock()
        self.mine = OwnerLists(self.store, Limits(), clock)
        self.others = OwnerLists(self.store.store, Limits(), clock)

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


def test_a_list_that_is_there_and_stays_unreadable_is_an_error(lists: Lists) -> None:
    damaged = Record({ONE: b"?"}, b"", 0.0, math.inf, owner=LIST_OWNER)
    lists.store.store.insert(list_key("bob"), damaged)

    with pytest.raises(StoreError, match="list can't be read"):
        lists.mine.read("bob")


def test_a_login_stands_though_a_request_from_before_it_entered_the_session_again(
    lists: Lists,
) -> None:
    lists.mine.enter("bob", ONE, until=math.inf, epoch=2)
    lists.enter(ONE, epoch=1)

    assert lists.mine.confirmed("bob", ONE) is not None
