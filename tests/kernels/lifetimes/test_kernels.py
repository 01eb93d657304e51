"""Kernels end and restart: their names live as long as the process that started the kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from ...support.processes import Child, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..notebook import Notebook
    from .outside import Outside

LOAD = "%load_ext jshm\nimport numpy as np"
PUBLISH = "X, kept = np.ones(3), np.arange(3.0)\n%shm_publish X\n%shm_publish kept --keep"
BOTH = {"X": [1, 1, 1], "kept": [0, 1, 2]}
KEPT = {"kept": [0, 1, 2]}


def test_names_live_through_every_end_of_their_kernel(
    outside: Outside,
    open_notebook: Callable[..., Notebook],
) -> None:
    """The process that runs the tests has started the kernels, so it is their session."""
    notebook = open_notebook("a.ipynb")
    notebook.do(PUBLISH)
    notebook.restart()
    outside.use()
    assert outside.names() == BOTH
    notebook.client.shutdown()
    notebook.manager.provisioner.process.wait(60)
    outside.use()
    assert outside.names() == BOTH
    notebook.restart()
    # The same notebook owns its names, without --replace, and a kept name stays kept.
    assert "lives until" not in notebook.do(f"{LOAD}\nkept = np.arange(3.0)\n%shm_publish kept")
    notebook.do("X = np.ones(3)\n%shm_publish X")
    notebook.kill()
    outside.use()
    assert outside.versions() == {name: (2, data) for name, data in BOTH.items()}


# -- kernels that no server started ----------------------------------------------------------------


class Loose:
    """A kernel as VS Code starts it: ``python -m ipykernel_launcher -f …``.

    Its environment does not tell who started it, or for which notebook.
    """

    def __init__(self, place: Path) -> None:
        self._connection = str(place / "kernel-v3f0c2222-9d1b-4c5e-8a7f-0123456789ab.json")
        if not os.path.exists(self._connection):
            write_connection_file(self._connection, transport="ipc", ip=str(place / "k"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipykernel_launcher", "-f", self._connection],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self._client = BlockingKernelClient()
        self._client.load_connection_file(self._connection)
        self._client.start_channels(hb=False)  # a busy machine misses beats
        self._client.wait_for_ready(timeout=60)

    def run(self, code: str) -> str:
        printed: list[str] = []
        reply = self._client.execute_interactive(
            code, timeout=60,
            output_hook=lambda message: printed.append(message["content"].get("text", "")),
        )  # fmt: skip
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(printed)

    def shut_down(self) -> None:
        self._client.shutdown()
        self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._client.stop_channels()
        self._client.context.term()


@pytest.fixture
def start(store_dir: str, place: Path) -> Iterator[Callable[[], Loose]]:
    """Start kernels, one after the other, with the same connection file."""
    started: list[Loose] = []

    def begin() -> Loose:
        started.append(Loose(place))
        return started[-1]

    yield begin
    for kernel in started:
        kernel.close()


def test_names_of_a_kernel_without_a_server_end_with_it(
    outside: Outside,
    start: Callable[[], Loose],
) -> None:
    kernel = start()
    kernel.run("__vsc_ipynb_file__ = '/home/someone/train.ipynb'")
    said = kernel.run(f"{LOAD}\n{PUBLISH}")
    assert said.count("lives until") == 1
    assert "lives until this kernel ends or is restarted; add --keep to keep it longer" in said
    assert "from train.ipynb" in kernel.run("%shm_attach X")
    once = kernel.run("%%shm_once y\ny = np.zeros(3)")
    assert "lives until this kernel ends or is restarted; add --keep" in once
    outside.use()
    assert set(outside.names()) == {"X", "y", "kept"}
    kernel.shut_down()
    assert outside.names() == KEPT
    assert len(outside.segments()) == 1

    again = start()
    again.run("__vsc_ipynb_file__ = '/home/someone/train.ipynb'")
    again.run(f"{LOAD}\n{PUBLISH}")
    assert outside.versions() == {name: (2, data) for name, data in BOTH.items()}
    again.process.kill()
    again.process.wait()
    outside.use()
    assert outside.names() == KEPT
    assert len(outside.segments()) == 1


CONSOLE = """
import sys
from jupyter_client.consoleapp import JupyterConsoleApp
from jupyter_core.application import JupyterApp
class Console(JupyterApp, JupyterConsoleApp):
    def initialize(self, argv=None):
        super().initialize(argv)
        JupyterConsoleApp.initialize(self)
app = Console()
app.initialize(["--JupyterConsoleApp.kernel_name=python3", "--ConnectionFileMixin.transport=ipc"])
client = app.kernel_client
client.wait_for_ready(timeout=60)
def run(code):
    printed = []
    hook = lambda message: printed.append(message["content"].get("text", ""))
    reply = client.execute_interactive(code, timeout=60, output_hook=hook)
    return reply["content"]["status"] + "".join(printed)
"""


def test_names_of_a_console_s_kernel_end_with_the_console(
    outside: Outside,
    tmp_path: Path,
    place: Path,
) -> None:
    """``jupyter console`` and ``qtconsole`` are built on `JupyterConsoleApp`."""
    env = {"JUPYTER_RUNTIME_DIR": str(place), "JUPYTER_CONFIG_DIR": str(place)}
    with Child(tmp_path, "console.py", env=env) as console:
        console.run(CONSOLE)
        said = console.run(f"run({LOAD!r}); run({PUBLISH!r})")
        assert "lives until this run ends; add --keep" in said
        kernel = int(console.run("run('import os; print(os.getpid())')").removeprefix("ok"))
        console.run("app.kernel_manager.restart_kernel(now=True)")
        until(lambda: not os.path.exists(f"/proc/{kernel}"))
        outside.use()
        assert outside.names() == BOTH
        console.run("client.wait_for_ready(timeout=60)")
        kernel = int(console.run("run('import os; print(os.getpid())')").removeprefix("ok"))
        console.kill()
    until(lambda: not os.path.exists(f"/proc/{kernel}"))
    outside.use()
    assert outside.names() == KEPT


# -- programs that a kernel starts -----------------------------------------------------------------

SCRIPT = """\
import sys, jshm, numpy as np
jshm.publish(sys.argv[1], np.zeros(3))
print("published", flush=True)
if sys.argv[2:]:
    sys.stdin.read()
"""


def test_programs_that_a_kernel_starts_are_separate_sessions(
    outside: Outside,
    open_notebook: Callable[..., Notebook],
    tmp_path: Path,
) -> None:
    """They inherit the kernel's environment, and end before or after the kernel."""
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT)
    notebook = open_notebook("a.ipynb")
    notebook.do(PUBLISH)
    reading, writing = os.pipe()
    try:
        assert "published" in notebook.do(f"!{sys.executable} {script} short")
        assert outside.names() == BOTH
        notebook.do(
            "import subprocess, sys\n"
            f"stdin = os.open('/proc/{os.getpid()}/fd/{reading}', os.O_RDONLY)\n"
            f"program = subprocess.Popen([sys.executable, {str(script)!r}, 'long', 'wait'],\n"
            "    stdin=stdin, stdout=subprocess.PIPE, start_new_session=True)\n"
            "assert program.stdout.readline()"
        )
        program = notebook.value("program.pid")
        notebook.kill()
        outside.use()
        assert outside.names() == {"long": [0, 0, 0], **BOTH}
    finally:
        os.close(writing)
        os.close(reading)
    until(lambda: not os.path.exists(f"/proc/{program}"))
    assert outside.names() == BOTH
