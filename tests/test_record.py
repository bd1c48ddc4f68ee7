"""Records and change sets: plain values that can't be changed."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from wsgi_sessions.record import Changes, Record


@pytest.mark.parametrize("cls", [Record, Changes])
def test_records_and_changes_are_made_as_their_fields_say(cls: type[Record | Changes]) -> None:
    made = list(inspect.signature(cls).parameters.values())
    declared = dataclasses.fields(cls)

    assert [each.name for each in made] == [each.name for each in declared]
    values = [object() for _ in declared]
    assert [getattr(cls(*values), each.name) for each in declared] == values  # type: ignore[arg-type] # any objects do
    for parameter, field in zip(made, declared, strict=True):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        missing = default is dataclasses.MISSING
        assert (parameter.default is parameter.empty) is missing
        assert missing or parameter.default == default


def test_each_change_set_has_fields_of_its_own_to_write() -> None:
    assert Changes().set == {}
    assert Changes().set is not Changes().set


def test_neither_can_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Record({}, b"", 1.0, 2.0).version = 2  # type: ignore[misc] # that is the point
    with pytest.raises(dataclasses.FrozenInstanceError):
        Changes().epoch = 2  # type: ignore[misc] # that is the point
