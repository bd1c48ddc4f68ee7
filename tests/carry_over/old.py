"""The old worlds: other session systems as they are today and as they were two years ago.

``python tests/carry_over/old.py`` installs them into build/carry-over, each era for itself; the
tests use what is there. Each session is made in a process of its own, by the real libraries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_PLACE = _HERE.parent.parent / "build" / "carry-over"
ERAS = ("today", "then")
_PYTHON = {
    "today": (
        *("beaker==1.14.1", "flask-session==0.8.0", "cachelib==0.17.0", "msgspec==0.22.0"),
        *("flask==3.1.3", "django==5.2.19", "redis==8.1.0"),
    ),
    # Flask-Session 0.5 is older, and still everywhere: the last one that pickled.
    "then": (
        *("beaker==1.13.0", "flask-session==0.5.0", "cachelib==0.13.0"),
        *("flask==2.3.3", "werkzeug==2.3.8", "django==4.2.16", "redis==5.2.0"),
    ),
}
_NODE = {
    "today": (
        *("express@5", "express-session@1.19.0", "connect-redis@9.0.0", "redis@5"),
        *("connect-pg-simple@10.0.0", "pg@8"),
    ),
    "then": (
        *("express@4", "express-session@1.18.1", "connect-redis@7.1.1", "redis@4"),
        *("connect-pg-simple@9.0.1", "pg@8"),
    ),
}


@dataclass(frozen=True)
class OldSession:
    """A session in the old world, as its browser and its app see it."""

    name: str
    """Of the cookie."""
    cookie: str
    live: str
    """``user_id``, as the old app saw it when the cookie came back."""
    made_at: float


def _python_place(era: str) -> Path:
    return _PLACE / f"python-{era}"


def _node_place(era: str) -> Path:
    return _PLACE / f"node-{era}"


def missing(language: str) -> str | None:
    """Why sessions can't be made here; None: they can."""
    if language == "node" and shutil.which("node") is None:
        return "no node"
    place = _python_place if language == "python" else _node_place
    if not all((place(era) / ".installed").exists() for era in ERAS):
        return "the old worlds aren't installed: run make carry-over-worlds (it needs npm)"
    return None


def make(system: str, era: str, **options: Any) -> OldSession:
    """A session that the real library made; ``options`` are the world's."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if system == "express":
        environ["NODE_PATH"] = str(_node_place(era) / "node_modules")
        command = ["node", str(_HERE / "worlds" / "old_express.cjs")]
    else:
        worlds = _HERE / "worlds"
        environ["PYTHONPATH"] = os.pathsep.join([str(_python_place(era)), str(worlds)])
        command = [sys.executable, str(worlds / "old_python.py"), system]
    made = subprocess.run(
        [*command, json.dumps(options)], env=environ, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return OldSession(**json.loads(made.stdout.splitlines()[-1]))


def install() -> None:
    """Bring both eras, unless they are there."""
    has_npm = shutil.which("npm") is not None
    if not has_npm:
        print("There is no npm, so the tests of express-session will be skipped.")
    for era in ERAS:
        _install(
            _python_place(era),
            [sys.executable, "-m", "pip", "install", "--quiet", "--target"],
            _PYTHON[era],
        )
        if has_npm:
            npm = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts")
            _install(_node_place(era), [*npm, "--prefix"], _NODE[era])


def _install(place: Path, command: list[str], packages: tuple[str, ...]) -> None:
    done = place / ".installed"
    wanted = "\n".join(packages)
    if done.exists() and done.read_text() == wanted:
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    subprocess.run([*command, str(place), *packages], check=True)
    done.write_text(wanted)


if __name__ == "__main__":
    install()
