"""The functions of ``import jshm``, in one process and beside another one."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store import watching

from ..support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore


@pytest.fixture
def main() -> Iterator[dict[str, Any]]:
    """The variables of ``__main__``, as a user at a prompt has them."""
    namespace = sys.modules["__main__"].__dict__
    before = dict(namespace)
    yield namespace
    for name in set(namespace) - set(before):
        del namespace[name]


@pytest.fixture
def child(store: LocalStore, tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path, "other.py") as child:
        child.run("import jshm, numpy as np")
        yield child


def segment_files(store: LocalStore) -> set[str]:
    return set(os.listdir(store.directory.segments))


# -- publish and attach ----------------------------------------------------------------------------


def test_a_publish_is_a_snapshot(store: LocalStore) -> None:
    X = np.arange(5.0)
    info = jshm.publish("X", X, note="five")
    X[0] = 99.0
    assert X.flags.writeable
    assert np.load(store.location("X"))[0] == 0.0
    assert (info.name, info.version, info.note, info.shape) == ("X", 1, "five", (5,))
    assert (info.mine, info.publisher_alive, info.state, info.in_use) == (
        True,
        True,
        "current",
        False,
    )
    assert os.stat(store.location("X")).st_mode & 0o777 == 0o400


def test_attached_arrays_are_plain_and_read_only(store: LocalStore) -> None:
    jshm.publish("X", np.arange(6.0).reshape(2, 3))
    X = jshm.attach("X")
    assert type(X) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        X[0, 0] = 1.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        X.flags.writeable = True
    assert jshm.is_shared(X)
    assert jshm.is_shared(X[::-1, 1])
    assert not jshm.is_shared(X + 1)
    assert jshm.info("X").in_use
    assert jshm.info("X").holders[0].here


def test_several_at_once(store: LocalStore) -> None:
    infos = jshm.publish({"a": np.zeros(2), "b/c": np.ones(3)})
    assert [info.name for info in infos] == ["a", "b/c"]
    b, a = jshm.attach(["b/c", "a"])
    assert (b.sum(), a.sum()) == (3.0, 0.0)
    assert jshm.attach([]) == []
    assert jshm.publish({}) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [({"bad name": np.ones(1)}, jshm.InvalidNameError),
     ({"y": [1, (n for n in "ab")]}, jshm.NotShareableError)],
)  # fmt: skip
def test_several_names_succeed_or_fail_together(store: LocalStore, bad: Any, error: Any) -> None:
    jshm.publish("x", np.zeros(1))
    before = segment_files(store)
    with pytest.raises(error):
        jshm.publish({"x": np.ones(1), **bad, "z": np.ones(1)})
    assert store.names() == ["x"]
    assert segment_files(store) == before
    assert np.load(store.location("x"))[0] == 0.0
    with pytest.raises(jshm.SegmentNotFoundError):
        jshm.attach(["x", "y"])
    with pytest.raises(jshm.SegmentNotFoundError):
        jshm.release(["x", "y"])
    assert store.names() == ["x"]


def test_versions(store: LocalStore) -> None:
    for n in (1, 2, 3):
        assert jshm.publish("X", np.full(3, n)).version == n
        if n == 2:
            second = jshm.attach("X")
    assert jshm.attach("X")[0] == 3
    assert jshm.attach("X", version=2)[0] == second[0] == 2
    with pytest.raises(jshm.SegmentNotFoundError, match="no version 1"):
        jshm.attach("X", version=1)  # replaced, and held by nobody
    assert len(segment_files(store)) == 2
    jshm.release("X")
    assert jshm.publish("X", np.zeros(1)).version == 4  # numbers never restart
    assert second[0] == 2


def test_an_unknown_name_suggests_the_nearest(store: LocalStore) -> None:
    with pytest.raises(jshm.SegmentNotFoundError, match="nothing at all"):
        jshm.attach("X")
    jshm.publish("weights", np.zeros(1))
    with pytest.raises(jshm.SegmentNotFoundError, match="did you mean weights"):
        jshm.attach("wieghts")
    with pytest.raises(LookupError):
        jshm.info("nothing/like/it")


# -- promise 1: the same physical pages ------------------------------------------------------------


def test_writable_means_the_same_pages_everywhere(store: LocalStore, child: Child) -> None:
    jshm.publish("X", np.zeros((300, 300)), writable=True)
    mine = jshm.attach("X", "r+")
    child.run("theirs = jshm.attach('X', 'r+'); reader = jshm.attach('X')")
    mine[299, 299] = 7.0
    assert child.run("(theirs[299, 299], reader[299, 299])") == [7.0, 7.0]
    child.run("theirs[0, 0] = 8.0")
    assert mine[0, 0] == 8.0
    assert np.load(store.location("X"))[0, 0] == 8.0
    child.kill()
    assert mine[0, 0] == 8.0


def test_a_read_only_attach_is_the_same_pages_too(store: LocalStore, child: Child) -> None:
    """Nothing may write to a snapshot, so the test writes to its file without jshm."""
    jshm.publish("X", np.zeros(100_000))
    mine = jshm.attach("X")
    child.run("theirs = jshm.attach('X')")
    path = store.location("X")
    os.chmod(path, 0o600)
    with open(path, "r+b", buffering=0) as file:
        file.seek(np.load(path, mmap_mode="r").offset)
        file.write(np.float64(5.0).tobytes())
    assert mine[0] == 5.0
    assert child.run("theirs[0]") == 5.0


def test_an_allocated_array_is_sealed_without_a_copy(store: LocalStore, child: Child) -> None:
    X = jshm.zeros((100, 100))
    assert store.names() == []
    (file,) = segment_files(store)
    inode = os.stat(os.path.join(store.directory.segments, file)).st_ino
    X[3, 4] = 5.0
    (published,) = store.publish({"X": X})
    assert published.how == "sealed"
    assert os.stat(store.location("X")).st_ino == inode
    assert not X.flags.writeable
    assert child.run("X = jshm.attach('X'); X[3, 4]") == 5.0
    # Not only the same values, the same pages: write past the flag here, read in the other process.
    ctypes.c_double.from_address(X.ctypes.data).value = 6.0
    assert child.run("X[0, 0]") == 6.0


def test_mode_c_is_private_and_r_plus_needs_writable(store: LocalStore, child: Child) -> None:
    jshm.publish("X", np.zeros(3))
    private = jshm.attach("X", "c")
    private[0] = 1.0
    assert jshm.attach("X", "c")[0] == 0.0
    assert child.run("jshm.attach('X')[0]") == 0.0
    with pytest.raises(jshm.ReadOnlyError, match='mode="c"') as caught:
        jshm.attach("X", "r+")
    assert isinstance(caught.value, PermissionError)
    assert child.fails("jshm.attach('X', 'r+')").kinds[0] == "ReadOnlyError"
    with pytest.raises(jshm.InvalidModeError):
        jshm.attach("X", "w")  # type: ignore[call-overload]


# -- move and writable -----------------------------------------------------------------------------


def test_move_rebinds_every_variable(store: LocalStore, main: dict[str, Any]) -> None:
    main["X"] = main["also"] = np.arange(5.0)
    main["other"] = np.arange(5.0)
    jshm.publish("X", main["X"], move=True)
    assert main["X"] is main["also"]
    assert jshm.is_shared(main["X"])
    assert not main["X"].flags.writeable
    assert not jshm.is_shared(main["other"])
    assert np.array_equal(main["X"], np.arange(5.0))


def test_writable_implies_move(store: LocalStore, main: dict[str, Any], child: Child) -> None:
    main["X"] = np.zeros(5)
    info = jshm.publish("X", main["X"], writable=True)
    assert info.writable
    main["X"][0] = 4.0
    assert child.run("jshm.attach('X', 'r+')[0]") == 4.0
    # The next version, not writable, is sealed again.
    assert not jshm.publish("X", main["X"]).writable
    with pytest.raises(jshm.ReadOnlyError):
        jshm.attach("X", "r+")


def test_move_binds_the_published_version_even_if_a_newer_one_exists(
    store: LocalStore, main: dict[str, Any], monkeypatch: Any
) -> None:
    main["X"] = np.zeros(2)
    real = store.attach

    def attach(*args: Any, **kwargs: Any) -> Any:
        held = real(["X"])
        store.publish({"X": np.ones(2)})
        return held and real(*args, **kwargs)

    monkeypatch.setattr(store, "attach", attach)
    jshm.publish("X", main["X"], move=True)
    assert main["X"].sum() == 0.0


# -- wait ------------------------------------------------------------------------------------------


def test_attach_waits_for_another_process(
    store: LocalStore, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled: list[bool] = []
    poll = watching.Waiting.poll

    def watched(self: watching.Waiting) -> Any:
        found = poll(self)
        if not polled:
            child.send("jshm.publish('X', np.ones(3), keep=True)")
        polled.append(found is not None)
        return found

    monkeypatch.setattr(watching.Waiting, "poll", watched)
    assert jshm.attach("X", timeout=60).sum() == 3.0
    assert (polled[0], polled[-1]) == (False, True)
    child.receive()


def test_a_wait_times_out(store: LocalStore) -> None:
    began = time.monotonic()
    with pytest.raises(jshm.WaitTimeoutError, match=r"0\.1 s") as caught:
        jshm.attach("X", timeout=0.1)
    assert time.monotonic() - began >= 0.1
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, jshm.SegmentNotFoundError)
    jshm.publish("X", np.ones(1))
    assert jshm.attach("X", timeout=0) is not None


# -- owners ----------------------------------------------------------------------------------------


def test_the_name_of_another_owner_needs_replace_or_force(store: LocalStore, child: Child) -> None:
    jshm.publish("X", np.zeros(3))
    for code in ("jshm.publish('X', np.ones(3))", "jshm.release('X')"):
        error = child.fails(code)
        assert error.kinds[0] == "NotOwnerError"
        assert "PermissionError" in error.kinds
    assert np.load(store.location("X")).sum() == 0.0
    assert child.run("jshm.publish('X', np.ones(3), replace=True).version") == 2
    with pytest.raises(jshm.NotOwnerError, match=r"other\.py"):
        jshm.publish("X", np.zeros(3))
    assert jshm.attach("X").sum() == 3.0
    (released,) = jshm.release("X", force=True)
    assert released.name == "X"


def test_holders_keep_a_released_segment(store: LocalStore, child: Child) -> None:
    jshm.publish("X", np.full(1000, 3.0))
    child.run("X = jshm.attach('X')")
    path = store.location("X")
    (released,) = jshm.release("X")
    assert (released.freed, released.nbytes) == (0, 8000)
    assert released.held_by == ("other.py",)
    assert not os.path.exists(path)
    assert child.run("X.sum()") == 3000.0
    jshm.publish("X", np.zeros(1000))
    (released,) = jshm.release("X")
    assert (released.freed, released.held_by) == (8000, ())


# -- allocate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", ">i4", "M8[s]", [("a", "i4"), ("b", "U3")]])
@pytest.mark.parametrize("shape", [(), 3, (2, 3), (0,), [2, 2]])
def test_allocation_follows_numpy(store: LocalStore, shape: Any, dtype: Any, order: Any) -> None:
    for ours, numpys in ((jshm.empty, np.zeros), (jshm.zeros, np.zeros)):
        array, like = ours(shape, dtype, order), numpys(shape, dtype, order)
        assert (array.shape, array.dtype) == (like.shape, like.dtype)
        assert array.flags.c_contiguous == like.flags.c_contiguous
        assert array.tobytes() == like.tobytes()
        assert jshm.is_shared(array)
        assert array.flags.writeable


def test_full_and_empty_like_follow_numpy(store: LocalStore) -> None:
    full = jshm.full((2, 2), 7)
    assert full.dtype == np.full((2, 2), 7).dtype
    assert full.tolist() == [[7, 7], [7, 7]]
    assert jshm.full(2, 2.9, "i4").tolist() == [2, 2]
    assert jshm.full((2, 2), [1, 2]).tolist() == [[1, 2], [1, 2]]
    like = jshm.empty_like(np.asfortranarray(np.ones((3, 4), "f4")))
    assert (like.shape, like.dtype, like.flags.f_contiguous) == ((3, 4), np.dtype("f4"), True)
    assert jshm.empty_like(np.ones((3, 4))[:, ::2], "i1").strides == (2, 1)
    assert jshm.empty(()).shape == ()


def test_an_array_that_does_not_fit_is_refused_before_it_is_written(
    store: LocalStore, monkeypatch: Any
) -> None:
    jshm.publish("big", np.zeros(1000))
    with pytest.raises(jshm.NoSpaceError, match=r"needs .* PB.*largest not in use: big") as caught:
        jshm.empty((1 << 40, 1 << 20))
    assert isinstance(caught.value, MemoryError)
    assert len(segment_files(store)) == 1


def test_unpublished_memory_is_freed_with_its_last_view(store: LocalStore) -> None:
    X = jshm.empty(1000)
    view = X[5:]
    del X
    gc.collect()
    store.flush()
    assert len(segment_files(store)) == 1
    del view
    gc.collect()
    store.flush()
    assert len(segment_files(store)) == 0


# -- detach ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["name", "variable", "array"])
def test_detach_deletes_the_variables_and_unmaps(
    store: LocalStore, main: dict[str, Any], what: str
) -> None:
    jshm.publish("data/X", np.zeros(5))
    main["X"] = main["same"] = jshm.attach("data/X")
    main["unrelated"] = np.zeros(3)
    if what == "array":
        culprits = jshm.detach(main["X"])
    else:
        culprits = jshm.detach({"name": "data/X", "variable": "X"}[what])
    assert culprits == []
    assert "X" not in main
    assert "same" not in main
    assert "unrelated" in main
    assert not jshm.info("data/X").in_use
    with pytest.raises(jshm.SegmentNotFoundError, match="not mapped here"):
        jshm.detach("data/X")


def test_detach_names_the_references_that_keep_the_memory(
    store: LocalStore, main: dict[str, Any]
) -> None:
    jshm.publish("X", np.zeros(5))
    main["X"] = jshm.attach("X")
    main["half"] = main["X"][:2]  # a variable of the user
    main["models"] = {"a": [main["X"][1:]]}
    assert jshm.detach("X") == ["half", "models['a'][0]"]
    assert main["half"].sum() == 0.0
    assert jshm.info("X").in_use
    del main["half"], main["models"]
    gc.collect()
    store.flush()
    assert not jshm.info("X").in_use


def test_detach_of_a_private_array(store: LocalStore) -> None:
    with pytest.raises(jshm.SegmentNotFoundError, match="not in shared memory"):
        jshm.detach(np.zeros(3))


def test_copy_and_detach(store: LocalStore) -> None:
    jshm.publish("X", np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    X = jshm.attach("X")
    copy = jshm.copy_and_detach(X)
    assert not jshm.is_shared(copy)
    assert copy.flags.writeable
    assert copy.flags.f_contiguous
    assert np.array_equal(copy, X)
    private = np.zeros(3)
    handle = jshm.SharedNumpyArray.as_shared(X)
    everything = {"x": X, 1: {"part": X[:1], "text": "t"}, "own": private, "h": handle}
    done = jshm.copy_and_detach(everything)
    assert list(done) == list(everything)
    assert done["own"] is private
    assert done[1]["text"] == "t"
    for name in ("x", "h"):
        assert np.array_equal(done[name], X)
        assert not jshm.is_shared(done[name])
    assert np.array_equal(done[1]["part"], X[:1])
    with pytest.raises(jshm.DetachedError):
        _ = handle.array
    assert everything["x"] is X
    del X, everything
    gc.collect()
    store.flush()
    assert not jshm.info("X").in_use


# -- the rest --------------------------------------------------------------------------------------


def test_segments_lists_versions_and_their_holders(store: LocalStore, child: Child) -> None:
    jshm.publish("a", np.zeros((2, 3), "i2"), keep=True)
    child.run("jshm.publish('b', np.ones(3)); X = jshm.attach('a')")
    a, b = jshm.segments()
    assert (a.name, a.summary, a.nbytes, a.mine, a.keep, a.lifetime) == (
        "a", "int16 (2, 3)", 12, True, True, "kept",
    )  # fmt: skip
    assert [(h.label, h.mode, h.pid, h.here) for h in a.holders] == [
        ("other.py", "r", child.pid, False)
    ]
    assert (b.name, b.mine, b.publisher, b.in_use) == ("b", False, "other.py", False)
    child.kill()
    assert jshm.gc() >= 24  # its lifetime was that of its process
    (a,) = jshm.segments()
    assert not a.in_use


def test_check_finds_deleted_and_stray_files(store: LocalStore) -> None:
    jshm.publish("gone", np.zeros(3))
    jshm.publish("stays", np.zeros(3))
    os.unlink(store.location("gone"))
    stray = os.path.join(store.directory.segments, "0123456789abcdef.npy")
    with open(stray, "wb") as file:
        file.write(b"x")
    found = jshm.check()
    assert len(found) >= 2
    assert not any(problem.fixed for problem in found)
    assert os.path.exists(stray)
    assert all(problem.fixed for problem in jshm.check(fix=True))
    assert not os.path.exists(stray)
    assert jshm.check() == []
    assert store.names() == ["stays"]


def test_threads_publish_and_attach_at_the_same_time(store: LocalStore) -> None:
    failed: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for i in range(30):
                jshm.publish(f"t{n}", np.full(10, i))
                assert jshm.attach(f"t{n}")[0] == i
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [jshm.info(f"t{n}").version for n in range(4)] == [30] * 4


def test_publish_needs_a_value(store: LocalStore) -> None:
    with pytest.raises(TypeError, match="a name and a value"):
        jshm.publish("X")  # type: ignore[call-overload]
