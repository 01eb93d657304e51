"""The source of code that Python keeps no source of: what ``%%time`` and its like run, ``python -c``.

IPython compiles such a cell, or line, under a name like ``<timed exec>``, which all of them share. Its
text is a string within the cell that calls the magic. Whether it is that text is never guessed: it is
compiled, and the code has to be the same.
"""

from __future__ import annotations
import __future__

import ast
import io
import itertools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from .rebuild import LAMBDA, no_warnings, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

# What a cell must contain to run text.
_RUNNERS = ("run_cell_magic(", "run_line_magic(", "exec(")
# A magic may run a magic, which runs the text.
_DEPTH = 3
_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


class Text(NamedTuple):
    """Where the source of a code object was found.

    Attributes
    ----------
    cell : str
        Like ``In[3]``; empty where it is of no notebook.
    lines : list of str
    """

    cell: str
    lines: list[str]


# By id; the code objects are kept, for no other to get the id.
_found: dict[int, tuple[CodeType, Text | None]] = {}
_lines: dict[str, list[str]] = {}


def find(code: CodeType) -> Text | None:
    """Return the text that a code object was compiled from, if it can be found."""
    if id(code) not in _found:
        _found[id(code)] = code, _search(code)
    return _found[id(code)][1]


def forget() -> None:
    """Free what was found."""
    _found.clear()
    _lines.clear()


def _search(code: CodeType) -> Text | None:
    for cell, text in _candidates(code):
        if _compiles_to(text, code):
            return Text(cell, _lines.setdefault(text, io.StringIO(text).readlines()))
    return None


def _candidates(code: CodeType) -> Iterator[tuple[str, str]]:
    """Yield the texts that a code object may be of, those of the newest cell first."""
    needle = "lambda" if code.co_name == LAMBDA else code.co_name
    if code.co_filename == "<string>":
        words = sys.orig_argv
        yield from (
            ("", text)
            for option, text in itertools.pairwise(words)
            if option[0:1] == "-" and option[-1:] == "c" and needle in text
        )
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    history = getattr(getattr(shell, "history_manager", None), "input_hist_parsed", ())
    for number in reversed(range(len(history))):
        cell = history[number]
        if needle in cell and any(runner in cell for runner in _RUNNERS):
            for text in _texts_in(cell, needle, shell, _DEPTH):
                yield f"In[{number}]", text


def _texts_in(source: str, needle: str, shell: Any, depth: int) -> Iterator[str]:
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
                transformed = shell.transform_cell(text)
            except SyntaxError:
                continue
            yield transformed
            if depth:
                yield from _texts_in(transformed, needle, shell, depth - 1)


def _compiles_to(text: str, code: CodeType) -> bool:
    """Tell whether a text has a function or class that compiles to this very code, at its line."""
    try:
        with no_warnings():
            flags = code.co_flags & _FUTURE
            compiled = compile(text, code.co_filename, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return False
    line, name = code.co_firstlineno, code.co_name
    # To compare code objects costs much more than two of their attributes.
    return any(c.co_firstlineno == line and c.co_name == name and c == code for c in walk(compiled))
