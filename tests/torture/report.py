"""The table of what the torture tried and how often it failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Options:
    """How long to try.

    Attributes
    ----------
    minutes : float
        Of the soak.
    mutations : int
        Of all the fuzzing together.
    seed : int
        Of everything that is random; printed, so that a failure can be made again.
    """

    minutes: float = 30.0
    mutations: int = 1_000_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
        ``SIGKILL before every file-system call and SQL statement: publish``.
    tried : int
    unit : str
        ``kill points``, ``mutations``, ``operations``, …
    failures : sequence of str
        One line each, enough to make it again; empty if it held.
    note : str
        What else was measured: ``descriptors 41 → 41``. Also why something could not be tried here.
    seconds : float
        Filled in by the runner.
    """

    what: str
    tried: int
    unit: str
    failures: Sequence[str] = ()
    note: str = ""
    seconds: float = field(default=0.0)


def as_text(rows: Sequence[Row]) -> str:
    """Return the table, and its sums."""
    head = ("What", "Tried", "Unit", "Failures", "Seconds", "Note")
    lines = [
        (
            row.what,
            f"{row.tried:,}",
            row.unit,
            str(len(row.failures)),
            f"{row.seconds:.0f}",
            row.note,
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    right = (1, 3, 4)

    def text(line: tuple[str, ...]) -> str:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    sums: dict[str, int] = {}
    for row in rows:
        sums[row.unit] = sums.get(row.unit, 0) + row.tried
    total = ", ".join(f"{count:,} {unit}" for unit, count in sums.items())
    failed = sum(len(row.failures) for row in rows)
    return "\n".join([text(head), *map(text, lines), "", f"Together: {total}; {failed} failures"])
