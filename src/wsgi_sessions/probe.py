"""ProxyProbe: a page that shows the chain of proxies as it arrives, and which number is right.

`survey` looks at one environ and says what it found, as plain data; ProxyProbe shows that as HTML
or JSON. It is to be mounted for a moment while an app is being set up: anybody who can reach it
sees the addresses of the proxies. It shows no other headers, no cookies and no session.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qs, quote

from .forwarding import element_before, entry_before, parse_element
from .networks import is_unix
from .proxies import (
    CLIENT_KEY,
    MAX_HOPS,
    PROBLEMS,
    Client,
    TrustedProxies,
    original_environ,
    resolve_client,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Family = Literal["x-forwarded", "forwarded"]

FORGED_ADDRESS = "192.0.2.66"
"""What the self-test claims to be its address; it is kept for documentation (RFC 5737)."""
FORGED_SCHEME = "selftest"
"""What the self-test claims to be its scheme; no proxy says that."""
UNDERSCORE_HEADER = "X_Proxy_Probe"
"""A name that a server drops, or takes for ``X-Proxy-Probe``: then it does the same with
``X_Forwarded_For``, and a client can write next to what the proxies wrote."""

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
    """What one request tells about the proxies in front of the app.

    Args:
        environ: as the server made it, or as the middleware rewrote it. With ``selftest`` in its
            query the request is taken for the self-test, which sends forged headers.

    Returns:
        plain data: ``received`` (the headers that matter), ``chain`` (who saw whom, the nearest
        first), ``settings`` (what each number of hops would make of it, and a verdict), ``right``
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
        addresses = _entries(environ.get("HTTP_X_FORWARDED_FOR"), entry_before)
        schemes = _entries(environ.get("HTTP_X_FORWARDED_PROTO"), entry_before)
        return _Seen(
            family, addresses, _count(addresses, FORGED_ADDRESS), _count(schemes, FORGED_SCHEME)
        )
    elements = [
        {} if isinstance(parameters, str) else parameters
        for parameters in map(
            parse_element, _entries(environ.get("HTTP_FORWARDED"), element_before)
        )
    ]
    addresses = [element.get("for", "") for element in elements]
    hops = _count(addresses, FORGED_ADDRESS)
    return _Seen(family, addresses, hops, int(bool(hops) and "proto" in elements[hops - 1]))


def _entries(header: str | None, before: Callable[[str, int], tuple[str, int]]) -> list[str]:
    entries: list[str] = []
    end = -1 if header is None else len(header)
    while header is not None and end >= 0 and len(entries) < _MAX_ENTRIES:
        text, end = before(header, right := end)
        entries.append(text)
        if end == right:
            break  # unreadable from there on
    return entries


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
        verdict, meaning = "low", "too low: takes a proxy of yours for the client"
    else:
        verdict, meaning = "high", "too high: believes what a client writes"
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
    """The option as it is to be written."""
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
        return "No proxy has written the client's address, or there is no proxy."
    if not tested:
        return (
            "So many addresses arrived, and browsers send none themselves. Check with forged"
            " headers to be sure."
        )
    if seen.hops < len(seen.addresses):
        return (
            "The forged address arrived with so many others to its right: your proxies append what"
            " they see, and the outermost one was the first to do so."
        )
    return (
        "The forged address is gone: your outermost proxy replaces what a client sends. With"
        " exact=True, more entries than these are refused."
    )


def _warnings(environ: Mapping[str, Any], seen: _Seen, *, tested: bool) -> list[str]:
    warnings: list[str] = []
    if _UNDERSCORE_KEY in environ:
        warnings.append(
            "Header names with underscores reach the app: X_Forwarded_For from a client is taken"
            " for X-Forwarded-For, and so can be forged at any place in the chain. Let a proxy drop"
            " such names (nginx does, unless underscores_in_headers is on), or serve the app with"
            " a server that drops them (gunicorn 22 and later, waitress)."
        )
    if not seen.addresses and environ.get("SERVER_SOFTWARE") == "waitress":
        warnings.append(
            "waitress removes what proxies write unless it is told to pass it on; serve the app"
            " with clear_untrusted_proxy_headers=False."
        )
    if seen.hops and not seen.proto:
        warnings.append(
            "No proxy says whether the client came by https, so a client could say it. Let the"
            " outermost proxy set the scheme; until then, proto=0 keeps the client's word out."
        )
    if not seen.hops and seen.proto:
        warnings.append(
            "A proxy sets X-Forwarded-Proto, but none sets X-Forwarded-For. Let it set both."
        )
    if tested and not seen.hops and seen.addresses:
        warnings.append(
            "The forged address arrived as it was sent: if there are proxies, they pass on what a"
            " client writes. Let each of them append the address that it sees."
        )
    other: Family = "forwarded" if seen.family == "x-forwarded" else "x-forwarded"
    if seen.hops and _look(environ, other).addresses:
        warnings.append(
            "Both X-Forwarded-For and Forwarded arrive. Only the one that you choose is read; let"
            " your outermost proxy remove the other."
        )
    if seen.hops and is_unix(environ.get("REMOTE_ADDR") or ""):
        warnings.append(
            "The nearest proxy connects through a unix socket: with peers=('unix',), headers are"
            " believed from there alone."
        )
    return warnings


def _shown(text: str) -> str:
    shown = ascii(text[-_MAX_SHOWN:])[1:-1]
    return f"…{shown}" if len(text) > _MAX_SHOWN else shown


class ProxyProbe:
    """A WSGI app that shows the chain of proxies in front of it, hop by hop.

    Mount it for a moment, at a path of your choice, behind all proxies; open that page from where
    your users are, and press the button. ``Accept: application/json`` or ``?format=json`` gives
    the same as JSON. Works inside the middleware and without it.

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
            body = _page(found, _address(environ)).encode()
        start_response(
            "200 OK",
            [
                ("Content-Type", content_type),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("Vary", "Accept"),
                ("Content-Security-Policy", _POLICY),
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
    # Quoted, so that no path breaks out of the line that is copied into a shell.
    return f"{client.scheme}://{client.host}{quote(path, encoding='latin-1', errors='replace')}"


# The page

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #1a7f37; --bad: #b35900; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #e3a03c; } }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.1rem; font-weight: 600; margin: 0 0 1rem; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; }
code, pre { font: 0.9em ui-monospace, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; background: var(--soft); padding: .75rem; border-radius: .5rem; }
.answer { border: 2px solid var(--good); border-radius: .75rem; padding: 1rem; }
.answer code { font-size: 1.25rem; font-weight: 600; color: var(--good); }
.warning { border-left: 4px solid var(--bad); background: var(--soft); padding: .5rem .75rem; }
ol, ul { list-style: none; margin: 0; padding: 0; }
li { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem; margin: .4rem 0; }
li > span { display: block; }
.number { float: right; margin-left: 1rem; opacity: .7; }
.small { font-size: .875rem; opacity: .8; }
.right { border: 2px solid var(--good); }
.right .small { color: var(--good); opacity: 1; }
.low, .high, .doubtful { border-style: dashed; opacity: .75; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dt { opacity: .7; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } }
button { font: inherit; padding: .5rem 1rem; border-radius: .5rem; border: 1px solid var(--line); }
"""

_SCRIPT = f"""
const here = () => {{
  document.getElementById("here").textContent = location.origin + location.pathname;
}};
here();
document.addEventListener("click", async (event) => {{
  if (event.target.id !== "check") return;
  event.target.disabled = true;
  const headers = {{
    "X-Forwarded-For": "{FORGED_ADDRESS}",
    "X-Forwarded-Proto": "{FORGED_SCHEME}",
    "Forwarded": "for={FORGED_ADDRESS};proto={FORGED_SCHEME}",
    "{UNDERSCORE_HEADER}": "1",
    "Accept": "text/html",
  }};
  const answer = await fetch("?selftest", {{ headers, cache: "no-store" }});
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
  here();
}});
"""


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


_POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _page(found: Mapping[str, Any], address: str) -> str:
    right = found["right"]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Proxy probe</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Proxy probe: which proxies stand in front of this app?</h1>
<section class="answer">
<p><code>{escape(right["setting"])}</code></p>
<p>{escape(right["because"])}</p>
</section>
{"".join(f'<p class="warning">{escape(warning)}</p>' for warning in found["warnings"])}
{_check(address, tested=found["tested"])}
<h2>The chain, from the app outwards</h2>
<ol>{"".join(map(_hop, found["chain"]))}</ol>
<h2>What each number would make of it</h2>
<ul>{"".join(map(_row, found["settings"]))}</ul>
{_now(found["now"])}
<h2>What arrived</h2>
<dl>{"".join(map(_line, found["received"].items()))}</dl>
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _check(address: str, *, tested: bool) -> str:
    curl = (
        f"curl -H 'X-Forwarded-For: {FORGED_ADDRESS}' -H 'X-Forwarded-Proto: {FORGED_SCHEME}'"
        f" -H 'Forwarded: for={FORGED_ADDRESS};proto={FORGED_SCHEME}'"
        f" -H '{UNDERSCORE_HEADER}: 1'"
    )
    said = "Checked with forged headers." if tested else "Not checked with forged headers yet."
    again = "Check again" if tested else "Check with forged headers"
    return (
        f'<p>{said}</p><p><button id="check">{again}</button></p>'
        f'<p class="small">The same from a terminal:</p><pre>{escape(curl)}'
        f" '<span id=\"here\">{escape(address)}</span>?selftest&amp;format=json'</pre>"
    )


def _hop(hop: Mapping[str, Any]) -> str:
    kind = "believed" if hop["believable"] else "doubtful"
    return (
        f'<li class="{kind}"><span class="number">{hop["hop"]}</span>'
        f"<code>{escape(hop['address'] or '(empty)')}</code>"
        f'<span class="small">seen by {escape(hop["seen_by"])}</span></li>'
    )


def _row(row: Mapping[str, Any]) -> str:
    return (
        f'<li class="{row["verdict"]}"><span class="number">{row["hops"]}</span>'
        f"<code>{escape(_words(row))}</code>"
        f'<span class="small">{escape(row["meaning"])}</span>{_problems(row)}</li>'
    )


def _now(now: Mapping[str, Any] | None) -> str:
    if now is None:
        return ""
    return (
        "<h2>What your present setting makes of it</h2>"
        f"<ul><li><code>{escape(_words(now))}</code>{_problems(now)}</li></ul>"
    )


def _line(received: tuple[str, str]) -> str:
    name, value = received
    return f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>"


def _words(client: Mapping[str, Any]) -> str:
    return f"{client['ip'] or 'client unknown'}, {client['scheme']}"


def _problems(client: Mapping[str, Any]) -> str:
    return "".join(
        f'<span class="small">{escape(code)}: {escape(words)}</span>'
        for code, words in client["problems"].items()
    )
