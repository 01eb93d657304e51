"""Fingerprints of code, of constants, and of the statements that contain them."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import linecache
import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpickle import cloudpickle as cp

from .code import assigned_by, class_globals, statement_of
from .source import cached_by_code, class_statement, no_warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType

# inspect.CO_HAS_DOCSTRING, since Python 3.13: the first constant is a docstring.
_HAS_DOCSTRING = 0x4000000
# The most wrappers around a function.
_DEEPEST = 8
PARTIAL = (functools.partial, functools.partialmethod)
_AROUND_A_FUNCTION = (*PARTIAL, functools.cached_property)


def digest(*texts: str) -> str:
    """Return a digest of texts, of 16 hexadecimal digits."""
    found = hashlib.blake2s(digest_size=8)
    for text in texts:
        data = text.encode(errors="surrogatepass")
        found.update(b"%d:" % len(data))
        found.update(data)
    return found.hexdigest()


def function_of(value: Any) -> types.FunctionType | None:
    """Return the function within a method, a property, a cached or a partial function."""
    for _ in range(_DEEPEST):
        kind = type(value)
        if kind is types.FunctionType:
            return value  # type: ignore[no-any-return]
        if kind is classmethod or kind is staticmethod or kind is types.MethodType:
            value = value.__func__
        elif issubclass(kind, property):
            value = value.fget
        elif kind in _AROUND_A_FUNCTION:
            value = value.func
        elif kind is functools._lru_cache_wrapper:
            value = value.__wrapped__
        else:
            return None
    return None


# -- code ------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What is known about a code object.

    Attributes
    ----------
    digest : str
        A digest of what it does.
    source : str
        A digest of the statement that contains it; '' if that is not known.
    names : tuple of str
        Names of the globals that it looks up, and code within it.
    assigned, stored : frozenset of str
        Names of the globals and of the attributes that it assigns to.
    """

    digest: str
    source: str
    names: tuple[str, ...]
    assigned: frozenset[str]
    stored: frozenset[str]


@cached_by_code
def look(code: CodeType) -> Known:
    """Return what is known about a code object; it is computed once."""
    text = statement_of(code)
    names = {**cp._extract_code_globals(code), **dict.fromkeys(class_globals(code))}
    return Known(
        digest(_code_text(code)), digest(text.strip()) if text else "", tuple(names),
        *assigned_by(code),
    )  # fmt: skip


def _code_text(code: CodeType) -> str:
    """Return all of a code object as text, but docstrings, filenames, lines and columns."""
    constants = [_constant_text(constant) for constant in code.co_consts]
    if _has_docstring(code):
        constants[0] = "docstring"
    return repr(
        (
            code.co_name, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
            code.co_flags, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
            code.co_code, code.co_exceptiontable, constants,
        )
    )  # fmt: skip


def _has_docstring(code: CodeType) -> bool:
    """Return whether a function's first constant is its docstring, or None because it has none."""
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & _HAS_DOCSTRING)
    is_function = code.co_flags & inspect.CO_NEWLOCALS and code.co_flags & inspect.CO_OPTIMIZED
    if not is_function or code.co_name[:1] == "<" or not code.co_consts:
        return False
    return code.co_consts[0] is None or type(code.co_consts[0]) is str


def _constant_text(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _code_text(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant_text, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_constant_text, value)))}}}"
    return f"{type(value).__name__} {value!r}"


def stored_by(values: Iterable[Any]) -> set[str]:
    """Return the names of the attributes that methods assign to."""
    functions = [f for value in values if (f := function_of(value)) is not None]
    return {name for function in functions for name in look(function.__code__).stored}


# -- source ----------------------------------------------------------------------------------------


def expressions(cls: type) -> dict[str, str]:
    """Return the fingerprints of the expressions in a class's body; empty if it is not known.

    Of its assignments, by name; and of defaults that may be mutable, as ``method(argument)``.
    """
    text = _statement(cls)
    return _expressions_in(text, cls.__name__) if text else {}


def _statement(cls: type) -> str:
    prefix = f"{cls.__qualname__}."
    for value in vars(cls).values():
        function = function_of(value)
        code = getattr(function, "__code__", None)
        if code is not None and code.co_qualname.startswith(prefix) and statement_of(code):
            lines = linecache.getlines(code.co_filename)
            return class_statement(lines, cls.__name__, code.co_firstlineno)
    return ""


@functools.lru_cache(maxsize=256)
def _expressions_in(text: str, name: str) -> dict[str, str]:
    try:
        with no_warnings():
            (statement,) = (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef))
    except (SyntaxError, ValueError):
        return {}
    if statement.name != name:
        return {}
    found: dict[str, str] = {}
    for node in statement.body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found.update(dict.fromkeys(names, digest(ast.unparse(node.value))))
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found[node.target.id] = digest(ast.unparse(node.value))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(_defaults(node))
    return found


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][-len(arguments.defaults) or None :]
    for argument, default in (
        *zip(positional, arguments.defaults, strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ):
        if default is not None and not isinstance(default, ast.Constant):
            yield f"{node.name}({argument.arg})", digest(ast.unparse(default))
