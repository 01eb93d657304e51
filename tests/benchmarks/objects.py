"""Functions and other objects: the Pickler against cloudpickle, publish and attach against raw writes."""

from __future__ import annotations

import itertools
import linecache
import os
import pickle
from typing import Any

import cloudpickle
import numpy as np

import jshm
from jshm.text import size_text

from .measure import JSHM, LIMIT, Result, Target, in_turn, repeated

CLOUDPICKLE = "cloudpickle"
_CELL = '''\
SCALE = 3

def scaled(x):
    return x * SCALE

def train(X, lr=0.1, *, steps=10):
    """Fit it."""
    w = 0.0
    for _ in range(steps):
        w += lr * scaled(X)
    return w
'''
_CAPTURING = "def total(x):\n    return B.sum() + x\n"
LARGE = 100_000_000
_TIMES = 30
_FIRST_TIMES = 20
_numbers = itertools.count()


def measure(place: str, nbytes: int, rounds: int) -> list[Result]:
    """Measure dumps, loads, publish and attach of objects that contain `nbytes` bytes."""
    return [
        *_pickler(rounds),
        *_small_function(rounds),
        *_capturing(nbytes, rounds),
        *_many(place, nbytes, rounds),
    ]


def _cell(source: str, name: str, **variables: Any) -> Any:
    """Return a function of a cell that was just run, as in a notebook."""
    filename = f"<cell {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    space = {"__name__": "__main__", **variables}
    exec(compile(source, filename, "exec"), space)
    return space[name]


def _pickler(rounds: int) -> list[Result]:
    function = _cell(_CELL, "train")
    dicts = [{"a": i, "b": str(i)} for i in range(100_000)]
    mine, theirs = jshm.dumps(function), cloudpickle.dumps(function)
    fresh = [_cell(_CELL, "train") for _ in range(2 * _FIRST_TIMES * (3 * rounds + 1))]
    one = in_turn(
        {
            JSHM: repeated(lambda: jshm.dumps(function), times=_TIMES),
            CLOUDPICKLE: repeated(lambda: cloudpickle.dumps(function), times=_TIMES),
            "first jshm": repeated(lambda: jshm.dumps(fresh.pop()), times=_FIRST_TIMES),
            "first": repeated(lambda: cloudpickle.dumps(fresh.pop()), times=_FIRST_TIMES),
        },
        3 * rounds,
    )
    load = in_turn(
        {
            JSHM: repeated(lambda: jshm.loads(mine), times=_TIMES),
            CLOUDPICKLE: repeated(lambda: pickle.loads(theirs), times=_TIMES),
        },
        3 * rounds,
    )
    many = in_turn(
        {
            JSHM: repeated(lambda: jshm.dumps(dicts), times=1),
            CLOUDPICKLE: repeated(lambda: cloudpickle.dumps(dicts), times=1),
        },
        rounds,
    )
    first = {JSHM: one["first jshm"], CLOUDPICKLE: one["first"]}
    again = {JSHM: one[JSHM], CLOUDPICKLE: one[CLOUDPICKLE]}
    return [
        _against("`dumps` of a small notebook function", again, 1.7),
        _against("the first `dumps` of one", first, 4.0, against=again[CLOUDPICKLE]),
        _against("`loads` of one", load, 2.0),
        _against("`dumps` of 100,000 small dicts", many, 1.1),
    ]


def _against(
    what: str, seconds: dict[str, float], most: float, against: float | None = None
) -> Result:
    other = against or seconds[CLOUDPICKLE]
    target = Target(f"{what}: ≤ {most:g} × cloudpickle's", seconds[JSHM] / other, most)
    return Result(what, seconds, (target,))


def _small_function(rounds: int) -> list[Result]:
    function = _cell(_CELL, "train")
    return _published("a small notebook function", "train", function, rounds, (250e-6, 100e-6))


def _capturing(nbytes: int, rounds: int) -> list[Result]:
    jshm.publish("B", jshm.empty(nbytes // 8))
    shared = jshm.attach("B")
    shared.sum()
    function = _cell(_CAPTURING, "total", B=shared)
    what = f"a function that captures {size_text(nbytes)} that are shared"
    payload = jshm.publish("total", function).nbytes
    results = _published(what, "total", function, rounds, (500e-6, 500e-6))
    results[0] = Result(
        results[0].what,
        results[0].seconds,
        (*results[0].targets, Target(f"{what}: payload ≤ 4 kB (in bytes)", payload, 4000)),
    )
    jshm.release("total")
    jshm.release("B")
    return results


def _published(
    what: str, name: str, value: Any, rounds: int, most: tuple[float, float]
) -> list[Result]:
    jshm.publish(name, value)
    data = cloudpickle.dumps(value)
    times = _TIMES if len(data) < LARGE else 1
    publish = in_turn(
        {
            JSHM: repeated(lambda: jshm.publish(name, value), times=_TIMES),
            CLOUDPICKLE: repeated(lambda: cloudpickle.dumps(value), times=times),
        },
        rounds,
    )
    attach = in_turn(
        {
            JSHM: repeated(lambda: jshm.attach(name), times=_TIMES),
            CLOUDPICKLE: repeated(lambda: pickle.loads(data), times=times),
        },
        rounds,
    )
    return [
        Result(f"{verb} {what}", seconds, (_seconds(f"{verb} {what}", seconds[JSHM], limit),))
        for verb, seconds, limit in (
            ("publish", publish, most[0]),
            ("attach", attach, most[1]),
        )
    ]


def _seconds(what: str, value: float, most: float) -> Target:
    return Target(f"{what}: ≤ {most * 1e6:g} µs (in µs)", value * 1e6, most * 1e6)


def _many(place: str, nbytes: int, rounds: int) -> list[Result]:
    arrays = {f"small {i}": np.full(10, i) for i in range(1000)}
    arrays |= {f"large {i}": np.ones(nbytes // 8) for i in range(3)}
    path = os.path.join(place, "raw")

    def write() -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        for array in arrays.values():
            os.write(fd, array.data)
        os.close(fd)

    def publish() -> None:
        jshm.publish("arrays", arrays)

    written = in_turn(
        {
            JSHM: repeated(publish, lambda _: jshm.release("arrays"), times=1),
            LIMIT: repeated(write, lambda _: os.unlink(path), times=1),
        },
        3 * rounds,
    )
    publish()
    attached = in_turn({JSHM: repeated(lambda: jshm.attach("arrays"), times=10)}, rounds)
    jshm.release("arrays")
    what = f"a dict of 1,000 small and 3 large ({size_text(nbytes)}) arrays"
    ratio = written[JSHM] / written[LIMIT]
    return [
        Result(
            f"publish {what} (limit: raw writes)",
            written,
            (Target(f"publish {what}: ≤ 1.2 × raw writes", ratio, 1.2),),
        ),
        Result(f"attach {what}", attached, (_seconds(f"attach {what}", attached[JSHM], 5e-3),)),
    ]
