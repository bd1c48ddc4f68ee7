"""`make free-threaded` means what it says: it runs without the GIL, and with the tests' own versions."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from plugins import no_gil

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not no_gil.gil_is_on(), reason="this Python runs without the GIL")
def test_it_refuses_a_python_with_a_gil(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "plugins.no_gil", str(tmp_path)]

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "this Python has a GIL, and it is on" in done.stderr


def test_its_packages_are_those_of_the_other_tests() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]

    assert set(groups["free-threaded"]) <= set(groups["test"])
