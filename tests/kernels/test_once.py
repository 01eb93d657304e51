"""``%%shm_once``: run once on the machine."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import signal
import threading
import time

import pytest

from jshm import segment
from jshm.magics import once

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
    refused = a.fail("%%shm_once L\nL = [n for n in 'ab'], (n for n in 'ab')").evalue
    assert "L → [1] → running generator" in refused
    assert a.fail("%%shm_once\nL = [1]").ename == "UsageError"
    assert a.fail("%%shm_once X\nX = = 1").ename == "SyntaxError"
    assert a.value("jshm.segments()") == []


def test_options(a):
    a.do("%%shm_once X --as exp1/ --mode c --keep\nX = np.zeros(3)")
    a.do("X[0] = 1")
    assert a.value("(jshm.info('exp1/X').keep, float(jshm.attach('exp1/X')[0]))") == [True, 0.0]


def test_a_jshm_error_of_the_cell_s_own_code_keeps_its_traceback(a):
    failed = a.fail("%%shm_once Q\ndef load():\n    return jshm.attach('nothere')\nQ = load()")
    assert failed.ename == "SegmentNotFoundError"
    assert "return jshm.attach('nothere')" in re.sub(r"\x1b\[[0-9;]*m", "", failed.traceback)
    slip = a.fail("%%shm_once a-b\nq = 1")
    assert slip.ename == "UsageError"


def test_a_cell_that_awaits_is_told_so_in_one_line(a):
    slip = a.fail("%%shm_once P\nimport asyncio\nawait asyncio.sleep(0)\nP = np.ones(3)")
    assert slip.ename == "UsageError"
    assert "the cell cannot `await`" in slip.evalue
    assert "\n" not in slip.evalue
    assert a.fail("%%shm_once P\nawait = 3").ename == "SyntaxError"
    a.do("%%shm_once P\nasync def f():\n    await g()\nP = np.ones(3)")


def test_a_killed_notebook_s_worker_keeps_nobody_waiting(open_notebook, a, store_dir, tmp_path):
    """What a cell forks inherits its turn, and lives on when the notebook is killed."""
    b = open_notebook("b.ipynb")
    told = tmp_path / "pid"
    cell = f"""%%shm_once X
if os.environ.get("JPY_SESSION_NAME", "").endswith("a.ipynb"):
    import time
    worker = os.fork()
    if not worker:
        time.sleep(600)
        os._exit(0)
    with open({str(told)!r} + ".new", "w") as file:
        file.write(str(worker))
    os.rename({str(told)!r} + ".new", {str(told)!r})
    time.sleep(600)
X = np.ones(3)
"""
    a.client.execute(cell)
    deadline = time.monotonic() + 60
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker = int(told.read_text())
    try:
        assert os.listdir(f"{store_dir}/locks")
        a.kill()
        os.kill(worker, 0)
        assert b(cell, timeout=20).stdout.startswith("X published")
    finally:
        os.kill(worker, signal.SIGKILL)
    assert glob.glob(f"{store_dir}/locks/once-*") == []


def test_a_process_that_the_cell_forks_does_not_end_its_turn(store):
    with once._turn(store, "key"):
        if not os.fork():
            try:
                with once._turn(store, "another"):
                    pass
            finally:
                os._exit(0)
        assert os.wait()[1] == 0
        (path,) = glob.glob(f"{store.directory.locks}/once-*")
        fd = os.open(path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
    assert os.listdir(store.directory.locks) == []


def test_a_turn_sweeps_up_what_the_killed_left(store):
    store.names()
    left, taken = (os.path.join(store.directory.locks, f"once-{name}") for name in ("dead", "live"))
    other = os.path.join(store.directory.locks, "other")
    for path in (left, other):
        open(path, "w").close()
    fd = os.open(taken, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with once._turn(store, "key"):
        pass
    os.close(fd)
    assert sorted(os.listdir(store.directory.locks)) == ["once-live", "other"]
    os.unlink(other)


def test_an_interrupted_wait_leaves_no_descriptor(store):
    store.names()
    path = os.path.join(store.directory.locks, "once-x")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            once._wait_for_turn(path)
        timer.join()
    assert os.listdir("/proc/self/fd") == before
    assert not segment._locked
    os.close(fd)
    os.unlink(path)


def test_a_turn_is_signed_by_who_has_it(store):
    store.names()
    path = os.path.join(store.directory.locks, "once-x")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    once._sign(fd, "a-long-name.ipynb")
    once._sign(fd, "b.ipynb")
    assert os.pread(fd, 100, 0) == b"b.ipynb"
    once._sign(fd, "\udcff.ipynb")  # a path that is not UTF-8
    assert os.pread(fd, 100, 0) == b"?.ipynb"
    os.close(fd)
    os.unlink(path)


def test_rerun_runs_in_any_case(a):
    a.do("rate = 1.0")
    cell = "%%shm_once fit\nfit = np.full(3, rate)"
    a.do(cell)
    a.do("rate = 2.0")
    assert "attached in" in a.do(cell)
    assert a.value("fit.tolist()") == [1.0] * 3
    assert "published" in a.do(cell.replace("fit\n", "fit --rerun\n", 1))
    assert a.value("fit.tolist()") == [2.0] * 3
    assert a.value("jshm.info('fit').version") == 2
