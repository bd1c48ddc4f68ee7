"""CONTRIBUTING's map leads from each module to tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import wsgi_sessions

TESTS = Path(__file__).parent
PACKAGE = Path(wsgi_sessions.__file__).parent
ROWS = [
    [re.findall(r"`([\w/]+)`", cell) for cell in line.strip("|").split("|")]
    for line in (TESTS.parent / "CONTRIBUTING.md").read_text("utf-8").splitlines()
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


def test_each_test_on_the_map_exists() -> None:
    named = {name for *_, tests in ROWS for name in tests}
    files = {name: (TESTS / name).with_name(f"test_{name.rpartition('/')[2]}.py") for name in named}

    assert [name for name, file in files.items() if not file.is_file()] == []
    assert all(tests for *_, tests in ROWS)
