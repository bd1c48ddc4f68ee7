"""Django's users as owners: a session belongs to the user who logs in."""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in

from ..errors import TooManySessions
from ..session import MAX_OWNER
from .session import DjangoSession


def connect() -> None:
    """Listen for logins, before all others.

    The login gives the session its key and its owner, and another receiver may note the key ("one
    session per user") or save the session. Django calls receivers in the order in which they were
    connected, and other apps' may have been before this module was imported.
    """
    user_logged_in.disconnect(dispatch_uid="wsgi_sessions")
    user_logged_in.connect(file_under_user, dispatch_uid="wsgi_sessions")
    with user_logged_in.lock:
        receivers = user_logged_in.receivers
        receivers.insert(0, receivers.pop())


def file_under_user(sender: Any, request: Any, user: Any, **options: Any) -> None:
    """Receives ``user_logged_in``: the session's owner is ``str(user.pk)``.

    Raises:
        TooManySessions: see ``max_per_owner``; then nobody is logged in.
    """
    del sender, options
    session = getattr(request, "session", None)
    if not isinstance(session, DjangoSession) or user.pk is None:
        return
    owner = str(user.pk)
    if not 1 <= len(owner) <= MAX_OWNER:
        # It can't be filed under that name; Django has given it a new key already.
        return
    try:
        session.login(owner)
    except TooManySessions:
        _undo_login(request, session)
        raise


def _undo_login(request: Any, session: DjangoSession) -> None:
    # Django has stored the user before it sends the signal.
    from django.contrib.auth import (  # noqa: PLC0415 # needs the apps to be there
        BACKEND_SESSION_KEY,
        HASH_SESSION_KEY,
        SESSION_KEY,
    )
    from django.contrib.auth.models import AnonymousUser  # noqa: PLC0415 # needs the apps, too

    for key in (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY):
        session.pop(key, None)
    request.user = AnonymousUser()
