"""Imports point one way, the store's contract is the only way in, and `import jshm` is light."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import jshm

ROOT = Path(jshm.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

# The parts of the package. Each may import those above it, and those on the same line without a circle.
LAYERS = [
    {"_version", "errors", "text"},
    {"system"},
    {"segment"},
    {"pickling"},
    {"store"},
    {"variables"},
    {"api"},
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


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def top(module: str) -> str:
    """Return the part of the package that a module is in: ``jshm.store.local.store`` is in ``store``."""
    return [*module.split("."), ""][1]


def imports(module: str) -> list[tuple[int, str]]:
    """Return all that a module imports, also lazily and for type checking, as absolute names."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree_of(module)):
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


def test_imports_are_read() -> None:
    assert "jshm.store.local.new_segment" in [name for _, name in imports("jshm.store.local.store")]
    assert "jshm.errors" in [name for _, name in imports("jshm.store.local.store")]
    assert "jshm.store" in [name for _, name in imports("jshm.store.handle")]
    assert "jshm.ipython" in [name for _, name in imports("jshm")]
    assert "numpy" in [name for _, name in imports("jshm.segment.file")]


def test_imports_point_one_way() -> None:
    assert [m for m in MODULES if top(m) not in RANK] == [], "add it to LAYERS"
    wrong = []
    for module in MODULES:
        me = top(module)
        if module == "jshm":  # lazy: it names what it exports, for type checkers
            continue
        for line, name in imports(module):
            if name.split(".")[0] != "jshm" or top(name) == me:
                continue
            other = top(name)
            if RANK[other] > RANK[me] or (me in FACES and other in FACES - {""}):
                wrong.append(f"{module}:{line} imports {name}")
    assert wrong == []


def test_no_circles() -> None:
    """Also within a layer; a package's ``__init__`` counts as a module."""
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


def test_only_faces_import_heavy_packages() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if top(module) not in FACES | {"__main__"}
        for line, name in imports(module)
        if name.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_the_registry_touches_no_data() -> None:
    for module in MODULES:
        if module.startswith("jshm.store.local.registry") or module == "jshm.store.local.lease":
            used = {name.split(".")[0] for _, name in imports(module)} & {"mmap", "numpy"}
            assert not used, module


def test_only_the_registry_uses_sqlite() -> None:
    users = [m for m in MODULES if "sqlite3" in {name for _, name in imports(m)}]
    assert "jshm.store.local.registry.database" in users
    assert [m for m in users if not m.startswith("jshm.store.local.registry.")] == []


def test_only_the_registry_has_sql() -> None:
    sql = re.compile(r"SELECT |INSERT |DELETE FROM |UPDATE \w+ SET |PRAGMA |CREATE (TABLE|INDEX) ")
    assert {m for m, path in MODULES.items() if sql.search(path.read_text())} == {
        "jshm.store.local.registry.database",
        "jshm.store.local.registry.files",
        "jshm.store.local.registry.registry",
        "jshm.store.local.registry.statements",
    }


# -- the contract is the only way into a store -----------------------------------------------------

# Parts of `LocalStore`. A face that uses one of them works with no other store.
PARTS = {"registry", "presence", "process", "directory", "catalogue"}
# Modules of jshm/store/ that know a store only by its contract.
BY_CONTRACT = {"base", "handle", "watching", "names", "identity", "workers"}


def is_inside(name: str) -> bool:
    """Return whether a module is a part of a store's implementation."""
    return name.startswith(("jshm.store.local", "jshm.store.groups"))


def knows_only_the_contract(module: str) -> bool:
    if not module.startswith("jshm.store"):
        return True
    return module.removeprefix("jshm.store.") in BY_CONTRACT


CONTRACT_USERS = [module for module in MODULES if knows_only_the_contract(module)]


def test_nothing_outside_knows_an_implementation() -> None:
    """Not even for type checking: a face is typed to `Store`."""
    wrong = []
    for module in CONTRACT_USERS:
        lines = {line for line, name in imports(module) if is_inside(name)}
        lines |= {
            node.lineno
            for node in ast.walk(tree_of(module))
            if isinstance(node, (ast.Name, ast.Attribute))
            and getattr(node, "id", getattr(node, "attr", "")) in {"LocalStore", "GroupStore"}
        }
        wrong += [f"{module}:{line}" for line in sorted(lines)]
    assert wrong == []


def test_nothing_outside_uses_parts_of_an_implementation() -> None:
    """``store.registry``, ``self._store.directory``, ``default_store().presence`` and the like."""
    wrong = [
        f"{module}:{line} {code}"
        for module in CONTRACT_USERS
        if not module.startswith("jshm.store")
        for line, code in parts(tree_of(module))
    ]
    assert wrong == []


def parts(tree: ast.Module) -> list[tuple[int, str]]:
    """Return the expressions that are a part of a store, which is known by its name."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        # `store.mappings(segment)` is a method of the contract, `store.mappings.of` is not.
        part = node.value if getattr(node.value, "attr", "") == "mappings" else node
        if not isinstance(part, ast.Attribute) or (part is node and node.attr not in PARTS):
            continue
        owner = part.value.func if isinstance(part.value, ast.Call) else part.value
        name = getattr(owner, "id", getattr(owner, "attr", ""))
        if name.endswith("store") or name == "store_of":
            found.append((node.lineno, ast.unparse(node)))
    return found


def test_parts_of_an_implementation_are_found() -> None:
    for code, is_wrong in {
        "store.registry.everything()": True,
        "self._store.directory": True,
        "default_store().presence": True,
        "store_of(segment).process.lease": True,
        "store.mappings.of(segment)": True,
        "store.mappings(segment)": False,
        "store.identity": False,
        "os.path.directory": False,
    }.items():
        assert bool(parts(ast.parse(code))) == is_wrong, code


def test_no_module_changes_another() -> None:
    """A callback that one module puts into another at import hides a circle."""
    wrong = []
    for module in MODULES:
        tree = tree_of(module)
        theirs = imported_from_jshm(tree)
        for node in tree.body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                owner = target
                while isinstance(owner, ast.Attribute):
                    owner = owner.value
                if owner is not target and getattr(owner, "id", "") in theirs:
                    wrong.append(f"{module}:{node.lineno} {ast.unparse(target)} = …")
    assert wrong == []


def imported_from_jshm(tree: ast.Module) -> set[str]:
    """Return the names that a module imports from others of the package."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").startswith("jshm")
        ):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias for alias in node.names if alias.name.partition(".")[0] == "jshm"]
            found |= {alias.asname or "jshm" for alias in names}
    return found


def test_no_two_modules_have_one_name() -> None:
    """One looks for a module by its name."""
    files: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        if path.name not in ("__init__.py", "__main__.py"):
            files.setdefault(path.name, []).append(module)
    assert {name: found for name, found in files.items() if len(found) > 1} == {}


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


def test_no_assert_statements() -> None:
    """``python -O`` drops them; errors are typed and say what to do."""
    found = [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_every_module_has_a_docstring() -> None:
    without = [m for m in MODULES if (t := tree_of(m)).body and not ast.get_docstring(t)]
    assert without == ["jshm._version"]


def test_public_names_resolve_and_have_docstrings() -> None:
    for name in set(jshm.__all__) - {"__version__"}:
        value = getattr(jshm, name)
        assert name in dir(jshm)
        assert len(inspect.getdoc(value) or "") > 20, name
        assert value.__module__.startswith("jshm."), name


def test_public_names_are_complete() -> None:
    assert sorted(jshm._PUBLIC) == sorted(set(jshm.__all__) - {"__version__"})
    with pytest.raises(AttributeError, match="nonsense"):
        _ = jshm.nonsense  # type: ignore[attr-defined]
    errors = importlib.import_module("jshm.errors")
    raised = [
        n
        for n, v in vars(errors).items()
        if isinstance(v, type) and v.__module__ == "jshm.errors" and not n.startswith("_")
    ]
    assert set(raised) <= set(jshm.__all__)


def test_every_error_is_also_a_builtin_exception() -> None:
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
