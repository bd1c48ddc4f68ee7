"""The settings in ``app.config`` as options of SessionMiddleware. Doesn't import Flask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from ._options import closest
from .cookie import Cookie
from .crypto.signing import Secrets
from .data.codec import Codec
from .data.flask_values import MarkupCodec
from .engine.engine import IsPassive
from .errors import ConfigurationError
from .http.exchange import OnStoreError
from .lifetime import Lifetime
from .middleware import CookieChoice, Listener
from .proxies import TrustedProxies
from .stores.base import Store

if TYPE_CHECKING:
    from .carry_over.source import Source
    from .device_binding import DeviceBinding

LIFETIME = "PERMANENT_SESSION_LIFETIME"
_DEFAULT_ABSOLUTE = timedelta(days=30)


class Options(TypedDict, total=False):
    """What `FlaskSessions` takes: the options of SessionMiddleware."""

    secret_key: Secrets
    store: Store | str | None
    cookie: CookieChoice
    lifetime: Lifetime
    trusted_proxies: int | TrustedProxies
    codec: Codec | None
    save_uninitialized: bool
    rolling: bool
    save_on_error: bool
    touch_interval: float | timedelta
    rotate_after: float | timedelta | None
    max_bytes: int
    id_factory: Callable[[], str] | None
    clock: Callable[[], float] | None
    max_per_owner: int | None
    when_full: Literal["end_oldest", "refuse"]
    label: Collection[str] | None
    token_header: str | None
    encryption_keys: Sequence[bytes]
    encryption_migrate: bool
    carry_over: Sequence[Source]
    device_binding: DeviceBinding | None
    passive: IsPassive | None
    on_event: Listener | Sequence[Listener] | None
    on_store_error: OnStoreError | None
    environ_key: str


_FROM_CONFIG = {f"SESSION_{name.upper()}": name for name in Options.__annotations__}
_COOKIE_NAMES = tuple(
    f"SESSION_COOKIE_{name}"
    for name in ("NAME", "DOMAIN", "PATH", "HTTPONLY", "SECURE", "SAMESITE", "PARTITIONED")
)
_KNOWN = (*_FROM_CONFIG, *_COOKIE_NAMES, "SESSION_REFRESH_EACH_REQUEST")
# The names of Flask-Session and Flask-KVSession, and what replaces them here. A name that ends in
# "_" stands for all that begin with it.
_LEFT_OVER = {
    "SESSION_TYPE": "SESSION_STORE names the store, for example 'redis://localhost'",
    "SESSION_PERMANENT": "set session.permanent, or give cookie=Cookie(persistent=True)",
    "SESSION_USE_SIGNER": "leave it out, the cookie is always signed",
    "SESSION_KEY_PREFIX": "write it into SESSION_STORE, as in 'redis://localhost?prefix=…'",
    "SESSION_ID_LENGTH": "leave it out, IDs always have 256 bits",
    "SESSION_KEY_BITS": "leave it out, IDs always have 256 bits",
    "SESSION_RANDOM_SOURCE": "leave it out, IDs come from the operating system",
    "SESSION_SET_TTL": "leave it out, expired sessions always end",
    "SESSION_SERIALIZATION_FORMAT": "leave it out, or give SESSION_CODEC a codec",
    "SESSION_REDIS": "give SESSION_STORE a RedisStore(client), or its URL",
    "SESSION_FILE_DIR": "give SESSION_STORE 'file:///that/directory'",
    "SESSION_FILE_THRESHOLD": "leave it out, expired files are purged instead",
    "SESSION_FILE_MODE": "give SESSION_STORE a FileStore(path, mode=…)",
    "SESSION_CACHELIB": "give SESSION_STORE a store or a URL, such as 'file:///that/directory'",
    "SESSION_CLEANUP_N_REQUESTS": "leave it out, expired sessions are removed by themselves",
    "SESSION_SQLALCHEMY_": "give SESSION_STORE the database's URL, such as"
    " 'postgresql://user@host/db'",
    "SESSION_POSTGRESQL_": "give SESSION_STORE the database's URL, such as"
    " 'postgresql://user@host/db'",
    "SESSION_MONGODB_": "there is no store for MongoDB; give SESSION_STORE another one's URL, such"
    " as 'redis://localhost'",
    "SESSION_MEMCACHED_": "there is no store for memcached, which may lose sessions at any time;"
    " give SESSION_STORE another one's URL, such as 'redis://localhost'",
    "SESSION_DYNAMODB_": "there is no store for DynamoDB; give SESSION_STORE another one's URL,"
    " such as 'redis://localhost'",
}
# Names that one would expect, but that neither Flask nor we have.
_EXPECTED = {
    "SESSION_URL": "write SESSION_STORE",
    "SESSION_COOKIE_AGE": f"write {LIFETIME}",
    "SESSION_COOKIE_PERSISTENT": _LEFT_OVER["SESSION_PERMANENT"],
}


def options_from(config: Mapping[str, Any], given: Options) -> Options:
    """The options of SessionMiddleware: those that were given, and the others from ``app.config``.

    Raises:
        ConfigurationError: for settings that are unknown here, or invalid.
    """
    _check_names(config)
    found: dict[str, Any] = {
        option: config[name] for name, option in _FROM_CONFIG.items() if name in config
    }
    found.update(given)
    if "secret_key" not in found:
        found["secret_key"] = _secrets(config)
    if "cookie" not in found:
        found["cookie"] = _cookie(config)
    if "lifetime" not in found and LIFETIME in config:
        found["lifetime"] = lifetime_of(config[LIFETIME])
    if found.get("codec") is None:
        found["codec"] = MarkupCodec()
    return cast("Options", found)


def hint(name: str) -> str:
    """What to write instead of an option that doesn't exist."""
    close = closest(name, Options.__annotations__)
    return f"write {close}" if close else f"allowed are {', '.join(Options.__annotations__)}"


def _check_names(config: Mapping[str, Any]) -> None:
    for name in config:
        if not name.startswith("SESSION_") or name in _KNOWN:
            continue
        instead = _instead_of(name)
        if instead is not None:
            raise ConfigurationError(f"app.config: {name} is a setting of Flask-Session; {instead}")
        close = closest(name, _KNOWN, 0.85)
        expected = _EXPECTED.get(name, f"write {close}" if close else None)
        if expected is not None:
            raise ConfigurationError(f"app.config: there is no {name}; {expected}")


def _instead_of(name: str) -> str | None:
    for old, instead in _LEFT_OVER.items():
        if name == old or (old[-1] == "_" and f"{name}_".startswith(old)):
            return instead
    return None


def _secrets(config: Mapping[str, Any]) -> list[str | bytes]:
    secret = config.get("SECRET_KEY")
    if not secret:
        raise ConfigurationError(
            "FlaskSessions: there is no secret key; set app.config['SECRET_KEY'] (make one with"
            " `python -m wsgi_sessions secret`) before FlaskSessions sees the app, or give it"
            " secret_key=…"
        )
    fallbacks: Any = config.get("SECRET_KEY_FALLBACKS") or []
    for name, value, types in (
        ("SECRET_KEY", secret, (str, bytes)),
        ("SECRET_KEY_FALLBACKS", fallbacks, (list, tuple)),
    ):
        if not isinstance(value, types):
            allowed = " or ".join(kind.__name__ for kind in types)
            raise ConfigurationError(
                f"app.config: {name} is of type {type(value).__name__}; write a {allowed}"
            )
    return [secret, *fallbacks]


def _cookie(config: Mapping[str, Any]) -> Cookie:
    # Flask's defaults are there whether someone chose them or not, so where ours are stricter
    # ours apply: Secure on secure requests, SameSite=Lax. cookie=Cookie(…) can say otherwise.
    secure = config.get("SESSION_COOKIE_SECURE", False)
    samesite = config.get("SESSION_COOKIE_SAMESITE")
    domain = config.get("SESSION_COOKIE_DOMAIN")
    try:
        return Cookie(
            config.get("SESSION_COOKIE_NAME", "session"),
            path=config.get("SESSION_COOKIE_PATH") or config.get("APPLICATION_ROOT") or "/",
            # Older versions of Flask took False for: whatever SERVER_NAME says.
            domain=None if domain is False else domain,
            secure="auto" if secure is False else secure,
            httponly=config.get("SESSION_COOKIE_HTTPONLY", True),
            samesite="Lax" if samesite is None else samesite,
            partitioned=config.get("SESSION_COOKIE_PARTITIONED", False),
        )
    except ConfigurationError as error:
        raise ConfigurationError(
            f"app.config: {error} (here: SESSION_COOKIE_NAME, SESSION_COOKIE_SECURE and so on)"
        ) from None


def lifetime_of(limit: timedelta | float) -> Lifetime:
    """The Lifetime for Flask's one limit.

    Raises:
        ConfigurationError: it isn't a valid limit.
    """
    # Flask has only the idle limit. An absolute one goes with it, because a stolen session that is
    # kept in use would otherwise live forever (ASVS 5.0, 7.3.2).
    try:
        idle = Lifetime(idle=limit, absolute=None)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"app.config: {LIFETIME} can't be used as the idle limit: {error}"
        ) from None
    return Lifetime(idle=limit, absolute=max(idle.idle_seconds, _DEFAULT_ABSOLUTE.total_seconds()))
