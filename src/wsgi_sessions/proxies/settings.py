"""TrustedProxies: which proxies are believed, checked when it is made.

`resolve` applies the settings to a request.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Literal

from .._options import check_flag, checked_options
from ..errors import ConfigurationError
from .networks import check_networks

MAX_HOPS = 10
"""More is almost surely a mistake: chains of more than three are rare."""


@checked_options
@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Which proxies are believed, and about what.

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
    _: KW_ONLY
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
            # Tuples: hashable, and changing a list that was passed in has no effect.
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
    if not _is_count(value):
        raise ConfigurationError(
            f"trusted_proxies is {value!r}; write how many proxies stand between the app and the"
            f" client, an int from 0 to {MAX_HOPS} (0 is none), or TrustedProxies(…), such as"
            " TrustedProxies(networks=('10.0.0.0/8',))"
        )
    return _with_hops(value)


@lru_cache(maxsize=MAX_HOPS + 1)
def _with_hops(hops: int) -> TrustedProxies:
    return TrustedProxies(hops=hops)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_HOPS


def _check_count(name: str, value: object) -> None:
    if not _is_count(value):
        raise ConfigurationError(
            f"TrustedProxies: {name} is {value!r}; write an int from 0 to {MAX_HOPS}"
            " (how many proxies; 0 is none)"
        )
