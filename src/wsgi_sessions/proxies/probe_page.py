"""The probe's page: HTML made from the plain data of a survey. It looks nothing up itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any

FORGED_ADDRESS = "192.0.2.66"
"""The address that the self-test claims to have; reserved for documentation (RFC 5737)."""
FORGED_SCHEME = "selftest"
"""The scheme that the self-test claims to use; no proxy would say that."""
UNDERSCORE_HEADER = "X_Proxy_Probe"
"""A name that a server either drops or takes for ``X-Proxy-Probe``. If it does the latter, it does
the same with ``X_Forwarded_For``, and a client can add to what the proxies wrote."""

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
.number { float: right; margin-left: 1rem; opacity: .8; }
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


POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: its own style and script, and nothing else."""


def page(found: Mapping[str, Any], address: str) -> str:
    """The page for a survey; ``address`` is its own, as far as it is known."""
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
<h1>Proxy probe: which proxies are in front of this app?</h1>
<section class="answer">
<p><code>{escape(right["setting"])}</code></p>
<p>{escape(right["because"])}</p>
</section>
{"".join(f'<p class="warning">{escape(warning)}</p>' for warning in found["warnings"])}
{_check(address, tested=found["tested"])}
<h2>The chain, from the app outwards</h2>
<ol>{"".join(map(_hop, found["chain"]))}</ol>
<h2>What each number would give</h2>
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
        "<h2>What your current setting gives</h2>"
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
