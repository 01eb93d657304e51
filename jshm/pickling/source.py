"""The source of functions: how it is found, and how a reader shows it.

A *block* travels with a code object: the lines of the smallest statement that contains it. That is
its ``def`` with its decorators, or the statement that a lambda is in.

Some code has no file and no cell: ``%%time`` and similar magics run text, and so does ``python
-c``. IPython compiles such text under a name like ``<timed exec>``, the same for all cells. The
text is a string within the cell that calls the magic. It is never guessed: a candidate is compiled,
and the code must be the same.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import functools
import hashlib
import io
import itertools
import linecache
import os
import re
import sys
import textwrap
import warnings
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..system.weak import WeakKeys
from ..text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    T = TypeVar("T")

Block = tuple[str, int, str]
"""Filename (unique to this text), number of its first line, text."""
LAMBDA = "<lambda>"
# Parsed files and cells, kept while one object is written, with the lines that were parsed.
_trees: dict[str, tuple[list[str], ast.Module]] = {}
_codes: dict[str, list[CodeType]] = {}
# No statement ends with these; a comment may, and then the parser decides.
_GOES_ON = frozenset(",([{\\+-*/%=&|^<>.:@~")
_BODIES = ("body", "handlers", "orelse", "finalbody", "cases")
_registered: dict[str, Block] = {}
# The filenames of blocks begin like this: Numba caches code only of files and of such names.
_PREFIX = "<ipython-"


def _future_flags() -> int:
    flags = 0
    for name in __future__.all_feature_names:
        flags |= getattr(__future__, name).compiler_flag
    # The bit of `nested_scopes` is CO_NESTED, which has another meaning in a code object.
    return flags & ~__future__.nested_scopes.compiler_flag


FUTURES = _future_flags()


# -- what is known of code objects -----------------------------------------------------------------


def cached_by_code(find: Callable[[CodeType], T]) -> Callable[[CodeType], T]:
    """Return a function that remembers its value for each code object, by identity: hashing one is slow."""
    known: WeakKeys[CodeType, tuple[T]] = WeakKeys()

    @functools.wraps(find)
    def found(code: CodeType) -> T:
        entry = known.get(code)
        if entry is None:
            entry = known[code] = (find(code),)
        return entry[0]

    return found


def walk(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that it defines."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from walk(inner)


# -- blocks ----------------------------------------------------------------------------------------


def block_of(code: CodeType, notebook: str = "") -> Block | None:
    """Return the block that contains a code object; None if its source is not known.

    Parameters
    ----------
    code : code
    notebook : str
        What people call this process: the block's filename says it, if the block is a cell's.
    """
    statement = _statement_of(code)
    if statement is None:
        return None
    first, text = statement
    label = place(code)
    if notebook and code.co_filename not in _registered and label.startswith("In["):
        label += f" of {notebook}"
    digest = hashlib.blake2s(f"{first}:{text}".encode(errors="replace"), digest_size=4)
    return f"{_PREFIX}{printable(label)} {digest.hexdigest()}>", first, text


@cached_by_code
def _statement_of(code: CodeType) -> tuple[int, str] | None:
    """Return number of the first line, and text, of the statement that contains a code object."""
    filename = code.co_filename
    if filename in _registered and filename not in linecache.cache:  # other code cleared the cache
        register(_registered[filename])
    elif is_file(filename):
        linecache.checkcache(filename)
    if _has_no_lines(filename):
        found = _find_text(code)
        lines = found.lines if found else []
    else:
        lines = linecache.getlines(filename)
    if not lines:
        return None
    first = code.co_firstlineno
    last = _end_of_function(lines, first)
    if not last:
        first, last = _smallest(_parse(filename, lines), lines, first)
    return (first, "".join(lines[first - 1 : last])) if first else None


def _has_no_lines(filename: str) -> bool:
    """Return whether a filename stands for text that Python did not keep, or for several texts."""
    return filename == "<string>" or (filename[:1] == "<" and filename not in linecache.cache)


def is_current(code: CodeType) -> bool:
    """Return whether the present content of a file compiles to this code object.

    The whole file is compiled, because a function's code depends on the imports above it.
    """
    filename = code.co_filename
    known = _codes.get(filename)
    if known is None:
        tree = _parse(filename, linecache.getlines(filename))
        try:
            with no_warnings():
                known = list(walk(compile(tree, filename, "exec", dont_inherit=True)))
        except (SyntaxError, ValueError):
            known = []
        _codes[filename] = known
    return _is_among(known, code)


def forget_trees() -> None:
    """Free the trees and texts that are kept while an object is written."""
    _trees.clear()
    _codes.clear()
    _found.clear()
    _lines.clear()


def without_source(filename: str) -> str:
    """Return a filename for code whose file has changed since, so that the file is not shown for it."""
    return f"<{os.path.basename(filename)}, edited since it was imported>"


def is_file(filename: str) -> bool:
    """Return whether `linecache` has read this from a file, which may have been edited since.

    A cell cannot change: IPython makes its filename from its text.
    """
    entry = linecache.cache.get(filename)
    # A lazy entry has one element, a loader. An entry without a modification time is not from a file.
    return entry is not None and len(entry) > 1 and entry[1] is not None


def register(block: Block) -> None:
    """Make a block's lines known to `inspect`, ``f??`` and tracebacks, under its filename."""
    filename, line, text = block
    # An entry without a modification time stays until the whole cache is cleared.
    if filename not in linecache.cache:
        # Lines as Python splits them: `splitlines` would also split at form feeds.
        lines = ["\n"] * (line - 1) + io.StringIO(text).readlines()
        linecache.cache[filename] = (len(text), None, lines, filename)
        _registered[filename] = block


def place(code: CodeType) -> str:
    """Return where a code object was defined, for people: ``In[3]``, ``utils.py``."""
    filename = code.co_filename
    if filename in _registered:
        return filename.removeprefix(_PREFIX).removeprefix("<").rpartition(" ")[0]
    found = _find_text(code) if _has_no_lines(filename) else None
    cell = found.cell if found else _cell(filename)
    return cell or os.path.basename(filename.strip("<>"))


def _cell(filename: str) -> str:
    """Return ``In[3]`` for the file name that IPython gave to a cell, else an empty string."""
    found = shell()
    named = None if found is None else found.compile.format_code_name(filename)
    return named[1] if named else ""


def shell() -> Any:
    """Return IPython's shell of this process; None if there is none."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


# -- statements ------------------------------------------------------------------------------------


def _end_of_function(lines: list[str], first: int) -> int:
    """Return the last line of a ``def`` that is not indented; 0 if that takes a parser.

    Parsing a cell costs more than everything else that is done for a function. The first line that is not
    indented ends the function, unless it is within brackets or a string. A function cut there would not
    be valid Python, so a mistake is an error for the reader, and never another function.
    """
    if not lines[first - 1 : first] or not lines[first - 1].startswith(("def ", "async def ")):
        return 0
    last = first
    for number, line in enumerate(lines[first:], first + 1):
        if line[0] in " \t)]}" and not line.isspace():
            last = number
        elif line[0] != "#" and not line.isspace():
            break
    block = lines[first - 1 : last]
    text = "".join(block)
    closed = all(text.count(left) == text.count(right) for left, right in ("()", "[]", "{}"))
    # A string over several lines may contain anything.
    quoted = any(line.count(quotes) % 2 for line in block for quotes in ('"""', "'''"))
    return last if closed and not quoted and text.rstrip()[-1] not in _GOES_ON else 0


def _parse(filename: str, lines: list[str]) -> ast.Module:
    found = _trees.get(filename)
    if found is None or found[0] is not lines:
        try:
            tree = parse("".join(_complete(filename, lines)))
        except (SyntaxError, ValueError):
            tree = ast.Module([], [])
        found = _trees[filename] = (lines, tree)
    return found[1]


def _complete(filename: str, lines: list[str]) -> list[str]:
    """Return lines that can be parsed: a block that arrived here may be an indented part of a file."""
    block = _registered.get(filename)
    if block is None or block[2][:1] not in " \t":
        return lines
    return [*lines[: block[1] - 2], "if 1:\n", *lines[block[1] - 1 :]]


def _smallest(tree: ast.Module, lines: list[str], line: int) -> tuple[int, int]:
    """Return first and last line of the smallest block that contains a line; (0, 0) if there is none."""
    for first, last in reversed(_spans(tree, line)):
        try:
            parse("".join(lines[first - 1 : last]))
        except (SyntaxError, ValueError):  # `else: f = lambda: 1` is not a statement by itself
            continue
        return first, last
    return 0, 0


def _spans(tree: ast.Module, line: int) -> list[tuple[int, int]]:
    """Return first and last lines of the statements that contain a line, from the outside in."""
    found: list[tuple[int, int]] = []
    nodes = list[ast.AST](tree.body)
    while True:
        spans = sorted((*lines_of(node), i) for i, node in enumerate(nodes))
        here = [i for first, last, i in spans if first <= line <= last]
        if not here:
            return found
        first, last = (
            min(lines_of(nodes[i])[0] for i in here),
            max(lines_of(nodes[i])[1] for i in here),
        )
        # `a = 1; f = lambda: a`: statements that share a line go together.
        for begins, ends, _ in [*spans, *reversed(spans)]:
            if begins <= last and first <= ends:
                first, last = min(first, begins), max(last, ends)
        found.append((first, last))
        node = nodes[here[0]]
        nodes = [inner for name in _BODIES for inner in getattr(node, name, ())]
        if len(here) > 1:
            return found


def lines_of(node: ast.AST) -> tuple[int, int]:
    """Return first and last line of a statement, or of a part of one that has statements."""
    if isinstance(node, ast.match_case):
        return node.pattern.lineno, node.body[-1].end_lineno or 0
    first: int = node.lineno  # type: ignore[attr-defined]
    for decorator in getattr(node, "decorator_list", ()):
        first = min(first, decorator.lineno)
    return first, node.end_lineno or first  # type: ignore[attr-defined]


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress warnings that the user saw when the cell ran."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(text: str) -> ast.Module:
    """Parse a block; an indented one is put into an ``if`` statement, so it begins at line 2.

    Raises
    ------
    SyntaxError, ValueError
    """
    with no_warnings():
        return ast.parse("if 1:\n" + text if text[:1] in " \t" else text)


def class_statement(lines: list[str], name: str, within: int) -> str:
    """Return the lines of a class statement, by their indentation; the line `within` is one of them.

    Parsing the whole file would cost too much for a preview.
    """
    head = re.compile(rf"([ \t]*)class {re.escape(name)}\b")
    heads = ((i, head.match(lines[i])) for i in range(min(within, len(lines)) - 1, -1, -1))
    first, found = next(((i, match) for i, match in heads if match), (0, None))
    if found is None:
        return ""
    indent = found[1]
    inside = (f"{indent} ", f"{indent}\t", f"{indent})")
    body = itertools.takewhile(
        lambda line: line.startswith(inside) or line.isspace(), lines[first + 1 :]
    )
    last = first + 1 + sum(1 for _ in body)
    while first and lines[first - 1].startswith(f"{indent}@"):
        first -= 1
    return textwrap.dedent("".join(lines[first:last]))


# -- text that Python does not keep ----------------------------------------------------------------


# A cell that runs text contains one of these.
_RUNNERS = ("run_cell_magic(", "run_line_magic(", "exec(")
# A magic may run another magic, which runs the text.
_DEPTH = 3


class Text(NamedTuple):
    """The text that a code object was compiled from, and the cell that contains it.

    Attributes
    ----------
    cell : str
        Like ``In[3]``; empty outside of notebooks.
    lines : list of str
    """

    cell: str
    lines: list[str]


# By id; the code objects are kept, so that no other object gets the id.
_found: dict[int, tuple[CodeType, Text | None]] = {}
_lines: dict[str, list[str]] = {}


def _find_text(code: CodeType) -> Text | None:
    """Return the text that a code object was compiled from, if it can be found."""
    if id(code) not in _found:
        _found[id(code)] = code, _search(code)
    return _found[id(code)][1]


def _search(code: CodeType) -> Text | None:
    for cell, text in _texts_of(code):
        if _compiles_to(text, code):
            return Text(cell, _lines.setdefault(text, io.StringIO(text).readlines()))
    return None


def _texts_of(code: CodeType) -> Iterator[tuple[str, str]]:
    """Yield the texts that a code object may be compiled from, those of the newest cell first."""
    needle = "lambda" if code.co_name == LAMBDA else code.co_name
    if code.co_filename == "<string>":
        words = sys.orig_argv
        yield from (
            ("", text)
            for option, text in itertools.pairwise(words)
            if option[0:1] == "-" and option[-1:] == "c" and needle in text
        )
    ipython = shell()
    history = getattr(getattr(ipython, "history_manager", None), "input_hist_parsed", ())
    for number in reversed(range(len(history))):
        cell = history[number]
        if needle in cell and any(runner in cell for runner in _RUNNERS):
            for text in _texts_in(cell, needle, ipython, _DEPTH):
                yield f"In[{number}]", text


def _texts_in(source: str, needle: str, ipython: Any, depth: int) -> Iterator[str]:
    """Yield the strings of a piece of source that may be source, as IPython transforms them."""
    try:
        with no_warnings():
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = [part.value for part in node.args if isinstance(part, ast.Constant)]
        strings = [text for text in given if isinstance(text, str)]
        strings.append("\n".join(strings[1:]))  # %%prun: the line runs before the cell
        for text in strings:
            if needle not in text:
                continue
            yield text
            try:
                transformed = ipython.transform_cell(text)
            except SyntaxError:
                continue
            yield transformed
            if depth:
                yield from _texts_in(transformed, needle, ipython, depth - 1)


def _compiles_to(text: str, code: CodeType) -> bool:
    """Return whether a text has a function or class that compiles to this very code, at its line."""
    try:
        with no_warnings():
            flags = code.co_flags & FUTURES
            compiled = compile(text, code.co_filename, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return _is_among(walk(compiled), code)


def _is_among(codes: Iterable[CodeType], code: CodeType) -> bool:
    line, name = code.co_firstlineno, code.co_name
    # Comparing code objects costs much more than comparing two of their attributes.
    return any(c.co_firstlineno == line and c.co_name == name and c == code for c in codes)
