"""The test suites of Flask and of what stands on it, run on FlaskSessions.

They are downloaded into build/, each with what it needs in an environment of its own, and nothing of
them is kept in the repository. Where nothing can be downloaded they are skipped.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from programs import missing

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / "flask-suites"


class Suite(NamedTuple):
    """Somebody else's tests."""

    sdist: str
    """What to download: name==version, or the address of a repository and a tag."""
    tests: str
    needs: tuple[str, ...]
    differs: frozenset[str]
    """The tests that differ here: docs/flask.md has the reasons."""
    broken: frozenset[str] = frozenset()
    """Those that fail without us, too, with what is installed today."""


SUITES = {
    "flask": Suite(
        "flask==3.1.3",
        "tests",
        ("asgiref", "python-dotenv"),
        frozenset(
            {
                "test_session_accessed",  # modified after the response
                "test_session_using_session_settings",  # Secure over http
                "test_session_using_samesite_attribute",  # Lax by default, settings read once
                "test_session_secret_key_fallbacks",  # settings read once
                "test_session_cookie_setting",  # settings read once
                "test_session_refresh_vary",  # a session that isn't used isn't sent again
            }
        ),
        frozenset({"test_bad_environ_raises_bad_request"}),
    ),
    "flask-login": Suite(
        "flask-login==0.6.3", "tests", ("asgiref", "semantic_version"), frozenset()
    ),
    "flask-wtf": Suite(
        "flask-wtf==1.3.0", "tests", ("email-validator", "flask-babel"), frozenset()
    ),
    "flask-dance": Suite(
        "flask-dance==7.1.0",
        "tests",
        (
            *("betamax", "responses", "freezegun", "pytest-mock", "blinker"),
            *("flask-caching", "flask-login", "flask-sqlalchemy", "sqlalchemy-utils"),
        ),
        frozenset(),
        frozenset({"test_no_verify_api_call"}),
    ),
    "authlib": Suite(
        "https://github.com/authlib/authlib v1.7.2",
        "tests/clients/test_flask",
        ("authlib==1.7.2", "cachelib", "requests", "httpx", "pytest-asyncio", "pytest-env"),
        frozenset(),
    ),
}


def run(*command: object, cwd: Path = ROOT, **environ: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **environ} if environ else None,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stdout}{done.stderr}\nstatus {done.returncode}\n"


def python_for(name: str, suite: Suite) -> Path:
    """An environment with what this suite needs, and with what ours does."""
    python = BUILD / name / "venv" / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", BUILD / name / "venv")
    own = () if "//" in suite.sdist else (suite.sdist,)
    wanted = ("pytest<9", "flask>=3.1", "itsdangerous", *own, *suite.needs)
    said = run(python, "-m", "pip", "install", "--quiet", *wanted)
    if "status 0" not in said:
        missing("sdists", f"the packages of {name} can't be installed: {said[-300:]}")
    return python


def source_of(name: str, suite: Suite) -> Path:
    """The suite's files."""
    place = BUILD / name / "source"
    if place.exists():
        return place
    if "//" in suite.sdist:
        address, tag = suite.sdist.split()
        said = run("git", "clone", "--quiet", "--depth", "1", "--branch", tag, address, place)
        if "status 0" not in said:
            missing("sdists", f"{address} can't be fetched: {said[-300:]}")
        return place
    to = BUILD / name
    said = run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
        *("--no-binary", ":all:", "--dest", to, suite.sdist),
    )
    if "status 0" not in said:
        missing("sdists", f"its source can't be downloaded: {said[-300:]}")
    (archive,) = to.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(to / "unpacked", filter="data")
    (unpacked,) = (to / "unpacked").iterdir()
    return unpacked.rename(place)


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.parametrize(
    "name",
    # Each extension's suite makes an environment of its own.
    [pytest.param(name, marks=() if name == "flask" else pytest.mark.long) for name in SUITES],
)
def test_somebody_elses_tests_pass_on_ours(name: str) -> None:
    suite = SUITES[name]
    python, source = python_for(name, suite), source_of(name, suite)

    said = run(
        *(python, "-m", "pytest", "-q", "-rfE", "--no-header", "-p", "no:cacheprovider"),
        *("-p", "on_flask_sessions", suite.tests),
        cwd=source,
        PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'tests' / 'flask_suites'}",
    )

    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", said, re.MULTILINE))
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None and int(passed[1]) > 30, said[-3000:]
    assert failed - suite.broken == suite.differs, said[-3000:]
