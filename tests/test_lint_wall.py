"""What no linter knows of this house: imports point downwards, and nothing executes stored data."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsgi_sessions

PACKAGE = Path(wsgi_sessions.__file__).parent

# Rooms, from top to bottom. A module belongs to the longest name that it begins with; it may import
# from the rooms below its own, and from its own room as long as that makes no circle.
LAYERS = """
__main__
cli testing
flask django pyramid bottle falcon
flask_settings
__init__
integration
middleware
http.exchange checks
registry
session
engine
client_side
device_binding carry_over
http proxies
cookie lifetime stores
events crypto data
_options advice
record
_values _lazily
errors
"""
RANK = {
    name: rank
    for rank, line in enumerate(reversed(LAYERS.strip().splitlines()))
    for name in line.split()
}


def room(name: str) -> str:
    """The room that a module belongs to."""
    while name not in RANK:
        name, _, _ = name.rpartition(".")
        assert name, "every module has a room"
    return name


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that exist when the program runs."""
    for child in ast.iter_child_nodes(tree):
        if not is_for_types_alone(child):
            yield child
            yield from nodes(child)


def imports(name: str, source: str) -> set[str]:
    """The modules of this package that a module imports, early or late."""
    path = MODULES.get(name)
    package = (
        name.split(".")[:-1] if path is None or path.name != "__init__.py" else name.split(".")
    )
    package = [] if package == ["__init__"] else package
    found: set[str] = set()
    for node in nodes(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package[: len(package) - node.level + 1]
                prefix = ".".join([*base, *filter(None, [module])])
            elif module.split(".")[0] == "wsgi_sessions":
                prefix = module.partition(".")[2]
            else:
                continue
            for alias in node.names:
                inner = f"{prefix}.{alias.name}".strip(".")
                found.add(inner if inner in MODULES else prefix or "__init__")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first, _, rest = alias.name.partition(".")
                if first == "wsgi_sessions":
                    found.add(rest or "__init__")
    return found


def wrong_way(name: str, source: str) -> list[str]:
    return [
        f"{name} imports {other}"
        for other in sorted(imports(name, source))
        if room(other) != room(name) and RANK[room(other)] >= RANK[room(name)]
    ]


def test_every_room_has_a_module() -> None:
    assert {room(name) for name in MODULES} == RANK.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name: str) -> None:
    assert wrong_way(name, MODULES[name].read_text("utf-8")) == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules that import each other in a circle."""
    left = dict(graph)
    while ready := [name for name, others in left.items() if not others & left.keys()]:
        for name in ready:
            del left[name]
    return sorted(left)


def test_there_are_no_circles() -> None:
    graph = {
        name: imports(name, path.read_text("utf-8")) - {name} for name, path in MODULES.items()
    }

    assert circle(graph) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data.codec", "from ..stores import Store"),
        ("data.codec", "from .. import engine"),
        ("record", "import wsgi_sessions.events"),
        ("record", "from wsgi_sessions import Session"),
        ("stores.memory", "from ..session import Session"),
        ("stores", "from ..engine import Engine"),
        ("engine.decisions", "def late():\n    from ..session import Session"),
    ],
)
def test_an_import_that_points_upwards_is_seen(name: str, source: str) -> None:
    assert wrong_way(name, source)


STORES = [name for name in MODULES if name.startswith("stores.")]


@pytest.mark.parametrize("name", STORES)
def test_stores_know_records_and_errors_and_nothing_of_http(name: str) -> None:
    others = {
        other
        for other in imports(name, MODULES[name].read_text("utf-8"))
        if not other.startswith("stores")
    }

    encrypted = {"crypto.encryption", "data.codec"} if name == "stores.encrypted" else set()
    assert others <= {"record", "errors", "_options"} | encrypted


@pytest.mark.parametrize(
    "name",
    [
        "engine.decisions",
        "engine.changes",
        "record",
        "data.codec",
        "data.fields",
        "proxies.parsing",
    ],
)
def test_the_core_has_neither_clock_nor_input_and_output(name: str) -> None:
    edges = {"os", "io", "time", "random", "secrets", "socket", "logging", "threading", "pathlib"}
    seen = {
        alias.name.partition(".")[0]
        for node in nodes(ast.parse(MODULES[name].read_text("utf-8")))
        if isinstance(node, ast.Import)
        for alias in node.names
    }

    assert not seen & edges


# ST-1: no pickle, marshal or eval, anywhere.
EXECUTING = {"eval", "exec", "compile", "__import__"}
LOADING = {"marshal", "pickle", "cPickle", "_pickle", "shelve", "dill", "yaml", "jsonpickle"}


def executing(source: str) -> list[str]:
    """What in this code could turn stored data into code."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.partition(".")[0] in LOADING]
        elif isinstance(node, ast.ImportFrom):
            first = (node.module or "").partition(".")[0]
            if not node.level and first in LOADING:
                found.append(first)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in EXECUTING else []
    return found


@pytest.mark.parametrize("name", MODULES)
def test_st_1_nothing_executes_stored_data(name: str) -> None:
    assert executing(MODULES[name].read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "import marshal\nmarshal.loads(b'')",
     "from marshal import loads", "import marshal as m", "eval('1')", "exec('1')",
     "import yaml", "import shelve", "def f():\n    import pickle"],
)  # fmt: skip
def test_st_1_whatever_could_is_seen(source: str) -> None:
    assert executing(source)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )


def test_importing_the_package_loads_no_extras() -> None:
    result = run(
        "import sys, wsgi_sessions, wsgi_sessions.stores\n"
        "extras = {'redis', 'valkey', 'flask', 'cryptography', 'sqlalchemy', 'msgspec'}\n"
        "print(sorted(extras & sys.modules.keys()))"
    )

    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr


def test_it_works_without_any_extra() -> None:
    result = run(
        "import sys\n"
        "for extra in ('orjson', 'redis', 'valkey', 'flask', 'cryptography'):\n"
        "    sys.modules[extra] = None\n"
        "import wsgi_sessions, wsgi_sessions.data.codec as codec\n"
        "assert codec._orjson is None\n"
        "one = codec.JSONCodec()\n"
        "print(one.decode(one.encode({'a': [1, (2,)]})))"
    )

    assert (result.stdout.strip(), result.returncode) == ("{'a': [1, (2,)]}", 0), result.stderr
