"""Client: who sent a request, and what a request itself says about that.

`resolve` finds out what proxies add to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from .parsing import DEFAULT_PORTS, MAX_ENTRY, parse_address, parse_host, parse_port, parse_scheme

CLIENT_KEY = "wsgi_sessions.client"
"""Where `rewrite_environ` puts the Client of each request."""
ORIGINAL_KEY = "wsgi_sessions.original"
"""Where it keeps the old values of what it rewrote, by key; None: the key was absent."""
PROXY_FIX_KEY = "werkzeug.proxy_fix.orig"
"""What Werkzeug's ProxyFix leaves in an environ: a dict of what was there before."""

PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "peer_untrusted": "the peer isn't one of the trusted proxies, so it is the client itself",
        "for_absent": "the client's address is missing: no proxy set it",
        "for_short": "X-Forwarded-For has fewer entries than there are hops",
        "for_long": "X-Forwarded-For has more entries than there are hops",
        "for_malformed": "what stands for the client's address isn't an IP address",
        "for_unknown": "the proxy says that it doesn't know the client's address",
        "for_obfuscated": "the proxy hides the client's address behind a name",
        "all_trusted": "every address is a trusted proxy's; the outermost counts as the client",
        "proto_absent": "the scheme is missing: no proxy set it",
        "proto_short": "X-Forwarded-Proto has fewer entries than proto says",
        "proto_long": "X-Forwarded-Proto has more entries than proto says",
        "proto_malformed": "the scheme is neither http nor https",
        "host_short": "X-Forwarded-Host has fewer entries than host says",
        "host_long": "X-Forwarded-Host has more entries than host says",
        "host_malformed": "the host isn't a name, an IPv4 address or an [IPv6 address]",
        "port_short": "X-Forwarded-Port has fewer entries than port says",
        "port_long": "X-Forwarded-Port has more entries than port says",
        "port_malformed": "the port isn't a number from 1 to 65535",
        "prefix_short": "X-Forwarded-Prefix has fewer entries than prefix says",
        "prefix_long": "X-Forwarded-Prefix has more entries than prefix says",
        "prefix_malformed": "the prefix isn't a plain path",
        "fwd_absent": "there is no Forwarded header",
        "fwd_short": "Forwarded has fewer elements than there are hops",
        "fwd_long": "Forwarded has more elements than there are hops",
        "fwd_malformed": "the element of Forwarded that counts breaks the grammar of RFC 7239",
        "fwd_dup": "the element of Forwarded that counts has a parameter twice",
        "other_family_ignored": "headers of the family that isn't configured came in, unread",
    }
)
"""What each code in `Client.problems` means."""


class Client(NamedTuple):
    """Who sent a request, and to what address, as far as it can be known."""

    ip: str | None
    """The client's address in its usual spelling; None: it can't be known."""
    scheme: str
    """``"http"`` or ``"https"``: what the client used."""
    host: str
    """The host that the client asked for, with its port unless that is the scheme's default; empty
    if the request names none."""
    port: int
    """The port that the client connected to."""
    prefix: str
    """The SCRIPT_NAME: the path at which the client sees the app."""
    problems: tuple[str, ...]
    """What was found wrong, as codes; `PROBLEMS` explains them."""


def read_own(environ: Mapping[str, Any]) -> Client:
    """What a request itself says, without any proxy's headers."""
    get = environ.get
    host = get("HTTP_HOST") or ""
    own = _own_client(
        get("REMOTE_ADDR") or "",
        get("wsgi.url_scheme", "http"),
        host if len(host) <= MAX_ENTRY else host[: MAX_ENTRY + 1],
        get("SERVER_NAME") or "",
        get("SERVER_PORT"),
    )
    prefix = get("SCRIPT_NAME")
    return own._replace(prefix=prefix) if prefix else own


@lru_cache(maxsize=256)
def _own_client(
    remote: str, scheme: str, host: str, server: str, server_port: str | int | None
) -> Client:
    # Cached, because these are the same for request after request, behind a proxy all of them.
    peer = parse_address(remote) if len(remote) <= MAX_ENTRY else None
    scheme = parse_scheme(scheme) or "http"
    port = parse_port(str(server_port or ""))
    parsed = parse_host(host)
    if parsed is not None:
        return Client(peer, scheme, host, port or parsed.port or DEFAULT_PORTS[scheme], "", ())
    # PEP 3333, "URL Reconstruction"; some servers give their bare IPv6 address as the name.
    port = port or DEFAULT_PORTS[scheme]
    server = server[: MAX_ENTRY + 1]
    parsed = parse_host(f"[{server}]" if ":" in server else server)
    host = "" if parsed is None else join_host(parsed.name, port, scheme)
    return Client(peer, scheme, host, port, "", ())


def join_host(name: str, port: int, scheme: str) -> str:
    """A host as clients write it: without the port that its scheme has by default."""
    return name if port == DEFAULT_PORTS[scheme] else f"{name}:{port}"
