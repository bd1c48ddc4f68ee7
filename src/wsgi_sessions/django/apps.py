"""The Django app, whose one purpose is to bring system checks and a command."""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from .checks import check_settings


class WSGISessionsConfig(AppConfig):
    """``wsgi_sessions.django`` in ``INSTALLED_APPS``."""

    name = "wsgi_sessions.django"
    label = "wsgi_sessions"
    verbose_name = "WSGI sessions"

    def ready(self) -> None:
        """Called by Django once all apps are there."""
        checks.register(check_settings, checks.Tags.security)
