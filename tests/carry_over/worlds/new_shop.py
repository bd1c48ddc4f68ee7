"""What takes the place of old_shop.py: the same shop on our sessions, its visitors carried over."""

from __future__ import annotations

import json
import os
from typing import Any

from wsgi_sessions import Cookie, Session, SessionMiddleware, get_session
from wsgi_sessions.carry_over import Beaker, Django, Express, FlaskSession, Source

OLD = os.environ["OLD_STORE"]
SECRET = "the old shop's secret, which is long enough"


def act(session: Session, action: str, word: str) -> str:
    """What the old shop does, and ``/handle``."""
    if action == "login":
        session.login(word)
        session.update(user_id=word, cart=[])
    elif action == "add":
        session.setdefault("cart", []).append(word)
    elif action == "logout":
        session.destroy()
    elif action == "handle":
        return json.dumps([session.handle, session.owner])
    return json.dumps([session.get("user_id"), session.get("cart", [])])


def app(environ: dict[str, Any], start_response: Any) -> Any:
    action, word = environ["PATH_INFO"].strip("/"), environ["QUERY_STRING"]
    body = act(get_session(environ), action, word).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def source() -> Source:
    match os.environ["OLD_SYSTEM"]:
        case "beaker":
            return Beaker(f"file://{OLD}", SECRET, timeout=3600, owner="user_id")
        case "flask-session":
            return FlaskSession(f"file://{OLD}", owner="user_id")
        case "django":
            return Django(f"file://{OLD}", SECRET, "file", owner="user_id")
        case _:
            return Express(OLD, SECRET, owner="user_id")


application = SessionMiddleware(
    app,
    secret_key="the new shop's secret, of thirty-two bytes or more",
    store=os.environ["NEW_STORE"],
    cookie=Cookie("new-shop"),
    trusted_proxies=1,
    carry_over=[source()],
)
