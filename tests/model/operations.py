"""What an app does with its session: each operation by name, as it is really done.

What it ought to come to is said in `view`; which ones are done when is drawn in `drawing`.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from wsgi_sessions import Lifetime, Session

from .scenario import Op
from .view import BAD

Work = Callable[..., Any]


class Boom(Exception):
    """What the app itself raises."""


def _append(session: Session, name: str, value: Any) -> None:
    session[name].append(value)


def _set_label(session: Session, name: str, value: Any) -> None:
    session.label[name] = value


BAD_LABELS: dict[str, dict[str, Any]] = {
    "long": {"device": "D" * 257},
    "number": {"device": 5},
    "many": {str(number): "x" for number in range(20)},
}


def _transaction(session: Session, name: str, value: Any) -> Any:
    def work(fresh: MutableMapping[str, Any]) -> Any:
        before = fresh.get(name)
        fresh[name] = value
        return before

    return session.transaction(work)


def _broken_transaction(session: Session, name: str) -> None:
    def work(fresh: MutableMapping[str, Any]) -> None:
        fresh[name] = "never"
        raise Boom

    session.transaction(work)


def _properties(session: Session) -> None:
    session.modified, session.is_new, session.created_at, session.last_used_at  # noqa: B018 # reading is the test
    session.expires_at, session.authenticated_at, session.persistent, session.lifetime  # noqa: B018 # reading is the test
    session.is_fresh(60), session.accessed, repr(session), bool(session)  # noqa: B018 # reading is the test


READS: dict[str, Work] = {
    "look": lambda session: (dict(session), session.owner),
    "get": lambda session, name: session.get(name),
    "item": lambda session, name: session[name],
    "in": lambda session, name: name in session,
    "len": lambda session: len(session),
    "id": lambda session: (session.id, session.handle),
    "properties": _properties,
}
"""What changes nothing."""

CHANGES: dict[str, Work] = {
    "set": lambda session, name, value: session.__setitem__(name, value),
    "del": lambda session, name: session.__delitem__(name),
    "pop": lambda session, name: session.pop(name, None),
    "update": lambda session, values: session.update(values),
    "setdefault": lambda session, name, value: session.setdefault(name, value),
    "append": _append,
    "clear": lambda session: session.clear(),
    "owner": lambda session, owner: setattr(session, "owner", owner),
    "login": lambda session, owner, keep=True: session.login(owner, keep=keep),
    "regenerate": lambda session, keep=True: session.regenerate(keep=keep),
    "touch": lambda session: session.touch(),
    "label": lambda session, label: setattr(session, "label", label),
    "set_label": _set_label,
    "bad_label": lambda session, how: setattr(session, "label", BAD_LABELS[how]),
    "spoil_label": lambda session, how: session.label.update(BAD_LABELS[how]),
    "persistent": lambda session, value: setattr(session, "persistent", value),
    "lifetime": lambda session, idle, absolute: setattr(
        session, "lifetime", Lifetime(idle, absolute)
    ),
    "set_object": lambda session, name: session.__setitem__(name, object()),
    "append_object": lambda session, name: _append(session, name, BAD),
    "set_nan": lambda session, name: session.__setitem__(name, float("nan")),
    "set_number_key": lambda session: session.__setitem__(5, 1),
}
"""What changes the session in memory; the next commit writes it."""

COMMITS: dict[str, Work] = {
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "destroy": lambda session: session.destroy(),
    "transaction": _transaction,
    "broken_transaction": _broken_transaction,
    "take": lambda session, name: session.take(name),
    "increment": lambda session, name, by=1: session.increment(name, by),
}
"""What asks the store there and then."""

OPERATIONS = READS | CHANGES | COMMITS
EMPTIES = frozenset({"clear", "del", "pop", "take", "destroy", "owner", "regenerate"})
"""What may leave a session with nothing in it, so that it goes."""
UNSUPPORTED = ("transaction", "broken_transaction", "take", "increment")
"""What the client-side store can't."""


def perform(session: Session, op: Op) -> Any:
    """Do it."""
    return OPERATIONS[op[0]](session, *op[1:])
