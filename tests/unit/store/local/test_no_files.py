"""Sockets, FIFOs, devices, directories and links where jshm has files are ignored, or a clear error."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store import default_store

from ....support.processes import Beginnings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _full(path: str) -> None:
    os.mkdir(path, 0o700)
    os.mknod(f"{path}/x")


KINDS: dict[str, Callable[[str], Any]] = {
    "FIFO": lambda path: os.mkfifo(path, 0o600),
    "socket": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
    "directory": lambda path: os.mkdir(path, 0o700),
    "directory with a file": _full,
    "link to a file": lambda path: os.symlink("/etc/passwd", path),
    "link to nothing": lambda path: os.symlink("/nonexistent/x", path),
    "link to itself": lambda path: os.symlink(os.path.basename(path), path),
    "device": lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
    "device that is full": lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7)),
    "device of nobody": lambda path: os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(7, 250)),
}
ID = "00000000000000aa"
# Paths at which jshm can do without a file.
BESIDE = [
    "registry.db.ballast", "overflow", f"segments/{ID}.npy", f"segments/{ID}.jshm", "segments/junk",
    f"leases/{ID}", f"leases/.new-{ID}", f"leases/{ID}.holds", f"leases/.new-{ID}.holds", "leases/junk",
    f"locks/name-{ID}{ID}", "locks/junk", "junk", "registry.db.damaged-1",
]  # fmt: skip
# Paths at which jshm needs a file or a directory.
NEEDED = [
    "registry.db", "registry.db-wal", "registry.db-shm", "registry.db-journal", "segments", "leases",
    "locks", "X.npy", "lock of X",
]  # fmt: skip
# All operations of a store, in a new process.
IMPORTS = """
import json, sys, numpy as np, jshm, jshm.cli
from jshm.store import default_store
jshm.publish, jshm.attach, jshm.lock  # imports them now
"""
ALL = """
def lock():
    with jshm.lock("X", timeout=1):
        pass
WORK = {
    "list": lambda: jshm.cli.main(["list"]),
    "segments": jshm.segments,
    "info": lambda: jshm.info("X"),
    "path": lambda: default_store().location("X"),
    "attach": lambda: float(jshm.attach("X").sum()),
    "object": lambda: jshm.attach("O")["a"].tolist(),
    "state": lambda: default_store().state(),
    "space": lambda: default_store().space(),
    "lock": lock,
    "publish": lambda: jshm.publish("Y", np.zeros(5), replace=True),
    "again": lambda: jshm.publish("Z", np.zeros(100_000)) and jshm.publish("Z", np.ones(100_000)),
    "gc": jshm.gc,
    "check": jshm.check,
    "fix": lambda: jshm.check(fix=True),
    "then": lambda: jshm.segments(),
    "release": lambda: jshm.release("O", force=True),
}
said = {}
for what, work in WORK.items():
    try:
        work()
        said[what] = ""
    except Exception as error:
        raw = "" if isinstance(error, jshm.JshmError) else "RAW "
        said[what] = f"{raw}{type(error).__name__}: {error}"
print("\\n" + json.dumps(said))
"""


def put(kind: str, path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    try:
        KINDS[kind](path)
    except PermissionError:
        pytest.skip("needs root, to make a device")


Work = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def beginnings() -> Iterator[Beginnings]:
    with Beginnings(IMPORTS) as begun:
        yield begun


@pytest.fixture
def work(beginnings: Beginnings, tmp_path: Path) -> Work:
    """Run all operations; return the errors by operation."""
    return partial(_work, beginnings, tmp_path)


def _work(beginnings: Beginnings, tmp_path: Path, code: str = ALL) -> dict[str, str]:
    done = beginnings.run(tmp_path, code)
    assert "Traceback" not in done.stderr, done.stderr
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture
def made(store_dir: str) -> str:
    jshm.publish("X", np.arange(100_000.0), keep=True)
    jshm.publish("O", {"a": np.arange(10.0)}, keep=True)
    default_store().close()
    return store_dir


@pytest.mark.parametrize("kind", ["FIFO", "socket", "link to itself", "directory with a file"])
@pytest.mark.parametrize("place", NEEDED[:7])
def test_a_needed_file_is_replaced_under_a_process(
    made: str, work: Work, place: str, kind: str
) -> None:
    used = f"""
sys.path.insert(0, {os.getcwd()!r})
from tests.unit.store.local.test_no_files import put
x = jshm.attach("X")
jshm.publish("Z", np.zeros(100_000))
put({kind!r}, {os.path.join(made, place)!r})
"""
    said = work(ALL.replace("said = {}", f"{used}said = {{}}"))
    assert [f"{what}: {text}" for what, text in said.items() if text.startswith("RAW")] == []


@pytest.mark.parametrize("kind", KINDS)
def test_other_entries_beside_ours_are_ignored(made: str, work: Work, kind: str) -> None:
    for place in BESIDE:
        put(kind, os.path.join(made, place))
    said = work()
    assert said == dict.fromkeys(said, "")


@pytest.mark.parametrize(
    "kind", ["FIFO", "socket", "directory with a file", "link to itself", "device"]
)
@pytest.mark.parametrize("place", NEEDED)
def test_other_entries_in_place_of_ours_are_a_clear_error(
    made: str, work: Work, place: str, kind: str
) -> None:
    store = default_store()
    path = os.path.join(made, place)
    if place == "X.npy":
        path = store.location("X")
    elif place == "lock of X":
        with jshm.lock("X"):
            path = os.path.join(made, "locks", *os.listdir(f"{made}/locks"))
    store.close()
    put(kind, path)
    for what, said in work().items():
        assert not said.startswith("RAW"), f"{what}: {said}"
