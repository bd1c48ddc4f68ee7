"""The file of mutants that may live (see CONTRIBUTING) is in form, and fits the code as it is."""

from __future__ import annotations

import re

import pytest

from mutation import survivors
from mutation.targets import ROOT, TESTS, source_of

ENTRIES = survivors.read(survivors.FILE.read_text())
GOOD = '[[survivor]]\nmodule = "m"\nfunction = "f"\nbefore = "a"\nafter = "b"\nwhy = "w"\n'


def misfits(entries: list[survivors.Survivor], source: str) -> list[survivors.Survivor]:
    """The entries whose function isn't in this source, or doesn't have their lines."""
    functions = survivors.functions(source)
    return [each for each in entries if each.before not in functions.get(each.function, "")]


@pytest.mark.parametrize("module", TESTS)
def test_each_survivor_is_a_change_of_code_that_exists(module: str) -> None:
    entries = [each for each in ENTRIES if each.module == module]

    assert misfits(entries, source_of(module).read_text()) == []


def test_each_survivor_is_of_a_module_that_is_mutated() -> None:
    assert {each.module for each in ENTRIES} <= set(TESTS)


@pytest.mark.parametrize("module", TESTS)
def test_the_tests_that_judge_a_module_exist(module: str) -> None:
    for test in TESTS[module]:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), test
        defined = re.compile(rf"^(class|def) {name}\b", re.MULTILINE)
        assert not name or defined.search((ROOT / file).read_text()), test


def test_a_line_that_went_is_noticed() -> None:
    source = (
        "class A:\n    def f(self):\n        return (\n            1 +\n            2\n        )\n"
    )

    def entry(function: str, before: str) -> survivors.Survivor:
        return survivors.Survivor("m", function, before, ("x",), "w")

    fitting = [entry("A.f", "1 + 2"), entry("A", "def f(self):"), entry("", "class A:")]
    gone = [entry("A.f", "1 + 3"), entry("A.g", "1 + 2")]
    assert misfits([*fitting, *gone], source) == gone


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('why = "w"', 'why = ""'),
        GOOD.replace('module = "m"\n', ""),
        GOOD.replace('after = "b"', "after = []"),
        GOOD.replace('after = "b"', 'after = ["b", "b"]'),
        GOOD + 'line = "1"\n',
        GOOD + GOOD,
    ],
    ids=["no reason", "no module", "nothing after", "twice in one", "unknown key", "twice"],
)
def test_an_entry_that_is_not_in_form_is_refused(text: str) -> None:
    assert len(survivors.read(GOOD)) == 1

    with pytest.raises(ValueError, match=r"survivors\.toml"):
        survivors.read(text)
