"""One trial: somebody is killed in the middle of an operation, others look at what is left.

Each role is a forked child of a process that imported jshm and never uses it: forks are cheap, and
nobody survives them by accident.

- *holder*, in some scenarios, attaches X and stays.
- *victim* does the operation and is killed on the way.
- *next* does one ordinary operation, then looks through jshm.

The parent itself looks at the files and the tables with NumPy and sqlite3 alone (`on_disk`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

import jshm
from jshm import pickling, store
from jshm.store import default_store

from . import on_disk
from .fuse import Fuse
from .on_disk import Place
from .world import make, setup, wrong_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scenarios import Scenario
    from .world import Names

# Loaded before the forks, all that an operation might load.
for _package in (store, pickling):
    for _module in pkgutil.iter_modules(_package.__path__):
        importlib.import_module(f"{_package.__name__}.{_module.name}")
importlib.import_module("jshm.api")


class RoleError(Exception):
    """A role did not end as it should."""


def spawn(role: Callable[..., Any], *args: Any, **options: Any) -> tuple[int, IO[str]]:
    """Fork a role; return its pid and the pipe on which it reports."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, os.fdopen(reading)
    os.close(reading)
    status = 1
    try:
        report = role(*args, **options)
        with os.fdopen(writing, "w") as pipe:
            json.dump(report, pipe)
        default_store().close()  # as at an ordinary exit
        status = 0
    except BaseException:
        with contextlib.suppress(OSError), os.fdopen(writing, "w") as pipe:
            pipe.write(traceback.format_exc())
    finally:
        os._exit(status)


def finish(pid: int, pipe: IO[str]) -> Any:
    """Wait for a role's end; return its report ('' if it made none), or None if it was killed.

    Raises
    ------
    RoleError
    """
    with pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if killed and not text:  # else one of its children reported
        return None
    if status:
        raise RoleError(f"status {status}: {text}")
    return text and json.loads(text)


def run(role: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Fork a role, wait for its end; return its report, or None if it was killed."""
    return finish(*spawn(role, *args, **options))


# -- the victim ------------------------------------------------------------------------------------

Kill = Callable[["Scenario"], bool]
"""Lets a victim do a scenario's operation; tells whether it was killed on the way."""


def at_boundary(number: int) -> Kill:
    """Kill before or in the n-th call by which jshm reaches the system or SQLite."""

    def operate(scenario: Scenario) -> bool:
        fuse = Fuse(number)
        fuse.install()
        steps = scenario.operation()
        next(steps)
        fuse.armed = True
        next(steps, None)
        fuse.armed = False
        return True

    return lambda scenario: run(operate, scenario) is None


# -- the state afterwards --------------------------------------------------------------------------


def operate_and_look(kind: int, *, damaged: bool) -> tuple[list[str], Names]:
    """Do one ordinary operation, then look through jshm; return what is wrong, and the names."""
    if damaged:
        jshm.check(fix=True)
    elif kind == 0:
        jshm.segments()
    elif kind == 1:
        jshm.publish("next", np.zeros(3), keep=True)
    elif kind == 2:
        jshm.publish("next", [jshm.zeros(3)], keep=True)
        jshm.release("next")
    elif kind == 3:
        jshm.gc()
    else:
        jshm.empty(3)
    found = [problem.what for problem in jshm.check()]
    names = {}
    for name in default_store().names():
        if name != "next":
            names[name] = jshm.info(name).version
            found += wrong_in(name, names[name], jshm.attach(name))
    return found, names


_KINDS = 5


@contextlib.contextmanager
def _holding(wanted: bool) -> Iterator[Callable[[], list[str]] | None]:
    """Hold X in a process, if wanted; yield a function that ends it and returns what it saw wrong."""
    if not wanted:
        yield None
        return
    (waking, wake), (ready, readying) = os.pipe(), os.pipe()

    def hold() -> bool:
        x = jshm.attach("X")
        os.write(readying, b"!")
        os.read(waking, 1)
        return bool(np.array_equal(x, make("X", 1)))

    pid, report = spawn(hold)
    os.read(ready, 1)

    def let_go() -> list[str]:
        os.write(wake, b"!")
        return [] if finish(pid, report) else ["the data of a holder changed"]

    try:
        yield let_go
    finally:
        for fd in (waking, wake, ready, readying):
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where trials are made.

    Attributes
    ----------
    parent : str
        A directory in memory.
    small : str
        The same on a small file system; '' where none could be made.
    """

    parent: str
    small: str = ""

    def prepare(self) -> None:
        """Make the world once, to be copied."""
        gc.collect()
        gc.freeze()  # forks share what the collector does not touch
        _use(Place(f"{self.parent}/template"))
        run(setup)

    def can(self, scenario: Scenario) -> bool:
        """Tell whether a scenario can be tried here."""
        return bool(self.small) or not scenario.small

    @contextlib.contextmanager
    def place(self, scenario: Scenario) -> Iterator[Place]:
        """Return a store in which nothing has happened yet but the making of the world."""
        root = tempfile.mkdtemp(dir=self.small if scenario.small else self.parent)
        place = Place(root, f"{root}.disk" if scenario.small else "")
        if scenario.small:  # beside it, and not on the small file system
            place = replace(place, overflow=tempfile.mkdtemp(dir=self.parent))
        try:
            _use(place)
            if scenario.nothing:
                os.rmdir(root)
            else:
                shutil.copytree(f"{self.parent}/template", root, dirs_exist_ok=True)
                on_disk.settle(place)
            yield place
        finally:
            shutil.rmtree(root)
            if place.overflow:
                shutil.rmtree(place.overflow)


def _use(place: Place) -> None:
    os.environ["JSHM_DIR"], os.environ["JSHM_OVERFLOW_DIR"] = place.root, place.overflow


def trial(
    workplace: Workplace, scenario: Scenario, kill: Kill, kind: int
) -> tuple[list[str], bool]:
    """Kill a victim once; return what is wrong, and whether it died."""
    with workplace.place(scenario) as place, _holding(scenario.held) as let_go:
        try:
            died = kill(scenario)
            wrong = on_disk.torn(place)
            wrong += _aftermath(place, scenario, kind, held=scenario.held)
            if let_go is not None:
                wrong += let_go()
                wrong += _aftermath(place, scenario, 0, held=False)
            wrong += _without_registry(place, scenario)
        except Exception:  # of a role, or of what looks: it found what cannot be
            return [traceback.format_exc()], False
    return wrong, died


def _aftermath(place: Place, scenario: Scenario, kind: int, *, held: bool) -> list[str]:
    found: list[str] = run(operate_and_look, kind % _KINDS, damaged=scenario.damaged)[0]
    return found + on_disk.wrong(place, scenario.allowed, held=held)


def _without_registry(place: Place, scenario: Scenario) -> list[str]:
    """A registry that is rebuilt from the files alone is the same."""
    before = on_disk.names(place)
    for path in Path(place.root).glob("registry.db*"):
        path.unlink()
    found, after = run(operate_and_look, 0, damaged=False)
    if after != before:
        found.append(f"names were {before}, rebuilt {after}")
    found += on_disk.wrong(place, scenario.allowed, held=False)
    return [f"rebuilt: {what}" for what in found]
