"""A progress bar for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TextIO, TypeVar

_WIDTH = 30
_SECONDS_BETWEEN = 0.2

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class SizedIterable(Sized, Iterable[T_co], Protocol[T_co]):
    """Something whose length is known before it is gone through."""


class Bar:
    """How much of something is done, on a terminal, drawn a few times a second.

    Args:
        terminal: where to.
        total: how much there is to do.
    """

    def __init__(self, terminal: TextIO, total: int) -> None:
        self._terminal = terminal
        self._total = total
        self._shown_at = float("-inf")

    def show(self, done: int) -> None:
        """Note how much is done."""
        now = time.monotonic()
        if now - self._shown_at < _SECONDS_BETWEEN:
            return
        self._shown_at = now
        filled = _WIDTH * min(done, self._total) // max(1, self._total)
        bar = "#" * filled + "." * (_WIDTH - filled)
        self._terminal.write(f"\r[{bar}] {done} of {self._total}")
        self._terminal.flush()

    def clear(self) -> None:
        """Remove the bar, so that the result takes its place."""
        self._terminal.write("\r\x1b[K")
        self._terminal.flush()


def shown(items: SizedIterable[T], terminal: TextIO | None) -> Iterator[T]:
    """The same items, with a bar that follows; none where there is no terminal."""
    if terminal is None:
        yield from items
        return
    bar = Bar(terminal, len(items))
    try:
        for done, item in enumerate(items):
            bar.show(done)
            yield item
    finally:
        bar.clear()
