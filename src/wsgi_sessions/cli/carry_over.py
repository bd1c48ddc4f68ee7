"""``carry-over``: how many sessions of another system could be carried over. Changes nothing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from ..carry_over.source import Source
from ..carry_over.survey import Survey, source_from_text, survey
from ..errors import ConfigurationError
from ..events import printable
from .printing import LONGEST, Printer, count_of_sessions, counted
from .progress import Bar


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SYSTEM+URL",
        required=True,
        help="such as beaker+file:///data_dir, flask-session+redis://host, django+postgresql://…,"
        " express+redis://host",
    )
    parser.add_argument(
        "--secret-file", metavar="FILE", help="the old app's secrets, one a line, newest first"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="of Beaker's sessions")
    parser.add_argument("--prefix", help="of the keys, where it isn't the usual one")
    parser.add_argument("--owner", metavar="FIELD", help="the field that holds the user")


def carry_over(arguments: argparse.Namespace, printer: Printer) -> bool:
    """Look at every record of the old store."""
    source = source_from_text(
        arguments.source,
        secrets=_secrets_in(arguments.secret_file),
        timeout=arguments.timeout,
        prefix=arguments.prefix,
        owner=arguments.owner,
    )
    seen = _surveyed(source, printer.terminal())
    facts = asdict(seen) | {
        "left_behind": [
            {"reason": reason, "sessions": count} for reason, count in seen.left_behind.items()
        ]
    }
    printer.print(facts, "\n".join(_lines(seen)))
    return True


def _surveyed(source: Source, terminal: TextIO | None) -> Survey:
    if terminal is None:
        return survey(source, time.time())
    bar = Bar(terminal, source.count())
    try:
        return survey(source, time.time(), bar.show)
    finally:
        bar.clear()


def _lines(seen: Survey) -> Iterator[str]:
    records = counted(seen.records, "record", "records")
    yield f"{records}, {count_of_sessions(seen.live)} live"
    yield f"{seen.could_come} can be carried over, {seen.with_owner} of them with an owner"
    for reason, count in seen.left_behind.items():
        yield f"{count} would stay behind: {printable(reason, LONGEST)}"


def _secrets_in(path: str | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line for line in Path(path).read_text("utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"--secret-file can't be read ({type(error).__name__}); give a file with one secret a"
            " line"
        ) from None
