"""Programs that a machine may lack: the tests of them skip, except where they have to be there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(kind: str, why: str) -> NoReturn:
    """Skip the test; fail it where ``WSGI_SESSIONS_REQUIRE`` names this kind, as CI does.

    Args:
        kind: ``"redis"``, ``"databases"``, ``"servers"``, ``"proxies"``, ``"browser"``,
            ``"java"`` or ``"sdists"``.
        why: what isn't there, and how it gets there.
    """
    if kind in os.environ.get("WSGI_SESSIONS_REQUIRE", "").split(","):
        pytest.fail(f"WSGI_SESSIONS_REQUIRE names {kind}, but {why}")
    pytest.skip(why)
