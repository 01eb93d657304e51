"""Annotations: what `typing` makes, and what annotations name as text.

`typing.get_type_hints` looks up names in text among a function's globals, so these travel with the
function. For a class it looks in the module of that name, which is another one where the class
arrives. So the text of a class's annotations is replaced by the types that it names.

An annotation never makes jshm refuse an object. If the type cannot be written, the text stays; if the
reader cannot import it, it is left out.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import operator
import sys
import types
import typing
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpickle import cloudpickle as cp

from . import frozen, modules
from .source import cached_by_code, no_warnings, walk
from .writer import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .writer import Writer

_DEEPEST = 20
_MAKERS, _ANNOTATED = ("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE"), 4
_TYPING = frozenset({"typing", "typing_extensions", "types"})
# Annotations with other nodes would run code.
_HARMLESS = (
    ast.Expression, ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.Constant,
    ast.BinOp, ast.BitOr, ast.Load, ast.Starred, ast.UnaryOp, ast.USub,
)  # fmt: skip


class _Text(NamedTuple):
    """An annotation's text, parsed.

    Attributes
    ----------
    chains : tuple of tuple of str
        The names, each with the attributes that follow it: ``np.ndarray`` is ``("np", "ndarray")``.
    code : code
        Of the expression; None if it might do something else than to name types.
    """

    chains: tuple[tuple[str, ...], ...]
    code: CodeType | None


# -- functions -------------------------------------------------------------------------------------


def complete(pickler: Writer, function: types.FunctionType, space: dict[str, Any]) -> None:
    """Add to a function's globals the objects that annotations name as text, in it and within it."""
    found = [text for value in function.__annotations__.values() for text in _texts(value)]
    found += _texts_within(function.__code__)
    for text in found:
        for name, *_ in _parse(text).chains:
            if name in space or name not in function.__globals__:
                continue
            value = function.__globals__[name]
            if modules.is_by_reference(value):
                space[name] = _if_there(value)
            elif not isinstance(value, types.ModuleType) and _travels(pickler, value):
                space[name] = value


def _if_there(value: Any) -> Call:
    """Return what to write for a module, or an object in one, that the reader may lack."""
    is_module = isinstance(value, types.ModuleType)
    names = (value.__name__,) if is_module else (value.__module__, value.__qualname__)
    return Call(frozen.if_there, *names)


def _travels(pickler: Writer, value: Any) -> bool:
    """Return whether an object can be written, by writing it to nowhere."""
    known = pickler.judged.get(id(value))
    if known is None:
        pickler.judged[id(value)] = True  # for an object that contains itself
        known = pickler.judged[id(value)] = pickler.can_write(value)
    return known


def _texts(annotation: Any, depth: int = 0) -> Iterator[str]:
    """Yield the texts in an annotation: in ``'X'``, and in ``list['X'] | None``."""
    if isinstance(annotation, str):
        yield annotation
    elif isinstance(annotation, typing.ForwardRef):
        yield annotation.__forward_arg__
    elif depth < _DEEPEST and typing.get_origin(annotation) is not typing.Literal:
        inner = getattr(annotation, "__args__", None) if _is_alias(annotation) else None
        for part in inner if isinstance(inner, tuple) else ():
            yield from _texts(part, depth + 1)


def _is_alias(annotation: Any) -> bool:
    kind = type(annotation)
    return kind in (types.GenericAlias, types.UnionType) or kind.__module__ == "typing"


@cached_by_code
def _texts_within(code: CodeType) -> tuple[str, ...]:
    """Return the annotations that are text in the functions that code defines."""
    return tuple(dict.fromkeys(_scan(code)))


def _scan(code: CodeType) -> Iterator[str]:
    for outer in walk(code):
        if not any(isinstance(constant, CodeType) for constant in outer.co_consts):
            continue
        last: Any = None
        for step in dis.get_instructions(outer):
            if step.opname == "LOAD_CONST" and isinstance(step.argval, tuple):
                last = step.argval
            elif step.opname in _MAKERS and (step.arg or 0) & _ANNOTATED:
                yield from last[1::2] if _is_annotations(last) else ()


def _is_annotations(pairs: Any) -> bool:
    """Return whether a constant is ``(name, text, name, text …)``."""
    return (
        isinstance(pairs, tuple)
        and len(pairs) % 2 == 0
        and all(isinstance(text, str) for text in pairs)
        and all(name.isidentifier() for name in pairs[::2])
    )


# -- classes ---------------------------------------------------------------------------------------


def resolve(pickler: Writer, cls: type, attributes: dict[str, Any]) -> None:
    """Replace annotations that are text by the types that they name, if these are known and can travel."""
    pickler.judged[id(cls)] = True
    own = attributes.get("__annotations__")
    if type(own) is frozen.Annotations:
        return  # the first writer resolved it
    module = sys.modules.get(cls.__module__) if own else None
    if isinstance(own, dict) and module is not None:
        found = {name: _resolved(pickler, value, vars(module)) for name, value in own.items()}
        if any(found[name] is not value for name, value in own.items()):
            attributes["__annotations__"] = frozen.resolved_annotations(found, dict(own))


def _resolved(pickler: Writer, value: Any, space: dict[str, Any]) -> Any:
    text = value.__forward_arg__ if isinstance(value, typing.ForwardRef) else value
    if not isinstance(text, str):
        return _with_resolved(pickler, value, space) if _is_alias(value) else value
    chains, code = _parse(text)
    if code is None or all(chain[0] not in space for chain in chains):
        return value  # it names nothing in the module
    try:
        leaves = [_leaf(chain, space) for chain in chains if chain[0] in space]
        if not all(modules.is_by_reference(leaf) or _travels(pickler, leaf) for leaf in leaves):
            return value
        return eval(code, {name: space[name] for name, *_ in chains if name in space})  # noqa: S307
    except Exception:  # noqa: BLE001 - it is not a type, or not yet
        return value


def _with_resolved(pickler: Writer, alias: Any, space: dict[str, Any]) -> Any:
    """Return ``list[X]`` for ``list['X']``; the alias itself if nothing in it is resolved."""
    parts = getattr(alias, "__args__", None)
    if not isinstance(parts, tuple) or typing.get_origin(alias) is typing.Literal:
        return alias
    found = tuple(_resolved(pickler, part, space) for part in parts)
    if all(new is old for new, old in zip(found, parts, strict=True)):
        return alias
    try:
        if isinstance(alias, types.UnionType):
            return functools.reduce(operator.or_, found)
        if type(alias) is types.GenericAlias:
            origin: Any = alias.__origin__
            return types.GenericAlias(origin, found)
        return alias.copy_with(found)
    except Exception:  # noqa: BLE001 - one of a library's, that is made in another way
        return alias


def _leaf(chain: tuple[str, ...], space: dict[str, Any]) -> Any:
    found = space[chain[0]]
    for name in chain[1:]:
        found = getattr(_only_types(found), name)
    return _only_types(found)


def _only_types(found: Any) -> Any:
    """Return a type, a module, or an object of `typing`; raise TypeError for others, which may run code."""
    kind = type(found)
    if issubclass(kind, type | types.ModuleType) or kind.__module__ in _TYPING:
        return found
    raise TypeError(f"a {kind.__name__} is not a type")


# -- text ------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _parse(text: str) -> _Text:
    try:
        with no_warnings():
            tree = _Unquoted().visit(ast.parse(text.strip(), mode="eval"))
            is_harmless = all(isinstance(node, _HARMLESS) for node in ast.walk(tree))
            code = compile(tree, "<annotation>", "eval") if is_harmless else None
    except (SyntaxError, ValueError, RecursionError, TypeError):
        return _Text((), None)
    return _Text(tuple(dict.fromkeys(_chains(tree))), code)


class _Unquoted(ast.NodeTransformer):
    """Replaces each text that is an annotation within an annotation by its expression."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str):
            inner: ast.expr = ast.parse(node.value.strip(), mode="eval").body
            return self.visit(ast.copy_location(inner, node))  # type: ignore[no-any-return]
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        name = node.value.attr if isinstance(node.value, ast.Attribute) else ""
        name = node.value.id if isinstance(node.value, ast.Name) else name
        if name == "Literal":
            return node
        if name == "Annotated" and isinstance(node.slice, ast.Tuple):
            node.slice.elts[:1] = [self.visit(node.slice.elts[0])]
            return node
        self.generic_visit(node)
        return node


def _chains(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    names: list[str] = []
    node = tree
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        if names or not hasattr(builtins, node.id):
            yield (node.id, *names)
        return
    for child in ast.iter_child_nodes(tree):
        yield from _chains(child)


# -- types of `typing` -----------------------------------------------------------------------------


def is_found(obj: Any) -> bool:
    """Return whether a reader can import something by its name."""
    if modules.is_by_value(obj.__module__):
        return False
    name = getattr(obj, "__qualname__", obj.__name__)
    return cp._lookup_module_and_qualname(obj, name=name) is not None


def _reduce_new_type(_: object, new_type: Any) -> Any:
    """Reduce a `typing.NewType`, which `pickle` reduces to its name."""
    if is_found(new_type):
        return NotImplemented
    return frozen.new_type, (new_type.__name__, new_type.__supertype__, new_type.__module__)


def _reduce_parameters(_: object, parameters: Any) -> Any:
    """Reduce a `typing.ParamSpec` or `TypeVarTuple`, which `pickle` reduces to its name."""
    return NotImplemented if is_found(parameters) else (type(parameters), (parameters.__name__,))


def _reduce_of_parameters(_: object, part: Any) -> Any:
    """Reduce the ``args`` or the ``kwargs`` of a `typing.ParamSpec`."""
    return type(part), (part.__origin__,)


def _reduce_alias(_: object, alias: Any) -> Any:
    """Reduce a type alias (``type X = int``), which `pickle` reduces to its name."""
    if is_found(alias):
        return NotImplemented
    return frozen.type_alias, (alias.__name__, alias.__value__, alias.__type_params__)


def _reduce_forward_reference(_: object, reference: Any) -> Any:
    """Reduce an annotation that is text to its text, without the code that it caches."""
    return frozen.forward_reference, (
        reference.__forward_arg__,
        getattr(reference, "__forward_is_argument__", True),
        getattr(reference, "__forward_module__", None),
        getattr(reference, "__forward_is_class__", False),
    )


REDUCERS: dict[type, Callable[[Any, Any], Any]] = {
    typing.ForwardRef: _reduce_forward_reference,
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_parameters,
    typing.TypeVarTuple: _reduce_parameters,
    typing.ParamSpecArgs: _reduce_of_parameters,
    typing.ParamSpecKwargs: _reduce_of_parameters,
    **({typing.TypeAliasType: _reduce_alias} if hasattr(typing, "TypeAliasType") else {}),
}
