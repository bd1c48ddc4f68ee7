"""`python -m benchmarks`: run it all, print the tables, write docs/benchmarks.md.

With ``--quick``: fewer lines, shorter turns, and nothing but the terminal and .bench/ is written,
unless ``--write`` asks for it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from . import cost, extras, load, races, report, server, space, sql, wire

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".bench" / "results.json"


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=…", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="a few lines, in a minute or two")
    parser.add_argument("--write", action="store_true", help="write docs/ even after a quick run")
    parser.add_argument("--only", help="one section: its result is printed as JSON")
    parser.add_argument("--render", action="store_true", help="write docs/ from the last results")
    arguments = parser.parse_args()
    if arguments.render:
        _write(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    # What contenders log about forged cookies is not what is measured.
    logging.getLogger("wsgi_sessions").addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    with server.started() as redis:
        sections = _sections(redis, quick=arguments.quick)
        if arguments.only is not None:
            print(json.dumps(sections[arguments.only](), indent=1, ensure_ascii=False))
            return
        results = _run(sections, quick=arguments.quick)
    print(report.document(results))
    if not arguments.quick or arguments.write:
        _write(results)


def _write(results: dict[str, Any]) -> None:
    (ROOT / "docs" / "benchmarks.md").write_text(report.document(results), encoding="utf-8")
    report.plot(results, ROOT / "docs" / "images" / "benchmarks.png")


def _sections(redis: server.Server | None, *, quick: bool) -> dict[str, Any]:
    repetitions = 5 if quick else 15
    return {
        "dry run": lambda: cost.dry_run(redis),
        "cost": lambda: _cost(redis, quick=quick, repetitions=repetitions),
        "races": lambda: races.everything(redis, quick=quick),
        "wire": lambda: None if redis is None else wire.traffic(redis),
        "sql": lambda: sql.everything(quick=quick, repetitions=min(repetitions, 7)),
        "space": lambda: space.measure(quick=quick),
        "many": lambda: extras.among_many(redis, quick=quick),
        "load": lambda: load.measure(redis, quick=quick),
        "options": lambda: extras.options(repetitions=repetitions),
        "binding": lambda: extras.binding(repetitions=repetitions),
        "imports": lambda: extras.import_times(repetitions=5 if quick else 9),
        "loaded": extras.loaded_modules,
    }


def _run(sections: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    results: dict[str, Any] = {
        "quick": quick,
        "repetitions": 5 if quick else 15,
        "machine": f"CPython {platform.python_version()} on {platform.system()},"
        f" {platform.machine()}, {os.cpu_count()} cores",
    }
    for name, section in sections.items():
        start = time.monotonic()
        results[name] = section()
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return results


def _cost(
    redis: server.Server | None, *, quick: bool, repetitions: int
) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for cell in cost.cells(quick=quick):
        if cell.storage == "redis" and redis is None:
            continue
        row = cost.measure_cell(
            cell, redis, repetitions=repetitions, turn=0.005 if quick else 0.007
        )
        found.setdefault(cell.storage, {})[cell.title] = row
        print(cell.storage, cell.title, {name: round(value, 1) for name, value in row.items()},
              file=sys.stderr, flush=True)  # fmt: skip
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
