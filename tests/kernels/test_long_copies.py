"""The progress bar of a long copy in notebooks, programs and terminals, and Ctrl-C during it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ..support.processes import SHORT_LIFE_TOO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .notebook import Notebook

WIDGET = "application/vnd.jupyter.widget-view+json"
# Every copy of some pieces is a long one.
AT_ONCE = """
import jshm.segment.copying, jshm.segment.progress
jshm.segment.progress.DELAY = 0
jshm.segment.copying._PIECE = jshm.segment.copying._CONTIGUOUS_PIECE = 1 << 20
"""
# A large source that takes little memory.
LARGE = "B = np.broadcast_to(np.zeros(1 << 17), (1 << 11, 1 << 17))"


def test_a_bar_in_a_notebook_appears_and_disappears(open_notebook: Callable[..., Notebook]) -> None:
    pytest.importorskip("ipywidgets")
    notebook = open_notebook("a.ipynb")
    notebook.do("x, y = np.ones(1_000_000), np.ones(3_000_000)[::2]")
    quick = notebook("%shm_publish x y")
    assert quick.results == []
    assert notebook.value("'tqdm' in __import__('sys').modules") is False

    notebook.do(AT_ONCE)
    shown = notebook("%shm_publish x y\n%shm_publish x")
    bars = [result for result in shown.results if WIDGET in result]
    assert [bar["text/plain"].split(":")[0] for bar in bars] == ["x and 1 more", "x"]
    assert "20.0M" in bars[0]["text/plain"]
    assert shown.stderr == ""
    # Closed: and no thread that watches it.
    open_bars = "sum(type(w).__name__ == 'HBox' for w in _instances.values())"
    notebook.do("from ipywidgets.widgets.widget import _instances\nimport threading")
    assert notebook.value(open_bars) == 0
    assert notebook.value("[t.name for t in threading.enumerate() if 'tqdm' in repr(t)]") == []

    notebook.do(
        """
        def boom(*_): raise OSError(5, "a disk broke")
        jshm.segment.file.write, write = boom, jshm.segment.file.write
        try:
            with jshm.segment.progress.Progress("x", 100) as progress:
                progress.advance(50)
                jshm.publish("x", x)
        except OSError: pass
        finally: jshm.segment.file.write = write""".replace("\n        ", "\n")
    )
    assert notebook.value(open_bars) == 0


def test_without_widgets_it_is_text(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("a.ipynb")
    notebook.do("import sys; sys.modules['ipywidgets'] = None\nx = np.ones(1_000_000)\n" + AT_ONCE)
    outcome = notebook("%shm_publish x")
    assert outcome.ok
    assert "x: " in outcome.stderr
    assert "Warning" not in outcome.stderr
    assert outcome.stderr.rsplit("\r", 2)[1].strip() == ""


def test_a_progress_bar_that_cannot_be_shown_fails_nothing(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook("a.ipynb")
    notebook.do("import sys; sys.modules['tqdm'] = None\nx = np.ones(1_000_000)\n" + AT_ONCE)
    outcome = notebook("%shm_publish x")
    assert outcome.ok
    assert outcome.stderr == ""


PROGRAM = f"""
import sys, numpy as np, jshm
{AT_ONCE}
jshm.publish("x", np.ones(2_000_000))
with jshm.segment.progress.Progress("y", 100) as progress:
    progress.advance(50)
print("tqdm" in sys.modules, len(jshm.attach("x")))
"""


def test_a_bar_in_a_terminal_and_none_in_a_file(store_dir: str) -> None:
    command = [sys.executable, "-W", "error", "-W", SHORT_LIFE_TOO, "-c", PROGRAM]
    quiet = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (quiet.stdout, quiet.stderr) == ("False 2000000\n", "")
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(stderr, (24, 80))
    os.set_blocking(terminal, False)
    try:
        loud = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True, timeout=60
        )
        assert loud.stdout == "True 2000000\n"
        shown = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(stderr)
        os.close(terminal)
    assert "x: " in shown
    assert "y: 50%|" in shown
    assert "\n" not in shown
    assert shown.rsplit("\r", 2)[1].strip() == ""


@pytest.mark.parametrize("columns", ["", "[:, ::-1]"], ids=["pieces", "strided"])
def test_ctrl_c_stops_a_large_copy(
    open_notebook: Callable[..., Notebook], store_dir: str, tmp_path: Path, columns: str
) -> None:
    notebook = open_notebook("a.ipynb")
    notebook.do(f"{LARGE}{columns}\njshm.publish('B', 1)")

    def interrupt() -> None:
        segments = os.path.join(store_dir, "segments")
        while not any(
            os.path.getsize(os.path.join(segments, name)) > 1 << 24 for name in os.listdir(segments)
        ):
            time.sleep(0.001)
        os.kill(notebook.pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = notebook(
        "try: jshm.publish('B', B)\n"
        "except KeyboardInterrupt: print('stopped', jshm.info('B').version, jshm.check())"
    )
    thread.join()
    assert outcome.stdout == "stopped 1 []\n"
    assert len(os.listdir(os.path.join(store_dir, "segments"))) == 1
