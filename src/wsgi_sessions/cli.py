"""The command line: look after a store from a shell. All that it does is the registry's to do.

It never prints a session ID, because no store knows one, and prints values only when asked to.
"""

from __future__ import annotations

import argparse
import importlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

from .data.codec import CorruptField, JSONCodec
from .doctor import Finding, Severity, examine, examine_carry_over
from .errors import ConfigurationError, StoreError
from .events import printable
from .middleware import SessionMiddleware
from .registry import SessionInfo, SessionRegistry
from .stores import Store, store_from_url

DONE, FAILED, USAGE = 0, 1, 2
_PURGE_TICK = 0.2
_LONGEST = 2000
"""Characters of a text for humans."""


def main(argv: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 failed, 2 usage."""
    stream = sys.stdout if out is None else out
    parser = _parser()
    try:
        arguments = parser.parse_args(argv, argparse.Namespace(store=None, json=False, opened=None))
    except SystemExit as error:
        return DONE if not error.code else USAGE
    try:
        status: int = arguments.run(arguments, stream)
    except ConfigurationError as error:
        _complain(str(error))
        return USAGE
    except StoreError as error:
        _complain(f"the store can't answer: {error}")
        return FAILED
    finally:
        if arguments.opened is not None:
            arguments.opened.close()
    return status


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    # Given before or after the command; the later parser must not undo what the first one read.
    common.add_argument(
        "--store",
        metavar="URL",
        default=argparse.SUPPRESS,
        help="file:///path, redis://host:port/0, rediss://…, unix:///path, postgresql://…, mysql://…,"
        " mariadb://… or sqlite:////path.db",
    )
    common.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="machine-readable output",
    )
    parser = argparse.ArgumentParser(
        prog="wsgi-sessions", description="Look after a session store.", parents=[common]
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, TextIO], int], text: str) -> Any:
        added = commands.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(run=run)
        return added

    listing = command("list", _list, "List live sessions.")
    listing.add_argument("--owner", help="only this owner's")
    show = command("show", _show, "Show one session.")
    show.add_argument("handle", metavar="HANDLE")
    show.add_argument("--values", action="store_true", help="print the app's data, too")
    revoke = command("revoke", _revoke, "End one session.")
    revoke.add_argument("handle", metavar="HANDLE")
    everywhere = command("revoke-all", _revoke_all, "End all sessions of an owner.")
    everywhere.add_argument("owner", metavar="OWNER")
    command("purge", _purge, "Remove what has expired.")
    command("stats", _stats, "Count sessions and bytes.")
    command("secret", _secret, "Print a new secret key.")
    command("schema", _schema, "Print the DDL of a SQL database's table.")
    carry_over = command(
        "carry-over", _carry_over, "Look how many sessions of another system could be carried over."
    )
    carry_over.add_argument(
        "--from", dest="source", metavar="SYSTEM+URL", required=True,
        help="such as beaker+file:///data_dir, flask-session+redis://host, django+postgresql://…,"
        " express+redis://host",
    )  # fmt: skip
    carry_over.add_argument(
        "--secret-file", metavar="FILE", help="the old app's secrets, one a line, newest first"
    )
    carry_over.add_argument("--timeout", type=float, metavar="SECONDS", help="Beaker's")
    carry_over.add_argument("--prefix", help="of the keys, where it isn't the usual one")
    carry_over.add_argument("--owner", metavar="FIELD", help="the field that holds the user")
    doctor = command("doctor", _doctor, "Check a store for what goes wrong in practice.")
    doctor.add_argument(
        "--app", metavar="MODULE:NAME",
        help="the SessionMiddleware, or the Flask app: its store is checked, and what it carries"
        " over",
    )  # fmt: skip
    return parser


def _store(arguments: argparse.Namespace) -> Store:
    if arguments.store is None:
        raise ConfigurationError(
            "no store was named; add --store file:///path/to/sessions or --store redis://host"
        )
    if arguments.store.startswith("memory:"):
        raise ConfigurationError(
            "a memory store lives inside its own process, so there is nothing to look at here;"
            " name a file:// or redis:// store"
        )
    store = store_from_url(arguments.store, create=False)
    arguments.opened = store
    return store


def _list(arguments: argparse.Namespace, out: TextIO) -> int:
    registry = SessionRegistry(_store(arguments))
    if arguments.owner is not None:
        sessions = registry.sessions(arguments.owner)
    else:
        found = (registry.get(handle) for handle in registry)
        sessions = sorted(
            (info for info in found if info is not None),
            key=lambda info: info.last_used_at,
            reverse=True,
        )
    if arguments.json:
        _print_json([_plain(info) for info in sessions], out)
        return DONE
    rows = [
        (info.handle, printable(info.owner or "-", 24), _ago(info.last_used_at),
         _ago(info.expires_at), printable(info.label.get("ip", "-"), 40))
        for info in sessions
    ]  # fmt: skip
    _print_table(("HANDLE", "OWNER", "LAST USED", "EXPIRES", "IP"), rows, out)
    return DONE


def _show(arguments: argparse.Namespace, out: TextIO) -> int:
    store = _store(arguments)
    info = SessionRegistry(store).get(arguments.handle)
    record = None if info is None else store.load(info.handle)
    if info is None or record is None:
        return _unknown(arguments.handle)
    shown: dict[str, Any] = _plain(info)
    shown["fields"] = {name: len(raw) for name, raw in record.fields.items()}
    if arguments.values:
        shown["values"] = {name: _value(raw) for name, raw in record.fields.items()}
    if arguments.json:
        _print_json([shown], out)
        return DONE
    for name, value in shown.items():
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value)  # the same, with its types
            print(f"{name}:", file=out)
            unit = " bytes" if name == "fields" else ""
            for key, entry in value.items():
                print(f"  {printable(str(key))}: {printable(str(entry), _LONGEST)}{unit}", file=out)
        else:
            print(f"{name}: {printable(str(value))}", file=out)
    return DONE


def _value(raw: bytes) -> str:
    try:
        return repr(JSONCodec().decode(raw))
    except CorruptField:
        return "(can't be read: sealed, or written by another codec)"


def _revoke(arguments: argparse.Namespace, out: TextIO) -> int:
    if not SessionRegistry(_store(arguments)).revoke(arguments.handle):
        return _unknown(arguments.handle)
    _report({"revoked": 1}, "ended 1 session", arguments, out)
    return DONE


def _revoke_all(arguments: argparse.Namespace, out: TextIO) -> int:
    count = SessionRegistry(_store(arguments)).revoke_all(arguments.owner)
    _report({"revoked": count}, f"ended {_sessions(count)}", arguments, out)
    return DONE


def _purge(arguments: argparse.Namespace, out: TextIO) -> int:
    store = _store(arguments)
    progress = ProgressBar(sys.stderr) if sys.stderr.isatty() and not arguments.json else None
    count = SessionRegistry(store).purge_expired() if progress is None else progress.watch(store)
    _report({"purged": count}, f"removed {_sessions(count)}", arguments, out)
    return DONE


def _stats(arguments: argparse.Namespace, out: TextIO) -> int:
    store, now = _store(arguments), time.time()
    live = expired = owned = size = 0
    for key in store.keys():  # noqa: SIM118 # a store is no mapping
        record = store.load(key)
        if record is None or record.is_owner_list:
            continue
        if record.expires_at <= now:
            expired += 1
            continue
        live += 1
        owned += record.owner is not None
        size += sum(len(name.encode()) + len(raw) for name, raw in record.fields.items())
    stats = {"live": live, "with_owner": owned, "expired": expired, "data_bytes": size}
    text = "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in stats.items())
    _report(stats, text, arguments, out)
    return DONE


def _secret(arguments: argparse.Namespace, out: TextIO) -> int:
    key = secrets.token_urlsafe(48)
    _report({"secret": key}, key, arguments, out)
    return DONE


def _schema(arguments: argparse.Namespace, out: TextIO) -> int:
    if arguments.store is None:
        raise ConfigurationError("no store was named; add --store postgresql://user@host/db")
    try:
        from .stores.sql import schema_for  # noqa: PLC0415 # only this command needs SQLAlchemy
    except ModuleNotFoundError as error:
        raise ConfigurationError(str(error)) from None
    ddl = schema_for(arguments.store)
    if arguments.json:
        _print_json({"schema": ddl}, out)
    else:
        out.write(ddl)
    return DONE


def _doctor(arguments: argparse.Namespace, out: TextIO) -> int:
    if arguments.app is None:
        findings = examine(_store(arguments))
    else:
        middleware = _middleware(arguments.app)
        findings = examine(middleware.store)
        findings += examine_carry_over(middleware.carry_over, time.time())
    if arguments.json:
        _print_json([_finding(finding) for finding in findings], out)
    else:
        for finding in findings:
            print(f"{finding.severity.value:<7} {printable(finding.text, _LONGEST)}", file=out)
    return FAILED if any(found.severity is Severity.ERROR for found in findings) else DONE


def _middleware(text: str) -> SessionMiddleware:
    """What ``MODULE:NAME`` names; the module is looked for here first, as servers do.

    Raises:
        ConfigurationError: it names no SessionMiddleware.
    """
    module, _, name = text.partition(":")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"--app names {text!r}, which can't be found ({error}); write the module and the name"
            " in it, such as shop:application"
        ) from None
    finally:
        sys.path.remove("")
    found = getattr(found, "extensions", {}).get("wsgi_sessions", found)
    if not isinstance(found, SessionMiddleware):
        raise ConfigurationError(
            f"--app names a {type(found).__name__}; name the SessionMiddleware, or the Flask app"
        )
    return found


def _carry_over(arguments: argparse.Namespace, out: TextIO) -> int:
    from .carry_over.survey import source_from_text, survey  # noqa: PLC0415 # few need it

    source = source_from_text(
        arguments.source,
        secrets=_secrets_in(arguments.secret_file),
        timeout=arguments.timeout,
        prefix=arguments.prefix,
        owner=arguments.owner,
    )
    tick = None
    if sys.stderr.isatty() and not arguments.json:
        tick = Bar(sys.stderr, source.count()).show
    seen = survey(source, time.time(), tick)
    if tick is not None:
        sys.stderr.write("\r\x1b[K")
    facts = asdict(seen) | {
        "left_behind": [
            {"reason": reason, "sessions": count} for reason, count in seen.left_behind.items()
        ]
    }
    lines = [
        f"{seen.records} records, {_sessions(seen.live)} live",
        f"{seen.could_come} could come along, {seen.with_owner} of them with an owner",
        *(
            f"{count} would stay behind: {printable(reason, _LONGEST)}"
            for reason, count in seen.left_behind.items()
        ),
    ]
    _report(facts, "\n".join(lines), arguments, out)
    return DONE


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


def _finding(finding: Finding) -> dict[str, str]:
    return {"severity": finding.severity.value, "check": finding.check, "text": finding.text}


def _unknown(handle: str) -> int:
    _complain(f"there is no live session {printable(handle, 80)!r}; `list` shows the handles")
    return FAILED


def _complain(text: str) -> None:
    # Errors quote what a server answered or what a file is called.
    sys.stderr.write(f"wsgi-sessions: {printable(text, _LONGEST)}\n")


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"


def _plain(info: SessionInfo) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(info).items()
    }


def _report(facts: dict[str, Any], text: str, arguments: argparse.Namespace, out: TextIO) -> None:
    if arguments.json:
        _print_json(facts, out)
    else:
        print(text, file=out)


def _print_json(value: object, out: TextIO) -> None:
    json.dump(value, out, ensure_ascii=True)
    out.write("\n")


def _print_table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], out: TextIO) -> None:
    table = [heads, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip(), file=out)


def _ago(at: datetime) -> str:
    seconds = (at - datetime.now(UTC)).total_seconds()
    number, unit = abs(seconds), "s"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if number >= size:
            number, unit = number / size, name
            break
    return f"in {number:.0f} {unit}" if seconds > 0 else f"{number:.0f} {unit} ago"


class Bar:
    """How much of something is done, on a terminal, drawn a few times a second."""

    _WIDTH = 30

    def __init__(self, terminal: TextIO, total: int) -> None:
        self._terminal = terminal
        self._total = max(1, total)
        self._shown_at = -_PURGE_TICK

    def show(self, done: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if now - self._shown_at < _PURGE_TICK:
            return
        self._shown_at = now
        filled = self._WIDTH * min(done, self._total) // self._total
        bar = "#" * filled + "." * (self._WIDTH - filled)
        self._terminal.write(f"\r[{bar}] {done} of {self._total}")
        self._terminal.flush()


class ProgressBar:
    """What a terminal shows of a purge: purging looks at every key, so keys are what it counts."""

    _WIDTH = 30

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._shown_at = 0.0

    def watch(self, store: Store) -> int:
        """Purge, with a bar that follows how many of the expired records are gone."""
        import threading  # noqa: PLC0415 # only for a terminal

        now = time.time()
        before = sum(1 for _ in store.keys())  # noqa: SIM118 # a store is no mapping
        done = threading.Event()
        watcher = threading.Thread(target=self._follow, args=(store, before, done), daemon=True)
        watcher.start()
        try:
            return store.purge_expired(now)
        finally:
            done.set()
            watcher.join()
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()

    def _follow(self, store: Store, before: int, done: Any) -> None:
        while not done.wait(_PURGE_TICK):
            try:
                left = sum(1 for _ in store.keys())  # noqa: SIM118 # a store is no mapping
            except StoreError:
                return
            gone = max(0, before - left)
            filled = self._WIDTH * gone // max(1, before)
            bar = "#" * filled + "." * (self._WIDTH - filled)
            self._terminal.write(f"\r[{bar}] {gone} removed, {left} left")
            self._terminal.flush()
