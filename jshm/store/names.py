"""The grammar of names (DESIGN.md §1), and which names a user probably meant."""

from __future__ import annotations

import keyword
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LENGTH = 200
# Letters, digits, `_ . -` and `/`; \w is Unicode's letters, digits and underscore, with the marks
# that some scripts need.
_NAME = re.compile(r"(?!-)[\w\-][\w.\-]*(/[\w.\-]+)*\Z")
_GLOB = re.compile(r"[*?\[]")


@lru_cache(maxsize=4096)
def check_name(name: str) -> str:
    """Return the NFC form of a name, or raise InvalidNameError that says what is wrong with it."""
    if not isinstance(name, str):
        raise InvalidNameError(f"a name is a string, not {type(name).__name__}")
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise InvalidNameError("the name is empty")
    if len(name) > MAX_LENGTH:
        raise InvalidNameError(f"a name has at most {MAX_LENGTH} characters, not {len(name)}")
    if not _NAME.match(name) or ".." in name:
        bad = sorted({c for c in name if not re.match(r"[\w.\-/]", c)})
        raise InvalidNameError(
            f"{name!r} is not a valid name"
            + (f" because of {' '.join(map(repr, bad))}" if bad else "")
            + ": use letters, digits, _ . - and / in between; no leading - . or /, no '..'"
        )
    return name


def is_glob(text: str) -> bool:
    """Tell whether a word is a pattern (``exp1/*``) and not a name."""
    return bool(_GLOB.search(text))


def variable_for(name: str) -> str:
    """Return the variable that attaching a name binds: its last component.

    Raises
    ------
    InvalidNameError
        The component is no identifier; says which ``--as`` to add.
    """
    last = name.rpartition("/")[2]
    if last.isidentifier() and not keyword.iskeyword(last):
        return last
    suggestion = "".join(c if f"_{c}".isidentifier() else "_" for c in last)
    if not suggestion.isidentifier() or keyword.iskeyword(suggestion):
        suggestion = f"my_{suggestion}"
    raise InvalidNameError(f"{last!r} cannot be a variable: add `--as {suggestion}`")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three names that look like `name`, the likeliest first."""
    import difflib

    by_folded: dict[str, str] = {}
    for candidate in names:
        by_folded.setdefault(candidate.casefold(), candidate)
        by_folded.setdefault(candidate.rpartition("/")[2].casefold(), candidate)
    close = difflib.get_close_matches(name.casefold(), by_folded, n=6, cutoff=0.6)
    return list(dict.fromkeys(by_folded[c] for c in close))[:3]
