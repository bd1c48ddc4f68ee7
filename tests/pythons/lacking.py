"""Runs tests on an interpreter in WebAssembly: what that platform lacks is skipped, not failed.

Only the reasons below count; any other failure is one of the library on this version of Python.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Generator, Sequence
from typing import Any

import pytest

PLATFORM_LACKS = (
    "can't start new thread",
    "No module named 'sqlite3'",
    "No module named 'fcntl'",
    "FileStore needs file locks (fcntl)",
    "encryption needs the package cryptography",
    "No module named 'resource'",
    "Function not implemented",
    "module 'os' has no attribute 'geteuid'",
    "does not support processes",
)

WANT_MORE = (
    "test_a_plain_value_is_told_from_a_changed_one_without_encoding_it",  # wants orjson
    "test_markup_nested_too_deep_is_damage",  # wants a larger stack
    "['1-standard library]",  # wants the nesting that orjson refuses
)
"""Ends of the names of tests that are left out, because they fail for other reasons than those."""


class Ssl(types.ModuleType):
    """Enough of `ssl` for redis-py to be imported by the fixtures; nobody connects here."""

    __file__ = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class SkipWhatIsLacking:
    """A plugin: a failure for one of the reasons above is a skip."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not item.name.endswith(WANT_MORE)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and any(reason in report.longreprtext for reason in PLATFORM_LACKS):
            why = str(call.excinfo.value) if call.excinfo else ""
            report.outcome, report.longrepr = "skipped", (report.nodeid, 0, f"lacking: {why}")
        return report


def main(arguments: Sequence[str]) -> int:
    """Run pytest; returns its exit status."""
    print(f"Python {sys.version}")
    sys.modules.setdefault("ssl", Ssl("ssl"))
    options = ["--capture=sys", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    return int(pytest.main([*options, *arguments], plugins=[SkipWhatIsLacking()]))
