"""What commands print: text for people, or JSON. Text from others is made safe for terminals."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from ..registry import SessionInfo

LONGEST = 2000
"""Characters of a text for people."""


class Failure(Exception):
    """A command can't be carried out; the text says why, and what to do."""


class Printer:
    """Prints what came out of a command.

    Args:
        out: where to; None: nowhere, as for a stdout that is closed.
        as_json: whether programs will read it.
    """

    def __init__(self, out: TextIO | None, as_json: bool) -> None:
        self._out = out
        self.as_json = as_json

    def print(self, facts: object, text: str) -> None:
        """The facts for a program, or the text for a person.

        Raises:
            BrokenPipeError: as `emit`.
            Failure: as `emit`.
        """
        if self.as_json:
            text = json.dumps(facts, ensure_ascii=True)
        emit(self._out, text + "\n")

    def terminal(self) -> TextIO | None:
        """Where progress can be shown, if anywhere."""
        shows = sys.stderr is not None and sys.stderr.isatty() and not self.as_json
        return sys.stderr if shows else None


def emit(out: TextIO | None, text: str) -> None:
    """Write the text, and what was written before it, now: at exit, an error would be too late.

    Raises:
        BrokenPipeError: whoever reads has seen enough, as ``head`` does.
        Failure: it can't be written.
    """
    if out is None:
        raise Failure("the output can't be written: stdout is closed")
    try:
        out.write(text)
        out.flush()
    except OSError as error:
        # What couldn't be written is still there, and would be tried once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise Failure(f"the output can't be written: {error.strerror}") from None


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns under their heads."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def plain(info: SessionInfo) -> dict[str, Any]:
    """The same with times as ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(info).items()
    }


def counted(count: int, one: str, several: str) -> str:
    """The number and the right one of two words."""
    return f"{count} {one if count == 1 else several}"


def count_of_sessions(count: int) -> str:
    """Such as "3 sessions"."""
    return counted(count, "session", "sessions")


def size(count: int) -> str:
    """Such as "12 bytes"."""
    return counted(count, "byte", "bytes")


def relative(at: datetime, now: datetime) -> str:
    """Such as "3 min ago" or "in 2 h"."""
    seconds = (at - now).total_seconds()
    number, unit = abs(seconds), "s"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if number >= size:
            number, unit = number / size, name
            break
    return f"in {number:.0f} {unit}" if seconds > 0 else f"{number:.0f} {unit} ago"
