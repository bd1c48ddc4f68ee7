"""How hard randomised tests try: a little, and always the same, in the suite; more by `make fuzz`.

`WSGI_SESSIONS_FUZZ` names a factor; with it, every run draws other examples.
"""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("WSGI_SESSIONS_FUZZ", "0"))


def effort(max_examples: int, *, steps: int = 50) -> settings:
    """Hypothesis settings for this many examples in the suite. No example is ever too slow.

    Args:
        max_examples: how many examples to try.
        steps: of a state machine: how many steps each has at most.
    """
    return settings(
        max_examples=max_examples * max(FACTOR, 1),
        derandomize=FACTOR == 0,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        stateful_step_count=steps,
    )


IN_WEBASSEMBLY = sys.platform == "emscripten"
"""Whether this is an interpreter of `make test-pythons`: without C extensions, threads, processes."""

VERY_DEEP = 1_000 if IN_WEBASSEMBLY else 100_000
"""Levels of nesting that no parser likes; WebAssembly's own stack ends the process before them."""
