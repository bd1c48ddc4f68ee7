"""What is mutated, and which tests have to notice. No test in here needs a browser or a proxy."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "wsgi_sessions"

_PROXIES = ("tests/test_proxies.py", "tests/test_proxied_sessions.py")

TESTS: dict[str, tuple[str, ...]] = {
    "engine.decisions": (
        "tests/test_decisions.py",
        "tests/test_session.py",
        "tests/test_middleware.py",
    ),
    "cookie": ("tests/test_cookie.py", "tests/test_configuration.py"),
    "crypto.signing": ("tests/test_signing.py", "tests/security/test_ids_and_signing.py"),
    "proxies.settings": _PROXIES,
    "proxies.client": _PROXIES,
    "proxies.families": _PROXIES,
    "proxies.resolve": _PROXIES,
    "proxies.parsing": ("tests/test_proxy_parsing.py", *_PROXIES),
    "proxies.networks": _PROXIES,
    "proxies.advice": ("tests/test_proxy_advice.py", "tests/test_proxied_sessions.py"),
}
"""By module: those in which a mistake that nobody notices could let in someone who shouldn't be."""


def source_of(module: str) -> Path:
    """The file of a module, by its name within the package."""
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
