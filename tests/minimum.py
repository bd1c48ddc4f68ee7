"""Prints the lowest versions that pyproject.toml allows, as requirements for pip.

`make test-minimum` installs these, so that the promise in pyproject.toml is one that was tried.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
_AT_LEAST = re.compile(r"([A-Za-z0-9_.-]+(?:\[[a-z,]+\])?)>=([0-9.]+)")


def lowest(requirement: str) -> str:
    """``name==version`` for ``name>=version``.

    Raises:
        ValueError: the requirement is of another form, so that nobody knows what its lowest is.
    """
    match = _AT_LEAST.fullmatch(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} is not of the form name>=version")
    return f"{match[1]}=={match[2]}"


def requirements() -> list[str]:
    """The lowest version of each dependency and of each extra's."""
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = [each for group in (project["dependencies"], *extras) for each in group]
    return [lowest(each) for each in dict.fromkeys(asked)]  # two extras may need the same


if __name__ == "__main__":
    print("\n".join(requirements()))
