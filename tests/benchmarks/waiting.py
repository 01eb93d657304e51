"""How soon does one who waits for a version know of it?"""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
import time
from typing import TYPE_CHECKING

import jshm

from .measure import JSHM, Result, Target, latencies
from .workspace import private_store

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_NAME = "awaited"
_TIMES = 20
_PAUSE = 0.03
_PATIENCE = 60.0
_MOST = 20e-3


def measure(rounds: int) -> list[Result]:
    """Measure the time from the end of a publish to the end of another process's `jshm.wait`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with private_store():
        waiter = context.Process(target=_wait, args=(theirs,))
        waiter.start()
        theirs.close()
        results = latencies(
            "from a publish to who waits for it", {JSHM: lambda: _wake(ours)}, rounds
        )
        ours.close()
        waiter.join()
    results = [dataclasses.replace(result, key="wake") for result in results]
    last = results[-1]
    target = Target("p99 ≤ 20 ms (in ms)", last.seconds[JSHM] * 1e3, _MOST * 1e3)
    return [*results[:-1], dataclasses.replace(last, targets=(target,))]


def _wake(waiter: Connection) -> list[float]:
    taken = []
    for _ in range(_TIMES):
        last = jshm.publish(_NAME, 0).version
        waiter.send(last)
        # At any moment of its sleep.
        time.sleep(random.uniform(_PAUSE / 2, _PAUSE))
        jshm.publish(_NAME, 1)
        published = time.monotonic()
        # It may know before the publisher has tidied up.
        taken.append(max(0.0, waiter.recv() - published))
    return taken


def _wait(orders: Connection) -> None:
    while True:
        try:
            last = orders.recv()
        except EOFError:
            return
        jshm.wait(_NAME, newer_than=last, timeout=_PATIENCE)
        orders.send(time.monotonic())  # one clock for all processes
