"""The directory must be private; overflow of earlier boots is removed, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.store.local import directory as places
from jshm.store.local import space as room
from jshm.store.local.directory import Directory
from jshm.store.local.space import Budget

from ....support.processes import Child, ChildError

if TYPE_CHECKING:
    from jshm.store.local.store import LocalStore

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


def refused(root: str, *parts: str) -> None:
    with pytest.raises(jshm.UnsafeDirectoryError) as caught:
        Directory.open(root)
    assert isinstance(caught.value, PermissionError)
    for part in (root, *parts):
        assert part in str(caught.value)


def test_it_is_created_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = Directory.open(str(tmp_path / "a" / "store"))
    finally:
        os.umask(old)
    for place in (made.root, made.segments, made.leases, made.locks):
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
    assert Directory.open(made.root) == made


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o770, 0o777])
def test_a_directory_open_to_other_users_is_refused(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(mode)
    refused(str(root), f"{mode:o}", f"chmod 700 {root}")
    root.chmod(0o700)
    Directory.open(str(root))


def test_a_subdirectory_open_to_other_users_is_refused(tmp_path: Path) -> None:
    made = Directory.open(str(tmp_path / "store"))
    os.chmod(made.segments, 0o755)
    refused(made.root, "chmod 700")


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "store").symlink_to(tmp_path / "real")
    refused(str(tmp_path / "store"), "JSHM_DIR")
    assert os.listdir(tmp_path / "real") == []


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"precious")
    refused(str(tmp_path / "store"), "not a directory", "JSHM_DIR")
    assert (tmp_path / "store").read_bytes() == b"precious"


def test_a_place_where_nothing_can_be_created() -> None:
    refused("/proc/jshm", "JSHM_DIR")
    refused("/proc/self/a/b/jshm", "JSHM_DIR")


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    refused(str(tmp_path / "file" / "store"), "JSHM_DIR")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "lustre", "9p"])
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(places, "filesystem", lambda _: kind)
    refused(str(tmp_path / "store"), kind, "JSHM_DIR")


def test_without_descriptors_there_is_an_error_and_no_other_store(
    store: LocalStore, tmp_path: Path
) -> None:
    jshm.publish("X", np.ones(3), keep=True)
    with Child(tmp_path) as child:
        child.run(
            "import os, resource, jshm.store.local.directory as d, jshm.store, platformdirs, tempfile\n"
            "import jshm, shutil, hashlib; del os.environ['JSHM_DIR']\n"
            f"files = lambda: d.Directory({store.directory.root!r}, '', True).files()\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
            "fds = []\n"
            "try:\n"
            "    while True: fds.append(os.open('/dev/null', 0))\n"
            "except OSError: pass"
        )
        for call in ("d.default_root()", "files()"):
            error = child.fails(call)
            assert "TooManyFilesError" in error.kinds
            assert "ulimit -n" in error.message
        child.run("os.close(fds.pop())")
        assert child.run("d.default_root()") == f"/dev/shm/jshm-{os.geteuid()}"
        child.run("[os.close(fds.pop()) for _ in range(3)]")  # for the directory and its segments
        assert child.run("len(files())") == 1


def test_file_systems_are_told_apart(tmp_path: Path) -> None:
    assert places.filesystem("/proc/self") == "proc"
    assert places.filesystem("/dev/shm") == "tmpfs"
    assert places.filesystem(str(tmp_path / "not" / "there")) not in ("", "proc")


def test_the_default_is_this_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JSHM_DIR")
    found = places.default_root()
    monkeypatch.setenv("JSHM_DIR", "/proc/a-test-without-the-store_dir-fixture")
    assert found == f"/dev/shm/jshm-{os.geteuid()}"
    monkeypatch.setenv("JSHM_DIR", "relative")
    assert places.default_root() == os.path.abspath("relative")
    monkeypatch.setenv("JSHM_DIR", "/proc/a-test-without-the-store_dir-fixture")


@root_only
def test_another_user_can_read_nothing(store: LocalStore, tmp_path: Path) -> None:
    jshm.publish("X", np.arange(1000.0))
    held = jshm.attach("X")
    path = store.location("X")
    # The other user must be able to reach the test's directories, but not the store.
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    with Child(tmp_path) as child:
        child.run(
            "import os, numpy as np, jshm, jshm.api, dataclasses\nos.setgid(65534); os.setuid(65534)"
        )
        for code in (
            f"os.listdir({store.directory.root!r})",
            f"os.listdir({store.directory.segments!r})",
            f"open({path!r}, 'rb')",
            f"open({store.directory.registry!r}, 'rb')",
            f"os.stat({path!r})",
        ):
            assert "PermissionError" in child.fails(code).kinds, code
        error = child.fails("jshm.attach('X')")
        assert "UnsafeDirectoryError" in error.kinds
        assert "belongs to user 0" in error.message
        assert "JSHM_DIR" in error.message
        for place in ("", "segments"):
            os.chmod(os.path.join(store.directory.root, place), 0o777)
        try:
            # Even in an open directory, only the owner can read the files.
            for code in (f"open({path!r}, 'rb')", f"open({path!r}, 'r+b')"):
                assert "PermissionError" in child.fails(code).kinds
            assert "UnsafeDirectoryError" in child.fails("jshm.attach('X')").kinds
        finally:
            for place in ("", "segments"):
                os.chmod(os.path.join(store.directory.root, place), 0o700)
    assert held[-1] == 999.0


@root_only
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir(mode=0o700)
    os.chown(root, 65534, 65534)
    refused(str(root), "belongs to user 65534", "JSHM_DIR")


@root_only
def test_a_segment_of_another_user_is_refused(store: LocalStore) -> None:
    jshm.publish("X", np.ones(3))
    path = store.location("X")
    os.chown(path, 65534, 65534)
    with pytest.raises(jshm.CorruptSegmentError, match="not a regular file of this user"):
        jshm.attach("X")
    os.chown(path, 0, 0)
    np.testing.assert_array_equal(jshm.attach("X"), np.ones(3))


def test_a_link_in_place_of_a_segment_is_not_followed(store: LocalStore) -> None:
    jshm.publish("X", np.ones(3))
    path = Path(store.location("X"))
    path.rename(Path(store.directory.locks) / "moved")
    path.symlink_to(Path(store.directory.locks) / "moved")
    with pytest.raises(jshm.CorruptSegmentError, match="symbolic link"):
        jshm.attach("X")
    path.unlink()
    (Path(store.directory.locks) / "moved").rename(path)


@pytest.mark.parametrize("kind", ["directory", "link", "dangling", "fifo", "socket"])
def test_entries_that_are_not_files_are_ignored(
    store: LocalStore, tmp_path: Path, kind: str
) -> None:
    """Foreign entries among the segments change nothing, and are not touched."""
    path = os.path.join(store.directory.segments, "thing.npy")
    (tmp_path / "precious").write_bytes(b"precious")
    if kind == "directory":
        os.mkdir(path)
    elif kind == "link":
        os.symlink(tmp_path / "precious", path)
    elif kind == "dangling":
        os.symlink("/nowhere", path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    jshm.publish("X", np.ones(3))
    np.testing.assert_array_equal(jshm.attach("X"), np.ones(3))
    jshm.gc()
    assert [i.name for i in jshm.segments()] == ["X"]
    assert any("thing.npy" in problem.what for problem in jshm.check(fix=True))
    jshm.release("X")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    if os.path.lexists(path):
        (os.rmdir if kind == "directory" else os.unlink)(path)


@pytest.mark.parametrize(
    "name", ["thesis.docx", "thing.npy", "0123456789abcdef", "0123456789abcdef.npy.bak",
             "0123456789ABCDEF.npy", "00123456789abcdef.npy", "0123456789abcdef.npy\n"]
)  # fmt: skip
def test_a_file_that_jshm_did_not_create_stays(store: LocalStore, name: str) -> None:
    path = Path(store.directory.segments) / name
    path.write_bytes(b"precious")
    jshm.publish("X", np.ones(3))
    jshm.gc()
    (problem,) = jshm.check(fix=True)
    assert name in problem.what
    assert not problem.fixed
    assert path.read_bytes() == b"precious"
    path.unlink()


# -- overflow --------------------------------------------------------------------------------------


@pytest.fixture
def overflow(store: LocalStore) -> Path:
    """The base of the overflow directory, after it was created."""
    store.directory.open_overflow()
    return Path(store.directory.overflow).parents[1]


def test_overflow_is_private_and_of_this_boot(store: LocalStore, overflow: Path) -> None:
    assert re.fullmatch("[0-9a-f]{8}", Path(store.directory.overflow).parent.name)
    assert overflow.name == f"jshm-{os.geteuid()}"
    for place in (overflow, *overflow.rglob("*")):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_only_overflow_of_earlier_boots_is_removed(
    store: LocalStore, overflow: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").write_bytes(b"precious")
    (overflow / "0123abcd" / "0123456789abcdef").mkdir(parents=True)
    (overflow / "0123abcd" / "0123456789abcdef" / "x.npy").write_bytes(b"old")
    (overflow / "fedcba98").symlink_to(tmp_path / "home")
    keep = ["my-data", "0123abc", "0123abcde", "0123ABCD", "ghijklmn", "0123abcd.bak"]
    for name in keep:
        (overflow / name).mkdir()
        (overflow / name / "file").write_bytes(b"precious")
    (overflow / "11112222").write_bytes(b"a file")
    (overflow.parent / "33334444").mkdir()
    store.directory.open_overflow()
    assert not (overflow / "0123abcd").exists()
    for name in keep:
        assert (overflow / name / "file").read_bytes() == b"precious"
    assert (tmp_path / "home" / "thesis").read_bytes() == b"precious"
    assert (overflow / "11112222").read_bytes() == b"a file"
    assert (overflow.parent / "33334444").is_dir()
    assert os.path.isdir(store.directory.overflow)


def test_overflow_open_to_other_users_is_refused(store: LocalStore, overflow: Path) -> None:
    overflow.chmod(0o755)
    with pytest.raises(jshm.UnsafeDirectoryError, match="chmod 700"):
        store.directory.open_overflow()
    overflow.chmod(0o700)


@pytest.mark.parametrize("what", ["link", "open", "link above", "open above", "file"])
def test_unsafe_overflow_is_not_read(store: LocalStore, tmp_path: Path, what: str) -> None:
    """Another user who creates it first must not lead the collection to our other files."""
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    leaf = Path(store.directory.overflow)
    for place in (home / "0123456789abcdef.npy", home / leaf.name / "0123456789abcdef.npy"):
        place.parent.mkdir(exist_ok=True, mode=0o700)
        place.write_bytes(b"precious")
    if what == "link above":
        leaf.parents[1].mkdir(parents=True, mode=0o700)
        leaf.parent.symlink_to(home)
    else:
        leaf.parent.mkdir(parents=True, mode=0o700)
        leaf.parents[1].chmod(0o700)
    if what == "link":
        leaf.symlink_to(home)
    elif what == "file":
        leaf.write_bytes(b"precious")
    elif what.startswith("open"):
        (home / leaf.name).rename(leaf)
        (leaf if what == "open" else leaf.parents[1]).chmod(0o777)
    there = sorted(tmp_path.rglob("*.npy"))
    assert there
    jshm.publish("X", np.ones(3))
    jshm.gc()
    assert jshm.check(fix=True) == []
    jshm.release("X")
    assert sorted(tmp_path.rglob("*.npy")) == there
    assert all(path.read_bytes() == b"precious" for path in there)


@root_only
def test_overflow_of_another_user_is_not_read(store: LocalStore, tmp_path: Path) -> None:
    leaf = Path(store.directory.overflow)
    leaf.mkdir(parents=True)
    for place in (leaf, leaf.parent, leaf.parents[1]):
        place.chmod(0o700)
    file = leaf / "0123456789abcdef.npy"
    file.write_bytes(b"precious")
    for place in (leaf, leaf.parent, leaf.parents[1]):
        os.chown(place, 65534, 65534)
        jshm.gc()
        assert jshm.check(fix=True) == []
        os.chown(place, 0, 0)
    assert file.read_bytes() == b"precious"
    jshm.gc()  # a check of this test: in our own directory it is garbage
    assert not file.exists()


def test_overflow_in_memory_respects_free_memory(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "available_memory", lambda: 1 << 24)
    monkeypatch.setattr(room, "_free", lambda _: 1 << 40)
    store.directory.open_overflow()
    kinds = {store.directory.overflow: "ext4"}
    monkeypatch.setattr(room, "filesystem", lambda path: kinds.get(path, "tmpfs"))
    assert Budget(store.directory, store.registry, store.process.spares, bool).choose(1 << 25)
    kinds[store.directory.overflow] = "tmpfs"
    with pytest.raises(jshm.NoSpaceError, match=r"needs .*of memory for"):
        Budget(store.directory, store.registry, store.process.spares, bool).choose(1 << 25)


def test_two_stores_never_share_an_overflow_directory(store: LocalStore, tmp_path: Path) -> None:
    other = Directory.open(str(tmp_path / "other"))
    assert other.overflow != store.directory.overflow


def test_errors_in_a_child_process_reach_the_test(tmp_path: Path) -> None:
    """A check of the test tools."""
    with Child(tmp_path) as child, pytest.raises(ChildError, match="ZeroDivisionError: division"):
        child.run("1/0")


def test_all_processes_use_the_same_overflow(store_dir: str, tmp_path: Path) -> None:
    """Whatever its setting is, each process finds, lists and removes what others put on disk."""
    here, there = tmp_path / "here", tmp_path / "there"
    env = {"JSHM_DIR": store_dir, "JSHM_QUOTA": "1"}
    with (
        Child(tmp_path, "a.py", env={**env, "JSHM_OVERFLOW_DIR": str(here)}) as a,
        Child(tmp_path, "b.py", env={**env, "JSHM_OVERFLOW_DIR": str(there)}) as b,
        Child(tmp_path, "c.py", env={**env, "JSHM_OVERFLOW_DIR": ""}) as c,
    ):
        for child in (a, b, c):
            child.run("import jshm, numpy as np; jshm.segments()")
        a.run("jshm.publish('A', np.arange(3.0))")
        b.run("jshm.publish('B', np.arange(4.0))")
        assert "NoSpaceError" in c.fails("jshm.publish('C', np.arange(3.0))").kinds
        assert len(list(here.rglob("*.npy"))) == 2
        assert not there.exists()
        for child in (a, b, c):
            assert child.run("[jshm.attach(name).size for name in 'AB']") == [3, 4]
            assert child.run("jshm.check()") == []
        c.run("jshm.release(['A', 'B'], force=True)")
        assert list(here.rglob("*.npy")) == []
        # The first one used stays in use as long as it exists.
        b.run("jshm.publish('B', np.arange(4.0))")
        assert len(list(here.rglob("*.npy"))) == 1
        assert a.run("jshm.attach('B').size") == 4
        assert b.run("jshm.release('B')[0].freed") == 32
        shutil.rmtree(here)
        b.run("jshm.publish('B', np.arange(5.0))")
        assert len(list(there.rglob("*.npy"))) == 1
        for child in (a, b, c):
            assert child.run("jshm.attach('B').size") == 5
