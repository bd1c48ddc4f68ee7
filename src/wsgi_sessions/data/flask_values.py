"""MarkupCodec: keeps in ``flask.session`` the kinds of values that Flask's own session keeps.

What JSONCodec keeps exactly is kept exactly here, too. What it refuses and Flask's session takes
comes back as Flask brings it back: a subclass of dict as a dict, a lazy translation as Markup, a
dict's key 1 as "1". Flask itself isn't imported.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from markupsafe import Markup

from .codec import MAX_DEPTH, CorruptField, JSONCodec, UnstorableValue

# Words: a dict of one name that JSONCodec escapes with one more "~"; an app's own dict of that look
# gets a third.
_MARKUP = "~markup"
_FLOAT = "~float"
_WORDED = re.compile(rb'~(?:markup|float)"')
_LOOK = re.compile("~+(?:markup|float)")
_PLAIN: frozenset[type] = frozenset({str, int, bool, type(None)})


class MarkupCodec:
    """JSONCodec for ``flask.session``: it takes whatever Flask's own session takes.

    Exactly kept: what JSONCodec keeps, Markup, and floats that aren't finite. Subclasses of dict,
    list, tuple, str, int, float, bytes, datetime, date, Decimal and UUID, enums of them included,
    come back as what they are based on, dataclasses as dicts, and anything with ``__html__`` as
    Markup. A datetime in a zone that can't be named comes back in UTC.
    """

    def __init__(self) -> None:
        self._plain = JSONCodec()

    def encode(self, value: Any) -> bytes:
        """The value as JSON.

        Raises:
            UnstorableValue: a TypeError that says where the trouble is.
        """
        try:
            data = self._plain.encode(value)
        except UnstorableValue:
            # Once more, put into words; what else is wrong with it is said then.
            return self._plain.encode(_worded(value))
        return self._plain.encode(_worded(value)) if _looks_worded(data) else data

    def reencode(self, value: Any, known: bytes) -> bytes:
        """The value as JSON; ``known`` itself if that is still its encoding.

        Raises:
            UnstorableValue: see `encode`.
        """
        try:
            data = self._plain.reencode(value, known)
        except UnstorableValue:
            return self._plain.encode(_worded(value))
        # Bytes with tags in them are never known to be still right.
        return self._plain.encode(_worded(value)) if _looks_worded(data) else data

    def decode(self, data: bytes) -> Any:
        """The value of this JSON.

        Raises:
            CorruptField: for anything that `encode` would not have written.
        """
        value = self._plain.decode(data)
        try:
            return _unworded(value) if _looks_worded(data) else value
        except (ValueError, TypeError) as error:
            raise CorruptField(f"not a value: {type(error).__name__}") from None


def _looks_worded(data: bytes) -> bool:
    # A single byte is found a hundred times faster than an expression.
    return b"~" in data and _WORDED.search(data) is not None


def _worded(value: Any, depth: int = 0) -> Any:
    """The value as JSONCodec takes it, as far as Flask's session would take it.

    In the order in which Flask looks: a dict that has ``__html__`` is a dict.
    """
    if type(value) in _PLAIN:
        return value
    if depth > MAX_DEPTH:
        raise UnstorableValue(f"nested more than {MAX_DEPTH} levels deep, or within itself")
    if isinstance(value, dict):
        return _worded_dict(value, depth)  # pyright: ignore[reportUnknownArgumentType] # any dict
    if isinstance(value, (list, tuple)):
        items: list[Any] = [_worded(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType] # any list
        return items if isinstance(value, list) else tuple(items)
    if callable(getattr(value, "__html__", None)) and not isinstance(value, (bytes, type)):
        return {_MARKUP: str(value.__html__())}
    return _worded_object(value, depth)


def _worded_object(value: object, depth: int) -> Any:
    for base, plain in _BASES:
        if isinstance(value, base):
            return plain(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _worded(dataclasses.asdict(value), depth)
    return value  # pyright: ignore[reportUnknownVariableType] # any other


def _worded_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    fields = {_key(name): _worded(item, depth + 1) for name, item in value.items()}
    if len(fields) == 1 and _LOOK.fullmatch(str(*fields)):
        return {f"~{name}": item for name, item in fields.items()}
    return fields


def _key(key: Any) -> Any:
    """A dict's key as JSON has it: text."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int):
        return int.__repr__(key)
    return float.__repr__(key) if isinstance(key, float) else key


def _worded_float(value: float) -> Any:
    plain = float(value)
    return plain if plain - plain == 0 else {_FLOAT: repr(plain)}


def _worded_datetime(value: datetime) -> datetime:
    plain = datetime.combine(
        date(value.year, value.month, value.day),
        value.timetz(),
    )
    try:
        JSONCodec().encode(plain)
    except UnstorableValue:
        return datetime.fromtimestamp(plain.timestamp(), UTC)
    return plain


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, _worded_float),
    (bytes, bytes),
    (UUID, lambda value: UUID(int=value.int)),
    (datetime, _worded_datetime),
    (date, lambda value: date(value.year, value.month, value.day)),
    (Decimal, Decimal),
)


def _unworded(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH + 1:
        raise ValueError("nested too deep")
    if type(value) is dict:
        fields = cast("dict[str, Any]", value)
        if len(fields) == 1:
            ((name, item),) = fields.items()
            if name == _MARKUP and type(item) is str:
                return Markup(item)  # noqa: S704 # it was Markup before
            if name == _FLOAT:
                return float(item)
            if _LOOK.fullmatch(name):
                return {name[1:]: _unworded(item, depth + 1)}
        return {name: _unworded(item, depth + 1) for name, item in fields.items()}
    if type(value) in (list, tuple):
        return type(value)(_unworded(item, depth + 1) for item in value)
    return value
