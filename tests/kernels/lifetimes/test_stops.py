"""A stopped server frees what its kernels share, also where jupyter_server leaves kernels running."""

from __future__ import annotations

import glob
import grp
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from jshm.system import processes

from ...conftest import PREFIX, SHM
from ...support.processes import Child, until
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .outside import Outside

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

# Held versions, arrays without a name, objects and spares: each is a file that must be removed.
SHARE = """
import os, jshm, numpy as np
for name in ('X', 'X', 'held'):
    jshm.publish(name, np.ones(1 << 18))
    old = jshm.attach(name)
jshm.publish('object', {'a': np.ones(1 << 18), 'x': old})
jshm.publish('kept', np.arange(3.0), keep=True)
born = jshm.empty(1 << 18)
print(os.getpid())
"""
# Large enough that the kernel is writing most of the time.
GO_ON = """
import jshm, numpy as np
X, Y = jshm.attach('X'), np.ones(4 << 20)
i = 0
while True:
    try:
        i += 1
        jshm.publish(f'Y{i % 3}', Y)
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture
def start(store_dir: str, place: Path) -> Iterator[Callable[..., Server]]:
    """Start servers; they end with the test."""
    with ExitStack() as stack:

        def begin(name: str = "s", **options: Any) -> Server:
            server = Server(place / name, place / "root", **options)
            stack.callback(server.end, signal.SIGKILL)
            return server

        yield begin


class Ending:
    """How a server ends."""

    def __init__(self, program: str, terminal: bool, *signals: signal.Signals) -> None:
        self.program = program
        self.terminal = terminal
        self.signals = signals

    def __str__(self) -> str:
        where = "terminal" if self.terminal else "none"
        return "-".join([self.program, where, *(number.name for number in self.signals)])


def leases(store: str) -> list[str]:
    """Return the leases in a store."""
    return [name for name in os.listdir(f"{store}/leases") if "." not in name]


@pytest.mark.parametrize(
    "ending",
    [
        Ending("jupyter_server", False, INT, INT),
        Ending("jupyter_server", False, INT, TERM),
        Ending("jupyter_server", False, TERM),
        Ending("jupyter_server", False, HUP),
        Ending("jupyterlab", False, INT),
        Ending("jupyterlab", True, INT, INT),
    ],
    ids=str,
)
def test_a_stopped_server_leaves_nothing_of_its_kernels(
    start: Callable[..., Server],
    outside: Outside,
    store_dir: str,
    tmp_path: Path,
    ending: Ending,
) -> None:
    """One kernel is publishing when the stop comes. Data that another program holds or shares stays."""
    server = start(program=ending.program, terminal=ending.terminal)
    kernel = int(server.run(SHARE))
    server.start(GO_ON, "b.ipynb")
    until(lambda: "Y2" in outside.current())
    with Child(tmp_path, "eda.py") as eda:
        eda.run("import jshm, numpy as np; held = jshm.attach('held')")
        eda.run("jshm.publish('mine', np.zeros(3))")
        server.end(*ending.signals)
        assert server.process.returncode == 0
        until(lambda: not processes.command(kernel))  # perhaps a zombie for a while
        assert outside.current() == {"kept", "held", "mine"}
        assert len(outside.segments()) == 3
        assert len(leases(store_dir)) == 1
        assert eda.run("float(held.sum())") == 1 << 18
        assert eda.run("[problem.what for problem in jshm.check()]") == []
    outside.use()
    assert outside.names() == {"kept": [0, 1, 2]}


# Publishes all the time, and ignores the signal that asks it to end.
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN){GO_ON}"
SAVES = """
import os, signal, jshm, numpy as np
def save(*_):
    jshm.publish({'checkpoint': np.ones(2)}, keep=True)
    jshm.publish('saved', np.ones(2))
    os._exit(0)
signal.signal(signal.SIGTERM, save)
jshm.publish('saved', np.zeros(2))
"""
# A worker that outlives the server.
WORKS = """
import multiprocessing, time
def work():
    held, empty = jshm.attach('X'), jshm.empty(3)
    empty[:] = 2
    open('{0}/ready', 'w').close()
    while not os.path.exists('{0}/go'): time.sleep(0.01)
    with open('{0}/sum.new', 'w') as file: file.write(str(held.sum() + empty.sum()))
    os.rename('{0}/sum.new', '{0}/sum')
started = multiprocessing.get_context('fork').Process(target=work)
started.start(); print(started.pid)
"""


def test_kernels_of_every_kind_of_a_stopped_server(
    start: Callable[..., Server],
    outside: Outside,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One publishes and ignores SIGTERM, one saves something in its handler, one has a worker.

    The worker continues with all its data, whose names are gone; the memory goes with the worker. Names in
    a group's store go, too.
    """
    groups = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    monkeypatch.setenv("JSHM_GROUP_DIR", groups)
    group = grp.getgrgid(os.getegid()).gr_name
    shared = f"with jshm.group({group!r}): jshm.publish('X', np.ones(1000))\n"
    server = start(terminal=False)
    worker = int(server.run(SHARE + shared + WORKS.format(tmp_path)).split()[1])
    try:
        server.run(SAVES, "saves.ipynb")
        server.start(STUBBORN, "stubborn.ipynb")
        until(lambda: "Y2" in outside.current())
        until((tmp_path / "ready").exists)
        files = f"{groups}/jshm-group-*/segments/*"
        assert len(glob.glob(files)) == 1
        server.end(INT)
        assert glob.glob(files) == []
        assert outside.names() == {"kept": [0, 1, 2], "checkpoint": [1, 1]}
        assert len(outside.segments()) == 2
        (tmp_path / "go").touch()
        until((tmp_path / "sum").exists)
        assert float((tmp_path / "sum").read_text()) == (1 << 18) + 6
    finally:
        (tmp_path / "go").touch()
        until(lambda: not processes.command(worker))
        shutil.rmtree(groups)
    outside.use()
    assert len(outside.segments()) == 2


def test_only_kernels_that_belong_to_a_server_are_ended() -> None:
    """Kernels that were started to outlive their server, and other programs, are left running."""
    wait = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    ours = {**os.environ, "JPY_PARENT_PID": str(os.getpid())}
    independent = {name: ours[name] for name in ours if name != "JPY_PARENT_PID"}
    with ExitStack() as stack:

        def begin(words: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
            pipe = subprocess.PIPE
            started = subprocess.Popen([*wait, *words], env=env, stdin=pipe, stdout=pipe)
            stack.enter_context(started)
            stack.callback(started.kill)
            assert started.stdout is not None
            assert started.stdout.readline() == b"\n"
            return started

        kernel = begin(["-f", "kernel.json"], ours)
        lasting = begin(["-f", "kernel.json"], independent)
        program = begin([], ours)
        assert processes.kernels_of(os.getpid()) == [kernel.pid]
        processes.end_children([kernel.pid], 60)
        assert kernel.wait() == -signal.SIGTERM
        assert (lasting.poll(), program.poll()) == (None, None)
        assert processes.kernels_of(os.getpid()) == []
