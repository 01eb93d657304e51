"""Processes that publish and attach small arrays, all at once: is any update lost?"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm

from .measure import JSHM, Result, Target, percentile
from .workspace import private_store

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

_PAIRS_PER_SECOND = 5000
_P99 = 0.02
_SHARED = "shared"


def measure(processes: int, seconds: float) -> list[Result]:
    """Measure pairs of `publish` and `attach`: each process its own name, and all the same one.

    Raises
    ------
    AssertionError
        An update was lost.
    """
    return [
        _measure("a name each", processes, seconds, shared=False),
        _measure("all the same name", processes, seconds, shared=True),
    ]


def _measure(what: str, processes: int, seconds: float, *, shared: bool) -> Result:
    taken: list[float] = []
    with private_store():
        reports = _run(processes, seconds, shared=shared)
        for latencies, _ in reports:
            taken += latencies
        _check([versions for _, versions in reports], shared=shared)
    rate = len(taken) / seconds
    p99 = percentile(taken, 99)
    return Result(
        f"publish and attach 8 kB, {processes} processes, {what}: {rate:,.0f} pairs/s, p50 "
        f"{percentile(taken, 50) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms; per pair",
        {JSHM: 1 / rate},
        (
            Target("≤ 0.2 ms per pair (5,000 pairs/s)", 1e3 / rate, 1e3 / _PAIRS_PER_SECOND),
            Target("p99 ≤ 20 ms", p99 * 1e3, _P99 * 1e3),
        ),
        key="pairs",
    )


def _run(processes: int, seconds: float, *, shared: bool) -> list[tuple[list[float], list[int]]]:
    """Run the processes; return the seconds of each pair and the versions that each published."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    workers = []
    for number in range(processes):
        ours, theirs = context.Pipe()
        name = _SHARED if shared else f"own-{number}"
        worker = context.Process(target=_work, args=(theirs, barrier, name, seconds))
        worker.start()
        theirs.close()
        workers.append((worker, ours))
    reports = []
    for worker, ours in workers:
        try:
            reports.append(ours.recv())
        except EOFError:
            raise RuntimeError("a worker failed; see above") from None
        worker.join()
    return reports


def _work(report: Connection, barrier: Barrier, name: str, seconds: float) -> None:
    array: np.ndarray[Any, Any] = np.full(1000, float(os.getpid()))
    latencies: list[float] = []
    versions: list[int] = []
    jshm.segments()  # imports, opens and cleans: not what is measured
    barrier.wait()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        info = jshm.publish(name, array, replace=True)
        attached = jshm.attach(name)
        latencies.append(time.perf_counter() - began)
        assert attached[0] == attached[-1]
        versions.append(info.version)
    # The lease stays until all are done: who ends takes its names along.
    report.send((latencies, versions))
    barrier.wait()


def _check(versions: list[list[int]], *, shared: bool) -> None:
    """Raise AssertionError unless every publish made its own version, without a gap."""
    runs = [sorted(v for each in versions for v in each)] if shared else versions
    for run in runs:
        assert run == list(range(1, len(run) + 1)), "an update was lost"
