"""What `make coverage` has measured isn't lost with a worker that is killed while it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CONFIG = """
[run]
source = shop
parallel = true
patch = subprocess
"""
TEST = """
import atexit, os, signal
import shop

def test_it():
    # As pytest-xdist does where a worker takes longer than it has patience.
    atexit.register(os.kill, os.getpid(), signal.SIGKILL)
    assert shop.price() == 1
"""


@pytest.mark.slow
def test_what_a_worker_has_measured_is_kept_before_it_ends(tmp_path: Path) -> None:
    (tmp_path / ".coveragerc").write_text(CONFIG)
    (tmp_path / "shop.py").write_text("def price():\n    return 1\n")
    (tmp_path / "test_shop.py").write_text(TEST)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(TESTS)])

    def coverage(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=tmp_path,
            env=environ,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    coverage("run", "-m", "pytest", "-p", "no:cacheprovider", "-p", "plugins.measured", "-n1")
    coverage("combine")

    assert coverage("report", "--format=total") == "100\n"
