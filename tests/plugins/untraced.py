"""Tests marked as untraced run without coverage being measured, which would double their time.

They try hundreds of orders of steps that other tests take, too: what is reached is known already.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("untraced") is None:
        return (yield)
    # Coverage's own stop() and start() would wrap os._exit once more each time.
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(here)
        threading.settrace(in_threads)
