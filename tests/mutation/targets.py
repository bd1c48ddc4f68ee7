"""What is mutated, and which tests have to notice. No test in here needs a browser or a proxy."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "wsgi_sessions"

_PROXIES = ("tests/test_proxies.py", "tests/test_proxied_sessions.py")

TESTS: dict[str, tuple[str, ...]] = {
    "lifecycle": ("tests/test_lifecycle.py", "tests/test_session.py", "tests/test_middleware.py"),
    "cookie": ("tests/test_cookie.py", "tests/test_configuration.py"),
    "signing": ("tests/test_signing.py", "tests/security/test_ids_and_signing.py"),
    "proxies": (*_PROXIES, "tests/test_probe.py::test_proxies_offers_the_probe"),
    "forwarding": ("tests/test_forwarding.py", *_PROXIES),
    "networks": _PROXIES,
}
"""By module: those where a change that no test notices could let in who shouldn't be."""


def source_of(module: str) -> Path:
    """The file of a module, by its name within the package."""
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
