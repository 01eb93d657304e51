"""Storms for minutes, and Ctrl-C wherever it may come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report import Row
from . import interrupted
from .place import own_place
from .storms import MOST_LOG, Plan, describe, storm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..report import Options

_SECONDS = 60.0
# It looks at every object there is, at great length: every 41st place of it is enough.
_STEPS = {"detach": 41}


def torture(options: Options) -> Iterator[Row]:
    """Yield what came of it."""
    seed = options.seed
    for what, plan in {
        "8 processes, 20 names: no update lost": Plan(20, _SECONDS, seed=seed),
        "8 processes, 1,000 names: no update lost": Plan(1000, _SECONDS, seed=seed + 1),
        "8 processes, 20 names, released too": Plan(20, _SECONDS, releasing=True, seed=seed + 2),
        "8 processes of 3 threads, 40 of them killed": Plan(
            200, _SECONDS, threads=3, releasing=True, kills=40, seed=seed + 3
        ),
    }.items():
        with own_place() as scripts:
            report = storm(plan, scripts)
        if report.log > MOST_LOG:
            report.failures.append(f"the log grew to {report.log} bytes")
        yield Row(what, report.operations, "operations", report.failures, describe(report))
    for operation in interrupted.OPERATIONS:
        with own_place():
            found = interrupted.run(operation, 1, _STEPS.get(operation, 1))
        yield Row(
            f"Ctrl-C at every place: {operation}", found.tried, "interrupts", found.failures,
            f"{found.places:,} places",
        )  # fmt: skip
