"""How hard the tests try, and that each run up to `make check` tries the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DRAW = """
import sys
from hypothesis import given, strategies as st
from effort import effort

if sys.argv[1:]:
    import met_by_chance

@effort(100)
@given(st.lists(st.text() | st.integers()))
def draw(value):
    print(ascii(value))

draw()
"""


def drawn(directory: Path, *arguments: str) -> str:
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(directory), *sys.path]),
        "WSGI_SESSIONS_EFFORT": "check",
    }
    command = [sys.executable, "-c", DRAW, *arguments]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def test_examples_are_the_same_whatever_else_is_imported(tmp_path: Path) -> None:
    words = [f"word {number}" for number in range(100)]
    (tmp_path / "met_by_chance.py").write_text(f"{words}, {[*range(1000, 1100)]}\n")

    assert drawn(tmp_path) == drawn(tmp_path, "import it")
