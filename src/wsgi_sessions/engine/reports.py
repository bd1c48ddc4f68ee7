"""What the engine reports to listeners and the log: events, and longer explanations.

Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import advice
from ..errors import StoreError
from ..events import EventSink, printable
from ..http.transport import CookieTransport
from ..proxies import PROBLEMS
from .state import Request, Stored

_LOOKS: dict[advice.Look, str] = {
    "another secret": "signed with another secret",
    "another store": "made for another kind of store",
    "cut short": "cut short",
    "not ours": "not a token of ours",
    "misplaced": "the token of {other!r}",
}

# Problems with what proxies say that leave the scheme unknown, or tell why it is.
_OF_SCHEME = {"peer_untrusted", "other_family_ignored"}.union(
    code for code in PROBLEMS if code.startswith(("proto_", "fwd_"))
)


class Reports:
    """Events of the engine, with what the request adds to them.

    Args:
        events: where they go.
    """

    __slots__ = ("_events",)

    def __init__(self, events: EventSink) -> None:
        self._events = events

    def emit(
        self,
        kind: str,
        request: Request,
        stored: Stored | None = None,
        *,
        handle: str | None = None,
        owner: str | None = None,
        detail: str = "",
    ) -> None:
        """Report an event; handle and owner are those of ``stored`` if not given.

        In an outage one call fails after the other, so one line per request is enough.
        """
        quiet = kind == "store_error" and kind in request.logged
        request.logged.add(kind)
        if stored is not None:
            handle = handle or stored.id.key
            owner = owner or stored.record.owner
        self._events.emit(
            kind,
            handle=handle,
            owner=owner,
            client_ip=request.client_ip,
            detail=detail,
            quiet=quiet,
        )

    def write_after_end(self, request: Request, stored: Stored) -> None:
        """A write was dropped, as the session has ended. Once a request: what `save()` couldn't
        write, its end tries again.
        """
        if "write_after_end" not in request.logged:
            self.emit("write_after_end", request, stored)

    def outage(self, request: Request | None, error: StoreError) -> None:
        """A StoreError that nobody handled, unless this request has already reported one."""
        detail = f"{error.operation or 'store'}: {error}"
        if request is None:
            self._events.emit("store_error", detail=detail)
        elif "store_error" not in request.logged:
            self.emit("store_error", request, detail=detail)

    def bad_signature(
        self, request: Request, mark: str, *, shared: bool = False, misplaced: bool = False
    ) -> None:
        """None of the tokens could be verified.

        Args:
            request: that brought them.
            mark: how tokens of the store begin (`advice.look_of`).
            shared: whether old cookies of another system come under the same name; then what to do
                about one that isn't ours is said where that system's source is asked.
            misplaced: whether one is a cookie's that came in the header, or the other way round.
        """
        if not self._events.is_heard("bad_signature"):
            return
        transport = request.transport
        name = transport.name
        look = "misplaced" if misplaced else advice.look_of(request.tokens, mark)
        other = "" if transport.other is None else transport.other.name
        self.emit("bad_signature", request, detail=f"{name}: {_LOOKS[look].format(other=other)}")
        key = f"bad-signature-{look}-{transport.carrier}"
        elsewhere = shared and look == "not ours"
        if not elsewhere and not self._events.is_explained(key):
            # A rare answer, so its kind is found out here and not kept.
            header = not isinstance(transport, CookieTransport)
            text = advice.bad_signature(look, name, other, header=header)
            self._events.explain(key, text, per_process=True)

    def cookie_not_found(self, request: Request, why: str) -> None:
        """There is no session, and not all that the client sent was read."""
        self.emit("cookie_not_found", request, detail=why)
        text = advice.cookie_beyond(request.transport.name, why)
        self._events.explain("cookie-beyond", text, per_process=True)

    def capped_lifetime(self, limit: str, asked: float, cap: float) -> None:
        """A session was given a longer lifetime than it can have."""
        self._events.explain(
            f"lifetime-{limit}", advice.capped_lifetime(limit, asked, cap), per_process=True
        )

    def insecure_replay(self, request: Request, handle: str, owner: str | None) -> None:
        """A session that was begun over https came in over http."""
        detail = "a secure session's cookie came over http"
        self.emit("insecure", request, handle=handle, owner=owner, detail=detail)
        cure = _cure_of_insecure(request.proxy_problems)
        self._events.explain(
            f"insecure-replay: {cure}",
            f"A session that was begun over https came in over http, and was not used. {cure}.",
        )

    def insecure_cookie(self, request: Request) -> None:
        """A Secure cookie would have been needed on a request that isn't secure."""
        self.emit("insecure", request, detail="a Secure cookie can't be set over http")
        cure, proto = _cure_of_insecure(request.proxy_problems), request.forwarded_proto
        seen = "absent" if proto is None else repr(printable(str(proto), 40))
        self._events.explain(
            f"insecure-cookie: {cure}",
            f"The cookie {request.transport.name!r} has secure=True, but this request is not secure"
            f" (wsgi.url_scheme is {request.scheme!r}, X-Forwarded-Proto is {seen}), so it was"
            f" neither set nor expired, and no session is kept. {cure}; for development over http,"
            " use Cookie(secure='auto').",
        )

    def after_comma(self) -> None:
        """A cookie was found where only a server's mistake puts it."""
        self._events.explain(
            "cookie-after-comma",
            "The session's cookie was found after a comma: a server or proxy joins several Cookie"
            " lines of HTTP/2 by comma instead of '; ' (RFC 9113 section 8.2.3). It works, but a"
            " cookie whose name has a prefix, such as __Host-, would be lost. Let the proxy in"
            " front join them.",
            per_process=True,
        )

    def foreign_domain(self, domain: str, host: str) -> None:
        """A cookie was set that the browser of this request won't keep."""
        text = advice.foreign_domain(domain, printable(host, 100))
        self._events.explain("foreign-domain", text, per_process=True)

    def cookie_conflict(self, request: Request, number: int) -> None:
        """The client presented several live sessions, so that none is used."""
        self.emit("cookie_conflict", request, detail=f"{number} live sessions")
        text = advice.cookie_conflict(request.transport.name)
        self._events.explain("cookie-conflict", text, per_process=True)

    def late_access(self) -> None:
        """Vary could not be added to a response."""
        self._events.explain(
            "late-access",
            "A session was first used after the response's headers went out, so Vary: Cookie is"
            " missing from it and a shared cache may keep it. Read the session before the body's"
            " first chunk.",
        )

    def old_cookie_unverified(self, cookie: str, source: str) -> None:
        """A cookie came that a source of ``carry_over`` can't verify."""
        text = advice.old_cookie_unverified(cookie, source)
        self._events.explain(f"old-cookie-{source}", text, per_process=True)

    def sources_over(self, systems: list[str]) -> None:
        """Some sources in ``carry_over`` are past their ``until``."""
        self._events.explain(
            "carry-over-ended",
            f"Nothing is carried over from {', '.join(systems)} any more, as until has passed; take"
            " it out of carry_over, and delete what is left of the old sessions.",
        )


def _cure_of_insecure(problems: Sequence[str] | None) -> str:
    """What to do where a request that should be secure isn't, as far as the app can see.

    Args:
        problems: codes of what was wrong with what the trusted proxies say; None: none are trusted.
    """
    if problems is None:
        return (
            "Behind a proxy that speaks TLS, have it set X-Forwarded-Proto, and set trusted_proxies"
            " to the number of proxies (see ProxyProbe)"
        )
    why = "; ".join(f"{PROBLEMS[code]} ({code})" for code in problems if code in _OF_SCHEME)
    if not why:
        return (
            "The trusted proxies say that the client used http, or aren't trusted with the scheme"
            " (proto=0). Have the outermost proxy redirect http to https, or set proto=1"
        )
    return (
        f"From the trusted proxies no https could be learned: {why}. Have the outermost proxy set"
        " X-Forwarded-Proto (or proto in Forwarded), and the server pass it on, which waitress"
        " doesn't unless it is started with clear_untrusted_proxy_headers=False (see ProxyProbe)"
    )
