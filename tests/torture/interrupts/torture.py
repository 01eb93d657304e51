"""Ctrl-C at every place of every operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..place import own_place
from ..report import Row
from .runner import OPERATIONS, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..report import Options

# `detach` looks at all objects of the process: every 41st place of it is enough.
_STEPS = {"detach": 41}


def torture(_: Options) -> Iterator[Row]:
    """Yield a row for each operation."""
    for operation in OPERATIONS:
        with own_place():
            found = run(operation, 1, _STEPS.get(operation, 1))
        yield Row(
            f"Ctrl-C at every place: {operation}", found.tried, "interrupts", found.failures,
            f"{found.places:,} places",
        )  # fmt: skip
