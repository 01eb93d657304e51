"""Names (the grammar is in DESIGN.md §1), notes and version numbers: checks, variables, near misses."""

from __future__ import annotations

import keyword
import operator
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, SupportsIndex

from ..errors import InvalidNameError, NotShareableError, Remedy, SegmentNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LENGTH = 200
# Checked before the data are copied; a trailer has room for it.
MAX_NOTE = 10_000
# The largest integer of SQLite.
_MAX_VERSION = (1 << 63) - 1
# Letters, digits, `_ . -` and `/`. \w matches Unicode's letters, digits and underscore, but not the marks
# (vowel signs, accents) that many scripts need. Before the match each mark is replaced by one, U+0300. A
# component does not begin with a mark, which would be drawn on the slash.
_MARK = "\u0300"
_NAME = re.compile(rf"\w[\w.\-{_MARK}]*(/[\w.\-][\w.\-{_MARK}]*)*\Z")
_CHARACTER = re.compile(rf"[\w.\-/{_MARK}]")
_LAST = re.compile(r"[^/:]*\Z")
_GLOB = re.compile(r"[*?\[]")


def check_name(name: str) -> str:
    """Return the NFC form of a name, or raise InvalidNameError if the name is not valid."""
    if not isinstance(name, str):
        raise InvalidNameError(f"a name must be a string, not {type(name).__name__}")
    return _check_name(name)


@lru_cache(maxsize=4096)
def _check_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise InvalidNameError("the name is empty")
    if len(name) > MAX_LENGTH:
        raise InvalidNameError(f"a name has at most {MAX_LENGTH} characters, not {len(name)}")
    plain = "".join(_MARK if unicodedata.category(c) in ("Mn", "Mc") else c for c in name)
    if not _NAME.match(plain) or ".." in name:
        bad = sorted({c for c, p in zip(name, plain, strict=True) if not _CHARACTER.match(p)})
        raise InvalidNameError(
            f"{name!r} is not a valid name"
            + (f" because of {' '.join(map(repr, bad))}" if bad else "")
            + ": use letters, digits, _ . - and / in between; no leading - . or /, no '..'"
        )
    return name


def check_note(note: str) -> str:
    """Return a note, or raise NotShareableError if it is not valid."""
    if not isinstance(note, str):
        raise NotShareableError(f"note must be a string, not {type(note).__name__}")
    if len(note) > MAX_NOTE:
        raise NotShareableError(f"a note has at most {MAX_NOTE:,} characters, not {len(note):,}")
    try:
        note.encode()
    except UnicodeEncodeError as error:
        raise NotShareableError(
            f"note is not valid Unicode text: character {error.start} is the lone surrogate "
            f"{note[error.start]!r}"
        ) from None
    return note


def check_version(version: SupportsIndex) -> int:
    """Return a version number.

    Raises
    ------
    TypeError
        It is not an integer.
    SegmentNotFoundError
        No version can have this number.
    """
    try:
        number = operator.index(version)
    except TypeError:
        raise TypeError(f"version must be an integer, not {type(version).__name__}") from None
    if not 1 <= number <= _MAX_VERSION:
        # Python refuses to show a number of thousands of digits.
        shown = f"version {number}" if abs(number) <= _MAX_VERSION else "version with this number"
        raise SegmentNotFoundError(f"there is no {shown}: versions are numbered 1, 2, 3 …")
    return number


def as_variable(text: str) -> str:
    """Return text as Python spells it in the name of a variable: in NFKC form."""
    return unicodedata.normalize("NFKC", text)


def is_variable(text: str) -> bool:
    """Return whether text, in the form of `as_variable`, can name a variable."""
    return text.isidentifier() and not keyword.iskeyword(text)


def is_glob(text: str) -> bool:
    """Return whether a word is a pattern (``exp1/*``) and not a name."""
    return bool(_GLOB.search(text))


def variable_for(name: str) -> str:
    """Return the variable that an attach binds: the last component of the name, as Python spells it.

    Raises
    ------
    InvalidNameError
        The component is not an identifier; the remedy names a variable.
    """
    last = as_variable(_LAST.search(name)[0])  # type: ignore[index]
    if is_variable(last):
        return last
    suggestion = "".join(c if f"_{c}".isidentifier() else "_" for c in last)
    if not is_variable(suggestion):
        suggestion = f"my_{suggestion}"
    raise InvalidNameError(
        f"{last!r} cannot be a variable",
        remedy=Remedy("attach", (name,), {"as": suggestion}, "Choose another variable"),
    )


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three names that are similar to `name`, the most similar first."""
    import difflib

    by_folded: dict[str, str] = {}
    for candidate in names:
        by_folded.setdefault(candidate.casefold(), candidate)
        by_folded.setdefault(candidate.rpartition("/")[2].casefold(), candidate)
    close = difflib.get_close_matches(name.casefold(), by_folded, n=6, cutoff=0.6)
    return list(dict.fromkeys(by_folded[c] for c in close))[:3]


def check_variable(name: str, option: str = "") -> str:
    """Return the name of a variable as Python spells it, or raise InvalidNameError."""
    variable = as_variable(name)
    if is_variable(variable):
        return variable
    why = " (this is a word of Python's own)" if variable.isidentifier() else ""
    raise InvalidNameError(f"{option}{name}: a variable's name is an identifier, like my_data{why}")
