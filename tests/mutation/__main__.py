"""Mutation tests: ``python -m mutation [MODULE ...]``, all modules if none is named.

Exit status 1 if a mutant lives that survivors.toml doesn't explain, or if less than 90 % of a
module's are killed. What was seen is kept in build/mutation: a mutant that was killed isn't tried
again until its function changes, one that lived not until that or its tests change.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import survivors
from .mutants import Mutant, mutants_of
from .targets import ROOT, TESTS, source_of
from .trial import KILLED, SURVIVED, TIMED_OUT, explore, preload, try_anew, try_in_place

GOOD = 0.9
KEPT = ROOT / "build" / "mutation"
_PRELOADED = (
    *("hypothesis.stateful", "redis", "redis.asyncio", "redis.sentinel", "redis.cluster", "valkey"),
    *("werkzeug.test", "werkzeug.wsgi", "itsdangerous", "orjson", "flask", "decimal", "uuid"),
    *("cryptography.hazmat.primitives.ciphers.aead", "cryptography.hazmat.primitives.kdf.hkdf"),
    *("logging.handlers", "wsgiref.validate", "multiprocessing.pool", "concurrent.futures.thread"),
)


@dataclass
class Tally:
    """What became of a module's mutants."""

    counts: Counter[str] = field(default_factory=Counter)
    wordings: int = 0
    unexplained: list[Mutant] = field(default_factory=list)
    stale: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return 1 - self.counts[SURVIVED] / max(1, self.counts.total())


class Memory:
    """The verdicts of earlier runs on one module."""

    def __init__(self, path: Path, source: str, tests: tuple[str, ...]) -> None:
        self._path = path
        self._functions = survivors.functions(source)
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        self._tests = _digest("".join((ROOT / file).read_text() for file in files))
        self._verdicts: dict[str, str] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                name, verdict = json.loads(line)
                self._verdicts[name] = verdict

    def _name(self, mutant: Mutant, verdict: str) -> str:
        whole = self._functions[mutant.function if mutant.in_body else ""]
        tests = self._tests if verdict == SURVIVED else ""
        return _digest(repr((whole, tests, mutant.before, mutant.after, mutant.nth)))

    def verdict(self, mutant: Mutant) -> str | None:
        for verdict in (KILLED, TIMED_OUT, SURVIVED):
            if self._verdicts.get(self._name(mutant, verdict)) == verdict:
                return verdict
        return None

    def keep(self, mutant: Mutant, verdict: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps([self._name(mutant, verdict), verdict]) + "\n")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def examine(module: str, known: set[tuple[str, str, str, str]]) -> Tally:
    """Try all mutants of a module."""
    path, tests = source_of(module), TESTS[module]
    source = path.read_text()
    memory = Memory(KEPT / f"{module}.jsonl", source, tests)
    tally = Tally()
    living: list[Mutant] = []
    new: list[Mutant] = []
    everything = list(mutants_of(source))

    def count(mutant: Mutant, verdict: str) -> None:
        tally.counts[verdict] += 1
        if verdict == SURVIVED:
            living.append(mutant)

    def report(mutant: Mutant, verdict: str, _by: str) -> None:
        memory.keep(mutant, verdict)
        count(mutant, verdict)
        if verdict != KILLED:
            print(f"{verdict}: {module} {mutant.function}\n  - {mutant.before}\n  + {mutant.after}")
        sys.stdout.flush()

    for mutant in everything:
        if mutant.message:
            tally.wordings += 1
        elif (verdict := memory.verdict(mutant)) is not None:
            count(mutant, verdict)
        else:
            new.append(mutant)
    if new:
        log = KEPT / f"{module}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        reach = explore(path, tests, log)
        bodies = [mutant for mutant in new if mutant.in_body]
        left = try_in_place(path, tests, bodies, reach, log, report) if bodies else []
        others = [mutant for mutant in new if not mutant.in_body]
        name = f"wsgi_sessions.{module}"
        try_anew(name, path, tests, [*left, *others], reach, log, report)
    found = {_identity(module, mutant) for mutant in living}
    tally.unexplained = [each for each in living if _identity(module, each) not in known]
    tally.stale = sorted(each for each in known if each[0] == module and each not in found)
    return tally


def _identity(module: str, mutant: Mutant) -> tuple[str, str, str, str]:
    return module, mutant.function, mutant.before, mutant.after


def main(modules: list[str]) -> int:
    """Try the mutants of these modules; the exit status."""
    unknown = set(modules) - set(TESTS)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; write some of {', '.join(TESTS)}")
        return 2
    chosen = modules or list(TESTS)
    known = set[tuple[str, str, str, str]]()
    for survivor in survivors.read(survivors.FILE.read_text()):
        known |= survivor.mutants
    preload(_PRELOADED)
    tallies: dict[str, Tally] = {}
    for module in chosen:
        begun = time.monotonic()
        tallies[module] = examine(module, known)
        print(f"{module}: {time.monotonic() - begun:.0f} s", flush=True)
    return _judge(tallies)


def _judge(tallies: dict[str, Tally]) -> int:
    good = True
    for module, tally in tallies.items():
        for mutant in tally.unexplained:
            print(f"\nnot killed, not explained: {module} {mutant.function}")
            print(f"  - {mutant.before}\n  + {mutant.after}")
        for _, function, before, after in tally.stale:
            print(f"\nno survivor any more: {module} {function}\n  - {before}\n  + {after}")
        good = good and not tally.unexplained and tally.rate >= GOOD
    print(f"\n{'module':18}mutants  killed  timed out  survived  unexplained   rate  (wordings)")
    for module, tally in tallies.items():
        counts = tally.counts
        print(
            f"{module:18}{counts.total():7}{counts[KILLED]:8}{counts[TIMED_OUT]:11}"
            f"{counts[SURVIVED]:10}{len(tally.unexplained):13}{tally.rate:7.1%}"
            f"{tally.wordings:12}"
        )
    print("Wordings of errors and log lines are counted, not tried, and not in the rate.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
