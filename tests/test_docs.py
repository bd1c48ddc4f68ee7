"""Every Python block of README and docs runs, page by page, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^([ ]*)```python[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    text = page.read_text("utf-8")
    found: list[tuple[int, str]] = []
    for match in _BLOCK.finditer(text):
        indent = len(match[1])
        code = "".join(line[indent:] or "\n" for line in match[2].splitlines(keepends=True))
        found.append((text.count("\n", 0, match.start()) + 1, code))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_pages_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", "a key for the documentation's examples, and not for more")
    namespace: dict[str, object] = {"__name__": "page"}

    for line, code in blocks(page):
        # Lines count as in the page, so that a traceback points into it.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_the_pages_links_lead_somewhere() -> None:
    missing: list[str] = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", prose):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.relative_to(ROOT)}: {target}")

    assert missing == []


def test_the_examples_on_pages_are_many() -> None:
    assert sum(len(blocks(page)) for page in PAGES) > 20
