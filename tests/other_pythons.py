"""Prints the newer Pythons on this machine, the newest first: on the PATH, or kept by pyenv.

Of each minor version one. `make test-newest` takes the first, `make test-pythons` all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"python3\.(\d+)")


def candidates() -> Iterator[tuple[int, Path]]:
    """Minor versions with what looks like their interpreters."""
    places = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep)]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    # By the patch version, the highest first: 3.13.10 before 3.13.9.
    places += sorted(root.glob("versions/3.*/bin"), key=_version, reverse=True)
    for place in places:
        for path in place.glob("python3.*") if place.is_dir() else ():
            if match := _NAME.fullmatch(path.name):
                yield int(match[1]), path


def _version(place: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", place.parent.name)]


def works(path: Path) -> bool:
    """Whether it starts. A shim of pyenv's may name a version that isn't chosen here."""
    done = subprocess.run([path, "-c", "import venv"], capture_output=True, check=False)
    return done.returncode == 0


def newer(than: int) -> list[Path]:
    """One interpreter for each minor version above this one, the newest first."""
    found: dict[int, Path] = {}
    for minor, path in candidates():
        if minor > than and minor not in found and works(path):
            found[minor] = path
    return [found[minor] for minor in sorted(found, reverse=True)]


if __name__ == "__main__":
    print("\n".join(map(str, newer(sys.version_info.minor))))
