"""The directory is deleted under live processes: what any of them has mapped is restored."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.errors import DirectoryLostWarning
from jshm.store import default_store
from jshm.store.local.registry.database import Database, ImmediateTransaction

from ....support.processes import Child, until
from ....support.users import people

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRELUDE = """
import warnings, numpy as np, jshm
def told(code):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        value = eval(code)
    return [value, [str(w.message) for w in found if w.category.__name__ == "DirectoryLostWarning"]]
"""
LISTED = "[[i.name, i.version, i.publisher, i.keep, i.note] for i in jshm.segments()]"


def delete(root: str) -> None:
    shutil.rmtree(root)
    time.sleep(0.1)  # reads trust a check of the file for this long


@pytest.fixture
def two(store_dir: str, tmp_path: Path) -> Iterator[tuple[Child, Child]]:
    with Child(tmp_path, "train.py") as train, Child(tmp_path, "eda.py") as eda:
        train.run(PRELUDE)
        eda.run(PRELUDE)
        yield train, eda


def test_attached_data_is_restored(two: tuple[Child, Child], store_dir: str) -> None:
    train, eda = two
    train.run("""
X = np.arange(1000.0)
jshm.publish("X", X)
jshm.publish("X", X * 2, keep=True, note="twice")
jshm.publish("Y", X)
jshm.publish("over", X)
jshm.release("over")
""")
    eda.run("x = jshm.attach('X')")
    delete(store_dir)
    value, told = eda.run("told('float(jshm.attach(\"X\")[1])')")
    assert value == 2.0
    assert len(told) == 1
    assert store_dir in told[0]
    assert "Restored from what is attached here: X" in told[0]
    # The other process has nothing attached. Nobody has the name that it published.
    listed, told = train.run(f"told('{LISTED}')")
    assert listed == [["X", 2, "train.py", True, "twice"]]
    assert "Lost, unless another notebook has it attached: Y" in told[0]
    # The segment is a sealed file, and not only a row.
    (file,) = os.listdir(f"{store_dir}/segments")
    path = f"{store_dir}/segments/{file}"
    np.testing.assert_array_equal(np.load(path), np.arange(1000.0) * 2)
    assert os.stat(path).st_mode & 0o777 == 0o400
    # Version numbers continue.
    assert train.run("[jshm.publish(n, X).version for n in ('X', 'Y', 'over')]") == [3, 2, 2]
    assert eda.run("x.sum() == np.arange(1000.0).sum() * 2 and jshm.check()") == []


def test_an_operation_of_the_holder_restores_for_all(
    two: tuple[Child, Child], store_dir: str
) -> None:
    train, eda = two
    train.run("jshm.publish('X', np.ones(10))")
    eda.run("x = jshm.attach('X')")
    delete(store_dir)
    assert "SegmentNotFoundError" in train.fails("jshm.attach('X')").kinds
    eda.run("from jshm.store import default_store; default_store().flush()")  # as after each cell
    assert train.run("jshm.attach('X').sum()") == 10.0
    for place in ("", "segments", "leases", "locks"):
        assert os.stat(os.path.join(store_dir, place)).st_mode & 0o777 == 0o700


def test_objects_are_restored_with_their_references(
    two: tuple[Child, Child], store_dir: str
) -> None:
    train, eda = two
    train.run("""
jshm.publish("X", np.arange(5.0))
x = jshm.attach("X")
b = jshm.zeros(4)
jshm.publish("O", {"x": x[::-1], "b": b, "own": np.ones(3)})
del x, b
""")
    eda.run("o = jshm.attach('O')")
    delete(store_dir)
    eda.run("jshm.segments()")
    look = "[o['x'].tolist(), o['b'].tolist(), o['own'].tolist()]"
    expected = [[4.0, 3.0, 2.0, 1.0, 0.0], [0.0] * 4, [1.0] * 3]
    assert train.run(f"o = jshm.attach('O'); {look}") == expected
    assert train.run("del o; jshm.release(['O', 'X']); jshm.segments()") == []
    eda.run("del o; jshm.gc()")
    assert os.listdir(f"{store_dir}/segments") == []
    assert eda.run("jshm.check()") == []


def test_all_names_of_a_segment_are_restored(two: tuple[Child, Child], store_dir: str) -> None:
    train, eda = two
    train.run("jshm.publish('X', np.ones(5))")
    eda.run("x = jshm.attach('X'); jshm.publish('second', x)")
    delete(store_dir)
    assert eda.run("sorted(i.name for i in jshm.segments())") == ["X", "second"]
    assert len(os.listdir(f"{store_dir}/segments")) == 1
    for ending in ("", "-wal", "-shm"):  # the trailer has both names
        os.unlink(f"{store_dir}/registry.db{ending}")
    assert train.run("[jshm.attach(n).sum() for n in ('X', 'second')]") == [5.0, 5.0]


def test_live_data_is_restored_as_live(two: tuple[Child, Child], store_dir: str) -> None:
    train, eda = two
    train.run("jshm.publish('L', np.zeros(3), writable=True); mine = jshm.attach('L', 'r+')")
    eda.run("old = jshm.attach('L', 'r+'); old[:] = 3")
    delete(store_dir)
    train.run("jshm.segments()")
    eda.run("jshm.attach('L', 'r+')[0] = 7")
    assert train.run("jshm.attach('L', 'r+').tolist()") == [7.0, 3.0, 3.0]
    assert train.run("mine.tolist()") == [3.0] * 3  # the old mapping is private now


def test_a_version_published_meanwhile_is_newer(
    two: tuple[Child, Child], store_dir: str, tmp_path: Path
) -> None:
    train, eda = two
    train.run("jshm.publish('X', np.zeros(3)); jshm.publish('X', np.ones(3))")
    eda.run("x = jshm.attach('X')")
    delete(store_dir)
    with Child(tmp_path, "new.py") as new:  # does not know the old directory
        new.run("import jshm, numpy as np; jshm.publish('X', np.full(3, 5.0))")
        assert eda.run("jshm.attach('X').tolist()") == [5.0] * 3
        assert new.run("jshm.publish('X', np.full(3, 6.0)).version") == 3


def test_a_changed_view_is_not_restored(two: tuple[Child, Child], store_dir: str) -> None:
    train, eda = two
    train.run("jshm.publish('X', np.zeros(3))")
    eda.run("c = jshm.attach('X', 'c'); c[0] = 1")
    delete(store_dir)
    listed, told = eda.run("told('jshm.segments()')")
    assert listed == []
    assert "Could not be restored: X" in told[0]
    assert "changed" in told[0]


def test_many_holders_restore_a_segment_once(store_dir: str, tmp_path: Path) -> None:
    holders = [Child(tmp_path, f"h{i}.py") for i in range(5)]
    try:
        holders[0].run("import jshm, numpy as np; jshm.publish('X', np.arange(100_000.0))")
        for holder in holders:
            holder.run("import jshm; x = jshm.attach('X')")
        delete(store_dir)
        for holder in holders:
            holder.send("len(jshm.segments()), float(jshm.attach('X')[-1])")
        # The first one may list before the copy is complete.
        assert {holder.receive()[1] for holder in holders} == {99_999.0}
        assert len(os.listdir(f"{store_dir}/segments")) == 1
        assert holders[0].run("jshm.check()") == []
    finally:
        for holder in holders:
            holder.exit()


def test_restoring_without_room_is_a_warning(
    store_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSHM_OVERFLOW_DIR", "")
    jshm.publish("X", np.ones(10))
    x = jshm.attach("X")
    delete(store_dir)

    def full(*_: object) -> bool:
        raise jshm.NoSpaceError("needs 80 B, 0 B free")

    with monkeypatch.context() as patch:
        patch.setattr("jshm.store.local.space.Budget.choose", full)
        with pytest.warns(DirectoryLostWarning, match=r"Could not be restored: X: needs 80 B"):
            assert jshm.segments() == []
    assert x.sum() == 10
    jshm.publish("X", x)
    assert jshm.info("X").version == 2


def test_only_the_registry_was_deleted(two: tuple[Child, Child], store_dir: str) -> None:
    """The segments still have everything, so there is no warning."""
    train, eda = two
    train.run("jshm.publish('X', np.ones(3)); jshm.publish('Y', np.ones(3)); jshm.release('Y')")
    for ending in ("", "-wal", "-shm"):
        os.unlink(f"{store_dir}/registry.db{ending}")
    time.sleep(0.1)
    assert eda.run("told('float(jshm.attach(\"X\").sum())')") == [3.0, []]
    assert train.run("told('jshm.publish(\"Y\", np.ones(3)).version')") == [2, []]


# -- only the registry is damaged, under live processes ----------------------------------------------


def damage(root: str, how: str) -> None:
    path = f"{root}/registry.db"
    if how == "emptied":
        os.truncate(path, 0)
    elif how in ("-wal", "-shm"):
        os.unlink(path + how)
    elif how == "log and index":
        os.unlink(path + "-wal")
        os.unlink(path + "-shm")
    else:
        os.unlink(path)
        if how == "a directory":
            os.mkdir(path)
        elif how == "text":
            with open(path, "w") as file:
                file.write("no database " * 1000)
    time.sleep(0.1)  # reads trust a check of the file for this long


def raw(root: str) -> dict[str, int]:
    """Read the registry without jshm."""
    con = sqlite3.connect(f"file:{root}/registry.db?mode=ro", uri=True)
    with contextlib.closing(con):
        return dict(con.execute("SELECT name, current FROM names WHERE current NOT NULL"))


def test_registered_names_cost_no_query_each(
    store_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments whose files still exist are read at once, however many there are."""
    counted = []
    begin, read = ImmediateTransaction._begin, Database.read
    monkeypatch.setattr(
        ImmediateTransaction, "_begin", lambda tx: (counted.append(1), begin(tx))[1]
    )
    monkeypatch.setattr(Database, "read", lambda db, *sql: (counted.append(1), read(db, *sql))[1])
    steps = []
    for many in (2, 40):
        jshm.publish({f"n{i}": np.full(3, float(i)) for i in range(many)}, keep=True)
        for path in glob.glob(f"{store_dir}/registry.db*"):
            os.unlink(path)
        counted.clear()
        assert jshm.attach("n1")[0] == 1.0
        steps.append(len(counted))
    assert steps[0] == steps[1]


@pytest.mark.parametrize("how", ["emptied", "-wal", "-shm", "log and index", "gone"])
def test_a_damaged_registry_is_rebuilt_for_all_processes(
    two: tuple[Child, Child], store_dir: str, tmp_path: Path, how: str
) -> None:
    train, eda = two
    train.run("X = np.arange(9.0); jshm.publish('X', X); jshm.publish('X', X * 2)")
    train.run("jshm.publish('R', X); jshm.release('R')")
    eda.run("x = jshm.attach('X')")
    damage(store_dir, how)
    assert train.run("told('jshm.publish(\"Y\", X).version')") == [1, []]
    assert raw(store_dir) == {"X": 2, "Y": 1}
    with Child(tmp_path, "new.py") as new:
        assert new.run("import jshm; sorted(i.name for i in jshm.segments())") == ["X", "Y"]
        assert eda.run("told('jshm.publish(\"Z\", x * 0).version')") == [1, []]
        assert raw(store_dir) == {"X": 2, "Y": 1, "Z": 1}
        assert new.run("jshm.attach('Z').sum()") == 0
    assert train.run("[jshm.publish(name, X).version for name in 'XR']") == [3, 2]
    for child in two:
        assert child.run("jshm.check()") == []
    assert eda.run("x.tolist()") == (np.arange(9.0) * 2).tolist()


@pytest.mark.parametrize("how", ["text", "a directory"])
def test_a_file_that_is_not_a_registry_is_rebuilt_on_request(
    two: tuple[Child, Child], store_dir: str, how: str
) -> None:
    train, eda = two
    train.run("X = np.arange(9.0); jshm.publish('X', X)")
    eda.run("x = jshm.attach('X')")
    damage(store_dir, how)
    for child in two:
        for attempt in ("jshm.segments()", "jshm.attach('X')", "jshm.publish('Y', np.ones(2))"):
            refused = child.fails(attempt)
            assert "CorruptRegistryError" in refused.kinds
            assert "No data was lost" in refused.message
    assert len(train.run("jshm.check(fix=True)")) == 1
    assert raw(store_dir) == {"X": 1}
    assert eda.run("jshm.publish('X', x * 2, replace=True).version") == 2
    for child in two:
        assert child.run("jshm.check()") == []


def test_a_registry_that_cannot_be_written(store_dir: str, tmp_path: Path) -> None:
    with people() as made, Child(tmp_path) as root:
        root.run("import jshm, numpy as np; jshm.publish('X', np.ones(3), keep=True)")
        for directory, _, names in os.walk(store_dir):
            for name in ("", *names):
                os.chown(os.path.join(directory, name), made.ada.uid, made.ada.gid)
        for ending in ("", "-wal", "-shm"):
            os.chmod(f"{store_dir}/registry.db{ending}", 0o400)
        tmp_path.chmod(0o755)
        with made.ada.child(tmp_path, "ada.py", {"JSHM_DIR": store_dir}) as ada:
            ada.run("import jshm, numpy as np")
            refused = ada.fails("jshm.publish('Y', np.ones(3))")
            assert "RegistryError" in refused.kinds
            assert "chmod 600" in refused.message
            for ending in ("", "-wal", "-shm"):
                os.chmod(f"{store_dir}/registry.db{ending}", 0o600)
            assert ada.run("jshm.publish('Y', np.ones(3)); jshm.attach('X').sum()") == 3
        for directory, _, names in os.walk(store_dir):
            for name in ("", *names):
                os.chown(os.path.join(directory, name), 0, 0)


def test_a_process_killed_while_it_restores_blocks_nobody(
    two: tuple[Child, Child], store_dir: str
) -> None:
    train, eda = two
    train.run("jshm.publish('X', np.arange(9.0)); x = jshm.attach('X')")
    eda.run("x = jshm.attach('X')")
    delete(store_dir)
    train.send("""
import os, signal
from jshm.store.local import new_segment
new_segment.NewSegment.register = lambda *_, **__: os.kill(os.getpid(), signal.SIGSTOP)
jshm.segments()
""")
    until(lambda: glob.glob(f"{store_dir}/segments/*"))
    train.stop()
    eda.send("jshm.attach('X').tolist()")
    train.kill()
    assert eda.receive(30) == np.arange(9.0).tolist()
    assert len(os.listdir(f"{store_dir}/segments")) == 1
    assert eda.run("jshm.check()") == []


def test_a_foreign_locked_file_does_not_block_recovery(store_dir: str) -> None:
    jshm.publish("X", np.ones(10))
    x = jshm.attach("X")
    path = default_store().location("X")
    shutil.rmtree(store_dir)
    for place in (store_dir, f"{store_dir}/segments"):
        os.mkdir(place, 0o700)
    with open(path, "w") as file:
        file.write("not a segment")
        fcntl.flock(file, fcntl.LOCK_SH)
        time.sleep(0.1)
        with pytest.warns(DirectoryLostWarning, match="Could not be restored: X: .* held by"):
            assert jshm.segments() == []
    assert x.sum() == 10
    assert jshm.publish("X", x).version == 2
