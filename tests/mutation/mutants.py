"""Makes mutants: copies of a module in which one small thing is changed, by mutmut's operators.

mutmut's own runner leaves out decorated functions, so every property, and what stands outside of
functions; and it rewrites functions in a way that our tests of tracebacks and slots notice. So its
operators are taken from it, and nothing else. Nothing is run here.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

_LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_NOT_RUN = re.compile("__slots__|__all__|_?[A-Z][a-z]+([A-Z][a-z]*)*")
"""What is assigned to such names is for importing, or a type."""
_ERRORS = ("Error", "Warning", "warn", "Committed", "Ended", "Large", "Sessions", "ByStore")
"""How the names of what is raised end."""
_CODING = {"encode", "decode"}
_UNTOUCHED = {"len", "isinstance"}
"""Calls of which every mutant fails at once. mutmut leaves them out too."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    function: str
    """The function that is changed, with its class: ``Cookie._check``; or the class; or empty."""
    before: str
    """The lines that are changed, without indentation."""
    after: str
    source: str
    """The whole module as changed."""
    message: bool
    """Whether only the wording of an error or a log line is changed."""
    in_body: bool
    """Whether the change is inside of a function's body: then it needs no new import."""
    nth: int
    """Which one this is of those that change the same line of a function to the same."""


def mutants_of(source: str) -> Iterator[Mutant]:
    """All mutants of this module, without those that compile to the same or to nothing at all."""
    module = cst.parse_module(source)
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    positions = wrapper.resolve(WhitespaceInclusivePositionProvider)
    text = _Text(source, module)
    same = ast.dump(ast.parse(source))
    seen: set[str] = set()
    alike: Counter[tuple[str, str, str]] = Counter()
    for place in _places(module):
        span = positions.get(place.node)
        for kind, operator in mutation_operators:
            if not isinstance(place.node, kind):
                continue
            for changed in operator(place.node):
                if _is_falsehood(place.node) and _is_none(changed):
                    continue
                mutated = text.replaced(place.node, span, changed)
                if mutated in seen:
                    continue
                seen.add(mutated)
                try:
                    tree = ast.parse(mutated)
                    compile(mutated, "mutant", "exec")
                except SyntaxError:
                    continue
                if ast.dump(tree) == same:
                    continue
                before, after = _difference(source, mutated)
                alike[place.function, before, after] += 1
                yield Mutant(
                    place.function,
                    before,
                    after,
                    mutated,
                    isinstance(place.node, cst.SimpleString)
                    and (place.message or _is_wording(place.node)),
                    place.in_body,
                    alike[place.function, before, after],
                )


class _Text:
    """The text of a module, in which nodes can be replaced."""

    def __init__(self, source: str, module: cst.Module) -> None:
        self._source = source
        self._module = module
        lengths = map(len, source.splitlines(keepends=True))
        self._starts = list(accumulate(lengths, initial=0))

    def replaced(self, node: cst.CSTNode, span: CodeRange | None, changed: cst.CSTNode) -> str:
        """The module's text with another node at this place."""
        if span is not None:
            begin = self._starts[span.start.line - 1] + span.start.column
            end = self._starts[span.end.line - 1] + span.end.column
            if self._source[begin:end] == self._module.code_for_node(node):
                new = self._module.code_for_node(changed)
                return self._source[:begin] + new + self._source[end:]
        module = self._module.deep_replace(node, changed)  # slower, and always possible
        return cst.ensure_type(module, cst.Module).code


def _difference(source: str, mutated: str) -> tuple[str, str]:
    old, new = source.splitlines(), mutated.splitlines()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    before: list[str] = []
    after: list[str] = []
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        if tag != "equal":
            before += [line.strip() for line in old[first:last]]
            after += [line.strip() for line in new[new_first:new_last]]
    return " ".join(before), " ".join(after)


@dataclass(frozen=True)
class _Place:
    node: cst.CSTNode
    function: str
    message: bool
    in_body: bool


def _places(module: cst.Module) -> Iterator[_Place]:
    yield from _walk(_Place(module, "", message=False, in_body=False))


def _walk(place: _Place) -> Iterator[_Place]:
    node = place.node
    if _is_left_out(node):
        return
    if not (isinstance(node, cst.Call) and _called(node) == "cast"):
        yield place
    function, in_body = place.function, place.in_body
    if isinstance(node, cst.FunctionDef | cst.ClassDef) and not in_body:
        function = f"{function}.{node.name.value}".strip(".")
    for child in _children(node):
        inside = in_body or (isinstance(node, cst.FunctionDef) and child is node.body)
        message = place.message or _is_message(node, child)
        # A call within a message computes something; its arguments are no wording.
        if isinstance(child, cst.Call) and place.message:
            message = False
        yield from _walk(_Place(child, function, message, inside))


def _is_message(node: cst.CSTNode, child: cst.CSTNode) -> bool:
    """Whether the child is the wording of an error that is raised, or of a log line."""
    if isinstance(node, cst.Call) and isinstance(child, cst.Arg) and child.keyword is None:
        name = node.func
        if isinstance(name, cst.Attribute):
            return name.attr.value in _LOGGING
        return isinstance(name, cst.Name) and name.value.endswith(_ERRORS)
    return False


def _children(node: cst.CSTNode) -> Sequence[cst.CSTNode]:
    """What is below a node, without what means nothing when the program runs.

    That is the values of an enum's members, the type in a cast, the case of an encoding's name, and
    which of two equal values is the lesser one.
    """
    if isinstance(node, cst.IfExp) and isinstance(node.test, cst.Comparison):
        first, (second, *_) = node.test.left, node.test.comparisons
        if first.deep_equals(node.body) and second.comparator.deep_equals(node.orelse):
            return [node.body, node.orelse]
    if isinstance(node, cst.Call) and _called(node) == "cast":
        return [node.args[1]]
    if isinstance(node, cst.Call) and _called(node) in _CODING:
        return [node.func]
    if isinstance(node, cst.ClassDef) and any(
        cst.ensure_type(base.value, cst.Attribute).attr.value == "Enum"
        for base in node.bases
        if isinstance(base.value, cst.Attribute)
    ):
        return [child for child in node.body.body if isinstance(child, cst.FunctionDef)]
    return node.children


def _called(node: cst.Call) -> str:
    name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
    return name.value if isinstance(name, cst.Name) else ""


def _is_wording(node: cst.SimpleString) -> bool:
    """Whether this is a piece of a sentence, which only people read."""
    return node.value.count(" ") > 2


def _is_falsehood(node: cst.CSTNode) -> bool:
    """Whether this gives False to something: None would be as untrue, and is no bool."""
    return _given(node) == "False"


def _is_none(node: cst.CSTNode) -> bool:
    return _given(node) == "None"


def _given(node: cst.CSTNode) -> str | None:
    value = node.value if isinstance(node, cst.Assign | cst.AnnAssign | cst.Arg) else None
    return value.value if isinstance(value, cst.Name) else None


def _is_left_out(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Annotation | cst.Decorator):
        return True
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name):
        return _called(node) in _UNTOUCHED
    if isinstance(node, cst.If):
        return isinstance(node.test, cst.Name) and node.test.value == "TYPE_CHECKING"
    if isinstance(node, cst.Assign):
        target = node.targets[0].target
        return isinstance(target, cst.Name) and _NOT_RUN.fullmatch(target.value) is not None
    return False
