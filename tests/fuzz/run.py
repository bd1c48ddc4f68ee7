"""Drives one target with atheris: ``python tests/fuzz/run.py TARGET [libFuzzer options]``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wsgi_sessions"]):
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from fuzz.targets import SEEDS, TARGETS

LIMITS = ("-max_len=20000", "-timeout=20", "-rss_limit_mb=1000")
"""Bytes of an input; seconds and megabytes that it may take."""

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"write one of {', '.join(TARGETS)}")
    # libFuzzer begins with the files of a directory, and adds what it finds worth keeping.
    corpus = Path("build", "fuzz", "corpus", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([*sys.argv, *LIMITS, str(corpus)], TARGETS[name])
    atheris.Fuzz()
