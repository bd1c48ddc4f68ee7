"""Watches every test: no session ID, token, secret key or value that was used gets into any log.

Everything that is logged, at every level, tracebacks included, is kept for the length of a test
and then searched. What is secret is noted where it is made: when a token is signed or sealed, when
a middleware is given its keys, and when a value is encoded to be stored.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import wsgi_sessions.middleware
from wsgi_sessions.client_side import ClientSeal
from wsgi_sessions.crypto.signing import TokenSigner, check_secrets
from wsgi_sessions.data.codec import JSONCodec
from wsgi_sessions.record import is_key

_GRAM = 8
"""Characters: a value that is shorter could stand in a log by chance."""
_CUT = 40
"""Characters: as much of a value as is looked for, so that a leak that is cut short is seen."""
_DISTINCT = 4
"""How many different characters tell a value from a filler such as ``"xxxxxxxx"``."""
_MUCH = 1_000_000
"""Characters to be compared, from which on the text is indexed first."""


class Watch(logging.Handler):
    """Keeps what was logged and what was secret, during one test."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []
        self.secrets: set[str] = set()
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def begin(self) -> None:
        self.lines.clear()
        self.secrets.clear()

    def leaked(self) -> set[str]:
        """The secrets of this test that its log shows."""
        if not self.lines:
            return set()
        text = "\n".join(self.lines)
        if len(text) * len(self.secrets) < _MUCH:
            return {secret for secret in self.secrets if secret in text}
        grams = {text[at : at + _GRAM] for at in range(len(text))}
        return {secret for secret in self.secrets if secret[:_GRAM] in grams and secret in text}

    def note(self, *secrets: str) -> None:
        self.secrets.update(secret for secret in secrets if len(secret) >= _GRAM)

    def note_value(self, value: object) -> None:
        """Note what a session holds: all text and bytes in it, as they are and as they are shown."""
        for found in leaves(value):
            if isinstance(found, bytes):
                spellings = [found.decode("latin-1"), repr(found)[2:-1]]
                spellings.append(base64.b64encode(found).decode())
            else:
                spellings = [found, repr(found)[1:-1], ascii(found)[1:-1]]
            for spelling in spellings:
                if len(spelling) >= _GRAM and len(set(spelling[:_CUT])) >= _DISTINCT:
                    self.secrets.add(spelling[:_CUT])


def leaves(value: object) -> Iterator[str | bytes]:
    """All text and bytes in a value, the names in it not among them."""
    seen: set[int] = set()
    left = [value]
    while left:
        present = left.pop()
        if isinstance(present, (str, bytes)):
            yield present
        elif isinstance(present, (list, tuple, set, frozenset, dict)) and id(present) not in seen:
            seen.add(id(present))  # a value may stand within itself
            inner: Iterable[object] = present.values() if isinstance(present, dict) else present
            left.extend(inner)


def noting(watch: Watch, make: Callable[..., str]) -> Callable[..., str]:
    """``make`` as it is, with each token and ID that it makes noted."""

    def made(self: Any, session_id: str, *args: Any) -> str:
        token = make(self, session_id, *args)
        watch.note(token, token.rpartition(".")[2])
        if not is_key(session_id):  # a handle may be logged; a test may sign one
            watch.note(session_id)
        return token

    return made


def noting_values(watch: Watch, encode: Callable[..., bytes]) -> Callable[..., bytes]:
    """``encode`` as it is, with each value noted, whether it can be encoded or not."""

    def encoded(self: Any, value: Any) -> bytes:
        watch.note_value(value)
        return encode(self, value)

    return encoded


@pytest.fixture(scope="session")
def _watch() -> Iterator[Watch]:
    watch = Watch()
    patch = pytest.MonkeyPatch()
    patch.setattr(TokenSigner, "sign", noting(watch, TokenSigner.sign))
    patch.setattr(ClientSeal, "seal", noting(watch, ClientSeal.seal))
    patch.setattr(JSONCodec, "encode", noting_values(watch, JSONCodec.encode))

    def checked(secret_key: object, option: str = "secret_key") -> tuple[bytes, ...]:
        secrets = check_secrets(secret_key, option)
        watch.note(*(secret.decode("latin-1") for secret in secrets))
        return secrets

    patch.setattr(wsgi_sessions.middleware, "check_secrets", checked)
    logging.getLogger().addHandler(watch)
    yield watch
    logging.getLogger().removeHandler(watch)
    patch.undo()


@pytest.fixture(autouse=True)
def secrets_stay_out_of_the_log(_watch: Watch) -> Iterator[None]:
    """Fails a test during which a secret was logged."""
    logger = logging.getLogger("wsgi_sessions")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    _watch.begin()
    yield
    logger.setLevel(level)
    assert _watch.leaked() == set(), "a secret was logged"
