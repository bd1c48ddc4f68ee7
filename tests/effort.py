"""How hard randomised tests try: a little, and always the same, in the suite; more by `make fuzz`.

`WSGI_SESSIONS_FUZZ` names a factor; with it, every run draws other examples.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("WSGI_SESSIONS_FUZZ", "0"))


def effort(max_examples: int, **more: int) -> settings:
    """Hypothesis settings for this many examples in the suite. No example is ever too slow."""
    return settings(
        max_examples=max_examples * max(FACTOR, 1),
        derandomize=FACTOR == 0,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )
