"""A registry that is removed, damaged, or of another version: no data is lost, and errors say what to do."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.store import default_store
from jshm.store.local import inspection
from jshm.store.local.registry import rows
from jshm.store.names import MAX_NOTE

from .....support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jshm.store.local.store import LocalStore

PUBLISH = """
import numpy as np, jshm
X = np.arange(1000.0)
jshm.publish({"X": X, "exp/y": X.reshape(10, 100).T}, keep=True, note="the note")
jshm.publish("X", X * 2, keep=True)
"""


def database(root: str) -> str:
    return os.path.join(root, "registry.db")


def edit(root: str, *statements: str) -> None:
    """Change the registry as another program would, while this process has no connection."""
    default_store().registry.close()
    con = sqlite3.connect(database(root))
    for statement in statements:
        con.execute(statement)
    con.commit()
    con.close()


def published(directory: Path) -> None:
    """Publish from a process that ends, so that no connection is open and all rows are in the one file."""
    with Child(directory, "train.py") as child:
        child.run(PUBLISH)
        child.exit()


def intact() -> None:
    """Assert that all data of `PUBLISH` is unchanged."""
    np.testing.assert_array_equal(jshm.attach("X"), np.arange(1000.0) * 2)
    y = jshm.attach("exp/y")
    np.testing.assert_array_equal(y, np.arange(1000.0).reshape(10, 100).T)
    assert y.flags.f_contiguous
    info = {i.name: i for i in jshm.segments()}
    assert {name: i.version for name, i in info.items()} == {"X": 2, "exp/y": 1}
    assert info["exp/y"].note == "the note"
    assert info["X"].keep
    assert info["X"].publisher == "train.py"
    assert not info["X"].writable


def spoil_header(path: str) -> None:
    with open(path, "r+b") as file:
        file.write(b"not a database at all")


def spoil_schema(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 400)


def spoil_pages(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(os.path.getsize(path) - 4096))


def truncate(path: str) -> None:
    os.truncate(path, 5000)


@pytest.mark.parametrize("damage", [spoil_header, spoil_schema, spoil_pages, truncate])
def test_damaged(store: LocalStore, tmp_path: Path, damage: object) -> None:
    published(tmp_path)
    damage(database(store.directory.root))  # type: ignore[operator]
    for operation in (
        lambda: jshm.attach("X"),
        jshm.segments,
        lambda: jshm.publish("Z", np.zeros(3)),
        lambda: jshm.release("X", force=True),
    ):
        with pytest.raises(jshm.CorruptRegistryError, match="No data was lost"):
            operation()
    found = jshm.check()
    assert [problem.fixed for problem in found] == [False]
    found = jshm.check(fix=True)
    assert [problem.fixed for problem in found] == [True]
    assert jshm.check() == []
    intact()
    aside = {name for name in os.listdir(store.directory.root) if "damaged" in name}
    assert len(aside) == 1
    store.registry.close()
    damage(database(store.directory.root))  # type: ignore[operator]
    jshm.check(fix=True)
    intact()
    newest = {name for name in os.listdir(store.directory.root) if "damaged" in name}
    assert len(newest) == 1, "each takes memory"
    assert newest != aside


def test_damaged_while_arrays_are_held(store: LocalStore, tmp_path: Path) -> None:
    published(tmp_path)
    held, other = jshm.attach("X"), jshm.attach("exp/y")
    store.registry.close()
    spoil_header(database(store.directory.root))
    del other  # the process would report this to the registry, which cannot be read
    found = jshm.check(fix=True)
    assert [problem.fixed for problem in found] == [True]
    intact()
    np.testing.assert_array_equal(held, np.arange(1000.0) * 2)


@pytest.mark.parametrize("removed", ["emptied", "file", "all three"])
def test_removed(store: LocalStore, tmp_path: Path, removed: str) -> None:
    """The registry is rebuilt from the trailers of the segments."""
    published(tmp_path)
    path = database(store.directory.root)
    if removed == "emptied":
        os.truncate(path, 0)
    else:
        store.names()  # so that this process has it open
        for ending in ("", "-wal", "-shm")[: 1 if removed == "file" else 3]:
            os.unlink(path + ending)
    jshm.publish("Z", np.ones(3))
    jshm.release("Z")
    intact()
    assert jshm.publish("X", np.zeros(3), replace=True).version == 3


def test_removed_while_segments_are_held(store: LocalStore, tmp_path: Path) -> None:
    """A held segment is not collected, although no row mentions it."""
    with Child(tmp_path, "train.py") as train, Child(tmp_path, "eda.py") as eda:
        train.run(PUBLISH)
        eda.run("import jshm, numpy as np; x = jshm.attach('X')")
        train.run("z = jshm.empty(5); z[:] = 7")
        os.unlink(database(store.directory.root))
        jshm.gc()
        intact()
        assert eda.run("float(x.sum())") == float(np.arange(1000.0).sum() * 2)
        assert [h.label for i in jshm.segments() if i.name == "X" for h in i.holders] == ["eda.py"]
        train.run("jshm.publish('z', z, keep=True)")
        np.testing.assert_array_equal(jshm.attach("z"), np.full(5, 7.0))
        assert train.run("jshm.publish('X', X).version") == 3
    jshm.gc()


def test_directory_removed_under_live_processes(store_dir: str, tmp_path: Path) -> None:
    with Child(tmp_path, "train.py") as train, Child(tmp_path, "eda.py") as eda:
        train.run(PUBLISH)
        eda.run("import jshm, numpy as np; x = jshm.attach('X')")
        shutil.rmtree(store_dir)
        assert train.run("jshm.publish('X', X, keep=True); jshm.check()") == []
        time.sleep(0.1)  # a read trusts for this long that the file exists
        assert eda.run("float(x.sum())") == float(np.arange(1000.0).sum() * 2)
        assert eda.run("float(jshm.attach('X').sum())") == float(np.arange(1000.0).sum())
        assert eda.run("[i.publisher for i in jshm.segments()]") == ["train.py"]
        for place in ("", "segments", "leases", "locks"):
            assert os.stat(os.path.join(store_dir, place)).st_mode & 0o777 == 0o700
        eda.run("del x")
        shutil.rmtree(store_dir)
        assert eda.run("jshm.segments()") == []
        assert eda.run("jshm.check()") == []
        shutil.rmtree(store_dir)
        eda.run("z = jshm.empty(4)")
        eda.run("jshm.publish('z', z)")
        assert train.run("jshm.attach('z', timeout=10).tolist()") == [0.0] * 4


def test_waiting_survives_a_removed_registry(store: LocalStore, tmp_path: Path) -> None:
    with Child(tmp_path, "a.py") as waiting, Child(tmp_path, "b.py") as other:
        other.run("import jshm, numpy as np; jshm.publish('X', np.ones(1), keep=True)")
        waiting.send("import jshm; jshm.attach('Y', timeout=30).tolist()")
        other.run("import time; time.sleep(0.3)")
        for ending in ("", "-wal", "-shm"):
            os.unlink(database(store.directory.root) + ending)
        other.run("jshm.publish('Y', np.ones(2), keep=True)")
        assert waiting.receive(10) == [1.0, 1.0]


@pytest.mark.parametrize("how", ["close", "fork"])
def test_a_commit_between_two_connections_is_detected(
    store: LocalStore, tmp_path: Path, how: str
) -> None:
    """SQLite counts the commits of other processes per connection, from the same start."""
    database = store.registry
    with Child(tmp_path) as other:
        other.run("import jshm, numpy as np; jshm.segments()")
        store.names()
        for _ in range(3):
            before = store.registry.data_version()
            assert store.registry.data_version() == before
            if how == "close":
                database.close()
            else:
                database._before_fork()
            other.run("jshm.publish('X', np.ones(3), keep=True)")
            if how == "fork":
                database._after_fork_in_parent()
            assert store.registry.data_version() != before


def test_newer_format(store_dir: str, tmp_path: Path) -> None:
    published(tmp_path)
    edit(store_dir, "PRAGMA user_version = 99")
    files = sorted(os.listdir(os.path.join(store_dir, "segments")))
    for operation in (
        lambda: jshm.attach("X"),
        jshm.segments,
        lambda: jshm.publish("Z", np.zeros(3)),
        lambda: jshm.check(fix=True),
    ):
        with pytest.raises(jshm.FormatVersionError, match=r"newer jshm.*upgrade"):
            operation()
    edit(store_dir, "PRAGMA user_version = 1")
    assert sorted(os.listdir(os.path.join(store_dir, "segments"))) == files
    intact()


def test_columns_and_tables_of_a_newer_jshm_are_ignored(store: LocalStore, tmp_path: Path) -> None:
    published(tmp_path)
    edit(
        store.directory.root,
        *(
            f"ALTER TABLE {table} ADD COLUMN added TEXT NOT NULL DEFAULT 'x'"
            for table in ("names", "versions", "segments", "leases", "refs")
        ),
        "CREATE TABLE subscriptions(name TEXT PRIMARY KEY, secret BLOB)",
        "CREATE INDEX extra ON versions(created)",
        'INSERT INTO leases(id, identity) VALUES (\'00\', \'{"pid":1,"species":"martian"}\')',
    )
    intact()
    y = jshm.attach("exp/y")
    assert jshm.publish("X", np.zeros(3), replace=True).version == 3
    jshm.publish("alias", y)
    jshm.publish("born", jshm.zeros(3))
    jshm.release(["X", "alias"], force=True)
    del y
    jshm.gc()
    assert jshm.check() == []
    assert store.names() == ["born", "exp/y"]


def test_versions_never_restart(store: LocalStore, tmp_path: Path) -> None:
    published(tmp_path)
    jshm.release("X", force=True)
    assert jshm.publish("X", np.zeros(3)).version == 3
    jshm.release("X")
    store.registry.close()
    jshm.gc()
    assert jshm.publish("X", np.zeros(3)).version == 4


def test_check_finds_and_repairs(store: LocalStore, tmp_path: Path) -> None:
    """Every contradiction between rows and files is found, reported and repaired."""
    published(tmp_path)
    root = store.directory.root
    segments = store.directory.segments
    jshm.publish({"gone": np.ones(3), "short": np.ones(3000), "other": np.ones(3)}, keep=True)
    path = {name: store.location(name) for name in ("gone", "short", "other")}
    os.unlink(path["gone"])
    os.truncate(path["short"], 200)
    os.chmod(path["other"], 0o600)
    with open(path["other"], "r+b") as file:
        file.write(b"garbage")
    with open(os.path.join(segments, "00000000000000ff.npy"), "wb") as file:
        file.write(b"x" * 5000)
    edit(
        root,
        "INSERT INTO names(name, last, current) VALUES ('ghost', 3, 3)",
        "INSERT INTO versions(name, version, segment, lease, created, keep, note, once) "
        "VALUES ('X', 9, 'nowhere', 'nobody', 0, 0, '', '')",
    )
    for name in path:
        with pytest.raises(jshm.CorruptSegmentError):
            jshm.attach(name)
    found = [problem.what for problem in jshm.check()]
    for part in ("is gone", "truncated", "not", "00000000000000ff.npy", "a version", "ghost"):
        assert any(part in what for what in found), (part, found)
    assert os.path.exists(os.path.join(segments, "00000000000000ff.npy"))
    assert all(problem.fixed for problem in jshm.check(fix=True))
    assert jshm.check() == []
    assert not os.path.exists(os.path.join(segments, "00000000000000ff.npy"))
    intact()


def test_what_only_a_removed_reference_needed_goes(store: LocalStore) -> None:
    """One look mends all, also what is wrong only after something else was mended."""
    segment = jshm.publish("X", np.ones(3)).segment
    edit(store.directory.root, f"INSERT INTO refs(segment, needs) VALUES ('nowhere', '{segment}')")
    jshm.release("X")
    assert store.registry.segment_ids() == {segment}
    assert [problem.fixed for problem in jshm.check(fix=True)] == [True]
    assert jshm.check() == []
    jshm.gc()
    assert store.registry.segment_ids() == set()


@pytest.mark.parametrize("fix", [False, True])
def test_check_reports_more_files_than_fit_a_batch(store: LocalStore, fix: bool) -> None:
    """Each file in a batch is open, and a process may have few descriptors."""
    paths = [os.path.join(store.directory.segments, f"{i:016x}.npy") for i in range(450)]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"x")
    jshm.publish("X", np.ones(3))  # collects one batch of them
    paths = [path for path in paths if os.path.exists(path)]
    for i in range(450, 900):
        paths.append(os.path.join(store.directory.segments, f"{i:016x}.npy"))
        with open(paths[-1], "wb") as file:
            file.write(b"x")
    found = jshm.check(fix=fix)
    assert len(found) == len(paths)
    assert all(any(path in problem.what for problem in found) for path in paths[::50])
    assert [os.path.exists(path) for path in paths] == [not fix] * len(paths)
    jshm.check(fix=True)
    assert jshm.check() == []


def rebuild_without(root: str) -> None:
    """Remove the registry, so that the next use rebuilds it from the segments."""
    default_store().registry.close()
    for name in os.listdir(root):
        if name.startswith("registry.db") and "ballast" not in name:
            os.unlink(os.path.join(root, name))


def test_a_released_name_does_not_come_back(store: LocalStore) -> None:
    """Its segment remains under another name, and its trailer is rewritten."""
    jshm.publish("secret", np.arange(3.0))
    jshm.publish("other", jshm.attach("secret"))
    path = store.location("secret")
    jshm.release("secret")
    rebuild_without(store.directory.root)
    assert store.names() == ["other"]
    np.testing.assert_array_equal(jshm.attach("other"), np.arange(3.0))
    jshm.publish("secret", jshm.attach("other"))
    assert os.path.samefile(store.location("secret"), path)
    assert os.stat(path).st_mode & 0o777 == 0o400
    rebuild_without(store.directory.root)
    assert store.names() == ["other", "secret"]


def test_publishing_the_same_segment_again_does_not_make_its_file_longer(store: LocalStore) -> None:
    jshm.publish("X", np.arange(3.0))
    jshm.publish("X", jshm.attach("X"))
    size = os.path.getsize(store.location("X"))
    for _ in range(50):
        jshm.publish("X", jshm.attach("X"))
    assert os.path.getsize(store.location("X")) == size


# -- beside a newer jshm ---------------------------------------------------------------------------

NEWER = "ab" * 8


@pytest.fixture
def newer(store: LocalStore) -> Iterator[Path]:
    """A table, a kind that this version does not know, published as `sales`: its file."""
    jshm.publish("X", np.arange(5.0), keep=True)
    path = Path(store.directory.segments) / f"{NEWER}.jshm"
    path.write_bytes(b"\x93JSHMOBJ" + b"sales" * 100)
    with store.registry.transact() as tx:
        tx.execute(
            "INSERT INTO segments VALUES(?, 'table', 'arrow', '', '', 500, 0, 0, 1, 0)",
            (NEWER,),
        )
        tx.execute("INSERT INTO names(name, last, current) VALUES ('sales', 1, 1)")
        tx.execute(
            "INSERT INTO versions SELECT 'sales', 1, ?, lease, created, 1, 'a note', '', 0 "
            "FROM versions WHERE name = 'X'",
            (NEWER,),
        )
    yield path
    with store.registry.transact() as tx:
        for table in ("versions", "names"):
            tx.execute(f"DELETE FROM {table} WHERE name = 'sales'")
        tx.execute("DELETE FROM segments WHERE id = ?", (NEWER,))
    path.unlink()


def test_a_segment_of_an_unknown_kind_is_listed(store: LocalStore, newer: Path) -> None:
    info = {i.name: i for i in jshm.segments()}
    assert set(info) == {"X", "sales"}
    sales = info["sales"]
    assert (sales.kind, sales.nbytes, sales.note, sales.shape) == ("table", 500, "a note", ())
    assert info["X"].kind == "array"
    (entry,) = store.registry.current(["sales"])
    assert inspection.type_of(entry.segment) == "table"
    assert inspection.type_of(store.registry.current(["X"])[0].segment) == "float64 (5,)"


def test_a_segment_of_an_unknown_kind_cannot_be_attached(store: LocalStore, newer: Path) -> None:
    (entry,) = store.registry.current(["sales"])
    with pytest.raises(jshm.FormatVersionError, match="sales is of kind 'table': it needs a newer"):
        rows.check_kind(entry)
    rows.check_kind(store.registry.current(["X"])[0])
    with pytest.raises(jshm.FormatVersionError, match="of kind 'table': it needs a newer jshm"):
        jshm.attach("sales")
    np.testing.assert_array_equal(jshm.attach("X"), np.arange(5.0))


def test_a_segment_of_an_unknown_kind_is_kept(store: LocalStore, newer: Path) -> None:
    whole = newer.read_bytes()
    assert store.directory.path(NEWER, overflow=False, kind="table") == str(newer)
    assert store.directory.files()[NEWER] == str(newer)
    assert jshm.check() == []
    assert jshm.check(fix=True) == []
    jshm.publish("X", np.ones(2))
    jshm.gc()
    assert {i.name for i in jshm.segments()} == {"X", "sales"}
    newer.rename(newer.with_suffix(".elsewhere"))  # also if this process cannot see the file
    assert [problem.fixed for problem in jshm.check(fix=True)] == [False]
    newer.with_suffix(".elsewhere").rename(newer)
    rebuild_without(store.directory.root)
    assert "X" in store.names()
    assert jshm.check(fix=True) == []
    assert newer.read_bytes() == whole


def test_a_session_of_an_unknown_kind(store: LocalStore) -> None:
    jshm.publish("X", np.ones(3), keep=False)
    edit(
        store.directory.root,
        "UPDATE leases SET identity = "
        'json_set(identity, \'$.session\', json(\'{"kind": "cluster", "pid": 1}\'))',
    )
    assert jshm.info("X").lifetime == "server"
    assert [i.lifetime for i in jshm.segments()] == ["server"]
    np.testing.assert_array_equal(jshm.attach("X"), np.ones(3))


@pytest.mark.parametrize("note", ["n" * 2_000_000, "n" * 10_001, "\ud800"])
def test_a_note_that_a_trailer_cannot_hold_is_refused(store: LocalStore, note: str) -> None:
    refused = pytest.raises((jshm.NotShareableError, ValueError), match="note")
    array = jshm.zeros(3)
    for value in (np.ones(3), array):
        with refused:
            store.publish({"X": value}, note=note)
    assert store.names() == []
    store.publish({"X": array}, note="ü" * MAX_NOTE)
    path = store.location("X")
    rebuild_without(store.directory.root)
    assert jshm.info("X").note == "ü" * MAX_NOTE
    with refused:
        store.publish({"Y": jshm.attach("X")}, note=note)
    assert os.stat(path).st_mode & 0o777 == 0o400, "still sealed"


def test_random_damage_is_an_error_and_never_a_crash(store_dir: str, tmp_path: Path) -> None:
    """With any bytes overwritten: a result or a JshmError, and the repair keeps intact data."""
    published(tmp_path)
    with open(database(store_dir), "rb") as file:
        whole = file.read()
    draw = random.Random(5)
    with Child(tmp_path, "eda.py") as child:
        child.run("""
import jshm, numpy as np
from jshm.store import default_store
X = np.arange(1000.0)
def attempt(operation):
    try:
        return operation()
    except jshm.JshmError as error:
        return error
def use():
    for operation in (jshm.segments, lambda: jshm.info("X"), lambda: jshm.check(),
                      lambda: jshm.attach("missing")):
        attempt(operation)
    x = attempt(lambda: jshm.attach("X"))
    return isinstance(x, Exception) or bool((x == 2 * X).all())
def mend():
    jshm.check(fix=True)
    found = jshm.check()
    jshm.publish("new", X)
    jshm.release("new")
    default_store().registry.close()
    return [problem.what for problem in found]
""")
        failures = []
        for round_ in range(8):
            spoilt = bytearray(whole)
            for _ in range(draw.choice([1, 3, 30])):
                spoilt[draw.randrange(100, len(spoilt))] = draw.randrange(256)
            files = set(os.listdir(os.path.join(store_dir, "segments")))
            with open(database(store_dir), "wb") as file:
                file.write(spoilt)
            try:
                right = child.run("use()")
                left = child.run("mend()")
                if not right or left:
                    failures.append((round_, right, left))
            except Exception as error:
                failures.append((round_, str(error), len(files)))
            child.run("default_store().registry.close()")
            shutil.rmtree(store_dir)
            os.mkdir(store_dir, 0o700)
            published(tmp_path)
            with open(database(store_dir), "rb") as file:
                whole = file.read()
        assert failures == []


def test_threads_that_use_it_first_at_the_same_time_share_one_store(
    store_dir: str, tmp_path: Path
) -> None:
    with Child(tmp_path) as child:
        for _ in range(5):
            assert child.run("""
import threading, numpy as np, jshm, jshm.api, jshm.store, os, sys
sys.setswitchinterval(1e-6)
jshm.store._store_in.cache_clear()
barrier, found, failed = threading.Barrier(8), [], []
def use(i):
    barrier.wait()
    try:
        found.append(jshm.store.default_store())
        found[-1].publish({f"X{i}": np.ones(3)})
    except Exception as error:
        failed.append(repr(error))
threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
stores = len({id(store) for store in found})
leases = [name for name in os.listdir(os.environ["JSHM_DIR"] + "/leases") if "." not in name]
found[0].close()
found.clear()
[stores, failed, len(leases)]
""") == [1, [], 1]


def test_a_fork_while_a_store_is_created(store_dir: str, tmp_path: Path) -> None:
    """The child does not wait for a thread that only its parent has."""
    with Child(tmp_path) as child:
        assert (
            child.run("""
import os, threading, time, warnings, jshm, jshm.api, jshm.store
warnings.simplefilter("ignore")
real, begun = jshm.store.LocalStore.__init__, threading.Event()
def slow(*args, **more):
    begun.set()
    time.sleep(0.3)
    real(*args, **more)
jshm.store.LocalStore.__init__ = slow
thread = threading.Thread(target=jshm.store.default_store)
thread.start()
begun.wait()
pid = os.fork()
if not pid:
    try:
        os._exit(jshm.segments() != [])
    finally:
        os._exit(9)
thread.join()
os.waitpid(pid, 0)[1]
""")
            == 0
        )


# Values that SQLite accepts and jshm never writes, and rows that no transaction of jshm leaves behind.
WRONG = {
    "a name that is not text": "UPDATE names SET name = x'ff00' WHERE name = 'X'",
    "a version that is not a number": "UPDATE names SET last = 'many' WHERE name = 'X'",
    "an older last version": "UPDATE names SET last = 1 WHERE name = 'X'",
    "a version that never existed": "UPDATE names SET current = 7 WHERE name = 'X'",
    "another name's segment": "UPDATE versions SET segment = (SELECT segment FROM versions "
    "WHERE name = 'exp/y') WHERE name = 'X' AND version = 2",
    "a time that is text": "UPDATE versions SET created = 'now' WHERE name = 'X'",
    "an infinite time": "UPDATE versions SET created = 9e999",
    "text that is not UTF-8": "UPDATE versions SET note = CAST(x'ff' AS TEXT) WHERE name = 'X'",
    "a publisher's id with a zero": "UPDATE leases SET id = '0123456789abcde' || char(0)",
    "a publisher's id that is a path": "UPDATE leases SET id = '../../../etc/passwd'",
    "a publisher's id that is not text": "UPDATE leases SET id = x'00'",
    "a publisher with a wrong identity": "UPDATE leases SET identity = '{\"notebook\": 5}'",
    "a publisher nested too deeply": "UPDATE leases SET identity = replace(hex(zeroblob(60000)), '00', '[')",
    "a kind that its file does not have": "UPDATE segments SET kind = 'other'",
    "a shape nested too deeply": "UPDATE segments SET shape = replace(hex(zeroblob(60000)), '00', '[')",
    "a shape of fractions": "UPDATE segments SET shape = '[1000.0]' WHERE shape = '[1000]'",
    "a place where its file is not": "UPDATE segments SET overflow = 1",
    "a segment marked as released": "UPDATE segments SET unlinked = 1",
    "a segment marked as unwanted": "UPDATE segments SET wanted = 0",
    "a segment without its row": "DELETE FROM segments",
    "an order that is not text": "UPDATE segments SET \"order\" = x'43'",
    "a schema without a version": "PRAGMA user_version = 0",
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_registry_that_contradicts_itself(store: LocalStore, tmp_path: Path, wrong: str) -> None:
    """Operations read correct data or raise; the repair rebuilds it, and no data is lost."""
    published(tmp_path)
    edit(store.directory.root, wrong)
    for operation in (
        lambda: np.testing.assert_array_equal(jshm.attach("exp/y")[:, 0], np.arange(100.0)),
        jshm.segments,
        lambda: jshm.info("X"),
        lambda: jshm.publish("Z", np.zeros(3)),
        jshm.gc,
    ):
        with contextlib.suppress(jshm.JshmError):
            operation()
    # A segment without a row is registered again by the next write.
    assert jshm.check() != [] or wrong == WRONG["a segment without its row"]
    assert all(problem.fixed for problem in jshm.check(fix=True))
    assert jshm.check() == []
    if "Z" in store.names():
        jshm.release("Z")
    intact()
    assert jshm.publish("X", np.zeros(3), replace=True).version == 3


def test_a_shape_of_fractions_is_never_written_to_a_header(
    store: LocalStore, tmp_path: Path
) -> None:
    """(1000.0,) equals (1000,) and has the same hash: one row's shape must not reach another's header."""
    published(tmp_path)
    edit(store.directory.root, "UPDATE segments SET shape = '[7777.0]' WHERE shape = '[1000]'")
    with contextlib.suppress(jshm.JshmError):
        jshm.attach("X")
    jshm.publish("Z", np.arange(7777.0))
    np.testing.assert_array_equal(np.load(store.location("Z")), np.arange(7777.0))
    jshm.check(fix=True)


def test_names_with_a_prefix_are_found(store: LocalStore) -> None:
    array = np.zeros((3, 2))
    store.publish(dict.fromkeys(["a/é", "a/x", "a/y", "a0", "b", "ä", "𝒳", "𝒳/y"], array))
    store.release(["a/y"])
    kind = "float64 (3, 2)"
    assert store.complete("a/", -1) == [("a/x", kind), ("a/é", kind)]
    assert store.complete("𝒳", -1) == [("𝒳", kind), ("𝒳/y", kind)]
    assert [name for name, _ in store.complete("", -1)] == store.names()
    assert [name for name, _ in store.complete("", 2)] == ["a/x", "a/é"]
    assert store.complete("nothing", -1) == []
