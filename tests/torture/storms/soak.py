"""Half an hour of everything at once: at the end memory, descriptors and the directory are flat."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from ...support.processes import until
from ..place import own_place
from ..report import Row
from .runner import Child, Plan, Report, examine_rest, listen
from .worker import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..report import Options

_RESIDENTS = 4
_VICTIMS = 3
# Seconds that a victim lives, at most.
_LIFE = 12.0
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Limit:
    """How much more there may be in the last quarter than in the second one."""

    factor: float
    more: float
    scale: float
    unit: str


# Figures that vary by chance have wide limits; a leak exceeds them in half an hour.
_LIMITS = {
    "memory": _Limit(1.05, 6 * _MEGABYTE, _MEGABYTE, "MiB"),
    "descriptors": _Limit(1.1, 6, 1, ""),
    "directory": _Limit(1.3, 2 * _MEGABYTE, _MEGABYTE, "MiB"),
    "log": _Limit(1.3, 2 * _MEGABYTE, _MEGABYTE, "MiB"),
    "leases": _Limit(1.1, 4, 1, ""),
}
_Sample = dict[str, float]


def torture(options: Options) -> Iterator[Row]:
    """Yield what came of it."""
    report = Report()
    plan = Plan(60, options.minutes * 60, releasing=True, seed=options.seed, mixed=True)
    with own_place() as scripts:
        samples, killed = _soak(plan, scripts, report)
        examine_rest(report)
    figures = []
    for what, limit in _LIMITS.items():
        early, late = _quarters([sample[what] for sample in samples])
        text = f"{what} {early / limit.scale:.1f} → {late / limit.scale:.1f} {limit.unit}".strip()
        figures.append(text)
        if late > early * limit.factor + limit.more:
            report.failures.append(f"not flat: {text}")
    yield Row(
        f"soak of {options.minutes:g} min, {_RESIDENTS + _VICTIMS} processes, {killed} killed",
        report.operations, "operations", report.failures, ", ".join(figures),
    )  # fmt: skip


def _quarters(values: Sequence[float]) -> tuple[float, float]:
    """Return the means of the second and of the last quarter."""
    n = len(values) // 4
    return mean(values[n : 2 * n]), mean(values[3 * n :])


def _soak(plan: Plan, scripts: Path, report: Report) -> tuple[list[_Sample], int]:
    """Run processes and kill others; return the measurements and the number of kills."""
    rng = random.Random(plan.seed)
    root = Path(os.environ["JSHM_DIR"])
    residents = [Child.start(plan, scripts, i, plan.seconds) for i in range(_RESIDENTS)]
    until((root / "registry.db-wal").exists, DEADLINE)
    end = time.monotonic() + plan.seconds
    victims: list[tuple[float, Child]] = []
    killed: list[Child] = []
    samples: list[_Sample] = []
    while (now := time.monotonic()) < end - 1:
        for due, victim in list(victims):
            if now > due:
                victims.remove((due, victim))
                victim.kill()
                killed.append(victim)
        while len(victims) < _VICTIMS:
            number = _RESIDENTS + len(killed) + len(victims)
            victim = Child.start(plan, scripts, number, plan.seconds)
            victims.append((now + rng.uniform(2, _LIFE), victim))
        samples.append(_sample(root, [child.process.pid for child in residents]))
        time.sleep(min(1.0, plan.seconds / 100))
    for _, victim in victims:
        victim.kill()
        killed.append(victim)
    for child in residents:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(3 * DEADLINE)
    for child in residents + killed:
        listen(child, report, {})
    return samples, len(killed)


def _sample(root: Path, pids: Sequence[int]) -> _Sample:
    sample: _Sample = dict.fromkeys(_LIMITS, 0.0)
    for pid in pids:
        try:
            sample["memory"] += _private_memory(pid)
            sample["descriptors"] += len(os.listdir(f"/proc/{pid}/fd"))
        except (FileNotFoundError, ProcessLookupError):  # it ended a moment early
            continue
    for path in root.rglob("*"):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            continue
        if path.name == "registry.db-wal":
            sample["log"] = size
        elif path.is_file():
            sample["directory"] += size
            sample["leases"] += path.parent.name == "leases"
    return sample


def _private_memory(pid: int) -> float:
    """Return the bytes of a process's own memory: what it shares comes and goes."""
    with open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:"))
