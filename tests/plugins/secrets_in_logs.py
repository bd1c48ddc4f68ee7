"""Watches every test: no session ID, token or secret key that was used in it gets into any log.

Everything that is logged, at every level, tracebacks included, is kept for the length of a test
and then searched. What is secret is noted where it is made: when a token is signed or sealed, and
when a middleware is given its keys.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsgi_sessions.middleware
from wsgi_sessions.record import is_key
from wsgi_sessions.signing import TokenSigner, check_secrets
from wsgi_sessions.stores.client import ClientSeal

_WORD = re.compile(r"[A-Za-z0-9_-]{16,}")
_MUCH = 20_000_000
"""Characters to be compared, from which on whole words only are looked up."""


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
        text = "\n".join(self.lines)
        if len(text) * len(self.secrets) < _MUCH:
            return {secret for secret in self.secrets if secret in text}
        return self.secrets.intersection(_WORD.findall(text))

    def note(self, *secrets: str) -> None:
        self.secrets.update(secrets)


def noting(watch: Watch, make: Callable[..., str]) -> Callable[..., str]:
    """``make`` as it is, with each token and ID that it makes noted."""

    def made(self: Any, session_id: str, *args: Any) -> str:
        token = make(self, session_id, *args)
        watch.note(token, token.rpartition(".")[2])
        if not is_key(session_id):  # a handle may be logged; a test may sign one
            watch.note(session_id)
        return token

    return made


@pytest.fixture(scope="session")
def _watch() -> Iterator[Watch]:
    watch = Watch()
    patch = pytest.MonkeyPatch()
    patch.setattr(TokenSigner, "sign", noting(watch, TokenSigner.sign))
    patch.setattr(ClientSeal, "seal", noting(watch, ClientSeal.seal))

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
