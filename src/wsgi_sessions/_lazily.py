"""Names of a package whose modules are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` of a package.

    Args:
        package: its name.
        modules: the module, relative to the package, that each name is found in.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(modules[name], package), name)
        # From now on, it is found without this.
        setattr(sys.modules[package], name, found)
        return found

    return __getattr__
