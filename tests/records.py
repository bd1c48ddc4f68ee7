"""Keys and records for tests that speak to a store directly."""

from __future__ import annotations

import secrets
from typing import Any

from wsgi_sessions.crypto.session_id import SessionID
from wsgi_sessions.record import Record

NOW = 1_700_000_000.0


def a_key() -> str:
    """A store key that nobody else uses."""
    return secrets.token_hex(32)


def a_record(**changed: Any) -> Record:
    """A record that was used at `NOW`, but for what is named."""
    values: dict[str, Any] = {
        "fields": {"a": b"1"},
        "notes": b"notes",
        "used_at": NOW,
        "expires_at": NOW + 1000,
        "owner": "42",
    }
    return Record(**{**values, **changed})


def key_of(session_id: str) -> str:
    """The store key that an ID leads to."""
    return SessionID(session_id).key
