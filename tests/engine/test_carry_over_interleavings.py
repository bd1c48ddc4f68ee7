"""First requests of one old session at once, and what ends it, in every order of their store calls.

What must hold in every one: they meet in one session, nobody is left out, what was ended doesn't
come back by any cookie that was ever handed out, and whoever is signed in is in the owner's list.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest

from acts import destroy, login_as, read
from effort import tries
from interleaving import Beginning, Run, TurnStore, every_order
from old_world import OldWorld
from wsgi import Browser, Response, Site, TickingClock
from wsgi_sessions import Session
from wsgi_sessions.carry_over import Found

pytestmark = pytest.mark.untraced
ORDERS_OF_TWO = tries(test=4, check=20, everything=100_000)
ORDERS_OF_THREE = tries(test=1, check=2, everything=20_000)
TEA = "{'cart': ['tea']}"


class WatchedWorld(OldWorld):
    """An old store whose calls wait for their turn, too."""

    store: TurnStore

    def _find(self, value: str, now: float) -> Found | None:
        self.store.turn("load", "the old session")
        return super()._find(value, now)

    def delete(self, old_id: bytes) -> None:
        self.store.turn("delete", "the old session")
        super().delete(old_id)


def renew(session: Session) -> None:
    session.regenerate()


WORKS: dict[str, tuple[Any, ...]] = {
    "read": (read,),
    "read twice": (read, read),
    "leave": (read, destroy),
    "leave at once": (destroy,),
    "sign in": (read, login_as("ada")),
    "sign in at once": (login_as("ada"),),
    "renew": (renew,),
    "revoke all": (),
}
LEAVERS = {"leave", "leave at once"}
"""Whoever has begun no new epoch before is signed out by these for good."""
NEW_EPOCH = {"sign in", "sign in at once", "renew"}


class Stage:
    def __init__(self, *, owner: str | None, delete_old: bool) -> None:
        self.owner, self.delete_old = owner, delete_old

    def play(self, names: tuple[str, ...], beginning: Beginning) -> Run:
        old = WatchedWorld(delete_old=self.delete_old)
        self.store = old.store = TurnStore()
        self.site = Site(store=self.store, carry_over=[old], clock=TickingClock(1_800_000_000.0))
        self.value = old.put(owner=self.owner)
        self.browsers = [self.browser() for _ in names]
        self.answers: list[Response] = []
        return self.store.play(
            [partial(self.do, *pair) for pair in zip(names, self.browsers, strict=True)], beginning
        )

    def browser(self) -> Browser:
        browser = self.site.browser()
        browser.cookies["old"] = self.value
        return browser

    def do(self, name: str, browser: Browser) -> str:
        if name == "revoke all":
            self.site.middleware.registry.revoke_all("ada")
        said = ""
        for number, work in enumerate(WORKS[name]):
            path = f"/{id(browser)}/{number}"
            self.site.routes[path] = work
            answer = browser.get(path)
            assert answer.code == 200
            said = said or answer.text
            if "old" not in browser.cookies:
                browser.cookies["old"] = self.value
        return said

    def says(self, browser: Browser) -> str:
        return self.site.run(browser, read).text


def check(stage: Stage, names: tuple[str, ...], run: Run) -> None:
    played = set(names)
    for result in run.results.values():
        assert not isinstance(result, BaseException), result
    registry = stage.site.middleware.registry
    after = stage.says(stage.browser())
    alive = list(registry)
    tokens = [browser.cookies.get("session", "") for browser in stage.browsers]
    said = [stage.says(browser) for browser in stage.browsers]

    signed_in = sum(name.startswith("sign in") for name in names)
    # Who comes to sign in when the session has ended, or another ID, begins one of their own.
    assert len(alive) <= 1 + signed_in
    assert {after, *said} <= {TEA, "{}"}
    if stage.owner is not None:
        assert registry.count("ada") == len(alive), "live, and not listed"
    if played <= {"read", "read twice"}:
        assert {after, *said} == {TEA}
        assert len(set(tokens)) == 1
        assert set(run.results.values()) == {TEA}
    if played & (LEAVERS | NEW_EPOCH):
        assert after == "{}", "the old cookie brought it back"
    if played & LEAVERS and not played & NEW_EPOCH:
        assert (alive, set(said)) == ([], {"{}"})
    if played & NEW_EPOCH and not played & (LEAVERS | {"revoke all"}):
        assert TEA in said


def pairs(count: int) -> list[tuple[str, ...]]:
    return [
        names
        for names in itertools.combinations_with_replacement(WORKS, count)
        if names.count("revoke all") < 2
    ]


@pytest.mark.parametrize("names", pairs(2), ids=" + ".join)
@pytest.mark.parametrize(
    ("owner", "delete_old"),
    [(None, False), ("ada", False), ("ada", True)],
    ids=["nobody's", "ada's", "ada's, deleted"],
)
def test_two_at_once(names: tuple[str, ...], owner: str | None, delete_old: bool) -> None:
    stage = Stage(owner=owner, delete_old=delete_old)

    for run in every_order(partial(stage.play, names), limit=ORDERS_OF_TWO):
        check(stage, names, run)


@pytest.mark.parametrize("names", pairs(3), ids=" + ".join)
def test_three_at_once(names: tuple[str, ...]) -> None:
    stage = Stage(owner="ada", delete_old=False)

    for run in every_order(partial(stage.play, names), limit=ORDERS_OF_THREE):
        check(stage, names, run)
