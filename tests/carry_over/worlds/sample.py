"""What the old apps put into a session. Read by the old worlds, too, so it imports nothing of ours."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

PLAIN: dict[str, Any] = {
    "user_id": 42,
    "cart": ["tea", {"milk": 2, "note": "süß 🍵"}],
    "ratio": 0.5,
    "nothing": None,
    "admin": False,
}
"""What JSON keeps."""

RICH: dict[str, Any] = {
    **PLAIN,
    "price": Decimal("12.50"),
    "seen": datetime(2026, 11, 26, 12, 30, 15, 250, tzinfo=UTC),
    "local": datetime(2026, 11, 26, 12, 30),
    "birthday": date(2000, 2, 29),
    "span": timedelta(days=-1, seconds=5, microseconds=7),
    "key": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "raw": b"\x00\xff",
    "pair": (1, "two", (3,)),
    "tags": {"a", "b"},
    "frozen": frozenset({1, 2}),
    "big": 2**100,
}
"""What a pickle keeps."""

TAGGED: dict[str, Any] = {
    "user_id": 42,
    "seen": datetime(2026, 11, 26, 12, 30, 15, tzinfo=UTC),
    "key": RICH["key"],
    "raw": b"\x00\xff",
    "pair": (1, "two", (3, [b"x"])),
    "odd": {" t": [1]},
    "long": "again " * 100,
}
"""What Flask's own cookie keeps."""
