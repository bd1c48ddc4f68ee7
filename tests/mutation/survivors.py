"""The mutants that live although they should, each with the reason: ``survivors.toml``.

An entry names the module, the function, the lines as they are and as changed: no line numbers, so
that it holds as long as that code does.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True)
class Survivor:
    """A mutant that no test kills, or those of one line that live for the same reason."""

    module: str
    function: str
    before: str
    after: tuple[str, ...]
    why: str

    @property
    def mutants(self) -> set[tuple[str, str, str, str]]:
        """Module, function, the line before and after, of each."""
        return {(self.module, self.function, self.before, after) for after in self.after}


def read(text: str) -> list[Survivor]:
    """The entries of a file.

    Raises:
        ValueError: for one that lacks something, has more than it may, or stands twice.
    """
    found: list[Survivor] = []
    seen: set[tuple[str, str, str, str]] = set()
    for entry in tomllib.loads(text).get("survivor", []):
        values = dict(entry)
        after = values.pop("after", None)
        texts = [values.pop(name, None) for name in ("module", "function", "before", "why")]
        lines = [after] if isinstance(after, str) else after
        if (
            values
            or not isinstance(lines, list)
            or not all(isinstance(each, str) for each in [*texts, *lines])
            or not (texts[0] and texts[2] and texts[3] and lines)
        ):
            raise ValueError(f"survivors.toml: no good entry: {entry}")
        module, function, before, why = texts
        survivor = Survivor(module, function, before, tuple(lines), why)
        if seen & survivor.mutants or len(survivor.mutants) != len(lines):
            raise ValueError(f"survivors.toml: stands twice: {entry}")
        seen |= survivor.mutants
        found.append(survivor)
    return found


def functions(source: str) -> dict[str, str]:
    """The source of each function and class by its name, with the class; of the module by ``""``.

    Lines are stripped and joined with a space, as in the file.
    """
    lines = source.splitlines()

    def text(first: int, last: int) -> str:
        return " ".join(line.strip() for line in lines[first - 1 : last])

    def visit(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}".strip(".")
                yield inner, text(child.lineno, child.end_lineno or child.lineno)
                if isinstance(child, ast.ClassDef):
                    yield from visit(child, inner)
            else:  # a function may stand under a condition
                yield from visit(child, name)

    found: dict[str, str] = {"": text(1, len(lines))}
    for name, body in visit(ast.parse(source), ""):
        found[name] = f"{found[name]} {body}" if name in found else body  # property and setter
    return found
