"""Finds the Client of a request by its environ and the settings, and passes it on to the app.

`resolve_client` is pure; `rewrite_environ` is what the middleware does with its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .client import CLIENT_KEY, ORIGINAL_KEY, Client, join_host, read_own
from .families import Forwarded, XForwarded
from .networks import UNIX, is_unix, within
from .parsing import DEFAULT_PORTS, parse_host, parse_port, parse_prefix, parse_scheme
from .settings import TrustedProxies, as_trusted_proxies

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def resolve_client(
    environ: Mapping[str, Any], trusted_proxies: int | TrustedProxies | None
) -> Client:
    """Who sent this request, as the trusted proxies say.

    Args:
        environ: the WSGI environ as it came from the server; not changed.
        trusted_proxies: the number of hops, or TrustedProxies; None is 0.

    Returns:
        the Client. With 0 it is what the environ itself says, and no header of a proxy is read.

    Raises:
        ConfigurationError: if trusted_proxies is wrong. Never for what came with the request.
    """
    proxies = as_trusted_proxies(0 if trusted_proxies is None else trusted_proxies)
    return _resolve(environ, proxies)[0]


def rewrite_environ(environ: WSGIEnvironment, proxies: TrustedProxies) -> Client:
    """Let the environ say what the client asked for, and keep what was there before.

    Rewrites REMOTE_ADDR if the client's address is known, ``wsgi.url_scheme`` if the proxies are
    trusted with it, and HTTP_HOST, SERVER_NAME, SERVER_PORT and SCRIPT_NAME where they sent them.
    PATH_INFO stays: a proxy that sends X-Forwarded-Prefix has taken the prefix off. Without trusted
    proxies nothing is rewritten. An environ that has its Client already stays as it is.
    """
    known = environ.get(CLIENT_KEY)
    if isinstance(known, Client):
        return known
    client, told = _resolve(environ, proxies)
    originals: dict[str, Any] = {}
    for key, new in told.items():
        old = environ.get(key)
        if old != new:
            originals[key] = old
            environ[key] = new
    environ[CLIENT_KEY] = client
    environ[ORIGINAL_KEY] = originals
    return client


def original_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the environ as it was before `rewrite_environ`."""
    restored = dict(environ)
    for key, old in environ.get(ORIGINAL_KEY, {}).items():
        if old is None:
            restored.pop(key, None)
        else:
            restored[key] = old
    return restored


def _resolve(environ: Mapping[str, Any], proxies: TrustedProxies) -> tuple[Client, dict[str, str]]:
    """The Client, and what the proxies say, by the environ's keys."""
    own = read_own(environ)
    if not proxies.hops and not proxies.networks:
        return own, {}
    ip, scheme, host, port, prefix, _ = own
    if (proxies.peers or proxies.networks) and not _believes(
        proxies, ip, environ.get("REMOTE_ADDR") or ""
    ):
        told = {} if ip is None else {"REMOTE_ADDR": ip}
        return own._replace(problems=("peer_untrusted",)), told
    reader: XForwarded | Forwarded
    if proxies.header == "x-forwarded":
        reader = XForwarded(environ, proxies, [])
    else:
        reader = Forwarded(environ, proxies, [])
    ip = reader.client(ip)
    told = {} if ip is None else {"REMOTE_ADDR": ip}
    if proxies.proto:
        # If it is unusable, the connection's own scheme won't do: that is the last proxy's.
        scheme = told["wsgi.url_scheme"] = reader.read("proto", parse_scheme) or "http"
    if proxies.host or proxies.port:
        host, port = _tell_host(environ, reader, own, scheme, told)
    if proxies.prefix:
        said = reader.read("prefix", parse_prefix)
        if said is not None:
            prefix = told["SCRIPT_NAME"] = said
    if reader.other_family_present():
        reader.problems.append("other_family_ignored")
    return Client(ip, scheme, host, port, prefix, tuple(reader.problems)), told


def _tell_host(
    environ: Mapping[str, Any],
    reader: XForwarded | Forwarded,
    own: Client,
    scheme: str,
    told: dict[str, str],
) -> tuple[str, int]:
    """The host and port that the client asked for; put into ``told`` where proxies sent them."""
    host = reader.read("host", parse_host) if reader.proxies.host else None
    port = reader.read("port", parse_port) if reader.proxies.port else None
    if host is not None:
        port = port or host.port or DEFAULT_PORTS[scheme]
        told["SERVER_NAME"] = host.name
        told["SERVER_PORT"] = str(port)
        told["HTTP_HOST"] = join_host(host.name, port, scheme)
        return told["HTTP_HOST"], port
    if port is None:
        return own.host, own.port
    told["SERVER_PORT"] = str(port)
    own_host = parse_host(own.host)
    if own_host is None:
        return own.host, port
    joined = join_host(own_host.name, port, scheme)
    if own.host == environ.get("HTTP_HOST"):
        told["HTTP_HOST"] = joined
    return joined, port


def _believes(proxies: TrustedProxies, peer: str | None, remote: str) -> bool:
    """Whether this peer's headers are believed, where not every peer's are."""
    if UNIX in proxies.peers and is_unix(remote):
        return True
    return peer is not None and all(
        within(peer, networks) for networks in (proxies.peers, proxies.networks) if networks
    )
