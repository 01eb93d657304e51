"""The cost of a followed name per cell: if nothing changed, if another name did, if the name itself did."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import numpy as np

import jshm
from jshm.ipython import cell_hooks, following
from jshm.store import default_store
from jshm.variables import bind, user_namespace

from .measure import JSHM, Result, Target, in_turn, repeated, timed
from .workspace import private_store

_FOLLOWERS = (1, 100)
_MOST = 20e-6
# Another process that publishes the names that it is told.
_PUBLISHER = """
import sys, numpy as np, jshm
array = np.zeros(1000)
for line in sys.stdin:
    jshm.publish(line.strip(), array, replace=True, keep=True)
    print(flush=True)
"""


def measure(rounds: int) -> list[Result]:
    """Measure what is done before each cell; the limit is to do nothing at all."""
    results = []
    for count in _FOLLOWERS:
        with (
            private_store(),
            subprocess.Popen(
                [sys.executable, "-c", _PUBLISHER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as publisher,
        ):
            try:
                _follow(count)
                results += _measure(count, publisher, rounds)
            finally:
                following.stop_all()
                for variable in _variables(count):
                    user_namespace().pop(variable, None)
                publisher.communicate()
    return results


def _variables(count: int) -> list[str]:
    return [f"followed{i}" for i in range(count)]


def _follow(count: int) -> None:
    store = default_store()
    names = _variables(count)
    jshm.publish({name: np.zeros(1000) for name in names}, keep=True)
    for variable, attached in zip(names, store.attach(names), strict=True):
        bind(user_namespace(), variable, attached.value, attached.segments)
        following.follow(variable, attached, store, "r", trust=False)


def _measure(count: int, publisher: subprocess.Popen[str], rounds: int) -> list[Result]:
    def publish(name: str) -> None:
        if publisher.stdin is None or publisher.stdout is None:
            raise ValueError("a publisher is told by a pipe, and answers by one")
        publisher.stdin.write(f"{name}\n")
        publisher.stdin.flush()
        publisher.stdout.readline()

    def after(name: str) -> float:
        publish(name)
        with contextlib.redirect_stdout(io.StringIO()):
            return timed(cell_hooks.before)[0]

    cell_hooks.before()
    # Many calls are timed together: one takes less than the clock.
    quiet = in_turn(
        {JSHM: repeated(lambda: [cell_hooks.before() for _ in range(100)], times=20)}, rounds
    )
    idle = {JSHM: quiet[JSHM] / 100}
    other = in_turn({JSHM: lambda: after("another")}, max(rounds, 20))
    same = in_turn({JSHM: lambda: after("followed0")}, max(rounds, 20))
    who = f"{count} follower{'s' * (count != 1)}"
    target = Target("nothing has changed: ≤ 20 µs (in µs)", idle[JSHM] * 1e6, _MOST * 1e6)
    return [
        Result(f"before a cell, {who}, nothing has changed", idle, (target,), "follow"),
        Result(f"before a cell, {who}, another name was published", other),
        Result(f"before a cell, {who}, one name is rebound", same),
    ]
