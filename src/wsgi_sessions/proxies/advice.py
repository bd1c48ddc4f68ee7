"""ProxyAdvice: what requests show to be wrong with the trusted proxies, logged once.

A wrong setting doesn't break anything visibly: the client is unknown, the cookie lacks
Secure. So the log says what request after request has in common, and what to set. A single odd
request proves nothing, because anybody can send one; and once a request came as the setting
expects, the setting is right, and nothing more is looked for. Nothing here decides about a request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

from ..events import EventSink
from .client import ORIGINAL_KEY, PROXY_FIX_KEY, Client
from .families import X_FORWARDED
from .parsing import (
    element_before,
    entries_from_right,
    entry_before,
    parse_address,
    parse_element,
    parse_scheme,
)
from .settings import MAX_HOPS, TrustedProxies

ENOUGH = 5
"""How many requests must agree before the log says what is wrong."""

_OF_PROTO = frozenset({"proto_absent", "proto_short", "proto_long", "proto_malformed"})
# Load balancers and orchestrators look at an app past its proxies, often before anybody else.
_HEALTH_CHECK = r"(?i)health|probe|check|monitor|googlehc|uptime|pingdom"

Family = Literal["x-forwarded", "forwarded"]
Finding = Literal["absent", "other_family", "short", "long", "proto", "peer"]


class ProxyAdvice:
    """Looks at the requests of one middleware until they have shown its setting right or wrong."""

    __slots__ = ("_arrived", "_entries", "_events", "_finding", "_proxies", "_row", "settled")

    settled: bool
    """Whether there is nothing left to look for in incoming requests, so that `look` needn't be
    called. Without trusted proxies it stays False: then only the scheme is of interest."""

    def __init__(self, events: EventSink, proxies: TrustedProxies) -> None:
        self._events = events
        self._proxies = proxies
        self.settled = False
        self._arrived = False
        self._finding: Finding | None = None
        self._row = 0
        self._entries = 0

    def look(self, environ: Mapping[str, Any], client: Client) -> None:
        """Take note of a request as it came in, after it was resolved (and rewritten)."""
        if self.settled:
            return
        if not _trusts_any(self._proxies):
            family = untrusted_https(environ, client)
            if family is not None:
                self._explain(_UNTRUSTED[family])
            return
        if proxy_fix_around(environ):
            self._explain(_PROXY_FIX_AROUND)
        found = finding(environ, client, self._proxies)
        if found is None:
            self.settled = True
        elif found != "absent" or not (self._arrived or _came_past_the_proxies(environ, client)):
            # Where the header does arrive, one that lacks it in between came past the proxies.
            self._count(found, environ, client)

    def look_back(self, environ: Mapping[str, Any], client: Client) -> None:
        """Take note of what the app did to the environ. Wanted where `PROXY_FIX_KEY` is in it."""
        if not proxy_fix_within(environ, client):
            return
        if _trusts_any(self._proxies):
            self._explain(_PROXY_FIX_WITHIN)
        else:
            self._explain(_PROXY_FIX_ALONE)

    def _count(self, found: Finding, environ: Mapping[str, Any], client: Client) -> None:
        entries = _count_entries(environ, self._proxies)
        self._arrived = self._arrived or entries > 0
        if found != self._finding:
            self._finding, self._row, self._entries = found, 0, entries
        # What all of them had is at least as many as the shortest, at most as many as the longest.
        extreme = max if found == "short" else min
        self._entries = extreme(self._entries, entries)
        self._row += 1
        if self._row == ENOUGH:
            text = _WORDS[found](_Row(self._proxies, self._entries, client))
            self._explain(text, f"proxies-{found}")

    def _explain(self, text: str, key: str | None = None) -> None:
        self._events.explain(key or text, text, per_process=True)


# What a request shows


def untrusted_https(environ: Mapping[str, Any], client: Client) -> Family | None:
    """Whose headers seem to say https, with nobody trusted, while the server itself says http."""
    if client.scheme == "https":
        # Some servers, gunicorn among them, have listened to that proxy by themselves.
        return None
    entries = entries_from_right(environ.get(X_FORWARDED["proto"]), entry_before, MAX_HOPS)
    if any(parse_scheme(entry) == "https" for entry in entries):
        return "x-forwarded"
    elements = entries_from_right(environ.get("HTTP_FORWARDED"), element_before, MAX_HOPS)
    return "forwarded" if any(_says_https(parse_element(text)) for text in elements) else None


def _says_https(parameters: dict[str, str] | str) -> bool:
    return not isinstance(parameters, str) and parse_scheme(parameters.get("proto", "")) == "https"


def finding(environ: Mapping[str, Any], client: Client, proxies: TrustedProxies) -> Finding | None:
    """How a request differs from what the setting expects; None: it doesn't."""
    entries = _count_entries(environ, proxies)
    if "peer_untrusted" in client.problems:
        return "peer" if entries else "absent"
    if not entries:
        return "other_family" if "other_family_ignored" in client.problems else "absent"
    if entries < proxies.hops:
        return "short"
    if 0 < proxies.hops < entries:
        return "long"
    return "proto" if not _OF_PROTO.isdisjoint(client.problems) else None


def proxy_fix_around(environ: Mapping[str, Any]) -> bool:
    """Whether a ProxyFix changed the client's address before the middleware saw the request."""
    before = _before_proxy_fix(environ)
    if before is None:
        return False
    came: object = environ.get(ORIGINAL_KEY, {}).get("REMOTE_ADDR", environ.get("REMOTE_ADDR"))
    return before.get("REMOTE_ADDR") != came


def proxy_fix_within(environ: Mapping[str, Any], client: Client) -> bool:
    """Whether a ProxyFix in the app also set the client's address, even if to the same one."""
    before = _before_proxy_fix(environ)
    if before is None or X_FORWARDED["for"] not in environ:
        return False
    if ORIGINAL_KEY in environ:
        # It began with what the middleware had set.
        return client.ip is not None and before.get("REMOTE_ADDR") == client.ip
    return parse_address(str(environ.get("REMOTE_ADDR") or "")) != client.ip


def _before_proxy_fix(environ: Mapping[str, Any]) -> dict[str, object] | None:
    before = environ.get(PROXY_FIX_KEY)
    return cast("dict[str, object]", before) if isinstance(before, dict) else None


def _count_entries(environ: Mapping[str, Any], proxies: TrustedProxies) -> int:
    """How many entries the header has that names the clients; 0: it is missing."""
    forwarded = proxies.header == "forwarded"
    header = environ.get("HTTP_FORWARDED" if forwarded else X_FORWARDED["for"])
    before = element_before if forwarded else entry_before
    return len(entries_from_right(header, before, MAX_HOPS + 1))


def _trusts_any(proxies: TrustedProxies) -> bool:
    return bool(proxies.hops or proxies.networks)


def _came_past_the_proxies(environ: Mapping[str, Any], client: Client) -> bool:
    """Whether a request may well come without the header."""
    agent = str(environ.get("HTTP_USER_AGENT"))
    return "peer_untrusted" in client.problems or re.search(_HEALTH_CHECK, agent[:200]) is not None


# What the log says of it

_PROBE = "ProxyProbe shows what arrives, and which number is right."


def _untrusted(header: str, setting: str) -> str:
    return (
        f"A request has {header}, but trusted_proxies is 0 (as is TrustedProxies(…) without hops or"
        " networks), so it counts as plain http. If a proxy of yours set that header, set"
        f" trusted_proxies to {setting}. {_PROBE}"
    )


_UNTRUSTED: Mapping[Family, str] = {
    "x-forwarded": _untrusted(
        "X-Forwarded-Proto: https", "the number of proxies in front of the app"
    ),
    "forwarded": _untrusted(
        "Forwarded: …;proto=https",
        "TrustedProxies(hops=…, header='forwarded'), where hops is the number of proxies in front"
        " of the app",
    ),
}
_PROXY_FIX_AROUND = (
    "Werkzeug's ProxyFix around SessionMiddleware has already changed REMOTE_ADDR, and"
    " trusted_proxies reads the same headers once more. Keep one of the two: remove ProxyFix, or"
    " set trusted_proxies to 0."
)
_PROXY_FIX_WITHIN = (
    "Werkzeug's ProxyFix inside SessionMiddleware reads the same headers once more, from what"
    " trusted_proxies has already put right. Remove ProxyFix; if the app needs the host or the"
    " prefix from it, TrustedProxies(hops=…, host=1, prefix=1) sets them."
)
_PROXY_FIX_ALONE = (
    "Werkzeug's ProxyFix inside SessionMiddleware changed REMOTE_ADDR only after the session had"
    " seen the request: labels and events name the proxy instead of the client, and the cookie"
    " may lack Secure. Remove ProxyFix, and set trusted_proxies to the number of proxies. (Or put"
    " ProxyFix around SessionMiddleware, with trusted_proxies=0.)"
)


_HEADERS = {
    "x-forwarded": ("X-Forwarded-For", "Forwarded"),
    "forwarded": ("Forwarded", "X-Forwarded-For"),
}


class _Row(NamedTuple):
    """What request after request had in common."""

    proxies: TrustedProxies
    entries: int
    """How many entries of the header all of them allow for."""
    client: Client
    """The last one's."""

    @property
    def headers(self) -> tuple[str, str]:
        """The header that names the clients, and the one of the family that isn't read."""
        return _HEADERS[self.proxies.header]

    @property
    def setting(self) -> str:
        if self.proxies.hops:
            return f"hops={self.proxies.hops}"
        return f"networks={self.proxies.networks!r}"

    @property
    def cure(self) -> str:
        """How to set as many hops as there are entries."""
        if self.proxies == TrustedProxies(self.proxies.hops):
            return f"set trusted_proxies to {self.entries}"
        # The rest of it is to stay.
        return f"set hops of your TrustedProxies(…) to {self.entries}"


def _absent(row: _Row) -> str:
    return (
        f"Request after request came without {row.headers[0]}, which the trusted proxies"
        f" ({row.setting}) should set, so the client isn't known, and the cookie may lack Secure."
        " Either no proxy sets it; or there is no proxy (then set trusted_proxies to 0); or the"
        " server removes it: waitress does unless it is started with"
        " clear_untrusted_proxy_headers=False (--no-clear-untrusted-proxy-headers), and so does"
        " Apache's mod_remoteip, which sets the client's address itself (then also set"
        f" trusted_proxies to 0). {_PROBE}"
    )


def _other_family(row: _Row) -> str:
    expected, came = row.headers
    write = "forwarded" if row.proxies.header == "x-forwarded" else "x-forwarded"
    return (
        f"Request after request came without {expected}, which the trusted proxies"
        f" ({row.setting}) should set, but with headers of the family of {came}. If your proxies"
        f" write these, set TrustedProxies({row.setting}, header={write!r})."
    )


def _short(row: _Row) -> str:
    entries = "1 entry" if row.entries == 1 else f"{row.entries} entries"
    return (
        f"Request after request has only {entries} in {row.headers[0]}, fewer than hops, which is"
        f" {row.proxies.hops}, so the client isn't known. If the number of proxies in front of"
        f" the app is {row.entries}, {row.cure}. {_PROBE}"
    )


def _long(row: _Row) -> str:
    taken = (
        "With exact=True none of them is believed"
        if row.proxies.exact
        else f"The client was taken to be {row.client.ip or 'unknown'}"
    )
    well = "leave exact out" if row.proxies.exact else "all is well"
    more = "If "
    if row.entries <= MAX_HOPS:
        more = f"If the number of your proxies is {row.entries}, {row.cure}; if "
    return (
        f"Request after request has {row.entries} entries or more in {row.headers[0]}, although"
        f" hops is {row.proxies.hops}. {taken}. {more}clients come through proxies of their own,"
        f" {well}. {_PROBE}"
    )


def _proto(row: _Row) -> str:
    problems = ", ".join(sorted(_OF_PROTO.intersection(row.client.problems)))
    if "proto_short" in row.client.problems:
        cure = (
            f"X-Forwarded-Proto has fewer entries than proto, which is {row.proxies.proto}: where"
            " only one proxy sets it, or each replaces it, set TrustedProxies(…, proto=1)"
        )
    else:
        cure = (
            "Have the outermost proxy set X-Forwarded-Proto (or proto in Forwarded), or set"
            " TrustedProxies(…, proto=0) to go by what the server says"
        )
    return (
        f"Request after request comes with {row.headers[0]}, but without a usable scheme"
        f" ({problems}), so it counts as plain http, and the cookie may lack Secure. {cure}."
        f" {_PROBE}"
    )


def _peer(row: _Row) -> str:
    trusted = "peers" if row.proxies.peers else "networks"
    if row.client.ip is None:
        peer, add = "a unix socket", "'unix' to peers"
    else:
        peer, add = row.client.ip, f"{row.client.ip!r} to {trusted}"
    return (
        f"Request after request comes with {row.headers[0]} from {peer}, which isn't one of the"
        f" trusted {trusted}, so that peer counts as the client. If it is a proxy of yours, add"
        f" {add}."
    )


_WORDS: Mapping[Finding, Callable[[_Row], str]] = {
    "absent": _absent,
    "other_family": _other_family,
    "short": _short,
    "long": _long,
    "proto": _proto,
    "peer": _peer,
}
