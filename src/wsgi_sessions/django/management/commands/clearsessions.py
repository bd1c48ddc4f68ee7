"""``manage.py clearsessions``: Django's own, for projects without ``django.contrib.sessions``."""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from django.contrib.sessions.management.commands.clearsessions import Command

__all__ = ["Command"]
