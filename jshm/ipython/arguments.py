"""The arguments of a magic: shell-like quoting, comments, globs, no abbreviated options."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.error import UsageError

from ..browse.globs import matching
from ..errors import InvalidNameError
from ..store import chosen_group, default_store
from ..store.names import as_variable, is_glob, is_variable, nearest
from ..system import signals
from . import expressions

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from .calling import Caller


class Parser(argparse.ArgumentParser):
    """The arguments of one magic; a mistake is a UsageError of one line."""

    def __init__(self, magic: str, names: str = "") -> None:
        super().__init__(prog=f"%{magic}", add_help=False, allow_abbrev=False)
        self.magic = magic
        self.line = ""
        self.add_argument("--group")
        if names:
            self.add_argument("names", nargs="*", metavar=names)

    def flag(self, option: str) -> None:
        """Add an option without a value."""
        self.add_argument(option, action="store_true")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%{self.magic}: {message}. See %{self.magic}?")

    def parse(self, line: str) -> argparse.Namespace:
        """Parse the line after the magic's name; ``--group`` takes effect until the magic returns."""
        # IPython takes a semicolon at the end for "display nothing".
        self.line = strip_comment(line).rstrip().rstrip(";")
        try:
            words = shlex.split(self.line)
        except ValueError as error:
            if text := expressions.whole(self.line):  # d["it's"]
                raise UsageError(expressions.advice(self.prog, text, ())) from None
            self.error(f"{str(error).lower()} in: {line.strip()}")
        # A Ctrl-C inside argparse would make its cleanup fail, and that error would hide the interrupt.
        with signals.deferred():
            args = self.parse_intermixed_args(words)
        if args.group is not None:
            chosen_group.set(args.group)
        return args


def strip_comment(line: str) -> str:
    """Return a line without its ``# comment``, which follows a blank and is not quoted."""
    quote = ""
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (i == 0 or line[i - 1].isspace()):
            return line[:i]
    return line


def positive(text: str) -> float:
    """Parse a number of seconds."""
    seconds = float(text)
    if not seconds >= 0:
        raise ValueError(text)
    return seconds


def check_words(
    parser: Parser, words: Iterable[str], known: Iterable[str], namespace: Container[str]
) -> None:
    """Raise a UsageError for an expression where the magic takes a variable.

    ``x[ab]`` remains a pattern if it matches something and cannot be evaluated.
    """
    known = list(known)
    for word in words:
        if is_variable(as_variable(word)):
            continue
        text = expressions.around(parser.line, word)
        if not text or (
            _may_be_meant(word, known) and not expressions.has_a_meaning(text, namespace)
        ):
            continue
        raise UsageError(expressions.advice(parser.prog, text, namespace))


def _may_be_meant(word: str, known: list[str]) -> bool:
    """Return whether a word can be a pattern that matches something, or a name."""
    if is_glob(word):
        return bool(matching(word, known))
    try:
        default_store().checked(word)
    except InvalidNameError:
        return False
    return True


def destinations(variables: Sequence[str], chosen: str | None) -> list[str]:
    """Return the names under which variables are published, given ``--as``.

    One variable takes any name; several, or a name with a trailing slash, take a prefix.
    """
    if chosen is None:
        return list(variables)
    if chosen.endswith("/"):
        return [chosen + variable for variable in variables]
    if len(variables) > 1:
        raise UsageError(
            f"--as {chosen} is one name for {len(variables)} variables; a prefix ends with a slash: "
            f"--as {chosen}/"
        )
    return [chosen]


def lookup(
    namespace: Mapping[str, Any], variable: str, known: Iterable[str], caller: Caller
) -> Any:
    """Return a variable's value, or raise a UsageError that names the nearest one."""
    caller.check_readable(variable)
    if variable in namespace:
        return namespace[variable]
    if not is_variable(variable):
        raise UsageError(
            f"{variable!r} is not a variable's name; assign it to one first, then publish that "
            "(--as NAME gives it another name)"
        )
    close = nearest(variable, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(f"there is no variable {variable!r} here{hint}")
