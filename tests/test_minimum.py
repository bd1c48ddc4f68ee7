"""The lowest versions that pyproject.toml promises are those that `make test-minimum` installs."""

from __future__ import annotations

import re
import tomllib

import pytest

import minimum


def test_each_dependency_and_each_extras_has_a_lowest_version() -> None:
    names = {re.split(r"[\[=]", requirement)[0] for requirement in minimum.requirements()}
    project = tomllib.loads(minimum.PYPROJECT.read_text("utf-8"))["project"]

    assert names >= {"itsdangerous", "werkzeug"} | set(project["optional-dependencies"]) - {
        "fast",
        "crypto",
        "carry-over",
        "sql",
        "postgresql",
        "mysql",
    }
    assert len(names) == len(minimum.requirements())


def test_the_tests_own_group_names_the_same_versions() -> None:
    groups = tomllib.loads(minimum.PYPROJECT.read_text("utf-8"))["dependency-groups"]
    tested = dict(each.split(">=") for each in groups["test"])
    promised = dict(each.split("==") for each in minimum.requirements())

    assert {name: tested[name] for name in promised if name in tested} == {
        name: version for name, version in promised.items() if name in tested
    }


@pytest.mark.parametrize("requirement", ["flask", "flask>=3,<4", "flask~=3.0", "flask==3.0"])
def test_a_requirement_of_another_form_is_not_guessed_at(requirement: str) -> None:
    with pytest.raises(ValueError, match="name>=version"):
        minimum.lowest(requirement)
