"""Makes a failing scenario shorter, as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .scenario import Fail, Request, Scenario

Fails = Callable[[Scenario], bool]


def shrink(scenario: Scenario, fails: Fails, *, tries: int = 4000) -> Scenario:
    """The shortest scenario found that still fails."""
    left = tries
    improved = True
    while improved and left > 0:
        improved = False
        for smaller in candidates(scenario):
            left -= 1
            if left <= 0:
                break
            if fails(smaller):
                scenario, improved = smaller, True
                break
    return scenario


def candidates(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that are a little smaller, the smallest first."""
    for events in _shorter(scenario.events):
        yield replace(scenario, events=events)
    for name in scenario.options:
        # The one is refused without the other.
        gone = {name, "when_full"} if name == "max_per_owner" else {name}
        options = {key: value for key, value in scenario.options.items() if key not in gone}
        yield replace(scenario, options=options)
    for number, event in enumerate(scenario.events):
        for smaller in _smaller(event):
            events = [*scenario.events[:number], smaller, *scenario.events[number + 1 :]]
            yield replace(scenario, events=events)


def _shorter(items: list[Any]) -> Iterator[list[Any]]:
    """Without a half, a quarter, … without one."""
    size = len(items) // 2
    while size >= 1:
        for start in range(0, len(items), size):
            yield items[:start] + items[start + size :]
        size //= 2


def _smaller(event: Any) -> Iterator[Any]:
    if not isinstance(event, Request):
        return
    for number in event.at:
        yield replace(event, at={key: one for key, one in event.at.items() if key != number})
    plainer: dict[str, Any] = {"end": "list", "late": False, "via": "wsgi", "tail": []}
    for name, plain in plainer.items():
        if getattr(event, name) != plain:
            yield replace(event, **{name: plain})
    if event.browser:
        yield replace(event, browser=0)
    yield from (replace(event, ops=ops) for ops in _smaller_ops(event.ops))
    yield from (replace(event, tail=tail) for tail in _smaller_ops(event.tail))
    for number, planned in event.at.items():
        for smaller in _smaller_plan(planned):
            yield replace(event, at={**event.at, number: smaller})
        if number > 1 and number - 1 not in event.at:
            rest = {key: one for key, one in event.at.items() if key != number}
            yield replace(event, at={**rest, number - 1: planned})


def _smaller_plan(planned: Any) -> Iterator[Any]:
    if isinstance(planned, Fail):
        if planned.lasting:
            yield replace(planned, lasting=False)
        if planned.answer_lost:
            yield replace(planned, answer_lost=False)
    else:
        yield from _smaller(planned)


def _smaller_ops(ops: list[Any]) -> Iterator[list[Any]]:
    yield from _shorter(ops)
    for number, op in enumerate(ops):
        for smaller in _smaller_op(op):
            yield [*ops[:number], smaller, *ops[number + 1 :]]


def _smaller_op(op: Any) -> Iterator[Any]:
    if op[0] == "try":
        yield op[1]
        yield from (("try", smaller) for smaller in _smaller_op(op[1]))
    elif op[0] == "meanwhile":
        yield from (("meanwhile", smaller) for smaller in _smaller(op[1]))
    elif op[0] == "update":
        yield ("set", "b", op[1].get("b", 1))
    elif op[0] in ("login", "regenerate") and isinstance(op[-1], (bool, list)):
        yield op[:-1]
