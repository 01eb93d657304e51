"""Processes in other containers and hidden ones count as alive; other boots and reused pids do not."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from jshm.store.identity import discover, has_ended
from jshm.system.processes import boot_id, process_start

from ...conftest import PREFIX, SHM
from ...support.processes import Child, until
from ...unit.store.local.test_collect import KERNEL, PRELUDE, SERVER_S
from .outside import Outside

if TYPE_CHECKING:
    from pathlib import Path

KEPT = {"kept": [0.0, 1.0, 2.0]}
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
PLACES = {
    "pid": CONTAINER,
    "pid and user": (*CONTAINER, "--user", "--map-root-user"),
    "pid without its /proc": ("unshare", "--pid", "--fork", "--kill-child"),
}


def allowed(*words: str) -> bool:
    return subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0


def place(name: str) -> object:
    can = allowed(*PLACES[name])
    return pytest.param(
        PLACES[name], id=name,
        marks=pytest.mark.skipif(not can, reason="needs the right to make namespaces"),
    )  # fmt: skip


def start(tmp_path: Path, script: str, prefix: tuple[str, ...] = ()) -> Child:
    child = Child(tmp_path, script, prefix=prefix)
    child.run(PRELUDE)
    return child


@pytest.mark.parametrize("prefix", [place(name) for name in PLACES])
def test_two_containers_share_a_store(
    outside: Outside,
    tmp_path: Path,
    prefix: tuple[str, ...],
) -> None:
    """Both are process 1. Neither collects what the other's living processes own or hold."""
    with start(tmp_path, "a.py", prefix) as a, start(tmp_path, "b.py", prefix) as b:
        assert a.run("os.getpid()") == b.run("os.getpid()") == 1
        a.run("jshm.publish('A', np.zeros(1)); jshm.publish('kept', np.arange(3.0), keep=True)")
        b.run("jshm.publish('B', np.ones(1)); A = jshm.attach('A')")
        a.run("spare = jshm.zeros(10); jshm.gc()")
        b.run("jshm.gc()")
        outside.use()
        assert outside.names() == {"A": [0], "B": [1], **KEPT}
        assert len(outside.segments()) == 4
        holders = "[[h.label, h.here] for h in jshm.info('A').holders]"
        assert a.run(holders) == [["b.py", False]]
        assert b.run(holders) == [["b.py", True]]
        refused = b.fails("jshm.publish('A', np.ones(9))")
        assert "NotOwnerError" in refused.kinds

        a.kill()
        until(lambda: "spare" not in b.run("jshm.gc(); ''") and len(outside.segments()) == 3)
        assert outside.names() == {"A": [0], "B": [1], **KEPT}  # b holds A
        assert b.run("float(A[0])") == 0
        b.run("del A; jshm.gc()")
        assert outside.names() == {"B": [1], **KEPT}
        b.kill()
    until(lambda: outside.use() or outside.names() == KEPT)
    assert len(outside.segments()) == 1


def as_kernel(code: str) -> str:
    """Return code that runs something in a kernel whose server is the parent process, and kills it."""
    return f"""
reading, writing = os.pipe()
pid = os.fork()
if not pid:
    os.environ["JPY_PARENT_PID"] = str(os.getppid())
    exec({KERNEL.format(connection=SERVER_S)!r})
    {code}
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)[1]
"""


@pytest.mark.parametrize("prefix", [place("pid")])
def test_names_of_a_dead_server_in_another_container_stay(
    outside: Outside,
    tmp_path: Path,
    prefix: tuple[str, ...],
) -> None:
    """Only processes in the server's own container can tell whether it lives."""
    with start(tmp_path, "server.py", prefix) as server:
        published = server.run(as_kernel("jshm.publish('X', np.ones(1))"))
        assert published == signal.SIGKILL
        server.run("jshm.gc()")
        outside.use()
        assert outside.names() == {"X": [1]}
        # An orderly end of the server releases them.
        server.run("default_store().end_session()")
        assert outside.names() == {}

        server.run(as_kernel("jshm.publish('X', np.ones(1))"))
        server.kill()
    outside.use()
    assert outside.names() == {"X": [1]}
    with start(tmp_path, "a.py") as child:
        child.run("jshm.release('X', force=True)")
    assert outside.names() == {}


def test_the_same_pid_in_another_container_is_another_process() -> None:
    me = discover()
    start = process_start(os.getpid())
    assert start is not None
    ending = (os.getpid(), start)
    text = me.to_json().replace('"kind":"process"', '"kind":"server"')
    server = type(me).from_json(text)
    assert not has_ended(server)
    assert has_ended(server, ending)
    elsewhere = type(me).from_json(text.replace(me.pid_ns, "pid:[1]"))
    assert not has_ended(elsewhere, ending)
    assert me.is_here
    assert not elsewhere.is_here


LEFT = {"X": [1.0], **KEPT}
# Changes of the kernel's identity and of its session, and the names that are left.
KNOWN: dict[str, tuple[dict[str, str], dict[str, str], dict[str, list[float]]]] = {
    "the server lives": ({}, {}, LEFT),
    "the machine was rebooted": ({}, {"start": "00000000:1"}, KEPT),
    "the machine was rebooted, another container": (
        {"pid_ns": "pid:[1]"},
        {"start": "00000000:1"},
        KEPT,
    ),
    "another container": ({"pid_ns": "pid:[1]"}, {}, LEFT),
    "the pid was reused": ({}, {"start": f"{boot_id()}:1"}, KEPT),
    "a session of a newer jshm": ({}, {"kind": "cluster"}, LEFT),
    "the start is unknown": ({}, {"start": ""}, LEFT),
}


@pytest.mark.parametrize(("kernel", "session", "left"), KNOWN.values(), ids=KNOWN)
def test_names_of_a_dead_kernel_by_what_is_known_of_its_server(
    outside: Outside,
    tmp_path: Path,
    kernel: dict[str, str],
    session: dict[str, str],
    left: dict[str, list[float]],
) -> None:
    with start(tmp_path, "server.py") as server:
        server.run(
            as_kernel(
                "jshm.publish('X', np.ones(1)); jshm.publish('kept', np.arange(3.0), keep=True)"
            )
        )

        def change(identity: dict[str, Any]) -> dict[str, Any]:
            return {**identity, **kernel, "session": {**identity["session"], **session}}

        outside.rewrite(change)
        outside.use()
        assert outside.names() == left


HIDING = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t proc -o hidepid=2 proc /proc; exec "$@"',
    "sh",
)


@pytest.mark.skipif(
    os.geteuid() != 0 or not allowed(*HIDING),
    reason="needs root, to become another user in front of a /proc that hides processes",
)
def test_a_hidden_process_is_alive_by_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``hidepid``, a process that was setuid is hidden even from its own user."""
    nobody = 65534
    tmp_path.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=SHM) as store:
        os.chown(store, nobody, nobody)
        monkeypatch.setenv("JSHM_DIR", store)
        with start(tmp_path, "a.py") as publisher, start(tmp_path, "b.py", HIDING) as other:
            for child in (publisher, other):
                child.run(f"os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})")
            publisher.run("jshm.publish('X', np.ones(1))")
            other.run("from jshm.system.processes import process_start")
            if other.run(f"process_start({publisher.pid})"):
                pytest.skip("this kernel hides nothing")
            other.run("jshm.gc()")
            assert Outside(store).names() == {"X": [1]}
            publisher.kill()
            other.run("jshm.gc()")
            assert Outside(store).names() == {}
