"""CONTRIBUTING's map leads from each module to tests that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import wsgi_sessions

TESTS = Path(__file__).parent
PACKAGE = Path(wsgi_sessions.__file__).parent
MAP = (TESTS.parent / "CONTRIBUTING.md").read_text("utf-8")
ROWS = [
    [re.findall(r"`([\w/]+)`", cell) for cell in line.strip("|").split("|")]
    for line in MAP.splitlines()
    if line.startswith("| `") and line.count("|") == 4
]


def test_each_module_is_on_the_map_by_itself_or_with_its_folder() -> None:
    mapped = {name.strip("/") for modules, purpose, _ in ROWS for name in (*modules, *purpose)}
    missing = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if not path.name.startswith("__")
        and not {str(part) for part in parts_of(path.relative_to(PACKAGE))} & mapped
    ]

    assert missing == []


def parts_of(path: Path) -> list[Path]:
    """The module, and the folders that it is in."""
    return [path.with_suffix(""), *path.parents]


@pytest.mark.slow
def test_those_with_a_star_have_no_quick_tests() -> None:
    starred = set(re.findall(r"`([\w/]+)`\\\*", MAP.partition("| module |")[2]))
    named = {name for *_, tests in ROWS for name in tests}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    quick = ["-m", "not slow and not programs", *map(str, map(file_of, sorted(named)))]
    collected = subprocess.run(
        [*command, *quick], capture_output=True, text=True, check=True
    ).stdout

    assert {name for name in named if file_of(name).name not in collected} == starred


def file_of(name: str) -> Path:
    return (TESTS / name).with_name(f"test_{name.rpartition('/')[2]}.py")


def test_each_test_on_the_map_exists() -> None:
    named = {name for *_, tests in ROWS for name in tests}

    assert [name for name in named if not file_of(name).is_file()] == []
    assert all(tests for *_, tests in ROWS)
