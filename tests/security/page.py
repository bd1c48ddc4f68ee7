"""Makes the tables of docs/security.md from the tests, so that they can't rot.

Run ``python tests/security/page.py`` after adding a test or a decision; a test fails until then.
A test stands for each requirement that its name carries: ``test_ID_4_…`` for ID-4.
"""

from __future__ import annotations

import csv
import functools
import re
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "security.md"
BEGIN, END = "<!-- made by tests/security/page.py: begin -->", "<!-- end -->"
_TEST = re.compile(r"^ *def (test_\w+)\(", re.MULTILINE)
_ROW = re.compile(r"([A-Z]{2,3})_(\d+)(?=_)")


def requirements() -> list[dict[str, str]]:
    """All requirements: id, section, requirement, source."""
    path = TESTS / "data" / "security_requirements.tsv"
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@functools.cache
def by_requirement() -> dict[str, list[str]]:
    """The names of the tests that stand for each requirement."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in _TEST.findall(path.read_text("utf-8")):
            for letters, number in _ROW.findall(name):
                names = found.setdefault(f"{letters}-{number}", [])
                if name not in names:
                    names.append(name)
    return found


def tables(against: dict[str, str], different: dict[str, str]) -> str:
    """The generated part of the page."""
    tested = by_requirement()
    lines: list[str] = []
    section = None
    for row in requirements():
        if row["id"] in against:
            continue
        if row["section"] != section:
            section = row["section"]
            lines += ["", f"### {_plain(section)}", "", "| | requirement | source | tests |",
                      "| --- | --- | --- | --- |"]  # fmt: skip
        names = " ".join(f"`{name}`" for name in tested.get(row["id"], []))
        text = _plain(row["requirement"])
        if row["id"] in different:
            text += f" *Here:* {_plain(different[row['id']])}"
        lines.append(f"| {row['id']} | {text} | {_plain(row['source'])} | {names} |")
    lines += ["", "### Decided against", "", "| | requirement | why not |", "| --- | --- | --- |"]
    lines += [
        f"| {row['id']} | {_plain(row['requirement'])} | {_plain(against[row['id']])} |"
        for row in requirements()
        if row["id"] in against
    ]
    return "\n".join([BEGIN, *lines, "", END])


def _plain(text: str) -> str:
    """The text as Markdown that says just this; what stands in stars is emphasized in it, too."""
    text = text.translate({ord(mark): None for mark in "†‡"})  # the research's notes to itself
    escaped = re.sub(r"([\\`*_<>|\[\]{}$~^#])", r"\\\1", text)
    return re.sub(r"(?<!\w)\\\*(\w[^*]*\w)\\\*(?!\w)", r"*\1*", escaped)


def page(against: dict[str, str], different: dict[str, str]) -> str:
    """The whole page as it ought to be."""
    text = PAGE.read_text("utf-8")
    head, _, rest = text.partition(BEGIN)
    return head + tables(against, different) + rest.partition(END)[2]


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    from security.decisions import AGAINST, DIFFERENT

    PAGE.write_text(page(AGAINST, DIFFERENT), "utf-8")
