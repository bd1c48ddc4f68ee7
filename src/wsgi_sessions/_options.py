"""Settings fail where they are written: the small checks that all settings classes share.

They check kinds of values and names of options; what an option means is checked by its own class.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

from .errors import ConfigurationError

T = TypeVar("T")
MAX_SECONDS = 100 * 365.25 * 24 * 60 * 60
"""A hundred years: more is a unit mixed up, and times beyond it have no date."""
_HUGE = 10**300


def checked_options(cls: type[T]) -> type[T]:
    """Class decorator: an unknown or missing option is a ConfigurationError that helps."""
    original: Callable[..., None] = cls.__init__
    signature = inspect.signature(original)
    allowed = [name for name in signature.parameters if name != "self"]
    call = f"{cls.__name__}({', '.join(_needed(signature))})"

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in allowed:
                close = closest(name, allowed)
                hint = f"write {close}" if close else f"allowed are {', '.join(allowed)}"
                raise ConfigurationError(f"{cls.__name__} has no option {name}; {hint}")
        try:
            signature.bind(self, *args, **options)
        except TypeError as error:
            raise ConfigurationError(
                f"{cls.__name__}: {error}; write {call}; the options are {', '.join(allowed)}"
            ) from None
        original(self, *args, **options)

    cls.__init__ = __init__  # type: ignore[method-assign] # same signature, checked
    return cls


def _needed(signature: inspect.Signature) -> list[str]:
    """The arguments as a call writes them: what it can't do without, and a sign for what it can."""
    parameters = [each for name, each in signature.parameters.items() if name != "self"]
    needed = [
        each.name if each.kind is each.POSITIONAL_OR_KEYWORD else f"{each.name}=…"
        for each in parameters
        if each.default is each.empty
    ]
    return needed if len(needed) == len(parameters) else [*needed, "…"]


def check_flag(owner: str, name: str, value: object) -> None:
    """Only True and False are booleans: 0, 1, None and strings hide mistakes."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{owner}: {name} is {value!r}; write True or False")


def seconds(owner: str, name: str, value: object, *, zero: bool = False, hint: str = "") -> float:
    """A length of time as seconds, from a timedelta or a number.

    Raises:
        ConfigurationError: for bool, NaN, infinity, a negative number, zero unless allowed, or more
            than a hundred years. The message ends with the ``hint``.
    """
    number = finite_seconds(owner, name, value, hint=hint)
    if number < 0 or (number == 0 and not zero):
        least = "0 seconds or more" if zero else "more than 0 seconds"
        raise ConfigurationError(
            f"{owner}: {name} is {value!r}; it must be finite and {least}{hint}"
        )
    if number > MAX_SECONDS:
        raise ConfigurationError(
            f"{owner}: {name} is {value!r}; at most a hundred years are allowed"
            f" ({MAX_SECONDS:.0f} seconds){hint}"
        )
    return number


def seconds_or_none(owner: str, name: str, value: object, none: str) -> float | None:
    """The same where None is allowed, too; ``none`` says what it is for."""
    if value is None:
        return None
    return seconds(owner, name, value, hint=f", or None for {none}")


def finite_seconds(owner: str, name: str, value: object, *, hint: str = "") -> float:
    """A length of time as seconds, from a timedelta or a number, whatever its sign and size.

    Raises:
        ConfigurationError: for bool, NaN and infinity.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ConfigurationError(
            f"{owner}: {name} is {value!r}; write a timedelta or a number of seconds{hint}"
        )
    if isinstance(value, int):
        # Beyond this, a float can't hold it.
        return float(max(-_HUGE, min(value, _HUGE)))
    if not math.isfinite(value):
        raise ConfigurationError(f"{owner}: {name} is {value!r}; it must be finite{hint}")
    return value


def check_function(owner: str, name: str, function: object, arguments: int, wanted: str) -> None:
    """Make sure that this can be called, with so many arguments where that can be told.

    Raises:
        ConfigurationError: it can't; the message asks for what is ``wanted``.
    """
    if not callable(function):
        raise ConfigurationError(f"{owner}: {name} is {function!r}; give {wanted}")
    try:
        # Not what a wrapper wraps: it may take other arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except Exception:  # noqa: BLE001 # of C, or a proxy of something that isn't there yet
        return
    try:
        signature.bind(*range(arguments))
    except TypeError as error:
        raise ConfigurationError(
            f"{owner}: {name} is {function!r}, which can't be called as it would be: {error}; give"
            f" {wanted}"
        ) from None


def closest(word: str, words: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The word that was probably meant; None if none is as similar as ``cutoff`` (0 to 1)."""
    import difflib  # noqa: PLC0415 # slow to import, and only a mistake needs it

    found = difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)
    return found[0] if found else None


def kind_of(value: object) -> str:
    """What kind of thing it is, without a word of it: it may be a URL with a password."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        return f"a {kind} of {', '.join({type(item).__name__ for item in items})}"
    return "None" if value is None else f"of type {kind}"
