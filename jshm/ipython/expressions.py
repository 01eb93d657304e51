"""Python expressions where a magic takes variables: find them in the line, and say what to write instead."""

from __future__ import annotations

import ast
import builtins
import contextlib
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

# A word with its quotes, as a shell splits a line.
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:\\.|[^"\\])*")+""")
# Suggested variables for the value of an expression, in order of preference.
_NAMES = ("Y", "Z", "part", "result", "value")


def around(line: str, word: str) -> str:
    """Return the expression that contains a word of a line, as the user wrote it, or ''.

    A single variable does not count, and neither does a quoted word, which is a pattern.
    """
    spans = [match.span() for match in _WORD.finditer(line)]
    words = [line[first:last] for first, last in spans]
    place = next((i for i, raw in enumerate(words) if _unquoted(raw) == word), None)
    if place is None:
        return ""
    options = [i for i, raw in enumerate(words) if raw.startswith("--")]
    begin = max((i + 1 for i in options if i < place), default=0)
    end = min((i for i in options if i > place), default=len(spans))
    for first in range(begin, place + 1):
        for last in range(end, place, -1):
            text = line[spans[first][0] : spans[last - 1][1]]
            if _is_expression(text):
                return text
    return ""


def whole(line: str) -> str:
    """Return the expression that a line consists of, without its options, or ''."""
    text = re.split(r"\s--[a-z]", line)[0].strip()
    return text if _is_expression(text) else ""


def has_a_meaning(text: str, namespace: Container[str]) -> bool:
    """Return whether text must be an expression: all its names exist, or it cannot be a pattern."""
    tree = _parse(text)
    if tree is None:
        return False
    if any(isinstance(node, ast.Slice | ast.Call) or _is_text(node) for node in ast.walk(tree)):
        return True
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return all(n.id in made or n.id in namespace or hasattr(builtins, n.id) for n in names)


def place(line: str, word: str) -> str:
    """Return the ``d['x']`` or ``obj.x`` that contains a word of a line, or ''."""
    text = around(line, word)
    tree = _parse(text) if text else None
    is_place = isinstance(tree, ast.Expression) and isinstance(
        tree.body, ast.Subscript | ast.Attribute
    )
    return text if is_place else ""


def root(text: str) -> str:
    """Return the variable at the start of an expression like ``d['x'].y``, or ''."""
    tree = _parse(text)
    node: ast.AST | None = tree.body if isinstance(tree, ast.Expression) else None
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def advice(command: str, text: str, namespace: Container[str]) -> str:
    """Return what to write instead of an expression."""
    tree = _parse(text)
    if isinstance(tree, ast.Expression) and isinstance(tree.body, ast.Tuple):
        parts = tree.body.elts
        if parts and all(isinstance(part, ast.Name) for part in parts):
            return f"{command} takes no commas: {command} {' '.join(map(ast.unparse, parts))}"
    name = next((name for name in _NAMES if name not in namespace), _NAMES[-1])
    if isinstance(tree, ast.Module):  # Y=df['x']
        left, _, text = (part.strip() for part in text.partition("="))
        name = left
    if command.startswith("%%"):
        return (
            f"{command} takes variables that the cell makes: write {name} = {text} into the cell, "
            f"and {command} {name}"
        )
    return f"{command} takes variables: write {name} = {text} first, then {command} {name}"


def _unquoted(raw: str) -> str | None:
    with contextlib.suppress(ValueError):
        return "".join(shlex.split(raw))
    return None


def _is_expression(text: str) -> bool:
    tree = _parse(text)
    if isinstance(tree, ast.Expression):
        return not isinstance(tree.body, ast.Name) and not _is_text(tree.body)
    return tree is not None


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _parse(text: str) -> ast.Expression | ast.Module | None:
    """Parse an expression, or its assignment to one variable."""
    # ValueError: null bytes.
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.parse(text, mode="eval")
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        tree = ast.parse(text)
        (statement,) = tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            return tree if len(statement.targets) == 1 else None
    return None
