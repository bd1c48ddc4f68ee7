"""Looking at an old store before a move: how much can be carried over, and what can't, and why.

For the command line. Nothing here or below writes anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from .beaker import Beaker
from .django import Django
from .express import Express
from .flask_session import FlaskSession
from .source import Found, LeftBehind, Source

_UNUSED = "cookies are not looked at"
"""In place of a secret that only cookies need."""
_ALLOWED = (
    "write beaker+file:///data_dir, beaker+redis://host, flask-session+redis://host,"
    " flask-session+file:///directory, django+postgresql://user@host/db, django+redis://host,"
    " django+file:///directory, express+redis://host or express+postgresql://user@host/db"
)


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in an old store."""

    records: int
    """All of them, including those that have ended."""
    live: int
    could_come: int
    with_owner: int
    """Of those that can be carried over."""
    left_behind: Mapping[str, int]
    """How many live sessions can't be carried over, by reason, the most frequent first."""


def survey(source: Source, now: float, tick: Callable[[int], None] | None = None) -> Survey:
    """Look at every record.

    Args:
        source: from where.
        now: UNIX seconds.
        tick: called with how many records were looked at so far, after each.

    Raises:
        StoreError: the old store can't answer.
        UnsupportedByStore: the browsers hold the sessions.
    """
    records = could_come = with_owner = 0
    reasons: Counter[str] = Counter()
    for result in source.survey(now):
        records += 1
        if isinstance(result, Found):
            could_come += 1
            with_owner += result.owner is not None
        elif isinstance(result, LeftBehind):
            reasons[result.reason] += 1
        if tick is not None:
            tick(records)
    live = could_come + reasons.total()
    return Survey(records, live, could_come, with_owner, dict(reasons.most_common()))


def source_from_text(
    text: str,
    *,
    secrets: Sequence[str] = (),
    timeout: float | None = None,
    prefix: str | None = None,
    owner: str | None = None,
) -> Source:
    """The source that ``SYSTEM+URL`` names, such as ``beaker+redis://localhost/0``.

    Args:
        text: the system, a plus sign and the store's URL.
        secrets: the old app's, newest first; only Django's records need them.
        timeout: Beaker's, in seconds.
        prefix: of the keys, where it isn't the usual one.
        owner: the field that holds the user, where it isn't the usual one.

    Raises:
        ConfigurationError: it doesn't name one, or an option is missing or not the system's.
    """
    system, _, url = text.partition("+")
    given: dict[str, Any] = {"timeout": timeout, "prefix": prefix, "owner": owner}
    options = {name: value for name, value in given.items() if value is not None}
    secret = list(secrets) or _UNUSED
    match system:
        case "beaker":
            return Beaker(url, **options)
        case "flask-session":
            return FlaskSession(url, **options)
        case "express":
            return Express(url, secret, **options)
        case "django":
            engine = _engine(url)
            if engine != "cache" and not secrets:
                raise ConfigurationError(
                    "Django signs the records in its database and in its files: add --secret-file"
                    " with the SECRET_KEY in it"
                )
            return Django(url, secret, engine, **options)
        case _:
            raise ConfigurationError(
                f"--from doesn't name a system that can be looked at; {_ALLOWED}"
            )


def _engine(url: str) -> str:
    if url.startswith("file:"):
        return "file"
    return "cache" if url.startswith(("redis:", "rediss:", "unix:")) else "db"
