"""A Django project for tests: set up once a process, with views that are given as functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import django
from django.conf import settings

from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock, FaultyStore

SECRET = "a secret of at least thirty-two bytes, for tests"
View = Callable[[Any], Any]
VIEWS: dict[str, View] = {}
"""The site's views by path: what a test puts here is what the site does."""

BETWEEN: list[Callable[[Any, View], Any]] = []
"""What the middleware `between` does with a request: the last one of these."""


@cache
def set_up() -> None:
    """Configure Django, and make the tables of a database in memory."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.admin",
            "django.contrib.sessions",  # Django's own engines, to compare with
            "wsgi_sessions.django",
        ],
        LOGGING_CONFIG=None,
        MIDDLEWARE=[
            "wsgi_sessions.django.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="django_site",
        SECRET_KEY=SECRET,
        SESSION_ENGINE="wsgi_sessions.django",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                        "django.template.context_processors.request",
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def serve(request: Any, path: str) -> Any:
    from django.http import HttpResponse

    made = VIEWS[path](request)
    return made if hasattr(made, "status_code") else HttpResponse(str(made))


async def serve_async(request: Any) -> Any:
    from django.http import HttpResponse

    made = await VIEWS["async"](request)
    return made if hasattr(made, "status_code") else HttpResponse(str(made))


def between(get_response: View) -> View:
    """A middleware; it stands in ``MIDDLEWARE`` as ``django_site.between``."""
    return lambda request: BETWEEN[-1](request, get_response)


def __getattr__(name: str) -> Any:
    # Asked for when Django is set up, and not before.
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.contrib import admin
    from django.urls import path

    return [path("async", serve_async), path("admin/", admin.site.urls), path("<path:path>", serve)]


class Site:
    """The site on a store and a clock of its own."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.store = FaultyStore(MemoryStore())
        self.events: list[Any] = []
        self.options = {
            "clock": self.clock,
            "store": self.store,
            "on_event": self.events.append,
            **options,
        }

    def client(self, **options: Any) -> Any:
        from django.test import Client

        return Client(raise_request_exception=False, **options)

    def run(self, client: Any, view: View, path: str = "run", **extra: Any) -> Any:
        """One request in which the site does this."""
        VIEWS[path] = view
        return client.get(f"/{path}", **extra)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@contextlib.contextmanager
def site(django_settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Site]:
    """The site, with options of ours and settings of Django's, until the end of the block."""
    set_up()
    from django.test import override_settings

    made = Site(**options)
    with override_settings(WSGI_SESSIONS=made.options, **(django_settings or {})):
        yield made
