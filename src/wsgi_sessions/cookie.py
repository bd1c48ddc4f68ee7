"""Cookie: its settings, reading it from a request's header, and writing it into a response.

Werkzeug writes the attributes, once, when the app is put together. Reading looks for one name
instead of parsing the whole header: neighbours, however odd, can't hide our cookie, and an
untouched header costs nothing (0.5 against 3 µs; tests hold it to werkzeug's parser). What a
cookie's value means is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, cast
from urllib.parse import unquote

from werkzeug.http import dump_cookie, http_date

from ._options import check_flag, checked_options
from .errors import ConfigurationError

MAX_AGE = 400 * 24 * 60 * 60
"""Seconds. Browsers cut longer lives down to this (RFC 6265bis section 5.5)."""
MAX_BYTES = 4096
"""Name and value together; browsers drop more (RFC 6265bis section 5.6)."""
MAX_ATTRIBUTE_BYTES = 1024
MAX_HEADER = 16 * 1024
MAX_CANDIDATES = 8
MAX_NAME = 256
_BLANKS = " \t"

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PATH = r"/[\x20-\x3a\x3c-\x7e]*"
_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_SAME_SITE: dict[str, Literal["Lax", "Strict", "None"]] = {
    "lax": "Lax",
    "strict": "Strict",
    "none": "None",
}


@checked_options
@dataclass(frozen=True, slots=True)
class Cookie:
    """The session cookie's settings.

    Args:
        name: an RFC 6265 token. The prefixes ``__Secure-``, ``__Host-``, ``__Http-`` and
            ``__Host-Http-`` are checked for what browsers demand of them (RFC 6265bis section
            4.1.3).
        path: the path on which the cookie, and so the session, exists.
        domain: None keeps the cookie to this host; a domain shares it with all its
            subdomains.
        secure: ``"auto"`` sets Secure when the request is secure, as the trusted proxies say; True
            always, and then an insecure request gets no cookie at all; False never.
        httponly: keeps scripts in the page from reading it.
        samesite: ``"Lax"``, ``"Strict"`` or ``"None"`` (which demands ``secure=True``).
        partitioned: one cookie jar per top-level site (CHIPS); demands ``secure=True``.
        persistent: True: the cookie outlives the browser, as long as the session does; an app can
            choose for each session with ``session.persistent``.

    Raises:
        ConfigurationError: for anything that a browser would refuse, or that would break out of
            the header (CR, LF, ``;`` and so on).
    """

    name: str = "session"
    _: KW_ONLY
    path: str = "/"
    domain: str | None = None
    secure: bool | Literal["auto"] = "auto"
    httponly: bool = True
    samesite: Literal["Lax", "Strict", "None"] = "Lax"
    partitioned: bool = False
    persistent: bool = False

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        if not re.fullmatch(_NAME, self.name) or len(self.name) > MAX_NAME:
            raise ConfigurationError(
                f"Cookie: name is {self.name!r}; use letters, digits and !#$%&'*+-.^_`|~ only,"
                f" at most {MAX_NAME} characters (RFC 6265 section 4.1.1)"
            )
        _check_text("path", self.path)
        if not re.fullmatch(_PATH, self.path) or len(self.path) > MAX_ATTRIBUTE_BYTES:
            raise ConfigurationError(
                f"Cookie: path is {self.path!r}; it must start with '/' and hold printable ASCII"
                f" without ';' only, at most {MAX_ATTRIBUTE_BYTES} characters"
            )
        if self.domain is not None:
            _check_domain(self.domain)
        if self.secure != "auto" and not isinstance(self.secure, bool):  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            raise ConfigurationError(
                f"Cookie: secure is {self.secure!r}; write True, False or 'auto'"
            )
        for flag in ("httponly", "partitioned", "persistent"):
            check_flag("Cookie", flag, getattr(self, flag))
        known = _SAME_SITE.get(self.samesite.lower()) if isinstance(self.samesite, str) else None  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
        if known is None:
            raise ConfigurationError(
                f"Cookie: samesite is {self.samesite!r}; write 'Lax', 'Strict' or 'None'"
            )
        object.__setattr__(self, "samesite", known)
        self._check_combinations()

    def _check_combinations(self) -> None:
        for what, given in (
            ("samesite='None'", self.samesite == "None"),
            ("partitioned=True", self.partitioned),
        ):
            if given and self.secure is not True:
                raise ConfigurationError(
                    f"Cookie: {what} with secure={self.secure!r} is refused by browsers;"
                    " write secure=True (RFC 6265bis section 5.7)"
                )
        prefix = _prefix(self.name)
        if prefix is None:
            return
        if self.secure is not True:
            raise ConfigurationError(
                f"Cookie: the name {self.name!r} promises a secure cookie, but secure is"
                f" {self.secure!r}; write secure=True, or drop the {prefix!r} prefix"
            )
        if prefix in ("__Http-", "__Host-Http-") and not self.httponly:
            raise ConfigurationError(
                f"Cookie: the name {self.name!r} promises httponly=True; write that, or drop the"
                f" {prefix!r} prefix"
            )
        if prefix.startswith("__Host-") and (self.path != "/" or self.domain is not None):
            raise ConfigurationError(
                f"Cookie: the name {self.name!r} promises path='/' and no domain, but they are"
                f" {self.path!r} and {self.domain!r}; drop the {prefix!r} prefix or these settings"
            )


def _prefix(name: str) -> str | None:
    # Browsers compare the prefixes without regard to case (RFC 6265bis section 5.7).
    for prefix in ("__Host-Http-", "__Host-", "__Http-", "__Secure-"):
        if name.lower().startswith(prefix.lower()):
            return prefix
    return None


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(
            f"Cookie: {name} is of type {type(value).__name__}; write it as a str"
        )


def _check_domain(domain: str) -> None:
    _check_text("domain", domain)
    labels = domain.removeprefix(".").split(".")
    if len(domain) > 253 or not all(
        len(label) <= 63 and re.fullmatch(_HOST_LABEL, label) for label in labels
    ):
        raise ConfigurationError(
            f"Cookie: domain is {domain!r}; write a host name in ASCII (IDNA) without scheme, port"
            " or path, such as 'example.com'"
        )


class Candidates(NamedTuple):
    """The values that were sent under our name; whether they are tokens is still to be checked."""

    values: tuple[str, ...]
    """In the order sent, at most eight."""
    after_comma: bool
    """Whether they were found only because a comma was taken for a separator, too: something joined
    several Cookie lines the wrong way, and the log should say so once."""
    beyond: str | None
    """Why our cookie may be among what wasn't read, in words for an event; None: everything was."""

    def __repr__(self) -> str:
        # The values may be tokens, and tools that report errors show what local names hold.
        return (
            f"<Candidates: {len(self.values)}, after_comma={self.after_comma},"
            f" beyond={self.beyond!r}>"
        )


# The generated __new__ would take as long as finding a value does.
_new_candidates = cast(
    "Callable[[type[Candidates], tuple[object, ...]], Candidates]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType] # any tuple's
)
_NO_CANDIDATES = Candidates((), False, None)


def find_candidates(header: str, name: str) -> Candidates:
    """The values of the cookies of exactly this name in a Cookie header.

    The name is compared byte by byte, only SP and HTAB are trimmed, nothing is decoded, a value may
    stand in one pair of double quotes (RFC 6265 section 4.1.1; Java's CookieManager writes it so),
    and ``;`` is the only separator (RFC 6265bis section 5.6). Only where that finds nothing of use
    does a comma separate as well: HTTP/2 allows several Cookie lines, and some servers join them by
    comma. Never so for a name with a prefix, which anything more lenient would let a sibling site
    forge.

    At most 16 KiB and eight values are looked at.
    """
    if name not in header:
        return _NO_CANDIDATES
    if len(header) > MAX_HEADER:
        return _within_reach(header, name)
    found = _values(header, name)
    if "," in header and all("," in value for value in found) and _prefix(name) is None:
        found_after_comma = _values(header.replace(",", ";"), name)
        if found_after_comma:
            return _at_most_eight(found_after_comma, name, after_comma=True)
    if len(found) > MAX_CANDIDATES:
        return _at_most_eight(found, name, after_comma=False)
    return _new_candidates(Candidates, (tuple(found), False, None))


def plain_value(header: str, name: str) -> str | None:
    """The value of the first cookie of this name, where the header is written as browsers do.

    For one cookie of which any good value is enough: a third of what `find_candidates` takes, which
    is to be asked where this gives None or nothing of use. A value without quotes, commas and
    blanks is one that it would give, too.
    """
    start = f"{name}="
    at = 0 if header.startswith(start) else header.find(f"; {start}") + 2
    if at == 1 or len(header) > MAX_HEADER:
        return None
    return header[at + len(start) :].partition(";")[0]


def _values(header: str, name: str) -> list[str]:
    found: list[str] = []
    for pair in header.split(";"):
        if name in pair:
            before, equals, value = pair.partition("=")
            if equals and before.strip(_BLANKS) == name:
                value = value.strip(_BLANKS)
                if '"' in value and value[0] == value[-1] == '"' != value:
                    value = value[1:-1]
                found.append(value)
    return found


def _at_most_eight(found: list[str], name: str, *, after_comma: bool) -> Candidates:
    beyond = None
    if len(found) > MAX_CANDIDATES:
        beyond = (
            f"{len(found)} cookies are called {name!r}; only the first {MAX_CANDIDATES} are looked"
            " at"
        )
    return Candidates(tuple(found[:MAX_CANDIDATES]), after_comma, beyond)


def _within_reach(header: str, name: str) -> Candidates:
    """The candidates in the part of a long header that is read: whole cookies only."""
    whole = header[: MAX_HEADER + 1].rpartition(";")[0]
    candidates = find_candidates(whole, name)
    if name not in header[len(whole) :]:
        return candidates
    return candidates._replace(
        beyond=f"the Cookie header has {len(header)} characters; only the first {MAX_HEADER} are"
        " read"
    )


def path_matches(cookie_path: str, request_path: str) -> bool:
    """Whether a cookie of this path goes with a request for that one (RFC 6265 section 5.1.4)."""
    path = request_path or "/"
    if not path.startswith(cookie_path):
        return False
    return (
        len(path) == len(cookie_path) or cookie_path.endswith("/") or path[len(cookie_path)] == "/"
    )


def domain_matches(domain: str, host: str) -> bool:
    """Whether a cookie of this domain is kept for that host (RFC 6265 section 5.1.3).

    Args:
        domain: the cookie's, with or without a dot in front.
        host: a request's, as in the header Host: a port is ignored.
    """
    name, port = host.lower().rpartition(":")[::2]
    if not port.isdigit():
        name = host.lower()
    wanted = domain.removeprefix(".").lower()
    return name == wanted or name.endswith(f".{wanted}")


def wsgi_path(cookie_path: str) -> str:
    """The cookie's path as it looks in SCRIPT_NAME + PATH_INFO, which servers have unquoted."""
    return unquote(cookie_path, encoding="latin-1")


class CookieWriter:
    """Writes Set-Cookie values for one Cookie; as much as possible is built beforehand."""

    __slots__ = ("_attributes", "_expiring", "_start")

    def __init__(self, cookie: Cookie) -> None:
        self._start = f"{cookie.name}="
        self._attributes = (_attributes(cookie, secure=False), _attributes(cookie, secure=True))
        # A browser only overwrites a cookie when name, path and domain are the same, and accepts
        # that only with the attributes that the name's prefix promises.
        self._expiring = tuple(
            f"{self._start}; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0{attributes}"
            for attributes in self._attributes
        )

    def set(self, token: str, *, secure: bool, max_age: int | None, now: float) -> str:
        """The value that sets the cookie.

        Args:
            token: the cookie's value.
            secure: whether the request is secure.
            max_age: seconds; None: until the browser ends.
            now: UNIX seconds.
        """
        life = "" if max_age is None else _life(min(max_age, MAX_AGE), int(now))
        return f"{self._start}{token}{life}{self._attributes[secure]}"

    def expire(self, *, secure: bool) -> str:
        """The value that removes the cookie from the browser."""
        return self._expiring[secure]


@lru_cache(maxsize=64)
def _life(max_age: int, now: int) -> str:
    # Max-Age wins (RFC 6265 section 5.3), so a client's clock that is wrong does no harm. Expires
    # is for those that don't know it, and for Java's CookieManager, which takes a cookie without it
    # for one of RFC 2965 and sends that back in another form.
    return f"; Expires={http_date(now + max_age)}; Max-Age={max_age}"


def _attributes(cookie: Cookie, *, secure: bool) -> str:
    dumped = dump_cookie(
        cookie.name,
        "",
        path=cookie.path,
        domain=cookie.domain,
        secure=cookie.secure is True or (cookie.secure == "auto" and secure),
        httponly=cookie.httponly,
        samesite=cookie.samesite,
        partitioned=cookie.partitioned,
    )
    return dumped.removeprefix(f"{cookie.name}=")
