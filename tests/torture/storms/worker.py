"""One process of a storm: threads that do everything at once to the same names, and believe nothing.

It runs as a script, prints what it did as one line of JSON, and writes failures to stderr.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm
from jshm.store import default_store

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds after which a wait counts as endless.
DEADLINE = 60.0
GROUP = ("a", "b", "c")
_HEAD = 4
_counter = iter(range(1 << 60))


def make(name: str, rng: random.Random, token: int | None = None) -> np.ndarray[Any, Any]:
    """Return an array that says whose it is, and whether it is whole.

    Its numbers: checksum of the rest, checksum of the name, pid, token, and what fills it up.
    """
    array = np.empty(_HEAD + rng.choice((0, 10, 1000, 20_000)), np.uint64)
    token = (os.getpid() << 32) + next(_counter) if token is None else token
    array[1:_HEAD] = zlib.crc32(name.encode()), os.getpid(), token
    array[_HEAD:] = np.arange(len(array) - _HEAD, dtype=np.uint64) + array[3]
    array[0] = zlib.crc32(array[1:].tobytes())
    return array


def wrong(name: str, array: np.ndarray[Any, Any]) -> str:
    """Say what is wrong with the array of a name; '' if nothing is."""
    if array.dtype != np.uint64 or len(array) < _HEAD:
        return f"{name} is {array.dtype} {array.shape}"
    if int(array[0]) != zlib.crc32(array[1:].tobytes()):
        return f"{name} is torn: {array[:6]}"
    if int(array[1]) != zlib.crc32(name.encode()):
        return f"{name} shows another name's data"
    return ""


class Worker:
    """The operations of one process, and what it saw."""

    def __init__(self, names: int, *, releasing: bool, mixed: bool, seed: int) -> None:
        self.names = [f"n{i}" for i in range(names)]
        self.groups = [f"g{i}/" for i in range(max(2, names // 10))]
        self.releasing = releasing
        self.counting = not mixed
        self.seed = seed
        self.until = 0.0
        self.lock = threading.Lock()
        self.operations: dict[str, int] = defaultdict(int)
        self.versions: dict[str, list[int]] = defaultdict(list)
        self.longest = 0.0
        self.kept: list[tuple[str, np.ndarray[Any, Any]]] = []
        choices: list[tuple[int, Callable[[random.Random], None]]] = [
            (30, self.publish), (8, self.publish_group), (4, self.publish_as_guest),
            (30, self.attach), (12, self.attach_group), (4, self.keep), (4, self.let_go),
            (4, self.look), (2, self.list), (3, self.allocate), (1, self.fork),
        ]  # fmt: skip
        if releasing:
            choices += [(12, self.release), (2, self.clean)]
        if mixed:
            choices += [(5, self.publish_object), (10, self.attach_object), (8, self.write_live)]
        self.weights, self.choices = zip(*choices, strict=True)

    # -- what it does ----------------------------------------------------------------------------

    def publish(self, rng: random.Random) -> None:
        name = rng.choice(self.names)
        self._published(default_store().publish({name: make(name, rng)}, replace=True, keep=True))

    def publish_group(self, rng: random.Random) -> None:
        group = rng.choice(self.groups)
        token = rng.getrandbits(60)
        values = {group + part: make(group + part, rng, token) for part in GROUP}
        self._published(default_store().publish(values, replace=True, keep=True))

    def publish_as_guest(self, rng: random.Random) -> None:
        """Publish without `replace`: the next version of one's own, or none."""
        name = rng.choice(self.names)
        try:
            published = default_store().publish({name: make(name, rng)}, keep=True)
        except jshm.NotOwnerError:
            return
        if not published[0].info.mine:
            self.fail(f"{name} was published though it was somebody else's")
        self._published(published)

    def allocate(self, rng: random.Random) -> None:
        name = rng.choice(self.names)
        content = make(name, rng)
        array = jshm.empty(content.shape, content.dtype)
        array[:] = content
        self._published(default_store().publish({name: array}, replace=True, keep=True))
        self.examine(name, array)

    def attach(self, rng: random.Random) -> None:
        name = rng.choice(self.names)
        (attached,) = self._there(lambda: default_store().attach([name], rng.choice("rrc"))) or (
            None,
        )
        if attached is not None:
            self.examine(name, attached.value)

    def attach_group(self, rng: random.Random) -> None:
        prefix = rng.choice(self.groups)
        group = [prefix + part for part in GROUP]
        attached = self._there(lambda: default_store().attach(group)) or ()
        for one in attached:
            self.examine(one.name, one.value)
        if len({int(one.value[3]) for one in attached}) > 1:
            self.fail(f"half of a group: {[(one.name, one.version) for one in attached]}")

    def keep(self, rng: random.Random) -> None:
        name = rng.choice(self.names)
        for one in self._there(lambda: default_store().attach([name])) or ():
            with self.lock:
                self.kept.append((name, one.value))

    def let_go(self, _: random.Random) -> None:
        """Arrays that were attached long ago still have the same data."""
        with self.lock:
            kept, self.kept = self.kept, []
        for name, array in kept:
            self.examine(name, array)

    def look(self, rng: random.Random) -> None:
        self._there(lambda: jshm.info(rng.choice(self.names)))

    def list(self, _: random.Random) -> None:
        for info in jshm.segments():
            if not info.nbytes >= 8 * _HEAD:
                self.fail(f"a list shows {info} with {info.nbytes} bytes")

    def fork(self, rng: random.Random) -> None:
        """A child uses what it inherited, and the store, and ends without any farewell."""
        name = rng.choice(self.names)
        held = self._there(lambda: default_store().attach([name]))
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: on purpose
            pid = os.fork()
        if not pid:
            self._be_child(name, held, writing, rng)
        os.close(writing)
        with open(reading) as file:
            answer = file.read()
        status = os.waitpid(pid, 0)[1]
        if status or not answer:
            self.fail(f"a forked child ended with {status}: {answer}")
        elif not answer.startswith("v"):
            self.fail(f"in a forked child: {answer}")
        elif self.counting:
            with self.lock:
                self.versions[name].append(int(answer[1:]))

    def _be_child(self, name: str, held: Any, writing: int, rng: random.Random) -> None:
        try:
            signal.alarm(int(DEADLINE))
            found = [wrong(name, one.value) for one in held or ()]
            found += [wrong(name, jshm.attach(name))] if held and not self.releasing else []
            (published,) = default_store().publish({name: make(name, rng)}, replace=True, keep=True)
            answer = "".join(found) or f"v{published.info.version}"
        except BaseException as error:
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)

    def release(self, rng: random.Random) -> None:
        self._there(lambda: jshm.release(rng.sample(self.names, 1), force=True))

    def clean(self, _: random.Random) -> None:
        jshm.gc()

    def publish_object(self, rng: random.Random) -> None:
        """An object that refers to an array, and keeps it."""
        name, mine = rng.choice(self.names), f"o{rng.randrange(5)}"
        for one in self._there(lambda: default_store().attach([name])) or ():
            value = {"of": name, "shared": one.value, "own": make(mine, rng)}
            # Another process may release the array at this moment.
            self._there(lambda v=value: default_store().publish({mine: v}, replace=True, keep=True))

    def attach_object(self, rng: random.Random) -> None:
        name = f"o{rng.randrange(5)}"
        for one in self._there(lambda: default_store().attach([name], rng.choice("rc"))) or ():
            self.examine(one.value["of"], one.value["shared"])
            self.examine(name, one.value["own"])

    def write_live(self, rng: random.Random) -> None:
        """All processes write to LIVE arrays, a word at a time."""
        name = f"live{rng.randrange(3)}"
        array = self._there(lambda: jshm.attach(name, mode="r+"))
        if array is None or rng.random() < 1 / 20:
            live = {name: np.zeros(100, np.uint64)}
            default_store().publish(live, replace=True, keep=True, writable=True)
            return
        array[rng.randrange(100)] = 7
        if not np.isin(array, (0, 7)).all():
            self.fail(f"{name} is torn: {array[:10]}")

    # -- how it sees -----------------------------------------------------------------------------

    def _published(self, published: Any) -> None:
        if self.counting:  # else it may take hours, and they would fill the memory
            with self.lock:
                for one in published:
                    self.versions[one.info.name].append(one.info.version)

    def _there(self, operation: Callable[[], Any]) -> Any:
        """Do what needs a name that may not be there: not yet, or not any more."""
        try:
            return operation()
        except jshm.SegmentNotFoundError:
            return None

    def examine(self, name: str, array: np.ndarray[Any, Any]) -> None:
        if found := wrong(name, array):
            self.fail(found)

    def fail(self, what: str) -> None:
        """Say it at once: this process may be killed."""
        print(f"pid {os.getpid()}: {what}", file=sys.stderr, flush=True)

    def run(self, seconds: float, threads: int) -> dict[str, Any]:
        """Run the operations for `seconds` in `threads` threads."""
        self.until = time.monotonic() + seconds
        faulthandler.dump_traceback_later(seconds + 2 * DEADLINE, exit=True)
        others = [threading.Thread(target=self._loop, args=(i,)) for i in range(1, threads)]
        for thread in others:
            thread.start()
        self._loop(0)
        for thread in others:
            thread.join()
        self.let_go(random.Random())
        return {
            "operations": self.operations,
            "versions": self.versions,
            "longest": self.longest,
        }

    def _loop(self, thread: int) -> None:
        rng = random.Random(f"{self.seed} {thread}")
        while time.monotonic() < self.until:
            (operation,) = rng.choices(self.choices, self.weights)
            began = time.monotonic()
            try:
                operation(rng)
            except BaseException as error:
                self.fail(f"{operation.__name__}: {error!r}")
            took = time.monotonic() - began
            with self.lock:
                self.operations[operation.__name__] += 1
                self.longest = max(self.longest, took)
            if took > DEADLINE:
                self.fail(f"{operation.__name__} took {took:.0f} s")


def main() -> None:
    """Take part in a storm, as the command line says."""
    plan = json.loads(sys.argv[1])
    faulthandler.register(signal.SIGALRM, chain=True)  # a forked child that hangs says where
    worker = Worker(
        plan["names"], releasing=plan["releasing"], mixed=plan["mixed"], seed=plan["seed"]
    )
    print(json.dumps(worker.run(plan["seconds"], plan["threads"])), flush=True)
