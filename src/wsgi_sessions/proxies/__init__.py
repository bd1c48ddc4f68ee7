"""Who the client is behind a chain of proxies: TrustedProxies, Client, resolve_client.

Each proxy appends what it saw to the right of a header that the client may have begun. So entries
are counted from the right, by position, and what is further to the left is never looked at: it
can't shift, hide or change the answer. An entry that is missing or malformed makes its value
unknown; a neighbour is never tried instead.

X-Real-IP, CF-Connecting-IP, X-Forwarded-Ssl and their like are never read: a proxy that sets one of
them rarely removes what the client sent.

`parsing` reads texts, `networks` and `settings` hold what was configured, `families` reads either
family of headers, `resolve` puts the answer together, `advice` logs what seems to be
wrong with the settings, and `probe` shows a chain as it arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazily import lazily
from .client import CLIENT_KEY, ORIGINAL_KEY, PROBLEMS, PROXY_FIX_KEY, Client, read_own

if TYPE_CHECKING:
    from .probe import ProxyProbe
    from .resolve import original_environ, resolve_client, rewrite_environ
    from .settings import MAX_HOPS, TrustedProxies, as_trusted_proxies

__all__ = [
    "CLIENT_KEY",
    "MAX_HOPS",
    "ORIGINAL_KEY",
    "PROBLEMS",
    "PROXY_FIX_KEY",
    "Client",
    "ProxyProbe",
    "TrustedProxies",
    "as_trusted_proxies",
    "original_environ",
    "read_own",
    "resolve_client",
    "rewrite_environ",
]

# What an app without proxies doesn't need is imported where it is used.
_MODULES = {
    "MAX_HOPS": ".settings",
    "ProxyProbe": ".probe",
    "TrustedProxies": ".settings",
    "as_trusted_proxies": ".settings",
    "original_environ": ".resolve",
    "resolve_client": ".resolve",
    "rewrite_environ": ".resolve",
}

if not TYPE_CHECKING:  # a checker would take any name for one of this module's
    __getattr__ = lazily(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
