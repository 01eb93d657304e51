"""DESIGN.md §6: imports point one way, and `import jshm` is light."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jshm

ROOT = Path(jshm.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

# Each may import those above it, and within a line as far as that makes no circle.
LAYERS = [
    {"_version", "errors", "text"},
    {"system"},
    {"segment"},
    {"pickling"},
    {"store"},
    {"handouts", "variables", "binding"},
    {"api", "live"},
    {"browse"},
    {"", "ipython", "widget", "server", "cli", "demo"},  # the faces; "" is the package itself
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FACES = LAYERS[-2]
# Nothing below the faces may import these, not even lazily.
HEAVY = {
    "IPython",
    "tornado",
    "anywidget",
    "ipykernel",
    "jupyter_client",
    "jupyter_server",
    "traitlets",
}


def top(module: str) -> str:
    """The part of the house that a module is in: ``jshm.store.local.store`` is in ``store``."""
    return [*module.split("."), ""][1]


def imports(module: str) -> list[tuple[int, str]]:
    """All that a module imports, lazily and for type checking too, as absolute names."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.append((node.lineno, whole if whole in MODULES else base))
    return found


def test_the_reader_of_imports_reads() -> None:
    assert "jshm.store.local.new_segment" in [name for _, name in imports("jshm.store.local.store")]
    assert "jshm.errors" in [name for _, name in imports("jshm.store.local.store")]
    assert "jshm.store" in [name for _, name in imports("jshm.store.handle")]
    assert "jshm.ipython" in [name for _, name in imports("jshm")]
    assert "numpy" in [name for _, name in imports("jshm.segment.file")]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    me = top(module)
    assert me in RANK, f"{module} has no place in the house: give it one in LAYERS"
    if module == "jshm":  # lazy: it names what it exports, for type checkers
        return
    wrong = []
    for line, name in imports(module):
        if name.split(".")[0] != "jshm" or top(name) == me:
            continue
        other = top(name)
        if RANK[other] > RANK[me] or (me in FACES and other in FACES - {""}):
            wrong.append(f"{MODULES[module]}:{line} imports {name}")
    assert wrong == []


def test_no_circles() -> None:
    """Within a layer too; a package's ``__init__`` counts as a module of its own."""
    graph = {m: {name for _, name in imports(m) if name in MODULES and name != m} for m in MODULES}
    del graph["jshm"]
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path, module])
        if module in done or module not in graph:
            return
        for name in sorted(graph[module]):
            visit(name, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if top(m) not in FACES | {"__main__"}])
def test_nothing_below_the_faces_imports_what_is_heavy(module: str) -> None:
    assert [name for _, name in imports(module) if name.split(".")[0] in HEAVY] == []


REGISTRY = [module for module in MODULES if module.startswith("jshm.store.local.registry.")]


@pytest.mark.parametrize("module", [*REGISTRY, "jshm.store.local.lease"])
def test_the_registry_touches_no_data(module: str) -> None:
    assert {name.split(".")[0] for _, name in imports(module)} & {"mmap", "numpy"} == set()


def test_only_the_registry_uses_sqlite() -> None:
    users = {m for m in MODULES if "sqlite3" in {name for _, name in imports(m)}}
    assert "jshm.store.local.registry.database" in users
    assert users <= set(REGISTRY)


def test_only_the_registry_has_sql() -> None:
    sql = re.compile(r"SELECT |INSERT |DELETE FROM |UPDATE \w+ SET |PRAGMA |CREATE (TABLE|INDEX) ")
    assert {m for m, path in MODULES.items() if sql.search(path.read_text())} == {
        "jshm.store.local.registry.database",
        "jshm.store.local.registry.files",
        "jshm.store.local.registry.registry",
        "jshm.store.local.registry.statements",
    }


def test_the_contract_shows_nothing_of_the_registry() -> None:
    names = {name for _, name in imports("jshm.store.base")}
    assert not any("registry" in name or "database" in name or "sqlite3" in name for name in names)


def test_a_user_s_own_store_knows_nothing_of_groups() -> None:
    """`jshm.store.groups` implements what `jshm.store.local` defines, and not the other way round."""
    local = [module for module in MODULES if module.startswith("jshm.store.local")]
    assert [m for m in local if any("jshm.store.groups" in name for _, name in imports(m))] == []


@pytest.mark.parametrize(
    "code", ["import jshm", "import jshm; jshm.publish; jshm.check(); jshm.gc()"]
)
def test_importing_and_using_jshm_is_light(store_dir: str, code: str) -> None:
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "jshm" in loaded
    assert loaded & (HEAVY | {"asyncio", "multiprocessing", "pandas", "ctypes"}) <= {"ctypes"}
    if "publish" not in code:  # even numpy is imported when it is first needed
        assert "numpy" not in loaded


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_statements(module: str) -> None:
    """``python -O`` drops them; errors are typed and say what to do."""
    tree = ast.parse(MODULES[module].read_text())
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    if tree.body and os.path.basename(MODULES[module]) != "_version.py":
        assert ast.get_docstring(tree)


@pytest.mark.parametrize("name", jshm.__all__)
def test_public_names_resolve_and_explain_themselves(name: str) -> None:
    value = getattr(jshm, name)
    assert name in dir(jshm)
    if name != "__version__":
        assert len(inspect.getdoc(value) or "") > 20
        assert value.__module__.startswith("jshm.")


def test_public_names_are_complete() -> None:
    assert sorted(jshm._PUBLIC) == sorted(set(jshm.__all__) - {"__version__"})
    with pytest.raises(AttributeError, match="nonsense"):
        _ = jshm.nonsense  # type: ignore[attr-defined]
    errors = importlib.import_module("jshm.errors")
    raised = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == "jshm.errors" and name[0] != "_"
    ]
    assert set(raised) <= set(jshm.__all__)


def test_every_error_is_also_a_builtin_that_people_catch() -> None:
    errors = importlib.import_module("jshm.errors")
    for name, kind in vars(errors).items():
        if (
            isinstance(kind, type)
            and issubclass(kind, jshm.JshmError)
            and kind is not jshm.JshmError
        ):
            builtins = [b for b in kind.__mro__ if b.__module__ == "builtins"]
            assert set(builtins) - {Exception, BaseException, object}, name
            assert kind.__doc__
