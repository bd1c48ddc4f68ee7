"""The checks of the middleware's options: each wrong one is a ConfigurationError that helps.

They run once, when the middleware is made, and never in a request.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Sequence
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, cast

from ._options import check_function, kind_of
from .data.codec import Codec, JSONCodec
from .data.notes import EARLIEST, LATEST
from .errors import ConfigurationError
from .proxies import CLIENT_KEY, ORIGINAL_KEY
from .stores import MemoryStore, Store
from .stores.guarded import check_methods

if TYPE_CHECKING:
    from .carry_over.source import Source
    from .client_side import ClientSeal
    from .cookie import Cookie
    from .device_binding import DeviceBinding
    from .proxies import TrustedProxies

DEFAULT_KEY = "wsgi_sessions.session"
LABEL_PARTS = ("ip", "user_agent")

# Keys with a meaning in PEP 3333 or CGI (RFC 3875), and our own besides the session.
_SERVERS = ("HTTP_", "wsgi.", "SERVER_", "REMOTE_", "REQUEST_", "CONTENT_")
_RESERVED = {
    *("AUTH_TYPE", "GATEWAY_INTERFACE", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING"),
    *("SCRIPT_NAME", CLIENT_KEY, ORIGINAL_KEY),
}


def check_app(app: object) -> None:
    """Make sure that there is something to wrap."""
    if not callable(app):
        raise ConfigurationError(
            f"SessionMiddleware: app is {app!r}; give a WSGI app, which is called with environ and"
            " start_response"
        )


# With how many arguments each is called, and what it is.
_ID_FACTORY = (
    "a function id_factory() that returns a new ID each time, 32 random bytes as base64url, such as"
    " secrets.token_urlsafe, or None"
)
_PASSIVE = (
    "a function passive(environ) that returns True for a request that doesn't count as use, or None"
)
_ON_STORE_ERROR = (
    "a function on_store_error(environ, start_response, error) that answers as a WSGI app does, or"
    " None"
)
_FUNCTIONS = {
    "clock": (0, "a function clock() that returns UNIX seconds, such as time.time, or None"),
    "cookie": (1, "Cookie(…), or a function cookie(environ) that returns one"),
    "id_factory": (0, _ID_FACTORY),
    "on_store_error": (3, _ON_STORE_ERROR),
    "passive": (1, _PASSIVE),
}


def check_functions(**options: object) -> None:
    """Make sure that options are functions that can be called as they will be, or None."""
    for name, function in options.items():
        if function is not None:
            check_function("SessionMiddleware", name, function, *_FUNCTIONS[name])


def check_clock(clock: Callable[[], object]) -> Callable[[], float]:
    """The clock as given, if it gives UNIX seconds."""
    now = clock()
    # True and False are ints.
    number = now if isinstance(now, (int, float)) and not isinstance(now, bool) else math.nan
    if not EARLIEST <= number <= LATEST:
        raise ConfigurationError(
            f"SessionMiddleware: clock() returned {now!r}; give {_FUNCTIONS['clock'][1]}"
        )
    return cast("Callable[[], float]", clock)


def check_environ_key(key: object) -> str:
    """``environ_key`` as given, if nothing else of the request is kept there."""
    if not isinstance(key, str) or not key or key.startswith(_SERVERS) or key in _RESERVED:
        raise ConfigurationError(
            f"SessionMiddleware: environ_key is {key!r}; write a str such as {DEFAULT_KEY!r} that"
            " neither the server nor a request header uses"
        )
    return key


def check_store(store: object) -> Any:
    """The store, from a Store, a URL or None."""
    if store is None:
        return MemoryStore()
    if isinstance(store, str):
        from .stores import store_from_url  # noqa: PLC0415 # few apps name their store by a URL

        return store_from_url(store)
    return check_methods("SessionMiddleware", store, ", or a URL, such as 'redis://localhost'")


def check_codec(codec: Codec | None) -> Codec:
    """``codec``, or the standard one."""
    if codec is None:
        return JSONCodec()
    names = ("encode", "decode")
    usable = all(callable(getattr(codec, name, None)) for name in names)
    if isinstance(codec, type):
        usable = all(isinstance(getattr_static(codec, name, None), staticmethod) for name in names)
    if not usable:
        raise ConfigurationError(
            f"SessionMiddleware: codec is {codec!r}; give an object with encode(value) -> bytes"
            " and decode(bytes) -> value, such as JSONCodec()"
        )
    return codec


def check_count(name: str, value: object) -> int:
    """An option that counts, from 1 up."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"SessionMiddleware: {name} is {value!r}; write an int from 1 up")
    return value


def check_when_full(value: object, max_per_owner: int | None) -> bool:
    """Whether ``when_full`` says to refuse."""
    if value not in ("end_oldest", "refuse"):
        raise ConfigurationError(
            f"SessionMiddleware: when_full is {value!r}; write 'end_oldest' or 'refuse'"
        )
    refuses = value == "refuse"
    if refuses and max_per_owner is None:
        raise ConfigurationError(
            "SessionMiddleware: when_full is 'refuse', but max_per_owner is None; give"
            " max_per_owner=…, or leave when_full out"
        )
    return refuses


def check_device_binding(
    value: object, *, client_side: bool, header: str | None, cookie: Cookie | None
) -> DeviceBinding | None:
    """``device_binding`` as given, with the cookie if there is but one."""
    if value is None:
        return None
    from .device_binding import (  # noqa: PLC0415 # few apps bind sessions to devices
        DeviceBinding,
        check_with,
    )

    if not isinstance(value, DeviceBinding):
        raise ConfigurationError(
            f"SessionMiddleware: device_binding is {value!r}; write DeviceBinding(), with options"
            " of its own, or None"
        )
    check_with(client_side=client_side, token_header=header, cookie=cookie)
    return value


def check_trusted_proxies(value: int | TrustedProxies) -> TrustedProxies | None:
    """``trusted_proxies``; None for a setting that trusts nobody."""
    if type(value) is int and value == 0:
        return None
    from .proxies import TrustedProxies, as_trusted_proxies  # noqa: PLC0415 # not every app has any

    proxies = as_trusted_proxies(value)
    return None if proxies == TrustedProxies() else proxies


def client_seal(store: object, secrets: tuple[bytes, ...]) -> ClientSeal | None:
    """What seals the sessions of a ClientSideStore; None for any other store."""
    # Whoever made one has imported it; few apps do.
    if "wsgi_sessions.client_side" not in sys.modules:
        return None
    from .client_side import ClientSeal, ClientSideStore  # noqa: PLC0415 # few apps need it

    if not isinstance(store, ClientSideStore):
        return None
    return ClientSeal(secrets, encrypt=store.encrypt)


def check_label(label: object) -> frozenset[str]:
    """``label`` as a set; empty for None."""
    if label is None:
        return frozenset()
    given: list[object] | None = None
    if isinstance(label, Collection) and not isinstance(label, str):
        given = list(cast("Collection[object]", label))
    if given is None or not all(part in LABEL_PARTS for part in given):
        raise ConfigurationError(
            f"SessionMiddleware: label is {label!r}; write None, or a tuple of 'ip' and"
            " 'user_agent'"
        )
    return frozenset(cast("list[str]", given))


def check_carry_over(value: object) -> tuple[Source, ...]:
    """``carry_over`` as given, as a tuple."""
    kind = kind_of(value)
    given = tuple(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else None
    if given == ():
        return ()
    from .carry_over.source import Source  # noqa: PLC0415 # few apps need it

    sources = tuple(source for source in given or () if isinstance(source, Source))
    if given is None or len(sources) < len(given):
        raise ConfigurationError(
            f"SessionMiddleware: carry_over is {kind}; write a list of sources from"
            " wsgi_sessions.carry_over, such as [Beaker('redis://localhost', secret=…)]"
        )
    return sources


def check_client_side(
    rotate_after: object, max_per_owner: object, keys: object, sources: object
) -> None:
    """Make sure that what makes no sense without a store on the server was left out."""
    for name, value, instead in (
        ("rotate_after", rotate_after, "the cookie is new with every change anyway"),
        ("max_per_owner", max_per_owner, "the server can't count what clients hold"),
        ("encryption_keys", keys, "ClientSideStore encrypts by itself, under secret_key"),
        ("carry_over", sources, "an old cookie would bring back what was signed out"),
    ):
        if value:
            raise ConfigurationError(
                f"SessionMiddleware: {name} is of no use with ClientSideStore; leave it out"
                f" ({instead})"
            )


def sealed(store: Store, keys: Any, *, migrate: bool) -> Store:
    """The store, inside encryption if there are keys."""
    if keys in ([], ()):
        if migrate:
            raise ConfigurationError(
                "SessionMiddleware: encryption_migrate is True, but there are no encryption_keys;"
                " give them, or leave encryption_migrate out"
            )
        return store
    from .stores.encrypted import EncryptedStore, check_keys  # noqa: PLC0415 # few apps encrypt

    return EncryptedStore(store, check_keys(keys), migrate=migrate)
