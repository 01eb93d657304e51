"""Names of scripts, terminals and runs end with them, however they end."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import nbformat
import pytest

from ...support.processes import TIMEOUT, Child, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .outside import Outside

KEPT = {"kept": [0.0, 1.0, 2.0]}
PUBLISH = """\
import os, signal, sys
import jshm, numpy as np
jshm.publish("X", np.ones(3))
jshm.publish("kept", np.arange(3.0), keep=True)
spare = jshm.empty(1000)
"""
# How a program ends → whether its exit handlers run.
ENDS = {
    "pass": True,
    "sys.exit(3)": True,
    "raise ValueError": True,
    "os.kill(os.getpid(), signal.SIGINT)": True,
    "os._exit(0)": False,
    "os.kill(os.getpid(), signal.SIGTERM)": False,
    "os.kill(os.getpid(), signal.SIGHUP)": False,
    "os.kill(os.getpid(), signal.SIGKILL)": False,
    "os.abort()": False,
}


@pytest.mark.parametrize(("end", "orderly"), ENDS.items(), ids=ENDS)
def test_names_of_a_script_end_with_it(
    outside: Outside,
    tmp_path: Path,
    end: str,
    orderly: bool,
) -> None:
    script = tmp_path / "fit.py"
    # An ignored signal (nohup) is inherited.
    default = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    script.write_text(f"{PUBLISH}{default}{end}\n")
    subprocess.run([sys.executable, script], check=False, stderr=subprocess.DEVNULL, timeout=60)
    assert len(outside.segments()) == (1 if orderly else 3)
    if not orderly:
        outside.use()
        assert len(outside.segments()) == 1
    assert outside.names() == KEPT


def test_a_late_attach_is_a_clear_error(outside: Outside, tmp_path: Path) -> None:
    with Child(tmp_path, "fit.py") as fit:
        fit.run("import jshm, numpy as np; jshm.publish('X', np.ones(3))")
        fit.exit()
    with Child(tmp_path, "eda.py") as eda:
        eda.run("import jshm")
        said = eda.fails("jshm.attach('X')").message
        assert said == (
            "nothing is shared under 'X' any more: it was released, or its session has ended. "
            'Keep a name beyond its session: jshm.publish("X", …, keep=True)'
        )
        assert "any more" not in eda.fails("jshm.attach('Y')").message


class Terminal:
    """IPython in a separate terminal."""

    def __init__(self, home: Path) -> None:
        self._screen, terminal = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "IPython", "--no-banner",
             "--no-confirm-exit", "--simple-prompt", "--HistoryManager.enabled=False"],
            env={**os.environ, "HOME": str(home), "IPYTHONDIR": str(home / "ipython")},
            stdin=terminal, stdout=terminal, stderr=terminal,
        )  # fmt: skip
        os.close(terminal)

    def type(self, line: str, answer: str) -> str:
        """Type a line; return the output up to the expected answer."""
        os.write(self._screen, line.encode() + b"\n")
        shown, deadline = "", time.monotonic() + TIMEOUT
        while answer not in shown:
            ready, _, _ = select.select([self._screen], [], [], deadline - time.monotonic())
            assert ready, shown
            shown += os.read(self._screen, 4096).decode(errors="replace")
        return shown

    def exit(self) -> None:
        os.write(self._screen, b"exit\n")
        self.process.wait(TIMEOUT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Close the window, and return when the program is gone."""
        if self._screen >= 0:
            os.close(self._screen)
            self._screen = -1
        self.process.wait(TIMEOUT)


@pytest.fixture
def terminal(store_dir: str, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    try:
        yield opened
    finally:
        opened.kill()
        opened.close()


@pytest.mark.parametrize("end", ["exit", "kill", "close"])
def test_names_of_a_terminal_end_with_it(
    outside: Outside,
    terminal: Terminal,
    end: str,
) -> None:
    terminal.type("%load_ext jshm", "In [2]")
    terminal.type("import numpy as np; X = np.ones(3); kept = np.arange(3.0)", "In [3]")
    shown = terminal.type("%shm_publish X", "In [4]")
    assert "lives until this IPython ends; add --keep to keep it longer" in shown
    assert "lives until" not in terminal.type("%shm_publish kept --keep", "In [5]")
    assert outside.names() == {"X": [1, 1, 1], **KEPT}
    getattr(terminal, end)()
    if end == "exit":
        assert len(outside.segments()) == 1
    outside.use()
    assert outside.names() == KEPT
    assert len(outside.segments()) == 1


# -- runs ------------------------------------------------------------------------------------------

CELLS = [
    "%load_ext jshm\nimport numpy as np\nX = np.ones(3); kept = np.arange(3.0)",
    "%shm_publish X",
    "%shm_publish kept --keep",
]
NBCLIENT = """
import nbformat
from nbclient import NotebookClient
def run(path):
    book = nbformat.read(path, as_version=4)
    done = NotebookClient(book, timeout=60, kernel_name="python3").execute()
    return [output.text for cell in done.cells for output in cell.get("outputs", [])]
"""


def write(path: Path, cells: list[str]) -> str:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, path)
    return str(path)


def test_names_of_an_nbclient_run_live_until_the_run_ends(
    outside: Outside,
    tmp_path: Path,
) -> None:
    """A run is one program that executes several notebooks."""
    first = write(tmp_path / "first.ipynb", CELLS)
    second = write(tmp_path / "second.ipynb", ["import jshm\nprint(jshm.attach('X').sum())"])
    with Child(tmp_path, "run.py") as program:
        program.run(NBCLIENT)
        published, kept = program.run(f"run({first!r})")
        assert published.endswith("lives until this run ends; add --keep to keep it longer\n")
        assert "lives until" not in kept
        outside.use()
        assert program.run(f"run({second!r})") == ["3.0\n"]
        program.exit()
    assert len(outside.segments()) == 2
    outside.use()
    assert outside.names() == KEPT
    assert len(outside.segments()) == 1


def test_names_of_nbconvert_end_with_it(outside: Outside, tmp_path: Path) -> None:
    book = write(tmp_path / "a.ipynb", CELLS)
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--stdout", book],
        capture_output=True, timeout=120, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "lives until this run ends; add --keep" in json.dumps(json.loads(done.stdout))
    outside.use()
    assert outside.names() == KEPT


def test_a_killed_demo_leaves_nothing(outside: Outside) -> None:
    words = [sys.executable, "-m", "jshm", "demo", "--headless", "--size", "1e6"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as demo:
        for line in demo.stdout:
            if "jshm.attach" in line:
                break
        assert set(outside.names()) == {"jshm-demo/X"}
        kernels = children(demo.pid)
        assert len(kernels) == 2
        demo.kill()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in kernels))
    outside.use()
    assert outside.names() == {}
    assert outside.segments() == []


def children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()
