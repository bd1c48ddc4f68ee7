"""The app that a command is about. Importing it runs its code, so it has to be named."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from ..errors import ConfigurationError
from ..middleware import SessionMiddleware


def middleware_of(text: str) -> SessionMiddleware:
    """What ``MODULE:NAME`` names; the module is looked for here first, as servers do.

    Raises:
        ConfigurationError: it names no SessionMiddleware.
    """
    module, _, name = text.partition(":")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"--app names {text!r}, which can't be found ({error}); write the module and the name"
            " in it, such as shop:application"
        ) from None
    finally:
        sys.path.remove("")
    found = getattr(found, "extensions", {}).get("wsgi_sessions", found)
    if not isinstance(found, SessionMiddleware):
        raise ConfigurationError(
            f"--app names an object of type {type(found).__name__}; name the"
            " SessionMiddleware, or the Flask app"
        )
    return found
