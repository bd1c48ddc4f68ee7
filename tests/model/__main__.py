"""``python -m model --seconds 60 --store memory``: look for findings with fresh seeds."""

from __future__ import annotations

import argparse
import logging
import sys

from .checker import fresh_seed, look, replay, try_seed
from .oracle import Wanted
from .stores import KINDS, Stores


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each store")
    parser.add_argument("--store", choices=[*KINDS, "all"], default="memory")
    parser.add_argument("--seed", type=int, help="try this one alone")
    parser.add_argument("--from", type=int, dest="first", help="the first seed; else a fresh one")
    parser.add_argument("--ignore", action="append", default=[], help="a kind of finding")
    parser.add_argument("--only", action="append", default=[], help="the kind of findings wanted")
    parser.add_argument("--without", action="append", default=[], help="no scenario that says this")
    parser.add_argument("--most", type=int, default=10, help="stop after so many findings")
    parser.add_argument("--replay", help="a scenario as it was printed")
    options = parser.parse_args()
    logging.getLogger("wsgi_sessions").setLevel(logging.CRITICAL + 1)
    with Stores() as made:
        if options.replay:
            found = replay(options.replay, made, Wanted(options.ignore, options.only))
            print(found or "nothing was found")
            return found is not None
        kinds = KINDS if options.store == "all" else (options.store,)
        return max(_look(kind, made, options) for kind in kinds)


def _look(store: str, made: Stores, options: argparse.Namespace) -> int:
    wanted = Wanted(options.ignore, options.only)
    if options.seed is not None:
        outcomes = iter([try_seed(options.seed, store, made, wanted)])
    else:
        first = fresh_seed() if options.first is None else options.first
        outcomes = look(
            store,
            made,
            seconds=options.seconds,
            first=first,
            wanted=wanted,
            without=options.without,
        )
    runs, failed, shapes = 0, 0, set[str]()
    for found in outcomes:
        runs += 1
        if found is None:
            continue
        failed += 1
        if found.shape not in shapes:
            print(f"{store}: {found}", flush=True)
            shapes.add(found.shape)
            if len(shapes) >= options.most:
                break
    print(f"{store}: {runs} runs, {failed} failed, {len(shapes)} findings that differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
