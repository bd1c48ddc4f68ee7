"""Fails each test that ends with the GIL on, for ``make free-threaded``: ``-p plugins.no_gil``.

A build without the GIL turns it on again, for good, when an extension is loaded that doesn't say it
can do without.
"""

from __future__ import annotations

import sys

import pytest


def gil_is_on() -> bool:
    """Whether threads take turns in this process."""
    asks = getattr(sys, "_is_gil_enabled", None)
    return asks is None or bool(asks())


def pytest_configure() -> None:
    if gil_is_on():
        raise pytest.UsageError("this Python has a GIL, and it is on")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if gil_is_on():
        pytest.fail(f"{item.nodeid} ended with the GIL on: some extension asked for it")
