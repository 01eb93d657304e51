"""An older registry, or another store's, replaces the registry: data published since then is kept."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import shutil
import sqlite3
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.errors import RegistryError
from jshm.segment.trailer import COMMITTED
from jshm.store import default_store
from jshm.store.local import rebuild
from jshm.store.local.collect import Removals
from jshm.store.local.registry import database
from jshm.store.local.registry.statements import Transaction

from ....support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

pytestmark = pytest.mark.filterwarnings("ignore::jshm.DirectoryLostWarning")

PRELUDE = "import jshm, numpy as np; full = lambda n, value: np.full(n, float(value))"
# Name → its newest version, and a value in it.
NEWEST = {
    "X": (4, 4.0), "big": (2, 2.0), "old": (1, 1.0), "since": (1, 7.0), "second": (1, 1.0), "O": (1, 1.0),
    "p": (1, 5.0), "q": (1, 6.0), "LIVE": (1, 3.0), "sealed": (1, 8.0),
}  # fmt: skip


def exchange(root: str, backup: str, *endings: str) -> None:
    """Rename copies of the backup into place."""
    for ending in endings:
        shutil.copy2(f"{backup}/registry.db{ending}", f"{root}/copy")
        os.rename(f"{root}/copy", f"{root}/registry.db{ending}")


def rename_all(root: str, backup: str) -> None:
    exchange(root, backup, "", "-wal", "-shm")


def rename_one(root: str, backup: str) -> None:
    """The log beside it belongs to the replaced file."""
    exchange(root, backup, "")


def rename_alone(root: str, backup: str) -> None:
    for ending in ("-wal", "-shm"):
        os.unlink(f"{root}/registry.db{ending}")
    exchange(root, backup, "")


def write_all(root: str, backup: str) -> None:
    """Write as ``cp`` does, but never shorten ``registry.db-shm``, which SQLite maps."""
    for ending in ("", "-wal", "-shm"):
        with open(f"{backup}/registry.db{ending}", "rb") as copy:
            content = copy.read()
        with open(f"{root}/registry.db{ending}", "r+b") as file:
            file.write(content)
            if ending != "-shm":
                file.truncate()


HOWS = [rename_all, rename_one, rename_alone, write_all]


@pytest.fixture
def backup(store_dir: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(store_dir), prefix="jt-backup-") as place:
        yield place


def back_up(root: str, backup: str) -> None:
    for path in glob.glob(f"{root}/registry.db*"):
        shutil.copy2(path, backup)


def publish_around(train: Child, root: str, backup: str) -> None:
    """Publish, make a backup, and publish more."""
    train.run(PRELUDE)
    train.run("""
for name in ("X", "old", "gone"):
    jshm.publish(name, full(10, 1), keep=True)
jshm.publish("big", full(100_000, 1), keep=True)
old, born = jshm.attach("old"), jshm.empty(6)
""")
    back_up(root, backup)
    train.run("""
for value in (2, 3, 4):
    jshm.publish("X", full(10, value), keep=True)
jshm.publish("big", full(100_000, 2), keep=True)
jshm.release("gone")
jshm.publish("since", full(5, 7), keep=True, note="new")
jshm.publish("second", old, keep=True)
jshm.publish("O", {"x": old}, keep=True)
jshm.publish({"p": [full(3, 5)], "q": {"x": full(3, 6)}}, keep=True)
jshm.publish("LIVE", full(3, 3), keep=True, writable=True)
born[:] = 8
jshm.publish("sealed", born, keep=True)
""")


def assert_newest(child: Child) -> None:
    found = child.run("{i.name: i.version for i in jshm.segments() if i.state == 'current'}")
    assert found == {name: version for name, (version, _) in NEWEST.items()}
    for name, (_, value) in NEWEST.items():
        how = {"p": "[0][0]", "q": "['x'][0]", "O": "['x'][0]"}.get(name, "[0]")
        assert child.run(f"float(jshm.attach({name!r}){how})") == value
    assert "SegmentNotFoundError" in child.fails("jshm.attach('gone')").kinds


@pytest.mark.parametrize("how", HOWS)
def test_under_live_processes(
    store_dir: str, backup: str, tmp_path: Path, how: Callable[[str, str], None]
) -> None:
    with Child(tmp_path, "train.py") as train, Child(tmp_path, "eda.py") as eda:
        publish_around(train, store_dir, backup)
        eda.run(PRELUDE)
        eda.run("held = jshm.attach('X')")
        how(store_dir, backup)
        time.sleep(0.1)  # a read trusts for this long that the file exists
        with Child(tmp_path, "new.py") as new:
            new.run(PRELUDE)
            for child in (eda, train, new):
                assert_newest(child)
            # Version numbers continue, and held data is unchanged.
            numbers = new.run(
                "[jshm.publish(n, full(2, 0), replace=True).version for n in ('X', 'since', 'gone')]"
            )
            assert numbers == [5, 2, 2]
            assert eda.run("[float(held[0]), float(jshm.attach('X')[0])]") == [4.0, 0.0]
            for child in (eda, train, new):
                assert child.run("jshm.check()") == []


def remove_all(root: str, backup: str) -> None:
    for path in glob.glob(f"{root}/registry.db*"):
        os.unlink(path)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("how", [*HOWS, remove_all])
def test_between_the_check_and_the_commit(
    store_dir: str,
    backup: str,
    tmp_path: Path,
    how: Callable[[str, str], None],
    *,
    begun: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operation that returns has taken effect; one that has no effect raises and can be repeated."""
    for value in (1, 2, 3):
        jshm.publish("X", np.full(3, float(value)), keep=True)
        jshm.publish("Y", np.full(3, float(value)), keep=True)
        if value == 1:
            back_up(store_dir, backup)
    begin, pending = Transaction._begin, [how]

    def exchange_meanwhile(transaction: Transaction) -> None:
        exchanging = [pending.pop()] if pending else []
        if begun:
            begin(transaction)
        for exchange_now in exchanging:
            exchange_now(store_dir, backup)
        if not begun:
            begin(transaction)

    jshm.segments()  # housekeeping, which the next operation then skips
    monkeypatch.setattr(database, "_JUST_NOW", 1e9)
    monkeypatch.setattr(Transaction, "_begin", exchange_meanwhile)
    with contextlib.suppress(RegistryError):
        assert jshm.publish("X", np.full(3, 4.0), keep=True).version == 4
    assert jshm.publish("X", np.full(3, 5.0), keep=True).version >= 4
    assert jshm.attach("X")[0] == 5.0
    jshm.segments()
    back_up(store_dir, backup)
    pending.append(how)
    held = jshm.attach("Y")  # the name could be recovered from this mapping
    try:
        jshm.release("Y")
    except RegistryError:
        assert jshm.attach("Y")[0] == 3.0
        jshm.release("Y")
    jshm.segments()
    assert held[0] == 3.0
    with Child(tmp_path, "new.py") as new:
        new.run(PRELUDE)
        assert new.run("float(jshm.attach('X')[0])") == 5.0
        assert "SegmentNotFoundError" in new.fails("jshm.attach('Y')").kinds
        assert new.run("jshm.gc(); jshm.check()") == []


@pytest.mark.parametrize("how", HOWS[::-1])
def test_while_no_process_uses_it(
    store_dir: str, backup: str, tmp_path: Path, how: Callable[[str, str], None]
) -> None:
    with Child(tmp_path, "train.py") as train:
        publish_around(train, store_dir, backup)
        train.kill()
    how(store_dir, backup)
    with Child(tmp_path, "new.py") as new:
        new.run(PRELUDE)
        assert new.run("float(jshm.attach('since')[0])") == 7.0  # an attach is enough
        assert_newest(new)
        assert new.run("jshm.check()") == []


def test_the_registry_of_another_store(store_dir: str, backup: str, tmp_path: Path) -> None:
    with Child(tmp_path, "other.py", env={"JSHM_DIR": f"{backup}/store"}) as other:
        other.run(PRELUDE)
        other.run("jshm.publish('theirs', full(3, 1), keep=True)")
        with Child(tmp_path, "train.py") as train:
            publish_around(train, store_dir, backup)
            rename_all(store_dir, f"{backup}/store")
            time.sleep(0.1)
            assert_newest(train)
            assert "SegmentNotFoundError" in train.fails("jshm.attach('theirs')").kinds
        assert other.run("float(jshm.attach('theirs')[0])") == 1.0


def forget(root: str, name: str, last: int) -> None:
    """Make the registry older by one version of a name, so that it continues numbering from `last`."""
    default_store().close()
    con = sqlite3.connect(f"{root}/registry.db")
    (segment,) = con.execute("SELECT segment FROM versions WHERE name = ?", (name,)).fetchone()
    con.execute("DELETE FROM versions WHERE name = ?", (name,))
    con.execute("DELETE FROM segments WHERE id = ?", (segment,))
    con.execute("UPDATE names SET last = ?, current = NULL WHERE name = ?", (last, name))
    con.commit()
    con.close()


@pytest.mark.parametrize("meet", ["attach", "segments", "publish", "gc"])
def test_a_segment_without_a_row_is_registered_again(store_dir: str, meet: str) -> None:
    jshm.publish("X", np.ones(3), keep=True)
    jshm.publish("X", np.arange(3.0), keep=True, note="n")
    forget(store_dir, "X", 1)
    if meet == "attach":
        jshm.attach("X")
    elif meet == "segments":
        jshm.segments()
    elif meet == "publish":
        jshm.publish("Y", np.ones(3))
    else:
        jshm.gc()
    info = jshm.info("X")
    assert (info.version, info.note, info.keep) == (2, "n", True)
    assert jshm.attach("X").tolist() == [0.0, 1.0, 2.0]
    assert jshm.check() == []


def test_a_version_number_never_means_two_values(store_dir: str) -> None:
    """An older registry has reused a number: both values exist, and X is the one published last."""
    jshm.publish("X", np.arange(3.0), keep=True)
    path = default_store().location("X")
    os.link(path, f"{store_dir}/aside")
    jshm.release("X")
    os.chmod(f"{store_dir}/aside", 0o400)
    forgotten = f"{store_dir}/segments/0123456789abcdef.npy"
    jshm.publish("X", np.full(3, 9.0), keep=True)
    default_store().close()
    con = sqlite3.connect(f"{store_dir}/registry.db")
    con.execute("UPDATE names SET last = 1, current = 1 WHERE name = 'X'")
    con.execute("UPDATE versions SET version = 1 WHERE name = 'X'")
    con.execute("INSERT INTO stale_trailers SELECT segment FROM versions WHERE name = 'X'")
    con.commit()
    con.close()
    os.rename(f"{store_dir}/aside", forgotten)
    jshm.gc()
    found = {info.name: jshm.attach(info.name)[1] for info in jshm.segments()}
    assert found == {"X": 9.0, "X.lost-01234567": 1.0}
    assert jshm.check() == []
    for ending in ("", "-wal", "-shm"):  # its trailer has the new name
        os.unlink(f"{store_dir}/registry.db{ending}")
    time.sleep(0.1)
    assert sorted(info.name for info in jshm.segments()) == ["X", "X.lost-01234567"]
    # After a release its file comes back once more: the name does not get longer.
    os.link(forgotten, f"{store_dir}/aside")
    jshm.release("X.lost-01234567", force=True)
    os.chmod(f"{store_dir}/aside", 0o400)
    os.rename(f"{store_dir}/aside", forgotten)
    jshm.gc()
    found = {info.name: info.version for info in jshm.segments()}
    assert found == {"X": 1, "X.lost-01234567": 2}
    assert jshm.check() == []


def test_unregistered_and_released_files_are_collected(store_dir: str) -> None:
    jshm.publish("X", np.arange(3.0), keep=True)
    jshm.publish("Y", np.arange(3.0), keep=True)
    unfinished, released = default_store().location("X"), default_store().location("Y")
    with open(unfinished, "rb") as file:
        content = file.read()
    assert content.count(COMMITTED) == 1
    forget(store_dir, "X", 0)
    forget(store_dir, "Y", 0)
    os.chmod(unfinished, 0o600)
    with open(unfinished, "wb") as file:
        file.write(content.replace(COMMITTED, bytes(len(COMMITTED))))
    os.chmod(released, 0o500)  # its process was killed before it removed it
    assert jshm.segments() == []
    jshm.gc()
    assert os.listdir(f"{store_dir}/segments") == []


def test_what_is_released_and_held_does_not_bring_back_what_it_referred_to(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments are registered again after the commit of a release, and before the files are removed."""
    store.publish({"A": np.arange(10.0)})
    store.publish({"O": {"A": store.attach(["A"])[0].value, "own": np.arange(5000.0)}})
    own = store.attach(["O"])[0].value["own"]
    gc.collect()
    store.flush()
    execute = Removals.execute

    def late(removals: Removals) -> None:
        monkeypatch.setattr(Removals, "execute", execute)
        assert len(store.directory.files()) == 2
        with store.registry.transact() as tx:
            rebuild.register(tx, store.directory)
        execute(removals)

    monkeypatch.setattr(Removals, "execute", late)
    store.release(["A", "O"])
    assert store.check() == []
    assert len(store.registry.segment_ids()) == 1
    assert own.sum() == np.arange(5000.0).sum()


def test_a_transaction_that_fails_releases_nothing(store_dir: str) -> None:
    store = default_store()
    jshm.publish("X", np.arange(3.0), keep=True)
    path = default_store().location("X")

    def doom() -> None:
        with store.process.transaction() as (_, doomed):
            doomed.add(path)
            assert os.stat(path).st_mode & 0o777 == 0o500
            raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError):
        doom()
    assert os.stat(path).st_mode & 0o777 == 0o400
    assert jshm.attach("X").sum() == 3
