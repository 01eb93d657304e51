"""A code object, compiled again from the block of source that it is in.

The function's node is picked out of the block and compiled alone, within empty scopes of the names
and kinds that it was in: so it gets the same free variables, the same ``super()``, the same mangling
of private names and the same qualified name, whatever surrounded it.
"""

from __future__ import annotations

import ast
import contextlib
import warnings
from types import CodeType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Block = tuple[str, int, str]
"""Filename (one that only this very text has), number of its first line, text."""

Span = tuple[int, int, int, int]
"""First line and column, last line and column."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
LAMBDA = "<lambda>"
_LOCALS = "<locals>"
_EXTRA = "_"
# Scopes of their own in some versions only.
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class Address(NamedTuple):
    """Which function of a block a code object is, in terms that no version of Python changes.

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
    # Strings are copied: what else in a pickle is the very same object is up to chance.
    name = "".join(code.co_qualname)
    return Address(name, code.co_firstlineno, tuple(code.co_freevars), futures, span)


def locate(address: Address, block: Block, code: CodeType) -> Address:
    """Return the address of a lambda whose instructions have no columns, with those of its node.

    Such a one returns a constant (since Python 3.12), or Python was told to leave columns out. There
    may be several of the same code: any of them will do.
    """
    for node in _candidates(address, block):
        end = (node.end_lineno or 0, node.end_col_offset or 0)
        trial = address._replace(span=(node.lineno, node.col_offset, *end))
        if rebuild(trial, block) == code:
            return trial
    return address


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
        # Of a comprehension that has no scope of its own, or declared global in a function.
        scopes, extra = [*scopes, (_EXTRA, True)], f"{_EXTRA}.{_LOCALS}."
    tree = ast.Module([_within(scopes, node, address.free)], [])
    ast.fix_missing_locations(tree)
    # A cell may await outside of functions.
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
    constants = tuple(
        _without(extra, constant) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_qualname=code.co_qualname.replace(extra, "", 1), co_consts=constants)


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Spare the user what he was warned of when he ran the cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(text: str) -> ast.Module:
    """Parse a block; what is indented is a block of something, at line 2 then.

    Raises
    ------
    SyntaxError, ValueError
    """
    with no_warnings():
        return ast.parse("if 1:\n" + text if text[:1] in " \t" else text)


def _find(address: Address, block: Block) -> _Function:
    """Return the function's node, at its lines and columns."""
    nodes = _candidates(address, block)
    if len(nodes) > 1 and address.span is not None:
        # The last that contains it is the innermost: they are found from the outside in.
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
        if _line(node) == address.line and names[-len(scopes) :] == scopes
    ]
    # A lambda in a lambda is not the outer one.
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
        # Defaults, decorators and bases are outside.
        yield from _functions(child, inner if child in body else scopes)


def _line(node: _Function) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _contains(node: _Function, span: Span) -> bool:
    start, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return start <= span[:2] and span[2:] <= end


def _empty(node: _Function) -> None:
    """Take out what is evaluated when the function is defined: it would define code of its own."""
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


def walk(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that it defines."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from walk(inner)


def _future_flags() -> int:
    import __future__

    flags = 0
    for name in __future__.all_feature_names:
        flags |= getattr(__future__, name).compiler_flag
    # The bit of `nested_scopes` is CO_NESTED, which says something else of a code object.
    return flags & ~__future__.nested_scopes.compiler_flag


FUTURES = _future_flags()
