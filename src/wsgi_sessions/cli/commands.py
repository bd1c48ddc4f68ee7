"""What each command does. What has to do with sessions is left to the registry."""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from ..data.codec import CorruptField, JSONCodec
from ..engine.owners import Limits, OwnerLists
from ..errors import ConfigurationError, StoreError
from ..events import printable
from ..record import Record, list_key
from ..registry import SessionInfo, SessionRegistry
from ..stores import Store
from ..stores.file.existing import UnusableDirectory
from ..stores.url import needs_schema
from ..stores.wrapper import StoreWrapper
from .apps import middleware_of
from .doctor import Finding, Severity, examine, examine_carry_over
from .handles import find_key
from .opening import OpenedStore, open_store, opened, store_url
from .printing import LONGEST, Printer, count_of_sessions, plain, relative, size, table
from .progress import shown


def list_sessions(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``list``: live sessions, most recently used first."""
    place = opened(arguments)
    infos = _all(place) if arguments.owner is None else _of_owner(place, arguments.owner)
    infos.sort(key=lambda info: info.last_used_at, reverse=True)
    now = datetime.now(UTC)
    rows = [
        (info.handle, printable(info.owner or "-", 24), relative(info.last_used_at, now),
         relative(info.expires_at, now), printable(info.label.get("ip", "-"), 40))
        for info in infos
    ]  # fmt: skip
    heads = ("HANDLE", "OWNER", "LAST USED", "EXPIRES", "IP")
    printer.print([plain(info) for info in infos], table(heads, rows))
    return True


def _all(place: OpenedStore) -> list[SessionInfo]:
    registry = SessionRegistry(place.store)
    found: list[SessionInfo] = []
    for key in place.raw.keys():  # noqa: SIM118 # a store is not a mapping
        info = registry.get(key)
        if info is not None:
            found.append(info)
        else:
            place.must_be_readable(key)
    return found


def _of_owner(place: OpenedStore, owner: str) -> list[SessionInfo]:
    # Not the registry's own way to list an owner's sessions, which heals the list as it reads it.
    place.must_be_readable(list_key(owner))
    lists = OwnerLists(place.store, Limits(), time.time)
    present = lists.read(owner)
    if present is None:
        return []
    registry = SessionRegistry(place.store)
    live = lists.examine(owner, present, time.time()).live
    return [info for info in map(registry.get, (each.key for each in live)) if info is not None]


def show(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``show``: one session, its values only where they are asked for."""
    place = opened(arguments)
    key = find_key(place.raw, arguments.handle)
    place.must_be_readable(key)
    info, record = SessionRegistry(place.store).get(key), place.store.load(key)
    if info is None or record is None:
        raise StoreError("the record can't be read: it is damaged", operation="load")
    facts: dict[str, Any] = plain(info)
    try:
        fields = {name: record.fields[name] for name in record.fields}
    except CorruptField:
        raise StoreError("a field can't be read: it is damaged", operation="load") from None
    facts["fields"] = {name: len(raw) for name, raw in fields.items()}
    texts = dict(facts)
    if arguments.values:
        facts["values"] = {name: _stored(raw) for name, raw in fields.items()}
        texts["values"] = {name: _value(raw) for name, raw in fields.items()}
    printer.print([facts], "\n".join(_lines(texts)))
    return True


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield f"{name}:"
            for key, entry in cast("dict[str, Any]", value).items():
                text = size(entry) if name == "fields" else str(entry)
                yield f"  {printable(key)}: {printable(text, LONGEST)}"
        else:
            yield f"{name}: {printable(str(value))}"


def _stored(raw: bytes) -> Any:
    """A value as it is stored, for scripts; None if that isn't JSON."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _value(raw: bytes) -> str:
    try:
        return repr(JSONCodec().decode(raw))
    except CorruptField:
        return "(can't be read: it was written by another codec)"


def revoke(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``revoke``: end one session. Needs no encryption key."""
    place = opened(arguments)
    key = find_key(place.raw, arguments.handle)
    count = int(SessionRegistry(place.store).revoke(key))
    printer.print({"revoked": count}, f"ended {count_of_sessions(count)}")
    return True


def revoke_all(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``revoke-all``: end all sessions of an owner."""
    place = opened(arguments)
    place.must_be_readable(list_key(arguments.owner))
    count = SessionRegistry(place.store).revoke_all(arguments.owner)
    printer.print({"revoked": count}, f"ended {count_of_sessions(count)}")
    return True


def purge(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``purge``: remove what has expired. Needs no encryption key."""
    place = opened(arguments)
    count = purge_store(place, printer.terminal())
    printer.print({"purged": count}, f"removed {count_of_sessions(count)}")
    return True


def purge_store(place: OpenedStore, terminal: TextIO | None) -> int:
    """Remove what has expired, and what crashes left in owners' lists.

    The keys are listed once, and each record is read once, with a bar on the terminal.

    Returns:
        how many sessions went.
    """
    now = time.time()
    lists: list[str] = []
    expired_lists = 0
    for key in shown(list(place.raw.keys()), terminal):  # a store is not a mapping
        record = place.raw.load(key)
        if record is None or not record.is_owner_list:
            continue
        expired_lists += record.expires_at <= now
        lists.append(key)
    went = SessionRegistry(_OwnerLists(place.store, lists)).purge_expired()
    return max(0, went - expired_lists)


class _OwnerLists(StoreWrapper):
    """A store that lists only the keys of owners' lists: the registry heals what it finds."""

    def __init__(self, store: Store, keys: list[str]) -> None:
        super().__init__(store)
        self._keys = keys

    def keys(self) -> Iterator[str]:
        return iter(self._keys)


def stats(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``stats``: how many sessions, and how large. Needs no encryption key."""
    place, now = opened(arguments), time.time()
    live = expired = owned = size = 0
    for key in place.raw.keys():  # noqa: SIM118 # a store is not a mapping
        record = place.raw.load(key)
        if record is None or record.is_owner_list:
            continue
        if record.expires_at <= now:
            expired += 1
            continue
        live += 1
        owned += record.owner is not None
        size += _data_bytes(record)
    facts = {"live": live, "with_owner": owned, "expired": expired, "data_bytes": size}
    printer.print(facts, "\n".join(f"{name.replace('_', ' ')}: {facts[name]}" for name in facts))
    return True


def _data_bytes(record: Record) -> int:
    return sum(len(name.encode("utf-8", "surrogatepass")) + len(record.fields[name])
               for name in record.fields)  # fmt: skip


def secret(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``secret``: a new secret key."""
    key = new_secret()
    printer.print({"secret": key}, key)
    return True


def _random_key() -> str:
    return secrets.token_urlsafe(48)


def new_secret(draw: Callable[[], str] = _random_key) -> str:
    """A secret key that can't be mistaken for an option: it never begins with a hyphen."""
    while (key := draw()).startswith("-"):
        pass
    return key


def schema(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``schema``: the DDL of a SQL database's table. Connects to nothing."""
    url = store_url(arguments)
    if not needs_schema(url):
        raise ConfigurationError(
            "this store needs no schema: only a SQL database has a table to create"
        )
    try:
        from ..stores.sql import schema_for  # noqa: PLC0415 # only this command needs SQLAlchemy
    except ModuleNotFoundError as error:
        raise ConfigurationError(str(error)) from None
    ddl = schema_for(url)
    printer.print({"schema": ddl}, ddl.rstrip("\n"))
    return True


def doctor(arguments: argparse.Namespace, printer: Printer) -> bool:
    """``doctor``: what is wrong with a store, and what to do about it."""
    app = None if arguments.app is None else middleware_of(arguments.app)
    try:
        findings = examine(open_store(arguments) if app is None else app.store)
    except (StoreError, UnusableDirectory) as error:
        findings = [Finding("reachable", Severity.ERROR, str(error))]
    if app is not None:
        findings += examine_carry_over(app.carry_over, time.time())
    printer.print(
        [
            {"severity": found.severity.value, "check": found.check, "text": found.text}
            for found in findings
        ],
        "\n".join(
            f"{found.severity.value:<7} {printable(found.text, LONGEST)}" for found in findings
        ),
    )
    return all(found.severity is not Severity.ERROR for found in findings)
