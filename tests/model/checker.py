"""Looks for findings: seed after seed, each shrunk to the shortest scenario."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from . import scenario as scenarios
from .drawing import draw
from .oracle import EVERYTHING, Wanted
from .runner import run
from .scenario import Scenario
from .shrinking import shrink
from .stores import Stores


@dataclass
class Found:
    """A finding and how to see it again."""

    seed: int
    kind: str
    text: str
    scenario: Scenario
    """The shortest."""

    @property
    def shape(self) -> str:
        """The same for findings that differ in numbers and names alone."""
        plain = re.sub(r"\b\d+\b|'[abnluv]'|\[\d+\]", "_", repr(self.scenario.events))
        return f"{self.kind} {plain}"

    def __str__(self) -> str:
        return f"{self.kind} (seed {self.seed}): {self.text}\n    {self.scenario!r}"


def try_seed(seed: int, store: str, made: Stores, wanted: Wanted = EVERYTHING) -> Found | None:
    """Run this seed's scenario; shrink it if it fails."""
    first = run(scenario := draw(seed, store), made, wanted)
    if first is None:
        return None

    def fails(smaller: Scenario) -> bool:
        finding = run(smaller, made, wanted)
        return finding is not None and finding.kind == first.kind

    shortest = shrink(scenario, fails)
    # A rotation's nonce is random, so that once in a while it fails otherwise.
    last = run(shortest, made, wanted) or first
    return Found(seed, last.kind, last.text, shortest)


def look(
    store: str,
    made: Stores,
    *,
    seeds: int | None = None,
    seconds: float | None = None,
    first: int = 0,
    wanted: Wanted = EVERYTHING,
    without: Collection[str] = (),
) -> Iterator[Found | None]:
    """Try seeds until the budget is used up; yields what each came to."""
    end = None if seconds is None else time.monotonic() + seconds
    for number in itertools.count():
        if (seeds is not None and number >= seeds) or (end and time.monotonic() >= end):
            return
        seed = first + number
        if not without or not any(word in repr(draw(seed, store)) for word in without):
            yield try_seed(seed, store, made, wanted)


def replay(text: str, made: Stores, wanted: Wanted = EVERYTHING) -> Found | None:
    """Run a scenario as it was printed."""
    scenario = eval(text, dict(vars(scenarios)))
    finding = run(scenario, made, wanted)
    return None if finding is None else Found(-1, finding.kind, finding.text, scenario)


def fresh_seed() -> int:
    return random.SystemRandom().randrange(10**9)
