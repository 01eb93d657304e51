"""Kills, everywhere: ``python -m tests.torture.kills.kills HOW SCENARIO … [--every 10]`` prints JSON.

HOW is ``boundaries`` (see `fuse`), ``calls`` (of the system, see `traced`) or ``times`` (at random, while
four others write). ``python -m tests.torture --only kills`` tries them all.
"""

from __future__ import annotations

import argparse
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
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jshm
from jshm.errors import OverflowWarning

from ...support.mounts import CannotMountError, mounted
from ..report import Options, Row
from . import scenarios_arrays, scenarios_cleaning, scenarios_objects, scenarios_spares, traced
from .harness import RoleError, Workplace, at_boundary, finish, spawn, trial
from .world import make, wrong_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Kill
    from .scenarios import Scenario

FAMILIES = {
    "publishing": scenarios_arrays.PUBLISHING,
    "born in shared memory": scenarios_arrays.BORN,
    "letting go": scenarios_arrays.LETTING_GO,
    "objects": scenarios_objects.OBJECTS,
    "ends and reaping": scenarios_cleaning.CLEANING,
    "spares": scenarios_spares.SPARES,
    "mending": scenarios_cleaning.MENDING,
}
SCENARIOS = {scenario.name: scenario for family in FAMILIES.values() for scenario in family}
RANDOM = [scenarios_arrays.RANDOM, scenarios_objects.RANDOM]
_WRITERS = 4
# Two processes try them: as many as the machine has for it.
_AT_ONCE = 2
_ROOT = Path(__file__).parents[3]


@dataclass
class Found:
    """What came of killing the same operation often.

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
    wrong, died = trial(workplace, scenario, traced.noted(log), 0)
    found.note("none", wrong, died=died)
    with open(log, errors="replace") as file:
        points = list(traced.points(file.read()))
    start = sum(scenario.name.encode()) % every
    for at, (call, number) in list(enumerate(points))[start::every]:
        wrong, died = trial(workplace, scenario, traced.at_call(call, number), at)
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


# -- the program -----------------------------------------------------------------------------------


def torture(options: Options) -> Iterator[Row]:
    """Kill at every boundary and at every system call of every scenario, and at random times."""
    jobs = [("boundaries", family, ()) for family in FAMILIES]
    if traced.can_trace():
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


def kill(how: str, family: str, *more: str) -> dict[str, Found]:
    """Run this module as a program of its own, which has never used jshm; return what it found."""
    names = [scenario.name for scenario in FAMILIES[family]] if family else []
    words = [*_apart(), sys.executable, "-m", __name__, how, *names, *more]
    done = subprocess.run(words, stdout=subprocess.PIPE, cwd=_ROOT, check=True)
    return {name: Found(**found) for name, found in json.loads(done.stdout).items()}


def _apart() -> list[str]:
    """Return what lets a program mount what nobody else sees, where that is possible."""
    words = ["unshare", "--mount"]
    there = shutil.which(words[0]) is not None
    can = there and subprocess.run([*words, "true"], check=False, stderr=subprocess.DEVNULL)
    return words if can and can.returncode == 0 else []


@contextlib.contextmanager
def _workplace() -> Iterator[Workplace]:
    with contextlib.ExitStack() as stack:
        made = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="jshm-faults-")
        parent, small = stack.enter_context(made), ""
        with contextlib.suppress(CannotMountError):
            mount = mounted(Path(parent) / "small", "size=3m,mode=700")
            small = str(stack.enter_context(mount).point)
        workplace = Workplace(parent, small)
        workplace.prepare()
        yield workplace


def main() -> None:
    """Try what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["boundaries", "calls", "times"])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--count", type=int, default=30, help="of kills at random times")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore", OverflowWarning)
    found: dict[str, Found] = {}
    with _workplace() as workplace:
        if args.how == "times":
            for i, scenario in enumerate(RANDOM):
                label = f"{scenario.name} {i}"
                found[label] = times(workplace, scenario, args.count // len(RANDOM), args.seed + i)
        else:
            way = {"boundaries": boundaries, "calls": calls}[args.how]
            for name in args.scenarios or SCENARIOS:
                if workplace.can(SCENARIOS[name]):
                    found[name] = way(workplace, SCENARIOS[name], args.every)
    json.dump({name: asdict(one) for name, one in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()
