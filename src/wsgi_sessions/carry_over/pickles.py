"""Reading pickles as data: plain values, or a reason why not. Nothing is ever executed.

A pickle is a program for a machine that can import and call anything. ``pickle.loads`` runs that
program, with or without a filter; this module doesn't. `pickletools.genops` takes the opcodes
apart, which only parses, and those in the table below are interpreted on a stack of plain values.
Names of types are compared with a short list and never looked up: where the list has a datetime, it
is built here, from numbers that were checked. Any other opcode or name ends the reading.

There is no need to trust what is read. Size, number of steps and depth are bounded, including what
small pickles expand to (a list that holds a list twice, which holds a list twice …), and sets are
kept small and flat, because Python hashes what it puts into them.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NoReturn, cast
from uuid import UUID

from .source import CannotKeep, kind_of

MAX_BYTES = 1024 * 1024
MAX_STEPS = 100_000
"""Opcodes that are interpreted, and items that all values together may have."""
MAX_DEPTH = 100
"""Levels of nesting: as many as the codec keeps."""
_MAX_SET = 1000
_COMPARED_IN_A_STEP = 50
"""Items of sets: four sets of the most items can be read."""
_MAX_INT_BITS = 14_000
"""What has fewer than 4,300 digits, more of which Python doesn't print."""
_MAX_DIGITS = 1000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,100} [A-Za-z_][A-Za-z0-9_.]{0,100}")


class _Type:
    """A name of the list, on the stack. Not a value: it may not remain in the result."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class _Unbuilt:
    """A UUID that was announced, but not given its number yet."""

    __slots__ = ("memo_keys",)

    def __init__(self) -> None:
        self.memo_keys: list[int] = []


def read_pickle(data: bytes) -> Any:
    """The value of a pickle of any protocol: None, bool, int, float, str, bytes, list, dict with
    str keys, tuple, set, frozenset, datetime, date, time, timedelta, Decimal and UUID, nested in
    any way.

    Raises:
        CannotKeep: it is, or holds, anything else. Nothing but this is ever raised.
    """
    if len(data) > MAX_BYTES:
        _stop(f"a pickle of more than {MAX_BYTES} bytes")
    return _Reader().read(data)


# The types of the list, built from what pickle has for arguments


def _stop(reason: str) -> NoReturn:
    raise CannotKeep(reason)


def _broken(_error: object = None) -> NoReturn:
    _stop("a damaged pickle")


def _microseconds(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _zone(rest: tuple[Any, ...]) -> timezone | None:
    if not rest:
        return None
    (zone,) = rest
    if type(zone) is not timezone:
        _broken()
    return zone


def _make_datetime(raw: Any, *rest: Any) -> datetime:
    if type(raw) is not bytes or len(raw) != 10:
        _broken()
    year, month = int.from_bytes(raw[:2], "big"), raw[2] & 0x7F
    day, hour, minute, second = raw[3:7]
    return datetime(
        year,
        month,
        day,
        hour,
        minute,
        second,
        _microseconds(raw[7:]),
        _zone(rest),
        fold=raw[2] >> 7,
    )


def _make_date(raw: Any) -> date:
    if type(raw) is not bytes or len(raw) != 4:
        _broken()
    return date(int.from_bytes(raw[:2], "big"), raw[2], raw[3])


def _make_time(raw: Any, *rest: Any) -> time:
    if type(raw) is not bytes or len(raw) != 6:
        _broken()
    return time(
        raw[0] & 0x7F, raw[1], raw[2], _microseconds(raw[3:]), _zone(rest), fold=raw[0] >> 7
    )


def _make_timedelta(*parts: Any) -> timedelta:
    if len(parts) != 3 or any(type(part) is not int for part in parts):
        _broken()
    return timedelta(*parts)


def _make_timezone(offset: Any, *name: Any) -> timezone:
    if name:
        _stop("a datetime.timezone with a name")
    # No zone has fractions of a second, and Python itself doesn't read back all that it writes.
    if type(offset) is not timedelta or offset.microseconds:
        _broken()
    return timezone(offset)


def _make_decimal(text: Any) -> Decimal:
    if type(text) is not str or len(text) > _MAX_DIGITS:
        _broken()
    return Decimal(text)


def _encode_latin1(text: Any, encoding: Any) -> bytes:
    # How protocols 0 to 2 spell bytes.
    if type(text) is not str or encoding != "latin1":
        _broken()
    return text.encode("latin-1")


def _make_empty_bytes() -> bytes:
    return b""


def _make_set(items: Any = ()) -> set[Any]:
    return set(items)  # the reader has checked them


def _make_frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(items)


def _not_called(*parts: Any) -> NoReturn:
    del parts
    _broken()  # UUIDs are pickled with NEWOBJ and BUILD, not with REDUCE


_UUID = _Type(_not_called)
_TYPES = {
    "datetime datetime": _Type(_make_datetime),
    "datetime date": _Type(_make_date),
    "datetime time": _Type(_make_time),
    "datetime timedelta": _Type(_make_timedelta),
    "datetime timezone": _Type(_make_timezone),
    "decimal Decimal": _Type(_make_decimal),
    "uuid UUID": _UUID,
    "builtins set": _Type(_make_set),
    "builtins frozenset": _Type(_make_frozenset),
    "builtins bytes": _Type(_make_empty_bytes),
    # As Python 2 called them, which protocols 0 to 2 still do.
    "__builtin__ set": _Type(_make_set),
    "__builtin__ frozenset": _Type(_make_frozenset),
    "__builtin__ bytes": _Type(_make_empty_bytes),
    "_codecs encode": _Type(_encode_latin1),
}

_SCALARS = frozenset(
    {type(None), bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID}
)


# The machine


class _Reader:
    """Interprets one pickle. ``stack`` is what is above the last mark."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        """What is below each mark."""
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def read(self, data: bytes) -> Any:
        try:
            for opcode, argument, _ in pickletools.genops(data):
                self.spend(1)
                self.step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, Warning) as error:
            # Not a pickle, cut short, more taken from the stack or the memo than is there, a number
            # that has no hash (a signalling NaN), or text of Python 2 with an escape that Python
            # warns of, where warnings are errors.
            _broken(error)
        if len(self.stack) != 1 or self.marked:
            _broken()
        _measure(self.stack[0])
        return self.stack[0]

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            _stop(f"a pickle of more than {MAX_STEPS} steps")

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _CHECKED:
            self.stack.append(_CHECKED[name](argument))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name == "INST":
            _type_of(argument)
            _broken()
        elif name == "BYTEARRAY8":
            _stop("it holds a bytearray, which isn't plain data")
        elif name not in _WITHOUT_EFFECT:
            _stop(f"the pickle opcode {name}, which isn't plain data")

    def items_after_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.marked.pop()

    def pop_mark(self, _: Any) -> None:
        self.items_after_mark()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int | None) -> None:
        key = len(self.memo) if index is None else index
        self.memo[key] = self.stack[-1]
        if type(self.stack[-1]) is _Unbuilt:
            self.stack[-1].memo_keys.append(key)

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    # Containers

    def tuple_of(self, count: int) -> None:
        if count:
            items = tuple(self.stack[-count:])
            if len(items) != count:
                _broken()
            del self.stack[-count:]
            self.stack.append(items)
        else:
            self.stack.append(())

    def tuple_after_mark(self, _: Any) -> None:
        items = self.items_after_mark()
        self.stack.append(tuple(items))

    def list_after_mark(self, _: Any) -> None:
        items = self.items_after_mark()
        self.stack.append(items)

    def empty_list(self, _: Any) -> None:
        self.stack.append([])

    def empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def empty_set(self, _: Any) -> None:
        self.stack.append(set())

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self.top(list).append(item)

    def append_all(self, _: Any) -> None:
        items = self.items_after_mark()
        self.top(list).extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def set_items(self, _: Any) -> None:
        self.fill(self.items_after_mark())

    def dict_after_mark(self, _: Any) -> None:
        items = self.items_after_mark()
        self.stack.append({})
        self.fill(items)

    def fill(self, items: list[Any]) -> None:
        target = self.top(dict)
        keys = items[::2]
        if any(type(key) is not str for key in keys):
            # Nor would any other key be kept; and hashing it might take forever.
            _stop("it holds a dict with keys that aren't str")
        target.update(zip(keys, items[1::2], strict=True))

    def add_items(self, _: Any) -> None:
        items = self.items_after_mark()
        target = self.top(set)
        self.check_hashable(items, len(target))
        target.update(items)
        if len(target) > _MAX_SET:
            _stop(_LARGE_SET)

    def frozenset_after_mark(self, _: Any) -> None:
        items = self.items_after_mark()
        self.check_hashable(items)
        self.stack.append(frozenset(items))

    def check_hashable(self, items: Any, beside: int = 0) -> None:
        """Only what is hashed fast goes into sets: scalars, and tuples of them.

        Where all have the same hash, each is compared with the others, and with those ``beside``.
        """
        kind = kind_of(items)
        if kind is not list:
            _broken()
        if len(items) > _MAX_SET:
            _stop(_LARGE_SET)
        self.spend(len(items) * (len(items) + beside) // _COMPARED_IN_A_STEP)
        for item in items:
            of = kind_of(item)
            parts = item if of is tuple else (item,)
            self.spend(1 + len(parts))
            if any(type(part) not in _SCALARS for part in parts):
                _stop("it holds a set of something other than plain values and tuples of them")

    def top(self, kind: type[Any]) -> Any:
        """The last value, to be filled: of exactly this type."""
        target = self.stack[-1]
        if type(target) is not kind:
            _broken()
        return target

    # Types of the list

    def name(self, text: str) -> None:
        self.stack.append(_type_of(text))

    def stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            _broken()
        self.stack.append(_type_of(f"{module} {name}"))

    def reduce(self, _: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        given = kind_of(arguments)
        if type(kind) is not _Type or given is not tuple:
            _broken()
        parts: tuple[Any, ...] = arguments
        if kind.make in (_make_set, _make_frozenset) and parts:
            self.check_hashable(parts[0])
        elif parts and type(parts[0]) is str:
            self.spend(_weight(parts[0]))
        try:
            self.stack.append(kind.make(*parts))
        except (TypeError, ValueError, ArithmeticError) as error:
            _broken(error)

    def announce_uuid(self, _: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is not _UUID or arguments != ():
            _broken()
        self.stack.append(_Unbuilt())

    def build_uuid(self, _: Any) -> None:
        state, unbuilt = self.stack.pop(), self.stack.pop()
        if type(unbuilt) is not _Unbuilt or type(state) is not dict:
            _broken()
        # Some Pythons note where the UUID comes from, too, by a class of its own: not kept.
        number = cast("dict[str, Any]", state).get("int")
        if len(cast("dict[str, Any]", state)) != 1 or type(number) is not int:
            _broken()
        if not 0 <= number < 1 << 128:
            _broken()
        uuid = UUID(int=number)
        self.stack.append(uuid)
        for key in unbuilt.memo_keys:
            self.memo[key] = uuid


_LARGE_SET = f"it holds a set of more than {_MAX_SET} items"


def _type_of(text: str) -> _Type:
    kind = _TYPES.get(text)
    if kind is None:
        name = text.replace(" ", ".") if _NAME.fullmatch(text) else "type with an odd name"
        _stop(f"it holds a {name}, which isn't plain data")
    return kind


def _same(value: Any) -> Any:
    return value


def _printable_int(value: int) -> int:
    if value.bit_length() > _MAX_INT_BITS:
        _stop("it holds an int with too many digits")
    return value


def _ascii(value: str) -> str:
    if not value.isascii():
        _stop("it holds text of Python 2 that isn't ASCII")
    return value


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_WITHOUT_EFFECT = frozenset({"PROTO", "FRAME", "STOP"})
_CHECKED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _printable_int
    ),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _ascii),
    **dict.fromkeys(
        (
            "FLOAT",
            "BINFLOAT",
            "UNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE",
            "BINUNICODE8",
            "SHORT_BINBYTES",
            "BINBYTES",
            "BINBYTES8",
        ),
        _same,
    ),
}
_ACTIONS: dict[str, Callable[[_Reader, Any], None]] = {
    "MARK": _Reader.mark,
    "POP": _Reader.pop,
    "POP_MARK": _Reader.pop_mark,
    "DUP": _Reader.duplicate,
    **dict.fromkeys(("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"), _Reader.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Reader.get),
    "EMPTY_TUPLE": lambda reader, _: reader.tuple_of(0),
    "TUPLE1": lambda reader, _: reader.tuple_of(1),
    "TUPLE2": lambda reader, _: reader.tuple_of(2),
    "TUPLE3": lambda reader, _: reader.tuple_of(3),
    "TUPLE": _Reader.tuple_after_mark,
    "EMPTY_LIST": _Reader.empty_list,
    "LIST": _Reader.list_after_mark,
    "APPEND": _Reader.append,
    "APPENDS": _Reader.append_all,
    "EMPTY_DICT": _Reader.empty_dict,
    "DICT": _Reader.dict_after_mark,
    "SETITEM": _Reader.set_item,
    "SETITEMS": _Reader.set_items,
    "EMPTY_SET": _Reader.empty_set,
    "ADDITEMS": _Reader.add_items,
    "FROZENSET": _Reader.frozenset_after_mark,
    "GLOBAL": _Reader.name,
    "STACK_GLOBAL": _Reader.stack_name,
    "REDUCE": _Reader.reduce,
    "NEWOBJ": _Reader.announce_uuid,
    "BUILD": _Reader.build_uuid,
}


# The result


def _weight(value: Any) -> int:
    """Steps that a plain value counts for: what copying and encoding it costs."""
    kind, size = kind_of(value), 0
    if kind in (str, bytes):
        size = len(value)
    elif kind is int:
        size = value.bit_length()
    elif kind is Decimal:
        size = len(str(value))
    return 1 + size // 64


def _measure(value: Any) -> None:
    """Check that a value consists only of plain values, and how much it expands to.

    Values that occur in several places are looked at once, and counted each time.
    """
    known: dict[int, tuple[int, int]] = {}

    def visit(item: Any, depth: int) -> tuple[int, int]:
        """Weight and height."""
        kind = kind_of(item)
        if kind in _SCALARS:
            return _weight(item), 0
        if kind not in _CONTAINERS:
            _broken()
        if id(item) not in known:
            if depth > MAX_DEPTH:
                _stop(_TOO_DEEP)
            parts: list[Any] = [*item.keys(), *item.values()] if kind is dict else list(item)
            inner = [visit(part, depth + 1) for part in parts]
            known[id(item)] = (
                1 + sum(weight for weight, _ in inner),
                1 + max((height for _, height in inner), default=0),
            )
        weight, height = known[id(item)]
        if depth + height > MAX_DEPTH:
            _stop(_TOO_DEEP)
        if weight > MAX_STEPS:
            _stop(f"a pickle that expands to more than {MAX_STEPS} items")
        return weight, height

    visit(value, 0)


_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep, or within itself"
