"""Drives one target with atheris: ``python tests/fuzz/run.py TARGET [libFuzzer options]``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wsgi_sessions"]):
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"write one of {', '.join(TARGETS)}")
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
