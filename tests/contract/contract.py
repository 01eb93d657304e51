"""What every store must do. A store's own test module inherits `StoreContract` and says how to look.

The reads that decide are `read_raw` and `footprint`, which bypass the store, and what other processes
see.
"""

from __future__ import annotations

import gc
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.pickling import frozen
from jshm.store import watching

from ..support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.base import Store

NewChild = "Callable[[str], Child]"


class StoreContract(ABC):
    """Tests that every store passes. Needs a fixture `store`, of an empty store."""

    PRELUDE: str
    """Makes `store`, and NumPy as `np`, in another process."""

    @abstractmethod
    def read_raw(self, store: Store, name: str, version: int | None = None) -> np.ndarray:
        """Return a copy of a version's data, read past the store."""

    @abstractmethod
    def footprint(self, store: Store) -> int:
        """Return the bytes that all segments take, found past the store."""

    @pytest.fixture
    def new(self, store: Store, tmp_path: Path) -> Iterator[NewChild]:
        """Start another process that uses the store; its script's name is who it is."""
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

    @pytest.mark.parametrize("name", ["", "/X", "-X", ".X", "a..b", "a*", "a@2", "a\nb", "x" * 201])
    def test_invalid_names(self, store: Store, name: str) -> None:
        for use in (
            lambda: store.publish({"good": np.zeros(1), name: np.zeros(1)}),
            lambda: store.attach([name]),
            lambda: store.release([name]),
            lambda: store.info(name),
            lambda: watching.wait(store, [name], 0),
            lambda: store.lock(name),
        ):
            with pytest.raises(jshm.InvalidNameError):
                use()
        assert store.names() == []

    def test_what_cannot_be_shared_is_refused_and_nothing_of_it_stays(self, store: Store) -> None:
        for bad in (threading.Lock(), [1, (n for n in "ab")], np.array([threading.Lock()], object)):
            with pytest.raises(jshm.NotShareableError, match=r"b → .*cannot be shared"):
                store.publish({"a": np.zeros(3), "b": bad})
        assert store.names() == []
        assert self.footprint(store) == 0

    # -- versions --------------------------------------------------------------------------------

    def test_what_shares_state_shares_it_again(self, store: Store, new: NewChild) -> None:
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
        """X and y are replaced together a thousand times while others attach both."""
        writer, reader = new("train.py"), new("eda.py")
        pair = "store.publish({'X': np.full(500, i), 'y': np.full(3, i)})"
        writer.run(f"i = 0; {pair}")
        writer.send(f"for i in range(1, 1001): {pair}")
        reader.send(
            "seen, mixed, last = 0, [], 0\n"
            "while last < 1000:\n"
            "    x, y = store.attach(['X', 'y'])\n"
            "    values = {*x.value.tolist(), *y.value.tolist()}\n"
            "    if len(values) != 1 or x.version != y.version or min(values) < last:\n"
            "        mixed.append([x.version, y.version, sorted(values), last])\n"
            "    last, seen = max(values), seen + 1\n"
            "[seen, mixed]"
        )
        count, deadline = 0, time.monotonic() + 60
        while True:
            y, x = store.attach(["y", "X"])
            assert x.version == y.version
            assert {*x.value.tolist(), *y.value.tolist()} == {x.version - 1}
            count += 1
            if x.version == 1001:
                break
            assert time.monotonic() < deadline
        writer.receive()
        seen, mixed = reader.receive()
        assert mixed == []
        assert min(seen, count) >= 20
        del x, y
        gc.collect()
        reader.run("del x, y; store.flush()")
        store.gc()
        assert [(i.name, i.version) for i in store.segments()] == [("X", 1001), ("y", 1001)]

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

    def test_names_belong_to_who_published_them(self, store: Store, new: NewChild) -> None:
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
            watching.wait(store, ["X"], 0.05, newer_than=1)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, LookupError)
        with pytest.raises(jshm.WaitTimeoutError, match="nothing is shared under 'Y'"):
            watching.wait(store, ["X", "Y"], 0)
        train.send("import time; time.sleep(0.2); store.publish({'Y': np.zeros(1)})")
        began = time.monotonic()
        assert [i.name for i in watching.wait(store, ["X", "Y"], 30)] == ["X", "Y"]
        assert time.monotonic() - began < 20
        train.receive()
        train.send(
            "time.sleep(0.2); store.publish({'X': np.ones(1)}, replace=True); store.release(['Y'])"
        )
        assert [i.version for i in watching.wait(store, ["X"], None, newer_than=1)] == [2]
        train.receive()

    # -- lock ------------------------------------------------------------------------------------

    def test_lock(self, store: Store, new: NewChild) -> None:
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

    def test_holders_are_told(self, store: Store, new: NewChild) -> None:
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

    # -- state and space -------------------------------------------------------------------------

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
