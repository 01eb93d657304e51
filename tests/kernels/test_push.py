"""``%shm_push`` and ``%shm_accept``: offers from one live notebook to another."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from .test_group_option import GROUP, place  # noqa: F401 - a fixture


@pytest.fixture
def a(open_notebook):
    return open_notebook("train.ipynb")


@pytest.fixture
def b(open_notebook):
    return open_notebook("work/analysis.ipynb")


def rows(store_dir):
    con = sqlite3.connect(os.path.join(store_dir, "registry.db"))
    try:
        return con.execute("SELECT name FROM offers ORDER BY name").fetchall()
    finally:
        con.close()


def test_an_offer_is_shown_before_the_next_cell_and_accepted(a, b, store_dir):
    a.do("X = np.arange(1000.0)")
    done = a.do("%shm_push X --to analysis.ipynb")
    assert done == ("X v1 · float64 (1000,) · 8.0 kB · published → analysis.ipynb: %shm_accept X\n")
    said = b.do("print('the cell')\n%shm_accept")
    line = "train.ipynb offers X v1 · float64 (1000,) · 8.0 kB: %shm_accept X\n"
    assert said == f"{line}the cell\n{line}"
    assert b.do("1") == ""  # shown once
    assert b.value("'X' in globals()") is False
    assert ("X", "from\xa0train.ipynb") in b.complete("%shm_accept ")
    assert b.do("%shm_accept X").startswith("X ← v1 from train.ipynb, ")
    assert b.value("X.sum()") == 499500.0
    assert b.do("%shm_accept") == "there are no offers to this notebook\n"
    assert rows(store_dir) == []
    # Nothing changed: it is offered as it is. What changed is published first.
    assert "published" not in a.do("%shm_push X --to analysis.ipynb")
    assert "· published" in a.do("X[3] = np.nan\n%shm_push X --to analysis.ipynb")
    assert "X v2" in a.do("%shm_push X --to analysis.ipynb")
    assert b.do("1") == line.replace("v1", "v2")
    assert b.do("%shm_accept X --as mine --mode c\nmine[0] = 5").startswith("mine ← X v2 from ")
    a.do("def f():\n    return 3\n%shm_push f X --as exp/ --to analysis.ipynb")
    assert b.do("%shm_accept 'exp/*' --follow").count(" · followed") == 2
    a.do("X += 1\n%shm_publish X --as exp/X")
    assert "X → exp/X v2, train.ipynb" in b.do("1")
    # What is attached here is passed on as it is, without a version of ours.
    assert b.do("%shm_push X --as exp/X --to train.ipynb") == (
        "exp/X v2 · float64 (1000,) · 8.0 kB → train.ipynb: %shm_accept exp/X\n"
    )
    assert "analysis.ipynb offers exp/X v2" in a.do("%shm_accept --decline exp/X")
    assert a.do("%shm_accept") == "there are no offers to this notebook\n"


def test_auto_accept_binds_at_once(a, b):
    a.do("X = np.ones(3); y = np.ones(4)\n%shm_push X y --to analysis.ipynb")
    b.do("y = 'mine'")
    said = b.do("%shm_accept --auto nobody.ipynb")
    assert said.startswith("offers of nobody.ipynb are bound before the next cell")
    assert b.value("'X' in globals()") is False
    said = b.do("%shm_accept --auto train.ipynb").splitlines()
    assert said[1].startswith("X ← v1 from train.ipynb, ")
    assert said[2].endswith("%shm_accept y --as … (y is your own variable)")
    assert b.value("(X.sum(), y)") == [3.0, "mine"]
    a.do("X += 1\n%shm_push X --to analysis.ipynb")
    assert b.do("print(X.sum())").endswith("6.0\n")
    a.do("X += 1\n%shm_push X --as 1st/2nd --to analysis.ipynb")
    assert "(not bound: '2nd' cannot be a variable" in b.do("1")
    b.do("%shm_attach X --follow")
    a.do("%shm_push X --to analysis.ipynb")
    assert b.do("1").splitlines()[1] == "train.ipynb offers X, which X follows"
    assert "shown before the next cell" in b.do("%shm_accept --auto off")
    a.do("X += 1\n%shm_push X --to analysis.ipynb")
    assert "train.ipynb offers X v4" in b.do("1")


def test_offers_wait_for_a_restart_and_go_with_their_name_or_their_kernel(
    a, open_notebook, store_dir
):
    b = open_notebook("work/analysis.ipynb")
    a.do("X = np.ones(3); y = np.ones(4)\n%shm_push X y --to analysis.ipynb")
    b.restart()
    assert "train.ipynb offers X v1" in b.do("%load_ext jshm\n%shm_accept")
    b.kill()
    a.do("jshm.gc()")
    assert rows(store_dir) == [("X",), ("y",)]  # its server could restart it
    a.do("%shm_release X")
    assert rows(store_dir) == [("y",)]
    a.do("%shm_publish X")
    b.start()
    said = b.do("%load_ext jshm\n%shm_accept")
    assert "offers y v1" in said
    assert "offers X" not in said
    connection_file = b.manager.connection_file
    b.close()
    assert not os.path.exists(connection_file)
    a.do("jshm.gc()")
    assert rows(store_dir) == []


def test_recipients_of_an_offer(a, b, open_notebook, store_dir):
    c = open_notebook("more/analysis.ipynb", bare=True)
    a.do("X = np.ones(3)\n%shm_publish X")
    ids = {"b": b.kernel_id, "c": c.kernel_id}
    slip = a.fail("%shm_push X --to analysis.ipynb").evalue
    assert slip.startswith("--to analysis.ipynb may be analysis.ipynb (")
    assert all(kernel_id in slip for kernel_id in ids.values())
    assert "→ analysis.ipynb" in a.do("%shm_push X --to work/anal")
    late = a.do(f"%shm_push X --to {ids['c'][:8]}")
    assert late.endswith("\nanalysis.ipynb sees it as soon as it runs %load_ext jshm\n")
    assert "train.ipynb offers X" in c.do("%load_ext jshm\n%shm_accept")
    for line, said in (
        ("%shm_push X", "to which notebook?"),
        ("%shm_push --to analysis.ipynb", "which variable?"),
        ("%shm_push X --to train.ipynb", "--to train.ipynb is this notebook"),
        ("%shm_push X --to analyses.ipynb", "did you mean analysis.ipynb?"),
        ("%shm_push X --to zzz", "running: analysis.ipynb"),
        (f"%shm_push Xx --to {ids['b']}", "did you mean X?"),
        (f"%shm_push X --as '../x' --to {ids['b']}", "'../x' is not a valid name"),
        ("%shm_accept Xx", "Xx is not offered to this notebook"),
        ("%shm_accept --decline", "which offer?"),
        ("%shm_accept --auto off X", "takes a notebook and no names"),
    ):
        slip = a.fail(line)
        assert (slip.ename, said in slip.evalue, "\n" in slip.evalue) == (
            "UsageError",
            True,
            False,
        ), slip
    offered = a.complete("%shm_push X --to ")
    assert {text for text, _ in offered} == set(ids.values())
    c.kill()
    assert [text for text, _ in a.complete("%shm_push X --to ")] == ["analysis.ipynb", ids["b"]]
    assert ("--to", "option") in a.complete("%shm_push X --t")
    assert ("off", "show\xa0only") in a.complete("%shm_accept --auto ")
    assert "→ analysis.ipynb" in a.do("%shm_push X --to analysis.ipynb")


def test_offers_in_a_damaged_registry(a, b, store_dir):
    a.do("X = np.ones(3)\n%shm_push X --to analysis.ipynb")
    con = sqlite3.connect(os.path.join(store_dir, "registry.db"))
    con.execute("UPDATE offers SET sender = replace(sender, 'train', 'a\\u001b[31m\\n')")
    con.commit()
    said = b.do("1")
    assert said.count("\n") == 1
    assert "\x1b" not in said
    con.execute("UPDATE offers SET sender = 3")
    con.commit()
    assert b.do("print(1)") == "1\n"  # no cell's business
    assert "the registry is damaged" in b.fail("%shm_accept").evalue
    con.close()
    assert b.value("[p.fixed for p in jshm.check(fix=True)]") == [True]
    assert b.do("%shm_accept") == "there are no offers to this notebook\n"


def test_within_a_group(place, a, b):  # noqa: F811
    a.do("X = np.ones(3); f = {'x': X}")
    b.do(f"%shm_list --group {GROUP}\n%shm_accept --auto")
    line = a.do(f"%shm_push X f --to analysis.ipynb --group {GROUP}")
    assert line.endswith(f"%shm_accept f --group {GROUP}\n")
    said = b.do("1").splitlines()
    assert said[0].startswith("X ← v1 from train.ipynb")
    assert said[1].startswith("f ← v1 from train.ipynb")  # it is the same user's
    assert b.value("(X.sum(), f['x'].sum())") == [3.0, 3.0]


def test_a_terminal_can_push_and_is_offered_nothing(b, store_dir):
    program = """
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance()
shell.run_line_magic("load_ext", "jshm")
shell.user_ns["X"] = [1, 2]
shell.run_line_magic("shm_push", "X --to analysis.ipynb")
shell.run_line_magic("shm_accept", "")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "X v1 · list of 2 · " in done.stdout
    assert "only kernels of notebooks get offers" in done.stdout
    assert "lives until this IPython ends" in done.stdout
    assert b.do("1") == ""  # it has ended, and its name with it
    assert rows(store_dir) == []


def test_equal_and_changed_values(a, b):
    a.do(
        """
S = np.arange(24.0).reshape(4, 6); F = np.asfortranarray(S); T = S[::2, ::3]; nan = S * np.nan
zero = np.zeros(3); e = np.zeros(0); s = np.array(3.0); o = np.array([1, 'a'], object)
%shm_publish S F T nan zero e s o
"""
    )
    names = "S F T nan zero e s"
    assert "published" not in a.do(f"%shm_push {names} --to analysis.ipynb")
    a.do("S[3, 5] = 0; F[0, 0] = 1; T = T.copy(); zero[0] = -0.0; e = e.astype('f4'); s = s + 1")
    said = a.do(f"%shm_push {names} --to analysis.ipynb").splitlines()
    assert [line.split()[0] for line in said if "· published" in line] == [*"SF", "zero", "e", "s"]
    b.do("%shm_attach o nan S")
    said = b.do("%shm_push o nan S --to train.ipynb")
    assert "published" not in said
