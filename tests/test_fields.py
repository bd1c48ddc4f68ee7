"""Encoded fields seen as live values: what is decoded when, what counts as a change."""

from __future__ import annotations

import copy
import enum
import math
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from ssl import SSLCertVerificationError
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from effort import effort
from wsgi_sessions.data.codec import CorruptField, JSONCodec
from wsgi_sessions.data.fields import NO_FIELD_CHANGES, FieldChanges, Fields
from wsgi_sessions.errors import StoreError

CODEC = JSONCodec()


class CountingCodec:
    """The standard codec, which counts what it is asked to do."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def encode(self, value: Any) -> bytes:
        self.calls["encode"] += 1
        return CODEC.encode(value)

    def decode(self, data: bytes) -> Any:
        self.calls["decode"] += 1
        return CODEC.decode(data)


def encoded(**values: Any) -> dict[str, bytes]:
    return {name: CODEC.encode(value) for name, value in values.items()}


def fields_of(**values: Any) -> Fields:
    return Fields(encoded(**values), CODEC)


NOTHING: tuple[dict[str, bytes], frozenset[str]] = ({}, frozenset())


class TestReading:
    def test_only_what_is_read_is_decoded_and_that_once(self) -> None:
        codec = CountingCodec()
        fields = Fields(encoded(a=1, b=[2], c="3"), codec)

        assert "a" in fields
        assert len(fields) == 3
        assert list(fields) == ["a", "b", "c"]
        assert bool(fields)
        assert codec.calls == {}
        assert fields["b"] is fields["b"]
        assert codec.calls == {"decode": 1}

    def test_what_isnt_there(self) -> None:
        fields = fields_of(a=1)

        assert "b" not in fields
        assert fields.get("b") is None
        assert fields.get("b", 5) == 5
        with pytest.raises(KeyError, match="b"):
            fields["b"]
        with pytest.raises(KeyError, match="b"):
            del fields["b"]
        assert not Fields({}, CODEC)

    def test_damage_is_raised_to_the_reader_of_that_field_alone(self) -> None:
        fields = Fields({"good": b"1", "bad": b"{"}, CODEC)

        assert fields["good"] == 1
        with pytest.raises(CorruptField):
            fields["bad"]

    def test_damage_is_raised_to_whoever_sets_or_deletes_that_field(self) -> None:
        fields = Fields({"a": b"{", "b": b"{"}, CODEC)

        with pytest.raises(CorruptField):
            fields["a"] = 1
        with pytest.raises(CorruptField):
            del fields["b"]
        fields["c"] = 3

        assert fields.changes() == (encoded(c=3), frozenset())

    def test_damage_doesnt_keep_fields_from_being_dropped(self) -> None:
        fields = Fields({"a": b"{", "b": b"{", "c": b"3"}, CODEC)

        fields.retain(["c"])
        assert fields.changes() == ({}, frozenset("ab"))
        fields.clear()
        assert fields.changes() == ({}, frozenset("abc"))

    def test_loaded_names_are_those_that_were_read_or_set(self) -> None:
        fields = fields_of(a=1, b=2)
        _ = fields["b"]
        fields["c"] = 3

        assert list(fields.loaded_names()) == ["b", "c"]

    def test_the_base_comes_first_then_what_is_new(self) -> None:
        fields = fields_of(b=1, a=2)
        fields["0"] = 3
        fields["b"] = 4

        assert list(fields.items()) == [("b", 4), ("a", 2), ("0", 3)]

    def test_fields_may_be_changed_while_they_are_gone_through(self) -> None:
        fields = fields_of(a=1, b=2, c=3)
        for name in fields:
            del fields[name]

        assert dict(fields) == {}


class TestChanges:
    def test_reading_is_no_change(self) -> None:
        fields = fields_of(a=1, b=[1], c={"x": (1,)}, d=datetime(2026, 1, 1))
        dict(fields)

        assert fields.changes() == NOTHING
        assert fields.changes() is NO_FIELD_CHANGES

    def test_what_was_set_and_deleted(self) -> None:
        fields = fields_of(a=1, b=2, c=3)
        fields["a"] = 10
        fields["d"] = 4
        del fields["b"]

        assert fields.changes() is not NO_FIELD_CHANGES
        assert fields.changes() == (encoded(a=10, d=4), frozenset({"b"}))
        assert fields.encoded() == encoded(a=10, c=3, d=4)

    @pytest.mark.parametrize("value", [5, "x", None, 1.5, [1], {"a": [1]}, (1, [2]), {1, 2}])
    def test_setting_back_the_same_is_no_change(self, value: Any) -> None:
        fields = fields_of(a=value)
        fields["a"] = "other"
        fields["a"] = copy.deepcopy(value)

        assert fields.changes() is NO_FIELD_CHANGES
        assert fields.changes() == NOTHING

    def test_deleted_and_set_back_is_no_change(self) -> None:
        fields = fields_of(a=[1])
        del fields["a"]
        fields["a"] = [1]

        assert fields.changes() == NOTHING

    def test_set_and_deleted_is_no_change(self) -> None:
        fields = fields_of()
        fields["new"] = 1
        del fields["new"]

        assert fields.changes() == NOTHING
        assert fields.changes() is NO_FIELD_CHANGES

    @pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0.0, -0.0), ("", None)])
    def test_another_type_is_a_change(self, old: Any, new: Any) -> None:
        fields, nested = fields_of(a=old), fields_of(a=[old])
        fields["a"] = new
        nested["a"][0] = new

        assert fields.changes()[0] == encoded(a=new)
        assert nested.changes()[0] == encoded(a=[new])

    def test_nested_changes_are_noticed_at_any_depth(self) -> None:
        fields = fields_of(a={"b": [{"c": 1}]}, t=(1, [2]), s={1}, d=[datetime(2026, 1, 1)])
        fields["a"]["b"][0]["c"] = 2
        fields["t"][1].append(3)
        fields["s"].add(2)
        fields["d"][0] = datetime(2026, 1, 2)

        assert fields.changes() is not NO_FIELD_CHANGES
        assert fields.changes()[0] == encoded(
            a={"b": [{"c": 2}]}, t=(1, [2, 3]), s={1, 2}, d=[datetime(2026, 1, 2)]
        )

    def test_a_nested_change_that_was_undone_is_none(self) -> None:
        fields = fields_of(a=[1, 2])
        fields["a"].append(3)
        fields["a"].pop()

        assert fields.changes() is NO_FIELD_CHANGES

    def test_a_dicts_new_order_is_a_change(self) -> None:
        fields = fields_of(a={"x": 1, "y": 2})
        fields["a"]["x"] = fields["a"].pop("x")

        assert fields.changes() is not NO_FIELD_CHANGES

    def test_what_was_set_is_watched_too(self) -> None:
        fields, cart = fields_of(), ["a"]
        fields["cart"] = cart
        cart.append("b")

        assert fields.changes()[0] == encoded(cart=["a", "b"])

    def test_setdefault_gives_the_watched_object(self) -> None:
        fields = fields_of()
        fields.setdefault("cart", []).append("a")

        assert fields.changes()[0] == encoded(cart=["a"])

    def test_one_object_under_two_names_changes_both(self) -> None:
        fields, shared = fields_of(), [1]
        fields["a"] = fields["b"] = shared
        shared.append(2)

        assert fields.changes()[0] == encoded(a=[1, 2], b=[1, 2])

    def test_a_removed_value_is_watched_no_more(self) -> None:
        fields = fields_of(a=[1])
        cart = fields.pop("a")
        cart.append(2)

        assert fields.changes() == ({}, frozenset({"a"}))
        assert "a" not in fields

    def test_clear_decodes_nothing(self) -> None:
        codec = CountingCodec()
        fields = Fields(encoded(a=1, b=[2]), codec)
        fields.clear()

        assert codec.calls == {}
        assert not fields
        assert fields.changes() == ({}, frozenset({"a", "b"}))

    def test_scalars_are_encoded_once(self) -> None:
        codec = CountingCodec()
        fields = Fields(encoded(a=1), codec)
        _ = fields["a"]
        fields["b"] = "x"
        for _ in range(3):
            assert fields.changes() is not NO_FIELD_CHANGES
            fields.changes()

        assert codec.calls == {"decode": 1, "encode": 1}

    def test_the_base_itself_is_never_changed(self) -> None:
        base = encoded(a=[1], b=2)
        before = dict(base)
        fields = Fields(base, CODEC)
        fields["a"].append(2)
        fields["c"] = 1
        del fields["b"]
        fields.clear()

        assert base == before


class TestRefusals:
    @pytest.mark.parametrize("key", [1, None, b"a", ("a",), 1.5])
    def test_keys_are_str(self, key: Any) -> None:
        with pytest.raises(TypeError, match="keys are str"):
            fields_of()[key] = 1

    def test_keys_are_valid_text(self) -> None:
        with pytest.raises(TypeError, match="UTF-8"):
            fields_of()["\ud800"] = 1

    def test_a_bad_value_is_refused_where_it_is_set_and_changes_nothing(self) -> None:
        fields = fields_of(cart=1)

        with pytest.raises(TypeError, match=r"session\['cart'\]\[0\]\['price'\].*complex"):
            fields["cart"] = [{"price": 1j}]

        assert fields["cart"] == 1
        assert fields.changes() == NOTHING

    def test_a_nested_change_to_a_bad_value_is_told_with_its_path(self) -> None:
        fields = fields_of(cart=[{"price": 1}])
        fields["cart"][0]["price"] = object()

        with pytest.raises(TypeError, match=r"session\['cart'\]\[0\]\['price'\].*object"):
            fields.changes()

    def test_a_value_that_came_to_hold_itself_is_refused(self) -> None:
        fields = fields_of(a=[[1]])
        fields["a"][0].append(fields["a"])

        with pytest.raises(TypeError, match="within itself"):
            fields.changes()

    def test_messages_hold_no_values(self) -> None:
        with pytest.raises(TypeError) as caught:
            fields_of()["a"] = ["red-secret", bytearray(b"red-secret")]

        assert "red-secret" not in str(caught.value)

    def test_a_foreign_codecs_refusal_is_a_type_error(self) -> None:
        class Picky(CountingCodec):
            def encode(self, value: Any) -> bytes:
                raise ValueError("not today")

        with pytest.raises(TypeError, match=r"session\['a'\] can't be stored: not today"):
            Fields({}, Picky())["a"] = 1


class TestRetain:
    def test_only_what_is_named_stays(self) -> None:
        fields = fields_of(a=1, b=2, c=3)
        fields["new"] = 4
        fields.retain(frozenset({"b", "unknown"}))

        assert dict(fields) == {"b": 2}
        assert fields.changes() == ({}, frozenset({"a", "c"}))

    def test_what_is_set_again_counts_even_if_it_is_what_it_was(self) -> None:
        fields = fields_of(a=1)
        fields.retain(frozenset())
        fields["a"] = 1

        assert fields.changes() == (encoded(a=1), frozenset())


class TestRebase:
    def test_live_objects_stay_and_are_watched_on(self) -> None:
        fields = fields_of(cart=["a"], n=1)
        cart = fields["cart"]
        cart.append("b")
        fields["n"] = 2
        fields.rebase(fields.encoded(), fields.changes())

        assert fields.changes() is NO_FIELD_CHANGES
        assert fields["cart"] is cart
        cart.append("c")
        assert fields.changes() == (encoded(cart=["a", "b", "c"]), frozenset())

    def test_going_back_to_what_was_before_is_a_change(self) -> None:
        fields = fields_of(cart=["a"], n=1)
        fields["cart"].append("b")
        fields["n"] = 2
        fields.rebase(fields.encoded(), fields.changes())
        fields["cart"].pop()
        fields["n"] = 1

        assert fields.changes() == (encoded(cart=["a"], n=1), frozenset())

    def test_what_was_deleted_is_gone(self) -> None:
        fields = fields_of(a=1, b=2)
        del fields["a"]
        fields.rebase(fields.encoded(), fields.changes())

        assert dict(fields) == {"b": 2}
        assert fields.changes() == NOTHING

    def test_what_another_request_wrote_is_seen(self) -> None:
        fields = fields_of(mine=[1], theirs=[1], gone=1, untouched=[1])
        assert dict(fields)["theirs"] == [1]
        untouched, mine = fields["untouched"], fields["mine"]
        mine.append(2)
        stored = encoded(mine=[1, 2], theirs=[5], added=7, untouched=[1])
        fields.rebase(stored, fields.changes())

        assert dict(fields) == {"mine": [1, 2], "theirs": [5], "added": 7, "untouched": [1]}
        assert fields["mine"] is mine
        untouched.append(2)
        assert fields.changes() == (encoded(untouched=[1, 2]), frozenset())

    def test_a_live_value_that_was_overtaken_is_let_go(self) -> None:
        fields = fields_of(n=1)
        assert fields["n"] == 1
        fields.rebase(encoded(n=2), NO_FIELD_CHANGES)

        assert fields["n"] == 2
        assert fields.changes() == NOTHING

    def test_what_was_changed_meanwhile_is_still_to_be_written(self) -> None:
        fields = fields_of(n=1, cart=["a"], old=1, late=1, again=1)
        fields["n"] = 2
        fields["new"] = 1
        del fields["old"]
        del fields["again"]
        done, stored = fields.changes(), fields.encoded()
        fields["n"] = 3
        fields["cart"] = ["b"]
        fields["again"] = 1
        fields["added"], fields["list"] = 1, [1]
        del fields["new"]
        del fields["late"]
        fields.rebase(stored, done)

        assert dict(fields) == {"n": 3, "cart": ["b"], "again": 1, "added": 1, "list": [1]}
        assert fields.changes() == (
            encoded(n=3, cart=["b"], again=1, added=1, list=[1]),
            frozenset({"new", "late"}),
        )

    def test_what_was_set_and_then_changed_inside_is_done_with(self) -> None:
        fields = fields_of(n=1)
        fields["cart"] = ["a"]
        fields["cart"].append("b")
        fields.rebase(fields.encoded(), fields.changes())
        fields.rebase(encoded(n=1), NO_FIELD_CHANGES)

        assert dict(fields) == {"n": 1}
        assert fields.changes() == NOTHING

    def test_what_was_set_meanwhile_goes_over_what_another_request_wrote(self) -> None:
        fields = fields_of(n=1, gone=1)
        done = fields.changes()
        fields["n"] = 2
        del fields["gone"]
        fields.rebase(encoded(n=5), done)

        assert dict(fields) == {"n": 2}
        assert fields.changes() == (encoded(n=2), frozenset())


NAMES = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, "", "x"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
    ),
    max_leaves=4,
)


class Model(RuleBasedStateMachine):
    """Against a plain dict, which is encoded whole, each time."""

    def __init__(self) -> None:
        super().__init__()
        self.base: dict[str, bytes] = {}
        self.model: dict[str, Any] = {}
        self.fields = Fields({}, CODEC)

    def expected(self) -> dict[str, bytes]:
        return {name: CODEC.encode(value) for name, value in self.model.items()}

    @rule(name=NAMES, value=VALUES)
    def set(self, name: str, value: Any) -> None:
        self.fields[name] = copy.deepcopy(value)
        self.model[name] = value

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        got = self.fields.get(name, "nothing")
        assert CODEC.encode(got) == CODEC.encode(self.model.get(name, "nothing"))

    @rule(name=NAMES)
    def pop(self, name: str) -> None:
        assert self.fields.pop(name, None) == self.model.pop(name, None)

    @rule(name=NAMES)
    def set_back(self, name: str) -> None:
        if name in self.base:
            self.fields[name] = CODEC.decode(self.base[name])
            self.model[name] = CODEC.decode(self.base[name])

    @rule(name=NAMES, value=VALUES)
    def change_inside(self, name: str, value: Any) -> None:
        for side in (self.fields, self.model):
            inside = side.get(name)
            while type(inside) is tuple and inside:
                inside = inside[0]
            if type(inside) is list:
                inside.append(copy.deepcopy(value))
            elif type(inside) is dict:
                inside["z"] = copy.deepcopy(value)

    @rule(name=NAMES)
    def change_inside_and_back(self, name: str) -> None:
        inside = self.fields.get(name)
        if type(inside) is list:
            inside.append(1)
            assert self.fields.changes() is not NO_FIELD_CHANGES
            inside.pop()

    @precondition(lambda self: len(self.model) > 2)
    @rule()
    def clear(self) -> None:
        self.fields.clear()
        self.model.clear()

    @rule()
    def save(self) -> None:
        set_, delete = self.fields.changes()
        self.base = {k: v for k, v in self.base.items() if k not in delete} | dict(set_)
        self.fields.rebase(self.base, FieldChanges(set_, delete))
        assert self.fields.changes() is NO_FIELD_CHANGES

    @rule(name=NAMES, value=VALUES)
    def save_after_another_request_has_written(self, name: str, value: Any) -> None:
        set_, delete = self.fields.changes()
        stored = self.base | {name: CODEC.encode(value)}
        self.base = {k: v for k, v in stored.items() if k not in delete} | dict(set_)
        self.fields.rebase(self.base, FieldChanges(set_, delete))
        if name not in set_ and name not in delete:
            self.model[name] = copy.deepcopy(value)

    @invariant()
    def the_same(self) -> None:
        expected = self.expected()
        set_, delete = self.fields.changes()

        assert self.fields.encoded() == expected
        assert set_ == {k: v for k, v in expected.items() if self.base.get(k) != v}
        assert delete == self.base.keys() - expected.keys()
        assert (self.fields.changes() is not NO_FIELD_CHANGES) == bool(set_ or delete)
        assert set(self.fields) == set(expected)
        assert len(self.fields) == len(expected)
        assert bool(self.fields) == bool(expected)


TestModel = Model.TestCase
TestModel.settings = effort(60, steps=30)


class Number(enum.IntEnum):
    ONE = 1


class Letter(enum.StrEnum):
    X = "x"


NOW = datetime(2026, 1, 2, 3, 4, 5)
ID = UUID(int=7)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 2], (1, 2)),
        ((1, 2), [1, 2]),
        ({1}, frozenset({1})),
        (None, math.nan),
        (0.0, -0.0),
        (1, True),
        (1, 1.0),
        (NOW.isoformat(), NOW),
        (str(ID), ID),
        (1, Number.ONE),
        ("x", Letter.X),
        ("x", type("Text", (str,), {})("x")),
        ((1, 2), {"~tuple": [1, 2]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (2**53, 2**53 + 1),
        ({"1": 0}, {1: 0}),
        ("x", "\ud800"),
        (NOW, NOW.replace(fold=1)),
    ],
)
@pytest.mark.parametrize("set_here", [False, True])
def test_what_looks_alike_is_not_taken_for_unchanged(
    set_here: bool, before: Any, after: Any
) -> None:
    fields = fields_of(a={"in": [before]})
    if set_here:
        fields["a"] = {"in": [before]}
    fields["a"]["in"][0] = after

    try:
        wanted = encoded(a={"in": [after]})
    except TypeError:
        with pytest.raises(TypeError, match=r"^session\['a'\]\['in'\]\[0\]"):
            fields.changes()
    else:
        assert fields.changes() == (wanted, frozenset())


def test_a_value_within_itself_is_refused_however_often() -> None:
    fields = fields_of(a=[1])
    fields["a"][:] = [fields["a"]] * 3

    with pytest.raises(TypeError, match=r"nested more than 100 levels deep, or within itself"):
        fields.changes()


def test_a_value_that_stands_in_two_places_may_change_in_both() -> None:
    fields = fields_of(a=[[1], [1]])
    fields["a"][1] = fields["a"][0]
    assert fields.changes() is NO_FIELD_CHANGES

    fields["a"][0].append(2)
    assert fields.changes() == (encoded(a=[[1, 2], [1, 2]]), frozenset())


def test_what_was_changed_and_saved_is_seen_when_it_changes_back() -> None:
    fields = fields_of(a=[1])
    value = fields["a"]
    value.append(2)
    fields.rebase(fields.encoded(), fields.changes())
    value.pop()

    assert fields.changes() == (encoded(a=[1]), frozenset())


def test_what_the_app_keeps_a_part_of_did_not_change() -> None:
    fields = fields_of(a=[["inner"], "text" * 30])
    kept = [fields["a"][0], fields["a"][1], fields["a"]]

    assert fields.changes() == NOTHING
    assert kept[0] == ["inner"]


def test_a_codec_that_encodes_otherwise_is_asked_itself() -> None:
    class Shouting(JSONCodec):
        def encode(self, value: Any) -> bytes:
            return super().encode(value).upper()

    fields = Fields({"a": b'["x"]'}, Shouting())
    fields["a"].append("y")
    fields["a"].pop()

    assert fields.changes() == ({"a": b'["X"]'}, frozenset())


class TestACodecOfTheApps:
    @pytest.mark.parametrize("given", ["text", 5, None, bytearray(b"1")])
    def test_one_that_gives_no_bytes_is_an_error_that_names_the_field(self, given: Any) -> None:
        class Wrong(JSONCodec):
            def encode(self, value: Any) -> bytes:
                result: bytes = given
                return result

        kind = type(given).__name__
        fields = Fields({}, Wrong())

        with pytest.raises(TypeError) as caught:
            fields["a"] = 1

        assert str(caught.value) == (
            f"session['a'] can't be stored: the codec's encode() gave {kind}, not bytes"
        )
        assert dict(fields) == {}

    @pytest.mark.parametrize(
        "error",
        [
            UnicodeDecodeError("utf-8", b"x", 0, 1, "no"),
            KeyError("k"),
            TypeError("t"),
            AttributeError("a"),
            OverflowError("o"),
            zlib.error("z"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_whatever_it_raises_for_a_field_is_damage(self, error: Exception) -> None:
        class Strict(JSONCodec):
            def decode(self, data: bytes) -> Any:
                raise error

        fields = Fields({"a": b"1"}, Strict())

        assert fields.is_damaged(None)
        assert fields.is_damaged(["a"])
        assert not fields.is_damaged(["b"])
        asks: list[Callable[[], object]] = [lambda: fields["a"], lambda: fields.get("a")]
        for ask in asks:
            with pytest.raises(CorruptField, match=f"not a value: {type(error).__name__}"):
                ask()

    @pytest.mark.parametrize(
        "error",
        [RecursionError(), MemoryError(), StoreError("no keys")],
        ids=lambda error: type(error).__name__,
    )
    def test_what_has_other_causes_is_none(self, error: Exception) -> None:
        class Late(JSONCodec):
            def decode(self, data: bytes) -> Any:
                raise error

        fields = Fields({"a": b"1"}, Late())

        asks: list[Callable[[], object]] = [
            lambda: fields["a"],
            lambda: fields.get("a"),
            lambda: fields.is_damaged(None),
        ]
        for ask in asks:
            with pytest.raises(type(error)) as caught:
                ask()
            assert caught.value is error

    @pytest.mark.parametrize(
        "error",
        # The second is a ValueError as well.
        [ConnectionRefusedError("no keys"), SSLCertVerificationError("no keys")],
        ids=["refused", "certificate"],
    )
    def test_a_failing_connection_of_the_codec_is_a_store_error_both_ways(
        self, error: OSError
    ) -> None:
        class Remote(JSONCodec):
            fails = False

            def encode(self, value: Any) -> bytes:
                if self.fails:
                    raise error
                return super().encode(value)

            def decode(self, data: bytes) -> Any:
                if self.fails:
                    raise error
                return super().decode(data)

        class Comparing(Remote):
            def reencode(self, value: Any, known: bytes) -> bytes:
                return self.encode(value)

        def ask(fields: Fields, how: str) -> object:
            if how == "read":
                return fields["b"]
            return fields.update(c=3) if how == "set" else fields.changes()

        for codec in (Remote(), Comparing()):
            fields = Fields(encoded(a=[1], b=2), codec)
            fields["a"].append(2)
            codec.fails = True
            for how, operation in (("read", "decode"), ("set", "encode"), ("changes", "encode")):
                with pytest.raises(StoreError, match="the codec failed: .*no keys") as caught:
                    ask(fields, how)
                assert caught.value.operation == operation
            codec.fails = False
            assert fields.changes() == (encoded(a=[1, 2]), frozenset())
