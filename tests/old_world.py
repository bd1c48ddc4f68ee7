"""Another system's sessions, in this process: a source that tests fill, break and watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wsgi_sessions import StoreError
from wsgi_sessions.carry_over import Found, Source
from wsgi_sessions.carry_over.records import OldRecord, Records
from wsgi_sessions.carry_over.source import CannotKeep, check_common


class _NoRecords(Records):
    def read(self, name: str) -> OldRecord | None:
        raise NotImplementedError

    def delete(self, name: str) -> None:
        raise NotImplementedError

    def names(self) -> Iterator[str]:
        raise NotImplementedError


@dataclass
class OldSession:
    """What is known of a session, as `Found` has it."""

    fields: dict[str, Any]
    owner: str | None = None
    created_at: float | None = None
    used_at: float | None = None
    expires_at: float | None = None
    persistent: bool | None = None


class OldWorld(Source):
    """Old sessions by their IDs; a cookie is good if it says ``good:ID``."""

    def __init__(
        self,
        name: str = "old",
        *,
        cookie: str = "old",
        until: datetime | None = None,
        delete_old: bool = False,
    ) -> None:
        options = check_common(name, cookie=cookie, owner=None, until=until, delete_old=delete_old)
        super().__init__(options, _NoRecords())
        self.name = name
        self.sessions: dict[str, OldSession | str] = {}
        """A str is why that session can't be kept."""
        self.asked = 0
        self.fails = False
        self.before_answer: Callable[[], object] = bool

    def put(self, old_id: str = "1", **known: Any) -> str:
        """Begin a session; gives the cookie's value."""
        known.setdefault("fields", {"cart": ["tea"]})
        self.sessions[old_id] = OldSession(**known)
        return f"good:{old_id}"

    def _verified(self, value: str) -> str | None:
        return value.removeprefix("good:") if value.startswith("good:") else None

    def _find(self, value: str, now: float) -> Found | None:
        self.asked += 1
        if self.fails:
            raise StoreError("the old sessions' store was told to fail", operation="load")
        old_id = self._verified(value)
        session = None if old_id is None else self.sessions.get(old_id)
        self.before_answer()
        if isinstance(session, str):
            raise CannotKeep(session)
        if session is None or (session.expires_at is not None and session.expires_at <= now):
            return None
        return Found(str(old_id).encode(), **vars(session))

    def _look(self, old_id: str, record: OldRecord, now: float) -> Found | None:
        raise NotImplementedError

    def delete(self, old_id: bytes) -> None:
        if self.fails:
            raise StoreError("the old sessions' store was told to fail", operation="delete")
        self.sessions.pop(old_id.decode(), None)
