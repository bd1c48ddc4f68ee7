"""Tests marked as untraced run without coverage being measured, which would double their time.

They try hundreds of orders of steps that other tests take, too: what is reached is known already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    coverage = sys.modules.get("coverage")  # not every environment has it
    measuring = None if coverage is None else coverage.Coverage.current()
    if measuring is None or item.get_closest_marker("untraced") is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()
