"""Immutable values that are made in every request.

A frozen dataclass takes three times as long to make, and a NamedTuple twice as long to read. Here
it is the type checkers, which every change has to pass, that rule out assignments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a class one of immutable values, with slots: frozen to type checkers, not at runtime."""
    return dataclass(slots=True, eq=False, repr=False, match_args=False)(cls)


def replaced(old: T, **changes: Any) -> T:
    """The same value, except for these fields."""
    cls = type(old)
    names: tuple[str, ...] = vars(cls)["__slots__"]
    return cls(**{name: getattr(old, name) for name in names} | changes)
