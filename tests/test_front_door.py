"""What a newcomer types: README and tutorial, from an empty directory, with real processes."""

from __future__ import annotations

import doctest
import http.client
import inspect
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

import ports
import wsgi_sessions
from wsgi import Site
from wsgi_sessions import Cookie, Lifetime, Session, SessionMiddleware, SessionRegistry

ROOT = Path(__file__).parent.parent
SOURCES = Path(wsgi_sessions.__file__).parent.parent
_FILE = re.compile(r"^```python\n(# (\w+\.py)\n.*?)^```", re.MULTILINE | re.DOTALL)


def files_of(page: Path) -> dict[str, str]:
    """The files that a page has its reader write; later blocks of a file go to its end."""
    files: dict[str, str] = {}
    for code, name in _FILE.findall(page.read_text("utf-8")):
        files[name] = files.get(name, "") + code
    return files


def typed(page: Path, directory: Path, port: int) -> None:
    for name, content in files_of(page).items():
        (directory / name).write_text(content.replace("8000", str(port)), "utf-8")


def python(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCES),
        "SECRET_KEY": "a key for the documentation's examples, and not for more",
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def served(directory: Path, port: int) -> Iterator[None]:
    process = python(directory, "app.py")
    try:
        wait_until_open(process, port)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def wait_until_open(process: subprocess.Popen[str], port: int) -> None:
    for _ in range(1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(process.communicate()[1])


def visits(port: int, times: int) -> list[str]:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    texts: list[str] = []
    for _ in range(times):
        answer: http.client.HTTPResponse
        with browser.open(f"http://localhost:{port}/", timeout=10) as answer:
            texts.append(answer.read().decode())
    return texts


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_app_of_the_page_runs_as_typed(page: str, tmp_path: Path) -> None:
    port = ports.free_port()
    typed(ROOT / page, tmp_path, port)

    with served(tmp_path, port):
        assert visits(port, 2) == ["Visit number 1\n", "Visit number 2\n"]
    assert (tmp_path / "var" / "sessions").is_dir()


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_without_a_secret_key_the_app_says_how_to_make_one(page: str, tmp_path: Path) -> None:
    typed(ROOT / page, tmp_path, 8000)
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    environment.pop("SECRET_KEY", None)

    process = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert "secret_key is empty" in last
    assert "export SECRET_KEY=$(python -m wsgi_sessions secret)" in last


def test_what_the_tutorial_has_you_try_is_true(tmp_path: Path) -> None:
    typed(ROOT / "docs" / "tutorial.md", tmp_path, 8000)

    process = python(tmp_path, "try.py")
    out, error = process.communicate(timeout=60)

    assert (process.returncode, out, error) == (0, "", "")


def test_the_secret_of_the_page_is_printed(tmp_path: Path) -> None:
    out, _ = python(tmp_path, "-m", "wsgi_sessions", "secret").communicate(timeout=60)

    assert len(out.strip()) == 64


def table_row(page: Path, first: str) -> list[str]:
    (row,) = re.findall(
        rf"^\| {re.escape(first)} +\|(.*)\|$", page.read_text("utf-8"), re.MULTILINE
    )
    return [cell.strip().strip("*") for cell in row.split("|")]


def benchmark(heading: str, row: str) -> list[str]:
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    (table,) = re.findall(rf"^{heading}(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    (cells,) = re.findall(rf"^\| {row} +\|(.*)\|$", table, re.MULTILINE)
    return [cell.strip() for cell in cells.split("|")]


PEERS = "ours", "Flask-Session", "Beaker", "Django"


def test_the_readme_says_what_was_measured() -> None:
    readme = ROOT / "README.md"

    lost = table_row(readme, "changes lost when eight threads write to one session in files")
    assert lost == [benchmark(r"\| lost updates", peer)[1].replace("%", " %") for peer in PEERS]
    revived = table_row(readme, "sessions back after signing out, in 1,000 races")
    assert revived == [benchmark(r"\| resurrected", peer)[1] for peer in PEERS]
    ours, _, beaker, flask_session, django, *_ = benchmark(r"### Redis\n\n", "read, 100 B")
    read = table_row(readme, "one read from Redis, CPU time")
    assert read == [f"{cost} µs" for cost in (ours, flask_session, beaker, django)]


def options_on_the_page(heading: str) -> dict[str, str]:
    """Options and their defaults, as docs/options.md has them in a section's table."""
    text = (ROOT / "docs" / "options.md").read_text("utf-8")
    (section,) = re.findall(rf"^{heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \| .* \|$", section, re.MULTILINE)
    return dict(rows)


def said(default: object) -> str:
    match default:
        case inspect.Parameter.empty:
            return "required"
        case Lifetime():
            return "`Lifetime(idle=timedelta(days=1), absolute=timedelta(days=30))`"
        case timedelta():
            return f"`timedelta(days={default.days})`"
        case str():
            return f'`"{default}"`'
        case tuple() if default:
            return f"`{default!r}`".replace("'", '"')
        case _:
            return f"`{default!r}`"


@pytest.mark.parametrize(
    ("heading", "described"),
    [
        ("# Every option, and when to set it", SessionMiddleware),
        ("## Cookie", Cookie),
        ("## Lifetime", Lifetime),
    ],
)
def test_the_page_has_every_option_with_its_default(heading: str, described: type) -> None:
    parameters = inspect.signature(described).parameters.values()
    options = {each.name: each.default for each in parameters if each.name not in ("self", "app")}
    page = options_on_the_page(heading)

    assert page.keys() == options.keys()
    for name, default in options.items():
        if default == Cookie():
            assert page[name] == "`Cookie()`"
        else:
            assert page[name].partition(":")[0] == said(default).partition(":")[0], name


EXAMPLES = [
    test
    for described in (Session, SessionRegistry)
    for test in doctest.DocTestFinder(recurse=True).find(described)
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_references_examples_are_true(example: doctest.DocTest) -> None:
    site = Site()

    def run(session: Session) -> str:
        if example.name.startswith("SessionRegistry"):
            session.login("ada")
            session.save()
        example.globs.update(session=session, middleware=site.middleware)
        lines: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        failed, tried = runner.run(example, out=lines.append)
        assert failed == 0 < tried, "".join(lines)
        return "true"

    assert site.run(site.browser(), run).text == "true"


def test_the_reference_has_examples() -> None:
    assert len(EXAMPLES) >= 15
