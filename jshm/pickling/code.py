"""Code objects, between processes and between versions of Python.

A code object travels marshalled, with the magic number of its bytecode, beside its block of source.
A reader of the same bytecode unmarshals it. Any other compiles it again: it picks the function's
node out of the block and compiles it alone, within empty scopes of the names and kinds that it was
in. So the function gets the same free variables, the same ``super()``, the same mangling of private
names and the same qualified name.
"""

from __future__ import annotations

import ast
import dis
import importlib.util
import marshal
import sys
import textwrap
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import NotShareableError
from ..system.weak import WeakKeys, WeakSet
from . import source
from .source import FUTURES, LAMBDA, Block, cached_by_code, lines_of, no_warnings, parse, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Span = tuple[int, int, int, int]
"""First line and column, last line and column."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_LOCALS = "<locals>"
_EXTRA = "_"
# Scopes that only some versions of Python have.
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
Arguments = tuple[Any, ...]
TAG = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Version 2 writes no back references. Whether later versions write one depends on reference counts, so
# the same code would not always give the same bytes.
_MARSHAL_VERSION = 2
# Classes and annotations look up global names by these, functions by LOAD_GLOBAL.
_NAME_LOOKUPS = {"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}

# Code object → the arguments of `frozen.code`, by the name of the notebook that writes it.
_arguments: WeakKeys[CodeType, dict[str, Arguments]] = WeakKeys()
generated: WeakSet[CodeType] = WeakSet()
"""The code of methods that their class generates again, if another Python reads it."""


# -- writing ---------------------------------------------------------------------------------------


def arguments(code: CodeType, notebook: str) -> Arguments:
    """Return the arguments of `frozen.code` for a code object; they are found once."""
    known = _arguments.get(code)
    if known is None:
        known = _arguments[code] = {}
    found = known.get(notebook)
    if found is None:
        found = known[notebook] = _find_arguments(code, notebook)
    return found


def _find_arguments(code: CodeType, notebook: str) -> Arguments:
    block = source.block_of(code, notebook)
    if block is not None:
        # Under a file's own name its lines would be wrong after an edit.
        named, address = _renamed(code, block[0]), address_of(code)
        if code.co_name == LAMBDA and address.span is None:
            address = locate(address, block, named)
        # The file may have been edited since it was imported.
        if not source.is_file(code.co_filename) or source.is_current(code):
            return TAG, _marshalled(named), PYTHON, tuple(address), block
    if source.is_file(code.co_filename):
        code = _renamed(code, source.without_source(code.co_filename))
    return TAG, _marshalled(code), PYTHON, "".join(code.co_qualname)


def generated_arguments(code: CodeType) -> Arguments:
    """Return the arguments of `frozen.generated_code` for the code of a generated method."""
    return TAG, _marshalled(code), "".join(code.co_qualname), tuple(code.co_freevars)


def block_written(code: CodeType) -> Block | None:
    """Return the block of source that was written with a code object; None if there was none."""
    known = {} if code in generated else _arguments.get(code) or {}
    return next((found[-1] for found in known.values() if type(found[-1]) is tuple), None)


def statement_of(code: CodeType) -> str:
    """Return the statement that contains a code object; '' if its source is not known."""
    if code in generated:
        return ""
    if not _arguments.get(code):
        arguments(code, "")
    block = block_written(code)
    text = "" if block is None else block[2]
    return textwrap.dedent(text) if text[:1] in (" ", "\t") else text


def _marshalled(code: CodeType) -> bytes:
    try:
        return marshal.dumps(code, _MARSHAL_VERSION)
    except ValueError:  # a constant that only newer formats know
        return marshal.dumps(code)


def _renamed(code: CodeType, filename: str) -> CodeType:
    return _replaced(code, lambda _: {"co_filename": filename})


def _replaced(code: CodeType, change: Callable[[CodeType], dict[str, Any]]) -> CodeType:
    """Return a code object with attributes replaced, in it and in all code that it defines."""
    constants = tuple(
        _replaced(constant, change) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_consts=constants, **change(code))


# -- reading ---------------------------------------------------------------------------------------


def load(
    tag: int,
    marshalled: bytes,
    python: str,
    address: tuple[Any, ...] | str,
    block: Block | None = None,
) -> CodeType:
    """Return the code object that these arguments describe; see `frozen.code`.

    Raises
    ------
    NotShareableError
        Another version of Python wrote it, and it cannot be compiled again.
    """
    if block is not None:
        source.register(block)
    if tag == TAG:
        code: CodeType = marshal.loads(marshalled)  # noqa: S302 - of the pickle that calls this
        return code
    if block is None:
        raise NotShareableError(
            f"the function {address} was compiled by Python {python} without known source, so "
            f"this Python {PYTHON} cannot compile it again: define it in a cell or a file and publish "
            f"it again, or attach it with Python {python}"
        )
    address = Address(*address)
    try:
        return rebuild(address, block)
    except SyntaxError as error:
        why = f"it does not know the syntax ({error.msg})"
    except LookupError as error:
        why = str(error)
    raise NotShareableError(
        f"the function {address.qualname} was compiled by Python {python}, and this Python {PYTHON} "
        f"cannot compile it again from its source: {why}. Attach it with Python {python}"
    )


def load_generated(tag: int, marshalled: bytes, qualname: str, free: tuple[str, ...]) -> CodeType:
    """Return the code object of a generated method, or a placeholder until it is generated again."""
    if tag == TAG:
        code: CodeType = marshal.loads(marshalled)  # noqa: S302 - of the pickle that calls this
        return code
    return placeholder(qualname, free)


def placeholder(qualname: str, free: tuple[str, ...]) -> CodeType:
    """Return code with these free variables, for a method until its class generates it again."""
    name = qualname.rpartition(".")[2]
    outer = (
        f"def outer({', '.join(free)}):\n"
        f"    def method(*_, **__):\n"
        f"        raise TypeError({name!r} + ' was not generated again', [{', '.join(free)}])\n"
    )
    (code,) = (c for c in compile(outer, "<string>", "exec").co_consts if isinstance(c, CodeType))
    (method,) = (c for c in code.co_consts if isinstance(c, CodeType))
    return method.replace(co_name=name, co_qualname=qualname)


# -- names that code looks up ----------------------------------------------------------------------


@cached_by_code
def class_globals(code: CodeType) -> tuple[str, ...]:
    """Return the names that classes within a function may look up among its globals.

    Class bodies use other instructions for that than functions; cloudpickle does not look for these.
    """
    _, *within = walk(code)
    steps = (step for inner in within for step in dis.get_instructions(inner))
    return tuple(dict.fromkeys(step.argval for step in steps if step.opname in _NAME_LOOKUPS))


@cached_by_code
def assigned_by(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the globals and of the attributes that code sets or deletes."""
    steps = [step for inner in walk(code) for step in dis.get_instructions(inner)]
    return (
        frozenset(s.argval for s in steps if s.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")),
        frozenset(s.argval for s in steps if s.opname in ("STORE_ATTR", "DELETE_ATTR")),
    )


@cached_by_code
def imported_by(code: CodeType) -> tuple[tuple[str, int], ...]:
    """Return the names that code imports, each with its level: 0 for an absolute import."""
    return tuple(dict.fromkeys(_imports_in(code)))


def _imports_in(code: CodeType) -> Iterator[tuple[str, int]]:
    for inner in walk(code):
        numbers: list[Any] = []
        for step in dis.get_instructions(inner):
            if step.opname == "IMPORT_NAME":
                yield step.argval, next((n for n in reversed(numbers) if type(n) is int), 0)
                numbers = []
            elif step.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
                numbers = [*numbers[-1:], step.argval]


# -- addresses -------------------------------------------------------------------------------------


class Address(NamedTuple):
    """The function of a block that a code object belongs to, in terms that are the same in every Python.

    Attributes
    ----------
    qualname : str
    line : int
        The first; of the first decorator, if there is any.
    free : tuple of str
        The free variables.
    futures : int
        Flags of the ``__future__`` features that it was compiled under.
    span : tuple of int, or None
        Where a lambda's instructions are: there may be several on a line. None if Python left the
        columns out.
    """

    qualname: str
    line: int
    free: tuple[str, ...]
    futures: int
    span: Span | None


def address_of(code: CodeType) -> Address:
    """Return the address of a code object."""
    span = _span(code) if code.co_name == LAMBDA else None
    futures = code.co_flags & FUTURES
    # Strings are copied, because which objects in a pickle are identical is chance.
    name = "".join(code.co_qualname)
    return Address(name, code.co_firstlineno, tuple(code.co_freevars), futures, span)


def locate(address: Address, block: Block, code: CodeType) -> Address:
    """Return the address of a lambda whose instructions have no columns, with those of its node.

    Since Python 3.12 a lambda that returns a constant has none, and Python can be told to leave them
    out. Several lambdas may have the same code: any of them will do.
    """
    for node in _candidates(address, block):
        end = (node.end_lineno or 0, node.end_col_offset or 0)
        trial = address._replace(span=(node.lineno, node.col_offset, *end))
        if rebuild(trial, block) == code:
            return trial
    return address


def _span(code: CodeType) -> Span | None:
    known = [
        (line, column, end_line, end_column)
        for line, end_line, column, end_column in code.co_positions()
        if line is not None
        and end_line is not None
        and column is not None
        and end_column is not None
        and end_column > 0  # the first instructions stand for the whole line
    ]
    if not known:
        return None
    start = min((line, column) for line, column, _, _ in known)
    end = max((line, column) for _, _, line, column in known)
    return (*start, *end)


# -- compiling again -------------------------------------------------------------------------------


def rebuild(address: Address, block: Block) -> CodeType:
    """Return the code object at an address.

    Raises
    ------
    SyntaxError
        The block is of another Python's syntax.
    LookupError
        Its function cannot be told, or has other free variables here; says why.
    """
    node = _find(address, block)
    _empty(node)
    *scopes, name = _scopes(address.qualname)
    extra = ""
    if set(address.free) - {"__class__"} and not any(is_function for _, is_function in scopes):
        # A comprehension without its own scope, or a name declared global in a function.
        scopes, extra = [*scopes, (_EXTRA, True)], f"{_EXTRA}.{_LOCALS}."
    tree = ast.Module([_within(scopes, node, address.free)], [])
    ast.fix_missing_locations(tree)
    # A notebook cell may use `await` outside of functions.
    flags = address.futures | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with no_warnings():
        compiled = compile(tree, block[0], "exec", flags, dont_inherit=True)
    for code in walk(compiled):
        if code.co_name == name[0] and code.co_qualname.replace(extra, "", 1) == address.qualname:
            if code.co_freevars != address.free:
                raise LookupError(
                    f"its free variables would be {code.co_freevars}, not {address.free}"
                )
            return _without(extra, code) if extra else code
    raise LookupError("its source does not define it")


def _without(extra: str, code: CodeType) -> CodeType:
    """Return a code object without the extra scope in its qualified name, and in those within it."""
    return _replaced(code, lambda c: {"co_qualname": c.co_qualname.replace(extra, "", 1)})


def _find(address: Address, block: Block) -> _Function:
    """Return the function's node, at its lines and columns."""
    nodes = _candidates(address, block)
    if len(nodes) > 1 and address.span is not None:
        # The last one is the innermost, because they are found from the outside in.
        nodes = [node for node in nodes if _contains(node, address.span)][-1:]
    if len(nodes) != 1:
        raise LookupError(f"its source has {len(nodes) or 'no'} functions like it")
    return nodes[0]


def _candidates(address: Address, block: Block) -> list[_Function]:
    """Return the nodes of that name, within scopes of those names, that begin at that line."""
    _, line, text = block
    tree = parse(text)
    ast.increment_lineno(tree, line - 1 - (text[:1] in " \t"))
    names = [name for name, _ in _scopes(address.qualname) if name not in _COMPREHENSIONS]
    found = [
        (node, scopes)
        for node, scopes in _functions(tree, [])
        if lines_of(node)[0] == address.line and names[-len(scopes) :] == scopes
    ]
    # Of nested lambdas only the innermost counts.
    deepest = max((len(scopes) for _, scopes in found), default=0)
    return [node for node, scopes in found if len(scopes) == deepest]


def _functions(node: ast.AST, scopes: list[str]) -> Iterator[tuple[_Function, list[str]]]:
    """Yield all functions in a tree, each with the names of the scopes down to its own."""
    inner, body = scopes, list[ast.AST]()
    if isinstance(node, ast.Lambda):
        inner, body = [*scopes, LAMBDA], [node.body]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inner, body = [*scopes, node.name], [*node.body]
    if isinstance(node, _Function):
        yield node, inner
    for child in ast.iter_child_nodes(node):
        # Defaults, decorators and bases belong to the outer scope.
        yield from _functions(child, inner if child in body else scopes)


def _contains(node: _Function, span: Span) -> bool:
    start, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return start <= span[:2] and span[2:] <= end


def _empty(node: _Function) -> None:
    """Remove the parts that are evaluated when the function is defined: they would define more code."""
    nothing = ast.Constant(None)
    node.args.defaults = [nothing] * len(node.args.defaults)
    node.args.kw_defaults = [default and nothing for default in node.args.kw_defaults]
    for part in ast.walk(node.args):
        if isinstance(part, ast.arg):
            part.annotation = None
    if not isinstance(node, ast.Lambda):
        node.returns = None
        # The first decorator's line is the function's.
        node.decorator_list = [
            ast.copy_location(ast.Constant(None), decorator) for decorator in node.decorator_list
        ]


def _scopes(qualname: str) -> list[tuple[str, bool]]:
    """Return the parts of a qualified name, and whether each is a function's."""
    parts = qualname.split(".")
    followers = [*parts[1:], ""]
    return [(p, f == _LOCALS) for p, f in zip(parts, followers, strict=True) if p != _LOCALS]


def _within(scopes: list[tuple[str, bool]], node: _Function, free: tuple[str, ...]) -> ast.stmt:
    """Return a function's node within scopes; the innermost function has its free variables."""
    statement: ast.stmt = ast.Expr(node) if isinstance(node, ast.Lambda) else node
    for name, is_function in reversed(scopes):
        if is_function:
            variables = [ast.arg(variable) for variable in free if variable != "__class__"]
            if "__class__" in free and not any(not function for _, function in scopes):
                variables.append(ast.arg("__class__"))
            arguments = ast.arguments([], variables, None, [], [], None, [])
            free = ()
            statement = ast.FunctionDef(name, arguments, [statement], [])
        else:
            statement = ast.ClassDef(name, [], [], [statement], [])
    return statement
