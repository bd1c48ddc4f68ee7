"""A small model of a browser's cookie jar: RFC 6265bis sections 5.5 to 5.8, as far as it matters.

Strict where browsers are: it drops what they drop, so a cookie that is set wrongly never arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wsgi import Response, call, environ

_SAME_SITE = {
    "strict": {"itself"},
    "lax": {"itself", "link"},
    "none": {"itself", "link", "form", "frame"},
}
MAX_AGE = 400 * 24 * 60 * 60


@dataclass
class Kept:
    """One cookie in the jar."""

    value: str
    expires_at: float | None
    """UNIX seconds; None: with the browser's end."""
    secure: bool
    http_only: bool
    host_only: bool
    same_site: str
    partition: str | None


class Jar:
    """A browser that visits one host after the other. Keys are name, domain, path, partition."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.kept: dict[tuple[str, str, str, str | None], Kept] = {}
        self.dropped: list[str] = []

    def store(self, header: str, *, host: str, path: str, secure: bool, top: str) -> None:
        """Section 5.7: what one Set-Cookie does."""
        parts = [part.strip(" \t") for part in header.split(";")]
        name, equals, value = parts[0].partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not equals or not name or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", header):
            return self._drop(header)
        if len(name) + len(value) > 4096:
            return self._drop(header)
        given: dict[str, str] = {}
        for part in parts[1:]:
            key, _, text = part.partition("=")
            if len(text) <= 1024:
                given[key.strip(" \t").lower()] = text.strip(" \t")
        domain = given.get("domain", "").lower().removeprefix(".")
        if domain and host != domain and not host.endswith("." + domain):
            return self._drop(header)
        cookie_path = given.get("path", "")
        if not cookie_path.startswith("/"):
            cookie_path = path.rpartition("/")[0] or "/"
        is_secure = "secure" in given
        if is_secure and not secure:
            return self._drop(header)
        if not self._prefix_ok(name, given, is_secure=is_secure, domain=domain, path=cookie_path):
            return self._drop(header)
        if given.get("samesite", "").lower() == "none" and not is_secure:
            return self._drop(header)
        if "partitioned" in given and not is_secure:
            return self._drop(header)
        partition = top if "partitioned" in given else None
        place = (name, domain or host, cookie_path, partition)
        if not secure and self._overlays_secure(name, domain or host, cookie_path):
            return self._drop(header)
        expires_at = self._expiry(given)
        if expires_at is not None and expires_at <= self.clock():
            self.kept.pop(place, None)
            return None
        self.kept[place] = Kept(
            value, expires_at, is_secure, "httponly" in given, not domain,
            given.get("samesite", "Lax"), partition,
        )  # fmt: skip
        return None

    def _drop(self, header: str) -> None:
        self.dropped.append(header)

    def _prefix_ok(
        self, name: str, given: dict[str, str], *, is_secure: bool, domain: str, path: str
    ) -> bool:
        lower = name.lower()
        if lower.startswith(("__secure-", "__http-", "__host-")) and not is_secure:
            return False
        if lower.startswith(("__http-", "__host-http-")) and "httponly" not in given:
            return False
        return not lower.startswith("__host-") or (not domain and given.get("path") == path == "/")

    def _overlays_secure(self, name: str, domain: str, path: str) -> bool:
        return any(
            kept.secure and key[0] == name and domain_matches(domain, key[1], host_only=False)
            and path_matches(key[2], path)
            for key, kept in self.kept.items()
        )  # fmt: skip

    def _expiry(self, given: dict[str, str]) -> float | None:
        age = given.get("max-age", "")
        if re.fullmatch(r"-?[0-9]+", age):
            return self.clock() + min(int(age), MAX_AGE) if int(age) > 0 else 0.0
        return 0.0 if "1970" in given.get("expires", "") else None

    def header(
        self, *, host: str, path: str, secure: bool, top: str, sent_from: str = "itself"
    ) -> str | None:
        """Section 5.8.3: the Cookie header of a request.

        ``sent_from``: the site itself; or another one, by a link that is followed ("link"), a form
        that is posted ("form"), or from within its page ("frame": pictures, scripts, frames).
        """
        self._sweep()
        sent = [
            (key, kept)
            for key, kept in self.kept.items()
            if domain_matches(host, key[1], host_only=kept.host_only)
            and path_matches(key[2], path)
            and (secure or not kept.secure)
            and kept.partition in (None, top)
            and sent_from in _SAME_SITE[kept.same_site.lower()]
        ]
        sent.sort(key=lambda pair: -len(pair[0][2]))
        return "; ".join(f"{key[0]}={kept.value}" for key, kept in sent) or None

    def _sweep(self) -> None:
        now = self.clock()
        gone = [k for k, kept in self.kept.items() if kept.expires_at and kept.expires_at <= now]
        for key in gone:
            del self.kept[key]

    def close(self) -> None:
        """The browser ends: session cookies go."""
        self.kept = {key: kept for key, kept in self.kept.items() if kept.expires_at is not None}

    def get(
        self,
        app: Any,
        path: str,
        *,
        host: str = "app.example.com",
        secure: bool = True,
        top: str | None = None,
        sent_from: str = "itself",
        answered: bool = True,
    ) -> Response:
        """One request to a host. ``answered``: whether the answer arrives."""
        where: dict[str, Any] = {"host": host, "path": path, "secure": secure, "top": top or host}
        made = environ(
            path,
            cookie=self.header(**where, sent_from=sent_from),
            HTTP_HOST=host,
            **{"wsgi.url_scheme": "https" if secure else "http"},
        )
        response = call(app, made, check=False)
        for value in response.all("Set-Cookie") if answered else ():
            self.store(value, **where)
        return response

    def value(self, name: str) -> str | None:
        """The value of the one cookie of this name."""
        self._sweep()
        found = [kept.value for key, kept in self.kept.items() if key[0] == name]
        assert len(found) <= 1
        return found[0] if found else None


def domain_matches(host: str, domain: str, *, host_only: bool) -> bool:
    """Section 5.1.3."""
    return host == domain or (not host_only and host.endswith("." + domain))


def path_matches(cookie_path: str, path: str) -> bool:
    """Section 5.1.4."""
    return path == cookie_path or (
        path.startswith(cookie_path)
        and (cookie_path.endswith("/") or path[len(cookie_path)] == "/")
    )
