"""Arrays published in one live kernel and attached in others, through restarts, kills and forks."""

from __future__ import annotations

import glob
import os

import jshm


def test_three_notebooks_see_the_same_pages(open_notebook):
    a, b, c = (open_notebook(f"{name}.ipynb") for name in "abc")
    a.do("X = np.arange(1_000_000.0).reshape(1000, 1000)")
    assert a.do("%shm_publish X --writable").startswith(
        "X v1 · float64 (1000, 1000) · 8.0 MB · LIVE → %shm_attach X\n"
    )
    assert b.do("%shm_attach X").startswith("X ← v1 from a.ipynb, ")
    assert c.do("%shm_attach X --mode r+ --as Y").startswith("Y ← X v1 from a.ipynb, ")
    c.do("Y[5, 5] = -1")
    assert a.value("X[5, 5]") == b.value("X[5, 5]") == -1
    assert b.value("X.flags.writeable") is False
    assert b.fail("X[0, 0] = 1").ename == "ValueError"
    assert b.fail("%shm_attach X --mode w").ename == "UsageError"


def test_publishing_is_a_snapshot_and_modes_are_kept_apart(open_notebook):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.zeros(10)\n%shm_publish X\nX[:] = 7")
    b.do("%shm_attach X")
    assert b.value("X.tolist()") == [0.0] * 10
    slip = b.fail("%shm_attach X --mode r+")
    assert slip.ename == "UsageError"
    assert "read-only snapshot" in slip.evalue
    b.do("%shm_attach X --mode c --as C\nC[:] = 3")
    assert b.value("(X.sum(), C.sum())") == [0.0, 30.0]


def test_held_versions_stay(open_notebook, store_dir):
    a, b, c = (open_notebook(f"{name}.ipynb") for name in "abc")
    a.do("X = np.full(1000, 1.0)\n%shm_publish X")
    b.do("%shm_attach X")
    assert a.do("X = np.full(1000, 2.0)\n%shm_publish X").startswith("X v2 ")
    assert b.value("X[0]") == 1.0
    c.do("old = jshm.attach('X', version=1); new = jshm.attach('X')")
    assert c.value("(old[0], new[0])") == [1.0, 2.0]
    assert c.do("%shm_attach X --version 1 --as also_old").startswith("also_old ← X v1 ")
    for notebook, code in ((b, "%shm_detach X"), (c, "%shm_detach old"), (c, "%shm_detach new")):
        assert "unmapped here" in notebook.do(code)
    assert len(os.listdir(f"{store_dir}/segments")) == 1
    slip = c.fail("%shm_attach X --version 1")
    assert "no version 1 (any more); there: v2" in slip.evalue


def test_a_restarted_kernel_still_owns_its_names(open_notebook):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.arange(5)\n%shm_publish X")
    first = a.pid
    a.restart()
    assert a.pid != first
    a.do("%load_ext jshm\nimport numpy as np, jshm")
    assert "X ← v1 from a.ipynb" in a.do("%shm_attach X")
    assert a.do("X = np.arange(6)\n%shm_publish X").startswith("X v2 ")
    assert "belongs to a.ipynb" in b.fail("%shm_release X").evalue
    assert a.do("%shm_release X").startswith("X released")


def test_data_of_a_killed_publisher_stay_and_stay_its_own(open_notebook):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.arange(1000.0)\n%shm_publish X")
    a.kill()
    slip = b.fail("X = np.zeros(3)\n%shm_publish X")
    assert slip.ename == "UsageError"
    assert "was published by a.ipynb" in slip.evalue
    assert "--replace" in slip.evalue
    b.do("%shm_attach X")
    assert b.value("X.sum()") == 499500.0
    assert b.do("%shm_publish X --as mine").startswith("mine v1 ")
    assert b.do("X = np.zeros(3)\n%shm_publish X --replace").startswith("X v2 ")


def test_a_killed_holder_leaks_nothing(open_notebook, store_dir):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.ones(100_000)\n%shm_publish X")
    b.do("%shm_attach X")
    assert "still held by b.ipynb" in a.do("%shm_release X")
    assert os.listdir(f"{store_dir}/segments") == []  # the file is gone, b's memory is not
    assert b.value("X.sum()") == 100_000.0
    assert "released, still held" in str(a("%shm_list").results)
    b.kill()
    assert "Nothing is shared yet" in str(a("%shm_list").results)
    assert jshm.check() == []


def test_a_replaced_version_is_freed_with_its_killed_holder(open_notebook, store_dir):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.ones(100_000)\n%shm_publish X")
    b.do("%shm_attach X")
    a.do("X = X + 1\n%shm_publish X")
    assert len(os.listdir(f"{store_dir}/segments")) == 2
    b.kill()
    a.do("jshm.gc()")  # other operations collect at most once a second
    assert a.value("[info.version for info in jshm.segments()]") == [2]
    assert len(os.listdir(f"{store_dir}/segments")) == 1


def test_a_fork_in_a_kernel_uses_the_store_and_ends(open_notebook, store_dir):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.arange(1000.0)\n%shm_publish X --move")
    printed = a.do(
        """
import multiprocessing, warnings
warnings.simplefilter("ignore")  # a kernel has threads; forking it is what users do all the same

def child(queue):
    mine = jshm.attach("X")
    jshm.publish("from_child", mine * 2, keep=True)
    queue.put(float(mine.sum()))

context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
print(queue.get(timeout=60))
process.join(60)
print(process.exitcode)
"""
    )
    assert printed.split() == ["499500.0", "0"]
    assert a.value("float(X.sum())") == 499500.0
    assert a.do("%shm_publish X --as again").startswith("again v1 ")
    b.do("%shm_attach from_child")
    assert b.value("from_child.sum()") == 999000.0
    b.do("%shm_detach from_child")
    holders = {h.pid for info in jshm.segments() for h in info.holders}
    assert holders == {a.pid}
    assert jshm.check() == []


def test_the_same_variable_name_in_two_notebooks(open_notebook):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.full(3, 1.0)\n%shm_publish X --as a/X")
    b.do("X = np.full(3, 2.0)\n%shm_publish X --as b/X")
    slip = b.fail("%shm_attach '*/X'")
    assert "would both be the variable X" in slip.evalue
    assert "replaced your float64 (3,)" in b.do("%shm_attach a/X")
    assert b.value("X.tolist()") == [1.0] * 3


def test_a_pair_that_is_replaced_together_is_never_mixed(open_notebook):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("jshm.publish({'X': np.zeros(100), 'y': np.zeros(10)})")
    b.client.execute(
        """
import time
jshm.publish('b_is_looking', np.zeros(1))
seen, deadline = set(), time.monotonic() + 100
while (1000.0,) not in seen and time.monotonic() < deadline:
    X, y = jshm.attach(['X', 'y'])
    seen.add(tuple({float(X.min()), float(X.max()), float(y.min()), float(y.max())}))
"""
    )
    a.do(
        """
jshm.attach('b_is_looking', timeout=100)
for i in range(1, 1001):
    jshm.publish({'X': np.full(100, float(i)), 'y': np.full(10, float(i))})
"""
    )
    seen = b.value("sorted(seen)")
    assert [1000.0] in seen
    assert len(seen) > 1, "the two never ran at the same time"
    assert all(len(values) == 1 for values in seen), "a mixed pair"


def test_a_server_s_names_outlive_the_kernel_and_a_run_s_say_so(open_notebook):
    a, run = open_notebook("a.ipynb"), open_notebook("run.ipynb", server=False)
    assert "lives until" not in a.do("X = np.ones(3)\n%shm_publish X")
    assert "lives until this run ends; add --keep" in run.do("Y = np.ones(3)\n%shm_publish Y")
    assert "lives until" not in run.do("Z = np.ones(3)\n%shm_publish Z --keep")
    said = (
        "ShortLifeWarning: lives until this run ends. "
        'Keep it longer: jshm.publish("P2", …, keep=True)'
    )
    assert a("jshm.publish('P', np.ones(3))").stderr == ""
    assert run("jshm.publish('Q', np.ones(3), keep=True)").stderr == ""
    assert run("jshm.publish('P2', np.ones(3))").stderr.count(said) == 1
    assert run("jshm.publish('P2', np.ones(3))").stderr == ""  # once


def test_segments_are_npy_files(open_notebook, store_dir):
    import numpy as np

    a = open_notebook("a.ipynb")
    a.do("X = np.asfortranarray(np.arange(12.0).reshape(3, 4))\n%shm_publish X")
    (path,) = glob.glob(f"{store_dir}/segments/*.npy")
    read = np.load(path, mmap_mode="r")
    assert read.flags.f_contiguous
    assert read.tolist() == np.arange(12.0).reshape(3, 4).tolist()
