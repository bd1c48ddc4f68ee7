"""Networks of proxies, as settings name them: checked once, then matched with each address.

No header is read here: `families` finds the entry that is the client's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from .._options import closest
from ..errors import ConfigurationError

UNIX = "unix"
"""Stands for the peers of a unix socket, which have no address."""
_RANGES = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "linklocal": ("169.254.0.0/16", "fe80::/10"),
    "uniquelocal": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
_UNIX_NAMES = frozenset({"", "localhost", "<local>", "0.0.0.0"})  # noqa: S104 # nothing is bound to it
_MAPPED = IPv6Network("::ffff:0:0/96")
_WIDEST = {4: 8, 6: 16}
_NETWORK_TEXT = r"[0-9A-Fa-f:.]+(?:/[0-9.]+)?"

Network = IPv4Network | IPv6Network


def check_networks(option: str, value: object) -> tuple[str, ...]:
    """The entries of a list of networks.

    Raises:
        ConfigurationError: if it isn't a list, or if an entry isn't a network of reasonable size.
    """
    if isinstance(value, str):
        parts = tuple(part.strip() for part in value.split(","))
        check_networks(option, parts)
        raise ConfigurationError(
            f"TrustedProxies: {option} is the string {value!r}; write the tuple {parts!r}"
        )
    if not isinstance(value, (tuple, list, set, frozenset)):
        raise ConfigurationError(
            f"TrustedProxies: {option} is {value!r}; write a tuple such as ('10.0.0.0/8',)"
        )
    entries: list[object] = [*value]
    checked: list[str] = []
    for entry in entries:
        if not isinstance(entry, str):
            raise ConfigurationError(
                f"TrustedProxies: {option} has {entry!r}; write a str such as '10.0.0.0/8'"
            )
        if not (entry == UNIX and option == "peers"):
            try:
                _parse_network(entry)
            except ValueError as error:
                raise ConfigurationError(
                    f"TrustedProxies: {option} has {entry!r}, {error}"
                ) from None
        checked.append(entry)
    return tuple(checked)


@lru_cache(maxsize=1024)
def _parse_network(text: str) -> tuple[Network, ...]:
    """The networks that an entry of a list stands for.

    Raises:
        ValueError: if it stands for none; what is wrong with it, and what to write instead.
    """
    if text in _RANGES:
        return tuple(ip_network(network) for network in _RANGES[text])
    if re.fullmatch(_NETWORK_TEXT, text) is None:
        raise ValueError(_why_no_network(text))
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("which isn't a network; write one such as '10.0.0.0/8'") from None
    address = ip_address(text.partition("/")[0])
    if isinstance(network, IPv6Network):
        if network.subnet_of(_MAPPED):
            # Addresses are compared as IPv4 wherever they can be; so networks are, too.
            address = IPv4Address(int(address) & 0xFFFFFFFF)
            network = ip_network(f"{address}/{network.prefixlen - 96}", strict=False)
        elif network.supernet_of(_MAPPED):
            raise ValueError(
                "which is wider than all IPv4-mapped addresses; write the IPv4 network instead"
            )
    if network.prefixlen < _WIDEST[network.version]:
        raise ValueError(
            f"which is wider than /{_WIDEST[network.version]}, so that strangers could be in it;"
            " name the networks that your own proxies are in, or count them with hops"
        )
    if network.network_address != address:
        raise ValueError(
            f"which has bits set beyond its length; write {str(network)!r} for the network, or"
            f" {str(address)!r} for that address alone"
        )
    if network.num_addresses == 1 and address.is_unspecified:
        raise ValueError("which is nobody's address; name the networks that your proxies are in")
    return (network,)


def _why_no_network(text: str) -> str:
    if text == "*":
        return (
            "which would believe everybody, the client included; name the networks that your own"
            " proxies are in, or count them with hops"
        )
    if text == UNIX:
        return "but a unix socket has no address; write peers=('unix',) for it"
    if "%" in text:
        return "but a zone means something on one machine only; write the address without it"
    close = closest(text.strip().lower(), _RANGES, 0.8)
    if close:
        return f"which isn't a network; write {close!r}"
    return (
        "which isn't a network; write one such as '10.0.0.0/8', or 'loopback', 'linklocal' or"
        " 'uniquelocal'. Host names aren't looked up"
    )


@lru_cache(maxsize=4096)
def within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address, in its usual spelling, is in one of these checked networks."""
    # Cached, because a provider's list of networks can be hundreds of entries long.
    ip = ip_address(address)
    return any(
        ip in network for text in networks if text != UNIX for network in _parse_network(text)
    )


def is_unix(remote: str) -> bool:
    """Whether this REMOTE_ADDR is what servers write for a peer on a unix socket."""
    # gunicorn writes nothing, waitress "localhost", nginx "unix:", Werkzeug "<local>", uWSGI
    # "0.0.0.0" (nobody's address, so that no other peer can have it), others "@", as the kernel
    # shows a socket without a name.
    return remote in _UNIX_NAMES or remote.startswith(("unix:", "@"))
