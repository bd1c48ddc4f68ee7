"""A deterministic scheduler: runs requests at once, and says whose store call comes next.

A session's store calls are the only points where concurrent requests can see each other. So each
worker thread stops before every store call until the scheduler lets it go on, and exactly one of
them runs at any time. A schedule is the list of who was let go; `every_order` tries them all.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsgi_sessions.record import Changes, OwnedEntry, Record, UpdateResult
from wsgi_sessions.stores import MemoryStore, Store

Work = Callable[[], Any]


@dataclass
class Step:
    """One store call of one worker."""

    worker: int
    operation: str
    args: tuple[Any, ...]
    result: Any = None


@dataclass
class Run:
    """What one schedule came to."""

    schedule: list[int] = field(default_factory=list)
    choices: list[list[int]] = field(default_factory=list)
    """Who could have been let go, at each point of the schedule."""
    steps: list[Step] = field(default_factory=list)
    results: dict[int, Any] = field(default_factory=dict)


class TurnStore(Store):
    """A MemoryStore whose every call waits for its turn, in worker threads."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = MemoryStore()
        self._me = threading.local()
        self._run: Run | None = None

    # The scheduler's side

    def play(self, works: Sequence[Work], prefix: list[int]) -> Run:
        """Run these works at once: by the prefix first, then always the first that is ready."""
        run = self._run = Run()
        self._ready = threading.Semaphore(0)
        self._go = [threading.Semaphore(0) for _ in works]
        self._active = set(range(len(works)))
        threads = [
            threading.Thread(target=self._work, args=(worker, work), daemon=True)
            for worker, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
            self._wait()  # up to its first store call, one after the other
        while self._active:
            choices = sorted(self._active)
            at = len(run.schedule)
            chosen = prefix[at] if at < len(prefix) else choices[0]
            run.choices.append(choices)
            run.schedule.append(chosen)
            self._go[chosen].release()
            self._wait()
        for thread in threads:
            thread.join()
        self._run = None
        return run

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
        self._ready.release()
        self._go[worker].acquire()
        step = Step(worker, operation, args)
        assert self._run is not None
        self._run.steps.append(step)
        return step

    def _do(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        step = self.turn(operation, *args)
        step.result = getattr(self.inner, operation)(*args, **kwargs)
        return step.result

    def load(self, key: str) -> Record | None:
        found: Record | None = self._do("load", key)
        return found

    def insert(self, key: str, record: Record) -> bool:
        return bool(self._do("insert", key, record))

    def update(self, key: str, changes: Changes, *, if_version: int | None = None) -> UpdateResult:
        result: UpdateResult = self._do("update", key, changes, if_version=if_version)
        return result

    def replace(
        self, old_key: str, new_key: str, record: Record, *, if_version: int | None = None
    ) -> UpdateResult:
        result: UpdateResult = self._do("replace", old_key, new_key, record, if_version=if_version)
        return result

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        return bool(self._do("delete", key, if_version=if_version))

    def purge_expired(self, now: float) -> int:
        return int(self._do("purge_expired", now))

    def keys(self) -> Iterator[str]:
        return iter(list(self._do("keys")))

    def clear(self) -> None:
        self._do("clear")

    def ping(self) -> None:
        self._do("ping")

    def close(self) -> None:
        self._do("close")

    def add_owned(self, owner: str, key: str, expires_at: float) -> int:
        return int(self._do("add_owned", owner, key, expires_at))

    def owned_by(self, owner: str) -> Mapping[str, OwnedEntry]:
        return dict(self._do("owned_by", owner))

    def remove_owned(self, owner: str, keys: Collection[str]) -> None:
        self._do("remove_owned", owner, keys)

    def generation(self, owner: str) -> int:
        return int(self._do("generation", owner))

    def next_generation(self, owner: str) -> int:
        return int(self._do("next_generation", owner))


def every_order(play: Callable[[list[int]], Run], *, limit: int, seed: int = 0) -> Iterator[Run]:
    """All schedules, each once; more than ``limit`` of them: that many, drawn evenly by chance.

    Args:
        play: sets the stage anew, and runs one schedule that begins with the given prefix.
        limit: how many runs there may be.
        seed: for the draw.
    """
    rng = random.Random(seed)
    open_ends: list[list[int]] = [[]]
    for _ in range(limit):
        if not open_ends:
            return
        place = rng.randrange(len(open_ends))
        open_ends[place], open_ends[-1] = open_ends[-1], open_ends[place]
        prefix = open_ends.pop()
        run = play(prefix)
        for at in range(len(prefix), len(run.schedule)):
            open_ends.extend(
                [*run.schedule[:at], other]
                for other in run.choices[at]
                if other != run.schedule[at]
            )
        yield run
