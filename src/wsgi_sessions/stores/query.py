"""Options of the stores' own in the query of a URL; all others there are for a library."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from ..errors import ConfigurationError


def take_option(
    store: str, url: object, name: str, given: Any, default: str, *, place: str = r"[^?]*"
) -> tuple[Any, Any]:
    """A URL without an option that is the store's own, and the value of that option. What else is
    in the query is for a library, and stays as it is written.

    Args:
        store: the name of its class.
        url: not checked yet.
        name: of the option.
        given: its value beside the URL, not checked yet; None: there is none.
        default: its value where none is given.
        place: a pattern of all that comes before the query.

    Raises:
        ConfigurationError: it has several values.
    """
    found = re.fullmatch(rf"({place})(?:\?(.*))?", url, re.DOTALL) if isinstance(url, str) else None
    values = [] if given is None else [given]
    if found is not None and found[2] is not None:
        values += [value for key, value in parse_qsl(found[2], True) if key == name]
        others = [pair for pair in found[2].split("&") if pair.partition("=")[0] != name]
        url = "?".join([found[1], "&".join(others)])
    if any(value != values[0] for value in values):
        # No word of them: where a URL isn't percent-encoded, one may be part of a password.
        raise ConfigurationError(f"{store}: {name} is given twice, differently; give it once")
    return url, values[0] if values else default
