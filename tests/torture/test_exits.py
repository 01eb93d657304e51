"""How a program ends: quietly, with its own exit code, and with nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import jshm

from ..support.processes import SHORT_LIFE_TOO

if TYPE_CHECKING:
    from pathlib import Path

    from jshm.store.local.store import LocalStore

BEGIN = """
import gc, os, sys, threading, time, weakref
import numpy as np, jshm
jshm.publish("X", np.arange(1000))
"""
ENDS = {
    "arrays in globals": "x = jshm.attach('X'); y = jshm.zeros(100); z = jshm.attach('X', mode='c')",
    "arrays in cycles": """
class Node: pass
for mode in 'rc':
    node = Node()
    node.me, node.x = node, jshm.attach('X', mode=mode)
node.again = jshm.zeros(10)
""",
    "a finalizer that uses the store": """
class Last:
    def __del__(self, use=(jshm.publish, jshm.attach), array=np.zeros(3), wrong=Exception):
        try:
            use[0]('last', array)
            use[1]('X')
        except wrong:  # what exactly depends on what of Python is left
            pass
last = Last()
""",
    "atexit before jshm's": """
import atexit
atexit.register(lambda: (jshm.publish('bye', np.zeros(3)), jshm.attach('X').sum(), jshm.release('bye')))
""",
    "daemon threads that go on": """
def forever():
    while True:
        try:
            jshm.publish('X', np.zeros(1000))
            jshm.attach('X')
        except jshm.JshmError:
            pass
for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.2)
""",
    "sys.exit in a thread": """
def leave():
    jshm.publish('T', np.zeros(10))
    sys.exit(3)
thread = threading.Thread(target=leave)
thread.start(); thread.join()
""",
    "a thread that outlives the main one": """
def late():
    time.sleep(0.2)
    jshm.publish('late', np.zeros(10))
    jshm.attach('X')
threading.Thread(target=late).start()
""",
    "collections inside of transactions": """
from jshm.store import default_store
raw = default_store().registry._connection().raw
raw.set_trace_callback(lambda sql: gc.collect())
class Node: pass
for i in range(3):
    node = Node()
    node.me, node.x, node.y = node, jshm.attach('X'), jshm.zeros(10)
    del node
    jshm.publish('X', np.arange(1000))
    jshm.segments()
raw.set_trace_callback(None)
gc.collect()
jshm.gc()
print(len(os.listdir(default_store().directory.segments)))
""",
    "in the middle of a transaction": """
from jshm.store.local.registry.statements import Transaction
Transaction.add_version = lambda *_: os._exit(0)
jshm.publish('X', np.zeros(1000))
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_quietly(store: LocalStore, tmp_path: Path, end: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(BEGIN + ENDS[end])
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", SHORT_LIFE_TOO, str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in ("", "1")
    jshm.gc()
    assert jshm.check() == []
    # The process was its own session: its names ended with it.
    assert os.listdir(store.directory.segments) == []


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
    create = lambda: interpreters.create("legacy")
    isolated = interpreters.create
except ImportError:
    import _xxsubinterpreters as interpreters
    create = lambda: interpreters.create(isolated=False)
    isolated = interpreters.create
code = '''
import warnings
warnings.simplefilter("ignore")
answer = "works"
try:
    import jshm, numpy as np
    jshm.publish("sub", np.arange(10))
    assert jshm.attach("sub")[3] == 3
    jshm.release("sub")
except ImportError as error:  # NumPy refuses
    answer = type(error).__name__
except Exception as error:
    answer = ("refused: " if isinstance(error, jshm.JshmError) else "") + repr(error)
print(answer, flush=True)
'''
"""


@pytest.mark.parametrize("kind", ["create", "isolated"])
@pytest.mark.parametrize("first", ["", "import jshm, numpy; jshm.publish('X', numpy.zeros(3))\n"])
def test_a_subinterpreter_is_refused_or_works(
    store: LocalStore, tmp_path: Path, kind: str, first: str
) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"{SUBINTERPRETER}{first}interpreters.run_string({kind}(), code)\n")
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("works", "ImportError") or done.stdout.startswith("refused: ")
    jshm.gc()
    assert jshm.check() == []
