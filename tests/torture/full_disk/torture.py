"""Random operations of several processes, while another process fills and empties the file system.

Each worker has its own names. After each operation, successful or not, it must find exactly the data that
it published last. When all workers stand still, the files, the registry's rows and the data are compared
without jshm.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...support.full_disk import MB, CannotMountError, Mount, mounted
from ...support.processes import Child, ChildError
from ..report import Options, Row
from .worker import make

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT = Path(__file__).parents[3]
# Operations of each worker between two looks from outside.
_BATCH = 12
_PAUSE = 0.003


@dataclass(frozen=True)
class Place:
    """Where it is tried.

    Attributes
    ----------
    what : str
    memory, disk : str
        Options of the mounts; no disk, if empty.
    quota : str
    """

    what: str
    memory: str
    disk: str = ""
    quota: str = ""


PLACES = [
    Place("8 MB of memory", "size=8m"),
    Place("8 MB of memory, 8 MB of disk", "size=8m", "size=8m"),
    Place("64 MB of memory", "size=64m"),
    Place("64 MB of memory, 30 inodes, 16 MB of disk", "size=64m,nr_inodes=30", "size=16m"),
    Place("a quota of 5 MB", "size=64m", quota="5M"),
    Place("a quota of 5 MB, 8 MB of disk", "size=64m", "size=8m", quota="5M"),
]


@dataclass
class Found:
    """The result."""

    operations: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


def trial(place: Place, seed: int, operations: int, workers: int = 3) -> Found:
    """Try it in one place.

    Raises
    ------
    CannotMountError
    """
    found = Found()
    with contextlib.ExitStack() as stack:
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jshm-full-")))
        memory = stack.enter_context(mounted(parent / "memory", place.memory))
        disk = stack.enter_context(mounted(parent / "disk", place.disk)) if place.disk else None
        env = {
            "JSHM_DIR": memory.root,
            "JSHM_OVERFLOW_DIR": str(disk.point) if disk else "",
            "JSHM_QUOTA": place.quota,
        }
        names = [f"w{i}" for i in range(workers)]
        children = [stack.enter_context(Child(parent, f"{name}.py", env=env)) for name in names]
        for i, (name, child) in enumerate(zip(names, children, strict=True)):
            child.run(f"import sys; sys.path.insert(0, {str(_ROOT)!r})")
            child.run("from tests.torture.full_disk.worker import Worker, jshm")
            child.run(f"worker = Worker({name!r}, {seed * 100 + i})")
        mounts = [memory, *([disk] if disk else [])]
        chance = random.Random(seed)
        while found.operations < operations and not found.failures:
            found.failures += _batch(children, mounts, chance)
            found.operations += _BATCH * workers
        found.refused = sum(child.run("worker.refused") for child in children)
        if not found.failures:
            found.failures += _end(children, mounts)
    found.failures = [f"{place.what}, seed {seed}: {failure}" for failure in found.failures]
    return found


def _batch(children: Sequence[Child], mounts: Sequence[Mount], chance: random.Random) -> list[str]:
    """Run all workers while the file systems are filled and emptied; return what is wrong then."""
    wrong: list[str] = []
    with ThreadPoolExecutor(len(children)) as pool:
        waiting = [pool.submit(child.run, f"worker.work({_BATCH})") for child in children]
        while not all(one.done() for one in waiting):
            mount = chance.choice(mounts)
            if chance.random() < 0.6:
                mount.fill(chance.choice([0, 0, 8192, MB // 2, 2 * MB]))
            else:
                mount.relieve()
            time.sleep(chance.random() * _PAUSE)
        for one in waiting:
            try:
                wrong += one.result()
            except (AssertionError, ChildError) as error:  # it died: SIGBUS, or something as bad
                wrong.append(f"a worker is gone: {error}")
    if wrong:
        return wrong
    for child in children:
        child.run("jshm.gc()")
    wrong += mounts[0].problems(*[mount.point for mount in mounts[1:]])
    known = {name: token for child in children for name, token in child.run("worker.known").items()}
    return wrong + _compare(mounts, known)


def _compare(mounts: Sequence[Mount], known: dict[str, list[int]]) -> list[str]:
    """Return which arrays are not what their publishers know, read with NumPy alone."""
    registry = sqlite3.connect(f"file:{mounts[0].root}/registry.db?mode=ro", uri=True)
    try:
        rows = registry.execute(
            "SELECT n.name, v.segment, s.kind FROM names n JOIN versions v ON v.name = n.name "
            "AND v.version = n.current JOIN segments s ON s.id = v.segment"
        ).fetchall()
    finally:
        registry.close()
    wrong = []
    if missing := known.keys() - {name for name, _, _ in rows}:
        wrong.append(f"no rows: {sorted(missing)}")
    for name, identity, kind in rows:
        if name not in known:
            wrong.append(f"a row of {name}, which was released or never published")
        elif kind == "array":
            (path,) = [
                path for mount in mounts for path in mount.point.rglob(f"{identity}.npy")
            ] or [None]
            if path is None or not np.array_equal(np.load(path), make((*known[name],))):
                wrong.append(f"the file of {name} holds other data")
    return wrong


def _end(children: Sequence[Child], mounts: Sequence[Mount]) -> list[str]:
    """Return what is wrong, or left, once everything is released and the disks are full."""
    for mount in mounts:
        mount.fill()
    for child in children:
        child.run("worker.let_go(); jshm.release(list(worker.known)); jshm.gc()")
    wrong = [f"{what!r}" for what in children[0].run("[p.what for p in jshm.check()]")]
    for mount in mounts:
        wrong += [f"left: {path}" for path in mount.point.rglob("*.npy")]
        wrong += [f"left: {path}" for path in mount.point.rglob("*.jshm")]
    return wrong


def torture(options: Options) -> Iterator[Row]:
    """Try all places, for about three minutes."""
    for i, place in enumerate(PLACES):
        what = f"No space: {place.what}, filled and emptied by another"
        try:
            found = trial(place, options.seed + i, 600)
        except CannotMountError as error:
            yield Row(what, 0, "operations", note=f"not tried, a tmpfs cannot be mounted: {error}")
            continue
        note = f"{found.refused:,} refused for want of room"
        yield Row(what, found.operations, "operations", found.failures, note)
