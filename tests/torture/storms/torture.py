"""Storms for minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..place import own_place
from ..report import Row
from .runner import MOST_LOG, Plan, describe, storm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..report import Options

_SECONDS = 60.0


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
