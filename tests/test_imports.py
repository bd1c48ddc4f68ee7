"""What `import wsgi_sessions` loads, and what only those load who use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wsgi_sessions
from wsgi_sessions import proxies

RARE = (
    *("client_side", "device_binding", "registry"),
    *("engine.binding", "engine.carrying", "engine.sealed"),
    *("proxies.advice", "proxies.families", "proxies.resolve", "proxies.settings"),
    *("stores.encrypted", "stores.sql", "stores.url"),
)


def loaded(statement: str) -> list[str]:
    """The rarely used modules that a new process has after this statement."""
    modules = f"[name for name in {RARE} if 'wsgi_sessions.' + name in sys.modules]"
    command = [sys.executable, "-c", f"import sys\n{statement}\nprint(*{modules})"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_an_app_loads_what_it_uses() -> None:
    plain = (
        "import wsgi_sessions\n"
        "wsgi_sessions.SessionMiddleware(print, secret_key='a key of more than 32 bytes for a test')"
    )

    assert loaded(plain) == []
    assert loaded("from wsgi_sessions import DeviceBinding") == ["device_binding"]
    assert loaded(f"{plain}.registry") == ["registry"]
    assert loaded("from wsgi_sessions import TrustedProxies") == ["proxies.settings"]


def test_all_that_is_public_is_there() -> None:
    assert set(wsgi_sessions.__all__) <= set(dir(wsgi_sessions))
    for name in wsgi_sessions.__all__:
        assert getattr(wsgi_sessions, name) is not None
    with pytest.raises(AttributeError, match="'wsgi_sessions' has no attribute 'DeviceBindings'"):
        wsgi_sessions.DeviceBindings  # type: ignore[attr-defined] # noqa: B018 # there is none


def test_all_that_proxies_has_is_there() -> None:
    assert set(proxies.__all__) <= set(dir(proxies))
    for name in proxies.__all__:
        assert getattr(proxies, name) is not None
    with pytest.raises(AttributeError, match="'wsgi_sessions.proxies' has no attribute 'Probe'"):
        proxies.Probe  # type: ignore[attr-defined] # noqa: B018 # there is none
