"""Makes calls meet, in threads and in processes. What they do is up to the tests.

An error in another thread is raised again in the test's own, and nothing waits forever for one that
has died, so that a failing test doesn't hang.
"""

# ruff: noqa: S101 # tests are made of asserts

from __future__ import annotations

import contextlib
import itertools
import os
import random
import secrets
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from types import FrameType
from typing import Any, Self

Meet = Callable[[], None]
"""Returns when the other process has got this far, too."""

PATIENCE = 60
"""Seconds of waiting for another thread or process, after which it is taken for dead."""
_BLOCKED = 0.002
"""Seconds after which a call that hasn't answered may be waiting for the one that it interrupts."""
_OFTEN = 1e-6
"""Seconds; threads that are switched often meet in more places."""


class Racers:
    """Two threads that make two calls at the same moment, as often as asked: a context manager."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=PATIENCE)
        self._call: Callable[[], object] | None = None
        self._answer: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(_OFTEN)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self._interval)
        self._call = None
        with contextlib.suppress(threading.BrokenBarrierError):  # it has died; its error is known
            self._barrier.wait()
        self._thread.join()

    def __call__(self, one: Callable[[], object], two: Callable[[], object]) -> tuple[Any, Any]:
        """Their answers."""
        self._call = two
        self._barrier.wait()
        dawdle()
        try:
            answer = one()
        finally:
            self._barrier.wait()
        if self._error is not None:
            raise self._error
        return answer, self._answer

    def _run(self) -> None:
        while True:
            self._barrier.wait()
            if self._call is None:
                return
            dawdle()
            try:
                self._answer = self._call()
            except BaseException as error:  # noqa: BLE001 # raised again in the test's own thread
                self._error = error
            self._barrier.wait()


class Interruptions:
    """Makes a second call while a first one stands still at one of its lines: a context manager.

    So it isn't left to chance whether they meet. Where the second waits for a lock that the first
    holds, the first goes on.

    Args:
        subject: only lines of the packages that its class and base classes come from count.
    """

    def __init__(self, subject: object) -> None:
        self._packages = {kind.__module__.partition(".")[0] for kind in type(subject).__mro__}
        self._other = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._other.shutdown()

    def lines(self, call: Callable[[], object], most: int) -> list[int]:
        """Make a call; which of its steps to interrupt: of each line the first and the last."""
        steps: list[tuple[object, int]] = []
        self._call(call, lambda frame: steps.append((frame.f_code, frame.f_lineno)))
        numbered = [(place, step) for step, place in enumerate(steps)]
        found = {*dict(numbered).values(), *dict(reversed(numbered)).values()}
        return random.sample(sorted(found), min(len(found), most))

    def __call__(
        self, one: Callable[[], object], two: Callable[[], object], at: int
    ) -> tuple[Any, Any]:
        """Their answers; ``two`` is called at this step of ``one``, or afterwards."""
        steps, begun = itertools.count(), list[Future[object]]()

        def interrupt(_: FrameType) -> None:  # pragma: no cover # the tracer of coverage is off
            if next(steps) == at:
                begun.append(self._other.submit(two))
                wait(begun, timeout=_BLOCKED)

        answer = self._call(one, interrupt)
        other = begun[0] if begun else self._other.submit(two)
        return answer, other.result(timeout=PATIENCE)

    def _call(self, call: Callable[[], object], at_line: Callable[[FrameType], None]) -> object:
        def trace(frame: FrameType, event: str, _: object) -> Any:  # pragma: no cover # as above
            # Code that was executed without a module belongs to builtins.
            module = str(frame.f_globals.get("__name__", "builtins"))
            if module.partition(".")[0] not in self._packages:
                return None
            if event == "line":
                at_line(frame)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return call()
        finally:
            sys.settrace(before)


def together(*calls: Callable[[], object]) -> list[Any]:
    """The answers of calls that start at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))
    answers: dict[int, object] = {}
    errors: list[BaseException] = []

    def run(number: int, call: Callable[[], object]) -> None:
        try:
            barrier.wait(timeout=PATIENCE)
            dawdle()
            answers[number] = call()
        except BaseException as error:  # noqa: BLE001 # raised again in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_OFTEN)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        # Who waited for a call that failed has failed for its sake, and perhaps sooner.
        raise min(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError))
    return [answers[number] for number in range(len(calls))]


def dawdle() -> None:
    """Let nothing but chance decide who comes first, by how much, and at which step they meet."""
    for _ in range(secrets.randbelow(1 << secrets.randbelow(12))):
        pass


def forked(*calls: Callable[[], object], meanwhile: Callable[[], object] | None = None) -> None:
    """Make each call in a process of its own, all at once; fails if one of them does.

    Not for several threads at once: their children would hold each other's pipes open.

    Args:
        calls: what the child processes do.
        meanwhile: what this process does at the same time.
    """
    waiting, starting = os.pipe()
    children = [_fork(partial(_call_when_closed, call, waiting, starting)) for call in calls]
    os.close(starting)
    os.close(waiting)
    try:
        if meanwhile is not None:
            meanwhile()
    finally:
        failed = _failed(children)
    assert not failed, "a process failed; its error is above"


def in_step(one: Callable[[Meet], object], two: Callable[[Meet], object]) -> None:
    """Make two calls, each in a process of its own, that can wait for each other."""
    ends = socket.socketpair()
    children = [
        _fork(partial(_call_in_step, call, *ends[::way])) for call, way in ((one, 1), (two, -1))
    ]
    for end in ends:  # or nobody would see that the other one has died
        end.close()
    failed = _failed(children)
    assert not failed, "a process failed; its error is above"


def _call_when_closed(call: Callable[[], object], waiting: int, starting: int) -> None:
    os.close(starting)
    os.read(waiting, 1)
    call()


def _call_in_step(
    call: Callable[[Meet], object], mine: socket.socket, theirs: socket.socket
) -> None:
    theirs.close()
    mine.settimeout(PATIENCE)

    def meet() -> None:
        mine.send(b".")
        assert mine.recv(1) == b".", "the other process has died"
        dawdle()

    call(meet)


def _fork(call: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        # Python warns of forks while there are threads; ours have ended.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _call_and_exit(call)
    return child


def _failed(children: list[int]) -> list[int]:
    return [child for child in children if os.waitpid(child, 0)[1] != 0]


def _call_and_exit(call: Callable[[], object]) -> None:  # pragma: no cover # in a child
    status = 1
    try:
        # A child that waits for a lock that nobody will release has to end, and not hang.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        call()
        status = 0
    except BaseException:  # noqa: BLE001 # the other process sees the status
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
