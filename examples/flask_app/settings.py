"""How the shop is set up: everything comes from environment variables, and has a default.

SHOP_MODE        where the data lives: server (default), client (encrypted in the cookie), signed
                 (readable in the cookie), sealed (on the server, encrypted), header (server, and
                 clients without cookies send their token in X-Session-Token)
SHOP_COOKIE      plain (default), host (a __Host- cookie: HTTPS only), embedded (for a shop in an
                 iframe of another site: HTTPS only)
STORE_URL        such as redis://localhost or sqlite:////tmp/shop.db; default: files in SHOP_VAR
SHOP_BINDING     off (default), refuse or flag: sessions are bound to the device, in browsers that
                 can, and what happens where its proof is missing (HTTPS only; for sessions on the
                 server, with a cookie that isn't embedded)
TRUSTED_PROXIES  how many proxies stand in front; default 0; /proxy helps to find out
SHOP_IDLE        seconds until an unused session ends; default two weeks; 150 shows the warning
SECRET_KEY       signs the cookies; default: made once and kept in SHOP_VAR
SHOP_VAR         directory for what is kept; default: var/ beside this file
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from wsgi_sessions import Cookie, DeviceBinding, Lifetime
from wsgi_sessions.stores import ClientSideStore, FileStore

MODES = ("server", "client", "signed", "sealed", "header")
BINDINGS = {
    "off": None,
    "refuse": DeviceBinding(exclude=("/static/",)),
    "flag": DeviceBinding(exclude=("/static/",), when_missing="flag"),
}
TOKEN_HEADER = "X-Session-Token"
COOKIES = {
    "plain": Cookie("shop"),
    "host": Cookie("__Host-shop", secure=True),
    "embedded": Cookie("__Host-shop", secure=True, samesite="None", partitioned=True),
}


def options(environ: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of SessionMiddleware."""
    mode = mode_of(environ)
    secret = environ.get("SECRET_KEY") or _kept_secret(_directory(environ))
    chosen: dict[str, Any] = {
        "secret_key": secret,
        "cookie": COOKIES[_one_of(environ, "SHOP_COOKIE", COOKIES)],
        "lifetime": Lifetime(
            idle=float(environ.get("SHOP_IDLE") or timedelta(days=14).total_seconds()),
            absolute=timedelta(days=90),
        ),
        "trusted_proxies": int(environ.get("TRUSTED_PROXIES", "0")),
        "device_binding": BINDINGS[_one_of(environ, "SHOP_BINDING", BINDINGS)],
    }
    if mode in {"client", "signed"}:
        return chosen | {"store": ClientSideStore(encrypt=mode == "client")}
    chosen["store"] = environ.get("STORE_URL") or FileStore(_directory(environ) / "sessions" / mode)
    if mode == "sealed":
        # For real: a key of its own, kept elsewhere. A demo derives it, to need no more settings.
        chosen["encryption_keys"] = [hashlib.sha256(b"at rest:" + secret.encode()).digest()]
    elif mode == "header":
        chosen["token_header"] = TOKEN_HEADER
    return chosen


def mode_of(environ: Mapping[str, str]) -> str:
    """Where the data lives."""
    return _one_of(environ, "SHOP_MODE", MODES)


def _one_of(environ: Mapping[str, str], name: str, allowed: Any) -> str:
    value = environ.get(name) or next(iter(allowed))
    if value not in allowed:
        raise SystemExit(f"{name} is {value!r}; write one of {', '.join(allowed)}")
    return value


def _directory(environ: Mapping[str, str]) -> Path:
    directory = Path(environ.get("SHOP_VAR") or Path(__file__).parent / "var")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _kept_secret(directory: Path) -> str:
    """The secret of last time. Several processes may start at once: all get the same."""
    kept = directory / "secret"
    if not kept.exists():
        fresh = directory / f"secret.{secrets.token_hex(8)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):  # another process was first: its secret counts
            kept.hardlink_to(fresh)
        fresh.unlink()
    return kept.read_text()
