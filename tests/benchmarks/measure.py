"""Timing: CPU seconds of this process and of the store's server, interleaved, medians.

CPU time, because wall time on a shared machine measures the neighbours. Contenders take turns, so
that a slow spell hits all alike. The garbage collector runs as in production; before each turn it
is emptied, and what was there before the measurement is frozen, so that nobody pays for it.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .server import Watched


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to time."""

    name: str
    prepare: Callable[[int], Callable[[], object]]
    """Sets up so many requests, and returns what runs them."""
    uses_server: bool = False


def cpu_seconds(task: Task, count: int, server: Watched | None) -> float:
    """What ``count`` requests cost, client and server together."""
    run = task.prepare(count)
    watched = server if task.uses_server else None
    gc.collect()
    before = 0.0 if watched is None else watched.cpu()
    start = time.process_time()
    run()
    spent = time.process_time() - start
    if watched is not None:
        spent += watched.cpu() - before
    return spent


def medians(
    tasks: Sequence[Task], *, repetitions: int, turn: float, server: Watched | None
) -> dict[str, float]:
    """Microseconds per request of each task: the median of all its turns.

    Args:
        tasks: what is compared; each turn goes through all of them in a new order.
        repetitions: how many turns.
        turn: seconds that one task's turn takes, about.
        server: whose CPU counts for tasks that use a server.
    """
    counts: dict[str, int] = {}
    for task in tasks:
        least = 100 if task.uses_server else 5
        cost = max(cpu_seconds(task, 5, None) / 5, 1e-7)
        counts[task.name] = max(least, min(20_000, int(turn / cost)))
    times: dict[str, list[float]] = {task.name: [] for task in tasks}
    order = list(tasks)
    gc.collect()
    gc.freeze()
    for _ in range(repetitions):
        random.shuffle(order)
        for task in order:
            count = counts[task.name]
            times[task.name].append(cpu_seconds(task, count, server) / count * 1e6)
    gc.unfreeze()
    return {name: statistics.median(values) for name, values in times.items()}
