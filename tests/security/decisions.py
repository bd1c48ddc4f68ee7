"""Requirements that we decided against or meet in another way; see docs/security.md.

The design of wsgi-sessions decides where a requirement and it differ.
"""

from __future__ import annotations

AGAINST: dict[str, str] = {
    "CA-4": "A response that read the session gets Vary: Cookie, which keeps shared caches right."
    " Whether a page may be kept at all is for the app to say; a response with our Set-Cookie is"
    " no-store.",
    "LG-2": "The handle, a SHA-256 of one half of the ID, is the public name of a session on purpose: one name"
    " in logs, lists and the command line, from which the ID can't be found.",
    "BN-1": "Sessions aren't bound to an address or a browser: both change for honest users (mobile"
    " networks, updates), and a thief can copy them. They are noted in session.label, to be shown"
    " to the user, or compared by an app that wants a signal.",
    "BN-2": "No binding, so no comparison; see BN-1.",
    "BN-3": "No binding, so no validators; see BN-1.",
    "EN-3": "Encryption keys are the app's. A key that also depends on the cookie would make it"
    " impossible to show labels, to carry out revocations and to change keys.",
    "CF-1": "Each setting says itself what is insecure about it (secure=False, httponly=False), and"
    " describe() shows it; there is no second switch that allows or forbids the first.",
}
"""Requirement to reason."""

DIFFERENT: dict[str, str] = {
    "ID-7": "A header of the app's choice can carry the token instead (token_header), for clients"
    " without cookies; it is off by default, and never a query string or body.",
    "ID-9": "The key is the SHA-256 of the first 128 bits of the ID, which stay for the session's life."
    " The record holds the SHA-256 of the whole ID, which is compared in constant time.",
    "CK-7": "Max-Age is cut to 400 days, as browsers do.",
    "CK-13": "One pair of double quotes around a value is taken off (RFC 6265 section 4.1.1), because"
    " Java's CookieManager sends it so. What stands in it isn't decoded.",
    "CK-15": "Where a semicolon separates no cookie of ours from the others, a comma does, too, unless"
    " the name has a prefix; see CK-19.",
    "CK-17": "A forged cookie beside a genuine one is no event; two live sessions are.",
    "CK-19": "Servers make such a header from the lines that HTTP/2 allows, and RFC 6265bis asks to be"
    " tolerant. So a cookie after a comma is found if no other is, and the log says so once; never"
    " where the name has a prefix, because a sibling site could put a comma into a cookie of its own.",
    "LC-4": "login keeps the data by default (a cart survives signing in); keep=[…] is the allow"
    " list, keep=False drops all.",
    "LC-6": "A retired ID that is used is an event, retired_id_used; what follows from it (such as"
    " registry.revoke_all(event.owner), or registry.revoke(event.handle)) is up to one of the app's"
    " listeners.",
    "LC-14": "The app adds the header to its sign-out response itself: it has effects far beyond the"
    " session (storage, cache) that only the app can judge.",
    "LC-10": "clear() empties the data alone: a session with an owner stays that user's, and destroy()"
    " or owner = None signs out. In Flask and Django, where clear() is taken for a sign-out, it is"
    " one.",
    "LC-12": "There is no option for it: the cookie is always left alone.",
    "TO-4": "The limits are a day of idleness and thirty days in all, for apps of every kind; an app"
    " with more to lose sets shorter ones (NIST SP 800-63B: 1 hour and 24 hours at AAL2).",
    "TO-6": "The idle limit is never exceeded, and at most a tenth shorter.",
    "TO-8": "No event, as a clock that steps back is no one's attack. A session that was used while"
    " the clock was ahead may outlive its limits by as much as the clock was ahead, and no more;"
    " is_fresh is False until the clock has caught up.",
    "ST-2": "Tuples, sets, bytes, dates, Decimal and UUID are kept as they are, so they are allowed.",
    "ST-3": "With orjson, a field of more than 8 KiB isn't searched for names that stand twice: the"
    " last one counts there. We never write such a thing.",
    "ST-5": "With encryption_keys, which bind the owner, too. Without them, whoever writes the store"
    " can write any session. A whole record of the same session can be put back by who writes the"
    " store; it still expires.",
    "LG-3": "The names are those of wsgi_sessions.SessionEvent.",
    "US-1": "The handle is the store key, and public by design: it can't be turned into an ID.",
    "US-2": "revoke(handle) takes any handle. An app that lets users end sessions by handle looks it"
    " up in registry.sessions(owner) first.",
    "US-3": "An owner's list never holds too little, so ending all of a user needs no check at each load.",
    "US-9": "session.persistent keeps the cookie as long as the session lives, which the absolute"
    " limit bounds. A remember-me token of its own is out of scope; the page says so.",
    "DOS-2": "One lifetime for all by default. An app gives anonymous sessions a shorter one with"
    " session.lifetime. MemoryStore drops them first when it is full.",
    "DOS-3": "Events of the kind `created` carry the client's address as the proxies tell it; the"
    " limit itself is the app's, or the proxy's.",
    "BN-4": "There are no binding values; addresses and browsers are kept for lists of a user's"
    " sessions alone, and not at all with label=None.",
    "CS-1": "The page says so; the check itself is for a library that knows the app's forms.",
    "PC-12": "What was forged is ignored, and the client's problems name it at each request.",
    "WS-6": "No path is left out, as an untouched session costs nothing; only the cookie's own path"
    " counts, by whole segments.",
    "WS-5": "A second instance of the same environ key steps aside instead of failing.",
    "EN-1": "Keys are tried newest first; there is no key ID to read.",
    "FS-6": "Tested with a limit on the size of files, which the file system reports in the same"
    " way.",
}
"""Requirements that are met and tested, with what is different from their wording."""
