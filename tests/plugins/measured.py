"""Keeps what a worker has measured, however long it takes to end.

Coverage saves at the end of a process, and pytest-xdist kills a worker that takes more than ten
seconds to end: so on a machine that stands still for a while, all that it had measured was lost.
"""

from __future__ import annotations

import sys

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Before the worker says that it has finished."""
    coverage = sys.modules.get("coverage")
    measuring = None if coverage is None else coverage.Coverage.current()
    if measuring is not None and hasattr(session.config, "workerinput"):
        measuring.stop()
        measuring.save()
