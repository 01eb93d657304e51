"""The definitions of a cell that ``%%shm_once`` does not run: bound where that runs no other code.

Such a cell often also has ``import json`` or ``def helper``. Imports, plain definitions and constants
are bound as the cell would bind them. Other variables of the cell are named as missing.
"""

from __future__ import annotations

import abc
import ast
import builtins
import contextlib
import dataclasses
import enum
import functools
import itertools
import symtable
import typing
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from ..text import listed

# Callables that only wrap or store their arguments and register nothing.
_WRAPPERS = (
    staticmethod, classmethod, property, functools.wraps, functools.lru_cache, functools.cache,
    functools.cached_property, functools.total_ordering, functools.singledispatch,
    functools.singledispatchmethod, dataclasses.dataclass, dataclasses.field,
    contextlib.contextmanager, contextlib.asynccontextmanager, abc.abstractmethod, typing.overload,
    typing.final, typing.runtime_checkable, typing.TypeVar, typing.NewType, enum.unique, enum.auto,
    list, dict, set, tuple, frozenset, int, float, complex, bool, str, bytes, object, slice, range,
)  # fmt: skip
_METACLASSES = (type, abc.ABCMeta, enum.EnumMeta, type(typing.Protocol))
# Modules whose `__init_subclass__` changes only the new class.
_HARMLESS = ("builtins", "abc", "typing", "enum")
# Functions that can be the base in a class statement.
_BASES = (typing.NamedTuple, typing.TypedDict)
_PARTS = (
    ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Dict,
    ast.Set, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.expr_context, ast.Starred,
    ast.keyword,
)  # fmt: skip
_MAGICS = ("run_line_magic", "run_cell_magic")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign)
# A definition replaces a variable of one of these types, as the cell would do it.
_DEFINED = (ModuleType, FunctionType, BuiltinFunctionType, type, type(functools.cache(len)))
# At most this number of names is listed.
_SHOWN = 20


class Definitions(NamedTuple):
    """The definitions of a cell, apart from its result.

    Attributes
    ----------
    bound : list of str
    missing : list of str
        Not bound, or unchanged from before.
    """

    bound: list[str]
    missing: list[str]

    def line(self) -> str:
        """Return the line that tells the user; '' if the cell defines nothing else."""
        said = []
        if self.bound:
            said.append(f"also defined: {listed(self.bound, _SHOWN)}")
        if self.missing:
            said.append(f"not run: {listed(self.missing, _SHOWN)} (--rerun runs the whole cell)")
        return " · ".join(said)


def bind(shell: Any, source: str, results: frozenset[str], filename: str) -> Definitions:
    """Bind the imports, definitions and constants of a cell that is not run; return these and the rest.

    Parameters
    ----------
    shell
    source : str
        The Python source of the cell.
    results : frozenset of str
        Variables that are attached.
    filename : str
        The file name of the cell, for tracebacks and `inspect`.
    """
    try:
        tree = ast.parse(source)
        statements = list(itertools.chain.from_iterable(map(_split, tree.body)))
        names = _assigned(source, tree)
        # A name that other code binds or deletes as well may end as something else.
        others = [
            name
            for statement in statements
            for name in _assigned(ast.unparse(statement), ast.Module([statement], []))
            if name != _defines(statement)
        ]
        constants = [_defines(s) for s in statements if isinstance(s, _ASSIGNMENTS)]
        definitions = [_defines(s) for s in statements if not isinstance(s, _ASSIGNMENTS)]
        others += [name for name in constants if name in definitions or constants.count(name) > 1]
        unset = results.union(others)
    except (SyntaxError, ValueError, RecursionError):
        return Definitions([], [])
    namespace: dict[str, Any] = shell.user_ns
    bound: dict[str, None] = {}
    known = set()
    for statement in statements:
        name = _defines(statement)
        # A definition must not use what an older cell left under a missing name.
        if not name or name in unset or not unset.isdisjoint(_names_used(statement)):
            unset |= {name}
            continue
        made: dict[str, Any] = {}
        with contextlib.suppress(Exception, SystemExit):
            if _is_harmless(statement, namespace):
                module = ast.Module([*_futures(tree), statement], [])
                code = shell.compile(module, filename, "exec")
                exec(code, shell.user_global_ns, made)  # noqa: S102 - of the user's own cell
        there, before = name in namespace, namespace.get(name)
        if there and name in made and _is_same(before, made[name], statement):
            known.add(name)
        elif name not in made or (there and not isinstance(before, _DEFINED)):
            unset |= {name}
        else:
            namespace[name] = made[name]
            bound[name] = None
    known |= results | _passing(tree)
    missing = [name for name in names if name not in bound and name not in known]
    return Definitions(list(bound), [*missing, *_effects(tree)])


def _is_same(before: object, made: object, statement: ast.stmt) -> bool:
    if isinstance(statement, _ASSIGNMENTS):
        return type(before) is type(made) and before == made
    return before is made


def _split(statement: ast.stmt) -> list[ast.stmt]:
    """Return one statement for each name that an import binds; other statements unchanged."""
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        return [statement]
    parts: list[ast.stmt] = []
    for alias in statement.names:
        part: ast.Import | ast.ImportFrom = ast.Import([alias])
        if isinstance(statement, ast.ImportFrom):
            part = ast.ImportFrom(statement.module, [alias], statement.level)
        parts.append(ast.copy_location(part, statement))
    return parts


def _futures(tree: ast.Module) -> list[ast.ImportFrom]:
    """Return the ``from __future__ import`` statements of a cell, which change its functions."""
    return [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]


def _defines(statement: ast.stmt) -> str:
    """Return the first name that an import, a definition or ``N = 5`` binds; '' for other statements.

    ``f = lambda x: x + 1`` is a definition, too.
    """
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return statement.name
    if isinstance(statement, _IMPORTS) and statement.names[0].name != "*":
        alias = statement.names[0]
        is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        return "" if is_future else alias.asname or alias.name.partition(".")[0]
    if isinstance(statement, _ASSIGNMENTS):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        target, *others = targets
        plain = isinstance(statement.value, ast.Lambda) or _is_constant(statement.value)
        if isinstance(target, ast.Name) and plain and not others:
            return target.id
    return ""


def _is_constant(node: ast.expr | None) -> bool:
    """Return whether an expression is an immutable literal: a number, a text or the like."""
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    if isinstance(node, ast.Tuple):
        return all(map(_is_constant, node.elts))
    return isinstance(node, ast.Constant)


def _assigned(source: str, tree: ast.Module) -> list[str]:
    """Return the variables that source binds in the notebook, and those that it deletes."""
    table = symtable.symtable(source, "<cell>", "exec")
    future = {alias.name for s in _futures(tree) for alias in s.names}
    found = [s.get_name() for s in table.get_symbols() if _is_bound(s)]
    inner = list(table.get_children())
    while inner:
        scope = inner.pop()
        inner += scope.get_children()
        found += [
            s.get_name() for s in scope.get_symbols() if s.is_declared_global() and _is_bound(s)
        ]
    return [n for n in dict.fromkeys(found) if n not in future and n[0] != "_"]


def _is_bound(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported()


def _passing(tree: ast.Module) -> set[str]:
    """Return the variables that no longer exist when the cell has ended."""
    deleted = [target for s in tree.body if isinstance(s, ast.Delete) for target in s.targets]
    errors = [n.name for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name]
    return {target.id for target in deleted if isinstance(target, ast.Name)}.union(errors)


def _effects(tree: ast.Module) -> list[str]:
    """Return the magics of a cell and its ``from x import *``: the variables that they set are unknown."""
    found = []
    nodes: list[ast.AST] = [*tree.body]
    for node in nodes:  # grows
        if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            continue  # they run when they are called
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            found.append(f"from {'.' * node.level}{node.module or ''} import *")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            magic = node.args[0] if node.args else None
            if node.func.attr in _MAGICS and isinstance(magic, ast.Constant):
                found.append(f"%{magic.value!s}")
    return list(dict.fromkeys(found))


# -- what is harmless ------------------------------------------------------------------------------


def _is_harmless(statement: ast.stmt, namespace: dict[str, Any]) -> bool:
    """Return whether a definition can be executed without running the user's code or changing anything."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)) and not all(
        _is_wrapper(decorator, namespace) for decorator in statement.decorator_list
    ):
        return False
    if isinstance(statement, (*_FUNCTIONS, *_ASSIGNMENTS)):
        return all(map(_is_plain, _evaluated(statement)))
    if isinstance(statement, ast.ClassDef):
        return (
            not statement.keywords
            and all(_is_base(base, namespace) for base in statement.bases)
            and all(_is_part_of_class(inner, namespace) for inner in statement.body)
        )
    return isinstance(statement, _IMPORTS)


def _evaluated(node: Any) -> list[ast.expr]:
    """Return what Python evaluates for a function (without decorators) or for an assignment."""
    if isinstance(node, _ASSIGNMENTS):
        value = _evaluated(node.value) if isinstance(node.value, ast.Lambda) else [node.value]
        return [*value, *([node.annotation] if isinstance(node, ast.AnnAssign) else [])]
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    annotations = [*(argument.annotation for argument in every), getattr(node, "returns", None)]
    found = [*arguments.defaults, *arguments.kw_defaults, *annotations]
    return [node for node in found if node is not None]


def _names_used(statement: ast.stmt) -> set[str]:
    """Return the names that Python looks up to make a function or a class."""
    parts: list[ast.AST]
    if isinstance(statement, _FUNCTIONS):
        parts = [*_evaluated(statement), *statement.decorator_list]
    elif isinstance(statement, _ASSIGNMENTS) and _defines(statement):
        parts = [*_evaluated(statement)]
    elif isinstance(statement, ast.ClassDef):
        parts = [*statement.bases, *statement.keywords, *statement.decorator_list]
        inner = set().union(*map(_names_used, statement.body))
        return inner.union(*map(_names_in, parts))
    else:
        parts = [] if isinstance(statement, _IMPORTS) else [statement]
    return set().union(*map(_names_in, parts))


def _names_in(node: ast.AST) -> set[str]:
    found = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    return {part.id for part in found if isinstance(part.ctx, ast.Load)}


def _is_part_of_class(statement: ast.stmt, namespace: dict[str, Any]) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Assign):
        named = all(isinstance(target, ast.Name) for target in statement.targets)
        return named and _is_value(statement.value, namespace)
    if isinstance(statement, ast.AnnAssign):
        value = statement.value is None or _is_value(statement.value, namespace)
        return value and _is_plain(statement.annotation)
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return _is_harmless(statement, namespace)
    return isinstance(statement, ast.Pass)


def _is_value(node: ast.expr, namespace: dict[str, Any]) -> bool:
    """Return whether an expression is plain, or a call like ``field(default_factory=list)``."""
    if isinstance(node, ast.Call) and _is_one_of(_WRAPPERS, _resolve(node.func, namespace)):
        return all(_is_plain(part) for part in (*node.args, *node.keywords))
    return _is_plain(node)


def _is_plain(node: ast.AST) -> bool:
    """Return whether an expression has no call and no assignment."""
    return all(isinstance(part, _PARTS) for part in ast.walk(node))


def _is_wrapper(node: ast.expr, namespace: dict[str, Any]) -> bool:
    """Return whether a decorator only wraps: ``@property``, ``@x.setter``, ``@dataclass(frozen=True)``."""
    if isinstance(node, ast.Attribute) and node.attr in ("setter", "getter", "deleter"):
        return isinstance(node.value, ast.Name)
    if isinstance(node, ast.Call):
        return _is_value(node, namespace)
    return _is_one_of(_WRAPPERS, _resolve(node, namespace))


def _is_base(node: ast.expr, namespace: dict[str, Any]) -> bool:
    """Return whether deriving from a class runs only Python's own code."""
    if isinstance(node, ast.Subscript):  # Generic[T]
        return _is_plain(node.slice) and _is_base(node.value, namespace)
    found = _resolve(node, namespace)
    if _is_one_of(_BASES, found):
        return True
    if not isinstance(found, type) or type(found) not in _METACLASSES:
        return False
    hook = next(c for c in found.__mro__ if "__init_subclass__" in vars(c))
    return hook.__module__ in _HARMLESS


def _is_one_of(objects: tuple[object, ...], found: object) -> bool:
    return any(found is one for one in objects)  # `==` may be anything


def _resolve(node: ast.expr, namespace: dict[str, Any]) -> object:
    """Return the value of a name or of a module's attribute; None for other expressions."""
    if isinstance(node, ast.Name):
        return namespace.get(node.id, getattr(builtins, node.id, None))
    if isinstance(node, ast.Attribute):
        module = _resolve(node.value, namespace)
        return vars(module).get(node.attr) if isinstance(module, ModuleType) else None
    return None
