"""What a response's headers must say once a session was used: Vary, Cache-Control, one token.

Pure: a header list in, a new one out, and what was found wrong in words. Shared caches are the
reason (CVE-2023-30861, CVE-2026-27205, CVE-2024-26144): a response that depends on the cookie must
say so, and one that sets it must not be kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from werkzeug.http import parse_date, parse_dict_header

from .transport import Header

# Caches that obey these ignore Cache-Control (RFC 9213 section 2.2). Many CDNs have one of their
# own name, with that ending; X-Accel-Expires is nginx's, Edge-Control Akamai's.
_CDN_HEADERS = frozenset({"surrogate-control", "edge-control", "x-accel-expires"})
_CDN_ENDING = "cdn-cache-control"
_NO_STORE = ("Cache-Control", "no-store")
_CACHING = _CDN_HEADERS | {"cache-control"}
_MAX_AGE = r"-?[0-9]+"


class Finished(NamedTuple):
    """The headers of a response, and what had to be put right."""

    headers: list[Header]
    foreign_tokens: int
    """How many headers that would set our token, which the app had added itself, were dropped."""
    was_public: bool
    """Whether a header that let shared caches keep the response was replaced or dropped."""


def names_of(headers: Sequence[Header]) -> set[str]:
    """The names of these headers, in lower case."""
    return {name.lower() for name, _ in headers}


def finish(
    headers: Sequence[Header],
    names: AbstractSet[str],
    vary: Sequence[str],
    token: tuple[str, str],
    own: Sequence[Header],
) -> Finished:
    """The headers for a response whose session was used.

    Args:
        headers: the app's; not changed.
        names: theirs, in lower case.
        vary: names of the request headers that the session depends on.
        token: the response header that carries ours, in lower case, and the name of the cookie, or
            of that header. One that the app added itself is dropped: a response has at most one
            Set-Cookie of a name (RFC 6265bis section 4.1.1).
        own: ours, which are for this client alone: that which sets or ends the token, above all.
    """
    carrier, name = token
    if own and names.isdisjoint(("vary", carrier)) and not _may_be_kept(names):
        return Finished([*headers, _NO_STORE, *own, ("Vary", ", ".join(vary))], 0, False)
    kept = list(headers)
    foreign = 0
    was_public = False
    if carrier in names:
        kept = without_token(headers, carrier, name)
        foreign = len(headers) - len(kept)
    if own:
        kept, was_public = _not_stored(kept, names)
        kept.extend(own)
    if "vary" in names:
        kept = _merged_vary(kept, vary)
    else:
        kept.append(("Vary", ", ".join(vary)))
    return Finished(kept, foreign, was_public)


def without_token(headers: Sequence[Header], carrier: str, name: str) -> list[Header]:
    """The headers without those that carry a token under our name (see `finish`)."""
    if carrier == "set-cookie":
        return [header for header in headers if not _sets_cookie(header, name)]
    return [header for header in headers if header[0].lower() != carrier]


def _sets_cookie(header: Header, cookie_name: str) -> bool:
    name, value = header
    return name.lower() == "set-cookie" and value.partition("=")[0].strip(" \t") == cookie_name


def app_expires_cookie(headers: Sequence[Header], cookie_name: str, now: float) -> bool:
    """Whether the app itself removes the cookie of this name: it means to sign the user out.

    Of several Set-Cookie headers of that name the last one counts, as for a browser; a path or a
    domain of its own makes no difference.

    Args:
        headers: the app's.
        cookie_name: ours.
        now: UNIX seconds.
    """
    for header in reversed(headers):
        if len(header[0]) == 10 and _sets_cookie(header, cookie_name):
            return _is_expired(header[1], now)
    return False


def _is_expired(set_cookie: str, now: float) -> bool:
    """Whether this Set-Cookie removes a cookie (RFC 6265 sections 5.2 and 5.3)."""
    attributes: dict[str, str] = {}
    for attribute in set_cookie.split(";")[1:]:
        name, _, value = attribute.partition("=")
        name, value = name.strip(" \t").lower(), value.strip(" \t")
        # One that can't be read is ignored, so that an earlier one stays.
        if name == "expires" or (name == "max-age" and re.fullmatch(_MAX_AGE, value)):
            attributes[name] = value
    max_age = attributes.get("max-age")
    if max_age is not None:
        return max_age.startswith("-") or not max_age.strip("0")
    expires = parse_date(attributes.get("expires"))
    return expires is not None and expires.timestamp() <= now


def _merged_vary(headers: list[Header], names: Sequence[str]) -> list[Header]:
    present = [header for header in headers if header[0].lower() == "vary"]
    entries = {entry.strip(" \t").lower() for _, values in present for entry in values.split(",")}
    missing = ", ".join(name for name in names if name.lower() not in entries)
    if "*" in entries or not missing:
        return headers
    index = headers.index(present[0])
    name, value = present[0]
    separator = ", " if value.strip(" \t") else ""
    headers[index] = (name, value + separator + missing)
    return headers


def _not_stored(headers: list[Header], names: AbstractSet[str]) -> tuple[list[Header], bool]:
    """The headers of a response that no shared cache keeps; and whether one was told to keep it."""
    if not _may_be_kept(names):
        return [*headers, _NO_STORE], False
    rest: list[Header] = []
    controls: list[Header] = []
    was_public = False
    for header in headers:
        name = header[0].lower()
        if name in _CDN_HEADERS or name.endswith(_CDN_ENDING):
            was_public = was_public or not _forbids_keeping(header[1])
            continue
        rest.append(header)
        if name == "cache-control":
            controls.append(header)
    directives = cache_directives(controls)
    if _lets_all_keep(directives):
        was_public = True
    # `private="name"` makes only that header private (RFC 9111 section 5.2.2.7).
    elif "no-store" in directives or directives.get("private", "") is None:
        return rest, was_public
    rest = [header for header in rest if header not in controls]
    rest.append(_NO_STORE)
    return rest, was_public


def _may_be_kept(names: AbstractSet[str]) -> bool:
    """Whether any of the headers with these names may tell a cache what to keep."""
    return not names.isdisjoint(_CACHING) or _CDN_ENDING in " ".join(names)


def _forbids_keeping(value: str) -> bool:
    """Whether a header for CDNs or nginx keeps them from keeping the response."""
    directives = {directive.lower() for directive in parse_dict_header(value)}
    return value.strip(" \t") == "0" or bool(directives & {"no-store", "private"})


def cache_directives(headers: Sequence[Header]) -> dict[str, str | None]:
    """The response's Cache-Control directives, by lower-case name."""
    return {
        directive.lower(): value
        for name, values in headers
        if len(name) == 13 and name.lower() == "cache-control"
        for directive, value in parse_dict_header(values).items()
    }


def is_public(headers: Sequence[Header]) -> bool:
    """Whether the app marked the response public, for shared caches to keep."""
    return _lets_all_keep(cache_directives(headers))


def _lets_all_keep(directives: Mapping[str, str | None]) -> bool:
    return "public" in directives or "s-maxage" in directives
