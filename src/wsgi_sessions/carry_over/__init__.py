"""Sessions of other systems, carried over: users who are signed in there stay signed in here.

>>> from wsgi_sessions.carry_over import Beaker
>>> SessionMiddleware(app, …, carry_over=[Beaker("redis://localhost", secret=old_secret)])

One class for each system. They read, and never unpickle; the engine decides what becomes of a
session that was read.
"""

from .beaker import Beaker
from .django import Django
from .express import Express
from .flask_cookie import FlaskCookie
from .flask_session import FlaskSession
from .source import Found, LeftBehind, Source

__all__ = [
    "Beaker",
    "Django",
    "Express",
    "FlaskCookie",
    "FlaskSession",
    "Found",
    "LeftBehind",
    "Source",
]
