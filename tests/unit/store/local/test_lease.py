"""Leases, logs and identities, with real processes that really die."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from jshm.errors import TooManyFilesError, UnsafeDirectoryError
from jshm.store.identity import Identity, Session, discover
from jshm.store.local import lease as leases
from jshm.store.local.lease import is_alive, living
from jshm.system.processes import boot_id, is_running, process_start

from ....support.processes import Child, until

if TYPE_CHECKING:
    from pathlib import Path

LEASE = """
import os, warnings
warnings.simplefilter("ignore")
from jshm.store.identity import discover
from jshm.store.local.lease import Lease
"""


def new_lease(child: Child, directory: Path) -> str:
    return child.run(LEASE + f"lease = Lease({str(directory)!r}, discover()); lease.id")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "leases"
    made.mkdir()
    return made


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_a_lease_lives_as_long_as_its_process(directory: Path, tmp_path: Path, end: str) -> None:
    with Child(tmp_path, "train.py") as child:
        identity = new_lease(child, directory)
        assert is_alive(str(directory), identity)
        ((who, log),) = living(str(directory))
        assert (who.pid, who.label, log.held) == (child.pid, "train.py", set())
        getattr(child, end)()
        assert not is_alive(str(directory), identity)
        assert living(str(directory)) == []


def test_a_stopped_process_is_alive(directory: Path, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        identity = new_lease(child, directory)
        child.stop()
        assert is_alive(str(directory), identity)


def test_a_forked_child_does_not_keep_its_dead_parent_alive(
    directory: Path, tmp_path: Path
) -> None:
    with Child(tmp_path) as child:
        identity = new_lease(child, directory)
        survivor = child.run("""
reading, writing = os.pipe()
pid = os.fork()
if not pid:
    os.close(reading)
    os.write(writing, b"!")
    import time
    time.sleep(60)
    os._exit(0)
os.read(reading, 1)
pid
""")
        try:
            child.kill()
            assert process_start(survivor) is not None
            assert not is_alive(str(directory), identity)
        finally:
            os.kill(survivor, 9)


def test_a_started_program_does_not_inherit_the_lease(directory: Path, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        identity = new_lease(child, directory)
        program = child.run(
            "import subprocess; p = subprocess.Popen(['sleep', '60'], close_fds=False); p.pid"
        )
        try:
            child.kill()
            assert not is_alive(str(directory), identity)
        finally:
            os.kill(program, 9)


def test_holds_are_logged_and_end_with_the_process(directory: Path, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        identity = new_lease(child, directory)
        child.run(
            "lease.log.note([(('aa', 'r'), True), (('bb', 'r+'), True), (('cc', 'c'), True)])"
        )
        child.run("lease.log.note([(('aa', 'r'), False)])")
        ((_, log),) = living(str(directory))
        assert log.held == {("bb", "r+"), ("cc", "c")}
        # An unfinished line does not count, and the log does not grow without bound.
        child.run("os.write(lease.log._fd, b'+dd')")
        ((_, log),) = living(str(directory))
        assert log.held == {("bb", "r+"), ("cc", "c")}
        child.run(
            "for _ in range(3000): lease.log.note([(('ee', 'r'), True), (('ee', 'r'), False)])\n"
            "lease.log.note([(('ff', 'r'), True)])"
        )
        ((_, log),) = living(str(directory))
        assert log.held == {("bb", "r+"), ("cc", "c"), ("ff", "r")}
        assert (directory / f"{identity}.holds").stat().st_size < 50_000
        child.kill()
    assert living(str(directory)) == []
    leases.sweep(str(directory))
    assert os.listdir(directory) == []


def test_sweep_keeps_the_files_of_living_processes(directory: Path, tmp_path: Path) -> None:
    with Child(tmp_path, "a.py") as a, Child(tmp_path, "b.py") as b:
        mine, other = new_lease(a, directory), new_lease(b, directory)
        for child in (a, b):
            child.run("lease.log.note([(('aa', 'r'), True)])")
        a.kill()
        leases.sweep(str(directory))
        assert sorted(os.listdir(directory)) == sorted([other, f"{other}.holds"])
        assert not is_alive(str(directory), mine)


@pytest.mark.parametrize("moment", ["open", "flock", "write", "rename"])
def test_killed_while_creating_a_lease(directory: Path, tmp_path: Path, moment: str) -> None:
    module = "fcntl" if moment == "flock" else "os"
    with Child(tmp_path) as child:
        child.send(
            LEASE + f"import {module}, signal\n"
            f"real = {module}.{moment}\n"
            "def deadly(*args, **more):\n"
            "    if 'open' not in str(real) or '.new-' in args[0]:\n"
            "        if 'open' in str(real): real(*args, **more)\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return real(*args, **more)\n"
            f"identity = discover()\n{module}.{moment} = deadly\n"
            f"Lease({str(directory)!r}, identity)"
        )
        with pytest.raises(AssertionError, match="the child died"):
            child.receive()
    assert len(os.listdir(directory)) == 1
    assert living(str(directory)) == []
    leases.sweep(str(directory))
    assert os.listdir(directory) == []


def test_sweeps_while_leases_are_created(directory: Path, tmp_path: Path) -> None:
    """Two processes make leases as fast as they can while this process sweeps. None is lost."""
    code = (
        "made = [Lease({0!r}, identity) for _ in range(100)]\n"
        "[sum(lease.is_valid() for lease in made), [lease.close() for lease in made] and 0]"
    )
    with Child(tmp_path, "a.py") as a, Child(tmp_path, "b.py") as b:
        for child in (a, b):
            child.run(LEASE + "identity = discover()")
            child.send(code.format(str(directory)))
        for _ in range(500):
            leases.sweep(str(directory))
        for child in (a, b):
            assert child.receive() == [100, 0]
    leases.sweep(str(directory))
    assert os.listdir(directory) == []


def test_a_removed_lease_is_restored(directory: Path, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        identity = new_lease(child, directory)
        child.run("lease.log.note([(('aa', 'r'), True)])")
        assert child.run("[lease.restore(), lease.is_valid()]") == [True, True]
        assert leases.state(str(directory), identity) == "alive"
        for path in directory.iterdir():
            path.unlink()
        assert leases.state(str(directory), identity) == "missing"
        assert not is_alive(str(directory), identity)
        leases.sweep(str(directory))
        assert child.run("[lease.is_valid(), lease.restore(), lease.is_valid(), lease.id]") == [
            False, True, True, identity,
        ]  # fmt: skip
        assert leases.state(str(directory), identity) == "alive"
        ((who, log),) = living(str(directory))
        assert (who.pid, log.held) == (child.pid, {("aa", "r")})
        # In a forked child the lease belongs to the parent.
        assert child.run(
            "r, w = os.pipe()\n"
            "pid = os.fork()\n"
            "if not pid: os.write(w, b'%d' % lease.restore()); os._exit(0)\n"
            "os.waitpid(pid, 0); os.read(r, 1).decode()"
        ) == "0"  # fmt: skip
        assert child.run("len(os.listdir('/proc/self/fd'))") == child.run(
            f"os.unlink({str(directory / identity)!r}); lease.restore()\n"
            "len(os.listdir('/proc/self/fd'))"
        )
        child.kill()
        assert leases.state(str(directory), identity) == "dead"
        leases.sweep(str(directory))
        assert os.listdir(directory) == []


def test_a_closed_lease_is_not_restored(directory: Path) -> None:
    lease = leases.Lease(str(directory), discover())
    lease.close()
    assert not lease.restore()
    assert os.listdir(directory) == []


def test_leases_are_restored_during_sweeps(directory: Path, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        identity = new_lease(child, directory)
        child.send(
            "lost = 0\n"
            "for _ in range(2000):\n"
            "    os.unlink(lease._path); lease.restore(); lost += not lease.is_valid()\n"
            "lost"
        )
        for _ in range(300):
            leases.sweep(str(directory))
        assert child.receive() == 0
        leases.sweep(str(directory))
        assert is_alive(str(directory), identity)


def test_without_descriptors_it_says_so(directory: Path, tmp_path: Path) -> None:
    """Nobody can tell who lives: the error says what to do, and no process is taken for dead."""
    with Child(tmp_path, "a.py") as a, Child(tmp_path, "b.py") as b:
        new_lease(a, directory)
        b.run(
            "import os, resource, jshm.store.local.lease as leases\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
            "fds = []\n"
            "def fill(free):\n"
            "    try:\n"
            "        while True: fds.append(os.open('/dev/null', 0))\n"
            "    except OSError: pass\n"
            "    for _ in range(free): os.close(fds.pop())"
        )
        for free in (0, 3):
            b.run(f"fill({free})")
            for call in ("living({0!r})", "sweep({0!r})", "is_alive({0!r}, os.listdir({0!r})[0])"):
                if free:  # enough for the directory, a list of it, and a probe
                    assert "value" in b.run(f"leases.{call.format(str(directory))}; 'value'")
                else:
                    error = b.fails(f"leases.{call.format(str(directory))}")
                    assert "OSError" in error.kinds
            if not free:
                for call in ("living", "sweep"):
                    error = b.fails(f"leases.{call}({str(directory)!r})")
                    assert TooManyFilesError.__name__ in error.kinds
                    assert "ulimit -n" in error.message
        assert len(os.listdir(directory)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_lease_that_cannot_be_read_is_a_clear_error(directory: Path, tmp_path: Path) -> None:
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    directory.chmod(0o777)
    (directory / "0123456789abcdef").write_text("{}")
    (directory / "0123456789abcdef").chmod(0o600)
    with Child(tmp_path) as child:
        child.run(
            LEASE + "import jshm.store.local.lease as leases\nos.setgid(65534); os.setuid(65534)"
        )
        for call in ("living", "sweep"):
            error = child.fails(f"leases.{call}({str(directory)!r})")
            assert UnsafeDirectoryError.__name__ in error.kinds
            assert "JSHM_DIR" in error.message


def test_without_a_directory_no_process_lives(tmp_path: Path) -> None:
    assert living(str(tmp_path / "none")) == []
    leases.sweep(str(tmp_path / "none"))
    assert leases.state(str(tmp_path / "none"), "0123456789abcdef") == "missing"


def test_other_files_are_not_processes(directory: Path, tmp_path: Path) -> None:
    for name, content in {"aa": b"", "bb": b"[]", "cc": b"\xff\xfe", "dd": b'{"pid":1}'}.items():
        (directory / name).write_bytes(content)
    assert living(str(directory)) == []
    # Locked, too: by another program, or by another version of jshm.
    code = """
import fcntl, os
fds = [os.open(os.path.join({0!r}, name), os.O_RDWR) for name in ("aa", "bb", "cc", "dd")]
for fd in fds: fcntl.flock(fd, fcntl.LOCK_EX)
"""
    with Child(tmp_path) as child:
        child.run(code.format(str(directory)))
        assert [who.pid for who, _ in living(str(directory))] in ([], [1])


def test_identity_survives_other_versions() -> None:
    me = discover()
    assert Identity.from_json(me.to_json()) == me
    content = json.loads(me.to_json())
    content |= {"species": "martian", "session": {**content["session"], "cookie": 1}}
    assert Identity.from_json(json.dumps(content)) == me
    for lost in list(content):
        less = {key: value for key, value in content.items() if key != lost}
        assert isinstance(Identity.from_json(json.dumps(less)).label, str)
    for text in ("[]", "3", "null", "{", '{"session": 3}'):
        with pytest.raises(ValueError, match=r"."):
            Identity.from_json(text)


def test_processes_without_a_name_are_different_owners() -> None:
    nobody, other = (
        Identity.from_json("{}"),
        Identity(2, "x:2", "pid:[1]", Session("process", 2, "x:2")),
    )
    assert not nobody.owns(other)
    assert not other.owns(nobody)


def test_a_reused_pid_is_another_process() -> None:
    start = process_start(os.getpid())
    assert start is not None
    namespace = os.readlink("/proc/self/ns/pid")
    assert is_running(os.getpid(), start, namespace)
    assert not is_running(os.getpid(), start + "0", namespace)
    assert is_running(os.getpid(), start + "0", "pid:[1]")  # cannot be judged from here


def test_without_descriptors_no_process_counts_as_ended(tmp_path: Path) -> None:
    """A process that cannot be looked up counts as running, and the answer is not cached."""
    start, namespace = process_start(os.getpid()), os.readlink("/proc/self/ns/pid")
    with Child(tmp_path) as child:
        child.run(
            "import os, resource\nfrom jshm.store.identity import discover\n"
            "from jshm.system.processes import boot_id, is_running\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
            "fds = []\n"
            "try:\n"
            "    while True: fds.append(os.open('/dev/null', 0))\n"
            "except OSError: pass"
        )
        call = f"is_running({os.getpid()}, {start!r}, {namespace!r})"
        for code in (call, "boot_id()", "discover()"):
            assert TooManyFilesError.__name__ in child.fails(code).kinds
        child.run("os.close(fds.pop())")
        assert child.run(call)
        assert child.run("discover().start") == process_start(child.pid)


def test_a_zombie_does_not_run() -> None:
    pid = subprocess.Popen(["true"])
    until(lambda: process_start(pid.pid) is None)
    assert pid.wait() == 0


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode != 0,
    reason="needs the right to make pid namespaces",
)
def test_another_pid_namespace(directory: Path, tmp_path: Path) -> None:
    """In a container that shares the directory, pids mean nothing, but locks do."""
    with Child(tmp_path, prefix=("unshare", "--pid", "--fork", "--kill-child")) as child:
        identity = new_lease(child, directory)
        ((who, _),) = living(str(directory))
        assert who.pid == 1
        assert who.pid_ns != os.readlink("/proc/self/ns/pid")
        assert is_running(who.pid, f"{boot_id()}:1", who.pid_ns)
        assert not discover().owns(who)
        assert is_alive(str(directory), identity)
        child.kill()
        until(lambda: not is_alive(str(directory), identity))


# -- sessions --------------------------------------------------------------------------------------

KERNEL = """
import os, sys, types
class IPKernelApp:
    abs_connection_file = {connection!r}
    initialized = classmethod(lambda cls: True)
    instance = classmethod(lambda cls: cls)
sys.modules["ipykernel.kernelapp"] = types.SimpleNamespace(IPKernelApp=IPKernelApp)
from jshm.store.identity import discover
import dataclasses
dataclasses.asdict(discover())
"""

KERNEL_ID = "1f0c2222-9d1b-4c5e-8a7f-0123456789ab"


def kernel(child: Child, connection: str) -> dict[str, object]:
    return child.run(KERNEL.format(connection=connection))


def test_the_session_of_a_server_s_kernel(tmp_path: Path) -> None:
    env = {"JPY_PARENT_PID": str(os.getpid()), "JPY_SESSION_NAME": "/home/me/train.ipynb"}
    with Child(tmp_path, env=env) as child:
        who = kernel(child, f"/run/kernel-{KERNEL_ID}.json")
    assert who["session"] == {
        "kind": "server", "pid": os.getpid(), "start": process_start(os.getpid()),
    }  # fmt: skip
    assert (who["kernel_id"], who["program"]) == (KERNEL_ID, "kernel")
    assert who["notebook"] == "/home/me/train.ipynb"
    assert who["script"] == ""


def test_a_notebook_path_that_is_not_valid_text(tmp_path: Path) -> None:
    """File names are bytes. A notebook at such a path can share, and is recognized again."""
    env = {"JPY_PARENT_PID": str(os.getpid()), "JPY_SESSION_NAME": "/home/m\udcfcller/train.ipynb"}
    directory = tmp_path / "leases"
    directory.mkdir()
    with Child(tmp_path, env=env) as a, Child(tmp_path, env=env) as b:
        first, second = kernel(a, "/run/kernel-1.json"), kernel(b, "/run/kernel-1.json")
        assert first["notebook"] == second["notebook"] == "/home/m?ller/train.ipynb"
        new_lease(a, directory)
        assert [who.label for who, _ in living(str(directory))] == ["train.ipynb"]


def test_the_session_of_a_kernel_of_another_program(tmp_path: Path) -> None:
    """nbclient, papermill, and jupyter console use other names for connection files."""
    with Child(tmp_path, env={"JPY_PARENT_PID": str(os.getpid())}) as child:
        for connection in ("/tmp/tmpabc.json", "/run/kernel-0123456789ab.json"):
            assert kernel(child, connection)["session"]["kind"] == "run"  # type: ignore[index]


def test_inherited_variables_do_not_make_a_session(tmp_path: Path) -> None:
    """``!python script.py`` in a notebook sees the kernel's environment."""
    with Child(tmp_path, "script.py", env={"JPY_PARENT_PID": str(os.getpid())}) as child:
        who = child.run(
            "from jshm.store.identity import discover; import dataclasses as d; d.asdict(discover())"
        )
    assert who["session"]["kind"] == "process"
    assert (who["program"], os.path.basename(who["script"])) == ("python", "script.py")


@pytest.mark.parametrize("value", ["", "abc", "0", "-1", "4194304", "sibling"])
def test_a_parent_that_is_not_an_ancestor_does_not_make_a_session(
    tmp_path: Path, value: str
) -> None:
    sibling = subprocess.Popen(["sleep", "60"])
    try:
        env = {"JPY_PARENT_PID": str(sibling.pid) if value == "sibling" else value}
        with Child(tmp_path, env=env) as child:
            who = kernel(child, "/run/kernel-1.json")
        assert who["session"]["kind"] == "process"  # type: ignore[index]
    finally:
        sibling.kill()
        sibling.wait()
