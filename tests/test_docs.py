"""Every Python block of README and docs runs, page by page, in order."""

from __future__ import annotations

import argparse
import ast
import gc
import html
import logging
import re
import shlex
import sys
import tomllib
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from werkzeug.test import Client

import decision_table
import test_decisions
from benchmarks import scale_simulation
from wsgi_sessions import cli, events
from wsgi_sessions.proxies import ProxyProbe
from wsgi_sessions.stores import FileStore

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
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "app", raising=False)  # another page's
    monkeypatch.setenv("OLD_SECRET_KEY", "another key for the documentation's examples alone")
    # A module, as some frameworks look for the one that calls them.
    page_module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page_module)

    for line, code in blocks(page):
        named = re.match(r"# (\w+\.py)\n", code)
        if named:
            (tmp_path / named[1]).write_text(code, "utf-8")
        # Lines count as in the page, so that a traceback points into it.
        exec(compile("\n" * line + code, str(page), "exec"), vars(page_module))

    if "sql" not in page.read_text("utf-8"):
        return
    # A page doesn't close its databases, as the end of a program does; here nothing ends.
    vars(page_module).clear()
    with warnings.catch_warnings(category=ResourceWarning, action="ignore"):
        gc.collect()


_NAMED = r"""(?:secret_key|SECRET(?:_KEY)?)["']?\]?\s*[=:]\s*"""
_KEY = re.compile(rf"""{_NAMED}(?:[\[(]?["']([^"']{{32,}})["']|([\w-]{{32,}})$)""", re.MULTILINE)


def keys_printed(text: str) -> list[str]:
    """Secret keys that a page has as they are, long enough to be used."""
    return [quoted or bare for quoted, bare in _KEY.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_take_the_key_from_the_environment(page: Path) -> None:
    assert keys_printed(page.read_text("utf-8")) == []


def test_a_key_on_a_page_is_noticed() -> None:
    key = "x" * 32

    for text in (
        f'secret_key="{key}"',
        f'secret_key=["{key}"]',
        f'config["SECRET_KEY"] = "{key}"',
        f"SECRET = '{key}'",
        f'"wsgi_sessions.secret_key": "{key}"',
        f"wsgi_sessions.secret_key = {key}",
    ):
        assert keys_printed(text) == [key]
    assert keys_printed('secret_key=os.environ["SECRET_KEY"]') == []


BEAKER = """accessed cookie created delete dirty domain get_by_id has_key id invalidate is_new
last_accessed load lock namespace path persist regenerate_id request revert save timeout unlock"""


def test_w2_the_page_on_moving_says_what_each_of_beakers_calls_becomes() -> None:
    page = (ROOT / "docs" / "moving-from-beaker.md").read_text("utf-8")
    told = " ".join(re.findall(r"^\| ([^|]*) \|", page, re.MULTILINE))

    assert {name for name in BEAKER.split() if f"session.{name}" not in told} == set()
    assert "false when" in page and "`if not session" in page


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


SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]
USERS_ASK = (ROOT / "docs" / "users-ask.md").read_text("utf-8")
ROWS = re.findall(r"^\| (?!what goes wrong|---)(.*?) \| .* \| (.*) \|$", USERS_ASK, re.MULTILINE)


@cache
def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }


def wrong_links(cell: str) -> list[str]:
    """What a row of the page says wrongly about the tests that show it."""
    links = re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", cell)
    wrong = [] if links else ["no link to a test"]
    for label, target in links:
        path = target.removeprefix(f"{SOURCE}/blob/main/")
        if not (ROOT / path).is_file():
            wrong.append(f"no file {target}")
        elif not label.endswith(".py") and label not in names_in(ROOT / path):
            wrong.append(f"no {label} in {path}")
    return wrong


@pytest.mark.parametrize(("asked", "shown_by"), ROWS, ids=[row[0] for row in ROWS])
def test_what_users_ask_is_shown_by_a_test_that_exists(asked: str, shown_by: str) -> None:
    assert wrong_links(shown_by) == []


@pytest.mark.parametrize(
    "cell",
    [
        "`test_middleware.py`",
        f"[`test_nothing`]({SOURCE}/blob/main/tests/test_middleware.py)",
        f"[`TestTheTable`]({SOURCE}/blob/main/tests/test_nothing.py)",
        "[`TestTheTable`](https://example.org/tests/test_middleware.py)",
    ],
)
def test_a_test_that_does_not_exist_is_noticed(cell: str) -> None:
    assert len(wrong_links(cell)) == 1


def test_users_asked_a_lot() -> None:
    assert len(ROWS) >= 38


# Figures in the prose are those of the code and of the page that `make bench` makes.


def prose(page: str) -> str:
    return " ".join((ROOT / "docs" / page).read_text("utf-8").split())


def figures(heading: str, row: str) -> list[float]:
    """The numbers in a row of the first table under a heading of docs/benchmarks.md."""
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    lines = re.search(rf"^{heading}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert lines is not None, heading
    cells = re.search(rf"^\| {row} +\|(.*)\|$", lines[1], re.MULTILINE)
    assert cells is not None, row
    return [float(cell.replace(",", "")) for cell in cells[1].split("|") if cell.strip()]


def test_the_combinations_of_facts_are_as_many_as_the_page_says() -> None:
    assert f"all {len(test_decisions.EVERY_CASE):,} combinations" in prose("explanation.md")


def test_the_table_of_decisions_is_the_one_that_the_code_makes() -> None:
    assert decision_table.PAGE.read_text("utf-8") == decision_table.page(), (
        "run tests/decision_table.py"
    )


def test_an_untouched_request_costs_what_the_page_says() -> None:
    said = re.findall(
        r"costs (?:an untouched request )?less than (\S+) µs", prose("explanation.md")
    )

    (most,) = {float(number) for number in said}
    ours, _, _, flask_session, django, flask, *_ = figures("### Memory", "untouched")
    assert ours < most
    assert ours < min(flask_session, django, flask)


def test_looking_at_proxies_costs_what_the_page_says() -> None:
    said = re.search(r"less than another (\S+) µs", prose("explanation.md"))
    assert said is not None
    plain, _, proxied = figures("## Options", "untouched")

    assert proxied - plain < float(said[1])


def test_a_session_in_memory_takes_what_the_page_says() -> None:
    said = re.search(r"session of 200 bytes in memory \| (\d+) \|", prose("scaling.md"))
    assert said is not None

    assert figures("## Memory", "ours")[-1] == pytest.approx(float(said[1]), rel=0.1)


@pytest.mark.parametrize("millions", [1, 10, 100])
def test_a_cluster_is_as_big_as_the_page_says(millions: int) -> None:
    plan = scale_simulation.plan(sessions=millions * 1_000_000)
    rate = f"{round(plan.requests_per_second, -3 if millions > 1 else -2):,.0f}"
    size, busy = plan.bytes_per_node / 1024**3, 100 * plan.busy

    row = f"| {millions} million | {rate} | {plan.nodes} | {size:.1f} GiB | {busy:.0f} % |"
    assert row in prose("scaling.md")


def levels_on_the_page() -> dict[str, str]:
    """Kinds of events and their levels, as docs/events.md has them."""
    text = (ROOT / "docs" / "events.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| .* \| ([A-Z]+) \|$", text, re.MULTILINE)
    return {kind: level for kinds, level in rows for kind in re.findall(r"`(\w+)`", kinds)}


def test_the_page_on_events_has_every_kind_and_its_level() -> None:
    levels = {kind: logging.getLevelName(level) for kind, level in events._LEVELS.items()}

    assert levels_on_the_page() == levels


def test_the_page_on_the_command_line_names_every_command() -> None:
    (commands,) = (
        action
        for action in cli.parser._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")

    assert set(re.findall(r"^\| `([a-z][a-z-]*)[ A-Z]*` \|", text, re.MULTILINE)) == set(
        commands.choices
    )


def test_the_page_asks_the_probe_as_the_probe_itself_says() -> None:
    probe = html.unescape(Client(ProxyProbe()).get("/").text)
    page = prose("behind-a-proxy.md")
    start = page.index("$ curl ")
    said = re.findall(r"-H '[^']+'", page[start : page.index("```", start)])

    assert said == re.findall(r"-H '[^']+'", probe)


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        Path(target).name
        for page in PAGES
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text("utf-8"))
    }

    assert {path.name for path in (ROOT / "docs" / "images").iterdir()} == shown


def test_the_commands_for_devices_can_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "devices.md").read_text("utf-8")
    lines = [
        line
        for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert lines

    for line in lines:
        prompt, program, option, url, *rest = shlex.split(line)
        assert [prompt, program, option, url] == [
            "$",
            "wsgi-sessions",
            "--store",
            "redis://localhost",
        ]
        FileStore(tmp_path)
        assert cli.main(["--store", f"file://{tmp_path}", *rest]) == 0, capsys.readouterr().err
