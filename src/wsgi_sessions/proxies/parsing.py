"""What proxies write into headers: text in, values out. No environ, no settings.

`nth_from_right` finds an entry in either of the two kinds of list; each ``parse_`` function reads
one value, and gives None where it breaks the grammar. Nothing here raises, whatever the text,
and the work is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

DEFAULT_PORTS = {"http": 80, "https": 443}
# Traefik sends ws and wss with a WebSocket's handshake, which is an HTTP request all the same
# (RFC 6455 section 3).
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
MAX_ENTRY = 512
"""Characters; a longer entry is malformed, and isn't read. This bounds the work, and the caches."""
# The same for an element of Forwarded, which holds several values.
_MAX_ELEMENT = 1024
OWS = " \t"
"""Optional white space (RFC 9110 section 5.6.3)."""
# Characters of a DNS name (RFC 1035 section 2.3.4).
_MAX_NAME = 253
# Stands for an element of Forwarded that can't be told from its neighbours. No element is like it.
_MALFORMED = '"'

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# The parameters of Forwarded that hold an address.
_NODES = ("for", "by")
_QUOTED_PAIR = r"\\(.)"
# Compiled with the first text that is to be read: that takes long.


@cache
def _address() -> re.Pattern[str]:
    return re.compile(
        r"(?P<v4>[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::(?P<port4>[0-9]{1,5}))?"
        r"|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\](?::(?P<port6>[0-9]{1,5}))?"
        r"|(?P<bare>[0-9A-Fa-f:.]{2,45})"
    )


@cache
def _host() -> re.Pattern[str]:
    return re.compile(
        rf"(?:(?P<name>{_LABEL}(?:\.{_LABEL})*\.?)|\[(?P<v6>[0-9A-Fa-f:.]{{2,45}})\])"
        r"(?::(?P<port>[0-9]{1,5}))?"
    )


@cache
def _prefix() -> re.Pattern[str]:
    # RFC 3986 section 3.3, without what would mean another path once decoded (".", "/", "\", "?",
    # "#", "%" and controls), and without ";", which would break out of a cookie's Path.
    return re.compile(
        r"(?:/(?!\.{1,2}(?:/|\Z))"
        r"(?:[A-Za-z0-9._~!$&'()*+=:@-]|%(?![01]|2[35EF]|3[BF]|5C|7F)[0-9A-F]{2})+)+",
        re.IGNORECASE | re.ASCII,
    )


@cache
def _pair() -> re.Pattern[str]:
    # RFC 7239 section 4: forwarded-pair, with the optional blanks around ";" that many write, and
    # with addresses that lack the quotes which their colons require, as AWS API Gateway sends them.
    return re.compile(
        r"[ \t]*"
        r"(?:(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)="
        r"(?:(?P<token>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)"
        r"|(?P<bare>[0-9.]{7,15}:[0-9]{1,5}|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?)"
        r'|"(?P<quoted>(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)"))?'
        r"[ \t]*(?:;|\Z)"
    )


@cache
def _node() -> re.Pattern[str]:
    # RFC 7239 section 6: an address or a name, each with a port that may be a name, too.
    obfuscated = r"_[A-Za-z0-9._-]+"
    return re.compile(
        rf"(?:(?P<hidden>{obfuscated})|(?P<unknown>(?i:unknown))|(?P<address>[0-9.]+|\[[^\]]*\]))"
        rf"(?P<port>:(?:[0-9]{{1,5}}|{obfuscated}))?"
    )


# Lists, from the right


def nth_from_right(
    header: str, count: int, before: Callable[[str, int], tuple[str, int]]
) -> tuple[str | None, int]:
    """The entry of this number (None if there are fewer), and where the next one ends, or -1."""
    text, end = before(header, len(header))
    for _ in range(count - 1):
        if end < 0:
            return None, end
        text, end = before(header, right := end)
        if end == right:
            break  # unreadable from there on
    return text, end


def entries_from_right(
    header: str | None, before: Callable[[str, int], tuple[str, int]], most: int
) -> list[str]:
    """The entries of a header, the rightmost first, at most ``most``; none if it is missing."""
    if header is None:
        return []
    entries: list[str] = []
    end = len(header)
    while end >= 0 and len(entries) < most:
        text, end = before(header, right := end)
        entries.append(text)
        if end == right:
            break  # unreadable from there on
    return entries


def entry_before(header: str, end: int) -> tuple[str, int]:
    """The entry that ends there, trimmed, and where the one to its left ends: -1 if there is none.

    Quotes and backslashes mean nothing here: no proxy writes them, so a reader that heeds them lets
    the client swallow the proxies' entries.
    """
    comma = header.rfind(",", 0, end)
    if end - comma > MAX_ENTRY:
        return "", comma
    return header[comma + 1 : end].strip(OWS), comma


def element_before(header: str, end: int) -> tuple[str, int]:
    """The same for Forwarded, where a comma in a quoted string doesn't separate (RFC 9110, 5.6.4).

    Read from the right, so that a quote which the client left open has no effect on elements that
    were appended to it. If its beginning can't be found, the end stays where it was: this element
    and everything to its left are malformed then.
    """
    reach = max(0, end - _MAX_ELEMENT)
    start = end
    while True:
        comma = header.rfind(",", reach, start)
        quote = header.rfind('"', reach, start)
        if quote <= comma:
            break
        start = _opening_quote(header, quote, reach)
        if start < 0:
            return _MALFORMED, end
    if comma < 0 < reach:
        return _MALFORMED, end
    return header[comma + 1 : end], comma


def _opening_quote(header: str, closing: int, reach: int) -> int:
    """Where the quoted string that ends there begins; -1 if that isn't within reach."""
    if _is_escaped(header, closing, reach):
        return -1
    quote = header.rfind('"', reach, closing)
    while quote >= 0 and _is_escaped(header, quote, reach):
        quote = header.rfind('"', reach, quote)
    return quote


def _is_escaped(header: str, index: int, reach: int) -> bool:
    start = index
    while start > reach and header[start - 1] == "\\":
        start -= 1
    return (index - start) % 2 == 1


# One value each: text in, value out, None if it breaks the grammar


@lru_cache(maxsize=1024)
def parse_address(text: str) -> str | None:
    """An IP address in its usual spelling, from one that may have a port."""
    match = _address().fullmatch(text)
    if match is None:
        return None
    port = match["port4"] or match["port6"]
    if port is not None and parse_port(port) is None:
        return None
    address: IPv4Address | IPv6Address
    try:
        if match["v4"] is not None:
            address = IPv4Address(match["v4"])
        else:
            address = IPv6Address(match["v6"] or match["bare"])
            address = address.ipv4_mapped or address
    except AddressValueError:
        return None
    return None if address.is_unspecified else str(address)


@lru_cache(maxsize=64)
def parse_scheme(text: str) -> str | None:
    """``"http"`` or ``"https"``, from any letter case; the schemes of WebSockets count as these."""
    return _SCHEMES.get(text.lower())


class Host(NamedTuple):
    """A host as a client asks for it."""

    name: str
    """In lower case; an IPv6 address in brackets."""
    port: int | None


@lru_cache(maxsize=256)
def parse_host(text: str) -> Host | None:
    """A host and its port, if it has one."""
    match = _host().fullmatch(text)
    if match is None:
        return None
    port = None if match["port"] is None else parse_port(match["port"])
    if port is None and match["port"] is not None:
        return None
    name = match["name"]
    try:
        if name is None:
            IPv6Address(match["v6"])
            return Host(f"[{match['v6'].lower()}]", port)
        if name.rstrip(".").rpartition(".")[2].isdigit():
            # Browsers take a name that ends in a number for an IPv4 address, or refuse it.
            IPv4Address(name)
    except AddressValueError:
        return None
    return Host(name.lower(), port) if len(name) <= _MAX_NAME else None


@lru_cache(maxsize=64)
def parse_port(text: str) -> int | None:
    """A port, from 1 to 5 ASCII digits."""
    # int() alone takes "4_43", "+443" and digits of other scripts.
    if text.isascii() and text.isdigit() and len(text) <= 5:
        port = int(text)
        if 1 <= port <= 65535:
            return port
    return None


@lru_cache(maxsize=256)
def parse_prefix(text: str) -> str | None:
    """The SCRIPT_NAME: decoded, as PEP 3333 asks for; the header has it as a URL does."""
    path = text.removesuffix("/")
    if not text or (path and _prefix().fullmatch(path) is None):
        return None
    return unquote_to_bytes(path).decode("latin-1")


def parse_element(text: str) -> dict[str, str] | str:
    """The parameters of one element of Forwarded, by lower-case name; or the problem with it."""
    parameters: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _pair().match(text, position)
        if match is None:
            return "fwd_malformed"
        position = match.end()
        if match["name"] is None:
            continue
        name = match["name"].lower()
        if name in parameters:
            return "fwd_dup"
        if match["quoted"] is not None:
            parameters[name] = re.sub(_QUOTED_PAIR, r"\1", match["quoted"])
            continue
        bare = match["bare"]
        if bare is not None and (name not in _NODES or parse_address(bare) is None):
            return "fwd_malformed"
        parameters[name] = bare or match["token"]
    return parameters


def parse_node(text: str) -> tuple[str | None, str | None]:
    """The address of a ``for``; or None and the problem with it."""
    match = _node().fullmatch(text)
    if match is None:
        return None, "for_malformed"
    if match["hidden"] is not None:
        return None, "for_obfuscated"
    if match["unknown"] is not None:
        return None, "for_unknown"
    port = match["port"] or ""
    address = parse_address(match["address"] + ("" if port.startswith(":_") else port))
    return address, "for_malformed" if address is None else None
