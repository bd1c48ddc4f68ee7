"""Shows a run as one line, "10 % 20 % … 100 %", and each failure when it happens.

For runs with ``-q``, whether one process runs the tests or several; others look as pytest has it.
"""

from __future__ import annotations

import pytest

_STEP = 10
"""Percent between two marks."""


class Progress:
    """Takes the place of pytest's dots."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._total = 0
        self._seen: set[str] = set()
        self._marked = 0
        self._at_the_start = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport | pytest.CollectReport
    ) -> tuple[str, str, str] | None:
        """Counts a test as pytest does, without a letter for it on the screen."""
        if hasattr(report, "wasxfail"):
            return None
        if report.failed:
            return ("failed", "", "FAILED") if report.when == "call" else ("error", "", "ERROR")
        if report.skipped:
            return "skipped", "", "SKIPPED"
        return ("passed" if report.when == "call" else "", "", "")

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        self._total = session.testscollected

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._total = len(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal is None:
            return
        if report.failed:
            begin = "" if self._at_the_start else "\n"
            terminal.write(f"{begin}FAILED {report.nodeid}\n", flush=True, red=True)
            self._at_the_start = True
        self._seen.add(report.nodeid)
        percent = len(self._seen) * 100 // max(self._total, 1)
        while self._marked + _STEP <= percent:
            self._marked += _STEP
            terminal.write(f"{self._marked} % ", flush=True)
            self._at_the_start = False


def pytest_configure(config: pytest.Config) -> None:
    in_a_worker = hasattr(config, "workerinput")
    if config.get_verbosity() < 0 and not in_a_worker:
        config.pluginmanager.register(Progress(config), "progress")
