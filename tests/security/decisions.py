"""Requirements that we decided against or meet in another way; see docs/security.md.

The design of wsgi-sessions decides where a requirement and it differ.
"""

from __future__ import annotations

AGAINST: dict[str, str] = {
    "LC-14": "An app adds Clear-Site-Data to its sign-out response itself; it has effects far beyond"
    " the session (storage, cache) that only the app can judge.",
    "US-9": "A remember-me token of its own is out of scope. session.persistent keeps the cookie"
    " as long as the session lives, which the absolute limit bounds.",
    "DOS-2": "One lifetime for all sessions by default; an app gives anonymous ones a shorter one"
    " with session.lifetime. MemoryStore drops anonymous sessions first when it is full.",
    "DOS-3": "Rate limits belong to the proxy or to a library for that. Robots cost no record as"
    " long as the app writes nothing for them, and `created` events tell who makes sessions.",
    "CA-4": "A response that read the session gets Vary: Cookie, which keeps shared caches right."
    " Whether a page may be kept at all is for the app to say; a response with our Set-Cookie is"
    " no-store.",
    "LG-2": "The handle, a SHA-256 of the ID, is the public name of a session on purpose: one name"
    " in logs, lists and the command line, from which the ID can't be found.",
    "BN-1": "Sessions aren't bound to an address or a browser: both change for honest users (mobile"
    " networks, updates), and a thief can copy them. They are noted in session.label to be shown.",
    "BN-2": "No binding, so no comparison; see BN-1.",
    "BN-3": "No binding, so no validators; see BN-1.",
    "BN-4": "No binding values are kept. The label, which holds address and browser to be shown to"
    " the user, can be switched off with label=None.",
    "EN-3": "Encryption keys are the app's. A key that also depends on the cookie would make it"
    " impossible to show labels, to carry out revocations and to change keys.",
    "WS-6": "There is no exclusion of paths: an untouched session costs nothing.",
    "CF-1": "Each setting says itself what is insecure about it (secure=False, httponly=False);"
    " there is no second switch that allows or forbids the first.",
    "CS-1": "Cross-site request forgery is for a library that knows the app's forms. SameSite=Lax is"
    " the default, and docs/security.md says what an app must add.",
    "PC-12": "Legal; which peers a server has isn't known when the settings are made.",
    "PC-13": "Legal: with proto=0 the server's own scheme decides, which may well be https.",
}
"""Requirement to reason."""

DIFFERENT: dict[str, str] = {
    "ID-7": "A header of the app's choice can carry the token instead (token_header), for clients"
    " without cookies; it is off by default, and never a query string or body.",
    "CK-7": "Max-Age is cut to 400 days, as browsers do.",
    "CK-17": "A forged cookie beside a genuine one is no event; two live sessions are.",
    "LC-4": "login keeps the data by default (a cart survives signing in); keep=[…] is the allow"
    " list, keep=False drops all.",
    "LC-6": "A retired ID that is used is an event, retired_id_used; what follows from it (such as"
    " registry.revoke_all) is for a listener of the app's to say.",
    "LC-12": "There is no option for it: the cookie is always left alone.",
    "TO-4": "The limits are a day of idleness and thirty days in all, for apps of every kind; an app"
    " with more to lose sets shorter ones (NIST SP 800-63B: 1 hour and 24 hours at AAL2).",
    "TO-6": "The idle limit is never exceeded, and at most a tenth shorter.",
    "TO-8": "No event, as a clock that steps back is no one's attack; nothing is extended by it.",
    "ST-2": "Tuples, sets, bytes, dates, Decimal and UUID are kept as they are, so they are allowed.",
    "ST-3": "A JSON object with a key twice, which we never write, is read as JSON readers do: the"
    " last one counts.",
    "ST-5": "With encryption_keys. Without them, whoever writes the store can write any session. A"
    " whole record of the same session can be put back by who writes the store; it still expires.",
    "LG-3": "The names are those of wsgi_sessions.SessionEvent.",
    "US-1": "The handle is the store key, and public by design: it can't be turned into an ID.",
    "US-2": "revoke(handle) takes any handle. An app that lets users end sessions by handle looks it"
    " up in registry.sessions(owner) first.",
    "US-3": "The index never lists too little, so ending all of a user needs no check at each load.",
    "WS-5": "A second instance of the same environ key steps aside instead of failing.",
    "EN-1": "Keys are tried newest first; there is no key ID to read.",
    "FS-6": "Tested with a limit on the size of files, which the file system reports in the same"
    " way.",
}
"""Requirements that are met and tested, with what is different from their wording."""
