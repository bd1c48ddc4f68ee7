"""What the log says once: what is probably wrong, and what to set. Texts and guesses only.

What requests show of proxies has a module of its own, `proxies.advice`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

NO_STORE = (
    "No store was given, so each of the server's processes keeps sessions of its own, and users"
    " will lose theirs from one request to the next. Give a store that the processes share, such as"
    " store='file:///var/lib/app/sessions' or store='redis://localhost'."
)
MEMORY_STORE = (
    "The store keeps sessions in memory (MemoryStore, memory://), and the server runs several"
    " processes, each with sessions of its own, so users will lose theirs from one request to the"
    " next. Give a store that the processes share, such as store='file:///var/lib/app/sessions' or"
    " store='redis://localhost', or run one process."
)

Look = Literal["another secret", "another store", "cut short", "not ours", "misplaced"]

_OURS = r"[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}|([es]1\.)[A-Za-z0-9_.-]+"
_CUT = r"[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{0,42}"


def look_of(tokens: Sequence[str], mark: str) -> Look:
    """What tokens that couldn't be verified look like. A guess: anybody can send anything.

    Args:
        tokens: what was sent.
        mark: how tokens of this store begin (`ClientSeal.mark`); empty: it is one on the server.
    """
    marks = {match[1] or "" for token in tokens if (match := re.fullmatch(_OURS, token))}
    if marks:
        return "another secret" if mark in marks else "another store"
    return "cut short" if any(re.fullmatch(_CUT, token) for token in tokens) else "not ours"


def bad_signature(look: Look, name: str, other: str = "", *, header: bool) -> str:
    """What to do about a cookie or ``header`` of this name that couldn't be verified.

    ``other`` is the name of the header, or the cookie, beside it.
    """
    texts = _BAD_HEADER if header else _BAD_SIGNATURE
    return texts[look].format(name=repr(name), other=repr(other))


_OTHERWISE_SIGNED = (
    "A token in {name} has the form of ours, but was signed with another secret. Probably the"
    " secret key differs between processes, machines or restarts (one made at the start, such"
    " as os.urandom(32), is new each time), or was changed: give all of them the same, and put"
    " the former one after it, secret_key=[new, old]."
)
_ELSEWHERE = (
    "A token in {name} has the form of ours, but not of this store: a session in a store on the"
    " server, one that ClientSideStore encrypts, and one that it only signs have a token each, and"
    " no other reads it. If the store or its encrypt was changed, users have to sign in once more."
    " Otherwise processes have different stores: give all of them the same."
)
_OTHER_APP = (
    " If another app on this host has wsgi-sessions as well, give one of the two another"
    " Cookie(name=…)."
)
_BAD_SIGNATURE: dict[Look, str] = {
    "another secret": _OTHERWISE_SIGNED + _OTHER_APP,
    "another store": _ELSEWHERE + _OTHER_APP,
    "cut short": (
        "A token in {name} was cut short on its way. Look for what limits or rewrites cookies: a"
        " client that keeps only so many characters, a proxy, a firewall."
    ),
    "not ours": (
        "A value in {name} isn't a token of ours. Probably another app on this host or a parent"
        " domain sets a cookie of the same name, or one that ran here before did (Flask's own"
        " session does, as 'session'): give ours another Cookie(name=…)."
    ),
    "misplaced": (
        "A client sent the token of the header {other} in the cookie {name}, where it isn't valid."
        " Have it send that in the header."
    ),
}
_OTHER_CARRIER = " A token is good for the app that gave it and in the header {name} alone."
_BAD_HEADER: dict[Look, str] = {
    "another secret": _OTHERWISE_SIGNED + _OTHER_CARRIER,
    "another store": _ELSEWHERE + _OTHER_CARRIER,
    "cut short": (
        "A token in the header {name} was cut short on its way. Look for what limits or rewrites"
        " headers: a client that keeps only so many characters, a proxy, a firewall."
    ),
    "not ours": (
        "A value in the header {name} isn't a token of ours. Have the client send just what the"
        " last response with that header gave it, without quotes or a word in front, and an empty"
        " header to ask for a first one."
    ),
    "misplaced": (
        "A client sent the token of the cookie {other} in the header {name}, where it isn't valid."
        " Have it send just what the last response with the header {name} gave it, and an empty"
        " header to ask for a first one."
    ),
}


def old_cookie_unverified(cookie: str, source: str) -> str:
    """A cookie of this name came that this source of ``carry_over`` couldn't verify."""
    return (
        f"A cookie {cookie!r} came that isn't signed as {source}(…) was told to expect, so no"
        f" session was carried over from it. If all of them are like this, give {source} the secret"
        " that the old app signs with (a list, if it has several), or leave the secret out where"
        " that app signs nothing. A single one may be somebody's guess, or another app's, which a"
        " cookie name of its own would keep apart."
    )


def cookie_beyond(name: str, why: str) -> str:
    """A request's cookie may be in what wasn't read; ``why`` says what that is."""
    return (
        f"No session was found, but the cookie {name!r} may be in what wasn't read: {why}. Have"
        " this host and its parent domains set fewer and smaller cookies, or give the app a host"
        " name of its own; if other apps set cookies of that name, choose another Cookie(name=…)."
    )


def cookie_conflict(name: str) -> str:
    """A client sent tokens of several live sessions."""
    return (
        f"A client sent {name!r} several times, for different live sessions, so none of them was"
        " used: their order says nothing about which is the user's. Probably the cookie's path or"
        " domain was changed, or a parent domain sets one of the same name with the same secret."
        " login() and destroy() end all that came; giving the cookie another Cookie(name=…) lets"
        " go of all former ones."
    )


def foreign_domain(domain: str, host: str) -> str:
    """A cookie of this domain was set in an answer for that host."""
    return (
        f"The session cookie is for domain={domain!r}, but this request came to {host!r}, and a"
        " browser that did so doesn't keep the cookie. Leave domain out for a cookie of this host"
        " alone, or set one that covers it; if browsers see another host, let the proxy pass"
        " theirs on."
    )


def capped_lifetime(limit: str, asked: float, cap: float) -> str:
    """A session asked for more time than the middleware gives any of them. Seconds."""
    wanted, unit = ("None", "") if math.isinf(asked) else (f"{asked:g}", " seconds")
    return (
        f"session.lifetime asked for {limit}={wanted}{unit}, but the middleware's lifetime has"
        f" {limit}={cap:g}, and no session lives longer than that. Give the middleware the longest"
        f" one, lifetime=Lifetime({limit}={wanted}), and shorten it where that is wanted."
    )
