"""Names that workers publish belong to the program that started them, however the workers end."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ...support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..notebook import Notebook
    from .outside import Outside

MODULE = """\
import concurrent.futures, multiprocessing, os, signal, sys
import numpy as np

def publish(name, value=1.0, end="", **how):
    import jshm
    jshm.publish(name, np.full(3, value), **how)
    if end:
        os.kill(os.getpid(), getattr(signal, end))

def nested(method, name):
    with executor(method) as inner:
        inner.submit(publish, name).result()

def executor(method, workers=1):
    context = multiprocessing.get_context(method)
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)

def process(method, *args, **how):
    made = multiprocessing.get_context(method).Process(target=publish, args=args, **how)
    made.start()
    made.join(60)
    return made.exitcode

def pool(method, *args):
    with multiprocessing.get_context(method).Pool(1) as workers:
        workers.apply(publish, args)
    # The end of the block has terminated the workers: SIGTERM.

def loky(method, *args):
    import joblib
    joblib.Parallel(2)(joblib.delayed(publish)(name, 1.0) for name in args)

def outlive(method, fifo):
    inner = multiprocessing.get_context(method).Process(target=late, args=(fifo,))
    inner.start()
    inner.join()

def late(fifo):
    with open(fifo) as told:
        told.read()
    publish("late")

def rows():
    import jshm
    return {info.name: (info.publisher, info.mine, info.lifetime) for info in jshm.segments()}
"""
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, str]:
    """An environment in which workers of scripts and kernels can import their functions."""
    (tmp_path / "tasks.py").write_text(MODULE)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def script(
    store_dir: str, tmp_path: Path, modules: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> Callable[..., Child]:
    def start(name: str = "fit.py", **variables: str) -> Child:
        child = Child(tmp_path, name, env={**modules, **variables})
        child.run("import tasks")
        return child

    return start


@pytest.mark.parametrize("method", METHODS)
def test_names_of_workers_live_as_long_as_their_script(
    outside: Outside, script: Callable[..., Child], method: str
) -> None:
    with script() as fit:
        fit.run("import jshm; jshm.segments()")
        fit.run(f"tasks.pool({method!r}, 'of_pool')")
        assert fit.run(f"tasks.process({method!r}, 'of_process')") == 0
        assert fit.run(f"tasks.process({method!r}, 'of_killed', 1.0, 'SIGKILL')") == -9
        fit.run(f"with tasks.executor({method!r}) as made:\n made.submit(tasks.nested, {method!r},"
                " 'of_nested').result()")  # fmt: skip
        outside.use()
        names = {"of_pool", "of_process", "of_killed", "of_nested"}
        assert set(outside.names()) == names
        # A name that only the script itself has attached ends with it, too.
        assert fit.run("held = jshm.attach('of_pool'); held.sum()") == 3
        assert fit.run("tasks.rows()") == {name: ["fit.py", True, "run"] for name in names}
        fit.exit()
    assert outside.segments() == []
    assert outside.names() == {}


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_script_that_does_not_use_jshm(
    outside: Outside, script: Callable[..., Child], method: str
) -> None:
    with script() as fit:
        fit.run(f"tasks.pool({method!r}, 'X')")
        fit.run(f"with tasks.executor({method!r}) as made:\n made.submit(tasks.nested, {method!r},"
                " 'Y').result()")  # fmt: skip
        outside.use()
        assert set(outside.names()) == {"X", "Y"}
        fit.exit()
    outside.use()
    assert outside.segments() == []


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_killed_script(
    outside: Outside, script: Callable[..., Child], method: str
) -> None:
    with script() as fit:
        fit.run(f"import jshm; jshm.segments(); tasks.pool({method!r}, 'X')")
        fit.run(f"tasks.process({method!r}, 'kept', kwargs={{'keep': True}})")
        fit.kill()
    outside.use()
    assert outside.names() == {"kept": [1, 1, 1]}


def test_names_of_joblib_s_workers(outside: Outside, script: Callable[..., Child]) -> None:
    """loky's workers do not load the script, and end after some idle seconds."""
    pytest.importorskip("joblib")
    with script() as fit:
        fit.run("tasks.loky('loky', 'X', 'Y')")
        fit.run("from joblib.externals.loky import get_reusable_executor")
        fit.run("get_reusable_executor().shutdown(wait=True)")
        outside.use()
        assert set(outside.names()) == {"X", "Y"}
        assert fit.run("tasks.rows()") == {name: ["fit.py", True, "run"] for name in "XY"}
        fit.exit()
    assert outside.segments() == []


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_one_script_are_one_owner(
    outside: Outside, script: Callable[..., Child], method: str
) -> None:
    with script() as fit, script("eda.py") as eda:
        for value in (1.0, 2.0):
            assert fit.run(f"tasks.process({method!r}, 'X', {value})") == 0
        fit.run("tasks.publish('X', 3.0)")
        assert outside.versions() == {"X": (3, [3, 3, 3])}
        assert fit.run(f"tasks.process({method!r}, 'X', 4.0)") == 0
        assert eda.run(f"tasks.process({method!r}, 'X', 5.0)") == 1
        assert outside.versions() == {"X": (4, [4, 4, 4])}
        fit.run("import jshm; jshm.release('X')")
        assert outside.names() == {}


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_program_without_a_file(
    outside: Outside, modules: dict[str, str], method: str
) -> None:
    """``python -c`` or a terminal: two of them are two owners."""
    code = f"""
import sys, tasks, jshm
assert tasks.process({method!r}, "X") == 0
assert tasks.process({method!r}, "X", 2.0) == 0
jshm.publish("X", jshm.attach("X") + 1)
print("published", flush=True)
sys.stdin.read()
"""
    words, env = [sys.executable, "-c", code], {**os.environ, **modules}
    with subprocess.Popen(
        words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:  # fmt: skip
        assert first.stdout is not None
        assert first.stdout.readline()
        assert outside.versions() == {"X": (3, [3, 3, 3])}
        second = subprocess.run(words, env=env, input=b"", capture_output=True, check=False)
        assert b"NotOwnerError" in second.stderr
        assert f"published by python {first.pid}".encode() in second.stderr
        first.communicate()
    outside.use()
    assert outside.names() == {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bare", [False, True], ids=["loaded", "bare"])
def test_workers_of_a_kernel_are_their_notebook(
    outside: Outside,
    open_notebook: Callable[..., Notebook],
    modules: dict[str, str],
    method: str,
    bare: bool,
) -> None:
    """Also if the notebook has not loaded jshm when they publish."""
    notebook = open_notebook("a.ipynb", bare=bare, **modules)
    notebook.do("import tasks")
    assert notebook.value(f"tasks.process({method!r}, 'X')") == 0
    assert notebook.value("tasks.rows()") == {"X": ["a.ipynb", True, "server"]}
    notebook.do("%load_ext jshm\nimport numpy as np; X = np.zeros(3)\n%shm_publish X")
    assert notebook.value(f"tasks.process({method!r}, 'X', 2.0)") == 0
    notebook.kill()
    outside.use()
    assert outside.versions() == {"X": (3, [2, 2, 2])}
    notebook.restart()
    notebook.do("%load_ext jshm\n%shm_release X")


def test_a_worker_outlives_its_parent(outside: Outside, script: Callable[..., Child]) -> None:
    """Its names live as long as the worker."""
    with script() as fit:
        pid = fit.run("""
import os, multiprocessing, numpy as np
def stay(ready, end):
    tasks.publish("X")
    os.write(ready, b"1")
    os.read(end, 1)
    os._exit(0)
ready, told = os.pipe()
reading, writing = os.pipe()
worker = multiprocessing.get_context("fork").Process(target=stay, args=(told, reading))
worker.start()
os.read(ready, 1)
worker.pid
""")
        end = os.open(f"/proc/{pid}/fd/{fit.run('writing')}", os.O_WRONLY)
        gone = os.pidfd_open(pid)
        fit.kill()
    try:
        outside.use()
        assert outside.names() == {"X": [1, 1, 1]}
        os.write(end, b"1")
        assert wait_for(gone)
        outside.use()
        assert outside.names() == {}
    finally:
        os.close(end)
        os.close(gone)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_an_orphan_belong_to_it(
    outside: Outside, script: Callable[..., Child], tmp_path: Path, method: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with script() as fit:
        orphan = fit.run(f"""
import multiprocessing
made = multiprocessing.get_context({method!r}).Process(
    target=tasks.outlive, args=({method!r}, {str(fifo)!r})
)
made.start()
made.pid
""")
        gone = os.pidfd_open(orphan)
        told = os.open(fifo, os.O_WRONLY)  # when the inner worker reads
        fit.kill()
    os.close(told)
    assert wait_for(gone)
    os.close(gone)
    assert outside.names() == {"late": [1, 1, 1]}
    outside.use()
    assert outside.names() == {}


def test_a_forked_child_that_does_not_use_jshm_holds_its_data(
    outside: Outside, script: Callable[..., Child]
) -> None:
    """The child logs nothing; the program that forked it checks before it ends."""
    with script() as fit:
        child = fit.run("""
import os
tasks.publish("held"); tasks.publish("X"); tasks.publish("gone")
import jshm
held = jshm.attach("held")
reading, writing = os.pipe()
ready, told = os.pipe()
pid = os.fork()
if not pid:
    os.close(0)
    os.close(writing)
    os.write(told, b"1")
    os.read(reading, 1)
    os._exit(0)
later = jshm.attach("X")
os.read(ready, 1)
pid
""")
        end = os.open(f"/proc/{fit.pid}/fd/{fit.run('writing')}", os.O_WRONLY)
        gone = os.pidfd_open(child)
        fit.exit()
    try:
        assert outside.names() == {"held": [1, 1, 1]}
        outside.use()
        assert outside.names() == {"held": [1, 1, 1]}
    finally:
        os.close(end)
    assert wait_for(gone)
    os.close(gone)
    outside.use()
    assert outside.names() == {}


def wait_for(process: int) -> bool:
    """Wait until a process has ended, by its descriptor."""
    import select

    return bool(select.select([process], [], [], 60)[0])


WARNS = 'lives until this program ends. Keep it longer: jshm.publish("X", …, keep=True)'


@pytest.mark.parametrize(
    ("code", "times"),
    [
        ("tasks.publish('X'); tasks.publish('X'); tasks.publish('Y')", 1),
        ("tasks.publish('X', keep=True); tasks.publish('X')", 0),
        ("tasks.pool('fork', 'X'); tasks.pool('spawn', 'Y')", 0),
    ],
    ids=["script", "kept", "workers"],
)
def test_a_script_is_warned_once_that_its_names_end_with_it(
    store_dir: str, modules: dict[str, str], code: str, times: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import tasks\n{code}"],
        env={**os.environ, **modules, "PYTHONWARNINGS": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.count(WARNS) == times, done.stderr
    assert done.stderr.count("Warning") == times
    if times:
        assert "tasks.py:6: ShortLifeWarning" in done.stderr
