"""SIGKILL at every boundary and system call of every scenario, and at random times."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..report import Row
from . import strace
from .runner import FAMILIES, kill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..report import Options
    from .runner import Found

_AT_ONCE = 2


def torture(options: Options) -> Iterator[Row]:
    """Kill at every boundary and at every system call of every scenario, and at random times."""
    jobs = [("boundaries", family, ()) for family in FAMILIES]
    if strace.can_trace():
        jobs += [("calls", family, ()) for family in FAMILIES]
    else:
        yield Row("SIGKILL at every system call", 0, "kill points", note="strace is not installed")
    jobs.append(("times", "", ("--count", "400", "--seed", str(options.seed))))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = [pool.submit(kill, how, family, *more) for how, family, more in jobs]
        for (how, family, _), one in zip(jobs, done, strict=True):
            yield _row(how, family, one.result())


def _row(how: str, family: str, found: dict[str, Found]) -> Row:
    what = "SIGKILL at random times, beside four writers"
    missing: list[str] = []
    if family:
        where = {"boundaries": "boundary", "calls": "system call"}[how]
        what = f"SIGKILL at every {where}: {family}"
        missing = sorted({scenario.name for scenario in FAMILIES[family]} - found.keys())
    return Row(
        what,
        sum(one.killed for one in found.values()),
        "kill points",
        [
            f"{name} at {where}: {'; '.join(wrong)}"
            for name, one in found.items()
            for where, wrong in one.wrong.items()
        ],
        f"not tried (needs the right to mount): {', '.join(missing)}" if missing else "",
    )
