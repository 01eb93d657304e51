"""How sizes, ages and durations read, the same in every face and message."""

from __future__ import annotations

import time

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


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
