"""The Django app: it registers system checks, and brings a command."""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from django.apps import AppConfig


class WSGISessionsConfig(AppConfig):
    """``wsgi_sessions.django`` in ``INSTALLED_APPS``."""

    name = "wsgi_sessions.django"
    label = "wsgi_sessions"
    verbose_name = "WSGI sessions"
