"""A small model of a shared cache: RFC 9111, as far as it matters here.

It stores what it may (sections 3 and 3.5), keyed by the URL and by what Vary names (section 4.1),
and answers from that while it is fresh; a freshness lifetime that nobody said is made up, as caches
do (section 4.2.2). What must be asked about again before each use is not kept. It obeys CDN-Cache-Control (RFC 9213) and, like careless caches, keeps a
Set-Cookie with the rest.
"""

from __future__ import annotations

from typing import Any

from wsgi import Response, call, environ

HEURISTIC = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})


class SharedCache:
    """Stands between browsers and one app."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.hits = 0
        self._kept: dict[str, list[tuple[dict[str, str], Response]]] = {}

    def get(self, path: str, cookie: str | None, **extra: Any) -> Response:
        made = environ(path, cookie=cookie, **extra)
        for varied, response in self._kept.get(path, []):
            if all(str(made.get(name, "")) == value for name, value in varied.items()):
                self.hits += 1
                return response
        response = call(self.app, made, check=False)
        selecting = self._varied(response, made)
        if selecting is not None and _may_store(response):
            self._kept.setdefault(path, []).append((selecting, response))
        return response

    def _varied(self, response: Response, made: dict[str, Any]) -> dict[str, str] | None:
        names = [name.strip() for value in response.all("Vary") for name in value.split(",")]
        if "*" in names:
            return None
        keys = ["HTTP_" + name.upper().replace("-", "_") for name in names if name]
        return {key: str(made.get(key, "")) for key in keys}


def _directives(values: list[str]) -> dict[str, str]:
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    return {part.partition("=")[0].lower(): part.partition("=")[2] for part in parts}


def _may_store(response: Response) -> bool:
    said = _directives(response.all("CDN-Cache-Control") or response.all("Cache-Control"))
    # With a value, private and no-cache speak of those headers alone (sections 5.2.2.4, 5.2.2.7).
    if "no-store" in said or said.get("private") == "" or said.get("no-cache") == "":
        return False
    if "s-maxage" in said or "max-age" in said:
        return said.get("s-maxage", said.get("max-age")) != "0"
    return "public" in said or response.code in HEURISTIC
