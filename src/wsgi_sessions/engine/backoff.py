"""How often a compare-and-set is tried, and how long to wait in between. Nothing else."""

from __future__ import annotations

import random
import time

ATTEMPTS = 128
"""How often a compare-and-set is tried before it counts as lost: eight that contend all the time
lose 64 times in a row once in 5,000 times."""


def back_off(attempt: int) -> None:
    """Wait a moment after a lost attempt: losers that return at once lose to each other again."""
    if attempt > 1:
        time.sleep(random.random() * min(0.001 * attempt, 0.02))  # noqa: S311 # no secret
