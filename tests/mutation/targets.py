"""What is mutated, and which tests have to notice. No test in here needs a browser or a proxy."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "wsgi_sessions"

_SESSION = (
    "tests/test_session.py",
    "tests/test_session_members.py",
    "tests/test_middleware.py",
    "tests/test_rotation.py",
    "tests/test_token_header.py",
    "tests/test_client_side.py",
    "tests/security/test_life_cycle.py",
    "tests/security/test_users_and_settings.py",
)
_PROXIES = ("tests/test_proxies.py", "tests/test_proxied_sessions.py")

_REDIS = tuple(
    f"tests/stores/test_redis.py::{tests}"
    for tests in (
        "TestFromURL",  # one of the runs of the contract will do
        "TestExpiry",
        "TestWhatIsNotOurs",
        "TestRoundTrips",
        "TestBytes",
        "TestLostAnswers",
        "TestMovingBetweenServers",
        "TestRefusals",
        "TestBadDays",
        "TestWaitingForReplicas",
        "TestSettings",
    )
)

TESTS: dict[str, tuple[str, ...]] = {
    "lifecycle": ("tests/test_lifecycle.py", "tests/test_session.py", "tests/test_middleware.py"),
    "session": _SESSION,
    "cookie": ("tests/test_cookie.py", "tests/test_configuration.py"),
    "signing": ("tests/test_signing.py", "tests/security/test_ids_and_signing.py"),
    "proxies.settings": _PROXIES,
    "proxies.client": _PROXIES,
    "proxies.families": _PROXIES,
    "proxies.resolve": _PROXIES,
    "proxies.parsing": ("tests/test_proxy_parsing.py", *_PROXIES),
    "proxies.networks": _PROXIES,
    "proxies.advice": ("tests/test_proxy_advice.py", "tests/test_proxied_sessions.py"),
    "stores.base": (
        "tests/stores/test_memory.py",
        "tests/stores/test_url.py",
        "tests/stores/test_contract_catches.py",
    ),
    "stores.memory": ("tests/stores/test_memory.py",),
    "stores.packing": ("tests/stores/test_packing.py", "tests/stores/test_file.py"),
    "stores.wrapper": ("tests/test_faulty_store.py",),
    "stores.encrypted": ("tests/stores/test_encrypted.py",),
    "stores.file.store": ("tests/stores/test_file.py", "tests/stores/test_file_cleaning.py"),
    "stores.file.formats": ("tests/stores/test_file.py",),
    "stores.file.directory": ("tests/stores/test_directory.py", "tests/stores/test_file.py"),
    "stores.file.root": ("tests/stores/test_file_root.py", "tests/stores/test_file.py"),
    "stores.file.cleaning": ("tests/stores/test_file_cleaning.py",),
    "stores.redis": ("tests/stores/test_redis_alone.py", *_REDIS),
    "stores.wire": ("tests/stores/test_wire.py", *_REDIS),
    "stores.client": ("tests/test_client_side.py",),
    "stores.url": ("tests/stores/test_url.py",),
}
"""By module. ``stores.lua`` is missing: it is the text of scripts in another language."""


def source_of(module: str) -> Path:
    """The file of a module, by its name within the package."""
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
