"""What happens outside of requests: time, revocations, purges, cookies that move, damage."""

from __future__ import annotations

import contextlib
import typing
from typing import Any

from wsgi_sessions import SessionError, SessionRegistry

from .oracle import Family, Oracle
from .scenario import (
    Audit,
    Damage,
    Deliver,
    Event,
    Forget,
    NewSecret,
    Purge,
    Revoke,
    RevokeAll,
    Share,
    Stranger,
    Tick,
)
from .world import World


class Outside:
    """Has such events happen, and checks what they say."""

    def __init__(self, world: World, oracle: Oracle) -> None:
        self.world = world
        self.oracle = oracle

    def happen(self, event: Event) -> None:
        world = self.world
        match event:
            case Tick(seconds):
                if seconds < 0:
                    self.oracle.put_back = True
                    for family in self.oracle.families:
                        family.must = family.must and world.clock.now < family.sure_until
                        # What comes back to life may be what a request wrote past its end.
                        over = world.shared and self.oracle.look(family) is None
                        family.unknown = family.unknown or (over and not family.ended)
                world.clock.advance(seconds)
                self.oracle.stranded = self.oracle.stranded or abs(seconds) > 300
                self.oracle.aged = True
            case Deliver(browser):
                if world.late[browser]:
                    answer = world.late[browser].pop()
                    world.deliver(browser, answer)
                    self.oracle.delivered(answer)
            case Forget(browser):
                world.jars[browser] = None
            case Share(giver, taker):
                world.jars[taker] = world.jars[giver]
            case NewSecret():
                world.new_secret()
            case _ if world.shared:
                self._at_the_store(event)

    def _at_the_store(self, event: Event) -> None:
        world, oracle = self.world, self.oracle
        match event:
            case Revoke(browser):
                seen = world.peek(world.jars[browser])
                family = oracle.family_of(seen, world.jars[browser])
                if seen is not None and family is not None:
                    done = world.registry.revoke(seen.handle)
                    oracle.check(done, "revoke", "revoke() of a live session is False")
                    oracle.check(world.peek(world.jars[browser]) is None, "revoke", "it lives")
                    self._ended(family)
            case RevokeAll(owner, spare):
                self._revoke_all(owner, spare)
            case Audit() if not self.oracle.stack:
                oracle.audit()
            case Purge():
                world.registry.purge_expired()
                if not self.oracle.stack:
                    oracle.growth()
            case Damage(browser, name):
                self._damage(browser, name)
            case Stranger(owner):
                registry = SessionRegistry(world.raw, clock=world.clock)
                with contextlib.suppress(SessionError):  # it has no key, and may say so
                    registry.sessions(owner)
                registry.purge_expired()
            case _:
                pass

    def _revoke_all(self, owner: str, spare: int | None) -> None:
        world, oracle = self.world, self.oracle
        seen = None if spare is None else world.peek(world.jars[spare])
        living = oracle.living(owner)
        spared = set() if seen is None else {seen.handle} & living
        count = world.registry.revoke_all(owner, except_=None if seen is None else seen.handle)
        if not self.oracle.stack:
            oracle.check(
                count == len(living - spared),
                "revoke_all",
                f"revoke_all is {count}, and {len(living - spared)} sessions lived",
            )
        left = oracle.living(owner)
        # A login under way whose entry is out already ends itself.
        ends_itself = any(visit.was_revocable for visit in oracle.stack)
        oracle.check(
            left == spared or ends_itself,
            "revoke_all",
            f"{len(left - spared)} live on, spared or not",
        )
        for family in oracle.families:
            theirs = family.state.owner == owner and not family.ended and not family.unknown
            if theirs and oracle.look(family) is None:
                self._ended(family)

    def _ended(self, family: Family) -> None:
        if any(visit.lost_write and visit.own_id in family.ids for visit in self.oracle.stack):
            # It was told that its session couldn't be stored, and may try again: nobody has its ID.
            family.unknown, family.must = True, False
        else:
            self.oracle.end(family)

    def _damage(self, browser: int, name: str) -> None:
        world = self.world
        seen = world.peek(world.jars[browser])
        family = self.oracle.family_of(seen, world.jars[browser])
        if seen is None or family is None or name not in seen.state.fields:
            return
        changes: Any = typing.get_type_hints(type(world.raw).update)["changes"]
        world.raw.update(seen.handle, changes(set={name: b"\xff\x00"}))
        family.unknown = True
        for visit in self.oracle.stack:
            visit.vague = visit.vague or visit.family is family
        self.oracle.stranded = True
