"""How a token travels: in a cookie, or in a header of its own for clients without cookies.

Either reads candidates from a request and makes the response header that sets or ends a token.
What a token means is up to `crypto.signing` and the engine; what else the response needs (Vary,
Cache-Control) is in `response_headers`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from ..cookie import Candidates, Cookie, CookieWriter, find_candidates
from ..crypto.signing import TokenSigner
from ..errors import ConfigurationError

Environ = dict[str, object]
Header = tuple[str, str]

_HEADER_NAME = r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)+"
_RESERVED = frozenset(
    """
    accept-charset accept-encoding accept-language accept-ranges cache-control cf-connecting-ip
    content-disposition content-encoding content-language content-length content-location
    content-range content-type fastly-client-ip fly-client-ip if-match if-modified-since
    if-none-match if-range if-unmodified-since keep-alive last-event-id last-modified max-forwards
    retry-after set-cookie transfer-encoding true-client-ip upgrade-insecure-requests user-agent
    www-authenticate x-client-ip x-cluster-client-ip x-http-method-override x-original-url
    x-real-ip x-request-id x-requested-with x-rewrite-url
    """.split()  # noqa: SIM905 # easier to read
)
_RESERVED_FAMILIES = ("access-control-", "proxy-", "sec-", "x-forwarded-")
"""Headers with a hyphen that mean something else (RFC 9110, 9111, 9112; Fetch), or that proxies and
browsers write by themselves."""


class Transport(Protocol):
    """One way for a token to travel."""

    name: str
    purpose: str
    """What its tokens are bound to, so that they are worthless elsewhere."""
    signer: TokenSigner
    persistent: bool
    """Whether a new session's token is to outlive the browser, unless the app says otherwise."""
    domain: str | None
    """The domain that a cookie is for; None: the host, or no cookie."""
    carrier: str
    """The response header that tokens go out in, in lower case."""
    cookie_name: str
    """The session cookie's name, which an app may know, even where a header takes its place."""
    other: Transport | None
    """The other way, where there are two; its tokens are worthless here."""

    def candidates(self, environ: Environ) -> Candidates:
        """What the client sent under our name: at most a few values, unchecked."""
        ...

    def deliverable(self, *, secure: bool) -> bool:
        """Whether a token set on such a request would be kept by the client."""
        ...

    def set(self, token: str, *, secure: bool, max_age: int | None, now: float) -> Header:
        """The header that hands out a token.

        ``max_age`` is in seconds, None: the browser's life; ``now`` in UNIX seconds.
        """
        ...

    def expire(self, *, secure: bool) -> Header:
        """The header that takes the token back."""
        ...


class CookieTransport:
    """Tokens in a cookie."""

    __slots__ = (
        "_writer",
        "carrier",
        "cookie",
        "cookie_name",
        "domain",
        "name",
        "other",
        "persistent",
        "purpose",
        "signer",
    )

    def __init__(self, cookie: Cookie, secrets: tuple[bytes, ...]) -> None:
        self.cookie: Cookie = cookie
        self.name: str = cookie.name
        self.cookie_name: str = cookie.name
        self.carrier: str = "set-cookie"
        self.persistent: bool = cookie.persistent
        self.domain: str | None = cookie.domain
        self.purpose: str = f"cookie.{cookie.name}"
        self.signer: TokenSigner = TokenSigner(secrets, self.purpose)
        self.other: Transport | None = None
        self._writer = CookieWriter(cookie)

    def candidates(self, environ: Environ) -> Candidates:
        header = environ.get("HTTP_COOKIE")
        return find_candidates(header if isinstance(header, str) else "", self.name)

    def deliverable(self, *, secure: bool) -> bool:
        # A browser keeps and replaces a Secure cookie on a secure connection only
        # (RFC 6265bis section 5.7).
        return secure or self.cookie.secure is not True

    def set(self, token: str, *, secure: bool, max_age: int | None, now: float) -> Header:
        return "Set-Cookie", self._writer.set(token, secure=secure, max_age=max_age, now=now)

    def expire(self, *, secure: bool) -> Header:
        return "Set-Cookie", self._writer.expire(secure=secure)

    def expire_other(self, name: str, *, secure: bool) -> tuple[Header, ...]:
        """What takes another system's cookie back, if its path and domain are those of ours."""
        if name == self.name:
            return ()
        return (("Set-Cookie", _writer_of(self.cookie, name).expire(secure=secure)),)


class HeaderTransport:
    """Tokens in a request and response header of the same name."""

    __slots__ = (
        "carrier",
        "cookie_name",
        "domain",
        "environ_key",
        "name",
        "other",
        "persistent",
        "purpose",
        "signer",
    )

    def __init__(self, name: str, secrets: tuple[bytes, ...], cookie_name: str) -> None:
        self.name: str = name
        self.cookie_name: str = cookie_name
        self.carrier: str = name.lower()
        self.persistent: bool = False
        self.domain: str | None = None
        self.environ_key: str = environ_key(name)
        self.purpose: str = f"header.{name.lower()}"
        self.signer: TokenSigner = TokenSigner(secrets, self.purpose)
        self.other: Transport | None = None

    def candidates(self, environ: Environ) -> Candidates:
        value = environ.get(self.environ_key)
        text = value.strip(" \t") if isinstance(value, str) else ""
        return Candidates((text,) if text else (), False, None)

    def deliverable(self, *, secure: bool) -> bool:
        return True

    def set(self, token: str, *, secure: bool, max_age: int | None, now: float) -> Header:
        return self.name, token

    def expire(self, *, secure: bool) -> Header:
        return self.name, ""


@lru_cache(maxsize=64)
def _writer_of(cookie: Cookie, name: str) -> CookieWriter:
    """Writes a cookie of another name that is otherwise as ours."""
    try:
        return CookieWriter(replace(cookie, name=name))
    except ConfigurationError:
        # Its prefix promises what ours doesn't.
        return CookieWriter(Cookie(name, secure=True))


def environ_key(name: str) -> str:
    """The environ's key for a request header."""
    return "HTTP_" + name.upper().replace("-", "_")


def check_header_name(name: object) -> str | None:
    """``token_header`` as it was given.

    Raises:
        ConfigurationError: if it isn't the name of a header that can carry a token.
    """
    if name is None:
        return None
    if (
        not isinstance(name, str)
        or not re.fullmatch(_HEADER_NAME, name)
        or name.lower() in _RESERVED
        or name.lower().startswith(_RESERVED_FAMILIES)
        or len(name) > 64
    ):
        raise ConfigurationError(
            f"token_header is {name!r}; write a header name of your own with a hyphen, which"
            " neither HTTP nor proxies use, such as 'X-Session-Token', or None"
        )
    return name
