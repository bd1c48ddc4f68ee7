"""What the server says in DBSC: the headers and the JSON, as text. Pure; decides nothing.

Source: W3C "Device Bound Session Credentials" (working draft), and what Chromium makes of it.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from ..cookie import Cookie, CookieWriter
from .keys import ALGORITHMS
from .settings import DeviceBinding

OFFER = "Secure-Session-Registration"
CHALLENGE = "Secure-Session-Challenge"
SUFFIX = "-bound"
REGISTER, REFRESH = "/register", "/refresh"


def offer(path: str, challenge: str) -> tuple[str, str]:
    """The response header that offers to bind the session.

    Args:
        path: the registration's, as it goes into a URL.
        challenge: what the browser has to sign.
    """
    algorithms = " ".join(ALGORITHMS)
    return OFFER, f'({algorithms});path="{path}";challenge="{challenge}"'


def challenge(handle: str, text: str) -> tuple[str, str]:
    """The response header that gives the browser what it has to sign next.

    With a 403 from the refresh route it asks for a proof at once; on any other response the
    browser keeps it for its next refresh.
    """
    return CHALLENGE, f'"{text}";id="{handle}"'


def instructions(
    settings: DeviceBinding, cookie: Cookie, handle: str, script_name: str
) -> dict[str, Any]:
    """What the server says to the browser about a bound session (the answer of both routes).

    The scope's origin is left out: it is the origin that the browser asked, which the browser knows
    better than an app behind proxies.

    Args:
        settings: the options.
        cookie: the second cookie.
        handle: the session's; it is the identifier as well.
        script_name: SCRIPT_NAME, which comes before all paths.
    """
    prefix = url_path(script_name)
    return {
        "session_identifier": handle,
        "refresh_url": f"{prefix}{settings.path}{REFRESH}",
        "scope": {
            "include_site": False,
            "scope_specification": [
                {"type": "exclude", "domain": "*", "path": f"{prefix}{path}"}
                for path in settings.exclude
            ],
        },
        "credentials": [{"type": "cookie", "name": cookie.name, "attributes": attributes(cookie)}],
        "allowed_refresh_initiators": list(settings.initiators),
    }


def ending(handle: str) -> dict[str, Any]:
    """What tells the browser that this session is over, and its key of no more use."""
    return {"session_identifier": handle, "continue": False}


def to_json(value: dict[str, Any]) -> bytes:
    """The JSON in as few bytes as it can be."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def second_cookie(first: Cookie) -> Cookie:
    """The second cookie's settings: the first one's, under a name of its own, and always Secure.

    Chromium refuses to bind a cookie whose name begins with ``__Host-Http-``, so such a one's
    second cookie begins with ``__Host-``.
    """
    name = first.name
    if name.lower().startswith("__host-http-"):
        name = "__Host-" + name[len("__Host-Http-") :]
    return Cookie(
        name + SUFFIX,
        path=first.path,
        secure=True,
        httponly=first.httponly,
        samesite=first.samesite,
        persistent=True,
    )


def attributes(cookie: Cookie) -> str:
    """The cookie's attributes as the browser is to compare them; lifetimes don't count."""
    whole = CookieWriter(cookie).set("", secure=True, max_age=None, now=0)
    return whole.partition("; ")[2]


def url_path(script_name: str) -> str:
    """SCRIPT_NAME as it stands in URLs: WSGI servers unquote it, into Latin-1 (PEP 3333)."""
    return quote(script_name.encode("latin-1", "replace"), safe="/~!$&'()*+,;=:@")
