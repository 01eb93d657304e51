"""``%%shm_once``: run once on the machine."""

from __future__ import annotations

import glob
import os
import re
import time

import pytest

CELL = """%%shm_once X y
import time
time.sleep(0.4)  # expensive
runs = globals().get("runs", 0) + 1
X, y = np.arange(6.0), np.ones(2)
"""


@pytest.fixture
def a(open_notebook):
    return open_notebook("a.ipynb")


def test_the_cell_runs_once_and_is_attached_everywhere(open_notebook, a):
    b = open_notebook("b.ipynb")
    said = a.do(CELL)
    assert re.match(r"X, y published · 64 B · the cell took \d{3} ms; the next run", said), said
    assert a.value("(jshm.is_shared(X), X.flags.writeable)") == [True, False]
    other = CELL.replace("  # expensive", "   # other words").replace('"runs"', "'runs'")
    said = b.do(other)
    assert re.match(
        r"X, y attached in [\d.]+ [mµ]s; the cell took \d{3} ms at \d\d:\d\d in a.ipynb\n", said
    ), said
    assert b.value("'runs' in globals()") is False
    assert b.value("X.tolist()") == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    a.restart()
    a.do("%load_ext jshm\nimport numpy as np, jshm")
    assert "attached in" in a.do(CELL)
    said = a.do(CELL.replace("6.0", "7.0"))
    assert "published" in said
    assert a.value("jshm.info('X').version") == 2
    assert "was published by a.ipynb" in b.fail(CELL.replace("6.0", "8.0")).evalue
    assert b.value("'runs' in globals()") is False, "refused, but only after the expensive cell"
    assert "published" in b.do(CELL.replace("6.0", "8.0").replace("X y", "X y --replace", 1))
    assert b.value("jshm.info('X').version") == 3


def test_two_notebooks_at_the_same_time_run_it_once(open_notebook, a, store_dir):
    b = open_notebook("b.ipynb")
    slow = CELL.replace("0.4", "3")
    a.client.execute(slow)
    # a has the turn once it says so: b must not be the first.
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(os.path.getsize(path) for path in glob.glob(f"{store_dir}/locks/once-*")):
            break
        time.sleep(0.01)
    said = b.do(slow)
    assert said.startswith("waiting for a.ipynb, which runs this very cell\nX, y attached in")
    assert a.value("globals().get('runs', 0)") == 1
    assert b.value("globals().get('runs', 0)") == 0


def test_what_fails_publishes_nothing(a):
    failed = a.fail("%%shm_once X\nX = 1 / 0")
    assert failed.ename == "ZeroDivisionError"
    assert "X = 1 / 0" in re.sub(r"\x1b\[[0-9;]*m", "", failed.traceback)
    assert "did not make the variable Z" in a.fail("%%shm_once Z\nz = 3").evalue
    assert "is a list, not an array" in a.fail("%%shm_once L\nL = [1]").evalue
    assert a.fail("%%shm_once\nL = [1]").ename == "UsageError"
    assert a.fail("%%shm_once X\nX = = 1").ename == "SyntaxError"
    assert a.value("jshm.segments()") == []


def test_options(a):
    a.do("%%shm_once X --as exp1/ --mode c --keep\nX = np.zeros(3)")
    a.do("X[0] = 1")
    assert a.value("(jshm.info('exp1/X').keep, float(jshm.attach('exp1/X')[0]))") == [True, 0.0]
