"""Which names people mean by the words that they wrote."""

from __future__ import annotations

import fnmatch
import unicodedata
from typing import TYPE_CHECKING

from ..errors import SegmentNotFoundError
from ..store.names import is_glob

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Of a pattern: names are shorter, and to make sense of thousands of `[` takes seconds.
_LONGEST = 1000


def find(words: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names that are written out, and those that patterns (``exp1/*``) match.

    Raises
    ------
    SegmentNotFoundError
        A pattern matches nothing.
    """
    known = sorted(known)
    written: dict[str, None] = {}
    found: dict[str, None] = {}
    for word in (unicodedata.normalize("NFC", word) for word in words):
        if not is_glob(word):
            written[word] = None
            continue
        matches = fnmatch.filter(known, word) if len(word) <= _LONGEST else []
        if not matches:
            raise SegmentNotFoundError(f"nothing that is shared matches {word[:_LONGEST]}")
        found.update(dict.fromkeys(matches))
    return list(written), [name for name in found if name not in written]
