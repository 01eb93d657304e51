"""Where the source of a function is, and making it known where the function arrives.

What travels is a *block*: the lines of the smallest statement that the code is of, which is its
``def`` with its decorators, or the statement that a lambda is in.
"""

from __future__ import annotations

import ast
import hashlib
import io
import linecache
import os
import sys
from typing import TYPE_CHECKING

from ..text import printable
from . import texts
from .rebuild import Block, no_warnings, parse, walk

if TYPE_CHECKING:
    from types import CodeType

here = ""
"""What people call this process; a block's filename tells it where the function arrives."""


# Parsed files and cells, for as long as one object is written; the lines tell whether they are the same.
_trees: dict[str, tuple[list[str], ast.Module]] = {}
_codes: dict[str, list[CodeType]] = {}
# What no statement ends with; a comment may, and then takes a parser.
_GOES_ON = frozenset(",([{\\+-*/%=&|^<>.:@~")
_BODIES = ("body", "handlers", "orelse", "finalbody", "cases")
_registered: dict[str, Block] = {}
# So begin the names of all blocks: under other names that are no files, Numba caches nothing.
_PREFIX = "<ipython-"


def block_of(code: CodeType) -> Block | None:
    """Return the block that a code object is defined in, or None where its source is not known."""
    filename = code.co_filename
    if filename in _registered and filename not in linecache.cache:  # somebody cleared all
        register(_registered[filename])
    elif is_file(filename):
        linecache.checkcache(filename)
    if _has_no_lines(filename):
        found = texts.find(code)
        lines = found.lines if found else []
    else:
        lines = linecache.getlines(filename)
    if not lines:
        return None
    first = code.co_firstlineno
    last = _end_of_function(lines, first)
    if not last:
        first, last = _smallest(_parse(filename, lines), lines, first)
    if not first:
        return None
    label = place(code)
    if here and filename not in _registered and label.startswith("In["):
        label += f" of {here}"
    text = "".join(lines[first - 1 : last])
    digest = hashlib.blake2s(f"{first}:{text}".encode(errors="replace"), digest_size=4)
    return f"{_PREFIX}{printable(label)} {digest.hexdigest()}>", first, text


def _has_no_lines(filename: str) -> bool:
    """Tell whether a name stands for text that Python did not keep, or for any text at all."""
    return filename == "<string>" or (filename[:1] == "<" and filename not in linecache.cache)


def is_current(code: CodeType) -> bool:
    """Tell whether what a file says by now, as far as it is known, compiles to this code object.

    The whole file is compiled: what a function compiles to depends on what is imported above it.
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
    line, name = code.co_firstlineno, code.co_name
    return any(c.co_firstlineno == line and c.co_name == name and c == code for c in known)


def forget_trees() -> None:
    """Free what is only kept while an object is written."""
    _trees.clear()
    _codes.clear()
    texts.forget()


def without_source(filename: str) -> str:
    """Return a name for a file that says something else by now: it must not be shown."""
    return f"<{os.path.basename(filename)}, edited since it was imported>"


def is_file(filename: str) -> bool:
    """Tell whether `linecache` has read this from a file, which may have been edited meanwhile.

    A cell cannot: the filename that IPython gives to one is made from its text.
    """
    entry = linecache.cache.get(filename)
    # A lazy entry, of one element, names a loader; no modification time: not from a file.
    return entry is not None and len(entry) > 1 and entry[1] is not None


def register(block: Block) -> None:
    """Let `inspect`, ``f??`` and tracebacks find a block's lines, under its filename."""
    filename, line, text = block
    # Nobody clears what has no modification time, unless he clears all.
    if filename not in linecache.cache:
        # As Python does: `splitlines` would also split at form feeds.
        lines = ["\n"] * (line - 1) + io.StringIO(text).readlines()
        linecache.cache[filename] = (len(text), None, lines, filename)
        _registered[filename] = block


def place(code: CodeType) -> str:
    """Return where a code object was defined, as people say it: ``In[3]``, ``utils.py``."""
    filename = code.co_filename
    if filename in _registered:
        return filename.removeprefix(_PREFIX).removeprefix("<").rpartition(" ")[0]
    found = texts.find(code) if _has_no_lines(filename) else None
    cell = found.cell if found else _cell(filename)
    return cell or os.path.basename(filename.strip("<>"))


def _cell(filename: str) -> str:
    """Return ``In[3]`` for the file name that IPython gave to a cell, else an empty string."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    named = shell.compile.format_code_name(filename) if shell is not None else None
    return named[1] if named else ""


def _end_of_function(lines: list[str], first: int) -> int:
    """Return the last line of a ``def`` that is indented by nothing; 0 where that takes a parser.

    To parse a cell costs more than all else that is done for a function. Lines that are not indented
    end it, unless they are within brackets or a string. One that is cut there would be no Python, so
    a mistake is an error where it is read, and never another function.
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
    """Return lines that a parser takes: a block that arrived here may be a part of something."""
    block = _registered.get(filename)
    if block is None or block[2][:1] not in " \t":
        return lines
    return [*lines[: block[1] - 2], "if 1:\n", *lines[block[1] - 1 :]]


def _smallest(tree: ast.Module, lines: list[str], line: int) -> tuple[int, int]:
    """Return first and last line of the smallest block that has a line; (0, 0) if there is none."""
    for first, last in reversed(_spans(tree, line)):
        try:
            parse("".join(lines[first - 1 : last]))
        except (SyntaxError, ValueError):  # `else: f = lambda: 1` has no lines of its own
            continue
        return first, last
    return 0, 0


def _spans(tree: ast.Module, line: int) -> list[tuple[int, int]]:
    """Return first and last lines of the statements that have a line, from the outside in."""
    found: list[tuple[int, int]] = []
    nodes = list[ast.AST](tree.body)
    while True:
        spans = sorted((*_lines_of(node), i) for i, node in enumerate(nodes))
        here = [i for first, last, i in spans if first <= line <= last]
        if not here:
            return found
        first, last = (
            min(_lines_of(nodes[i])[0] for i in here),
            max(_lines_of(nodes[i])[1] for i in here),
        )
        # `a = 1; f = lambda: a`: what shares lines with it is taken too.
        for begins, ends, _ in [*spans, *reversed(spans)]:
            if begins <= last and first <= ends:
                first, last = min(first, begins), max(last, ends)
        found.append((first, last))
        node = nodes[here[0]]
        nodes = [inner for name in _BODIES for inner in getattr(node, name, ())]
        if len(here) > 1:
            return found


def _lines_of(node: ast.AST) -> tuple[int, int]:
    """Return first and last line of a statement, or of a part of one that has statements."""
    if isinstance(node, ast.match_case):
        return node.pattern.lineno, node.body[-1].end_lineno or 0
    first: int = node.lineno  # type: ignore[attr-defined]
    for decorator in getattr(node, "decorator_list", ()):
        first = min(first, decorator.lineno)
    return first, node.end_lineno or first  # type: ignore[attr-defined]
