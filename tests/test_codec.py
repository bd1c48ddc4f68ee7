"""Values to bytes and back: exactly, or not at all. With orjson and without, byte for byte alike."""

from __future__ import annotations

import collections
import decimal
import enum
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import VERY_DEEP, effort
from wsgi_sessions.data import codec as codec_module
from wsgi_sessions.data.codec import MAX_DEPTH, CorruptField, JSONCodec, UnstorableValue

CODEC = JSONCodec()
ORJSON = codec_module._orjson
ENGINES = pytest.mark.parametrize(
    "engine",
    [None, ORJSON],
    ids=["standard library", "orjson"],
    indirect=True,
)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """With orjson, or as where it isn't installed."""
    assert ORJSON is not None, "the test group has orjson"
    codec_module._orjson = request.param
    try:
        yield
    finally:
        codec_module._orjson = ORJSON


def both(value: Any) -> bytes:
    """The value's bytes, which are the same with orjson and without."""
    try:
        codec_module._orjson = None
        plain = CODEC.encode(value)
    finally:
        codec_module._orjson = ORJSON
    fast = CODEC.encode(value)
    assert plain == fast
    return plain


def shape(value: Any) -> Any:
    """The value with the types at all levels, so that equality tells 1, True and 1.0 apart."""
    kind = type(value)
    if kind is dict:
        return kind, [(key, shape(item)) for key, item in value.items()]
    if kind in (list, tuple):
        return kind, [shape(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(map(repr, map(shape, value)))
    if kind is float:
        return kind, value.hex()
    if kind in (datetime, time):
        zone = value.tzinfo
        key = zone.key if type(zone) is ZoneInfo else str(zone)
        text = value.replace(tzinfo=None, fold=0).isoformat()
        return kind, text, value.fold, type(zone), key, value.utcoffset()
    if kind is Decimal:
        return kind, value.as_tuple()
    return kind, value


BERLIN = ZoneInfo("Europe/Berlin")

# The wire format: these bytes are in stores, so they must stay readable for ever.
GOLDEN: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-7, "-7"),
    (2**63 - 1, "9223372036854775807"),
    (1 - 2**63, "-9223372036854775807"),
    (2**63, '{"~int":"9223372036854775808"}'),
    (-(2**64), '{"~int":"-18446744073709551616"}'),
    (0.0, "0.0"),
    (-0.0, "-0.0"),
    (1.0, "1.0"),
    (0.1, "0.1"),
    (1e-05, "1e-05"),
    (5e-324, "5e-324"),
    (1e16, "1e+16"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    ("", '""'),
    ("Grüße \U0001f600", '"Grüße \U0001f600"'),
    ('"\\\n\x00\x1f\x7f\u2028', '"\\"\\\\\\n\\u0000\\u001f\x7f\u2028"'),
    ("~tuple", '"~tuple"'),
    ([], "[]"),
    ([1, [2.0]], "[1,[2.0]]"),
    ([1e-05, 0.5], "[1e-05,0.5]"),
    ([-(2**63), 5], '[{"~int":"-9223372036854775808"},5]'),
    ([2**63, 5], '[{"~int":"9223372036854775808"},5]'),
    ([-0.0, 1e16], "[-0.0,1e+16]"),
    ({}, "{}"),
    ({"b": 1, "a": None}, '{"b":1,"a":null}'),
    ({"~tuple": [1]}, '{"~~tuple":[1]}'),
    ({"~": 1}, '{"~~":1}'),
    ({"~~a": 1}, '{"~~~a":1}'),
    ({"~tuple": [1], "b": 2}, '{"~tuple":[1],"b":2}'),
    ((), '{"~tuple":[]}'),
    ((1, (2,)), '{"~tuple":[1,{"~tuple":[2]}]}'),
    ({"b", "a", "ä"}, '{"~set":["a","b","ä"]}'),
    (frozenset({(1,), None}), '{"~frozenset":[null,{"~tuple":[1]}]}'),
    (set(), '{"~set":[]}'),
    (b"\x00\xff", '{"~bytes":"AP8="}'),
    (b"", '{"~bytes":""}'),
    (datetime(2026, 3, 1, 12, 30), '{"~datetime":["2026-03-01T12:30:00"]}'),
    (datetime(1, 1, 1, 0, 0, 0, 1), '{"~datetime":["0001-01-01T00:00:00.000001"]}'),
    (datetime(2026, 3, 1, tzinfo=UTC), '{"~datetime":["2026-03-01T00:00:00+00:00"]}'),
    (
        datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-5))),
        '{"~datetime":["2026-03-01T00:00:00-03:30:05"]}',
    ),
    (datetime(2026, 10, 25, 2, 30, fold=1), '{"~datetime":["2026-10-25T02:30:00",null,1]}'),
    (
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        '{"~datetime":["2026-10-25T02:30:00","Europe/Berlin",1]}',
    ),
    (datetime(2026, 5, 1, tzinfo=BERLIN), '{"~datetime":["2026-05-01T00:00:00","Europe/Berlin"]}'),
    (
        datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
        '{"~datetime":["2026-03-01T00:00:00+01:00",null,0,[[0,3600,0],"CET"]]}',
    ),
    (
        datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=-3), 'a "b"'), fold=1),
        '{"~datetime":["2026-03-01T00:00:00-03:00",null,1,[[-1,75600,0],"a \\"b\\""]]}',
    ),
    (
        datetime(2026, 3, 1, tzinfo=timezone(timedelta(microseconds=1), "a")),
        '{"~datetime":["2026-03-01T00:00:00+00:00:00.000001",null,0,[[0,0,1],"a"]]}',
    ),
    (
        datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=1, microseconds=1))),
        '{"~datetime":["2026-03-01T00:00:00+01:00:00.000001"]}',
    ),
    (date(2026, 2, 28), '{"~date":"2026-02-28"}'),
    (time(23, 59, 59, 5), '{"~time":["23:59:59.000005",0]}'),
    (time(2, 30, fold=1), '{"~time":["02:30:00",1]}'),
    (time(2, tzinfo=timezone(timedelta(hours=2))), '{"~time":["02:00:00+02:00",0]}'),
    (
        time(2, tzinfo=timezone(timedelta(hours=2), "CEST"), fold=1),
        '{"~time":["02:00:00+02:00",1,[[0,7200,0],"CEST"]]}',
    ),
    (
        time(2, tzinfo=timezone(timedelta(microseconds=5))),
        '{"~time":["02:00:00+00:00:00.000005",0,[[0,0,5],"UTC+00:00:00.000005"]]}',
    ),
    (
        time(2, tzinfo=timezone(timedelta(microseconds=-5), "UTC")),
        '{"~time":["02:00:00-00:00:00.000005",0,[[-1,86399,999995],"UTC"]]}',
    ),
    (timedelta(-1, 5, 7), '{"~timedelta":[-1,5,7]}'),
    (timedelta.max, '{"~timedelta":[999999999,86399,999999]}'),
    (Decimal("-0.00"), '{"~decimal":"-0.00"}'),
    (Decimal("1E+3"), '{"~decimal":"1E+3"}'),
    (Decimal("-Infinity"), '{"~decimal":"-Infinity"}'),
    ([Decimal("-NaN123"), Decimal("sNaN")], '[{"~decimal":"-NaN123"},{"~decimal":"sNaN"}]'),
    (UUID(int=5), '{"~uuid":"00000000-0000-0000-0000-000000000005"}'),
]


@ENGINES
@pytest.mark.parametrize(("value", "text"), GOLDEN, ids=[text for _, text in GOLDEN])
def test_the_wire_format_is_fixed_and_exact(engine: None, value: Any, text: str) -> None:
    encoded = CODEC.encode(value)

    assert encoded == text.encode()
    assert shape(CODEC.decode(encoded)) == shape(value)
    json.loads(encoded)  # any JSON reader can look at it


def test_what_python_takes_for_equal_differs_on_the_wire() -> None:
    pairs = [(1, True), (1, 1.0), (0.0, -0.0), (0, False), ([], ()), ({1}, frozenset({1}))]
    pairs += [("1", 1), (b"a", "a"), (Decimal("1.0"), Decimal("1.00")), (None, {})]
    pairs += [(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")))]

    for one, other in pairs:
        assert both(one) != both(other)
        assert both([one]) != both([other])


def test_a_dicts_order_is_kept_and_a_sets_doesnt_matter() -> None:
    forward, backward = [f"n{i}" for i in range(50)], [f"n{i}" for i in reversed(range(50))]

    assert both(set(forward)) == both(set(backward))
    assert both(dict.fromkeys(forward)) != both(dict.fromkeys(backward))
    assert list(CODEC.decode(both(dict.fromkeys(backward)))) == backward


DAY = 86_400_000_000
OFFSETS = st.builds(
    lambda microseconds, name: timezone(timedelta(microseconds=microseconds), *name),
    st.integers(-86399, 86399).map(lambda seconds: seconds * 1_000_000)
    | st.integers(-2_000_000, 2_000_000)
    | st.integers(1 - DAY, DAY - 1),
    st.just(()) | st.sampled_from([("",), ("CET",), ("UTC",), ("UTC+01:00",)]),
)
ZONES: st.SearchStrategy[tzinfo | None] = st.one_of(
    st.none(), OFFSETS, st.just(UTC), st.sampled_from(["Europe/Berlin", "UTC"]).map(ZoneInfo)
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["~", "~tuple", "~~"]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**62, 2**65),
    FLOATS,
    TEXT,
    st.binary(max_size=12),
    st.builds(
        lambda at, fold: at.replace(fold=fold),
        st.datetimes(timezones=ZONES),
        st.integers(0, 1),
    ),
    st.dates(),
    st.times(timezones=st.none() | OFFSETS),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
)
HASHABLE = st.recursive(
    # A signalling NaN has no hash.
    SCALARS.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(TEXT, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@effort(150)
@given(VALUES | PLAIN)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    encoded = both(value)

    back = CODEC.decode(encoded)

    assert shape(back) == shape(value)
    assert both(back) == encoded


@effort(150)
@given(PLAIN)
def test_both_engines_read_alike(value: Any) -> None:
    encoded = both(value)
    fast = CODEC.decode(encoded)
    try:
        codec_module._orjson = None
        plain = CODEC.decode(encoded)
    finally:
        codec_module._orjson = ORJSON

    assert shape(fast) == shape(plain) == shape(value)


class Colour(enum.StrEnum):
    RED = "red-secret"


class Plain(enum.Enum):
    RED = "red-secret"


class Level(enum.IntEnum):
    LOW = 7654321


class Point(NamedTuple):
    x: int


class Text(str):
    """Such as Markup."""

    __slots__ = ()


class OwnZone(tzinfo):
    def utcoffset(self, at: object) -> timedelta:
        return timedelta(0)

    def dst(self, at: object) -> None:
        return None

    def tzname(self, at: object) -> str:
        return "here"


def zone_of_file(key: str | None) -> ZoneInfo:
    """UTC, as read from a file."""
    counts = bytes([0, 0, 0, 1, 0, 0, 0, 4])
    return ZoneInfo.from_file(io.BytesIO(b"TZif" + bytes(32) + counts + bytes(6) + b"UTC\0"), key)


def nested(levels: int, kind: str = "list") -> Any:
    value: Any = 0
    for _ in range(levels):
        value = {"list": [value], "dict": {"a": value}, "tuple": (value,)}[kind]
    return value


def within_itself(times: int) -> list[Any]:
    value: list[Any] = []
    value.extend([value] * times)
    return value


REFUSED: list[tuple[Any, str, str]] = [
    # str(Colour.RED) is another text.
    (Colour.RED, "", "a value of type Colour would come back as str; store its .value"),
    (Level.LOW, "", "a value of type Level would come back as int; store its .value"),
    (Plain.RED, "", "a value of type Plain would not come back as it was; store its .value"),
    (Text("red-secret"), "", r"a value of type Text would come back as str; store str\(…\) of it"),
    (Point(7654321), "", "a value of type Point would come back as tuple"),
    (collections.OrderedDict(a=1), "", "a value of type OrderedDict would come back as dict"),
    (collections.defaultdict(list), "", "a value of type defaultdict would come back as dict"),
    (object(), "", "a value of type object would not come back as it was"),
    (1j, "", "a value of type complex would not come back as it was"),
    (bytearray(b"red-secret"), "", "a value of type bytearray would not come back"),
    (math.nan, "", "isn't finite"),
    (math.inf, "", "isn't finite"),
    ([1.0, 1e308, 1e308, -math.inf], "[3]", "isn't finite"),
    ("\ud800", "", "can't be encoded as UTF-8"),
    ({"a": ["x", "\udfff"]}, "['a'][1]", "can't be encoded as UTF-8"),
    ({"a": {"\ud800": 1}}, "['a']", "can't be encoded as UTF-8"),
    ({"a": (1, {2: 1})}, "['a'][1]", "a dict's keys are str, and this one is int"),
    ({Text("a"): 1}, "", "a dict's keys are str, and this one is Text"),
    (
        {"cart": [{"price": Level.LOW}]},
        "['cart'][0]['price']",
        "a value of type Level would come back as int",
    ),
    ([{"a": {1, Point(7654321)}}], "[0]['a']{…}", "a value of type Point would come back as tuple"),
    ((1, [object()]), "[1][0]", "a value of type object would not come back"),
    (10**4300, "", "an int of more than 4300 digits"),
    ([-(10**5000)], "[0]", "an int of more than 4300 digits"),
    (
        [datetime(2026, 1, 1, tzinfo=OwnZone())],
        "[0]",
        "a datetime with a time zone of type OwnZone",
    ),
    (
        datetime(2026, 1, 1, tzinfo=zone_of_file(None)),
        "",
        "a ZoneInfo that can't be found again by its key, as one of ZoneInfo.from_file; use one such as",
    ),
    (datetime(2026, 1, 1, tzinfo=zone_of_file("No/Such")), "", "a ZoneInfo that can't be found"),
    (
        time(1, tzinfo=BERLIN),
        "",
        "a time with a time zone of type ZoneInfo; use datetime.timezone, or a time without",
    ),
    (datetime(2026, 1, 1, tzinfo=timezone(timedelta(1 / 2), "\ud800")), "", "encoded as UTF-8"),
    (nested(MAX_DEPTH + 1), "[0]", "nested more than 100 levels"),
    (nested(MAX_DEPTH + 1, "dict"), "['a']", "nested more than 100 levels"),
    (nested(MAX_DEPTH + 1, "tuple"), "[0]", "nested more than 100 levels"),
    (nested(VERY_DEEP), "[0]", "nested more than 100 levels"),
    (within_itself(1), "[0]", "within itself"),
    (within_itself(3), "[0]", "within itself"),
    (within_itself(1000), "[0]", "within itself"),
]


@ENGINES
@pytest.mark.parametrize(
    ("value", "path", "reason"), REFUSED, ids=[f"{i} {row[2]}" for i, row in enumerate(REFUSED)]
)
def test_what_would_not_come_back_exactly_is_refused(
    engine: None, value: Any, path: str, reason: str
) -> None:
    with pytest.raises(UnstorableValue, match=reason) as caught:
        CODEC.encode(value)

    assert caught.value.path == path
    assert isinstance(caught.value, TypeError)
    assert "red-secret" not in str(caught.value)
    assert "7654321" not in str(caught.value)


@ENGINES
@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_as_deep_as_the_limit_is_fine(engine: None, kind: str) -> None:
    value = nested(MAX_DEPTH, kind)

    assert CODEC.decode(CODEC.encode(value)) == value


# Requirement ST-3: what is damaged is corrupt, never another error, never another value.
CORRUPT = [
    b"",
    b" ",
    b"\xff\xfe",
    b'"\xc3"',
    b'"\xed\xa0\x80"',
    b"nul",
    b"1 2",
    b"[1,]",
    b"{'a':1}",
    b"\xef\xbb\xbf1",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1e999",
    b"-1e999",
    b"9" * 5000,
    b'["~",' + b"9" * 5000 + b"]",
    b'{"a":1,"a":2}',
    b'[{"a":1,"b":0,"a":1}]',
    b'{"~tuple":[1],"~tuple":[2]}',
    b'"\\ud800"',
    b'"\\\\\\udfff"',
    b'["~","\\uD800"]',
    b"[" * VERY_DEEP,
    b'{"a":' * VERY_DEEP,
    b'{"~tuple":[' * VERY_DEEP,
    b"[" * VERY_DEEP + b"]" * VERY_DEEP,
    b"\x80\x04\x95\x0b\x00\x00\x00",
    b'{"~":1}',
    b'{"~nope":1}',
    b'{"~tuple":"ab"}',
    b'{"~tuple":{"a":1}}',
    b'{"~tuple":null}',
    b'{"~set":"ab"}',
    b'{"~set":[1,1]}',
    b'{"~set":[1,true]}',
    b'{"~set":[[1]]}',
    b'{"~frozenset":{}}',
    b'{"~int":5}',
    b'{"~int":"1_000"}',
    b'{"~int":" 5"}',
    '{"~int":"٥"}'.encode(),
    b'{"~int":"' + b"9" * 5000 + b'"}',
    b'{"~bytes":"A"}',
    b'{"~bytes":"A*=="}',
    b'{"~bytes":[1]}',
    b'{"~date":"20260101"}',
    b'{"~date":"2026-13-01"}',
    b'{"~date":5}',
    b'{"~datetime":"2026-01-01T00:00:00"}',
    b'{"~datetime":[]}',
    b'{"~datetime":[5]}',
    b'{"~datetime":["2026-01-01T00:00:00","../../etc/passwd"]}',
    b'{"~datetime":["2026-01-01T00:00:00","No/Such"]}',
    b'{"~datetime":["2026-01-01T00:00:00+01:00",null,0,[3600,"CET"]]}',
    b'{"~datetime":["2026-01-01T00:00:00+01:00",null,0,[[0,3600,0],5]]}',
    b'{"~datetime":["2026-01-01T00:00:00+01:00",null,0,[[1,0,0],"CET"]]}',
    b'{"~datetime":["2026-01-01T00:00:00+01:00",null,0,[[0,3600.0,0.5],"CET"]]}',
    b'{"~time":["25:00",0]}',
    b'{"~time":["02:00",0,[[0,3600,0],"CET"],1]}',
    b'{"~time":["02:00",0,[[0,3600,0]]]}',
    b'{"~time":["02:00",7]}',
    b'{"~time":["02:00:00"]}',
    b'{"~timedelta":[1]}',
    b'{"~timedelta":[1,2,3,4]}',
    b'{"~timedelta":[1.5,0,0]}',
    b'{"~timedelta":[0,90000,0]}',
    b'{"~timedelta":[1e300,0,0]}',
    b'{"~timedelta":["1",0,0]}',
    b'{"~decimal":"nan"}',
    b'{"~decimal":"inf"}',
    b'{"~decimal":"abc"}',
    b'{"~decimal":5}',
    b'{"~decimal":"1_0"}',
    b'{"~decimal":[0,[1],2]}',
    b'{"~uuid":"5"}',
    b'{"~uuid":"{00000000-0000-0000-0000-000000000005}"}',
    b'{"~uuid":5}',
]


@ENGINES
@pytest.mark.parametrize("data", CORRUPT, ids=[repr(data[:40]) for data in CORRUPT])
def test_st_3_damage_is_corrupt_and_nothing_else(engine: None, data: bytes) -> None:
    with pytest.raises(CorruptField):
        CODEC.decode(data)


def at_depth(depth: int, work: Callable[[], Any]) -> Any:
    return work() if depth == 0 else at_depth(depth - 1, work)


@ENGINES
def test_a_caller_that_is_deep_in_its_stack_does_not_make_a_value_damaged(engine: None) -> None:
    value: Any = ()
    for _ in range(MAX_DEPTH - 1):
        value = (value,)
    data = CODEC.encode(value)
    assert CODEC.decode(data) == value
    ends = set()

    def work() -> str:
        try:
            return type(CODEC.decode(data)).__name__
        except CorruptField:
            return "damaged"

    for depth in range(sys.getrecursionlimit()):
        try:
            ends.add(at_depth(depth, work))
        except RecursionError:
            ends.add("too deep")

    assert ends == {"tuple", "too deep"}


@ENGINES
def test_big_ints_stay_ints_whoever_wrote_them(engine: None) -> None:
    assert CODEC.decode(b"[123456789012345678901]") == [123456789012345678901]


@ENGINES
@effort(120)
@given(st.binary(max_size=40) | st.text('[]{}",:~0123eE-. \\utaple', max_size=30).map(str.encode))
def test_any_bytes_at_all_are_a_value_or_corrupt(engine: None, data: bytes) -> None:
    try:
        value = CODEC.decode(data)
    except CorruptField:
        return

    CODEC.encode(value)  # whatever was read can be stored


@ENGINES
@pytest.mark.parametrize("text", [text for _, text in GOLDEN])
def test_a_damaged_byte_is_another_value_or_corrupt(engine: None, text: str) -> None:
    encoded = text.encode()
    for place in range(len(encoded)):
        for byte in b'\x00"019[]{},:~\\eE.- aZ\x7f\x80\xff':
            damaged = encoded[:place] + bytes([byte]) + encoded[place + 1 :]
            try:
                value = CODEC.decode(damaged)
            except CorruptField:
                continue
            CODEC.encode(value)  # whatever was read can be stored


def test_an_error_of_decoding_shows_nothing_of_the_value() -> None:
    with pytest.raises(CorruptField) as caught:
        CODEC.decode(b'{"password":"red-secret"')

    assert "red-secret" not in str(caught.value)
    assert "password" not in str(caught.value)


# Telling an unchanged value without encoding it


class Number(enum.IntEnum):
    ONE = 1


class Letter(enum.StrEnum):
    X = "x"


NOW = datetime(2026, 1, 2, 3, 4, 5)


@ENGINES
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 2], (1, 2)),
        ([None], [math.nan]),
        ([None], [-math.inf]),
        ([0.0], [-0.0]),
        ([1], [True]),
        ([1], [1.0]),
        ([NOW.isoformat()], [NOW]),
        ([str(UUID(int=7))], [UUID(int=7)]),
        ([1], [Number.ONE]),
        (["x"], [Letter.X]),
        (["x"], [type("Text", (str,), {})("x")]),
        ((1, 2), {"~tuple": [1, 2]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([2**53], [2**53 + 1]),
        ({"1": 0}, {1: 0}),
        (["x"], ["\ud800"]),
    ],
)
def test_what_looks_alike_in_json_is_not_taken_for_unchanged(
    engine: None, before: Any, after: Any
) -> None:
    known = CODEC.encode(before)
    try:
        assert CODEC.reencode(after, known) == CODEC.encode(after) != known
    except UnstorableValue:
        with pytest.raises(UnstorableValue):
            CODEC.encode(after)


@ENGINES
@given(value=VALUES, other=VALUES)
def test_encoding_again_gives_what_encoding_gives(engine: None, value: Any, other: Any) -> None:
    known, encoded = CODEC.encode(value), CODEC.encode(other)
    assert CODEC.reencode(value, known) == known
    assert CODEC.reencode(other, known) == encoded
    assert CODEC.reencode([value], known) == CODEC.encode([value])


@given(PLAIN)
def test_a_plain_value_is_told_from_a_changed_one_without_encoding_it(value: Any) -> None:
    known = CODEC.encode(value)
    assert (
        CODEC.reencode(value, known) is known
        or not isinstance(value, (list, dict))
        or b"~" in known
        or b"null" in known
        or b"e-" in known
        or b"e+" in known
    )


def test_an_unchanged_value_with_long_ints_is_told_without_encoding_it() -> None:
    value = {"id": 2**60}
    known = CODEC.encode(value)
    assert CODEC.reencode(value, known) is known
    value["id"] += 1
    assert CODEC.reencode(value, known) == CODEC.encode(value)


@pytest.fixture(params=[0, 640])
def digit_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Another limit than Python's own for turning ints into text: none, and the lowest."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(request.param)
    yield
    sys.set_int_max_str_digits(before)


@ENGINES
def test_which_ints_are_kept_is_not_up_to_the_process(engine: None, digit_limit: None) -> None:
    for value in (10**4300 - 1, 1 - 10**4300, 2**63, -(2**64), 10**1000):
        assert CODEC.decode(CODEC.encode([value])) == [value]
    with pytest.raises(UnstorableValue, match="an int of more than 4300 digits"):
        CODEC.encode(10**4300)


CONTEXTS = [
    decimal.Context(capitals=0),
    decimal.Context(prec=1, Emin=0, Emax=0, clamp=1),
    decimal.Context(prec=1, traps=list(decimal.Context().flags)),
    decimal.Context(prec=1, traps=[]),
]


@ENGINES
@pytest.mark.parametrize("context", CONTEXTS, ids=map(str, range(len(CONTEXTS))))
def test_the_decimal_context_changes_nothing(engine: None, context: decimal.Context) -> None:
    for value, text in GOLDEN:
        with decimal.localcontext(context):
            written = CODEC.encode(value)
            assert shape(CODEC.decode(written)) == shape(value)
        assert written == text.encode()
    for value in (Decimal("1E+5"), Decimal("-1.5E-2000"), 10**4000, Decimal("9" * 100)):
        written = CODEC.encode(value)
        with decimal.localcontext(context):
            assert CODEC.encode(value) == written
            assert shape(CODEC.decode(written)) == shape(value)
