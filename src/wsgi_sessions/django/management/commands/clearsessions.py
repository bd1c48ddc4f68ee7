"""``manage.py clearsessions``: Django's own, for projects without ``django.contrib.sessions``."""

from __future__ import annotations

from django.contrib.sessions.management.commands.clearsessions import Command

__all__ = ["Command"]
