"""Tests that change the whole process for good, as setting Django up does: each in one of its own."""

from __future__ import annotations

import functools
import multiprocessing
import sys
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")
_PATIENCE = 120.0
"""Seconds."""


def in_a_process_of_its_own(test: Callable[P, object]) -> Callable[P, None]:
    """The test in a fork of this process. A failure's traceback is in the captured stderr."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        def run_test() -> None:
            forget_django_settings()
            test(*args, **kwargs)

        process = multiprocessing.get_context("fork").Process(target=run_test)
        process.start()
        process.join(_PATIENCE)
        process.kill()
        process.join()
        assert process.exitcode == 0, "it failed in its own process: see stderr"

    return run


def forget_django_settings() -> None:
    """Let Django be set up anew, though the process that was forked had set it up."""
    conf = sys.modules.get("django.conf")
    if conf is not None:
        conf.settings._wrapped = conf.empty
    # It would go on with the databases and caches that it has opened.
    for module, name in (("django.db", "connections"), ("django.core.cache", "caches")):
        opened = getattr(sys.modules.get(module), name, None)
        if opened is not None:
            vars(opened).clear()
            opened.__init__()
