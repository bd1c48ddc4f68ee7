"""JSONCodec: one value to bytes and back, exactly: the same types at every level, or an error.

The bytes are JSON text in UTF-8. A value that JSON has no type for becomes an object with one
reserved name, such as ``{"~tuple":[1,2]}``; an app's own dict that looks like one gets another
``~``.
Equal bytes mean equal values of equal types, which is how changes are noticed. No pickle, ever.
"""

from __future__ import annotations

import base64
import gc
import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from functools import cache
from itertools import accumulate
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from decimal import Decimal
    from uuid import UUID
    from zoneinfo import ZoneInfo


def _find_orjson() -> Any:
    try:
        import orjson  # noqa: PLC0415 # the extra [fast]
    except ImportError:
        return None
    return orjson


_orjson = _find_orjson()
_STRICT = 0 if _orjson is None else _orjson.OPT_STRICT_INTEGER
"""Ints of more than 53 bits are left to `_text`: orjson would write some that others can't read."""

MAX_DEPTH = 100
"""The deepest nesting that is written, in levels. JSON readers have higher limits of their own:
what someone else wrote into the store may be nested deeper, until the reader fails."""

TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep, or within itself"
_MAX_INT = 2**63 - 1
_MAX_DIGITS = 4300
"""As many as Python reads by default."""
_TOO_LONG = 10**_MAX_DIGITS
_SMALL = 1e-4
_SECOND = timedelta(seconds=1)
_PROVEN = 8192
"""The size in bytes up to which a value that orjson read is written again, to see that nothing was
lost: it keeps only one of two equal names, and makes an int beyond 64 bits a float."""
_FEW = 1024
"""The size in bytes up to which visiting each item is faster than going level by level."""
_TILDE = ord("~")
"""As an int: one byte is found a hundred times faster than two, and an int faster than bytes."""
_SURROGATE = r"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]"
_CONTAINERS: frozenset[type] = frozenset({list, dict})
_PLAIN_TYPES: frozenset[type] = _CONTAINERS | {str, int, float, bool, type(None)}
_BUT_FLOATS: frozenset[type] = _PLAIN_TYPES - {float}
_DAMAGE = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    OSError,  # a time zone's name may be that of a directory
)


_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)).difference(_DEEPER))


class Codec(Protocol):
    """Turns one field's value into bytes and back."""

    def encode(self, value: Any) -> bytes:
        """The value as bytes; the same value always gives the same bytes.

        Raises:
            TypeError: if it can't be kept exactly.
        """
        ...

    def decode(self, data: bytes) -> Any:
        """The value of these bytes.

        Raises:
            CorruptField: or another exception, if they don't hold one: then there is no session.
            OSError, StoreError: it can't tell at the moment, which is an outage of the store.
        """
        ...


class UnstorableValue(TypeError):
    """A value that can't be kept exactly. The message names types and places, never the value."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path or 'value'}: {reason}")
        self.reason = reason
        self.path = path
        """Where in the value it is: ``['cart'][0]``; empty for the value itself."""

    def under(self, step: str) -> UnstorableValue:
        """The same, seen from one level up."""
        # The path to a value that is nested too deep is long, and says little.
        path = "" if self.reason == TOO_DEEP else self.path
        return UnstorableValue(self.reason, step + path)


class CorruptField(ValueError):
    """These bytes don't hold a value."""


class JSONCodec:
    """The standard codec: readable JSON, exact types, faster with the extra ``[fast]`` (orjson)."""

    def encode(self, value: Any) -> bytes:
        """The value as JSON.

        Raises:
            UnstorableValue: a TypeError that says where the trouble is.
        """
        kind: object = type(value)  # pyright: ignore[reportUnknownVariableType] # any type
        try:
            if kind is str:
                text: str = encode_basestring(value)
                return text.encode("utf-8")
            if kind in _CONTAINERS:
                return _written_fast(value) or _text(value, 0).encode("utf-8")
            return _text(value, 0).encode("utf-8")
        except UnicodeEncodeError:
            raise _without_text(value) from None

    def reencode(self, value: Any, known: bytes) -> bytes:
        """What `encode` gives for this value; ``known`` itself if that is still its encoding.

        For a value that ``known`` was the encoding of. If it still is, this is three times faster
        than encoding: the bytes were checked when they were written or read, so all that is left to
        rule out is another value that orjson writes in the same way.

        Raises:
            UnstorableValue: see `encode`.
        """
        if _orjson is None or type(value) not in _CONTAINERS or _may_be_tagged(known):
            return self.encode(value)
        written = _dumps(value, _STRICT)
        if written is None and _dumps(value, 0) == known:
            written = known  # with an int of more than 53 bits in it
        if written == known:
            # To orjson, NaN is null.
            types = _BUT_FLOATS if known.find(b"null") >= 0 else _PLAIN_TYPES
            small = len(known) <= _FEW
            if _are_made_of((value,), types) if small else _is_made_of(value, types):
                return known
        elif (
            written is not None
            and not _may_be_tagged(written)
            and _is_made_of(value, _PLAIN_TYPES, _are_plain_floats)
        ):
            return written
        return self.encode(value)

    def decode(self, data: bytes) -> Any:
        """The value of this JSON.

        Raises:
            CorruptField: for JSON that isn't ours: damaged, nested too deep, with repeated names,
                or with numbers or text that `encode` doesn't write. (With orjson, a value of more
                than 8 KiB isn't searched for repeated names and overlong ints.)
        """
        try:
            if _TILDE in data and b'"~' in data:
                return _read_strictly(_tagged, data)
            if _orjson is not None:
                value = _orjson.loads(data)
                if len(data) > _PROVEN or _orjson.dumps(value) == data:
                    return value
            return _read_strictly(_plain, data)
        except RecursionError:
            if not _is_too_deep(data):
                # The caller is, and may read it elsewhere.
                raise
            raise CorruptField("not a value: nested too deep") from None
        except _DAMAGE as error:
            raise CorruptField(f"not a value: {type(error).__name__}") from None


def _written_fast(value: Any) -> bytes | None:
    """What `_text` would give, written by orjson; None if that would differ or not be exact."""
    written = None if _orjson is None else _dumps(value, _STRICT)
    if (
        written is None
        or _may_be_tagged(written)
        or not _is_made_of(value, _PLAIN_TYPES, _are_plain_floats)
    ):
        return None
    return written


def _dumps(value: Any, option: int) -> bytes | None:
    try:
        written: bytes = _orjson.dumps(value, option=option)
    except TypeError:
        return None  # a key that isn't a str, invalid text, a long int: `_text` finds out where
    return written


def _may_be_tagged(data: bytes) -> bool:
    return _TILDE in data and b'"~' in data


def _is_made_of(
    value: Any,
    types: frozenset[type],
    floats_pass: Callable[[list[float]], bool] | None = None,
) -> bool:
    """Whether everything in a list or dict is of these types, and its floats pass the test, if any.

    Level by level, because C code then does nearly all of the work: for a value of 100 KB that is
    eight times faster than visiting each item. For a value that was written already, so that it
    has an end.
    """
    level = gc.get_referents(value)
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, level))
        if not kinds <= types:
            return False
        if (
            floats_pass is not None
            and float in kinds
            and not floats_pass([item for item in level if type(item) is float])
        ):
            return False
        if kinds.isdisjoint(_CONTAINERS):
            return True
        level = gc.get_referents(*level)
    return False


def _are_made_of(items: Iterable[Any], types: frozenset[type]) -> bool:
    """The same for these items, one by one. For values that are known to be small."""
    for item in items:
        if type(item) is dict:
            inner: Iterable[Any] = item.values()  # pyright: ignore[reportUnknownVariableType] # any dict
        elif type(item) is list:
            inner = item  # pyright: ignore[reportUnknownVariableType] # any list
        elif type(item) in types:
            continue
        else:
            return False
        if not _are_made_of(inner, types):  # pyright: ignore[reportUnknownArgumentType] # any dict or list
            return False
    return True


def _are_plain_floats(floats: list[float]) -> bool:
    """Whether all JSON writers agree on them: finite, and not so small that some use exponents."""
    sizes = [abs(size) for size in floats if size]
    # The sum is below the limit only if each is, and none is NaN.
    return not sizes or (min(sizes) >= _SMALL and sum(sizes) < 1e300)


def _text(value: Any, depth: int) -> str:
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] # any type
    if kind is str:
        return str(encode_basestring(value))
    writer = _WRITERS.get(kind)  # pyright: ignore[reportUnknownArgumentType] # any type
    if writer is None and kind.__name__ in _LATE:  # pyright: ignore[reportUnknownMemberType] # any type
        writer = _late_writers().get(kind)  # pyright: ignore[reportUnknownArgumentType] # any type
    if writer is None:
        raise UnstorableValue(_why_not(value))
    if depth > MAX_DEPTH:
        raise UnstorableValue(TOO_DEEP)
    return writer(value, depth)


def _why_not(value: Any) -> str:
    kinds = (*_WRITERS, *_late_writers())
    base = next((k.__name__ for k in kinds if isinstance(value, k) and k is not type(None)), None)
    trouble = f"come back as {base}" if base else "not come back as it was"
    if isinstance(value, Enum):
        # Its str() may be its name.
        better = "store its .value"
    elif base:
        better = f"store {base}(…) of it"
    else:
        better = (
            "these would: None, bool, int, float, str, list, dict, tuple, set, frozenset, bytes,"
            " datetime, date, time, timedelta, Decimal, UUID"
        )
    return f"a value of type {type(value).__name__} would {trouble}; {better}"


def _write_int(value: int, depth: int) -> str:
    del depth
    if -_MAX_INT <= value <= _MAX_INT:
        return str(value)
    if not -_TOO_LONG < value < _TOO_LONG:
        raise UnstorableValue(f"an int of more than {_MAX_DIGITS} digits")
    # Many JSON readers turn these into floats. As Decimals, they have no limit that a process sets.
    return f'{{"~int":"{_decimal()(value)}"}}'


def _write_float(value: float, depth: int) -> str:
    del depth
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 # NaN
        raise UnstorableValue("a float that isn't finite")
    return repr(value)


def _items(values: Iterable[Any], depth: int) -> list[str]:
    parts: list[str] = []
    try:
        for item in values:
            parts.append(_text(item, depth + 1))  # noqa: PERF401 # the count is the error's index
    except UnstorableValue as error:
        raise error.under(f"[{len(parts)}]") from None
    return parts


def _write_list(value: list[Any], depth: int) -> str:
    return f"[{','.join(_items(value, depth))}]"


def _write_dict(value: dict[Any, Any], depth: int) -> str:
    parts: list[str] = []
    key: Any = ""
    for key, item in value.items():
        if type(key) is not str:
            raise UnstorableValue(f"a dict's keys are str, and this one is {type(key).__name__}")
        try:
            parts.append(f"{encode_basestring(key)}:{_text(item, depth + 1)}")
        except UnstorableValue as error:
            raise error.under(f"[{key!r}]") from None
    text = f"{{{','.join(parts)}}}"
    # A single name that begins like a tag gets another "~", which reading takes off again.
    return '{"~' + text[2:] if len(value) == 1 and key.startswith("~") else text


def _write_set(tag: str) -> Callable[[Any, int], str]:
    def write(value: Any, depth: int) -> str:
        parts: list[str] = []
        for item in value:
            try:
                parts.append(_text(item, depth + 1))
            except UnstorableValue as error:
                raise error.under("{…}") from None
        return f'{{"{tag}":[{",".join(sorted(parts))}]}}'

    return write


def _write_datetime(value: datetime, depth: int) -> str:
    del depth
    zone, key, rest = value.tzinfo, "null", ""
    if zone is None or type(zone) is timezone:
        text, rest = value.isoformat(), _beyond_iso(zone)
    else:
        text = value.replace(tzinfo=None).isoformat()
        key = encode_basestring(_zone_key(zone))
    parts = [f'"{text}"', key, str(value.fold), rest]
    while parts[-1] in ("", "0", "null"):
        parts.pop()
    return f'{{"~datetime":[{",".join(parts)}]}}'


def _zone_key(zone: object) -> str:
    if type(zone) is not _zone_info():
        raise UnstorableValue(
            f"a datetime with a time zone of type {type(zone).__name__}; use datetime.timezone"
            " or zoneinfo.ZoneInfo"
        )
    try:
        return _zone_info()(zone.key).key
    except _DAMAGE:
        raise UnstorableValue(
            "a datetime with a ZoneInfo that can't be found again by its key, as one of"
            " ZoneInfo.from_file; use one such as ZoneInfo('Europe/Berlin')"
        ) from None


def _beyond_iso(zone: timezone | None) -> str:
    """What would be lost of a fixed offset in ISO text: the name that it was given, such as that of
    the machine's own zone, and an offset of less than a second, which CPython reads as none.
    """
    if zone is None:
        return ""
    offset, name = zone.utcoffset(None), zone.tzname(None)
    if name == timezone(offset).tzname(None) and not timedelta() < abs(offset) < _SECOND:
        return ""
    return f"[{_parts_of(offset)},{encode_basestring(name)}]"


def _zone_info() -> type[ZoneInfo]:
    # Imported late: it looks for the time zone database, and few apps store zones.
    from zoneinfo import ZoneInfo  # noqa: PLC0415 # few apps store zones

    return ZoneInfo


def _uuid() -> type[UUID]:
    # Imported late: it inspects the platform, which would take a tenth of our own import's time.
    from uuid import UUID  # noqa: PLC0415 # slow to import

    return UUID


def _decimal() -> type[Decimal]:
    # As slow.
    from decimal import Decimal  # noqa: PLC0415 # slow to import

    return Decimal


def _write_uuid(value: UUID, depth: int) -> str:
    del depth
    return f'{{"~uuid":"{value}"}}'


def _write_time(value: time, depth: int) -> str:
    del depth
    zone = value.tzinfo
    if zone is not None and type(zone) is not timezone:
        raise UnstorableValue(
            f"a time with a time zone of type {type(zone).__name__}; use datetime.timezone, or a"
            " time without a zone"
        )
    rest = _beyond_iso(zone)
    return f'{{"~time":["{value.isoformat()}",{value.fold}{rest and "," + rest}]}}'


def _parts_of(value: timedelta) -> str:
    return f"[{value.days},{value.seconds},{value.microseconds}]"


def _write_decimal(value: Decimal, depth: int) -> str:
    del depth
    return f'{{"~decimal":"{_digits(value)}"}}'


def _digits(value: Decimal) -> str:
    # An app's decimal context may want a small "e"; the words, such as NaN, have none.
    return str(value).replace("e", "E")


_WRITERS: dict[type, Callable[[Any, int], str]] = {
    str: lambda value, depth: str(encode_basestring(value)),
    bool: lambda value, depth: "true" if value else "false",
    int: _write_int,
    float: _write_float,
    type(None): lambda value, depth: "null",
    list: _write_list,
    dict: _write_dict,
    tuple: lambda value, depth: f'{{"~tuple":[{",".join(_items(value, depth))}]}}',
    set: _write_set("~set"),
    frozenset: _write_set("~frozenset"),
    bytes: lambda value, depth: f'{{"~bytes":"{base64.b64encode(value).decode()}"}}',
    datetime: _write_datetime,
    date: lambda value, depth: f'{{"~date":"{value.isoformat()}"}}',
    time: _write_time,
    timedelta: lambda value, depth: f'{{"~timedelta":{_parts_of(value)}}}',
}


_LATE = ("UUID", "Decimal")


@cache
def _late_writers() -> dict[type, Callable[[Any, int], str]]:
    """The writers of types that are imported late, for all that is called like one of them."""
    return {_uuid(): _write_uuid, _decimal(): _write_decimal}


def _without_text(value: Any) -> UnstorableValue:
    """Say where the invalid text is (lone surrogates can't be written as UTF-8)."""
    reason = "a str that can't be encoded as UTF-8"
    for step, item in _steps(value):
        try:
            JSONCodec().encode(item)
        except UnstorableValue as error:
            return error.under(step)
    return UnstorableValue(reason)


def _steps(value: Any) -> Iterable[tuple[str, Any]]:
    kind: object = type(value)  # pyright: ignore[reportUnknownVariableType] # any type
    if kind is dict:
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if kind in (list, tuple):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return [("{…}", item) for item in value] if kind in (set, frozenset) else []


def _read_strictly(decoder: json.JSONDecoder, data: bytes) -> Any:
    text = data.decode("utf-8")
    if "\\u" in text and re.search(_SURROGATE, text):
        raise ValueError("a lone surrogate")
    return decoder.decode(text)


def _is_too_deep(data: bytes) -> bool:
    """Whether it is nested deeper than anything that is written, with at most two levels for one.

    Without going into it, which has just failed.
    """
    brackets = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data).translate(None, _NO_BRACKETS)
    depths = accumulate(map(_DEEPER.__getitem__, brackets))
    return max(depths, default=0) > 2 * (MAX_DEPTH + 1)


def _list(data: Any) -> list[Any]:
    if type(data) is not list:
        raise ValueError("not a list")
    return data  # pyright: ignore[reportUnknownVariableType] # whatever was in it


def _canonical(value: Any, data: Any) -> Any:
    """``value``, if it would be written as ``data``."""
    if type(data) is not str or str(value) != data:
        raise ValueError("not as it would be written")
    return value


def _read_set(kind: type[set[Any] | frozenset[Any]]) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        value = kind(_list(data))
        if len(value) != len(data):
            raise ValueError("a repeated item")
        return value

    return read


def _read_bytes(data: str) -> bytes:
    return base64.b64decode(data, validate=True)


def _read_int(data: str) -> int:
    if not re.fullmatch(rf"-?[0-9]{{1,{_MAX_DIGITS}}}", data):
        raise ValueError("not an int")
    return int(_decimal()(data))


def _read_decimal(data: Any) -> Decimal:
    value = _decimal()(data)
    if _digits(value) != data:
        raise ValueError("not as it would be written")
    return value


def _read_datetime(data: Any) -> datetime:
    text, key, fold, rest = (*_list(data), None, None, None)[:4]
    value = datetime.fromisoformat(str(text))
    if key is not None:
        value = value.replace(tzinfo=_zone_info()(key))
    elif rest is not None:
        value = value.replace(tzinfo=_read_offset(rest))
    return value.replace(fold=1) if fold else value


def _read_time(data: Any) -> time:
    text, fold, *rest = _list(data)
    value = time.fromisoformat(text).replace(fold=fold)
    return value.replace(tzinfo=_read_offset(*rest)) if rest else value


def _read_offset(data: Any) -> timezone:
    offset, name = _list(data)
    return timezone(_read_timedelta(offset), name)


def _read_timedelta(data: Any) -> timedelta:
    days, seconds, microseconds = _list(data)
    value = timedelta(days, seconds, microseconds)
    if data != [value.days, value.seconds, value.microseconds]:
        raise ValueError("not a timedelta in its normal form")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "~int": _read_int,
    "~tuple": lambda data: tuple(_list(data)),
    "~set": _read_set(set),
    "~frozenset": _read_set(frozenset),
    "~bytes": _read_bytes,
    "~datetime": _read_datetime,
    "~date": lambda data: _canonical(date.fromisoformat(data), data),
    "~time": _read_time,
    "~timedelta": _read_timedelta,
    "~decimal": _read_decimal,
    "~uuid": lambda data: _canonical(_uuid()(data), data),
}


def _read_pairs(pairs: list[tuple[str, Any]]) -> Any:
    return _untag(pairs) if len(pairs) == 1 and pairs[0][0].startswith("~") else _unique(pairs)


def _untag(pairs: list[tuple[str, Any]]) -> Any:
    tag, data = pairs[0]
    if tag.startswith("~~"):
        return {tag[1:]: data}
    return _READERS[tag](data)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a repeated name")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError("a number too large")
    return value


_plain = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
)
_tagged = json.JSONDecoder(
    object_pairs_hook=_read_pairs, parse_float=_finite, parse_constant=_no_constant
)
