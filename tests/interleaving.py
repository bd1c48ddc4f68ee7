"""A deterministic scheduler: runs requests at once, and says whose store call comes next.

A session's store calls are the only points where concurrent requests can see each other. So each
worker thread stops before every store call until the scheduler lets it go on, and exactly one of
them runs at any time. A schedule is the list of who was let go; `every_order` tries them all, but for those that
only swap neighbours which don't concern each other, such as two reads, or two sessions: there the
outcome is the same.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsgi_sessions.record import Changes, Record, UpdateResult
from wsgi_sessions.stores import MemoryStore, Store
from wsgi_sessions.stores.wrapper import StoreWrapper

Work = Callable[[], Any]


@dataclass
class Step:
    """One store call of one worker."""

    worker: int
    operation: str
    args: tuple[Any, ...]
    result: Any = None

    @property
    def key(self) -> Any:
        """The record that it concerns; None: it concerns none, or all."""
        return self.args[0] if self.args else None


@dataclass(frozen=True)
class Beginning:
    """How a schedule begins, and who needn't come next, because that order was tried already."""

    schedule: tuple[int, ...] = ()
    asleep: frozenset[int] = frozenset()


@dataclass
class Run:
    """What one schedule came to."""

    schedule: list[int] = field(default_factory=list)
    open_ends: list[Beginning] = field(default_factory=list)
    """Other schedules that branch off here, each to be tried, too."""
    steps: list[Step] = field(default_factory=list)
    results: dict[int, Any] = field(default_factory=dict)
    tried_before: bool = False
    """Whether it came out that another schedule with the same outcome was tried already."""


WHOLE = ("purge_expired", "keys", "clear", "expire")
"""Operations that concern all sessions."""
READS = ("load", "ping")


def concern_each_other(one: Step, two: Step) -> bool:
    """Whether it can make a difference which of these two calls comes first."""
    if one.operation in WHOLE or two.operation in WHOLE:
        return True
    if one.operation in READS and two.operation in READS:
        return False
    return bool(one.key == two.key)


class TurnStore(StoreWrapper):
    """A store around another, whose every call waits for its turn, in worker threads."""

    def __init__(self, store: Store | None = None) -> None:
        super().__init__(MemoryStore() if store is None else store)
        self._me = threading.local()
        self._run: Run | None = None

    # The scheduler's side

    def play(self, works: Sequence[Work], beginning: Beginning) -> Run:
        """Run these works at once: by the schedule first, then always the first that is ready."""
        run = self._run = Run()
        self._ready = threading.Semaphore(0)
        self._go = [threading.Semaphore(0) for _ in works]
        self._active = set(range(len(works)))
        self._next: dict[int, Step] = {}
        threads = [
            threading.Thread(target=self._work, args=(worker, work), daemon=True)
            for worker, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
            self._wait()  # up to its first store call, one after the other
        for worker in beginning.schedule:
            # By chance a call more or less than the last time, as MemoryStore reclaims by the way.
            if worker in self._active:
                self._let_go(worker)
        asleep = beginning.asleep
        while self._active:
            choices = sorted(self._active - asleep)
            run.tried_before = run.tried_before or not choices
            chosen, *others = choices or sorted(self._active)
            for number, other in enumerate(others):
                # All that was or will be tried from here needn't be tried again after this one,
                # unless it makes a difference.
                tried = asleep | {chosen, *others[:number]}
                run.open_ends.append(
                    Beginning((*run.schedule, other), self._still_asleep(tried, other))
                )
            asleep = self._still_asleep(asleep, chosen)
            self._let_go(chosen)
        for thread in threads:
            thread.join()
        self._run = None
        return run

    def _still_asleep(self, asleep: frozenset[int], chosen: int) -> frozenset[int]:
        coming = self._next[chosen]
        return frozenset(
            worker
            for worker in asleep
            if worker != chosen and not concern_each_other(self._next[worker], coming)
        )

    def _let_go(self, worker: int) -> None:
        assert self._run is not None
        self._run.schedule.append(worker)
        self._go[worker].release()
        self._wait()

    def _wait(self) -> None:
        assert self._ready.acquire(timeout=30), "a worker hangs"

    def _work(self, worker: int, work: Work) -> None:
        self._me.worker = worker
        assert self._run is not None
        try:
            self._run.results[worker] = work()
        except BaseException as error:  # the test decides what may be raised
            self._run.results[worker] = error
        finally:
            self._active.discard(worker)
            self._ready.release()

    # The workers' side

    @property
    def worker(self) -> int | None:
        """Which worker runs; None: the test itself."""
        return getattr(self._me, "worker", None)

    def turn(self, operation: str, *args: Any) -> Step:
        """Wait to be let go."""
        worker = self.worker
        if worker is None:
            return Step(-1, operation, args)
        step = self._next[worker] = Step(worker, operation, args)
        self._ready.release()
        self._go[worker].acquire()
        assert self._run is not None
        self._run.steps.append(step)
        return step

    def _do(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        step = self.turn(operation, *args)
        step.result = getattr(self.store, operation)(*args, **kwargs)
        return step.result

    def load(self, key: str) -> Record | None:
        found: Record | None = self._do("load", key)
        return found

    def insert(self, key: str, record: Record) -> bool:
        return bool(self._do("insert", key, record))

    def update(
        self,
        key: str,
        changes: Changes,
        *,
        if_epoch: int | None = None,
        if_version: int | None = None,
    ) -> UpdateResult:
        result: UpdateResult = self._do(
            "update", key, changes, if_epoch=if_epoch, if_version=if_version
        )
        return result

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return bool(self._do("delete", key, if_version=if_version))

    def purge_expired(self, now: float) -> int:
        return int(self._do("purge_expired", now))

    def keys(self) -> Iterator[str]:
        return iter(list(self._do("keys")))


def every_order(play: Callable[[Beginning], Run], *, limit: int, seed: int = 0) -> Iterator[Run]:
    """All schedules that differ, each once; more than ``limit`` of them: that many, by chance.

    Args:
        play: sets the stage anew, and runs one schedule that begins in the given way.
        limit: how many schedules to give at most.
        seed: for the draw.
    """
    rng = random.Random(seed)
    open_ends = [Beginning()]
    left = limit
    while open_ends and left:
        place = rng.randrange(len(open_ends))
        open_ends[place], open_ends[-1] = open_ends[-1], open_ends[place]
        run = play(open_ends.pop())
        open_ends += run.open_ends
        if not run.tried_before:
            left -= 1
            yield run
