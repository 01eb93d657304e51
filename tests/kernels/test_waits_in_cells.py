"""Waits and watches in live kernels, which have an event loop and other threads."""

from __future__ import annotations

import contextlib
import queue
import time
from typing import TYPE_CHECKING

import pytest

from ..support.processes import until

if TYPE_CHECKING:
    from .notebook import Notebook


@pytest.fixture
def a(open_notebook) -> Notebook:
    return open_notebook("a.ipynb")


@pytest.fixture
def b(open_notebook) -> Notebook:
    return open_notebook("b.ipynb")


def read(notebook: Notebook, *texts: str, below: str = "", timeout: float = 60.0) -> str:
    """Return what is printed while no cell is run, until all these texts are there.

    With `below`, only what is shown below the cell of that message.
    """
    found = ""
    deadline = time.monotonic() + timeout
    while not all(text in found for text in texts):
        left = deadline - time.monotonic()
        assert left > 0, f"not printed: {texts}, but {found!r}"
        with contextlib.suppress(queue.Empty):
            message = notebook.client.get_iopub_msg(timeout=left)
            if message["msg_type"] == "stream" and below in (
                "",
                message["parent_header"]["msg_id"],
            ):
                found += message["content"]["text"]
    return found


def test_await_at_the_top_of_a_cell(a, b):
    a.client.execute("info = await jshm.wait_async('X', timeout=60)\nprint(info.publisher)")
    b.do("jshm.publish('X', np.ones(3))")
    read(a, "b.ipynb")
    a.client.execute(
        "seen, news = [], jshm.watch_async('X')\nprint('watches')\n"
        "async for info in news:\n"
        "    seen.append(info.version)\n"
        "    print('seen', seen)\n"
        "    if len(seen) == 2: break\n"
    )
    read(a, "watches")
    b.do("jshm.publish('X', np.ones(3))")
    read(a, "seen [2]")
    b.do("jshm.publish('X', np.ones(3))")
    read(a, "seen [2, 3]")
    failed = a.fail("await jshm.wait_async('X', newer_than=3, timeout=0.05)")
    assert failed.ename == "WaitTimeoutError"


def test_an_interrupt_ends_every_wait_and_nothing_else(a, b):
    b.do("held = jshm.lock('X'); held.__enter__()")
    a.do("jshm.watch('Y', lambda info: seen.append(info.version)); seen = []")
    for code in (
        "jshm.wait('nothing')",
        "await jshm.wait_async('nothing')",
        "with jshm.lock('X'): pass",
    ):
        a.client.execute(f"print('begins')\n{code}")
        read(a, "begins")
        a.manager.interrupt_kernel()
        reply = a.client.get_shell_msg(timeout=20)
        assert reply["content"]["status"] == "error", code
        assert a.value("1 + 1") == 2
    b.do("held.__exit__(None, None, None); jshm.publish('Y', 1)")
    until(lambda: a.value("seen") == [1])
    a.do("with jshm.lock('X', timeout=0): pass")


def test_callbacks_print_below_the_cell_that_started_the_watch(a, b):
    cell = a.client.execute("""
jshm.watch("X", lambda info: print("thread has v%d" % info.version))
async def called(info):
    print("loop has v%d" % info.version)
jshm.watch("X", called)
def broken(info):
    raise ValueError("broken %d" % info.version)
jshm.watch("X", broken);
""")
    a.do("'another cell'")
    said = ""
    for version in (1, 2):
        b.do("jshm.publish('X', np.ones(3))")
        said += read(a, f"thread has v{version}", f"loop has v{version}", below=cell)
        if version == 1 and "broken 1" not in said:
            said += read(a, "ValueError: broken 1", "not shown again", below=cell)
    assert said.count("ValueError: broken 1") == 1
    assert "broken 2" not in said
    assert "raise ValueError" in said


def test_a_restarted_kernel_watches_nothing(a, b):
    a.do("watch = jshm.watch('X', lambda info: print(info))")
    assert a.value("[t.name for t in __import__('threading').enumerate()].count('jshm-watch')") == 1
    a.restart()
    a.do("import jshm, threading")
    assert a.value("[t.name for t in threading.enumerate()].count('jshm-watch')") == 0
    b.do("jshm.publish('X', np.ones(3))")
    assert a.value("jshm.wait('X', timeout=0).version") == 1
