"""A small tea shop: how to use wsgi-sessions in an app. `settings.py` shows how to set it up."""

from .app import make_app

__all__ = ["make_app"]
