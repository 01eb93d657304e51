"""Many processes at once: what they saw, and what is left, read without jshm."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import jshm
from jshm.store import default_store

from ...support.processes import until
from .worker import DEADLINE, GROUP, wrong

ROOT = Path(__file__).parents[3]
# Programs of different files are different owners.
_OWNERS = 4
# Above this the log is cut; 64 commits of each process go by between two looks.
MOST_LOG = 24 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """A storm.

    Attributes
    ----------
    names : int
    seconds : float
    processes, threads : int
    releasing : bool
        Whether names are released, too; then version numbers have gaps.
    kills : int
        How many processes are killed, one after the other, and replaced by others.
    seed : int
    mixed : bool
        Whether there are objects with references and LIVE arrays, too; then nobody counts versions.
    """

    names: int = 20
    seconds: float = 4.0
    processes: int = 8
    threads: int = 2
    releasing: bool = False
    kills: int = 0
    seed: int = 0
    mixed: bool = False


@dataclass(slots=True)
class Report:
    """The result."""

    operations: int = 0
    publishes: int = 0
    longest: float = 0.0
    log: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Child:
    """A process of a storm; what it prints goes to files, so that it never waits for a reader."""

    process: subprocess.Popen[bytes]
    told: Path
    complaints: Path
    killed: bool = False

    @classmethod
    def start(cls, plan: Plan, scripts: Path, number: int, seconds: float) -> Child:
        script = scripts / f"storm{number % _OWNERS}.py"
        if not script.exists():
            script.write_text("from tests.torture.storms.worker import main\nmain()\n")
        plan_of_one = {
            "names": plan.names, "releasing": plan.releasing, "threads": plan.threads,
            "seconds": max(seconds, 0.1), "seed": plan.seed * 1000 + number,
            "mixed": plan.mixed,
        }  # fmt: skip
        told, complaints = scripts / f"{number}.out", scripts / f"{number}.err"
        with told.open("wb") as out, complaints.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, str(script), json.dumps(plan_of_one)],
                stdout=out, stderr=err, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        return cls(process, told, complaints)

    def kill(self) -> None:
        """SIGKILL it: what it printed until then still counts."""
        self.killed = True
        self.process.kill()
        self.process.wait()


def storm(plan: Plan, scripts: Path) -> Report:
    """Run processes that do everything at once with the same names, in the directory of ``JSHM_DIR``."""
    report = Report()
    rng = random.Random(plan.seed)
    children = [Child.start(plan, scripts, i, plan.seconds) for i in range(plan.processes)]
    log = Path(os.environ["JSHM_DIR"], "registry.db-wal")
    until(log.exists, DEADLINE)
    began = time.monotonic()
    victims: list[Child] = []
    while any(child.process.poll() is None for child in children):
        spent = time.monotonic() - began
        if spent > plan.seconds + 3 * DEADLINE:
            break
        if log.exists():
            report.log = max(report.log, log.stat().st_size)
        if len(victims) < plan.kills * min(1, spent / plan.seconds):
            at = rng.randrange(len(children))
            victims.append(children[at])
            victims[-1].kill()
            number, left = plan.processes + len(victims), plan.seconds - spent
            children[at] = Child.start(plan, scripts, number, left)
        time.sleep(0.02)
    versions: dict[str, list[int]] = {}
    for child in children + victims:
        listen(child, report, versions)
    report.publishes = sum(map(len, versions.values()))
    # Of what a killed process published nobody knows the number.
    _examine_versions(report, versions, exact=not (plan.kills or plan.releasing))
    examine_rest(report)
    return report


def listen(child: Child, report: Report, versions: dict[str, list[int]]) -> None:
    process = child.process
    if process.poll() is None:
        process.kill()
        report.failures.append(f"pid {process.pid} did not end")
    code, complaints = process.wait(), child.complaints.read_text()
    if complaints:
        report.failures.append(complaints[-2000:])
    if child.killed:
        return
    if code:
        report.failures.append(f"pid {process.pid} ended with {code}")
        return
    saw = json.loads(child.told.read_text())
    report.operations += sum(saw["operations"].values())
    report.longest = max(report.longest, saw["longest"])
    for name, numbers in saw["versions"].items():
        versions.setdefault(name, []).extend(numbers)


def _examine_versions(report: Report, versions: dict[str, list[int]], *, exact: bool) -> None:
    """No update is lost: no number was given twice, and none to nobody."""
    last = dict(_query("SELECT name, last FROM names"))
    for name, numbers in versions.items():
        if len(set(numbers)) < len(numbers):
            report.failures.append(f"{name}: a version was given to two publishers")
        if exact and sorted(numbers) != list(range(1, last.get(name, 0) + 1)):
            report.failures.append(f"{name}: {len(numbers)} publishes made v{last.get(name)}")
        if max(numbers) > last.get(name, 0):
            report.failures.append(
                f"{name} v{max(numbers)} is forgotten; the last is {last.get(name)}"
            )


def examine_rest(report: Report) -> None:
    """Check that all that is left is whole and has a name, and that a release removes all of it."""
    default_store().gc()
    found = [f"check: {problem.what}" for problem in jshm.check()]
    folder = Path(os.environ["JSHM_DIR"], "segments")
    files = {path.stem: path for path in folder.iterdir()}
    segments = {row[0] for row in _query("SELECT id FROM segments")}
    found += [f"{files[lost].name} is nobody's" for lost in set(files) - segments]
    found += [f"the file of {lost} is gone" for lost in segments - set(files)]
    rows = _query(
        "SELECT n.name, v.segment FROM names n JOIN versions v "
        "ON v.name = n.name AND v.version = n.current"
    )
    needed = {row[0] for row in _query("SELECT needs FROM refs")}
    found += [f"{lost} has no name" for lost in segments - needed - {row[1] for row in rows}]
    tokens: dict[str, set[int]] = {}
    for name, segment in rows:
        if name[0] in "lo":  # LIVE arrays and objects say nothing of themselves
            continue
        array = np.load(files[segment]) if segment in files else np.zeros(0)
        found.append(wrong(name, array))
        if name[-1] in GROUP:
            tokens.setdefault(name[:-1], set()).add(int(array[3]))
    found += [f"half of group {group}" for group, both in tokens.items() if len(both) > 1]
    jshm.release([name for name, _ in rows], force=True)
    default_store().gc()
    found += [f"{path.name} is left" for path in folder.iterdir()]
    leases = [path.name for path in (folder.parent / "leases").iterdir()]
    own = default_store().process._lease
    found += [f"lease {name} is left" for name in leases if own is None or own.id not in name]
    report.failures += filter(None, found)


def _query(sql: str) -> list[tuple[str, int]]:
    """Query the registry without jshm, in another process: closing a descriptor here would drop locks."""
    code = (
        "import json, sqlite3, sys; con = sqlite3.connect(sys.argv[1], timeout=30)\n"
        "print(json.dumps(con.execute(sys.argv[2]).fetchall()))"
    )
    path = os.path.join(os.environ["JSHM_DIR"], "registry.db")
    done = subprocess.run(
        [sys.executable, "-c", code, path, sql], capture_output=True, text=True, check=True
    )
    return [tuple(row) for row in json.loads(done.stdout)]


def describe(report: Report) -> str:
    """Return the figures of a storm, for a table's note."""
    return (
        f"{report.publishes:,} publishes, longest wait {report.longest:.1f} s, longest log "
        f"{report.log / (1 << 20):.1f} MiB"
    )
