"""What is known of all sessions of a run, and what must hold between requests.

A `Family` is one session with all its IDs. The oracle never predicts what only the store knows: it
looks (`World.peek`) before and after each step, and asks whether the difference is one that design
allows. Where concurrency, lost answers or clocks make several outcomes right, it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .view import State, is_nothing, matches
from .world import ABSOLUTE, IDLE, Answer, Seen, World, id_of

if TYPE_CHECKING:
    from .visit import Visit


class Finding(BaseException):
    """A promise was broken. No Exception, so that nobody on the way takes it for one."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


@dataclass(frozen=True)
class Wanted:
    """Which kinds of findings count."""

    ignored: Collection[str] = ()
    only: Collection[str] = ()
    """If any: these alone."""

    def wants(self, kind: str) -> bool:
        return kind not in self.ignored and (not self.only or kind in self.only)


EVERYTHING = Wanted()
_KEY = re.compile("[0-9a-f]{64}")


@dataclass(eq=False)
class Family:
    """One session: its IDs since the last regenerate, newest last, and what it holds."""

    ids: list[str]
    state: State
    begun: float
    epoch: int = 0
    """How often it was regenerated."""
    ended: bool = False
    unknown: bool = False
    """Damaged, or else beyond what can be said."""
    must: bool = False
    """Whether it must live until ``sure_until``."""
    sure_until: float = 0.0
    used: float = 0.0
    """The latest time of use."""
    doomed: bool = False
    """Whether an outage may have left it half ended, so that it ends when its list is next read."""
    rotated: int | None = None
    """When it was noticed that it has another ID; see `World.moment`."""
    written_at: float | None = None
    idle: tuple[float, float] = (IDLE, IDLE)
    absolute: tuple[float, float] = (ABSOLUTE, ABSOLUTE)
    """The shortest and the longest limits that it may have."""
    last_begun: float = 0.0

    def __post_init__(self) -> None:
        self.used = self.last_begun = self.begun

    def use(self, now: float, *, began: float, sure: bool) -> None:
        self.used = max(self.used, now)
        renewed = min(min(now, began) + 0.9 * self.idle[0], self.begun + self.absolute[0])
        if sure and not self.doomed:
            self.must = True
            self.sure_until = renewed
        else:
            # With the clock put back, it may have been written to end earlier.
            self.sure_until = min(self.sure_until, renewed)

    def limit(self, idle: float, absolute: float) -> None:
        self.idle = (min(self.idle[0], idle), max(self.idle[1], min(idle, IDLE)))
        self.absolute = (
            min(self.absolute[0], absolute),
            max(self.absolute[1], min(absolute, ABSOLUTE)),
        )

    @property
    def ends_by(self) -> float:
        return min(self.used + self.idle[1], self.last_begun + self.absolute[1])


@dataclass
class Oracle:
    """Holds the families, and checks."""

    world: World
    wanted: Wanted = EVERYTHING
    families: list[Family] = field(default_factory=list)
    by_id: dict[str, Family] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    """IDs that must never lead to anything again."""
    stack: list[Visit] = field(default_factory=list)
    calm: bool = True
    """Whether nothing failed and nothing came in between in this run so far."""
    stranded: bool = False
    """Whether anything may have been left over by a failure or a race."""

    unlisted: bool = False
    """Whether a login was taken out of its list while it was written, and the store then failed, so
    that it could neither be checked nor entered again: it stands, unlisted."""
    aged: bool = False
    """Whether time went by, so that sessions may have ended by themselves."""
    put_back: bool = False
    """Whether the clock was ever put back."""
    finding: Finding | None = None
    """The first one: what comes after it may be its consequence."""

    def check(self, good: Any, kind: str, text: str) -> None:
        if good or not self.wanted.wants(kind):
            return
        if self.finding is None:
            self.finding = Finding(kind, text)
            raise self.finding

    # Families

    def family_of(self, seen: Seen | None, token: str | None) -> Family | None:
        """The family of what this token led to; one that nobody saw begin is taken up."""
        if seen is None or token is None:
            return None
        if not self.world.shared:
            return self.adopt(Family([], seen.state, self.world.clock.now))
        family = self.by_id.get(seen.id) or self.by_id.get(id_of(token))
        if family is None:
            family = Family([seen.id], seen.state, self.world.clock.now)
            family.unknown = True
            return self.adopt(family)
        if seen.id not in family.ids:
            self.note_rotation(family, seen.id)
        return family

    def adopt(self, family: Family) -> Family:
        self.families.append(family)
        for each in family.ids:
            self.by_id[each] = family
        return family

    def doubt(self, session_id: str) -> None:
        """What this ID leads to from now on can't be said."""
        family = self.by_id.get(session_id)
        if family is None:
            family = self.adopt(Family([session_id], State({}), 0.0))
        family.unknown = True

    def note_rotation(self, family: Family, new: str) -> None:
        family.ids.append(new)
        family.rotated = self.world.moment()
        self.by_id[new] = family

    def replaced(self, family: Family, new: str) -> None:
        """Regenerated: the older IDs are dead."""
        self.ended += family.ids
        family.ids, family.rotated = [new], None
        family.epoch += 1
        self.by_id[new] = family

    def end(self, family: Family) -> None:
        self.ended += family.ids
        family.ended, family.must = True, False

    def look(self, family: Family) -> Seen | None:
        """What the family's IDs lead to, newest first."""
        for each in reversed(family.ids[-3:]):
            seen = self.world.peek_id(each)
            if seen is not None:
                return seen
        return None

    def observe(self, family: Family) -> State | None:
        """The family's state now: nobody has changed it since it was last seen."""
        seen = self.look(family)
        state = None if seen is None else seen.state
        if family.unknown:
            return state
        if seen is not None:
            self.check(
                matches(family.state, state),
                "changed",
                f"nobody changed a session, and {family.state} became {state}",
            )
            if seen.id not in family.ids:
                self.note_rotation(family, seen.id)
        return state

    # What must hold while nothing happens

    def check_all(self) -> None:
        if self.world.shared:
            # With the clock put back, what had expired may live again.
            for session_id in () if self.put_back else self.ended[-12:]:
                seen = self.world.peek_id(session_id)
                self.check(seen is None, "resurrected", f"an ended ID leads to {seen}")
            for family in self.families[-8:]:
                if not family.ended and not family.unknown:
                    self._check_family(family)

    def _check_family(self, family: Family) -> None:
        now, state = self.world.clock.now, self.observe(family)
        if now >= family.ends_by:
            self.check(state is None, "outlives", f"{state} lives after its limits")
        if now >= family.sure_until or is_nothing(family.state):
            family.must = False
        if family.must and not self.world.evicted:
            self.check(state is not None, "lost", f"{family.state} is gone, and nobody ended it")

    def delivered(self, answer: Answer) -> None:
        """An answer arrived at its browser."""
        if answer.token is None or answer.faulty or not self.world.shared:
            return
        session_id = id_of(answer.token)
        family = self.by_id.get(session_id)
        if family is None or family.ended or family.unknown or session_id not in family.ids:
            return
        if family.rotated is not None and answer.moment > family.rotated:
            self.check(
                session_id == family.ids[-1],
                "put_back",
                "an answer puts an ID back that another request had rotated before it was sent",
            )

    def evicted(self, number: int, limit: int | None) -> None:
        """The memory store ended so many sessions for lack of space."""
        for family in self.families:
            family.must = False
        with self.world.silence():
            live = len(list(self.world.registry))
        # What a lost answer left may have taken a place, and have been ended since.
        self.check(
            limit is None or live + number > limit or self.stranded,
            "evicted",
            f"{number} sessions were evicted, though {live} others live and max_sessions={limit}",
        )

    # The registry

    def living(self, owner: str) -> set[str]:
        """Handles of the owner's live sessions, without the owner's list."""
        registry = self.world.registry
        with self.world.silence():
            infos = [registry.get(handle) for handle in registry]
            return {info.handle for info in infos if info is not None and info.owner == owner}

    def owners(self) -> list[str]:
        found = {family.state.owner for family in self.families}
        return sorted(owner for owner in found if owner is not None)

    def audit(self) -> None:
        """The lists of owners say what lives, and only that."""
        for owner in self.owners():
            with self.world.read_only():
                self._audit(owner)
            # Where it can write, listing finishes what an outage left half ended.
            self._audit(owner)

    def _audit(self, owner: str) -> None:
        with self.world.silence():
            listed = {info.handle for info in self.world.registry.sessions(owner)}
            count = self.world.registry.count(owner)
        living = self.living(owner)
        self.check(
            listed == living or (self.unlisted and listed < living),
            "registry",
            f"{len(living)} sessions of {owner} live, {len(listed)} are listed,"
            f" {len(listed & living)} are both",
        )
        self.check(count == len(listed), "count", f"count says {count} of {len(listed)}")

    def growth(self) -> None:
        """Nothing is kept but live sessions, and for each owner a list of them."""
        world = self.world
        with world.silence():
            live = set(world.registry)
            others = [key for key in world.raw.keys() if key not in live and self._unexpired(key)]  # noqa: SIM118 # a store is not a mapping
            entries = {owner: self._entries(owner, others) for owner in self.owners()}
        self.check(
            len(others) <= len(self.owners()) or self.stranded,
            "growth",
            f"{len(live)} sessions live, and the store keeps {len(others)} other records",
        )
        for owner, number in entries.items():
            living = self.living(owner)
            self.check(
                number <= len(living) or self.stranded or self.aged or world.evicted,
                "entries",
                f"{len(living)} sessions of {owner} live, and their list has {number} entries",
            )

    def _unexpired(self, key: str) -> bool:
        record = self.world.raw.load(key)
        return record is not None and record.expires_at > self.world.clock.now

    def _entries(self, owner: str, others: list[str]) -> int:
        if len(self.owners()) > 1:
            return 0
        records = [self.world.raw.load(key) for key in others]
        names = [name for record in records if record is not None for name in record.fields]
        return sum(1 for name in names if _KEY.fullmatch(name))
