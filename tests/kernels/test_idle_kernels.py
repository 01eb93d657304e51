"""The spares of a kernel in which a loop publishes frames: used again, and given back when it is idle."""

from __future__ import annotations

import os

from ..support.processes import until

LOOP = """\
frame = np.zeros(200_000)
for i in range(6):
    frame[:] = i
    jshm.publish('frame', frame)
"""


def paths(store_dir: str) -> list[str]:
    return os.listdir(f"{store_dir}/segments")


def test_a_kernel_that_rests_gives_them_back(open_notebook, store_dir):
    a = open_notebook("a.ipynb")
    a.do("from jshm.store.local import spares\nspares.IDLE = 2.0")
    a.do(LOOP)
    assert len(paths(store_dir)) == 2
    assert "1.6 MB more in spares" in a("%shm_list").results[-1]["text/plain"]
    until(lambda: len(paths(store_dir)) == 1)
    a.do(LOOP)
    assert len(paths(store_dir)) == 2
    a.do("%unload_ext jshm\n%load_ext jshm")
    assert a.value("float(jshm.attach('frame')[0])") == 5.0


def test_an_idle_kernel_frees_what_another_one_released(open_notebook, store_dir):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do(LOOP)
    b.do("%shm_release frame --force")
    assert paths(store_dir) == []
    until(lambda: not deleted(a.pid))


def test_killed_in_the_loop(open_notebook, store_dir):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do(LOOP)
    a.client.execute("import itertools\nfor i in itertools.count(): jshm.publish('frame', frame)")
    until(lambda: b.value("jshm.info('frame').version") > 20)
    a.kill()
    assert b.do("%shm_attach frame").startswith("frame ← v")
    b.do("jshm.gc()")
    assert len(paths(store_dir)) == 1
    assert b.value("len(set(frame.tolist()))") == 1


def deleted(pid: int) -> list[str]:
    """What a process has mapped although it is deleted."""
    with open(f"/proc/{pid}/maps") as file:
        return [line for line in file if "/segments/" in line and "(deleted)" in line]
