"""ProxyProbe: a page that shows the chain of proxies as it arrives, and which number is correct.

`survey` looks at one environ and returns what it found as plain data; ProxyProbe shows that as HTML
or JSON. Mount it only while an app is being set up: anybody who can reach it sees the addresses of
the proxies. It doesn't show other headers, cookies or the session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qs, quote

from .client import CLIENT_KEY, PROBLEMS, Client
from .networks import is_unix
from .parsing import element_before, entries_from_right, entry_before, parse_element
from .probe_page import FORGED_ADDRESS, FORGED_SCHEME, POLICY, page
from .resolve import original_environ, resolve_client
from .settings import MAX_HOPS, TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Family = Literal["x-forwarded", "forwarded"]

_UNDERSCORE_KEY = "HTTP_X_PROXY_PROBE"

_SHOWN = (
    "REMOTE_ADDR",
    "wsgi.url_scheme",
    "HTTP_HOST",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_FORWARDED",
)
_MAX_SHOWN = 300
# Characters of a value; of a longer one the end is shown, which is what counts.
_MAX_ENTRIES = MAX_HOPS + 2


def survey(environ: Mapping[str, Any]) -> dict[str, Any]:
    """What one request shows about the proxies in front of the app.

    Args:
        environ: as the server made it, or as the middleware rewrote it. With ``selftest`` in its
            query, the request counts as the self-test, which sends forged headers.

    Returns:
        plain data: ``received`` (the headers that matter), ``chain`` (who saw whom, the nearest
        first), ``settings`` (what each number of hops would give, and a verdict), ``right``
        (the setting to write, and why), ``warnings``, ``tested`` (bool) and ``now`` (what the
        middleware around the probe made of the request; None if there is none).
    """
    original = original_environ(environ)
    tested = "selftest" in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    seen = max(_look(original, "x-forwarded"), _look(original, "forwarded"), key=lambda s: s.hops)
    now = environ.get(CLIENT_KEY)
    return {
        "received": {key: _shown(original[key]) for key in _SHOWN if key in original},
        "chain": _chain(original, seen),
        "settings": [
            _outcome(original, seen, number)
            for number in range(min(MAX_HOPS, len(seen.addresses) + 1) + 1)
        ],
        "right": {
            "setting": _setting(seen, seen.hops),
            "sure": tested,
            "because": _reason(seen, tested=tested),
        },
        "warnings": _warnings(original, seen, tested=tested),
        "tested": tested,
        "now": _described(now) if isinstance(now, Client) else None,
    }


class _Seen(NamedTuple):
    """What one family of headers shows."""

    family: Family
    addresses: list[str]
    """As they arrived, the nearest first."""
    hops: int
    """How many of them proxies wrote."""
    proto: int
    """The setting that finds the scheme; 0: no proxy wrote any."""


def _look(environ: Mapping[str, Any], family: Family) -> _Seen:
    if family == "x-forwarded":
        addresses = entries_from_right(
            environ.get("HTTP_X_FORWARDED_FOR"), entry_before, _MAX_ENTRIES
        )
        schemes = entries_from_right(
            environ.get("HTTP_X_FORWARDED_PROTO"), entry_before, _MAX_ENTRIES
        )
        return _Seen(
            family, addresses, _count(addresses, FORGED_ADDRESS), _count(schemes, FORGED_SCHEME)
        )
    elements = [
        {} if isinstance(parameters, str) else parameters
        for parameters in map(
            parse_element,
            entries_from_right(environ.get("HTTP_FORWARDED"), element_before, _MAX_ENTRIES),
        )
    ]
    addresses = [element.get("for", "") for element in elements]
    hops = _count(addresses, FORGED_ADDRESS)
    return _Seen(family, addresses, hops, int(bool(hops) and "proto" in elements[hops - 1]))


def _count(entries: list[str], forged: str) -> int:
    """How many entries the proxies wrote: those to the right of the self-test's own, or all."""
    wrote = entries.index(forged) if forged in entries else len(entries)
    return min(wrote, MAX_HOPS)


def _chain(environ: Mapping[str, Any], seen: _Seen) -> list[dict[str, Any]]:
    remote = environ.get("REMOTE_ADDR") or ""
    peer = "a unix socket" if is_unix(remote) else remote
    chain = [{"hop": 0, "address": _shown(peer), "seen_by": "this server", "believable": True}]
    for hop, address in enumerate(seen.addresses, start=1):
        believable = hop <= seen.hops
        seen_by = f"proxy {hop}" if believable else "nobody: the client wrote it"
        chain.append(
            {"hop": hop, "address": _shown(address), "seen_by": seen_by, "believable": believable}
        )
    return chain


def _outcome(environ: Mapping[str, Any], seen: _Seen, number: int) -> dict[str, Any]:
    client = resolve_client(environ, TrustedProxies(number, proto=seen.proto, header=seen.family))
    if number == seen.hops:
        verdict, meaning = "right", "this one"
    elif number < seen.hops:
        verdict, meaning = "low", "too low: would take one of your proxies for the client"
    else:
        verdict, meaning = "high", "too high: would believe what a client sends"
    return {
        "hops": number,
        "setting": _setting(seen, number),
        "verdict": verdict,
        "meaning": meaning,
        **_described(client),
    }


def _described(client: Client) -> dict[str, Any]:
    return {
        "ip": client.ip,
        "scheme": client.scheme,
        "host": client.host,
        "problems": {problem: PROBLEMS[problem] for problem in client.problems},
    }


def _setting(seen: _Seen, hops: int) -> str:
    """The option, as one would write it."""
    options = [f"hops={hops}"]
    if seen.proto != 1:
        options.append(f"proto={seen.proto}")
    if seen.family == "forwarded":
        options.append("header='forwarded'")
    if hops == 0 or len(options) == 1:
        return f"trusted_proxies={hops}"
    return f"trusted_proxies=TrustedProxies({', '.join(options)})"


def _reason(seen: _Seen, *, tested: bool) -> str:
    if not seen.hops:
        return "Either there is no proxy in front, or none of them passes on the client's address."
    if not tested:
        return (
            "That many addresses arrived, and browsers don't send any of their own. Check with"
            " forged headers to be sure."
        )
    if seen.hops < len(seen.addresses):
        return (
            "The forged address arrived with that many others to its right: your proxies append"
            " what they see, and the outermost one was the first to do so."
        )
    return (
        "The forged address is gone: your outermost proxy replaces what a client sends. With"
        " exact=True, more entries than these are refused."
    )


def _warnings(environ: Mapping[str, Any], seen: _Seen, *, tested: bool) -> list[str]:
    warnings: list[str] = []
    if _UNDERSCORE_KEY in environ:
        warnings.append(
            "Header names with underscores reach the app: a client's X_Forwarded_For is taken for"
            " X-Forwarded-For, so it can be forged at any place in the chain. Have a proxy drop"
            " such names (nginx does, unless underscores_in_headers is on), or use a server that"
            " drops them (gunicorn 22 and later, waitress)."
        )
    if not seen.addresses and environ.get("SERVER_SOFTWARE") == "waitress":
        warnings.append(
            "waitress removes the headers that proxies write, unless the app is served with"
            " clear_untrusted_proxy_headers=False."
        )
    if seen.hops and not seen.proto:
        warnings.append(
            "No proxy says whether the client used https, so a client could claim anything. Have"
            " the outermost proxy set the scheme; until then, proto=0 ignores such claims."
        )
    if not seen.hops and seen.proto:
        warnings.append(
            "A proxy sets X-Forwarded-Proto, but none sets X-Forwarded-For. Have it set both."
        )
    if tested and not seen.hops and seen.addresses:
        warnings.append(
            "The forged address arrived just as it was sent: if there are proxies, they pass on"
            " what a client writes. Have each of them append the address that it sees."
        )
    other: Family = "forwarded" if seen.family == "x-forwarded" else "x-forwarded"
    if seen.hops and _look(environ, other).addresses:
        warnings.append(
            "Both X-Forwarded-For and Forwarded arrive. Only the one that you choose is read; have"
            " your outermost proxy remove the other."
        )
    if seen.hops and is_unix(environ.get("REMOTE_ADDR") or ""):
        warnings.append(
            "The nearest proxy connects through a unix socket: with peers=('unix',), headers are"
            " believed only from there."
        )
    return warnings


def _shown(text: str) -> str:
    shown = ascii(text[-_MAX_SHOWN:])[1:-1]
    return f"…{shown}" if len(text) > _MAX_SHOWN else shown


class ProxyProbe:
    """A WSGI app that shows the chain of proxies in front of it, hop by hop.

    Mount it temporarily, at a path of your choice, behind all the proxies; open that page from
    where your users are, and press the button. ``Accept: application/json`` or ``?format=json``
    returns the same as JSON. It works inside the middleware and without it.

    Example:
        >>> app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/proxy": ProxyProbe()})
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; any method, any path."""
        found = survey(environ)
        if _wants_json(environ):
            content_type = "application/json"
            body = json.dumps(found, indent=2).encode()
        else:
            content_type = "text/html; charset=utf-8"
            body = page(found, _address(environ)).encode()
        start_response(
            "200 OK",
            [
                ("Content-Type", content_type),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("Vary", "Accept"),
                ("Content-Security-Policy", POLICY),
                ("Referrer-Policy", "no-referrer"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Robots-Tag", "noindex"),
            ],
        )
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]


def _wants_json(environ: Mapping[str, Any]) -> bool:
    asked = parse_qs(str(environ.get("QUERY_STRING", ""))).get("format")
    if asked is not None:
        return asked[-1] == "json"
    accepted: str = environ.get("HTTP_ACCEPT", "")
    return "application/json" in accepted and "text/html" not in accepted


def _address(environ: Mapping[str, Any]) -> str:
    """The page's own address, as far as it is known, for the line to copy."""
    client = environ.get(CLIENT_KEY) or resolve_client(environ, 0)
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    # Quoted, so that no path can break out of the line when it is copied into a shell.
    return f"{client.scheme}://{client.host}{quote(path, encoding='latin-1', errors='replace')}"
