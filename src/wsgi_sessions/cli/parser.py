"""What can be typed, and how mistakes are reported. What a command does is up to `commands`."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from .. import __version__
from ..errors import ConfigurationError, StoreError
from ..events import printable
from . import carry_over, commands
from .printing import LONGEST, Failure, Printer, emit

DONE, FAILED, USAGE = 0, 1, 2
STORE_VARIABLE = "WSGI_SESSIONS_STORE"
"""The environment variable that stands for ``--store``."""

Command = Callable[[argparse.Namespace, Printer], bool]
"""Returns whether all is well: `doctor` may find an error without failing itself."""


def main(argv: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 failed, 2 usage."""
    given = argparse.Namespace(
        store=os.environ.get(STORE_VARIABLE), json=False, encryption_key_file=None, opened=None
    )
    _escape_the_unknown(sys.stdout)
    try:
        return _run(argv, given, sys.stdout if out is None else out)
    except ConfigurationError as error:
        _complain(str(error))
        return USAGE
    except StoreError as error:
        _complain(f"the store can't answer: {error}")
        return FAILED
    except Failure as error:
        _complain(str(error))
        return FAILED
    except BrokenPipeError:
        return FAILED
    finally:
        if given.opened is not None:
            given.opened.close()


def _escape_the_unknown(out: TextIO | None) -> None:
    """Have it print escapes of what its encoding lacks, which may be an owner's name."""
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")


def _run(argv: Sequence[str] | None, given: argparse.Namespace, out: TextIO | None) -> int:
    try:
        _parser().parse_args(argv, given)
    except SystemExit as error:
        if error.code:
            return USAGE
        emit(out, "")  # what argparse wrote for --help
        return DONE
    well = given.run(given, Printer(out, given.json))
    return DONE if well else FAILED


def _complain(text: str) -> None:
    # Without a stderr, nobody is told; the exit status still says it.
    with contextlib.suppress(AttributeError, OSError):
        # Errors quote what a server answered or what a file is called.
        sys.stderr.write(f"wsgi-sessions: {printable(text, LONGEST)}\n")


def _owner(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("an owner is text in UTF-8") from None
    return text


def _parser() -> argparse.ArgumentParser:
    common = _common_options()
    parser = argparse.ArgumentParser(
        prog="wsgi-sessions",
        description="Look after a session store.",
        epilog="HANDLE may be shortened to any beginning of 8 digits or more that is unambiguous."
        " Exit status: 0 done, 1 failed, 2 wrong usage.",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"wsgi-sessions {__version__}")
    added = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = added.add_parser(
            name, help=text, description=text, parents=[common]
        )
        one.set_defaults(run=run)
        return one

    listing = command(
        "list", commands.list_sessions, "List live sessions, most recently used first."
    )
    listing.add_argument("--owner", type=_owner, help="only this owner's")
    show = command("show", commands.show, "Show one session.")
    show.add_argument("handle", metavar="HANDLE")
    show.add_argument("--values", action="store_true", help="print the app's data as well")
    revoke = command("revoke", commands.revoke, "End one session.")
    revoke.add_argument("handle", metavar="HANDLE")
    everywhere = command("revoke-all", commands.revoke_all, "End all sessions of an owner.")
    everywhere.add_argument("owner", type=_owner, metavar="OWNER")
    command("purge", commands.purge, "Remove what has expired.")
    command("stats", commands.stats, "Count sessions and bytes.")
    command("secret", commands.secret, "Print a new secret key.")
    command("schema", commands.schema, "Print the DDL of a SQL database's table.")
    survey = command(
        "carry-over",
        carry_over.carry_over,
        "Count the sessions of another system that could be carried over.",
    )
    carry_over.add_options(survey)
    doctor = command("doctor", commands.doctor, "Check a store for what goes wrong in practice.")
    doctor.add_argument(
        "--app", metavar="MODULE:NAME",
        help="the SessionMiddleware, or the Flask app: its store is checked, and what it carries"
        " over",
    )  # fmt: skip
    return parser


def _common_options() -> argparse.ArgumentParser:
    """Options that may come before or after the command."""
    common = argparse.ArgumentParser(add_help=False)
    # With a default, the parser of the command would undo what the one before it has read.
    common.add_argument(
        "--store",
        metavar="URL",
        default=argparse.SUPPRESS,
        help="file:///path, redis://host:port/0, rediss://…, unix:///path, postgresql://…,"
        " mysql://…, mariadb://… or sqlite:////path.db; with ?prefix=… or ?table=… where the app"
        " has its own;"
        f" by default the value of the environment variable {STORE_VARIABLE}",
    )
    common.add_argument(
        "--encryption-key-file",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="the app's encryption_keys: one a line, newest first, as hex or base64; or the 32"
        " bytes of one key",
    )
    common.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="machine-readable output",
    )
    return common
