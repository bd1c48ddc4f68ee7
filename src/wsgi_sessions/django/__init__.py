"""Django: sessions of ours as ``request.session``, under Django's own interface and settings.

``wsgi_sessions.django.SessionMiddleware`` takes the place of Django's in ``MIDDLEWARE``;
``SESSION_ENGINE = "wsgi_sessions.django"`` has the test client, and whatever else asks for an
engine, find the same sessions; ``wsgi_sessions.django`` in ``INSTALLED_APPS`` brings system checks
and ``manage.py clearsessions``. Nothing else in this package imports Django.
"""

from django.core.checks import Tags, register  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType] # Django has no types of its own

from .checks import check_settings
from .engine import SessionStore, sessions
from .middleware import SessionMiddleware
from .owners import connect
from .session import DjangoSession

connect()
register(check_settings, Tags.security)

__all__ = ["DjangoSession", "SessionMiddleware", "SessionStore", "sessions"]
