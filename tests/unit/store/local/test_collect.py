"""Garbage collection after processes died: it removes everything that nobody needs, and nothing else."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.segment.array_layout import read_layout
from jshm.segment.trailer import pack_trailer, read_trailer
from jshm.store.local import rebuild

from ....support.processes import Child, until

if TYPE_CHECKING:
    from jshm.store.local.directory import Directory
    from jshm.store.local.store import LocalStore

PRELUDE = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import jshm
from jshm.store import default_store
"""
# To jshm this looks like a server's kernel: an ipykernel runs, and its parent lives.
KERNEL = """
import types
class IPKernelApp:
    abs_connection_file = "/run/user/0/" + {connection!r}
    initialized = classmethod(lambda cls: True)
    instance = classmethod(lambda cls: cls)
sys.modules["ipykernel.kernelapp"] = types.SimpleNamespace(IPKernelApp=IPKernelApp)
"""
SERVER_S = "kernel-1f0c2222-9d1b-4c5e-8a7f-0123456789ab.json"


def start(tmp_path: Path, script: str = "train.py", **options: object) -> Child:
    child = Child(tmp_path, script, **options)  # type: ignore[arg-type]
    child.run(PRELUDE)
    return child


def files(store: LocalStore) -> list[str]:
    return sorted(os.listdir(store.directory.segments))


OPERATIONS = {
    "publish": lambda: jshm.publish("other", np.zeros(3)),
    "list": jshm.segments,
    "gc": jshm.gc,
    "allocate": lambda: jshm.empty(3),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_next_operation_of_any_process_collects(
    store: LocalStore, tmp_path: Path, operation: str
) -> None:
    with start(tmp_path) as train:
        train.run(
            "jshm.publish({'X': np.ones(1000), 'kept': np.ones(10)})\n"
            "jshm.publish('kept', np.ones(10), keep=True)\n"
            "born = jshm.zeros(1000)"
        )
        assert len(files(store)) == 3
        train.kill()
    assert len(files(store)) == 3
    got = OPERATIONS[operation]()
    assert [name for name in store.names() if name != "other"] == ["kept"]
    assert len(files(store)) == 1 + (operation in ("publish", "allocate"))
    assert got is not None
    np.testing.assert_array_equal(jshm.attach("kept"), np.ones(10))
    assert jshm.check() == []
    assert len(os.listdir(store.directory.leases)) <= 2  # this process's lease and log
    del got
    gc.collect()


def test_an_ordinary_end_leaves_nothing_to_collect(store: LocalStore, tmp_path: Path) -> None:
    with start(tmp_path) as train:
        train.run("jshm.publish('X', np.ones(1000)); jshm.publish('K', np.ones(9), keep=True)")
        train.run("born = jshm.zeros(1000); x = jshm.attach('X')")
        train.run("del born, x")
        train.exit()
    assert store.names() == ["K"]
    assert len(files(store)) == 1
    assert os.listdir(store.directory.leases) == []


def test_held_data_stays_until_its_holder_lets_go(store: LocalStore, tmp_path: Path) -> None:
    with start(tmp_path) as train, start(tmp_path, "eda.py") as eda:
        train.run("jshm.publish('X', np.arange(1000.0))")
        eda.run("x = jshm.attach('X')")
        train.kill()
        jshm.gc()
        assert store.names() == ["X"]
        assert not jshm.info("X").publisher_alive
        assert jshm.attach("X")[-1] == 999
        gc.collect()
        jshm.gc()
        assert eda.run("float(x.sum())") == float(np.arange(1000.0).sum())
        eda.kill()
    jshm.gc()
    assert store.names() == []
    assert files(store) == []


def test_a_forked_child_holds_what_it_inherited(store: LocalStore, tmp_path: Path) -> None:
    with start(tmp_path) as train:
        survivor = train.run("""
jshm.publish('X', np.arange(1000.0))
x, born = jshm.attach('X'), jshm.full(1000, 7.0)
wake, waking = os.pipe()
told, telling = os.pipe()
pid = os.fork()
if not pid:
    os.read(wake, 1)
    os._exit(0 if x.sum() == np.arange(1000.0).sum() and born.sum() == 7000 else 1)
pid
""")
        try:
            train.kill()
            jshm.gc()
            assert len(files(store)) == 2
            assert store.names() == ["X"]
            np.testing.assert_array_equal(jshm.attach("X"), np.arange(1000.0))
        finally:
            os.kill(survivor, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{survivor}") or _is_zombie(survivor))
    gc.collect()
    jshm.gc()
    assert files(store) == []


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_forked_child_is_a_separate_process(store: LocalStore, tmp_path: Path) -> None:
    """It publishes and attaches under its own lease, and its end does not affect its parent."""
    with start(tmp_path) as train:
        status = train.run("""
jshm.publish('X', np.ones(1000))
x = jshm.attach('X')
pid = os.fork()
if not pid:
    try:
        assert jshm.attach('X').sum() == 1000
        jshm.publish('mine', np.ones(10))
        jshm.publish('kept', x, keep=True)
        assert {h.pid for h in jshm.info('X').holders} == {os.getpid(), os.getppid()}
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
os.waitpid(pid, 0)[1]
""")
        assert status == 0
        jshm.gc()
        assert store.names() == ["X", "kept"]
        assert [h.pid for h in jshm.info("X").holders] == [train.pid]
        assert train.run("jshm.publish('X', np.zeros(3)).version") == 2
    jshm.gc()


@pytest.mark.parametrize("how", ["publish", "allocate"])
def test_unfinished_segments_are_not_collected(store: LocalStore, tmp_path: Path, how: str) -> None:
    """A publisher that is slow or stopped is not dead."""
    call = "jshm.publish('X', np.arange(1000.0), keep=True)"
    if how == "allocate":
        call = "x = jshm.empty(1000); x[:] = np.arange(1000.0); jshm.publish('X', x, keep=True)"
    with start(tmp_path) as train:
        train.run("""
from jshm.segment import file as segment
from jshm.store.local.registry.statements import Transaction
jshm.segments()
begin = Transaction.__enter__
def wait(self):
    if any(name for name in os.listdir(default_store().directory.segments)):
        os.kill(os.getpid(), signal.SIGSTOP)
    return begin(self)
Transaction.__enter__ = wait
""")
        train.send(call)
        until(lambda: files(store))
        until(lambda: _state(train.pid) == "T")
        for _ in range(3):
            jshm.gc()
        assert len(files(store)) == 1
        assert jshm.check() == []
        while not store.names():
            if _state(train.pid) == "T":
                train.signal(signal.SIGCONT)
            time.sleep(0.002)
        until(lambda: _state(train.pid) != "T" or train.signal(signal.SIGCONT))
        train.receive()
    np.testing.assert_array_equal(jshm.attach("X"), np.arange(1000.0))


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()


def test_killed_in_the_middle_of_a_copy(store: LocalStore, tmp_path: Path) -> None:
    with start(tmp_path) as train:
        train.run("jshm.publish('X', np.ones(10), keep=True)")
        train.send(
            "import jshm.segment.file as s; s._WRITE_CHUNK = 4096; write = os.pwrite\n"
            "def slow(*args):\n"
            "    import time; time.sleep(0.01); return write(*args)\n"
            "os.pwrite = slow\n"
            "jshm.publish('X', np.zeros(1 << 20), keep=True)"
        )
        until(lambda: len(files(store)) == 2)
        jshm.gc()
        assert len(files(store)) == 2
        train.kill()
    jshm.gc()
    assert len(files(store)) == 1
    np.testing.assert_array_equal(jshm.attach("X"), np.ones(10))


def test_a_publish_during_a_collection_does_not_make_it_read_all_segments(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listed file that had no row has one now: the registry has lost nothing."""
    store.publish({"X": np.zeros(3)})
    listed = [store.directory.files()[store.info("X").segment]]
    looked: list[list[str]] = []
    real = rebuild.find_lost

    def find_lost(_: object, directory: Directory) -> list[str]:
        looked.append(real(listed, directory))
        return looked[-1]

    monkeypatch.setattr(rebuild, "find_lost", find_lost)
    monkeypatch.setattr(rebuild, "_add", lambda *_: pytest.fail("it reads every segment"))
    store.gc()
    assert looked == [listed]


def test_unregistered_files_are_removed(store: LocalStore) -> None:
    jshm.publish("X", np.ones(3))
    kept = ["no extension", "0123456789abcdef.jshm", "ünïcode.npy", "thesis.npy"]
    for name in ("0123456789abcdef.npy", *kept):
        with open(os.path.join(store.directory.segments, name), "wb") as file:
            file.write(b"garbage")
    assert jshm.gc() == len(b"garbage")
    left = set(files(store))
    assert left >= set(kept), "their names are not ours, or a newer jshm may have written them"
    assert len(left) == len(kept) + 1
    for name in kept:
        os.unlink(os.path.join(store.directory.segments, name))


def test_more_than_one_batch(store: LocalStore) -> None:
    for i in range(450):
        with open(os.path.join(store.directory.segments, f"{i:016x}.npy"), "wb") as file:
            file.write(b"x")
    jshm.gc()
    assert files(store) == []


def test_a_reader_without_jshm_keeps_its_pages(store: LocalStore, tmp_path: Path) -> None:
    """`np.load` takes no lock: the name is removed, and the reader's pages stay."""
    with start(tmp_path) as train:
        train.run("jshm.publish('X', np.arange(1000.0))")
        reader = np.load(store.location("X"), mmap_mode="r")
        train.kill()
    jshm.gc()
    assert files(store) == []
    assert reader.sum() == np.arange(1000.0).sum()


# -- sessions --------------------------------------------------------------------------------------


class Server:
    """A process that starts kernels and can be killed."""

    def __init__(self, tmp_path: Path) -> None:
        # A kernel must be a descendant of the process in JPY_PARENT_PID.
        self.child = Child(tmp_path, "server.py")
        self.pid = self.child.pid
        self.child.run(
            "import json, os, subprocess, sys\n"
            f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
            "from pathlib import Path\n"
            "from tests.support.processes import Child\n"
            f"path, kernels = Path({str(tmp_path)!r}), {{}}\n"
            f"prelude, kernel = {PRELUDE!r}, {KERNEL!r}\n"
            "def start(name, connection):\n"
            "    env = {'JPY_PARENT_PID': str(os.getpid()),\n"
            "           'JPY_SESSION_NAME': '/home/train.ipynb'}\n"
            "    kernels[name] = child = Child(path, name + '.py', env=env)\n"
            "    child.run(prelude + kernel.format(connection=connection))\n"
        )

    def start(self, name: str, connection: str = SERVER_S) -> None:
        self.child.run(f"start({name!r}, {connection!r})")

    def run(self, name: str, code: str) -> object:
        return self.child.run(f"kernels[{name!r}].run({code!r})")

    def kill(self, name: str) -> None:
        self.child.run(f"kernels.pop({name!r}).kill()")

    def die(self) -> None:
        self.child.run("for child in kernels.values(): child.kill()")
        self.child.kill()


def test_names_live_as_long_as_their_server(store: LocalStore, tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.child:
        server.start("a")
        server.run("a", "jshm.publish({'X': np.ones(3), 'kept': np.ones(3)})")
        server.run("a", "jshm.publish('kept', np.ones(3), keep=True)")
        server.run("a", "born = jshm.zeros(100)")
        assert {i.name: i.lifetime for i in jshm.segments()} == {"X": "server", "kept": "kept"}
        server.kill("a")
        jshm.gc()
        assert store.names() == ["X", "kept"]  # the kernel is dead, but its session lives
        assert len(files(store)) == 2  # the array without a name was removed
        assert jshm.info("X").only_copy
        # A restarted kernel of the same notebook owns the name.
        server.start("b")
        assert server.run("b", "jshm.publish('X', np.zeros(3)).version") == 2
        server.kill("b")
        jshm.gc()
        assert store.names() == ["X", "kept"]
        server.die()
    jshm.gc()
    assert store.names() == ["kept"]
    assert len(files(store)) == 1


def test_names_of_a_run_live_until_it_ends(store: LocalStore, tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.child:
        server.start("a", "tmpxyz.json")
        server.run("a", "jshm.publish('X', np.ones(3))")
        assert jshm.info("X").lifetime == "run"
        server.kill("a")
        jshm.gc()
        assert store.names() == ["X"]
        server.die()
    jshm.gc()
    assert store.names() == []


def test_a_held_name_outlives_its_server(store: LocalStore, tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.child, start(tmp_path, "eda.py") as eda:
        server.start("a")
        server.run("a", "jshm.publish('X', np.ones(3))")
        eda.run("x = jshm.attach('X')")
        server.die()
        jshm.gc()
        assert store.names() == ["X"]
        eda.run("del x")
        eda.run("jshm.gc()")
        assert store.names() == []


def test_a_script_in_a_notebook_is_not_the_notebook(store: LocalStore, tmp_path: Path) -> None:
    """``!python script.py`` inherits the kernel's environment and ends at once."""
    env = {"JPY_PARENT_PID": str(os.getpid()), "JPY_SESSION_NAME": "/home/train.ipynb"}
    with start(tmp_path, "script.py", env=env) as script:
        script.run("jshm.publish('X', np.ones(3))")
        assert jshm.info("X").publisher == "script.py"
        assert jshm.info("X").lifetime == "process"
        script.kill()
    jshm.gc()
    assert store.names() == []


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode != 0,
    reason="needs the right to make pid namespaces",
)
def test_names_of_a_server_in_another_pid_namespace_stay(store: LocalStore, tmp_path: Path) -> None:
    """The server runs in another pid namespace, so nobody here can tell whether it is dead."""
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    inner = """
pid = os.fork()
if not pid:
    os.environ["JPY_PARENT_PID"] = str(os.getppid())
    exec(kernel)
    jshm.publish("X", np.ones(3))
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)[1]
"""
    with start(tmp_path, prefix=prefix) as container:
        container.run("jshm.publish('process', np.ones(3))")
        code = f"kernel = {KERNEL.format(connection=SERVER_S)!r}\n" + inner
        assert container.run(code) == signal.SIGKILL
        assert {i.name: i.lifetime for i in jshm.segments()} == {
            "X": "server", "process": "process",
        }  # fmt: skip
        container.kill()
    until(lambda: jshm.gc() or "process" not in store.names())
    assert store.names() == ["X"]


HOLDING = """
import numpy as np, jshm
X = np.ones(1000)
jshm.publish("mine", X, move=True)
jshm.publish("kept", X + 1, keep=True)
born = jshm.zeros(1000)
jshm.publish("born", born)
jshm.publish("others", X + 2)
also = [jshm.attach("others"), jshm.attach("kept"), jshm.empty(1000)]
"""


def test_a_program_that_ends_frees_what_only_it_holds(store: LocalStore, tmp_path: Path) -> None:
    program = tmp_path / "ends.py"
    program.write_text(HOLDING + "input()")
    process = subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE)
    until(lambda: len(store.names()) == 4)
    held = jshm.attach("others")
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
    # No operation of jshm comes before this look at the files.
    assert len(files(store)) == 2
    assert sorted(store.names()) == ["kept", "others"]
    assert held.sum() == 3000
    jshm.release(["kept", "others"], force=True)


def test_a_program_ends_silently_after_its_directory_was_removed(
    store_dir: str, tmp_path: Path
) -> None:
    program = tmp_path / "ends.py"
    program.write_text(HOLDING + f"import shutil; shutil.rmtree({store_dir!r})")
    done = subprocess.run([sys.executable, program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not os.path.exists(store_dir)


def test_holds_are_logged_correctly_with_many_threads(store: LocalStore, tmp_path: Path) -> None:
    """Threads attach and let go of the same names; the log is correct in the end."""
    with start(tmp_path) as train:
        failed = train.run("""
import sys, threading, traceback
sys.setswitchinterval(1e-6)
names = [f"x{i}" for i in range(20)]
jshm.publish({name: np.ones(3) for name in names})
failed = []
def work(k):
    try:
        for i in range(150):
            x = jshm.attach(names[(i * (k + 1)) % 20])
            y = jshm.attach(names[i % 20], "c")
            del x
            default_store().flush()
    except BaseException:
        failed.append(traceback.format_exc())
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for t in threads: t.start()
for t in threads: t.join()
kept = jshm.attach(names[3])
del threads
default_store().flush()
failed
""")
        assert not failed, failed[0]
        assert [i.name for i in jshm.segments() if i.in_use] == ["x3"]
    jshm.gc()


def test_segments_of_a_newer_jshm_are_not_garbage(store: LocalStore) -> None:
    jshm.publish("X", np.arange(5))
    path = Path(store.location("X"))
    spare = path.with_name("00000000000000ff.npy")
    spare.write_bytes(path.read_bytes().replace(b'{"jshm":1,', b'{"jshm":9,'))
    jshm.gc()
    assert not spare.exists(), "the checksum of its record is wrong, so it was not published"
    with open(path, "rb") as file:
        layout = read_layout(file.fileno())
        (content,) = read_trailer(file.fileno(), layout.trailer_offset)
    spare.write_bytes(
        path.read_bytes()[: layout.trailer_offset]
        + pack_trailer([{**content, "jshm": 9}], committed=False)
    )
    jshm.gc()
    assert spare.exists()
    assert jshm.check() == []
    spare.unlink()


def test_an_expired_name_can_be_released(store: LocalStore, tmp_path: Path) -> None:
    child = start(tmp_path)
    child.run("jshm.publish('X', np.zeros(1000))")
    held = jshm.attach("X")
    child.kill()
    store.housekeeping._next_collection = 0  # so that the release collects, too
    del held
    (released,) = jshm.release("X", force=True)
    assert (released.name, released.freed) == ("X", 8000)
