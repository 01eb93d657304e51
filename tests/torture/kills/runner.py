"""Three ways to kill the process of an operation, and the programs that do it by the hundred."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jshm

from ...support.full_disk import CannotMountError, mounted
from . import strace
from .scenarios import arrays, cleaning, objects, spares
from .trials import RoleError, Workplace, at_boundary, finish, spawn, trial
from .world import make, wrong_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scenarios import Scenario
    from .trials import Kill

FAMILIES = {
    "publishing": arrays.PUBLISHING,
    "born in shared memory": arrays.BORN,
    "letting go": arrays.LETTING_GO,
    "objects": objects.OBJECTS,
    "ends and reaping": cleaning.CLEANING,
    "spares": spares.SPARES,
    "mending": cleaning.MENDING,
}
SCENARIOS = {scenario.name: scenario for family in FAMILIES.values() for scenario in family}
RANDOM = [arrays.RANDOM, objects.RANDOM]
_WRITERS = 4
_ROOT = Path(__file__).parents[3]


@dataclass
class Found:
    """The result of killing the same operation many times.

    Attributes
    ----------
    killed : int
        How often it was killed on the way.
    wrong : dict
        From where it was killed to what was wrong then.
    """

    killed: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def note(self, where: str, wrong: list[str], *, died: bool) -> None:
        """Add what came of one trial."""
        self.killed += died
        if wrong:
            self.wrong[where] = wrong


# -- the three ways --------------------------------------------------------------------------------


def boundaries(workplace: Workplace, scenario: Scenario, every: int) -> Found:
    """Kill at every `every`-th boundary, until it passes."""
    found = Found()
    # Scenarios begin at different boundaries: together they meet more of them.
    at, died = 1 + sum(scenario.name.encode()) % every, True
    while died:
        wrong, died = trial(workplace, scenario, at_boundary(at), at)
        found.note(str(at), wrong, died=died)
        at += every
    return found


def calls(workplace: Workplace, scenario: Scenario, every: int) -> Found:
    """Kill at every `every`-th of the system calls that an operation makes."""
    found = Found()
    log = f"{workplace.parent}/calls"
    wrong, died = trial(workplace, scenario, strace.noted(log), 0)
    found.note("none", wrong, died=died)
    with open(log, errors="replace") as file:
        points = list(strace.points(file.read()))
    start = sum(scenario.name.encode()) % every
    for at, (call, number) in list(enumerate(points))[start::every]:
        wrong, died = trial(workplace, scenario, strace.at_call(call, number), at)
        found.note(f"{call} {number}", wrong, died=died)
    return found


def times(workplace: Workplace, scenario: Scenario, count: int, seed: int) -> Found:
    """Kill at random times, while others write; every other time they are killed as well."""
    found = Found()
    draw = random.Random(seed)
    for at in range(count):
        delay = 0.02 + draw.random() * 0.08
        wrong, died = trial(workplace, scenario, _after(delay, at % 2 == 1), at)
        found.note(f"{at} after {delay}", wrong, died=died)
    return found


def _after(delay: float, everybody: bool) -> Kill:
    """Kill a while after it began."""

    def kill(scenario: Scenario) -> bool:
        def operate() -> None:
            for _ in scenario.operation():
                pass

        stopping, stop = os.pipe()
        writers = [spawn(_write, f"w{i}", stopping) for i in range(_WRITERS)]
        victim = spawn(operate)
        time.sleep(delay)
        for pid, _ in [victim, *writers] if everybody else [victim]:
            os.kill(pid, signal.SIGKILL)
        os.write(stop, b"!")
        died = finish(*victim) is None
        wrong = [what for writer in writers for what in finish(*writer) or ()]
        os.close(stopping)
        os.close(stop)
        if wrong:
            raise RoleError(f"a writer saw: {wrong}")
        return died

    return kill


def _write(name: str, stopping: int) -> list[str]:
    """Publish, attach, release, until something is to be read; return what was wrong."""
    wrong: list[str] = []
    version = 0
    while not select.select([stopping], [], [], 0)[0]:
        version += 1
        jshm.publish(name, make(name, version))
        x, y = jshm.attach(["X", "Y"])
        if x[1] != y[1]:
            wrong.append(f"half a group: X v{x[1]}, Y v{y[1]}")
        wrong += wrong_in("X", int(x[1]), x) + wrong_in(name, version, jshm.attach(name))
        if version % 3 == 0:
            jshm.release(name)
    return wrong


# -- programs --------------------------------------------------------------------------------------


def kill(how: str, family: str, *more: str) -> dict[str, Found]:
    """Run the kills in another process, which has never used jshm; return what it found."""
    names = [scenario.name for scenario in FAMILIES[family]] if family else []
    words = [*_apart(), sys.executable, "-m", __package__, how, *names, *more]
    done = subprocess.run(words, stdout=subprocess.PIPE, cwd=_ROOT, check=True)
    return {name: Found(**found) for name, found in json.loads(done.stdout).items()}


def _apart() -> list[str]:
    """Return what lets a program mount what nobody else sees, where that is possible."""
    words = ["unshare", "--mount"]
    there = shutil.which(words[0]) is not None
    can = there and subprocess.run([*words, "true"], check=False, stderr=subprocess.DEVNULL)
    return words if can and can.returncode == 0 else []


@contextlib.contextmanager
def workplace() -> Iterator[Workplace]:
    with contextlib.ExitStack() as stack:
        made = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="jshm-faults-")
        parent, small = stack.enter_context(made), ""
        with contextlib.suppress(CannotMountError):
            mount = mounted(Path(parent) / "small", "size=3m,mode=700")
            small = str(stack.enter_context(mount).point)
        made_here = Workplace(parent, small)
        made_here.prepare()
        yield made_here
