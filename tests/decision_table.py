"""Makes the table in docs/explanation.md from the code that decides: python tests/decision_table.py.

What stands here are facts and what the store answers; the steps are those that the engine takes.
"""

from __future__ import annotations

from pathlib import Path

from wsgi_sessions.engine.decisions import (
    CookieStep,
    Facts,
    Result,
    StoreStep,
    cookie_step,
    store_step,
)

PAGE = Path(__file__).parent.parent / "docs" / "explanation.md"
BEGIN, END = "<!-- made by tests/decision_table.py -->", "<!-- end -->"

# what happened, the facts, what came of it
ROWS: list[tuple[str, str, Result]] = [
    ("read, within `touch_interval`", "stored", Result.NOTHING),
    ("read, within it, `rolling`", "stored cookie_due", Result.WRITTEN),
    ("read, later than that", "stored touch_due", Result.WRITTEN),
    ("read, later than that, `persistent`", "stored touch_due persistent", Result.WRITTEN),
    ("changed", "stored changed", Result.WRITTEN),
    ("changed, `persistent` or `rolling`", "stored changed persistent", Result.WRITTEN),
    ("changed, but another request ended it", "stored changed persistent", Result.GONE),
    ("new, something put in", "changed", Result.NEW_ID),
    ("new, nothing put in", "empty", Result.NOTHING),
    ("new, nothing put in, `save_uninitialized`", "empty save_uninitialized", Result.NEW_ID),
    ("all data removed, no owner", "stored changed empty", Result.DELETED),
    ("the same, but another request put something in", "stored changed empty",
     Result.WRITTEN),
    ("`regenerate()`, `login()`, another owner", "stored new_id changed", Result.NEW_ID),
    ("the same, but another request ended it", "stored new_id changed", Result.GONE),
    ("the same over http, with a `Secure` cookie", "stored new_id !deliverable", Result.DELETED),
    ("older than `rotate_after`", "stored rotation_due", Result.NEW_ID),
    ("the same, but another request rotated it", "stored rotation_due", Result.MOVED),
    ("token of the former ID, or under an older secret", "stored cookie_due", Result.WRITTEN),
    ("passive: read, whatever is due",
     "passive stored rotation_due cookie_due persistent", Result.NOTHING),
    ("passive: changed", "passive stored changed persistent rotation_due", Result.WRITTEN),
    ("response marked public: read, anything due except a new deadline",
     "stored rotation_due cookie_due persistent !may_renew", Result.NOTHING),
    ("response marked public: read, later than `touch_interval`",
     "stored touch_due rotation_due cookie_due persistent !may_renew", Result.WRITTEN),
    ("the app raised, or answered 5xx", "stored changed new_id failed", Result.NOTHING),
    ("in a stream, after the headers: changed", "stored changed headers_sent persistent",
     Result.WRITTEN),
    ("`ClientSideStore`: changed", "stored in_token changed", Result.WRITTEN),
]  # fmt: skip

STORE = {
    StoreStep.NOTHING: "nothing",
    StoreStep.TOUCH: "update of the deadline alone",
    StoreStep.UPDATE: "update with the changed fields and the new deadline",
    StoreStep.ROTATE: "update with a new ID; the former one is good for another 30 seconds",
    StoreStep.REGENERATE: "update with a new ID and a new epoch; the former ID is dead",
    StoreStep.INSERT: "insert",
    StoreStep.DELETE_EMPTIED: "delete, if it is still as it was loaded; if not, the removed"
    " fields go",
    StoreStep.END: "delete",
}
PASSIVE = {StoreStep.UPDATE: "update with the changed fields; the deadline stays"}
"""What differs in a request that doesn't count as use (`Work.renews`)."""
UNPLANNED = {
    Result.GONE: "nothing is written",
    Result.MOVED: "the deadline and the changed fields are written; the ID is the one from there",
}
"""What comes of an update when another request was faster."""
COOKIE = {
    CookieStep.LEAVE: "left alone",
    CookieStep.RENEW: "sent again",
    CookieStep.SET: "set",
    CookieStep.EXPIRE: "expired",
}


def facts(text: str) -> Facts:
    """Facts by the names of those that hold; with "!", of those that don't."""
    text = text.replace("passive", "!may_renew")
    return Facts(**{word.lstrip("!"): not word.startswith("!") for word in text.split()})


def table() -> str:
    """The generated part of the page."""
    lines = ["| what happened | store | cookie |", "| --- | --- | --- |"]
    for happened, names, result in ROWS:
        known = facts(names)
        step = store_step(known)
        cookie = cookie_step(known, step, result)
        done = UNPLANNED.get(result, STORE[step])
        if names.startswith("passive"):
            done = PASSIVE.get(step, done)
        lines.append(f"| {happened} | {done} | {COOKIE[cookie]} |")
    return "\n".join([BEGIN, "", *lines, "", END])


def page() -> str:
    """The whole page as it ought to be."""
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return head + table() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
