"""Builds CPython without the GIL, from the source package of a Debian release.

``make free-threaded`` calls it. The source comes through apt-get from the mirror that this machine
uses anyway, with settings of its own, so that nothing about the machine's packages changes. It is
built as it was published, without Debian's patches.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

PACKAGE = "python3.13"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_NEEDED = ("apt-get", "gcc", "make")
_HEADERS = {"zlib.h": "zlib1g-dev", "openssl/ssl.h": "libssl-dev", "sqlite3.h": "libsqlite3-dev"}
"""Without these, pip or the tests don't work; CPython itself builds all the same."""


def mirror() -> str:
    """Where this machine gets Debian's packages.

    Raises:
        SystemExit: from nowhere.
    """
    listed = _run("apt-get", "indextargets", "--format", "$(SITE)")
    found = [line for line in listed.split() if re.search(r"/debian/?$", line)]
    if not found:
        raise SystemExit(
            "apt-get knows no mirror of Debian: give FREE_PYTHON=path of a python3.13t"
        )
    return found[0]


def fetch(suite: str, into: Path) -> Path:
    """The source of Python in this release of Debian, unpacked; returns its folder."""
    for name in ("lists/partial", "cache/archives/partial"):
        (into / "apt" / name).mkdir(parents=True, exist_ok=True)
    sources, settings = into / "apt" / "sources.list", into / "apt" / "apt.conf"
    sources.write_text(f"deb-src [signed-by={_KEYS}] {mirror()} {suite} main\n", "utf-8")
    settings.write_text(
        f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "-";\n'
        f'Dir::State::lists "{into}/apt/lists";\nDir::Cache "{into}/apt/cache";\n'
        'APT::Sandbox::User "root";\n',
        "utf-8",
    )
    environment = {**os.environ, "APT_CONFIG": str(settings)}
    _run("apt-get", "update", environment=environment)
    _run("apt-get", "source", "--download-only", PACKAGE, environment=environment, folder=into)
    (archive,) = into.glob(f"{PACKAGE}_*.orig.tar.*z")
    with tarfile.open(archive) as source:
        source.extractall(into, filter="data")
    (folder,) = into.glob("Python-*/")
    return folder


def build(source: Path, target: Path) -> None:
    """Compile and install it into this folder."""
    jobs = str(os.cpu_count() or 1)
    for command in (
        ("./configure", "--quiet", "--disable-gil", f"--prefix={target}"),
        ("make", "--silent", "--jobs", jobs),
        ("make", "--silent", "altinstall"),
    ):
        _run(*command, folder=source)


def _run(
    *command: str, environment: dict[str, str] | None = None, folder: Path | None = None
) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def main() -> None:
    """Fetch and build."""
    parser = argparse.ArgumentParser(prog="make free-threaded", description=__doc__)
    parser.add_argument("target", type=Path, help="the folder to install into")
    parser.add_argument("--suite", required=True, help="a release of Debian")
    arguments = parser.parse_args()
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    missing += [
        package
        for header, package in _HEADERS.items()
        if not (Path("/usr/include") / header).exists()
    ]
    if missing:
        raise SystemExit(
            f"building CPython takes {', '.join(missing)}: install it, or give FREE_PYTHON=path of a"
            " python3.13t"
        )
    target: Path = arguments.target.resolve()
    work = target.parent / "source"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    build(fetch(arguments.suite, work), target)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
