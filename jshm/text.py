"""How sizes, ages and durations read, and how text reaches a terminal: the same in every face."""

from __future__ import annotations

import codecs
import sys
import time
from typing import Any

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
# Characters of a message.
_LONGEST = 20_000
# The handler that codecs know.
_REPLACE = "jshm.replace"
# What stands for the characters of our own that a terminal may not have.
_PLAIN = {
    "·": "-", "–": "-", "→": "->", "←": "<-", "…": "...", "×": "x", "µ": "u", "\ufffd": "?",
}  # fmt: skip


def size_text(nbytes: int) -> str:
    """Return bytes as people read them, in powers of 1000: ``8.0 MB``."""
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
    """Return how long ago a time (seconds since the epoch) was: ``2 min ago``."""
    seconds = time.time() - created
    return "just now" if seconds < 1 else f"{duration_text(round(seconds))} ago"


def printable(text: str) -> str:
    """Return text without what would break the line, or command the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def shortened(text: str, most: int) -> str:
    """Return text of at most `most` characters, with an ellipsis where the rest was."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def encodable(text: str, stream: Any = None) -> str:
    r"""Return text with what a stream, by default stdout, cannot encode in other characters.

    In ASCII and Latin-1 terminals arrows and dots are plain ones, and letters are ``\xe4``.
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, _REPLACE).decode(encoding)
    except (LookupError, UnicodeError, TypeError):  # a stream whose encoding is none
        return text


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    escaped = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return "".join(escaped), error.end


codecs.register_error(_REPLACE, _replace)


def shown(text: str) -> str:
    """Return text that may quote anything as messages and `repr` show it: one line, not endless.

    Whoever prints that need not know of `say`: it is what stdout can encode.
    """
    return encodable(printable(shortened(text, _LONGEST)))


def say(*lines: str, stream: Any = None) -> None:
    """Print lines, by default to stdout: all that jshm prints goes through here.

    Names, notes, paths and the errors of others come from outside: whatever is in them, each line stays
    one line, commands no terminal, and is printed whatever the terminal's encoding is.
    """
    for line in lines:
        print(encodable(printable(line), stream), file=stream)
