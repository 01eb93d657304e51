"""Text: how sizes, ages and durations read, how text is printed, and caches of results for text."""

from __future__ import annotations

import codecs
import sys
import time
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
T = TypeVar("T")

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
# Characters of the longest message.
_LONGEST = 20_000
# Name of the error handler for `str.encode`.
_REPLACE = "jshm.replace"
# Replacements for characters that jshm's own text uses and that a terminal may not have.
_PLAIN = {
    "·": "-", "–": "-", "→": "->", "←": "<-", "…": "...", "×": "x", "µ": "u", "\ufffd": "?",
}  # fmt: skip
# Text with fewer characters is short. Of long text only a few results are cached: a result may take a
# hundred times the memory of its text.
_SHORT, _FEW = 1000, 16


def size_text(nbytes: int) -> str:
    """Return a number of bytes in powers of 1000: ``8.0 MB``."""
    size = float(nbytes)
    for unit in _UNITS:
        if abs(size) < 999.95 or unit == _UNITS[-1]:  # noqa: PLR2004 - 999.95 would read 1000.0
            return f"{nbytes} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def duration_text(seconds: float) -> str:
    """Return a duration: ``30 µs``, ``2.1 ms``, ``41 s``, ``12 min``."""
    if seconds < 1e-3:  # noqa: PLR2004
        return f"{max(1, round(seconds * 1e6))} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.2g} ms" if seconds < 0.0095 else f"{seconds * 1e3:.0f} ms"  # noqa: PLR2004
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def age_text(created: float) -> str:
    """Return how long ago a time in seconds since the epoch was: ``2 min ago``."""
    seconds = time.time() - created
    return "just now" if seconds < 1 else f"{duration_text(round(seconds))} ago"


def printable(text: str) -> str:
    """Return text without line breaks, and without characters that control the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def shortened(text: str, most: int) -> str:
    """Return at most `most` characters of text, the last of them an ellipsis if some were cut off."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(words: Sequence[str], most: int) -> str:
    """Return words with commas, and how many there are after the first `most`: ``a, b and 3 more``."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def encodable(text: str, stream: Any = None) -> str:
    r"""Return text in characters that a stream, by default stdout, can encode.

    On ASCII and Latin-1 terminals arrows become ``->``, dots ``-``, and letters ``\xe4``.
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, _REPLACE).decode(encoding)
    except (LookupError, UnicodeError, TypeError):  # the stream's encoding is unknown
        return text


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    escaped = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return "".join(escaped), error.end


codecs.register_error(_REPLACE, _replace)


def shown(text: str) -> str:
    """Return text, which may quote anything, as messages and `repr` show it: one line of limited length.

    stdout can encode it, so callers may print it without `say`.
    """
    return encodable(printable(shortened(text, _LONGEST)))


def say(*lines: str, stream: Any = None) -> None:
    """Print lines, by default to stdout. Everything that jshm prints goes through here.

    Names, notes, paths and other programs' errors come from outside. Whatever they contain, each line
    stays one line, controls no terminal, and can be printed in the terminal's encoding.
    """
    for line in lines:
        print(encodable(printable(line), stream), file=stream)


def cached_by_text(most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Cache a function's last `most` results, as `lru_cache` does, but only a few of those for long text.

    The text is the first argument. All arguments are passed by position.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        of_short, of_long = lru_cache(most)(function), lru_cache(_FEW)(function)

        @wraps(function)
        def cached(*args: Any) -> T:
            return (of_short if len(args[0]) < _SHORT else of_long)(*args)

        return cast("Callable[P, T]", cached)

    return decorate
