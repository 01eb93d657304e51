"""The store's directory, or a part of it, is moved, copied, covered or removed under live processes.

The path then leads to another directory. Files of the old one are never confused with files of the same
name in the new one: every process attaches the newest published version, and version numbers continue.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store import default_store
from jshm.store.local.registry import database
from jshm.system.directories import DirectoryPath, File, OpenDirectory, open_file, status

from ....support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

pytestmark = pytest.mark.filterwarnings("ignore::jshm.DirectoryLostWarning")

# Large enough that a superseded version becomes a spare, and is written again.
N = 100_000
PRELUDE = f"""
import gc, os, warnings, numpy as np, jshm
warnings.simplefilter("ignore")
def publish(value, name="X"):
    return jshm.publish(name, np.full({N}, float(value)), replace=True, keep=True).version
def look(name="X"):
    found = jshm.attach(name)
    assert (found == found[0]).all()
    return float(found[0])
"""


def publish(value: float, name: str = "X") -> int:
    return jshm.publish(name, np.full(N, float(value)), replace=True, keep=True).version


def look(name: str = "X") -> float:
    found = jshm.attach(name)
    assert (found == found[0]).all()
    return float(found[0])


def move(root: str) -> None:
    os.rename(root, f"{root}.gone")


def link_and_remove(root: str) -> None:
    subprocess.run(["cp", "-al", root, f"{root}.gone"], check=True)
    shutil.rmtree(root)


def copy_and_remove(root: str) -> None:
    subprocess.run(["cp", "-a", root, f"{root}.gone"], check=True)
    shutil.rmtree(root)


def link_back(root: str) -> None:
    """Put the same files into a new directory."""
    os.rename(root, f"{root}.gone")
    subprocess.run(["cp", "-al", f"{root}.gone", root], check=True)


def copy_back(root: str) -> None:
    """Put copies of the files into a new directory."""
    os.rename(root, f"{root}.gone")
    subprocess.run(["cp", "-a", f"{root}.gone", root], check=True)


def empty_in_its_place(root: str) -> None:
    os.rename(root, f"{root}.gone")
    os.mkdir(root, 0o700)


def cover(root: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "none", root], check=True)


KINDS = [
    move, link_and_remove, copy_and_remove, link_back, copy_back, empty_in_its_place, shutil.rmtree,
    pytest.param(cover, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")),
]  # fmt: skip


@pytest.fixture
def root(store_dir: str) -> Iterator[str]:
    yield store_dir
    while os.path.ismount(store_dir):
        subprocess.run(["umount", "-l", store_dir], check=True)
    for path in (f"{store_dir}.gone", f"{store_dir}.copy"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def other(root: str, tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path, "other.py") as child:
        child.run(PRELUDE)
        yield child


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_attaches_the_newest_version(
    kind: Callable[[str], object], root: str, other: Child
) -> None:
    for value in range(4):
        publish(value)
    held = jshm.attach("X")
    assert other.run("held = jshm.attach('X'); look()") == 3.0
    kind(root)
    jshm.segments()
    assert held[0] == 3.0
    del held
    version = 4
    for value in range(10, 16):
        assert publish(value) > version
        version = jshm.info("X").version
        assert look() == value
        assert other.run("look()") == value
        assert other.run("publish(look() + 0.5)") == version + 1
        assert look() == value + 0.5
    assert other.run("float(held[0])") == 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_has_not_noticed_the_move(
    kind: Callable[[str], object], root: str, other: Child
) -> None:
    """Another process has published in the new directory already."""
    publish(1)
    publish(2)
    held = jshm.attach("X")
    other.run("look()")
    kind(root)
    published = other.run("publish(3)")
    # At once: no read trusts its last look.
    assert look() == 3.0
    assert jshm.info("X").version == published
    assert publish(4) == published + 1
    assert other.run("look()") == 4.0
    assert held[0] == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_from_before_the_move_can_be_published(
    kind: Callable[[str], object], root: str, other: Child
) -> None:
    """An array from `jshm.empty` and an attached one: the new names are of segments in the new directory."""
    publish(1, "Y")
    made = jshm.empty(N)
    made[:] = 5.0
    attached = jshm.attach("Y")
    kind(root)
    jshm.publish("X", made, keep=True)
    jshm.publish("alias", attached, keep=True)
    jshm.publish("object", {"made": made, "attached": attached}, keep=True)
    assert other.run("look()") == 5.0
    assert other.run("look('alias')") == 1.0
    assert other.run("[float(x[-1]) for x in jshm.attach('object').values()]") == [5.0, 1.0]


@pytest.mark.parametrize("kind", [link_back, copy_back])
def test_live_data_is_the_same_for_all(
    kind: Callable[[str], object], root: str, other: Child
) -> None:
    jshm.publish("L", np.zeros(N), writable=True, keep=True)
    before = jshm.attach("L", mode="r+")
    other.run("live = jshm.attach('L', mode='r+')")
    kind(root)
    live = jshm.attach("L", mode="r+")
    live[0] = 7.0
    assert other.run("float(jshm.attach('L', mode='r+')[0])") == 7.0
    assert before[0] == (7.0 if kind is link_back else 0.0)


def test_an_older_copy_is_put_back(root: str, other: Child) -> None:
    publish(1)
    publish(1, "Y")
    subprocess.run(["cp", "-a", root, f"{root}.copy"], check=True)
    for value in (2, 3):
        publish(value)
        publish(value, "Y")
    other.run("held = jshm.attach('X')")
    os.rename(root, f"{root}.gone")
    os.rename(f"{root}.copy", root)
    with pytest.warns(jshm.DirectoryLostWarning, match=r"Y v3 .*v1"):
        jshm.segments()
    # X is attached, so its newest version is restored. Nobody has Y, so only its old version is left.
    assert other.run("look()") == 3.0
    assert look() == 3.0
    assert look("Y") == 1.0
    assert publish(4) == 4
    assert publish(4, "Y") == 4
    assert other.run("[look(), look('Y')]") == [4.0, 4.0]


def test_the_old_directory_returns_after_a_new_one_was_created(root: str, other: Child) -> None:
    publish(1)
    held = jshm.attach("X")
    other.run("look()")
    os.rename(root, f"{root}.gone")
    assert publish(2) == 2
    assert other.run("held = jshm.attach('X'); look()") == 2.0
    os.rename(root, f"{root}.copy")
    os.rename(f"{root}.gone", root)
    assert other.run("jshm.segments(); look()") == 2.0
    assert look() == 2.0
    assert publish(3) == 3
    assert other.run("publish(4)") == 4
    assert look() == 4.0
    assert held[0] == 1.0


def test_a_restored_version_supersedes_an_older_one(root: str, other: Child) -> None:
    """Nobody needs the older version any more, so it is removed, and `check` finds nothing."""
    publish(1)
    subprocess.run(["cp", "-a", root, f"{root}.copy"], check=True)
    publish(2)
    other.run("held = jshm.attach('X')")
    os.rename(root, f"{root}.gone")
    os.rename(f"{root}.copy", root)
    assert look() == 1.0
    assert other.run("look()") == 2.0
    jshm.gc()
    assert jshm.check() == []
    assert [(info.name, info.version) for info in jshm.segments()] == [("X", 2)]
    assert len(os.listdir(f"{root}/segments")) == 1


def test_a_symbolic_link_among_the_parents_is_changed(
    root: str, other: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parents may be symbolic links, and each operation follows them."""
    for name in ("one", "two"):
        os.makedirs(f"{root}/{name}/store", 0o700)
    os.symlink("one", f"{root}/now")
    monkeypatch.setenv("JSHM_DIR", f"{root}/now/store")
    other.run(f"os.environ['JSHM_DIR'] = {root + '/now/store'!r}")
    assert publish(1) == 1
    other.run("look()")
    os.symlink("two", f"{root}/next")
    os.rename(f"{root}/next", f"{root}/now")
    assert publish(2) == 2
    assert other.run("look()") == 2.0
    assert look() == 2.0
    default_store().close()


def test_a_symbolic_link_in_its_place_is_refused(root: str, other: Child) -> None:
    publish(1)
    other.run("look()")
    os.rename(root, f"{root}.gone")
    os.symlink(f"{root}.gone", root)
    with pytest.raises(jshm.UnsafeDirectoryError, match="not a directory"):
        look()
    assert "UnsafeDirectoryError" in other.fails("look()").kinds
    assert "UnsafeDirectoryError" in other.fails("publish(2)").kinds
    os.unlink(root)
    os.rename(f"{root}.gone", root)
    assert look() == 1.0
    assert other.run("publish(2)") == 2


def test_a_backup_of_hard_links_never_changes(root: str) -> None:
    """``cp -al`` gives files a second name. A file with two names is never written again."""
    for value in range(3):
        publish(value)
    path = default_store().location("X")
    subprocess.run(["cp", "-al", root, f"{root}.copy"], check=True)
    backup = os.path.join(f"{root}.copy", "segments", os.path.basename(path))
    for value in range(3, 8):
        publish(value)
    assert (np.load(backup) == 2.0).all()
    assert look() == 7.0


def test_a_directory_that_was_moved_away_is_not_touched(root: str, other: Child) -> None:
    """A user who moves the directory away keeps all of its content."""
    publish(1)
    publish(2)
    path = default_store().location("X")
    other.run("held = jshm.attach('X')")
    os.rename(root, f"{root}.gone")
    for value in range(3, 8):
        publish(value)
    default_store().gc()
    other.run("del held; jshm.gc()")
    moved = os.path.join(f"{root}.gone", "segments", os.path.basename(path))
    assert (np.load(moved) == 2.0).all()


@pytest.mark.parametrize("name", ["segments", "leases", "locks"])
@pytest.mark.parametrize("how", [shutil.rmtree, lambda path: os.rename(path, f"{path}.away")])
def test_a_subdirectory_is_created_again(
    name: str, how: Callable[[str], object], root: str, other: Child
) -> None:
    publish(1)
    publish(2)
    other.run("look()")
    with jshm.lock("X"):
        pass
    how(os.path.join(root, name))
    with jshm.lock("X"):
        pass
    assert publish(3) == 3
    assert other.run("look()") == 3.0
    assert other.run("publish(4)") == 4
    assert look() == 4.0
    assert {info.name: info.version for info in jshm.segments()} == {"X": 4}
    assert len(list(default_store().directory.leases.names())) >= 2


def test_the_directory_is_moved_during_a_copy(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publish raises an error of jshm, and the next attempt succeeds."""
    from jshm.segment import copying

    publish(1)
    real = copying.write

    def write(*args: Any) -> int:
        done = real(*args)
        os.rename(os.path.join(root, "segments"), os.path.join(root, "away"))
        return done

    with monkeypatch.context() as patch:
        patch.setattr(copying, "write", write)
        with pytest.raises(jshm.RegistryError, match="removed or moved"):
            publish(2)
    assert publish(3) > 1
    assert look() == 3.0


def test_the_overflow_directory_is_moved(
    root: str, other: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSHM_QUOTA", "1000")
    other.run("os.environ['JSHM_QUOTA'] = '1000'")
    with pytest.warns(jshm.OverflowWarning):
        assert publish(1) == 1
    assert other.run("look()") == 1.0
    overflow = str(default_store().directory.overflow)
    os.rename(overflow, f"{overflow}.away")
    with pytest.warns(jshm.OverflowWarning):
        assert publish(2) == 2
    assert other.run("look()") == 2.0
    assert look() == 2.0
    shutil.rmtree(overflow)
    assert "JshmError" in other.fails("gc.collect(); look()").kinds
    assert other.run("publish(3)") == 3
    assert look() == 3.0


# -- descriptors -----------------------------------------------------------------------------------


def test_a_process_that_closed_all_descriptors(root: str, other: Child) -> None:
    """A library that starts a daemon closes all descriptors, and other files get their numbers."""
    publish(1)
    found = other.run(f"""
publish(2)
read, write = os.pipe()
child = os.fork()
if not child:
    os.dup2(write, 100)
    os.closerange(3, 100)
    mine = [os.open({root!r}, os.O_RDONLY) for _ in range(20)]
    files = [os.open({root + ".copy"!r} + str(i), os.O_RDWR | os.O_CREAT) for i in range(20)]
    try:
        version = publish(3)
        text = f"{{version}} {{look()}} {{sum(os.fstat(fd).st_size for fd in files)}}"
    except BaseException as error:
        text = repr(error)
    os.write(100, text.encode())
    os._exit(0)
os.close(write)
text = os.read(read, 1000).decode()
os.waitpid(child, 0)
text
""")
    for i in range(20):
        os.unlink(f"{root}.copy{i}")
    assert found == "3 3.0 0"
    assert other.run("look()") == 3.0
    assert publish(4) == 4


def test_a_place_opens_its_directory_again(tmp_path: Path) -> None:
    place = OpenDirectory(str(tmp_path))
    (tmp_path / "file").write_text("here")
    os.close(place.fd)
    other = os.open("/", os.O_RDONLY)  # gets the same number
    try:
        assert status(File(place, "file")).st_size == 4
        os.close(open_file(File(place, "new"), os.O_CREAT | os.O_WRONLY))
        assert (tmp_path / "new").exists()
        assert os.path.samestat(os.fstat(other), os.stat("/"))
        del place
        assert os.path.samestat(os.fstat(other), os.stat("/"))
    finally:
        os.close(other)


def test_a_place_follows_the_directory_and_not_its_path(tmp_path: Path) -> None:
    root = tmp_path / "place"
    root.mkdir()
    place = OpenDirectory(str(root))
    root.rename(tmp_path / "moved")
    root.mkdir()
    os.close(open_file(File(place, "file"), os.O_CREAT | os.O_WRONLY))
    assert os.listdir(tmp_path / "moved") == ["file"]
    assert os.listdir(root) == []
    os.close(place.fd)
    with pytest.raises(FileNotFoundError):  # although its path leads to another directory
        status(File(place, "file"))


def test_places_are_pickled_as_paths(tmp_path: Path) -> None:
    place = OpenDirectory(str(tmp_path))
    for one in (place, File(place, "name")):
        found = pickle.loads(pickle.dumps(one))
        assert (type(found), found) == (str, one)
    with pytest.raises(FileNotFoundError) as caught:
        open_file(File(place, "none"), os.O_RDONLY)
    assert pickle.loads(pickle.dumps(caught.value)).filename == f"{tmp_path}/none"


def test_a_spot_sees_every_change(tmp_path: Path) -> None:
    root = tmp_path / "place"
    root.mkdir()
    spot = DirectoryPath(str(root))
    first = spot.resolve().directory
    (root / "file").touch()
    assert spot.resolve().directory is first
    root.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        spot.resolve()
    root.mkdir()
    second = spot.resolve().directory
    assert second.identity != first.identity
    os.utime(root, (0, 0))
    seen = spot.resolve()
    (root / "file").touch()
    os.utime(root, (0, 0))
    assert spot.resolve() is not seen


def test_sqlite_opens_the_registry_that_was_checked(
    store: LocalStore, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is exchanged while SQLite looks up the path, for the second time."""
    publish(1)
    store.close()
    real = sqlite3.connect
    swaps = 0

    def connect(*args: Any, **more: Any) -> sqlite3.Connection:
        nonlocal swaps
        swaps += 1
        if swaps > 1:
            return real(*args, **more)
        os.rename(root, f"{root}.gone")
        os.mkdir(root, 0o700)
        foreign = real(f"{root}/registry.db")
        foreign.execute("CREATE TABLE foreign_(x)")
        foreign.close()
        try:
            return real(*args, **more)
        finally:
            shutil.rmtree(root)
            os.rename(f"{root}.gone", root)

    read: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(database.sqlite3, "connect", connect)
        begin = database.Database._set_up
        patch.setattr(
            database.Database,
            "_set_up",
            lambda self, raw: (
                read.extend(row[0] for row in raw.execute("SELECT name FROM sqlite_master")),
                begin(self, raw),
            )[1],
        )
        assert look() == 1.0
    assert swaps > 1
    assert "foreign_" not in read
