"""How hard the tests try that could try for ever: a little, or as long as anyone has patience.

`WSGI_SESSIONS_EFFORT` names the level, which each target of the Makefile sets: `test` (the default),
`check` or `everything`. Up to `check`, every run draws the same examples; with `everything`, each
run draws others.
"""

from __future__ import annotations

import contextlib
import os

from hypothesis import HealthCheck, settings

LEVEL = os.environ.get("WSGI_SESSIONS_EFFORT", "test")

_EXAMPLES = {"test": 20, "check": 60, "everything": 2000}
"""How many examples Hypothesis tries where a test says nothing."""

VERY_DEEP = 100_000
"""Levels of nesting that no parser likes."""

if LEVEL not in _EXAMPLES:
    raise ValueError(f"WSGI_SESSIONS_EFFORT is {LEVEL!r}, but must be one of {list(_EXAMPLES)}")


def tries(*, test: int, check: int, everything: int) -> int:
    """The number for the present level."""
    return {"test": test, "check": check, "everything": everything}[LEVEL]


ROUNDS = tries(test=30, check=60, everything=1000)
"""How often two calls meet in a race."""


def effort(max_examples: int = 100, *, steps: int = 50) -> settings:
    """Hypothesis settings for so many examples, more or less. No example is ever too slow.

    Args:
        max_examples: how many examples to try, times 0.6 in `make check`, 0.2 in `make test`, and 20 in
            `make everything`.
        steps: of a state machine: how many steps each has at most.
    """
    return settings(
        max_examples=max(max_examples * _EXAMPLES[LEVEL] // 100, 10),
        derandomize=LEVEL != "everything",
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        stateful_step_count=steps,
    )


if LEVEL != "everything":
    # Hypothesis also draws what it reads in the modules that are imported by then: others in each
    # worker, as tests come there in another order each time.
    with contextlib.suppress(ImportError, AttributeError):  # older versions don't
        from hypothesis.internal.conjecture import providers
        from hypothesis.internal.constants_ast import Constants

        providers._get_local_constants = Constants

settings.register_profile("wsgi-sessions", effort())
settings.load_profile("wsgi-sessions")
