"""Objects that refer to arrays in shared memory: no copy, and the array lives as long as it is needed.

Files are counted, tables are read by a process without jshm, and referred arrays are checked from another
process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store import default_store
from jshm.store.local import attach, publish

from ....support.processes import Child, ChildError, in_store, reading
from .test_objects import HELPERS, files, header_of, lose_registry, overwrite, read, told, where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

BIG = 1 << 20

QUERY = """
import sqlite3
def query(root, sql):
    con = sqlite3.connect(root + "/registry.db")
    try:
        return con.execute(sql).fetchall()
    finally:
        con.close()
"""
REFS = "SELECT segment, needs FROM refs ORDER BY 1, 2"
ORPHANS = (
    "SELECT * FROM refs WHERE segment NOT IN (SELECT id FROM segments) "
    "OR needs NOT IN (SELECT id FROM segments WHERE NOT unlinked)"
)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with reading(tmp_path_factory.mktemp("reader"), HELPERS) as child:
        yield child


@pytest.fixture
def reader(store: LocalStore, process: Child) -> Iterator[Child]:
    """Another process that uses the store of this test."""
    with in_store(process, store.directory.root) as child:
        yield child


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A process without jshm that reads the tables."""
    with Child(tmp_path_factory.mktemp("raw"), "raw.py") as child:
        child.run(QUERY)
        yield child


@pytest.fixture
def query(store: LocalStore, raw: Child) -> Callable[[str], list[list[Any]]]:
    return lambda sql: raw.run(f"query({store.directory.root!r}, {sql!r})")  # type: ignore[no-any-return]


def start(tmp_path: Path, script: str = "train.py", **options: Any) -> Child:
    child = Child(tmp_path, script, **options)
    child.run("import gc, os, signal, sys, numpy as np, jshm\nfrom jshm.store import default_store")
    return child


def payload(store: LocalStore, name: str) -> int:
    """Return the bytes of the pickle and of the buffers, from the file."""
    content, _ = header_of(store.location(name))
    return int(content["pickle"][0] + sum(content["buffers"]))


def needs(store: LocalStore, name: str) -> list[str]:
    """Return the segments that an object refers to, from its file."""
    found: list[str] = header_of(store.location(name))[0]["references"]
    return found


def used(store: LocalStore) -> int:
    """Return the bytes that the segments take on the file system."""
    paths = store.directory.files().values()
    return sum(os.stat(path).st_blocks * 512 for path in paths)


def identity(path: str) -> str:
    return os.path.basename(path).partition(".")[0]


def settle(store: LocalStore) -> None:
    gc.collect()
    store.flush()
    jshm.gc()


# -- not copied ------------------------------------------------------------------------------------

VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "all": lambda x: x,
    "a part": lambda x: x[3:5],
    "columns": lambda x: x[:, 2:9],
    "steps": lambda x: x[::3, 1::2],
    "reversed": lambda x: x[::-1],
    "both reversed": lambda x: x[::-2, ::-3],
    "transposed": lambda x: x.T,
    "in four axes": lambda x: x.reshape(4, -1, 8, 2).transpose(2, 0, 3, 1)[:, ::-1],
    "diagonal": np.diagonal,
    "a new axis": lambda x: x[None, 5, :, None],
    "broadcast": lambda x: np.broadcast_to(x[0], (5, x.shape[1])),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3)),
    "one number": lambda x: x[7:8, 3:4].reshape(()),
    "the last": lambda x: x.reshape(-1)[-1:],
    "other dtype": lambda x: x.view("u2"),
    "read as bytes": lambda x: x.reshape(-1).view("S4"),
    "nothing": lambda x: x[5:5],
}


@pytest.mark.parametrize(
    ("what", "mode"),
    [*((what, "r") for what in VIEWS), ("steps", "c"), ("both reversed", "c"), ("nothing", "c")],
)
def test_a_view_is_a_reference(
    store: LocalStore, reader: Child, query: Any, what: str, mode: Any
) -> None:
    jshm.publish("X", np.random.default_rng(0).random((BIG // 512, 64)))
    view = VIEWS[what](jshm.attach("X", mode))
    info = jshm.publish("ref", {"v": view, "n": 1})
    assert payload(store, "ref") < 4096
    assert os.path.getsize(store.location("ref")) < 8192
    assert header_of(store.location("ref"))[0]["buffers"] == []
    segment = identity(store.location("X"))
    assert needs(store, "ref") == [segment]
    assert query(REFS) == [[identity(store.location("ref")), segment]]
    assert info.details.references == {"X v1": BIG}
    assert jshm.info("ref").details.references == {"X v1": BIG}
    for there in "rc":
        reader.run(f"got = jshm.attach('ref', {there!r})['v']")
        assert reader.run("told([got])") == told([view])
        if view.size:
            assert reader.run("list(got.strides)") == list(view.strides)
            assert reader.run("where(got)") == where(view)
            assert where(view)[0] == store.location("X")
        assert reader.run("got.flags.writeable") == (there == "c")
    assert set(reader.run("mapped()")) <= {f"{segment}.npy"}
    del view
    reader.run("del got")


def test_a_view_of_one_field_is_a_reference(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", np.array([(i, i / 2) for i in range(1000)], [("a", "i4"), ("b", "f8")]))
    X = jshm.attach("X")
    jshm.publish("ref", [X["b"], X[["a"]]])
    assert payload(store, "ref") < 4096
    assert reader.run("a, b = jshm.attach('ref'); [a.strides, b.dtype.names, a[-1]]") == [
        [12], ["a"], 499.5,
    ]  # fmt: skip


@pytest.mark.parametrize("where_", ["closure", "default", "global", "attribute", "masked"])
def test_arrays_are_references_anywhere_in_an_object(
    store: LocalStore, reader: Child, where_: str
) -> None:
    jshm.publish("X", np.arange(BIG / 8))
    X = jshm.attach("X")
    space: dict[str, Any] = {"__name__": "__main__", "X": X, "np": np}
    value: Any
    if where_ == "closure":
        value = lambda: X  # noqa: E731
    elif where_ == "default":
        value = lambda x=X: x  # noqa: E731
    elif where_ == "global":
        exec("def value():\n    return X", space)
        value = space["value"]
    elif where_ == "attribute":
        exec("class Model:\n    def __call__(self):\n        return self.x", space)
        value = space["Model"]()
        value.x = X
    else:
        masked = np.ma.array(X)
        value = lambda: masked  # noqa: E731
    value.__module__ = "__main__"
    jshm.publish("f", value)
    assert payload(store, "f") < 8192
    reader.run("f = jshm.attach('f')")
    assert reader.run("f().sum()") == X.sum()
    assert reader.run("where(np.asarray(f()))[0]") == store.location("X")


def test_a_handle_in_an_object_keeps_its_segment(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", np.arange(BIG / 8))
    handle = jshm.SharedNumpyArray.as_shared(jshm.attach("X"))
    jshm.publish("h", {"h": handle})
    assert payload(store, "h") < 4096
    assert jshm.info("h").details.references == {"X v1": BIG}
    handle.detach()
    settle(store)
    jshm.release("X")
    assert reader.run("jshm.attach('h')['h'].array[-1]") == BIG / 8 - 1


def test_a_handle_on_an_allocated_array(store: LocalStore, reader: Child) -> None:
    handle = jshm.SharedNumpyArray.create_new(10)
    handle.array[:] = 1
    jshm.publish("h", {"h": handle})
    with contextlib.suppress(ValueError):
        handle.array[:] = 2
    handle.detach()
    reader.run("h = jshm.attach('h')['h']")
    found = reader.run("[float(h.array[0]), h.array.flags.writeable]")
    reader.run("h.detach()")
    assert found == [1, False]


def test_many_references(store: LocalStore, reader: Child, query: Any) -> None:
    """To many views, and to many segments."""
    jshm.publish({f"x{i}": np.full(10, i) for i in range(50)})
    arrays = jshm.attach([f"x{i}" for i in range(50)])
    value = [array[i:] for array in arrays for i in range(9)]
    jshm.publish("all", value)
    assert len(needs(store, "all")) == len(query(REFS)) == 50
    assert len(jshm.info("all").details.references) == 50
    reader.run("got = jshm.attach('all')")
    assert reader.run("[[len(a), int(a[0])] for a in got]") == [
        [10 - i, k] for k in range(50) for i in range(9)
    ]
    assert reader.run("len(mapped())") == 50
    del arrays, value
    settle(store)
    jshm.release([f"x{i}" for i in range(50)])
    assert len(files(store)) == 51
    reader.run("del got")


# -- what is needed stays --------------------------------------------------------------------------


@pytest.fixture
def ref(store: LocalStore) -> str:
    """Publish `ref`, which refers to half of X; return the path of X."""
    jshm.publish("X", np.arange(BIG / 8))
    X = jshm.attach("X")
    jshm.publish("ref", {"x": X[::2]})
    path = store.location("X")
    del X
    gc.collect()
    store.flush()
    return path


SUM = float(np.arange(BIG / 8)[::2].sum())


def test_a_referred_array_outlives_its_name(
    store: LocalStore, reader: Child, query: Any, ref: str
) -> None:
    (done,) = jshm.release("X")
    assert (done.freed, done.held_by) == (0, ())
    assert store.names() == ["ref"]
    assert os.path.exists(ref)
    for _ in range(2):
        jshm.gc()
        assert reader.run("float(jshm.attach('ref')['x'].sum())") == SUM
    assert "SegmentNotFoundError" in reader.fails("jshm.attach('X')").kinds
    (said,) = jshm.info("ref").details.references
    assert identity(ref) in said
    assert "without a name" in said
    assert query(ORPHANS) == []
    assert jshm.publish("X", np.zeros(3)).version == 2
    jshm.release("ref")
    assert not os.path.exists(ref)
    assert store.names() == ["X"]


def test_a_referred_array_outlives_its_replacement(
    store: LocalStore, reader: Child, ref: str
) -> None:
    jshm.publish("X", np.zeros(3))
    assert os.path.exists(ref)
    jshm.gc()
    assert reader.run("float(jshm.attach('ref')['x'].sum())") == SUM
    # The superseded version cannot be attached any more; the object that keeps its data can.
    assert [(i.name, i.version) for i in jshm.segments()] == [("X", 2), ("ref", 1)]
    jshm.publish("ref", {"x": 1})
    assert not os.path.exists(ref)
    assert len(files(store)) == 2


def test_releasing_the_object_keeps_the_name(store: LocalStore, query: Any, ref: str) -> None:
    jshm.release("ref")
    assert query(REFS) == []
    assert store.names() == ["X"]
    assert jshm.attach("X").sum() == np.arange(BIG / 8).sum()
    jshm.release("X")
    assert files(store) == []


def test_two_objects_refer_to_one_array(store: LocalStore, reader: Child, ref: str) -> None:
    jshm.publish("ref2", jshm.attach("ref"))
    assert needs(store, "ref2") == needs(store, "ref")
    settle(store)
    jshm.release("X")
    jshm.release("ref")
    assert os.path.exists(ref)
    assert reader.run("float(jshm.attach('ref2')['x'].sum())") == SUM
    jshm.release("ref2")
    assert files(store) == []


@pytest.mark.parametrize("who_holds", ["the object", "its array"])
def test_a_held_array_outlives_the_last_object_that_refers_to_it(
    store: LocalStore, reader: Child, ref: str, who_holds: str
) -> None:
    reader.run("held = jshm.attach('ref'); x = held['x']")
    if who_holds == "its array":
        reader.run("held = None")
    else:
        reader.run("x = None")
    jshm.release(["X", "ref"])
    jshm.gc()
    assert store.names() == []
    assert reader.run("float((x if held is None else held['x']).sum())") == SUM
    assert jshm.check() == []
    reader.run("del held, x; gc.collect(); default_store().flush()")
    jshm.gc()
    assert files(store) == []
    assert jshm.segments() == []


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_references_survive_a_restart_of_the_publisher(
    store: LocalStore, reader: Child, query: Any, tmp_path: Path, how: str
) -> None:
    with start(tmp_path) as train:
        train.run(
            "jshm.publish('X', np.arange(1e5)); born = jshm.full(1000, 7.0)\n"
            "x = jshm.attach('X')\n"
            "jshm.publish('ref', {'x': x[1:], 'born': born, 'own': np.arange(10)}, keep=True)\n"
            "del x, born; gc.collect()"
        )
        getattr(train, how)()
    jshm.gc()
    # X was not published with keep, but a kept object refers to it.
    assert store.names() == ["ref"]
    assert len(files(store)) == 3
    assert query(ORPHANS) == []
    assert jshm.check() == []
    expected = float(np.arange(1e5)[1:].sum())
    assert reader.run("o = jshm.attach('ref'); [float(o['x'].sum()), o['born'].sum()]") == [
        expected, 7000,
    ]  # fmt: skip
    if how == "exit":
        return  # the rest is the same
    with start(tmp_path) as again:
        assert again.run("o = jshm.attach('ref'); float(o['x'].sum())") == expected
        assert again.run("jshm.publish('X', o['x'], keep=True).version") == 2
        reader.run("del o")
        assert again.run("jshm.publish('ref', 1, keep=True).version") == 2
        again.run("del o; gc.collect(); default_store().flush()")
    settle(store)
    assert len(files(store)) == 2


@pytest.mark.parametrize(
    "code",
    [
        "b = jshm.empty(10); jshm.publish('o', {'b': b})",
        "jshm.publish('X', np.zeros(9)); jshm.publish('o', [jshm.attach('X'), 1]); o = jshm.attach('o')",
        (
            "jshm.publish('X', np.zeros(9)); x = jshm.attach('X'); jshm.publish('o', [x, x + 1]); "
            "o = jshm.attach('o')"
        ),
    ],
    ids=["the array is held", "its array is held", "the object is held"],
)
def test_a_normal_exit_leaves_nothing(store: LocalStore, tmp_path: Path, code: str) -> None:
    with start(tmp_path) as train:
        train.run(code)
        train.exit()
    left = files(store)
    jshm.gc()
    assert left == []


def test_references_through_other_objects(store: LocalStore, reader: Child, query: Any) -> None:
    """An object refers to buffers of another, which refers to an array: all are freed with the first."""
    jshm.publish("A", np.arange(1000.0))
    jshm.publish("one", {"a": jshm.attach("A")[5:], "own": np.full(1000, 1.5)})
    gc.collect()
    jshm.publish("two", [jshm.attach("one")["own"][::-1]])
    jshm.publish("three", {"of two": jshm.attach("two"), "own": np.arange(3)})
    A, one = store.location("A"), store.location("one")
    assert needs(store, "two") == needs(store, "three") == [identity(one)]
    settle(store)
    jshm.release(["A", "one", "two"])
    jshm.gc()
    assert store.names() == ["three"]
    assert {os.path.basename(path) for path in (A, one)} < set(files(store))
    assert len(files(store)) == 3
    assert reader.run("jshm.attach('three')['of two'][0].sum()") == 1500
    reader.run("gc.collect(); default_store().flush()")
    jshm.release("three")
    assert files(store) == []
    assert query("SELECT * FROM refs") == []
    assert query("SELECT id FROM segments") == []


def test_an_object_made_of_its_older_version(store: LocalStore, reader: Child, query: Any) -> None:
    """Each version refers to arrays of the version before."""
    jshm.publish("s", {"data": np.arange(1000), "n": np.zeros(4)})
    for i in range(1, 20):
        before = jshm.attach("s")
        jshm.publish("s", {"data": before["data"], "n": np.full(4, i)})
    del before
    settle(store)
    assert len(files(store)) == 2  # the data of the first version, the number of the last
    assert reader.run("s = jshm.attach('s'); [int(s['data'].sum()), int(s['n'][0])]") == [
        499500,
        19,
    ]
    reader.run("del s; gc.collect(); default_store().flush()")
    settle(store)
    jshm.release("s")
    assert files(store) == []
    assert query("SELECT id FROM segments") == []


def test_a_long_chain_of_references(store: LocalStore, tmp_path: Path) -> None:
    """Scaled down: a thousand publishes would reach Python's 1000 frames and the limit of 1024 files."""
    failed = []
    with start(tmp_path) as train:
        train.run(
            "jshm.publish('s', {'last': np.zeros(2), 'new': np.zeros(2)})\n"
            "for i in range(110):\n"
            "    s = jshm.attach('s'); jshm.publish('s', {'last': s['new'], 'new': np.full(2, i)})\n"
            "assert jshm.attach('s')['last'][0] == 108\n"
            "del s; gc.collect(); default_store().flush()\n"
            "import resource; files = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
            "from jshm.store.local import collect; collect.BATCH = 20"
        )
        for limit in (
            "sys.setrecursionlimit(110)",
            "resource.setrlimit(resource.RLIMIT_NOFILE, (80, files[1]))",
        ):
            train.run(limit)
            try:
                if train.run("default_store().names()"):
                    train.run("jshm.release('s')")
                train.run("jshm.gc()")
            except ChildError as error:
                failed.append(str(error))
            train.run(
                "sys.setrecursionlimit(1000); resource.setrlimit(resource.RLIMIT_NOFILE, files)"
            )
        left = files(store)
        train.kill()
    settle(store)
    assert files(store) == []
    assert failed == []
    assert left == []


def test_many_views_of_one_array_in_copy_on_write(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", np.zeros((50, 4)))
    jshm.publish("rows", list(jshm.attach("X")))
    reader.run("fds = len(os.listdir('/proc/self/fd')); rows = jshm.attach('rows', 'c')")
    mapped = reader.run("len(mapped())")
    reader.run("del rows")
    assert mapped == 1


# -- changes ---------------------------------------------------------------------------------------


def test_a_privately_changed_array_is_copied(store: LocalStore, reader: Child, query: Any) -> None:
    jshm.publish("X", np.zeros(BIG // 8))
    X = jshm.attach("X", "c")
    X[-1] = 5
    jshm.publish("changed", {"x": X})
    assert needs(store, "changed") == []
    assert payload(store, "changed") > BIG
    assert query(REFS) == []
    # Pages that were not changed are not copied.
    jshm.publish("first", {"x": X[: BIG // 16]})
    assert needs(store, "first") == [identity(store.location("X"))]
    jshm.publish("last", {"x": X[-10:], "reversed": X[::-1]})
    assert needs(store, "last") == []
    X[0] = 7
    assert reader.run("[jshm.attach(n)['x'][[0, -1]].tolist() for n in ('changed', 'first', 'last')]") == [
        [0, 5], [0, 0], [0, 5],
    ]  # fmt: skip
    assert reader.run("jshm.attach('last')['reversed'][0]") == 5
    assert reader.run("jshm.attach('X').sum()") == 0


def test_an_array_changed_past_the_read_only_flag_is_copied(
    store: LocalStore, reader: Child
) -> None:
    import ctypes

    jshm.publish("X", np.zeros(100))
    X = jshm.attach("X")
    ctypes.memset(X.ctypes.data, 1, 8)
    jshm.publish("o", {"x": X})
    assert X[0] != 0
    jshm.publish("alone", X)
    found = reader.run(
        "[float(x[0]) for x in (jshm.attach('X'), jshm.attach('alone'), jshm.attach('o')['x'])]"
    )
    assert found == [0, X[0], X[0]]
    with pytest.raises(jshm.NotShareableError, match=r"changed privately \(mode 'r'\)"):
        pickle.dumps(jshm.SharedNumpyArray(store, X))
    # An attach in this process, too, shows the published data, alone and in an object.
    jshm.publish("refers", {"x": jshm.attach("X")[:50]})
    data = jshm.dumps(jshm.attach("X"))
    Y = jshm.attach("X")
    ctypes.memset(Y.ctypes.data, 1, 8)
    assert needs(store, "refers") == [identity(store.location("X"))]
    assert jshm.attach("refers")["x"][0] == 0
    assert jshm.loads(data)[0] == 0


def test_a_mapping_changed_past_the_flag_is_not_shared_with_an_object(
    store: LocalStore,
) -> None:
    import ctypes

    jshm.publish("o", {"x": np.zeros(100), "y": np.zeros(BIG)})
    first = jshm.attach("o")
    assert np.shares_memory(first["x"], jshm.attach("o")["x"])
    ctypes.memset(first["y"].ctypes.data + BIG, 1, 8)
    second = jshm.attach("o")
    assert not second["y"].any()
    assert first["y"].any()
    del first
    third = jshm.attach("o")
    assert np.shares_memory(second["x"], third["x"])
    jshm.publish("again", {"y": second["y"]})
    assert needs(store, "again") == [identity(store.location("o"))]


def test_live_data_is_live_in_objects(store: LocalStore, reader: Child) -> None:
    jshm.publish("live", np.zeros(1000), writable=True)
    live = jshm.attach("live", "r+")
    jshm.publish("o", {"view": live[10:20], "all": live})
    assert needs(store, "o") == [identity(store.location("live"))]
    reader.run("o, copy = jshm.attach('o'), jshm.attach('o', 'c')")
    live[:] = 3
    assert reader.run("[o['view'].sum(), o['all'].sum(), copy['view'].sum()]") == [30, 3000, 30]
    assert reader.run("o['view'].flags.writeable") is False
    reader.run("jshm.attach('live', 'r+')[10] = 5")
    assert live[10] == 5
    assert jshm.attach("o")["view"][0] == 5
    # The name is released, the memory stays.
    reader.run("del o, copy; gc.collect(); default_store().flush()")
    del live
    settle(store)
    jshm.release("live")
    assert reader.run("jshm.attach('o')['all'].sum()") == 3002


# -- born in shared memory -------------------------------------------------------------------------


def test_an_allocated_array_in_an_object_is_sealed(
    store: LocalStore, reader: Child, query: Any
) -> None:
    born = jshm.empty((BIG // 64, 8))
    born[:] = 3
    before = used(store)
    (path,) = store.directory.files().values()
    jshm.publish("model", {"w": born, "again": born, "t": born.T[2:], "name": "m"})
    assert used(store) - before <= 8192
    assert not born.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        born[0, 0] = 1
    assert where(born)[0] == path
    assert needs(store, "model") == [identity(path)]
    assert query(f"SELECT writable, wanted FROM segments WHERE id = '{identity(path)}'") == [[0, 1]]
    assert reader.run(
        "m = jshm.attach('model'); [float(m['w'].sum()), m['w'] is m['again'], m['t'].shape]"
    ) == [3 * BIG / 8, True, [6, BIG // 64]]
    assert reader.run("[where(m['w'])[0], where(m['t'])[0]]") == [path, path]
    # It is freed with the object, and not before.
    del born
    settle(store)
    assert os.path.exists(path)
    reader.run("del m; gc.collect(); default_store().flush()")
    jshm.release("model")
    assert files(store) == []


def test_a_part_of_an_allocated_array_is_copied(store: LocalStore, reader: Child) -> None:
    born = jshm.zeros(BIG // 8)
    born[:] = 3
    jshm.publish("part", {"head": born[:10], "same": born[:]})
    assert needs(store, "part") == []
    assert born.flags.writeable
    born[:] = 4
    assert reader.run("p = jshm.attach('part'); [p['head'].sum(), p['same'][0]]") == [30, 3]
    # The whole array seals the segment; the part before it was copied.
    jshm.publish("both", [born[:10], born, born[5:]])
    assert not born.flags.writeable
    assert len(needs(store, "both")) == 1
    assert header_of(store.location("both"))[0]["buffers"] == [80]
    assert reader.run("[float(a[0]) for a in jshm.attach('both')]") == [4, 4, 4]


def test_an_allocated_array_published_alone_and_in_an_object(
    store: LocalStore, reader: Child
) -> None:
    for order in (["name", "object"], ["object", "name"]):
        born = jshm.full(1000, 2.0)
        values = {"name": born, "object": {"w": born}}
        jshm.publish({key: values[key] for key in order})
        assert not born.flags.writeable
        assert needs(store, "object") == [identity(store.location("name"))]
        assert len(files(store)) == 2
        jshm.publish("second", {"w": born})
        assert needs(store, "second") == needs(store, "object")
        assert reader.run("[jshm.attach('object')['w'].sum(), jshm.attach('name').sum()]") == [
            2000,
            2000,
        ]
        del born, values
        reader.run("gc.collect(); default_store().flush()")
        settle(store)
        jshm.release(["name", "object", "second"])
        assert files(store) == []


def test_an_array_that_an_object_keeps_gets_a_name(
    store: LocalStore, reader: Child, query: Any
) -> None:
    jshm.publish("o", {"w": jshm.full(1000, 2.0)})
    settle(store)
    (segment,) = needs(store, "o")
    (done,) = store.publish({"w": jshm.attach("o")["w"]})
    assert done.how == "alias"
    assert identity(store.location("w")) == segment
    settle(store)
    jshm.release("o")
    assert reader.run("float(jshm.attach('w').sum())") == 2000
    assert query(ORPHANS) == []


@pytest.mark.parametrize("how", ["sealed by the object", "named and released"])
def test_an_array_that_an_object_refers_to_cannot_become_writable(
    store: LocalStore, reader: Child, how: str
) -> None:
    born = jshm.full(1000, 2.0)
    if how == "named and released":
        jshm.publish("name", born)
    jshm.publish("o", {"w": born})
    if how == "named and released":
        jshm.release("name")
    jshm.publish("live", born, writable=True)
    del born
    reader.run("jshm.attach('live', 'r+')[:] = 9")
    found = reader.run("float(jshm.attach('o')['w'].sum())")
    reader.run("gc.collect()")
    assert found == 2000


def test_sealing_by_an_object_seals_the_file(store: LocalStore) -> None:
    born = jshm.full(10, 2.0)
    jshm.publish("o", {"w": born})
    path = where(born)[0]
    del born
    assert os.stat(path).st_mode & 0o777 == 0o400


def test_a_failed_publish_seals_nothing(
    store: LocalStore, reader: Child, query: Any, tmp_path: Path
) -> None:
    reader.run("jshm.publish('theirs', 1)")
    born = jshm.full(1000, 2.0)
    before = files(store)
    with open(tmp_path / "open", "w") as file:
        for values, error in (
            ({"o": {"w": born}, "bad": [file]}, jshm.NotShareableError),
            ({"o": {"w": born, "bad": file}}, jshm.NotShareableError),
            ({"o": {"w": born}, "theirs": 2}, jshm.NotOwnerError),
            ({"theirs": {"w": born}}, jshm.NotOwnerError),
            ({"theirs": {"w": born, "large": np.zeros(BIG)}}, jshm.NotOwnerError),
            ({"name": born, "o": {"w": born}, "theirs": 2}, jshm.NotOwnerError),
        ):
            with pytest.raises(error):
                jshm.publish(values)
            assert born.flags.writeable
            jshm.gc()
            assert files(store) == before
            assert query(REFS) == []
            assert query("SELECT writable FROM segments WHERE kind = 'array'") == [[1]]
            assert query("SELECT name FROM names WHERE current NOT NULL") == [["theirs"]]
            assert jshm.check() == []
    born[:] = 5
    jshm.publish("o", {"w": born})
    assert not born.flags.writeable
    assert reader.run("jshm.attach('o')['w'].sum()") == 5000
    reader.run("jshm.release('theirs')")


def test_an_array_that_another_process_can_write_is_copied(store: LocalStore) -> None:
    """A forked child has the allocated array too, and can still write it after it was sealed here."""
    born = jshm.full(1000, 2.0)
    wake, waking = os.pipe()
    told, telling = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            jshm.segments()
            os.write(telling, b"!")
            os.read(wake, 1)
        finally:
            os._exit(0)
    try:
        os.read(told, 1)
        jshm.publish("o", {"w": born})
        assert needs(store, "o") == []
        assert born.flags.writeable
    finally:
        os.write(waking, b"!")
        os.waitpid(pid, 0)
        for fd in (wake, waking, told, telling):
            os.close(fd)


# -- from object to object -------------------------------------------------------------------------


def test_arrays_of_an_attached_object_are_references(store: LocalStore, reader: Child) -> None:
    jshm.publish("one", {"a": np.arange(BIG // 8), "b": np.arange(BIG / 8).reshape(8, -1)})
    reader.run(
        "one = jshm.attach('one')\n"
        "jshm.publish('two', {'mine': [one['a'][::2], one['b'].T], 'f': lambda: one['b'][0]}, keep=True)\n"
        "del one"
    )
    assert payload(store, "two") < 8192
    assert needs(store, "two") == [identity(store.location("one"))]
    assert jshm.info("two").details.references == {"one v1": jshm.info("one").nbytes}
    jshm.release("one")
    two = jshm.attach("two")
    assert two["mine"][0].tolist() == list(range(0, BIG // 8, 2))
    assert two["mine"][1].shape == (BIG // 64, 8)
    assert two["f"]()[-1] == BIG // 64 - 1
    del two
    reader.run("jshm.release('two')")


def test_an_array_of_an_object_is_copied_to_get_its_own_name(
    store: LocalStore, reader: Child
) -> None:
    """The segment of a name is a .npy file; a buffer of an object is not."""
    jshm.publish("o", {"a": np.arange(1000.0)})
    (done,) = store.publish({"a": jshm.attach("o")["a"]})
    assert done.how == "copied"
    assert np.load(store.location("a")).sum() == 499500
    gc.collect()
    jshm.release("o")
    assert reader.run("float(jshm.attach('a').sum())") == 499500


# -- races -----------------------------------------------------------------------------------------


def between(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Run `action` once, between the pickling and the transaction."""
    place, left = publish._place, [action]

    def paused(*args: Any, **options: Any) -> Any:
        if left:
            left.pop()()
        return place(*args, **options)

    monkeypatch.setattr(publish, "_place", paused)


def test_released_between_pickling_and_registering(
    store: LocalStore, reader: Child, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.run("jshm.publish('X', numpy.arange(1e5)); jshm.publish('o', 'before')")
    X = jshm.attach("X")
    between(monkeypatch, lambda: reader.run("jshm.release('X')"))
    with pytest.raises(jshm.SegmentNotFoundError, match="released at this moment; publish again"):
        jshm.publish({"o": {"x": X}, "p": 1}, replace=True)
    assert jshm.attach("o") == "before"
    assert store.names() == ["o"]
    assert query(REFS) == query(ORPHANS) == []
    settle(store)
    assert jshm.check() == []
    # Published again, as the error says, it is copied.
    jshm.publish("o", {"x": X}, replace=True)
    assert needs(store, "o") == []
    del X
    assert reader.run("jshm.attach('o')['x'][-1]") == 99999


def test_replaced_between_pickling_and_registering(
    store: LocalStore, reader: Child, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only this process has the old version mapped; from now on the object keeps it."""
    reader.run("jshm.publish('X', numpy.arange(1e5))")
    X = jshm.attach("X")
    path = store.location("X")
    between(monkeypatch, lambda: reader.run("jshm.publish('X', 1); jshm.gc()"))
    jshm.publish("o", {"x": X[1:]})
    assert query(ORPHANS) == []
    del X
    settle(store)
    assert os.path.exists(path)
    assert reader.run("jshm.attach('o')['x'][-1]") == 99999
    reader.run("gc.collect(); default_store().flush(); jshm.release('X')")
    jshm.gc()
    assert jshm.attach("o")["x"][0] == 1


def test_view_dropped_between_pickling_and_registering(
    store: LocalStore, reader: Child, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the publish itself keeps the array; it must not be freed before it is registered."""
    value = {"b": jshm.full(1000, 2.0)}

    def let_go() -> None:
        value.clear()
        gc.collect()
        store.flush()
        reader.run("jshm.gc()")

    between(monkeypatch, let_go)
    jshm.publish("o", value)
    assert query(ORPHANS) == []
    assert reader.run("jshm.attach('o')['b'].sum()") == 2000


def test_replaced_during_an_attach(
    store: LocalStore, reader: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object and what only it needs are freed after the lookup: the attach looks again."""
    reader.run("jshm.publish('o', {'b': jshm.full(10, 2.0)})")
    find, calls = attach.find, []

    def slow(*args: Any) -> Any:
        found = find(*args)
        if not calls:
            reader.run("jshm.publish('o', {'b': jshm.full(10, 3.0)}); gc.collect(); jshm.gc()")
        calls.append(1)
        return found

    monkeypatch.setattr(attach, "find", slow)
    assert jshm.attach("o")["b"].sum() == 30
    assert len(calls) == 2
    reader.run("jshm.release('o')")


def test_concurrent_publish_attach_and_release(
    store: LocalStore, reader: Child, query: Any
) -> None:
    """One process refers to arrays that the other releases: a clear error or a whole object."""
    reader.run("import random, threading; rng = random.Random(7); stop = []")
    reader.run("""
def work():
    i = 0
    while not stop:
        i += 1
        jshm.publish("X", numpy.full(100, i))
        if rng.random() < 0.7:
            jshm.release("X")
thread = threading.Thread(target=work); thread.start()
""")
    made, refused = 0, []
    rng = random.Random(1)
    while made < 40:
        try:
            X = jshm.attach("X")
        except jshm.SegmentNotFoundError:
            continue
        expected = int(X[0])
        try:
            jshm.publish("o", {"x": X[::2]})
            made += 1
        except jshm.SegmentNotFoundError as error:
            refused.append(str(error))
            continue
        finally:
            del X
        assert set(jshm.attach("o")["x"].tolist()) == {expected}
        if rng.random() < 0.3:
            jshm.release("o")
    reader.run("stop.append(1); thread.join()")
    assert query(ORPHANS) == []
    assert all("publish again" in message for message in refused)
    jshm.gc()  # files of refused publishes are garbage until then
    assert jshm.check() == []
    reader.run("jshm.publish('X', 1); jshm.release('X')")
    if "o" in store.names():
        jshm.attach("o")
        jshm.release("o")
    settle(store)
    assert files(store) == []


def test_threads_attach_objects_with_shared_references(store: LocalStore, query: Any) -> None:
    jshm.publish("X", np.arange(1000))
    failed: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for _ in range(20):
                X = jshm.attach("X")
                jshm.publish(f"o{k}", [X[k:], jshm.full(5, k)])
                a, b = jshm.attach(f"o{k}")
                assert (a[0], b.sum()) == (k, 5 * k)
                if k == 0:
                    jshm.publish("X", X)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert query(ORPHANS) == []
    settle(store)
    assert len(files(store)) == 1 + 4 * 2


# -- the registry is lost --------------------------------------------------------------------------


def test_a_rebuild_restores_all_references(store: LocalStore, reader: Child, query: Any) -> None:
    jshm.publish("X", np.arange(1000.0))
    jshm.publish("hidden", np.arange(500.0), note="secret")
    jshm.publish("old", np.arange(300.0))
    hidden, old = jshm.attach(["hidden", "old"])
    jshm.publish(
        "o", {"x": jshm.attach("X"), "h": hidden[::2], "b": jshm.full(9, 2.0), "l": old, "own": np.ones(7)},
        note="the note", keep=True,
    )  # fmt: skip
    jshm.publish("o2", [jshm.attach("o")["own"]])
    del hidden, old
    settle(store)
    jshm.release("hidden")
    jshm.publish("old", np.zeros(3))
    before = {
        "refs": query(REFS),
        "segments": query("SELECT id, kind, descr, nbytes, writable, wanted FROM segments ORDER BY 1"),
        "versions": query("SELECT name, version, segment, keep, note FROM versions ORDER BY 1, 2"),
        "files": files(store),
        "list": [(i.name, i.version, i.summary, i.keep, i.note) for i in jshm.segments()],
        "details": jshm.info("o").details,
    }  # fmt: skip
    assert len(before["refs"]) == 5
    lose_registry(store)
    assert store.names() == ["X", "o", "o2", "old"]
    after = {
        "refs": query(REFS),
        "segments": query("SELECT id, kind, descr, nbytes, writable, wanted FROM segments ORDER BY 1"),
        "versions": query("SELECT name, version, segment, keep, note FROM versions ORDER BY 1, 2"),
        "files": files(store),
        "list": [(i.name, i.version, i.summary, i.keep, i.note) for i in jshm.segments()],
        "details": jshm.info("o").details,
    }  # fmt: skip
    assert after == before
    jshm.gc()
    assert jshm.check() == []
    assert jshm.check(fix=True) == []
    assert files(store) == before["files"]
    assert reader.run(
        "o = jshm.attach('o'); [float(o[k].sum()) for k in 'xhbl'] + [jshm.attach('o2')[0].sum()]"
    ) == [499500, float(np.arange(0, 500, 2).sum()), 18, 44850, 7]
    assert "SegmentNotFoundError" in reader.fails("jshm.attach('hidden')").kinds
    # They are still freed when nothing needs them.
    reader.run("del o; gc.collect(); default_store().flush()")
    jshm.release(["o", "X"])
    assert len(files(store)) == 7  # o2 refers to o, and o to all the others
    jshm.release("o2")
    assert len(files(store)) == 1


def test_a_rebuild_while_an_object_is_held(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", np.arange(1000.0))
    jshm.publish("o", {"x": jshm.attach("X")})
    reader.run("o = jshm.attach('o')")
    gc.collect()
    jshm.release("X")
    lose_registry(store)
    assert store.names() == ["o"]
    jshm.gc()
    assert reader.run("float(o['x'].sum())") == 499500
    assert reader.run("float(jshm.attach('o')['x'].sum())") == 499500
    reader.run("del o; gc.collect(); default_store().flush()")
    jshm.release("o")
    jshm.gc()
    assert files(store) == []


def test_a_rebuild_drops_segments_that_only_a_lost_object_needs(store: LocalStore) -> None:
    """The object's file is lost too: segments without a name that it referred to are garbage."""
    jshm.publish("o", {"b": jshm.full(100, 1.0)})
    settle(store)
    os.unlink(store.location("o"))
    lose_registry(store)
    assert store.names() == []
    jshm.gc()
    assert files(store) == []
    assert jshm.check() == []


def test_a_rebuild_keeps_a_live_array_that_only_an_object_needs(
    store: LocalStore, reader: Child
) -> None:
    jshm.publish("live", np.zeros(10), writable=True)
    live = jshm.attach("live", "r+")
    jshm.publish("o", {"l": live})
    jshm.release("live")
    lose_registry(store)
    assert store.names() == ["o"]
    live[:] = 4
    assert reader.run("jshm.attach('o')['l'].sum()") == 40
    assert jshm.check() == []
    del live


@pytest.mark.parametrize("what", ["a name that stays", "a name that never was"])
def test_a_failed_publish_changes_no_trailer(
    store: LocalStore, reader: Child, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    reader.run("jshm.publish('Y', numpy.arange(9))")
    jshm.publish("X", np.arange(1000.0))
    jshm.publish("o", {"x": jshm.attach("X")[1:]})
    Y = jshm.attach("Y")
    first = {"X": np.zeros(3)} if what == "a name that stays" else {"new": jshm.attach("X")}
    between(monkeypatch, lambda: reader.run("jshm.release('Y')"))
    with pytest.raises(jshm.SegmentNotFoundError):
        jshm.publish({**first, "p": {"y": Y}})
    del first, Y
    settle(store)
    assert store.names() == ["X", "o"]
    lose_registry(store)
    assert store.names() == ["X", "o"]


# -- damage ----------------------------------------------------------------------------------------


def test_segments_that_only_a_damaged_object_needs_are_freed(store: LocalStore, query: Any) -> None:
    jshm.publish("X", np.arange(10))
    jshm.publish("o", {"b": jshm.full(1000, 1.0), "x": jshm.attach("X"), "own": np.zeros(5000)})
    settle(store)
    os.truncate(store.location("o"), 3000)
    with pytest.raises(jshm.CorruptSegmentError):
        jshm.attach("o")
    assert [problem.fixed for problem in jshm.check(fix=True)] == [True]
    jshm.gc()
    assert jshm.check() == []
    assert query(REFS) == []
    assert store.names() == ["X"]
    assert len(files(store)) == 1


def test_the_file_of_a_referred_array_is_missing(
    store: LocalStore, reader: Child, ref: str
) -> None:
    os.unlink(ref)
    error = reader.fails("jshm.attach('ref')")
    assert "JshmError" in error.kinds
    assert jshm.check() != []
    jshm.check(fix=True)
    jshm.gc()
    assert jshm.check() == []
    # The other objects can be attached.
    for name in store.names():
        jshm.attach(name)
    jshm.release(store.names())
    assert files(store) == []


def test_check_repairs_all_it_finds_at_once(store: LocalStore, ref: str) -> None:
    os.unlink(ref)
    jshm.check(fix=True)
    left = jshm.check()
    jshm.gc()
    assert left == []


@pytest.mark.parametrize("what", ["needed", "needs"])
def test_damage_of_the_object_and_of_the_array_are_different_errors(
    store: LocalStore, reader: Child, ref: str, what: str
) -> None:
    overwrite(ref if what == "needed" else store.location("ref"), 0, bytes(64))
    error = reader.fails("jshm.attach('ref')")
    assert "CorruptSegmentError" in error.kinds
    jshm.segments()
    jshm.gc()
    jshm.publish("fresh", {"a": 1})
    jshm.check(fix=True)
    jshm.gc()
    assert jshm.check() == []


@pytest.mark.parametrize("operation", ["release", "publish"])
def test_a_damaged_array_that_is_referred_to_can_be_released(
    store: LocalStore, ref: str, operation: str
) -> None:
    """The error of an attach says: release the name and publish again."""
    overwrite(ref, 0, bytes(64))
    try:
        if operation == "release":
            jshm.release("X")
        else:
            jshm.publish("X", np.zeros(3))
    except jshm.CorruptSegmentError as error:
        raise AssertionError(f"{operation}: {error}") from None
    finally:
        jshm.check(fix=True)
        jshm.gc()


def test_a_damaged_array_that_is_referred_to_blocks_no_operation(
    store: LocalStore, tmp_path: Path
) -> None:
    """The publisher is dead, so the next operation of any process collects X."""
    with start(tmp_path) as train:
        train.run(
            "jshm.publish('X', np.arange(1000.0)); x = jshm.attach('X')\n"
            "jshm.publish('ref', {'x': x[::2]}, keep=True)"
        )
        overwrite(default_store().location("X"), 0, bytes(64))
        train.kill()
    try:
        jshm.gc()
        store.housekeeping._next_collection = 0
        jshm.publish("mine", np.zeros(3))
    except jshm.CorruptSegmentError as error:
        raise AssertionError(f"a stranger's publish: {error}") from None
    finally:
        jshm.check(fix=True)
        jshm.gc()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file_is_not_mapped_for_a_reference(
    store: LocalStore, reader: Child, ref: str
) -> None:
    os.chown(ref, 65534, 65534)
    error = reader.fails("jshm.attach('ref')")
    assert "CorruptSegmentError" in error.kinds
    assert "not a regular file of this user" in error.message
    assert reader.run("mapped()") == []
    os.chown(ref, 0, 0)
    assert reader.run("float(jshm.attach('ref')['x'].sum())") == SUM


def test_bytes_of_a_referred_segment_are_never_written(
    store: LocalStore, reader: Child, ref: str
) -> None:
    before = read(ref, 0, 64 + BIG)
    jshm.release("X")
    reader.run("c = jshm.attach('ref', 'c')['x']; c[:] = 7; jshm.publish('mine', {'c': c}); del c")
    lose_registry(store)
    jshm.publish("again", jshm.attach("ref"))
    jshm.check(fix=True)
    assert read(ref, 0, 64 + BIG) == before
    assert os.stat(ref).st_mode & 0o777 == 0o400
    reader.run("jshm.release('mine')")


# -- anything, in any order ------------------------------------------------------------------------


class Model:
    """The expected state: for each name and for each held value, the numbers that it shows."""

    def __init__(self, store: LocalStore, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.names: dict[str, list[int]] = {}
        self.held: list[tuple[list[Any], list[int]]] = []
        self.token = 0
        self.lost = False

    def new(self, make: Callable[..., Any] = np.full) -> tuple[Any, int]:
        self.token += 1
        return make(self.random.choice([1, 40, 3000]), self.token, dtype=int), self.token

    def part(self) -> tuple[Any, int]:
        """Return a part for an object: a new array, or a view of a held one."""
        if self.held and self.random.random() < 0.7:
            arrays, tokens = self.random.choice(self.held)
            at = self.random.randrange(len(arrays))
            array = arrays[at]
            views = [
                array,
                array[:],
                array[::-2],
                array.reshape(-1, 1),
                array[-1:],
                array.view("u8"),
            ]
            return self.random.choice(views), tokens[at]
        return self.new(self.random.choice([np.full, jshm.full]))

    def publish(self) -> None:
        name = self.random.choice("abcd")
        if self.random.random() < 0.3:
            value, token = self.part()
            jshm.publish(name, value)
            self.names[name] = [token]
            return
        parts = [self.part() for _ in range(self.random.randint(1, 4))]
        jshm.publish(name, [value for value, _ in parts])
        self.names[name] = [token for _, token in parts]

    def attach(self, *, change: bool = False) -> None:
        if not self.names:
            return
        name = self.random.choice(sorted(self.names))
        value = jshm.attach(name, "c" if change else self.random.choice("rc"))
        arrays, tokens = (value if isinstance(value, list) else [value]), [*self.names[name]]
        if change:
            # Arrays of one segment may overlap or not: both are correct in mode 'c'.
            arrays, tokens = arrays[:1], tokens[:1]
            self.token += 1
            arrays[0][...] = tokens[0] = self.token
        self.held.append((arrays, tokens))

    def change(self) -> None:
        self.attach(change=True)

    def drop(self) -> None:
        if self.held:
            self.held.pop(self.random.randrange(len(self.held)))

    def release(self) -> None:
        if self.names:
            name = self.random.choice(sorted(self.names))
            jshm.release(name)
            del self.names[name]

    def lose(self) -> None:
        lose_registry(self.store)
        self.lost = True

    def gc(self) -> None:
        jshm.gc()

    def step(self) -> str:
        operations = [self.publish] * 6 + [self.attach] * 5 + [self.drop] * 3
        operations += [self.release] * 2 + [self.change, self.gc, self.lose]
        operation = self.random.choice(operations)
        operation()
        return operation.__name__

    def verify(self) -> None:
        if (
            self.lost
        ):  # segments that only a holder kept are unknown now, and garbage when they are unmapped
            jshm.gc()
        assert self.store.names() == sorted(self.names)
        assert jshm.check() == []
        for name, tokens in self.names.items():
            value = jshm.attach(name)
            arrays = value if isinstance(value, list) else [value]
            assert [set(a.ravel().tolist()) for a in arrays] == [{token} for token in tokens], name
        for arrays, tokens in self.held:
            assert [set(a.ravel().tolist()) for a in arrays] == [{token} for token in tokens]

    def reachable(self) -> set[str]:
        """Return the segments that names need, directly or not, from the files."""
        paths = self.store.directory.files()
        found = {identity(self.store.location(name)) for name in self.names}
        left = [*found]
        while left:
            path = paths[left.pop()]
            more = set(header_of(path)[0]["references"]) if path.endswith(".jshm") else set()
            left += more - found
            found |= more
        return found


@pytest.mark.parametrize("seed", range(3))
def test_random_operations_match_a_model(store: LocalStore, query: Any, seed: int) -> None:
    model = Model(store, seed)
    done = []
    for _ in range(45):
        done.append(model.step())
        model.verify()
        assert query(ORPHANS) == []
    assert {"publish", "attach", "release", "drop"} < set(done)
    model.held.clear()
    settle(store)
    model.verify()
    settle(store)
    assert {identity(name) for name in files(store)} == model.reachable()
    jshm.release(sorted(model.names))
    assert files(store) == []
    assert query("SELECT * FROM refs") == query("SELECT id FROM segments") == []


def test_an_array_superseded_together_with_its_object_keeps_no_version(
    store: LocalStore,
) -> None:
    """Both are replaced in one publish: the memory stays for the new object, the version does not."""
    jshm.publish("O", {"own": np.ones(1000)})
    old = jshm.attach("O")["own"]
    jshm.publish({"O": {"own": np.zeros(1000)}, "P": {"old": old}})
    assert [(i.name, i.version) for i in jshm.segments()] == [("O", 2), ("P", 1)]
    del old
    np.testing.assert_array_equal(jshm.attach("P")["old"], np.ones(1000))
    os.unlink(f"{store.directory.root}/registry.db")
    assert [(i.name, i.version) for i in jshm.segments()] == [("O", 2), ("P", 1)]
