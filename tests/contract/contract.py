"""The tests that every store must pass. Each store has a test module with a subclass of `StoreContract`.

The tests judge by `read_raw` and `footprint`, which bypass the store, and by what other processes see. A
test of an optional ability is skipped for a store that lacks it; another one checks that such a store
says so.
"""

from __future__ import annotations

import gc
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.pickling import frozen
from jshm.segment.array_layout import ArrayLayout
from jshm.segment.object_layout import ObjectLayout
from jshm.store import watching
from jshm.store.base import Store

from ..support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.base import Ability

    NewChild = Callable[[str], Child]

_PAIRS = 300


def need(store: Store, ability: Ability) -> None:
    """Skip the test if the store lacks an optional ability."""
    if not store.can(ability):
        pytest.skip(f"the store has no {ability}")


class StoreContract(ABC):
    """Tests that every store passes. A subclass has a fixture `store`, which gives an empty store."""

    PRELUDE: str
    """Code that defines `store`, and NumPy as `np`, in another process."""

    @abstractmethod
    def read_raw(self, store: Store, name: str, version: int | None = None) -> np.ndarray:
        """Return a copy of a version's data, read without the store."""

    @abstractmethod
    def footprint(self, store: Store) -> int:
        """Return the bytes that all segments take, measured without the store."""

    @pytest.fixture
    def new(self, store: Store, tmp_path: Path) -> Iterator[NewChild]:
        """Start another process that uses the store; its script's name is its label."""
        children: list[Child] = []

        def start(script: str) -> Child:
            child = Child(tmp_path, script)
            children.append(child)
            child.run(self.PRELUDE)
            return child

        yield start
        for child in children:
            child.__exit__()
        store.gc()

    # -- publish and attach ----------------------------------------------------------------------

    def test_roundtrip(self, store: Store, new: NewChild) -> None:
        data = np.arange(60.0).reshape(3, 4, 5)
        (done,) = store.publish({"exp/X": data}, note="a note")
        assert (done.how, done.info.version, done.info.note) == ("copied", 1, "a note")
        np.testing.assert_array_equal(self.read_raw(store, "exp/X"), data)
        other = new("eda.py")
        assert other.run("store.attach(['exp/X'])[0].value.tolist()") == data.tolist()
        assert other.run("store.names()") == ["exp/X"]
        assert self.footprint(store) >= data.nbytes

    def test_a_publish_is_a_snapshot(self, store: Store) -> None:
        data = np.arange(100.0)
        store.publish({"X": data})
        attached = store.attach(["X"])[0].value
        data[:] = -1
        np.testing.assert_array_equal(attached, np.arange(100.0))
        np.testing.assert_array_equal(self.read_raw(store, "X"), np.arange(100.0))
        assert not attached.flags.writeable
        with pytest.raises(ValueError, match=r"(?i)writeable"):
            attached.flags.writeable = True

    def test_attaching_copies_nothing(self, store: Store, new: NewChild) -> None:
        """Writes through one mapping are read through another: the same physical memory."""
        need(store, "writable")
        data = np.zeros(1000)
        store.publish({"X": data}, writable=True)
        mine = store.attach(["X"], "r+")[0].value
        reader = store.attach(["X"])[0].value
        other = new("eda.py")
        other.run("x = store.attach(['X'], 'r+')[0].value; x[7] = 7")
        assert mine[7] == 7
        assert reader[7] == 7
        mine[8] = 8
        assert other.run("float(x[8])") == 8
        assert self.read_raw(store, "X")[8] == 8
        assert data[7] == 0

    def test_copy_on_write_is_private(self, store: Store) -> None:
        store.publish({"X": np.zeros(1000)})
        a, b = (store.attach(["X"], "c")[0].value for _ in range(2))
        a[:] = 1
        b[0] = 2
        assert store.attach(["X"])[0].value.sum() == 0
        assert (a[0], b[0], b[1]) == (1, 2, 0)
        assert self.read_raw(store, "X").sum() == 0

    def test_a_snapshot_is_not_written(self, store: Store) -> None:
        store.publish({"X": np.zeros(10)})
        with pytest.raises(jshm.ReadOnlyError, match=r'mode="c".*writable=True'):
            store.attach(["X"], "r+")
        with pytest.raises(jshm.InvalidModeError, match="'w'"):
            store.attach(["X"], "w")  # type: ignore[arg-type]

    def test_unknown_names(self, store: Store) -> None:
        store.publish({"weights": np.zeros(3), "exp/Train": np.zeros(3)})
        for name, near in (("wieghts", "weights"), ("train", "exp/Train")):
            with pytest.raises(jshm.SegmentNotFoundError, match=f"did you mean .*{near}"):
                store.attach([name])
        with pytest.raises(LookupError, match="nothing is shared under 'q'"):
            store.attach(["weights", "q"])
        with pytest.raises(jshm.SegmentNotFoundError, match=r"no version 7.*there: v1"):
            store.attach(["weights"], versions=[7])
        for use in (store.info, lambda name: store.release([name])):
            with pytest.raises(jshm.SegmentNotFoundError, match="did you mean weights"):
                use("wieghts")

    def test_invalid_names(self, store: Store) -> None:
        uses: list[Callable[[str], object]] = [
            lambda name: store.publish({"good": np.zeros(1), name: np.zeros(1)}),
            lambda name: store.attach([name]),
            lambda name: store.release([name]),
            lambda name: store.require_owner([name]),
            lambda name: store.current([name]),
            store.checked,
            store.info,
            store.versions,
            lambda name: store.reader(name).__enter__(),
            lambda name: watching.wait(store, [name], 0),
        ]
        if store.can("locks"):
            uses.append(store.lock)
        for name in ("", "/X", "-X", ".X", "a..b", "a*", "a@2", "a\nb", "x" * 201):
            for use in uses:
                with pytest.raises(jshm.InvalidNameError):
                    use(name)
        assert store.names() == []

    def test_a_refused_value_leaves_nothing_behind(self, store: Store) -> None:
        for bad in (threading.Lock(), [1, (n for n in "ab")], np.array([threading.Lock()], object)):
            with pytest.raises(jshm.NotShareableError, match=r"b → .*cannot be shared"):
                store.publish({"a": np.zeros(3), "b": bad})
        assert store.names() == []
        assert self.footprint(store) == 0

    # -- versions --------------------------------------------------------------------------------

    def test_values_that_share_state_share_it_after_an_attach(
        self, store: Store, new: NewChild
    ) -> None:
        """In one attach; and an array beside an object that holds it is one, in any mode."""
        x, array = [1], np.arange(100.0)
        done = store.publish({"a": x, "b": {"x": x}, "c": [3], "X": array, "d": [array]})
        together = {p.info.name: p.info.details.together for p in done if p.info.details}
        assert together == {"a": ("b",), "b": ("a",), "c": (), "d": ()}
        other = new("eda.py")
        other.run(
            "def get(*names, mode='r'):\n"
            "    return [one.value for one in store.attach(names, mode, trust=True)]"
        )
        assert other.run("(lambda b, c, a: [a is b['x'], a, c])(*get('b', 'c', 'a'))") == [
            True,
            [1],
            [3],
        ]
        assert other.run("(lambda d, X: d[0] is X)(*get('d', 'X'))")
        assert other.run(
            "(lambda X, d: [X.fill(1), float(d[0].sum())])(*get('X', 'd', mode='c'))"
        ) == [
            None,
            100,
        ]
        np.testing.assert_array_equal(self.read_raw(store, "X"), array)
        store.release(["a", "X"])
        assert other.run("[*get('b'), float(get('d')[0][0].sum())]") == [{"x": [1]}, 4950]
        assert store.check() == []
        store.release(["b", "c", "d"])
        assert self.footprint(store) == 0

    def test_held_versions_stay_and_others_are_freed(self, store: Store, new: NewChild) -> None:
        size = 1 << 20
        other = new("eda.py")
        store.publish({"X": np.full(size, 1, np.uint8)})
        other.run("first = store.attach(['X'])[0].value")
        store.publish({"X": np.full(size, 2, np.uint8)})
        store.publish({"X": np.full(size, 3, np.uint8)})
        assert [(i.version, i.state) for i in store.segments()] == [(1, "old"), (3, "current")]
        assert 2 * size <= self.footprint(store) < 3 * size
        for version in (1, 3):
            found = store.attach(["X"], versions=[version])[0]
            assert (found.version, found.value[0], found.value[-1]) == (version,) * 3
            assert (self.read_raw(store, "X", version) == version).all()
            del found
        with pytest.raises(jshm.SegmentNotFoundError, match="there: v1, v3"):
            store.attach(["X"], versions=[2])
        assert other.run("int(first[-1])") == 1
        other.run("del first; store.flush()")
        assert [i.version for i in store.segments()] == [3]
        assert size <= self.footprint(store) < 2 * size
        with pytest.raises(jshm.SegmentNotFoundError):
            store.attach(["X"], versions=[1])

    def test_the_last_holder_may_be_here(self, store: Store) -> None:
        store.publish({"X": np.zeros(1 << 20, np.uint8)})
        held = store.attach(["X"])[0].value
        view = held[5:10]
        store.publish({"X": np.ones(10, np.uint8)})
        del held
        gc.collect()
        store.flush()
        assert view.sum() == 0
        assert self.footprint(store) > 1 << 20
        del view
        gc.collect()
        store.flush()
        assert self.footprint(store) < 1 << 16

    def test_version_numbers_go_on_after_a_release(self, store: Store) -> None:
        for version in range(1, 4):
            assert store.publish({"X": np.zeros(3)})[0].info.version == version
            store.release(["X"])

    # -- groups ----------------------------------------------------------------------------------

    def test_all_or_nothing(self, store: Store, new: NewChild) -> None:
        other = new("train.py")
        other.run("store.publish({'theirs': np.ones(3)})")
        before = self.footprint(store)
        with pytest.raises(jshm.NotOwnerError, match=r"theirs v1.*train\.py.*replace=True"):
            store.publish({"mine": np.zeros(1000), "theirs": np.zeros(3)})
        assert store.names() == ["theirs"]
        assert self.footprint(store) == before
        assert self.read_raw(store, "theirs").tolist() == [1, 1, 1]
        store.publish({"mine": np.zeros(3)})
        with pytest.raises(jshm.SegmentNotFoundError):
            store.release(["mine", "missing"])
        with pytest.raises(jshm.NotOwnerError):
            store.release(["mine", "theirs"])
        assert store.names() == ["mine", "theirs"]
        with pytest.raises(jshm.SegmentNotFoundError):
            store.attach(["mine", "missing"])

    def test_a_pair_is_never_mixed(self, store: Store, new: NewChild) -> None:
        """X and y are replaced together while two others attach both."""
        writer, reader = new("train.py"), new("eda.py")
        pair = "store.publish({'X': np.full(500, i), 'y': np.full(3, i)})"
        writer.run(f"i = 0; {pair}")
        writer.send(f"for i in range(1, {_PAIRS}): {pair}")
        reader.send(
            "seen, mixed, last = 0, [], 0\n"
            f"while last < {_PAIRS - 1}:\n"
            "    x, y = store.attach(['X', 'y'])\n"
            "    values = {*x.value.tolist(), *y.value.tolist()}\n"
            "    if len(values) != 1 or x.version != y.version or min(values) < last:\n"
            "        mixed.append([x.version, y.version, sorted(values), last])\n"
            "    last, seen = max(values), seen + 1\n"
            "[seen, mixed]"
        )
        count, version, is_last = 0, 0, False
        while version < _PAIRS and not is_last:
            is_last = writer.has_answered()
            y, x = store.attach(["y", "X"])
            assert x.version == y.version
            assert {*x.value.tolist(), *y.value.tolist()} == {x.version - 1}
            count, version = count + 1, x.version
        writer.receive()
        assert version == _PAIRS
        seen, mixed = reader.receive()
        assert mixed == []
        assert min(seen, count) > 2
        del x, y
        gc.collect()
        reader.run("del x, y; store.flush()")
        store.gc()
        assert [(i.name, i.version) for i in store.segments()] == [("X", _PAIRS), ("y", _PAIRS)]

    def test_no_update_is_lost(self, store: Store, new: NewChild) -> None:
        """Two processes of one owner publish the same names as fast as they can."""
        children = [new("train.py"), new("train.py")]
        for child in children:
            child.send(
                "for i in range(150): store.publish({'X': np.full(9, i)}); store.attach(['X'])"
            )
        for child in children:
            child.receive()
        assert store.info("X").version == 300
        assert len({*self.read_raw(store, "X").tolist()}) == 1

    def test_threads(self, store: Store, new: NewChild) -> None:
        other = new("train.py")
        failed = other.run("""
import sys, threading, traceback
sys.setswitchinterval(1e-5)
failed = []
def work(k):
    try:
        for i in range(60):
            store.publish({f"t{k}": np.full(50, i), "all": np.full(50, k)})
            mine, shared = (a.value for a in store.attach([f"t{k}", "all"]))
            assert (mine == i).all() and len(set(shared.tolist())) == 1
            store.segments()
            store.publish({f"a{k}": mine})
            if i % 10 == 0:
                store.release([f"a{k}"])
    except BaseException as error:
        failed.append(traceback.format_exc())
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for t in threads: t.start()
for t in threads: t.join()
failed
""")
        assert not failed, failed[0]
        assert store.info("all").version == 240

    # -- ownership -------------------------------------------------------------------------------

    def test_names_belong_to_their_publisher(self, store: Store, new: NewChild) -> None:
        train, eda = new("train.py"), new("eda.py")
        train.run("store.publish({'X': np.ones(3)}, keep=True)")
        error = eda.fails("store.publish({'X': np.zeros(3)})")
        assert {"NotOwnerError", "PermissionError"} < set(error.kinds)
        for part in ("X v1", "train.py", "another name", "replace=True"):
            assert part in error.message
        error = eda.fails("store.release(['X'])")
        for part in ("belongs to train.py", "not in use", "force=True"):
            assert part in error.message
        assert [eda.run(f"store.info('X').{what}") for what in ("mine", "publisher")] == [
            False, "train.py",
        ]  # fmt: skip
        # Dead or alive, and after a restart.
        train.kill()
        assert "NotOwnerError" in eda.fails("store.publish({'X': np.zeros(3)})").kinds
        again = new("train.py")
        assert again.run("store.publish({'X': np.full(3, 2)}, keep=True)[0].info.version") == 2
        assert eda.run("store.publish({'X': np.full(3, 3)}, replace=True)[0].info.version") == 3
        assert "NotOwnerError" in again.fails("store.release(['X'])").kinds
        assert self.read_raw(store, "X").tolist() == [3, 3, 3]
        assert again.run("store.release(['X'], force=True)[0].freed") == 24

    # -- release ---------------------------------------------------------------------------------

    def test_release_of_what_nobody_holds_frees_it(self, store: Store) -> None:
        store.publish({"X": np.zeros(1 << 20, np.uint8), "Y": np.zeros(10, np.uint8)})
        done = store.release(["X", "Y"])
        assert [(d.name, d.nbytes, d.freed, d.held_by) for d in done] == [
            ("X", 1 << 20, 1 << 20, ()), ("Y", 10, 10, ()),
        ]  # fmt: skip
        assert self.footprint(store) == 0
        assert store.names() == []
        assert store.segments() == []

    def test_release_of_what_is_held_takes_nothing_away(self, store: Store, new: NewChild) -> None:
        eda = new("eda.py")
        store.publish({"X": np.arange(1000.0)})
        eda.run("x = store.attach(['X'])[0].value")
        (done,) = store.release(["X"])
        assert (done.nbytes, done.freed, done.held_by) == (8000, 0, ("eda.py",))
        assert self.footprint(store) == 0  # the memory goes with the last holder
        (info,) = store.segments()
        assert (info.state, [h.label for h in info.holders]) == ("released", ["eda.py"])
        assert store.names() == []
        for attempt in ("store.attach(['X'])", "store.attach(['X'], versions=[1])"):
            assert "SegmentNotFoundError" in eda.fails(attempt).kinds
        assert store.publish({"X": np.zeros(3)})[0].info.version == 2
        assert eda.run("float(x.sum())") == float(np.arange(1000.0).sum())
        assert [(i.version, i.state) for i in store.segments()] == [(1, "released"), (2, "current")]
        assert store.check() == []
        eda.run("del x; store.flush()")
        store.gc()
        assert [i.version for i in store.segments()] == [2]

    def test_release_takes_older_versions_along(self, store: Store, new: NewChild) -> None:
        eda = new("eda.py")
        store.publish({"X": np.zeros(100)})
        eda.run("x = store.attach(['X'])[0].value")
        store.publish({"X": np.ones(100)})
        (done,) = store.release(["X"])
        assert (done.nbytes, done.freed, done.held_by) == (1600, 800, ("eda.py",))
        eda.kill()
        store.gc()
        assert store.segments() == []
        assert self.footprint(store) == 0

    # -- without a copy --------------------------------------------------------------------------

    def test_allocate_and_seal(self, store: Store, new: NewChild) -> None:
        eda = new("eda.py")
        array = store.allocate((100, 10), "f4", "F")
        assert (array.sum(), array.shape, array.dtype) == (0, (100, 10), np.float32)
        assert array.flags.f_contiguous
        assert array.flags.writeable
        assert eda.run("store.names()") == []
        array[:] = 5
        before = self.footprint(store)
        assert before >= array.nbytes
        (done,) = store.publish({"X": array})
        assert (done.how, done.info.version) == ("sealed", 1)
        assert self.footprint(store) - before < 4096
        assert not array.flags.writeable
        assert (self.read_raw(store, "X") == 5).all()
        assert eda.run("float(store.attach(['X'])[0].value.sum())") == 5000
        del array
        gc.collect()
        store.flush()
        assert eda.run("float(store.attach(['X'])[0].value.sum())") == 5000

    def test_allocated_and_let_go(self, store: Store) -> None:
        array = store.allocate((1 << 20,), np.uint8)
        part = array[5:]
        del array
        gc.collect()
        store.flush()
        assert self.footprint(store) > 1 << 20
        part[:] = 1
        del part
        gc.collect()
        store.flush()
        assert self.footprint(store) == 0

    def test_republishing_what_is_attached_is_no_copy(self, store: Store, new: NewChild) -> None:
        eda = new("eda.py")
        store.publish({"X": np.arange(1 << 17)})
        before = self.footprint(store)
        assert eda.run(
            "x = store.attach(['X'])[0].value\n"
            "[d.how for d in store.publish({'mine': x, 'part': x[:10]}, keep=True)]"
        ) == ["alias", "copied"]
        assert self.footprint(store) - before < 1 << 14
        # The name that is left keeps the memory.
        assert store.release(["X"])[0].freed == 0
        np.testing.assert_array_equal(self.read_raw(store, "mine"), np.arange(1 << 17))
        eda.kill()
        assert store.release(["mine"], force=True)[0].freed == 1 << 20

    def test_a_changed_copy_is_no_alias(self, store: Store) -> None:
        store.publish({"X": np.zeros(5000)})
        changed = store.attach(["X"], "c")[0].value
        changed[4321] = 1
        assert store.publish({"Y": changed})[0].how == "copied"
        assert self.read_raw(store, "X").sum() == 0
        assert self.read_raw(store, "Y").sum() == 1

    def test_live_data_is_copied_when_it_is_published(self, store: Store) -> None:
        need(store, "writable")
        store.publish({"live": np.zeros(10)}, writable=True)
        live = store.attach(["live"], "r+")[0].value
        assert store.publish({"snap": live})[0].how == "copied"
        live[:] = 1
        assert self.read_raw(store, "snap").sum() == 0

    # -- references in pickles -------------------------------------------------------------------

    def test_a_reference_finds_its_array_again(self, store: Store) -> None:
        array = store.allocate((3,), "f8")
        (segment,) = store.mapped()
        assert store.in_use(segment)
        assert store.segment_at(store.refer(array), segment) == segment
        with pytest.raises(jshm.SegmentNotFoundError, match="shared in /another/store"):
            store.segment_at("/another/store", segment)
        resolver = store.resolver()
        load, where = resolver.refer(array[1:])
        assert load is frozen.load_view
        found = resolver.view(*where)
        array[:] = 1, 2, 3
        assert found.tolist() == [2, 3]
        assert resolver.refer(np.zeros(3)) is None
        del array, found
        store.flush()
        assert not store.in_use(segment)
        with pytest.raises(jshm.SegmentNotFoundError):
            resolver.view(*where)

    # -- wait ------------------------------------------------------------------------------------

    def test_wait(self, store: Store, new: NewChild) -> None:
        train = new("train.py")
        store.publish({"X": np.zeros(1)})
        assert [i.version for i in watching.wait(store, ["X"], 0)] == [1]
        with pytest.raises(jshm.WaitTimeoutError, match="X is still v1") as caught:
            watching.wait(store, ["X"], 0.01, newer_than=1)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, LookupError)
        with pytest.raises(jshm.WaitTimeoutError, match="nothing is shared under 'Y'"):
            watching.wait(store, ["X", "Y"], 0)
        with ThreadPoolExecutor(1) as pool:
            both = pool.submit(watching.wait, store, ["X", "Y"], 60)
            train.run("store.publish({'Y': np.zeros(1)})")
            assert [i.name for i in both.result()] == ["X", "Y"]
            newer = pool.submit(watching.wait, store, ["X"], None, newer_than=1)
            train.run("store.publish({'X': np.ones(1)}, replace=True); store.release(['Y'])")
            assert [i.version for i in newer.result()] == [2]

    # -- lock ------------------------------------------------------------------------------------

    def test_lock(self, store: Store, new: NewChild) -> None:
        need(store, "locks")
        train = new("train.py")
        train.run("lock = store.lock('X', shared=True); lock.__enter__()")
        with store.lock("X", shared=True, timeout=0), store.lock("Y", timeout=0):
            pass
        with pytest.raises(
            jshm.LockTimeoutError, match=r"the lock of X held by train\.py"
        ) as caught:
            store.lock("X", timeout=0).__enter__()
        assert isinstance(caught.value, TimeoutError)
        train.kill()
        with store.lock("X", timeout=30), pytest.raises(jshm.LockHeldError):
            store.lock("X").__enter__()
        assert store.names() == []

    # -- offers ----------------------------------------------------------------------------------

    def test_offers(self, store: Store, new: NewChild) -> None:
        need(store, "offers")
        store.publish({"X": np.zeros(10)})
        me = next(who for who in store.processes() if who.is_here)
        new("eda.py").run("store.names(), store.identity")
        assert {who.label for who in store.processes()} == {me.label, "eda.py"}
        kernel = replace(me, connection_file="/run/kernel-1.json")
        with pytest.raises(jshm.SegmentNotFoundError, match="'Y'"):
            store.offers.make(["X", "Y"], kernel)
        assert [info.version for info in store.offers.make(["X"], kernel)] == [1]
        assert store.offers.received() == []  # it is another's
        store.offers.answer(["X", "Y"])  # nothing was to be answered

    # -- look ------------------------------------------------------------------------------------

    def test_holders_are_listed(self, store: Store, new: NewChild) -> None:
        need(store, "writable")
        store.publish({"X": np.zeros(10)}, writable=True)
        assert not store.info("X").in_use
        eda, train = new("eda.py"), new("train.py")
        eda.run("x = store.attach(['X'])[0].value; w = store.attach(['X'], 'r+')[0].value")
        train.run("c = store.attach(['X'], 'c')[0].value")
        held = {(h.label, h.mode, h.here) for h in store.info("X").holders}
        assert held == {
            ("eda.py", "r", False), ("eda.py", "r+", False), ("train.py", "c", False),
        }  # fmt: skip
        train.kill()
        eda.run("del x; store.flush()")
        assert {(h.label, h.mode) for h in store.info("X").holders} == {("eda.py", "r+")}
        eda.exit()
        assert not store.info("X").in_use

    def test_checked_and_clean(self, store: Store) -> None:
        store.publish({"X": np.zeros(3)})
        held = store.attach(["X"])[0].value
        store.publish({"X": np.ones(3), "Y": store.allocate((3,), "f8")})
        store.release(["Y"])
        assert store.check() == []
        assert store.check(fix=True) == []
        assert held.sum() == 0
        assert store.info("X").version == 2

    # -- state -----------------------------------------------------------------------------------

    def test_the_state_tells_when_to_list_again(self, store: Store, new: NewChild) -> None:
        if type(store).state is Store.state:
            pytest.skip("its state is its revision, which does not see who attaches")
        eda = new("eda.py")
        eda.run("store.segments(); None")
        store.segments()
        seen = store.state()
        for change in (
            lambda: store.publish({"X": np.zeros(3)}),
            lambda: eda.run("store.publish({'Y': np.zeros(3)}, keep=True); None"),
            lambda: eda.run("x = store.attach(['X'])[0].value; None"),
            lambda: eda.run("del x; store.flush()"),
            lambda: eda.run("x = store.attach(['X'])[0].value; None"),
            lambda: store.publish({"X": np.ones(3)}),
            lambda: store.publish({"U": np.zeros(3)}) and store.release(["U"]),
            eda.kill,
            lambda: store.release(["X", "Y"], force=True),
        ):
            change()
            assert store.state() != seen
            store.segments()
            seen = store.state()
            store.segments()
            store.names()
            assert store.state() == seen

    # -- this process ----------------------------------------------------------------------------

    def test_processes_see_each_other(self, store: Store, new: NewChild) -> None:
        me = store.identity
        assert me.is_here
        assert store.identity == me
        eda = new("eda.py")
        assert eda.run("store.identity.label") == "eda.py"
        assert {who.label for who in store.processes()} == {me.label, "eda.py"}
        assert eda.run("sorted(w.pid for w in store.processes())") == sorted([me.pid, eda.pid])
        eda.kill()
        assert [who.pid for who in store.processes()] == [me.pid]

    def test_this_process_knows_what_it_has_mapped(self, store: Store) -> None:
        store.publish({"X": np.arange(10.0), "Y": np.zeros(3)})
        x, y = (store.info(name).segment for name in "XY")
        assert store.mappings("0" * 16) == []
        held, copy = (store.attach(["X"], mode)[0].value for mode in ("r", "c"))  # type: ignore[arg-type]
        assert x in store.mapped()
        assert y not in store.mapped() - {y}
        assert {"r", "c"} <= {mapping.mode for mapping in store.mappings(x)}
        found = store.mappings(x)
        del held, copy
        gc.collect()
        assert x in store.mapped()  # the result keeps the memory mapped
        del found
        gc.collect()
        store.gc()
        assert x not in store.mapped()
        assert store.mappings(x) == []

    # -- what is derived, and what is optional ---------------------------------------------------

    def test_an_ability_that_is_missing_is_an_error_that_names_it(self, store: Store) -> None:
        store.publish({"X": np.zeros(3)})
        uses: dict[Ability, Callable[[], object]] = {
            "offers": lambda: store.offers,
            "locks": lambda: store.lock("X"),
            "writable": lambda: store.publish({"W": np.zeros(3)}, writable=True),
        }
        for ability in ("offers", "writable", "locks", "spares", "location"):
            if store.can(ability):
                store.require(ability, "this")
                continue
            with pytest.raises(
                jshm.UnsupportedError, match=r"^this is not possible: this store has no "
            ):
                store.require(ability, "this")
            if ability in uses:
                with pytest.raises(jshm.UnsupportedError, match="this store has"):
                    uses[ability]()
        assert isinstance(jshm.UnsupportedError("X"), NotImplementedError)

    def test_location(self, store: Store) -> None:
        array = np.arange(12.0).reshape(3, 4)
        store.publish({"X": array})
        path = store.location("X")
        assert bool(path) == store.can("location")
        if path:
            np.testing.assert_array_equal(np.load(path), array)
            assert store.location("X", 1) == path
            with pytest.raises(jshm.SegmentNotFoundError):
                store.location("missing")

    def test_spares_are_given_back(self, store: Store) -> None:
        assert store.own_spares() == 0
        assert store.rest() is False
        for version in range(3):
            store.publish({"X": np.full(1 << 18, version, np.uint8)})
        assert store.own_spares() >= 0
        assert store.own_spares() == 0 or store.can("spares")
        store.gc()
        assert store.own_spares() == 0
        assert store.rest() is False

    def test_copy(self, store: Store) -> None:
        array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
        copied = store.copy(array)
        np.testing.assert_array_equal(copied, array)
        assert copied.flags.f_contiguous
        assert copied.flags.writeable
        copied[0, 0] = -1
        assert array[0, 0] == 0
        assert store.publish({"X": copied})[0].how == "sealed"

    def test_attach_the_versions_that_were_published(self, store: Store, new: NewChild) -> None:
        other = new("eda.py")
        done = store.publish({"X": np.zeros(3), "Y": np.ones(3)})
        other.run("held = store.attach(['X', 'Y'])")
        other.run("store.publish({'X': np.full(3, 7)}, replace=True, keep=True); None")
        x, y = store.attach_published(done)
        assert (x.version, x.value.sum(), y.version, y.value.sum()) == (1, 0, 1, 3)
        x, y = store.attach(["X", "Y"], versions=[2, 1])
        assert (x.value.sum(), y.value.sum()) == (21, 3)
        with pytest.raises(jshm.SegmentNotFoundError, match="no version 3"):
            store.attach(["Y", "X"], versions=[1, 3])

    def test_attach_a_segment_without_a_name(self, store: Store) -> None:
        """An object refers to an array that has no name."""
        part = store.allocate((1000,), "f8")
        part[:] = 7
        store.publish({"O": {"part": part}})
        (attached,) = store.attach(["O"])
        (unnamed,) = (s for s in attached.segments if not store.names_of(s))
        mapping = store.attach_segment(unnamed)
        assert (mapping.mode, mapping.segment) == ("r", unnamed)
        assert np.frombuffer(mapping, np.uint8).nbytes >= part.nbytes
        assert store.attach_segment(unnamed, "r+").mode == "r"  # it is sealed
        with pytest.raises(jshm.SegmentNotFoundError):
            store.attach_segment("0" * 16)

    def test_require_owner(self, store: Store, new: NewChild) -> None:
        new("train.py").run("store.publish({'theirs': np.zeros(3)}, keep=True)")
        store.publish({"mine": np.zeros(3)})
        store.require_owner(["mine", "new"])
        store.require_owner(["mine", "theirs"], replace=True)
        with pytest.raises(jshm.NotOwnerError, match=r"theirs.*train\.py"):
            store.require_owner(["mine", "theirs"])
        assert store.names() == ["mine", "theirs"]

    # -- look ------------------------------------------------------------------------------------

    def test_names_in_their_forms(self, store: Store) -> None:
        assert store.checked("e\u0301/X") == "é/X"
        store.publish({"e\u0301/X": np.zeros(3), "Y": np.zeros(3)})
        assert store.names() == ["Y", "é/X"]
        assert store.own_names() == ["Y", "é/X"]
        exact = store.exact_names()
        assert sorted(exact) == sorted(store.exact(name) for name in store.names())
        for name in exact:
            assert store.info(name).version == 1
            assert store.exact(name) == name

    def test_current(self, store: Store, new: NewChild) -> None:
        assert store.current([]) == {}
        assert store.current(["X"]) == {}
        store.publish({"X": np.zeros(3), "Y": np.zeros((2, 2), "f4")})
        new("eda.py").run("held = store.attach(['X'])")
        store.publish({"X": np.ones(3)})
        found = store.current(["Y", "X", "missing"])
        assert {name: (i.name, i.version, i.state) for name, i in found.items()} == {
            "X": ("X", 2, "current"),
            "Y": ("Y", 1, "current"),
        }
        assert found["Y"].summary == store.info("Y").summary
        store.release(["X"])
        assert list(store.current(["X", "Y"])) == ["Y"]

    def test_current_is_of_one_moment(self, store: Store, new: NewChild) -> None:
        train = new("train.py")
        pair = "store.publish({'a': np.zeros(3), 'b': np.zeros(3)})"
        train.run(pair)
        train.send(f"for _ in range(60): {pair}")
        newest = 0
        while newest < 61:
            found = store.current(["a", "b"])
            assert found["a"].version == found["b"].version >= newest
            newest = found["a"].version
        train.receive()

    def test_versions(self, store: Store, new: NewChild) -> None:
        store.publish({"X": np.zeros(3)})
        new("eda.py").run("held = store.attach(['X'])")
        store.publish({"X": np.ones(3)})
        versions = sorted((i.version, i.state) for i in store.versions("X"))
        assert versions == [(1, "old"), (2, "current")]
        assert store.versions("missing") == []

    def test_names_of_a_segment(self, store: Store) -> None:
        store.publish({"X": np.zeros(3)})
        held = store.attach(["X"])[0].value
        store.publish({"alias": held})
        first = store.info("X").segment
        assert sorted(store.names_of(first)) == ["X", "alias"]
        store.publish({"X": np.ones(3)})
        assert store.names_of(first)[0] == "alias"  # a newest version comes first
        assert store.names_of(store.info("X").segment) == ["X"]
        assert store.names_of("0" * 16) == []

    def test_names_of_a_part(self, store: Store) -> None:
        shared = [1, 2]
        store.publish({"one": {"shared": shared}, "two": {"shared": shared}})
        info = store.info("two")
        assert info.value_id != info.segment
        assert sorted(store.names_of(info.segment)) == ["one", "two"]
        assert store.names_of(info.value_id) == ["two"]

    def test_complete(self, store: Store) -> None:
        store.publish({f"exp/{n}": np.zeros((n, 2), "f4") for n in range(1, 6)})
        store.publish({"O": {"a": 1}})
        assert store.complete("exp/", 2) == [
            ("exp/1", "float32 (1, 2)"),
            ("exp/2", "float32 (2, 2)"),
        ]
        assert [name for name, _ in store.complete("", 100)] == [
            "O",
            *(f"exp/{n}" for n in range(1, 6)),
        ]
        assert store.complete("exp/3", 100) == [("exp/3", "float32 (3, 2)")]
        assert store.complete("q", 100) == []

    def test_a_reader_maps_nothing(self, store: Store) -> None:
        array = np.arange(1000.0)
        store.publish({"X": array, "O": {"a": array}})
        store.gc()
        with store.reader("X") as reader:
            layout = reader.layout
            assert isinstance(layout, ArrayLayout)
            assert (layout.dtype, layout.shape, layout.order) == (array.dtype, array.shape, "C")
            data = reader.read(layout.offset + 80, 16)
            assert np.frombuffer(data, layout.dtype).tolist() == [10, 11]
            with pytest.raises(jshm.CorruptSegmentError, match="shorter"):
                reader.read(1 << 40, 1)
            assert not store.info("X").in_use
        with store.reader("O", 1) as reader:
            assert isinstance(reader.layout, ObjectLayout)
        for name, version in (("missing", None), ("X", 2)):
            with pytest.raises(jshm.SegmentNotFoundError), store.reader(name, version):
                pass

    def test_the_revision_changes_with_each_commit(self, store: Store, new: NewChild) -> None:
        eda = new("eda.py")
        eda.run("store.segments(); None")
        store.publish({"X": np.zeros(3)})
        seen = [store.revision()]
        assert store.revision() == seen[0]
        for change in (
            lambda: store.publish({"X": np.ones(3)}),
            lambda: eda.run("store.publish({'Y': np.zeros(3)}, keep=True); None"),
            lambda: store.release(["X"]),
        ):
            change()
            assert store.revision() not in seen
            seen.append(store.revision())
        store.names()
        store.segments()
        assert store.revision() == seen[-1]

    def test_the_end_of_a_session_frees_only_its_own_names(
        self, store: Store, new: NewChild
    ) -> None:
        """This process started no kernel: no name lives as long as it does."""
        store.publish({"X": np.arange(10.0)})
        new("eda.py").run("store.publish({'theirs': np.zeros(3)}); None")
        store.end_session()
        assert store.names() == ["X", "theirs"]

    # -- space -----------------------------------------------------------------------------------

    def test_space(self, store: Store) -> None:
        before = store.space()
        assert before.where
        assert 0 < before.free <= before.capacity
        assert before.unnamed == 0
        array = store.allocate((1000,), "f8")
        assert store.space().unnamed == 8000
        store.publish({"X": array})
        assert store.space().unnamed == 0
        del array
        gc.collect()
        kept = store.allocate((500,), "f8")
        store.publish({"O": {"a": kept}})
        del kept
        gc.collect()
        store.flush()
        assert store.space().unnamed == 4000  # only referred to
        store.release(["O"])
        after = store.space()
        assert (after.where, after.capacity, after.unnamed) == (before.where, before.capacity, 0)
