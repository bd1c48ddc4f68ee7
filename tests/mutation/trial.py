"""Tries mutants: runs the tests that reach the change, and stops at the first that fails.

A mutant of a function's body is put into a process that has imported and collected everything: it
forks, exchanges the code of the function and runs the tests that were seen to call it, quick ones
first; some hundredths of a second. Any other mutant is imported anew, in a process in which the
package isn't loaded yet. Which mutants there are isn't decided here.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import Phase, settings

from .mutants import Mutant

KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
_NOT_IN_PLACE = 3
"""Exit status: the change can't be made without a new import."""
_GIGABYTE = 1 << 30
_SLOW = 0.4
"""Seconds. A test that takes longer isn't asked: a mutant that lives would cost a minute."""
_PATIENCE = 5.0
"""Seconds that any test may take; ten times as long as it took unchanged comes on top."""

Report = Callable[[Mutant, str, str], None]
"""Called with each mutant, the verdict and the test that killed it."""


class BaselineFailed(Exception):
    """The tests fail without any change, or there are none."""


class Reach:
    """Which tests call which functions, and how long each takes."""

    def __init__(self, seen: dict[str, Any]) -> None:
        self.seconds: dict[str, float] = seen["seconds"]
        self.calls: dict[str, set[str]] = {
            name: set(tests) for name, tests in seen["calls"].items()
        }
        self.at_import: set[str] = set(seen["at_import"])
        self.kills: Counter[str] = Counter()

    def tests(self, codes: Iterable[CodeType]) -> list[str]:
        """The tests that call any of these, those that are likely to kill first."""
        found: set[str] = set()
        for code in codes:
            found |= self.calls.get(_name(code), set())
        return self.in_order(found)

    def in_order(self, tests: Iterable[str]) -> list[str]:
        """These tests, those that are likely to kill and the quick ones first; slow ones never."""
        quick = [test for test in tests if self.seconds.get(test, 0) < _SLOW]
        return sorted(quick, key=lambda test: (-self.kills[test], self.seconds.get(test, 0)))

    def limit(self, test: str) -> float:
        return _PATIENCE + 10 * self.seconds.get(test, 0)


def _name(code: CodeType) -> str:
    return f"{code.co_qualname}:{code.co_firstlineno}"


def _is_function(code: CodeType) -> bool:
    # A class's own code differs where a method's does, and has run when it was imported.
    return bool(code.co_flags & inspect.CO_OPTIMIZED)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


class _Runner:
    """A pytest plugin with what both kinds of trial share."""

    def __init__(self) -> None:
        self.failed: str | None = None

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def run(self, items: Sequence[pytest.Item], limit: Callable[[str], float]) -> str | None:
        """Run these tests until one fails, and name it; one that takes too long ends the process."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for index, item in enumerate(items):
            following = items[index + 1] if index + 1 < len(items) else None
            signal.setitimer(signal.ITIMER_REAL, limit(item.nodeid))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if self.failed is not None:
                return self.failed
        return None


class _Explorer(_Runner):
    """Runs all tests as they are, and notes which functions of one file each of them calls."""

    def __init__(self, path: Path, out: int) -> None:
        super().__init__()
        self._file = str(path)
        self._out = out
        self._called: set[CodeType] = set()

    def _profile(self, frame: Any, event: str, _arg: object) -> None:
        if event == "call" and frame.f_code.co_filename == self._file:
            self._called.add(frame.f_code)

    def watch(self) -> None:
        sys.setprofile(self._profile)
        threading.setprofile(self._profile)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        at_import = sorted({_name(code) for code in self._called})
        caches = _caches()
        seconds: dict[str, float] = {}
        calls: dict[str, list[str]] = {}
        items = session.items
        for index, item in enumerate(items):
            for cache in caches:
                cache.cache_clear()
            self._called.clear()
            following = items[index + 1] if index + 1 < len(items) else None
            begun = time.perf_counter()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds[item.nodeid] = time.perf_counter() - begun
            for code in self._called.copy():
                calls.setdefault(_name(code), []).append(item.nodeid)
        _send(
            self._out,
            {"failed": self.failed, "seconds": seconds, "calls": calls, "at_import": at_import},
        )
        return True


def _caches() -> list[Any]:
    """What the package remembers of earlier calls, which would hide that a test depends on one."""
    found: list[Any] = []
    for name, module in sys.modules.items():
        if isinstance(module, ModuleType) and name.partition(".")[0] == "wsgi_sessions":
            for value in vars(module).values():
                members = vars(value).values() if isinstance(value, type) else ()
                found += [each for each in (value, *members) if hasattr(each, "cache_clear")]
    return found


class _InPlace(_Runner):
    """Tries mutants of function bodies, each in a fork of this process."""

    def __init__(
        self, path: Path, original: str, mutants: Sequence[Mutant], reach: Reach, out: int
    ) -> None:
        super().__init__()
        self._file = str(path)
        self._original = list(_codes(compile(original, self._file, "exec", dont_inherit=True)))
        self._mutants = mutants
        self._reach = reach
        self._out = out

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined] # once for all
        gc.unfreeze()  # conftest.py freezes, and what is frozen isn't found
        functions = [
            thing
            for thing in gc.get_objects()
            if type(thing) is FunctionType and thing.__code__.co_filename == self._file
        ]
        gc.freeze()
        for number, mutant in enumerate(self._mutants):
            swaps = self._swaps(mutant)
            tests = self._reach.tests(swaps)
            outermost = {_name(code) for code in swaps}
            if not tests or outermost & self._reach.at_import:
                _send(self._out, {"mutant": number, "verdict": None, "by": ""})
                continue

            def trial(out: int, swaps: Any = swaps, tests: Any = tests) -> int:
                if not _exchange(swaps, functions):
                    return _NOT_IN_PLACE
                failed = self.run([items[test] for test in tests], self._reach.limit)
                _send(out, failed)
                return 0

            status, failed = _forked(trial)
            verdict = None if status == _NOT_IN_PLACE else _verdict(status, failed)
            if failed:
                self._reach.kills[failed] += 1
            _send(self._out, {"mutant": number, "verdict": verdict, "by": failed or ""})
        return True

    def _swaps(self, mutant: Mutant) -> dict[CodeType, CodeType]:
        """The code objects that the mutant changes, each with what takes its place."""
        new = list(_codes(compile(mutant.source, self._file, "exec", dont_inherit=True)))
        if len(new) == len(self._original):
            return {
                a: b for a, b in zip(self._original, new, strict=True) if a != b and _is_function(a)
            }
        # One was added or went: the function that holds it is what can be exchanged.
        by_name = {_name(code): code for code in reversed(new)}
        return {
            code: by_name[_name(code)]
            for code in self._original
            if "<" not in code.co_name
            and _is_function(code)
            and _name(code) in by_name
            and by_name[_name(code)] != code
        }


def _exchange(swaps: dict[CodeType, CodeType], functions: Iterable[FunctionType]) -> bool:
    """Give every function that has one of these codes the other one; whether any was there."""
    found = False
    try:
        for function in functions:
            if function.__code__ in swaps:
                function.__code__ = swaps[function.__code__]
                found = True
    except ValueError:  # it closes over something else now
        return False
    return found


class _Anew(_Runner):
    """Runs all tests on a package of which one module is changed, quick ones first."""

    def __init__(self, reach: Reach, out: int) -> None:
        super().__init__()
        self._reach = reach
        self._out = out

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            _send(self._out, "collection")
            return True
        by_name = {item.nodeid: item for item in session.items}
        items = [by_name[test] for test in self._reach.in_order(by_name)]
        _send(self._out, self.run(items, self._reach.limit) or "")
        return True


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module with other contents."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self._name = name
        self._loader = _Loader(name, str(path))
        self._loader.mutated = source

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> Any:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self._loader.path, loader=self._loader
        )


class _Loader(importlib.machinery.SourceFileLoader):
    mutated = ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.mutated, self.path, "exec", dont_inherit=True)


def _send(out: int, value: object) -> None:
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(out, data) :]


def _verdict(status: int, failed: object) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return TIMED_OUT
    return KILLED if status != 0 or failed else SURVIVED


def _start(work: Callable[[int], int]) -> tuple[int, int]:
    """Start a forked process; its ID, and where its messages come out."""
    incoming, out = os.pipe()
    pid = os.fork()
    if pid:
        os.close(out)
        return pid, incoming
    status = 1
    try:
        os.close(incoming)
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (3 * _GIGABYTE, 3 * _GIGABYTE))
        status = work(out)
    except BaseException:  # whatever it is, this process must not go on as its parent's double
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _finish(pid: int) -> int:
    """Wait for a process, and end what it left running."""
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return _NOT_IN_PLACE if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3 else status


def _forked(work: Callable[[int], int]) -> tuple[int, Any]:
    """Do this in another process: how it ended, and what it said."""
    pid, incoming = _start(work)
    said = b""
    # What the process started may outlive it and hold the other end: so no end of file is awaited.
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([incoming], [], [], 0.2)
        if ready:
            data = os.read(incoming, 1 << 20)
            said += data
            if not data:
                break
        elif os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
    status = _finish(pid)
    os.close(incoming)
    return status, json.loads(said) if said else None


def _pytest(tests: Sequence[str], plugin: object, log: Path) -> int:
    """Run pytest in this process, which is then of no other use; what it prints goes to ``log``."""
    settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate], database=None)
    settings.load_profile("mutation")  # a failure is enough: nobody wants the smallest
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    temporary = Path(tempfile.gettempdir()) / f"ws-mutants-{os.getpid()}"
    options = [
        "-q",
        "-x",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "--capture=sys",
        f"--basetemp={temporary}",
    ]
    # What was loaded beforehand has no rewritten asserts, and needs none.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options += ["-o", "tmp_path_retention_policy=none"]
    try:
        return int(pytest.main([*options, *tests], plugins=[plugin]))
    except pytest.PytestUnraisableExceptionWarning:
        return 0  # what is found unclosed after the last test is no test's verdict
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def explore(path: Path, tests: Sequence[str], log: Path) -> Reach:
    """Run the tests without any change.

    Raises:
        BaselineFailed: if they don't pass.
    """

    def work(out: int) -> int:
        explorer = _Explorer(path, out)
        explorer.watch()
        return _pytest(tests, explorer, log)

    _, seen = _forked(work)
    if seen is None or seen["failed"] or not seen["seconds"]:
        raise BaselineFailed(f"{seen and seen['failed']}; see {log}")
    return Reach(seen)


def try_in_place(
    path: Path,
    tests: Sequence[str],
    mutants: Sequence[Mutant],
    reach: Reach,
    log: Path,
    report: Report,
) -> list[Mutant]:
    """Try mutants of function bodies. Returns those that have to be imported anew."""
    original = path.read_text()
    left: list[Mutant] = []

    def work(out: int) -> int:
        return _pytest(tests, _InPlace(path, original, mutants, reach, out), log)

    pid, incoming = _start(work)
    tried = 0
    with open(incoming, "rb") as messages:
        for line in messages:
            said = json.loads(line)
            mutant = mutants[said["mutant"]]
            tried += 1
            if said["verdict"] is None:
                left.append(mutant)
            else:
                reach.kills[said["by"]] += 1
                report(mutant, said["verdict"], said["by"])
            if tried == len(mutants):
                break
    _finish(pid)
    if tried != len(mutants):
        raise BaselineFailed(f"only {tried} of {len(mutants)} were tried; see {log}")
    return left


def try_anew(
    name: str,
    path: Path,
    tests: Sequence[str],
    mutants: Sequence[Mutant],
    reach: Reach,
    log: Path,
    report: Report,
) -> None:
    """Try any mutants, each in a process that imports the package with it."""

    def trial(source: str) -> tuple[int, Any]:
        def work(out: int) -> int:
            sys.meta_path.insert(0, _Finder(name, path, source))
            return _pytest(tests, _Anew(reach, out), log)

        return _forked(work)

    if mutants:
        status, failed = trial(path.read_text())
        if _verdict(status, failed) != SURVIVED:
            raise BaselineFailed(f"{failed or status}; see {log}")
    for mutant in mutants:
        status, failed = trial(mutant.source)
        verdict = _verdict(status, failed)
        if failed:
            reach.kills[failed] += 1
        report(mutant, verdict, failed or "")


def preload(names: Iterable[str]) -> None:
    """Import what the tests need besides the package, so that no trial has to."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if any(name.partition(".")[0] == "wsgi_sessions" for name in sys.modules):
        raise RuntimeError("the package must not be loaded before it can be changed")
