"""The two families of headers that proxies write, each read by one class of the same shape.

They find the entry that counts and note what is wrong with it; `parsing` knows
what a value may look like, and `resolve` uses the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .networks import within
from .parsing import (
    MAX_ENTRY,
    OWS,
    element_before,
    entry_before,
    nth_from_right,
    parse_address,
    parse_element,
    parse_node,
)
from .settings import TrustedProxies

X_FORWARDED = {
    "for": "HTTP_X_FORWARDED_FOR",
    "proto": "HTTP_X_FORWARDED_PROTO",
    "host": "HTTP_X_FORWARDED_HOST",
    "port": "HTTP_X_FORWARDED_PORT",
    "prefix": "HTTP_X_FORWARDED_PREFIX",
}
_MAX_WALK = 32
# Entries; nobody has so many proxies, but a client can send so many addresses.

T = TypeVar("T")


@dataclass(slots=True, eq=False, repr=False)
class XForwarded:
    """X-Forwarded-For and its siblings: lists, split on commas, and nothing else."""

    environ: Mapping[str, Any]
    proxies: TrustedProxies
    problems: list[str]

    def client(self, peer: str | None) -> str | None:
        """The client's address; None: it can't be known."""
        if self.proxies.networks:
            return self._walk(peer)
        return self.read("for", parse_address)

    def _walk(self, peer: str | None) -> str | None:
        header = self.environ.get(X_FORWARDED["for"])
        if header is None:
            if peer is None:
                self.problems.append("for_absent")
            return peer
        end = len(header)
        for _ in range(_MAX_WALK):
            text, end = entry_before(header, end)
            address = parse_address(text)
            if address is None:
                self.problems.append("for_malformed")
                return None
            if not within(address, self.proxies.networks):
                return address
            if end < 0:
                self.problems.append("all_trusted")
                return address
        self.problems.append("for_long")
        return None

    def read(self, kind: str, parse: Callable[[str], T | None]) -> T | None:
        """The value of the entry that counts; None, with the reason noted, if there is none."""
        header = self.environ.get(X_FORWARDED[kind])
        if header is None:
            # Host, port and prefix are what they are unless a proxy says otherwise.
            if kind in ("for", "proto"):
                self.problems.append(f"{kind}_absent")
            return None
        count: int = self.proxies.hops if kind == "for" else getattr(self.proxies, kind)
        entries = header.rsplit(",", count)
        if len(entries) < count:
            self.problems.append(f"{kind}_short")
            return None
        if len(entries) > count and self.proxies.exact:
            self.problems.append(f"{kind}_long")
            return None
        entry = entries[-count]
        value = parse(entry.strip(OWS)) if len(entry) < MAX_ENTRY else None
        if value is None:
            self.problems.append(f"{kind}_malformed")
        return value

    def other_family_present(self) -> bool:
        return "HTTP_FORWARDED" in self.environ


@dataclass(slots=True, eq=False, repr=False)
class Forwarded:
    """RFC 7239: one header, of which one element counts, with its own parameters only."""

    environ: Mapping[str, Any]
    proxies: TrustedProxies
    problems: list[str]
    parameters: Mapping[str, str] | None = None
    """The parameters of the element that counts; None: there is none, or it is unusable."""

    def client(self, peer: str | None) -> str | None:
        """The client's address; None: it can't be known. Finds the element that counts."""
        header = self.environ.get("HTTP_FORWARDED")
        if self.proxies.networks:
            return self._walk(header, peer)
        if header is None:
            self.problems.append("fwd_absent")
            return None
        text, end = nth_from_right(header, self.proxies.hops, element_before)
        if text is None:
            self.problems.append("fwd_short")
            return None
        if self.proxies.exact and end >= 0:
            self.problems.append("fwd_long")
            return None
        return self._address(text)

    def _walk(self, header: str | None, peer: str | None) -> str | None:
        if header is None:
            if peer is None or self.proxies.proto:
                self.problems.append("fwd_absent")
            return peer
        end = len(header)
        for _ in range(_MAX_WALK):
            text, end = element_before(header, end)
            address = self._address(text)
            if address is None or not within(address, self.proxies.networks):
                return address
            if end < 0:
                self.problems.append("all_trusted")
                return address
        self.parameters = None
        self.problems.append("fwd_long")
        return None

    def _address(self, element: str) -> str | None:
        """Let this be the element that counts, and say its address."""
        self.parameters = None
        parameters = parse_element(element)
        if isinstance(parameters, str):
            self.problems.append(parameters)
            return None
        self.parameters = parameters
        if "for" not in parameters:
            self.problems.append("for_absent")
            return None
        address, problem = parse_node(parameters["for"])
        if problem is not None:
            self.problems.append(problem)
        return address

    def read(self, kind: str, parse: Callable[[str], T | None]) -> T | None:
        """The value of a parameter of the element that counts; None if it has none."""
        if self.parameters is None:
            return None
        value = self.parameters.get(kind)
        if value is None:
            if kind == "proto":
                self.problems.append("proto_absent")
            return None
        parsed = parse(value)
        if parsed is None:
            self.problems.append(f"{kind}_malformed")
        return parsed

    def other_family_present(self) -> bool:
        return any(key in self.environ for key in X_FORWARDED.values())
