"""Stopped servers free what their kernels share, also where jupyter_server leaves its kernels running."""

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

from jshm.system import processes as programs

from ...conftest import PREFIX, SHM
from ...support.processes import Child, until
from .server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .outside import Outside

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

# Versions that are held, arrays without a name, objects and spares: each is a file that somebody must free.
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
# Large enough that it is mostly writing.
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
    """Return the leases that are there."""
    return [name for name in os.listdir(f"{store}/leases") if "." not in name]


@pytest.mark.parametrize(
    "ending",
    [
        Ending("jupyter_server", False, INT),
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
    """One kernel is publishing when the stop comes; what another program holds or shares stays."""
    server = start(program=ending.program, terminal=ending.terminal)
    kernel = int(server.run(SHARE))
    server.start(GO_ON, "b.ipynb")
    until(lambda: "Y2" in outside.current())
    with Child(tmp_path, "eda.py") as eda:
        eda.run("import jshm, numpy as np; held = jshm.attach('held')")
        eda.run("jshm.publish('mine', np.zeros(3))")
        server.end(*ending.signals)
        assert server.process.returncode == 0
        until(lambda: not programs.command(kernel))  # nobody may have waited for it
        assert outside.current() == {"kept", "held", "mine"}
        assert len(outside.segments()) == 3
        assert len(leases(store_dir)) == 1
        assert eda.run("float(held.sum())") == 1 << 18
        assert eda.run("[problem.what for problem in jshm.check()]") == []
    outside.use()
    assert outside.names() == {"kept": [0, 1, 2]}


def test_a_kernel_that_ignores_sigterm_leaves_nothing(
    start: Callable[..., Server], outside: Outside
) -> None:
    server = start(terminal=False)
    server.run(SHARE)
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    server.start(ignore + GO_ON, "b.ipynb")
    until(lambda: "Y2" in outside.current())
    server.end(INT)
    assert outside.names() == {"kept": [0, 1, 2]}
    assert len(outside.segments()) == 1


def test_a_kernel_s_own_handler_may_keep_something(
    start: Callable[..., Server], outside: Outside
) -> None:
    server = start(terminal=False)
    server.run(
        "import os, signal, jshm, numpy as np\n"
        "def save(*_):\n"
        "    jshm.publish({'checkpoint': np.ones(2)}, keep=True)\n"
        "    jshm.publish('X', np.ones(2))\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, save)"
    )
    server.end(INT)
    assert outside.names() == {"checkpoint": [1, 1]}
    assert len(outside.segments()) == 1


def test_what_a_kernel_s_worker_holds_loses_its_name(
    start: Callable[..., Server], outside: Outside, tmp_path: Path
) -> None:
    """The worker goes on, with all its data; their memory goes with it."""
    server = start(terminal=False)
    worker = server.run(
        SHARE + "import multiprocessing, time\n"
        "def work():\n"
        "    held, empty = jshm.attach('X'), jshm.empty(3)\n"
        "    empty[:] = 2\n"
        f"    open('{tmp_path}/ready', 'w').close()\n"
        f"    while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)\n"
        f"    with open('{tmp_path}/sum.new', 'w') as file: file.write(str(held.sum() + empty.sum()))\n"
        f"    os.rename('{tmp_path}/sum.new', '{tmp_path}/sum')\n"
        "started = multiprocessing.get_context('fork').Process(target=work)\n"
        "started.start(); print(started.pid)"
    ).split()[1]
    try:
        until((tmp_path / "ready").exists)
        server.end(INT)
        assert outside.names() == {"kept": [0, 1, 2]}
        assert len(outside.segments()) == 1
        (tmp_path / "go").touch()
        until((tmp_path / "sum").exists)
        assert float((tmp_path / "sum").read_text()) == (1 << 18) + 6
    finally:
        (tmp_path / "go").touch()
        until(lambda: not programs.command(int(worker)))
    outside.use()
    assert len(outside.segments()) == 1


def test_another_server_is_left_alone(start: Callable[..., Server], outside: Outside) -> None:
    first, second = start("1", terminal=False), start("2", terminal=False)
    first.run("import jshm, numpy as np; jshm.publish('first', np.zeros(1))")
    second.run("import jshm, numpy as np; jshm.publish('second', np.zeros(1))")
    first.end(INT)
    assert outside.names() == {"second": [0]}
    second.run("jshm.publish('second', np.ones(1))")
    assert outside.versions() == {"second": (2, [1])}
    second.end(INT)
    assert outside.names() == {}
    assert outside.segments() == []


def test_what_was_shared_with_a_group_goes_too(
    start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    monkeypatch.setenv("JSHM_GROUP_DIR", root)
    try:
        server = start(terminal=False)
        group = grp.getgrgid(os.getegid()).gr_name
        server.run(
            "import jshm, numpy as np\n"
            f"with jshm.group({group!r}): jshm.publish('X', np.ones(1000))"
        )
        files = f"{root}/jshm-group-*/segments/*"
        assert len(glob.glob(files)) == 1
        server.end(INT)
        assert glob.glob(files) == []
    finally:
        shutil.rmtree(root)


def test_only_kernels_that_would_end_with_their_server_are_ended() -> None:
    """Not those that were started to outlive it, and no other programs."""
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
        assert programs.kernels_of(os.getpid()) == [kernel.pid]
        programs.end_children([kernel.pid], 60)
        assert kernel.wait() == -signal.SIGTERM
        assert (lasting.poll(), program.poll()) == (None, None)
        assert programs.kernels_of(os.getpid()) == []
