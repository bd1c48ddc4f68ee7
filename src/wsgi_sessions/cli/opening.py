"""The store that a command is about. Nothing is created by looking for it."""

from __future__ import annotations

import argparse
import base64
import binascii
import re
from pathlib import Path

from ..errors import ConfigurationError
from ..stores import Store, store_from_url
from ..stores.encrypted import KEY_BYTES, EncryptedStore, check_keys, is_sealed
from .printing import Failure

_HEX = re.compile(r"[0-9a-fA-F]{64}")


class OpenedStore:
    """A store as it is kept, and as the app sees it.

    Args:
        raw: records as they are kept; encrypted ones can be counted, ended and purged here.
        keys: what the app's records are encrypted under, newest first; empty: nothing is known.
    """

    def __init__(self, raw: Store, keys: tuple[bytes, ...]) -> None:
        self.raw = raw
        # What is not encrypted yet is read as well, because the app may be about to migrate.
        self._encrypted = EncryptedStore(raw, keys, migrate=True) if keys else None
        self.store: Store = self._encrypted or raw
        """Records as the app sees them."""

    def _is_locked(self, key: str) -> bool:
        """Whether the record of this key is there, but encrypted under a key that isn't."""
        record = self.raw.load(key)
        if record is None or not is_sealed(record):
            return False
        return self._encrypted is None or self._encrypted.opened(key, record) is None

    def must_be_readable(self, key: str) -> None:
        """Make sure that the record of this key, if there is one, can be read.

        Raises:
            ConfigurationError: it is encrypted, and no key was given.
            Failure: it is encrypted under another key.
        """
        if not self._is_locked(key):
            return
        if self._encrypted is not None:
            raise Failure(
                "a record is encrypted under a key that isn't in the file of --encryption-key-file;"
                " add the app's older keys to it, one a line"
            )
        raise ConfigurationError(
            "this store is encrypted, and this can't be done without the key; add"
            " --encryption-key-file FILE, with the app's encryption_keys in it, one a line, as hex"
            " or base64"
        )


def opened(arguments: argparse.Namespace) -> OpenedStore:
    """The store that the command line names.

    Raises:
        ConfigurationError: it doesn't name one, or one that can't be used.
        StoreError: it isn't there.
    """
    keys = read_keys(arguments.encryption_key_file) if arguments.encryption_key_file else ()
    return OpenedStore(open_store(arguments), keys)


def open_store(arguments: argparse.Namespace) -> Store:
    """The store of the command line, if it is there: none is made. `main` closes it.

    Raises:
        ConfigurationError: it doesn't name a store that can be looked at.
        StoreError: there is none.
    """
    url = store_url(arguments)
    if url.lower().startswith("memory:"):
        raise ConfigurationError(
            "a memory store lives inside its own process, so there is nothing to look at here;"
            " name one that is elsewhere, such as file:///path/to/sessions or redis://host"
        )
    arguments.opened = store_from_url(url, create=False)
    store: Store = arguments.opened
    return store


def store_url(arguments: argparse.Namespace) -> str:
    """The URL of the command line.

    Raises:
        ConfigurationError: there is none.
    """
    url: str | None = arguments.store
    if not url:
        raise ConfigurationError(
            "no store was named; add --store with file:///path/to/sessions, redis://host or"
            " postgresql://user@host/db, or set WSGI_SESSIONS_STORE"
        )
    return url


def read_keys(path: str) -> tuple[bytes, ...]:
    """The encryption keys that a file holds, newest first. No message quotes one.

    Raises:
        ConfigurationError: the file can't be read, or holds something else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--encryption-key-file can't be read: {error.strerror}") from None
    if len(content) == KEY_BYTES:
        return check_keys([content])
    lines = [line for line in content.decode("latin-1").split("\n") if line.strip()]
    keys = [_key(line.strip(), number) for number, line in enumerate(lines, 1)]
    if not keys:
        raise ConfigurationError("--encryption-key-file is empty; write one key a line into it")
    return check_keys(keys)


def _key(line: str, number: int) -> bytes:
    if _HEX.fullmatch(line):
        return bytes.fromhex(line)
    try:
        text = line.rstrip("=").translate(str.maketrans("-_", "+/"))
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) == KEY_BYTES:
        return key
    raise ConfigurationError(
        f"--encryption-key-file: line {number} is not a key of {KEY_BYTES} bytes; write each as 64"
        " hexadecimal digits or as base64"
    )
