"""Who the client is behind a chain of proxies: TrustedProxies, Client, resolve_client.

Each proxy appends what it saw to the right of a header that the client may have begun. So entries
are counted from the right, by position, and what stands further to the left is never looked at: it
can't shift, hide or change the answer. An entry that is missing or malformed makes its value
unknown; a neighbour is never tried instead.

Everything here but `rewrite_environ` is pure. X-Real-IP, CF-Connecting-IP, X-Forwarded-Ssl and
their like are never read: a proxy that sets one of them rarely removes what the client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from ._options import check_flag, checked_options
from .errors import ConfigurationError
from .forwarding import (
    DEFAULT_PORTS,
    MAX_ENTRY,
    OWS,
    element_before,
    entry_before,
    nth_from_right,
    parse_address,
    parse_element,
    parse_host,
    parse_node,
    parse_port,
    parse_prefix,
    parse_scheme,
)
from .networks import UNIX, check_networks, is_unix, within

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .probe import ProxyProbe

__all__ = [
    "CLIENT_KEY",
    "MAX_HOPS",
    "ORIGINAL_KEY",
    "PROBLEMS",
    "Client",
    "ProxyProbe",
    "TrustedProxies",
    "as_trusted_proxies",
    "original_environ",
    "resolve_client",
    "rewrite_environ",
]

CLIENT_KEY = "wsgi_sessions.client"
"""Where `rewrite_environ` puts the Client of each request."""
ORIGINAL_KEY = "wsgi_sessions.original"
"""Where it keeps what it rewrote: key to old value; None: the key was absent."""

MAX_HOPS = 10
"""More is almost surely a mistake: chains of more than three are rare."""

PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "peer_untrusted": "the peer isn't one of the trusted proxies, so it is the client itself",
        "for_absent": "the client's address is missing: no proxy set it",
        "for_short": "X-Forwarded-For has fewer entries than there are hops",
        "for_long": "X-Forwarded-For has more entries than there are hops",
        "for_malformed": "what stands for the client's address is no IP address",
        "for_unknown": "the proxy says that it doesn't know the client's address",
        "for_obfuscated": "the proxy hides the client's address behind a name",
        "all_trusted": "every address is a trusted proxy's; the outermost counts as the client",
        "proto_absent": "the scheme is missing: no proxy set it",
        "proto_short": "X-Forwarded-Proto has fewer entries than proto says",
        "proto_long": "X-Forwarded-Proto has more entries than proto says",
        "proto_malformed": "the scheme is neither http nor https",
        "host_short": "X-Forwarded-Host has fewer entries than host says",
        "host_long": "X-Forwarded-Host has more entries than host says",
        "host_malformed": "the host is no name, IPv4 address or [IPv6 address]",
        "port_short": "X-Forwarded-Port has fewer entries than port says",
        "port_long": "X-Forwarded-Port has more entries than port says",
        "port_malformed": "the port is no number from 1 to 65535",
        "prefix_short": "X-Forwarded-Prefix has fewer entries than prefix says",
        "prefix_long": "X-Forwarded-Prefix has more entries than prefix says",
        "prefix_malformed": "the prefix is no plain path",
        "fwd_absent": "there is no Forwarded header",
        "fwd_short": "Forwarded has fewer elements than there are hops",
        "fwd_long": "Forwarded has more elements than there are hops",
        "fwd_malformed": "the element of Forwarded that counts breaks the grammar of RFC 7239",
        "fwd_dup": "the element of Forwarded that counts has a parameter twice",
        "other_family_ignored": "headers of the family that isn't configured came in, unread",
    }
)
"""What each code in `Client.problems` means."""

_X_FORWARDED = {
    "for": "HTTP_X_FORWARDED_FOR",
    "proto": "HTTP_X_FORWARDED_PROTO",
    "host": "HTTP_X_FORWARDED_HOST",
    "port": "HTTP_X_FORWARDED_PORT",
    "prefix": "HTTP_X_FORWARDED_PREFIX",
}
_MAX_WALK = 32
# Entries; nobody has so many proxies, but a client can send so many addresses.

T = TypeVar("T")


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


@checked_options
@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Which proxies are believed, and in what.

    Count the proxies, or name their networks; `ProxyProbe` shows which number is right. Each count
    picks an entry from the right of its header; 0 ignores that header.

    Args:
        hops: how many proxies stand between the app and the client, 0 to 10. With 0, and without
            networks, no header is read at all.
        proto: from which entry of X-Forwarded-Proto the scheme is taken.
        host: from which entry of X-Forwarded-Host the host is taken.
        port: from which entry of X-Forwarded-Port the port is taken.
        prefix: from which entry of X-Forwarded-Prefix the script name is taken.
        networks: instead of hops: the networks of all proxies (``"10.0.0.0/8"``, ``"10.1.2.3"``,
            ``"loopback"``, ``"linklocal"``, ``"uniquelocal"``). The first address from the right
            that isn't in them is the client.
        peers: the networks from which headers are believed at all, or ``"unix"`` for a unix
            socket; empty: from any.
        header: ``"x-forwarded"``, or ``"forwarded"`` for RFC 7239, where one element holds all
            values; proto and host are then only on or off.
        exact: True: more entries than counted are refused, too. For an outermost proxy that
            replaces the headers instead of appending to them.

    Raises:
        ConfigurationError: if any of this is wrong.
    """

    hops: int = 0
    proto: int = 1
    host: int = 0
    port: int = 0
    prefix: int = 0
    networks: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    header: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    exact: bool = False

    def __post_init__(self) -> None:
        for name in ("hops", "proto", "host", "port", "prefix"):
            _check_count(name, getattr(self, name))
        for name in ("networks", "peers"):
            # Tuples: hashable, and a list that was passed in has no say afterwards.
            object.__setattr__(self, name, check_networks(name, getattr(self, name)))
        check_flag("TrustedProxies", "exact", self.exact)
        if self.networks and self.hops:
            raise ConfigurationError(
                f"TrustedProxies: hops is {self.hops} and networks is {self.networks!r}; these are"
                " two ways to find the client: give one of them"
            )
        if self.networks and self.exact:
            raise ConfigurationError(
                "TrustedProxies: exact=True compares with the number of hops, but networks has no"
                " such number; give hops instead of networks, or leave exact out"
            )
        self._check_header()

    def _check_header(self) -> None:
        if self.header not in ("x-forwarded", "forwarded"):
            raise ConfigurationError(
                f"TrustedProxies: header is {self.header!r}; write 'x-forwarded' or 'forwarded'."
                " Never both: a client could send the one that your proxies don't replace"
            )
        if self.header == "x-forwarded":
            return
        for name in ("port", "prefix"):
            if getattr(self, name):
                raise ConfigurationError(
                    f"TrustedProxies: {name} is {getattr(self, name)}, but RFC 7239 has no such"
                    f" parameter; leave {name} out, or write header='x-forwarded'"
                )
        for name in ("proto", "host"):
            if getattr(self, name) not in (0, 1, self.hops):
                raise ConfigurationError(
                    f"TrustedProxies: {name} is {getattr(self, name)}, but one element of Forwarded"
                    f" holds all values; write {name}=1 to read it, 0 to ignore it"
                )


def as_trusted_proxies(value: int | TrustedProxies) -> TrustedProxies:
    """The setting as TrustedProxies; an int is the number of hops.

    Raises:
        ConfigurationError: for anything else, bool included.
    """
    if isinstance(value, TrustedProxies):
        return value
    _check_count("hops", value)
    return _with_hops(value)


@lru_cache(maxsize=MAX_HOPS + 1)
def _with_hops(hops: int) -> TrustedProxies:
    return TrustedProxies(hops=hops)


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
    """Let the app see the client's truth in the environ, and keep what was there.

    Rewrites REMOTE_ADDR if the client's address is known, ``wsgi.url_scheme`` if the scheme is the
    proxies' to say, and HTTP_HOST, SERVER_NAME, SERVER_PORT and SCRIPT_NAME where they told them.
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
    """The Client, and the environ's keys that the proxies have a word on, with what they say."""
    own = read_own(environ)
    if not proxies.hops and not proxies.networks:
        return own, {}
    ip, scheme, host, port, prefix, _ = own
    if (proxies.peers or proxies.networks) and not _believes(
        proxies, ip, environ.get("REMOTE_ADDR") or ""
    ):
        told = {} if ip is None else {"REMOTE_ADDR": ip}
        return own._replace(problems=("peer_untrusted",)), told
    reader: _XForwarded | _Forwarded
    if proxies.header == "x-forwarded":
        reader = _XForwarded(environ, proxies, [])
    else:
        reader = _Forwarded(environ, proxies, [])
    ip = reader.client(ip)
    told = {} if ip is None else {"REMOTE_ADDR": ip}
    if proxies.proto:
        # Where unusable, not the connection's own scheme: that one is the last proxy's.
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
    reader: _XForwarded | _Forwarded,
    own: Client,
    scheme: str,
    told: dict[str, str],
) -> tuple[str, int]:
    """The host and port that the client asked for; noted in told where the proxies said them."""
    host = reader.read("host", parse_host) if reader.proxies.host else None
    port = reader.read("port", parse_port) if reader.proxies.port else None
    if host is not None:
        port = port or host.port or DEFAULT_PORTS[scheme]
        told["SERVER_NAME"] = host.name
        told["SERVER_PORT"] = str(port)
        told["HTTP_HOST"] = _join_host(host.name, port, scheme)
        return told["HTTP_HOST"], port
    if port is None:
        return own.host, own.port
    told["SERVER_PORT"] = str(port)
    own_host = parse_host(own.host)
    if own_host is None:
        return own.host, port
    joined = _join_host(own_host.name, port, scheme)
    if own.host == environ.get("HTTP_HOST"):
        told["HTTP_HOST"] = joined
    return joined, port


def read_own(environ: Mapping[str, Any]) -> Client:
    """What a request says by itself, without any proxy's word."""
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
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        scheme = "http"
    port = parse_port(str(server_port or ""))
    parsed = parse_host(host)
    if parsed is not None:
        return Client(peer, scheme, host, port or parsed.port or DEFAULT_PORTS[scheme], "", ())
    # PEP 3333, "URL Reconstruction"; some servers give their bare IPv6 address as the name.
    port = port or DEFAULT_PORTS[scheme]
    server = server[: MAX_ENTRY + 1]
    parsed = parse_host(f"[{server}]" if ":" in server else server)
    host = "" if parsed is None else _join_host(parsed.name, port, scheme)
    return Client(peer, scheme, host, port, "", ())


def _join_host(name: str, port: int, scheme: str) -> str:
    return name if port == DEFAULT_PORTS[scheme] else f"{name}:{port}"


def _believes(proxies: TrustedProxies, peer: str | None, remote: str) -> bool:
    """Whether headers are believed that came from this peer, where not all are."""
    if UNIX in proxies.peers and is_unix(remote):
        return True
    return peer is not None and all(
        within(peer, networks) for networks in (proxies.peers, proxies.networks) if networks
    )


# The two families of headers


@dataclass(slots=True, eq=False, repr=False)
class _XForwarded:
    """X-Forwarded-For and its siblings: lists, split on commas, and nothing else."""

    environ: Mapping[str, Any]
    proxies: TrustedProxies
    problems: list[str]

    def client(self, peer: str | None) -> str | None:
        """The client's address; None: it can't be known."""
        if self.proxies.networks:
            return self._walk(peer)
        return self.read("for", parse_address)

    def _walk(self, peer: str | None) -> str | None:
        header = self.environ.get(_X_FORWARDED["for"])
        if header is None:
            if peer is None:
                self.problems.append("for_absent")
            return peer
        end = len(header)
        for _ in range(_MAX_WALK):
            text, end = entry_before(header, end)
            address = parse_address(text)
            if address is None:
                self.problems.append("for_malformed")
                return None
            if not within(address, self.proxies.networks):
                return address
            if end < 0:
                self.problems.append("all_trusted")
                return address
        self.problems.append("for_long")
        return None

    def read(self, kind: str, parse: Callable[[str], T | None]) -> T | None:
        """The value of the entry that counts; None, with the reason noted, if there is none."""
        header = self.environ.get(_X_FORWARDED[kind])
        if header is None:
            # Host, port and prefix are what they are unless a proxy says otherwise.
            if kind in ("for", "proto"):
                self.problems.append(f"{kind}_absent")
            return None
        count: int = self.proxies.hops if kind == "for" else getattr(self.proxies, kind)
        entries = header.rsplit(",", count)
        if len(entries) < count:
            self.problems.append(f"{kind}_short")
            return None
        if len(entries) > count and self.proxies.exact:
            self.problems.append(f"{kind}_long")
            return None
        entry = entries[-count]
        value = parse(entry.strip(OWS)) if len(entry) < MAX_ENTRY else None
        if value is None:
            self.problems.append(f"{kind}_malformed")
        return value

    def other_family_present(self) -> bool:
        return "HTTP_FORWARDED" in self.environ


@dataclass(slots=True, eq=False, repr=False)
class _Forwarded:
    """RFC 7239: one header, of which one element counts, with its own parameters only."""

    environ: Mapping[str, Any]
    proxies: TrustedProxies
    problems: list[str]
    parameters: Mapping[str, str] | None = None
    """Those of the element that counts; None: there is none, or it is unusable."""

    def client(self, peer: str | None) -> str | None:
        """The client's address; None: it can't be known. Finds the element that counts."""
        header = self.environ.get("HTTP_FORWARDED")
        if self.proxies.networks:
            return self._walk(header, peer)
        if header is None:
            self.problems.append("fwd_absent")
            return None
        text, end = nth_from_right(header, self.proxies.hops, element_before)
        if text is None:
            self.problems.append("fwd_short")
            return None
        if self.proxies.exact and end >= 0:
            self.problems.append("fwd_long")
            return None
        return self._address(text)

    def _walk(self, header: str | None, peer: str | None) -> str | None:
        if header is None:
            if peer is None or self.proxies.proto:
                self.problems.append("fwd_absent")
            return peer
        end = len(header)
        for _ in range(_MAX_WALK):
            text, end = element_before(header, end)
            address = self._address(text)
            if address is None or not within(address, self.proxies.networks):
                return address
            if end < 0:
                self.problems.append("all_trusted")
                return address
        self.parameters = None
        self.problems.append("fwd_long")
        return None

    def _address(self, element: str) -> str | None:
        """Let this be the element that counts, and say its address."""
        self.parameters = None
        parameters = parse_element(element)
        if isinstance(parameters, str):
            self.problems.append(parameters)
            return None
        self.parameters = parameters
        if "for" not in parameters:
            self.problems.append("for_absent")
            return None
        address, problem = parse_node(parameters["for"])
        if problem is not None:
            self.problems.append(problem)
        return address

    def read(self, kind: str, parse: Callable[[str], T | None]) -> T | None:
        """The value of a parameter of the element that counts; None if it has none."""
        if self.parameters is None:
            return None
        value = self.parameters.get(kind)
        if value is None:
            if kind == "proto":
                self.problems.append("proto_absent")
            return None
        parsed = parse(value)
        if parsed is None:
            self.problems.append(f"{kind}_malformed")
        return parsed

    def other_family_present(self) -> bool:
        return any(key in self.environ for key in _X_FORWARDED.values())


# Settings


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_HOPS:
        raise ConfigurationError(
            f"TrustedProxies: {name} is {value!r}; write an int from 0 to {MAX_HOPS}"
            " (how many proxies; 0 is none)"
        )


if not TYPE_CHECKING:  # a checker would take any name for one of this module's

    def __getattr__(name: str) -> Any:
        # The probe is here for a moment in the life of an app: nobody else pays for its import.
        if name == "ProxyProbe":
            from .probe import ProxyProbe  # noqa: PLC0415 # see above

            return ProxyProbe
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
