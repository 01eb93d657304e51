"""``%%shm_once``: a cell that runs once on the machine."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import signal
import sqlite3

import pytest

from jshm.segment import file as segment

from ..support.processes import until

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
    # b must not be the first.
    until(lambda: any(map(segment.is_held, glob.glob(f"{store_dir}/locks/*"))))
    said = b.do(slow)
    waited = f"waiting for a.ipynb (pid {a.pid}), which is running this cell\nX, y attached in"
    assert said.startswith(waited)
    assert a.value("globals().get('runs', 0)") == 1
    assert b.value("globals().get('runs', 0)") == 0


KEY = "SELECT substr(once, 10, 64) FROM versions"
# What says of a version which cell made it, where jshm did not write it so.
MALFORMED = {
    "no JSON": "{",
    "a list": "[]",
    "a number": "5",
    "nothing in it": "{}",
    "no time": '{"key": "%s", "seconds": 1}',
    "time that is text": '{"key": "%s", "seconds": 1, "at": "\x1b[31m"}',
    "time of no calendar": '{"key": "%s", "seconds": 1, "at": 1e300}',
    "time of thousands of digits": '{"key": "%s", "seconds": 1, "at": ' + "9" * 900 + "}",
    "seconds that are none": '{"key": "%s", "seconds": NaN, "at": 1}',
    "seconds that are too many": '{"key": "%s", "seconds": 1e999, "at": 1}',
    "seconds that are a list": '{"key": "%s", "seconds": [], "at": 1}',
    "a key that is none": '{"key": ["%s"], "seconds": 1, "at": 1}',
    "deep": "[" * 5000 + "]" * 5000,
    "huge": '{"key": "%s", "more": "' + "x" * 5_000_000 + '"}',
    "half a character": '{"key": "\\ud800%s", "seconds": 1, "at": 1}',
    "NUL": '{"key": "%s", "seconds": 1, "at": 1}\0',
}


def test_a_damaged_note_of_a_run_is_ignored(a, store_dir):
    cell = "%%shm_once X --replace\nX = 1"
    assert "published" in a.do(cell)
    with contextlib.closing(sqlite3.connect(f"{store_dir}/registry.db")) as con:
        ((key,),) = con.execute(KEY).fetchall()
    assert len(key) == 64
    for what, once in MALFORMED.items():
        with contextlib.closing(sqlite3.connect(f"{store_dir}/registry.db")) as con, con:
            con.execute("UPDATE versions SET once = ?", (once.replace("%s", key),))
        said = a.do(cell)
        assert re.match(r"X published · 5 B · the cell took", said), (what, said)
        assert "attached in" in a.do(cell)


def test_a_failed_cell_publishes_nothing(a):
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


def test_a_cell_that_awaits_fails_in_one_line(a):
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
    until(told.exists)
    worker = int(told.read_text())
    try:
        assert os.listdir(f"{store_dir}/locks")
        a.kill()
        os.kill(worker, 0)
        assert b(cell, timeout=20).stdout.startswith("X published")
    finally:
        os.kill(worker, signal.SIGKILL)


def test_lock_files_of_ended_cells_are_removed(a, store_dir):
    a.do("%%shm_once P\nP = np.ones(3)")
    assert glob.glob(f"{store_dir}/locks/*")
    a.do("jshm.gc()")
    assert os.listdir(f"{store_dir}/locks") == []


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


BESIDES = '''%%shm_once model
from __future__ import annotations
import json, os.path as osp
from dataclasses import dataclass
try:
    import fast_json as parser
except ImportError as error:
    parser = json
n = 5
SEED, SHAPE = -1, 2
RATE = -0.5
SIZE = (3, "x")
total = 0
total += 1
twice = 1
twice = 2
reset = 1
def resets(): global reset; reset = 2
rows_ = []
def helper(x, y: Unknown = 3):
    """Doc."""
    return json.dumps(x + y)
def of_stale(x=n): return x
LIMIT: int = 9
half = lambda x, by=2: helper(x / by)
def decorate(f):
    told.append(f); return f
@decorate
def decorated(): pass
@dataclass
class Config:
    a: int = 1
    @property
    def twice(self): return self.a * 2
class Derived(Config): pass
class Loud:
    told.append("class")
class Hooked(Hook): pass
def counted(): return 1
counted = counted()
for i in range(3): temporary = i
del temporary
with open(os.devnull) as file: rows = [w for w in (1,) if (last := w)]
def sets(): global setting; setting = 1
sets()
%precision 3
taken = 1
def taken(): pass
model = {"w": helper(1)}
'''
HOOK = """
told = []
class Hook:
    def __init_subclass__(cls): told.append(cls)
"""


def test_other_names_that_the_cell_defines_are_bound_or_named(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do(HOOK)
    a.do(BESIDES)
    b.do(HOOK + "n = 77")
    said = b.do(BESIDES).splitlines()
    assert "model attached in" in said[0]
    bound, missing = said[1].removesuffix(" (--rerun runs the whole cell)").split(" · not run: ")
    assert bound == (
        "also defined: json, osp, dataclass, RATE, SIZE, resets, helper, LIMIT, half, decorate, Config, "
        "Derived, sets"
    )
    assert set(missing.split(", ")) == {
        "parser", "n", "of_stale", "decorated", "Loud", "Hooked", "counted", "i", "file", "rows", "last",
        "taken", "setting", "SEED", "SHAPE", "total", "twice", "reset", "rows_", "%precision",
    }  # fmt: skip
    assert b.value("(told, n, helper(1), Config(2).twice, osp.sep)") == [[], 77, "4", 4, "/"]
    assert b.value("(LIMIT, half(2))") == [9, "4.0"]
    names = "of_stale parser decorated Loud Hooked counted temporary file rows last setting taken i"
    assert b.value(f"[name for name in '{names}'.split() if name in globals()]") == []
    assert b.value("(Derived.__mro__[1] is Config, Config.__module__)") == [True, "__main__"]
    assert b.do("import inspect; print(inspect.getsource(helper))").startswith(
        "def helper(x, y: Unkn"
    )


def test_no_message_where_the_cell_has_run(a):
    a.do(HOOK)
    a.do(BESIDES)
    assert len(a.do(BESIDES).splitlines()) == 1


def test_a_value_of_the_user_s_is_not_replaced_by_a_definition(open_notebook, a):
    b = open_notebook("b.ipynb")
    cell = "%%shm_once m\nimport json\nfrom math import pi\ndef helper(): return 1\nm = 1"
    a.do(cell)
    b.do("json = 'mine'; helper = [3]; pi = 3")
    assert b.do(cell).splitlines()[1].startswith("not run: json, pi, helper (--rerun")
    assert b.value("(json, helper, pi)") == ["mine", [3], 3]
    b.do("RATE = 7.5")
    with_rate = cell.replace("m = 1", "RATE = 0.5\nm = 1")
    assert "published" in a.do(with_rate)
    assert "RATE" in b.do(with_rate)
    assert b.value("RATE") == 7.5
    assert "RATE" not in b.do("RATE = 0.5")
    assert "RATE" not in b.do(with_rate)
    assert "published" in a.do(cell)
    # What was a definition is one again, as if the cell had run.
    b.do("def helper(): return 2\nimport math; pi = math.pi; json = math")
    assert b.do(cell).splitlines()[1] == "also defined: json, helper"
    assert b.value("(helper(), json.__name__)") == [1, "json"]


def test_a_definition_that_fails_does_not_fail_the_attach(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("import sys, types; sys.modules['only_here'] = types.ModuleType('only_here'); Base = dict")
    cell = "%%shm_once m\nimport only_here, os.path\nclass A(Base): pass\nfrom math import *\nm = 1"
    a.do(cell)
    assert b.do(cell).splitlines()[1] == (
        "not run: only_here, A, from math import * (--rerun runs the whole cell)"
    )
    assert b.value("m") == 1
