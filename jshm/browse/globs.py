"""Glob patterns among the names that a user writes: ``exp1/*``, and ``ada:*`` in a group."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from ..errors import SegmentNotFoundError
from ..store.names import is_glob

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..store.base import Store

# Characters of a pattern. Names are shorter, and compiling thousands of `[` takes seconds.
_LONGEST = 1000
_HAS_OWNER = re.compile(r"[^:/\[]+:")


class Expanded(NamedTuple):
    """The names that a list of words stands for, in NFC form.

    Attributes
    ----------
    names : list of str
        All of them, each once, in the order of the words.
    written : list of str
        Those that the user wrote out.
    matched : list of str
        Those that only patterns match.
    """

    names: list[str]
    written: list[str]
    matched: list[str]


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches, in their order."""
    return fnmatch.filter(names, pattern) if len(pattern) <= _LONGEST else []


def expand(
    words: Sequence[str],
    known: Iterable[str],
    store: Store | None = None,
    what: str = "shared name",
) -> Expanded:
    """Return the names that words stand for: each pattern is replaced by the names that it matches.

    Parameters
    ----------
    words : sequence of str
    known : iterable of str
        The names that patterns are compared with. Words that are not patterns need not be among them.
    store : Store, optional
        A pattern that begins with an owner (``ada:*``) is compared with the exact names of this store.
    what : str
        What the names are, for the error.

    Raises
    ------
    SegmentNotFoundError
        A pattern matches nothing.
    """
    known = sorted(known)
    names: dict[str, None] = {}
    written: dict[str, None] = {}
    for word in (unicodedata.normalize("NFC", word) for word in words):
        if not is_glob(word):
            names[word] = written[word] = None
            continue
        exact = store.exact_names() if store is not None and _HAS_OWNER.match(word) else []
        found = matching(word, exact or known)
        if not found:
            raise SegmentNotFoundError(f"no {what} matches {word[:_LONGEST]!r}")
        names.update(dict.fromkeys(found))
    return Expanded(list(names), list(written), [name for name in names if name not in written])
