from __future__ import annotations

import gc
import inspect
import multiprocessing
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm import SharedNumpyArray
from jshm.errors import DetachedError, NotShareableError, SegmentNotFoundError

from ...support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jshm.store.local.store import LocalStore

SPECS: list[tuple[Any, Any, Any]] = [
    ((), "f8", "C"), ((0, 3), "i2", "C"), (7, "?", "C"), ((3, 4, 5), "c16", "F"), ((64, 64), "f4", "C"),
    ((2, 3), [("a", "i1"), ("b", "f8")], "F"), ((5,), "M8[ns]", "C"), ((np.int64(3), 2), "S7", "C"),
]  # fmt: skip


def the_file(store: LocalStore) -> str:
    """Return the path of the only segment."""
    (name,) = os.listdir(store.directory.segments)
    return os.path.join(store.directory.segments, name)


# -- make ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "dtype", "order"), SPECS, ids=str)
def test_create_new(store: LocalStore, shape: Any, dtype: Any, order: Any) -> None:
    handle = SharedNumpyArray.create_new(shape, dtype, order)
    like = np.zeros(shape, dtype, order)
    array = handle.array
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (handle.shape, handle.dtype) == (like.shape, like.dtype)
    assert array.strides == handle.strides
    assert array.strides == like.strides or not like.size
    assert (handle.mode, handle.nbytes, handle.order) == ("r+", like.nbytes, order)
    assert array.flags.writeable
    assert array.tobytes() == like.tobytes()
    assert handle.name is handle.version is None
    # The file has the predicted size, every byte is allocated, and it is a valid .npy.
    size = SharedNumpyArray.needed_mem_size(shape, dtype, order)
    status = os.stat(the_file(store))
    assert status.st_size == size
    assert status.st_blocks * 512 >= size
    if array.size:
        array.reshape(-1, order="A").view(np.uint8)[-1] = 1
    assert np.load(the_file(store)).tobytes() == array.tobytes()


@pytest.mark.parametrize("how", ["C", "F", "strided", "negative", "0-d"])
def test_create_copy(store: LocalStore, how: str) -> None:
    source = np.arange(24.0).reshape(4, 6)
    source = {
        "C": source, "F": source.T, "strided": source[:, ::2], "negative": source[::-1],
        "0-d": source[1, 2, ...],
    }[how]  # fmt: skip
    handle = SharedNumpyArray.create_copy(source)
    assert np.array_equal(handle.array, source)
    assert not np.shares_memory(handle.array, source)
    assert handle.order == ("F" if how == "F" else "C")
    handle.array[...] = -1.0
    assert (np.load(the_file(store)) == -1.0).all()
    assert source.max() > 0
    assert os.stat(the_file(store)).st_size <= SharedNumpyArray.needed_mem_size(
        source.shape, source.dtype
    )


@pytest.mark.parametrize("shape", [(2.5,), (2, -1), -3, "3", None, (2, "a")])
def test_shapes_are_integers(store: LocalStore, shape: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        SharedNumpyArray.create_new(shape)
    assert os.listdir(store.directory.segments) == []


# -- as_shared -------------------------------------------------------------------------------------

VIEWS: list[Any] = [np.s_[:], np.s_[1:3], np.s_[::-1], np.s_[:, ::-2], np.s_[0:0], np.s_[2, 3, ...]]


@pytest.mark.parametrize("mode", ["allocated", "r", "r+", "c"])
@pytest.mark.parametrize("index", VIEWS, ids=str)
def test_as_shared_recognises_a_view_without_a_copy(
    store: LocalStore, mode: Any, index: Any
) -> None:
    if mode == "allocated":
        whole = jshm.zeros((4, 6))
    else:
        jshm.publish("X", np.arange(24.0).reshape(4, 6), writable=mode == "r+")
        whole = jshm.attach("X", mode)
    view = whole[index]
    handle = SharedNumpyArray.as_shared(view)
    assert handle.array is view
    assert handle.strides == view.strides
    assert len(os.listdir(store.directory.segments)) == 1
    assert handle.name == (None if mode == "allocated" else "X")
    again = pickle.loads(pickle.dumps(handle))
    assert np.array_equal(again.array, view)
    assert (again.shape, again.strides) == (view.shape, view.strides)


def test_as_shared_copies_a_private_array(store: LocalStore) -> None:
    private = np.arange(5.0)
    handle = SharedNumpyArray.as_shared(private)
    assert jshm.is_shared(handle.array)
    assert not jshm.is_shared(private)
    assert np.array_equal(handle.array, private)


def test_a_privately_changed_array_is_copied_and_not_pickled_by_reference(
    store: LocalStore,
) -> None:
    jshm.publish("X", np.zeros(5))
    array = jshm.attach("X", "c")
    before = SharedNumpyArray.as_shared(array)
    assert before.array is array
    array[0] = 1.0
    with pytest.raises(NotShareableError, match="as_shared"):
        pickle.dumps(before)
    handle = SharedNumpyArray.as_shared(array)
    assert handle.array is not array
    assert pickle.loads(pickle.dumps(handle)).array[0] == 1.0
    assert np.load(store.location("X"))[0] == 0.0


@pytest.mark.parametrize(
    "make",
    [lambda X: np.ma.MaskedArray(X, X > 1), lambda X: X.view(np.recarray),
     lambda X: X.view(np.matrix), lambda X: X.tolist(), lambda X: None, lambda X: X[0, 0]],
    ids=range(6),
)  # fmt: skip
def test_arrays_that_would_not_come_back_exactly_are_refused(store: LocalStore, make: Any) -> None:
    with pytest.raises(NotShareableError):
        SharedNumpyArray.as_shared(make(jshm.zeros((2, 2))))


# -- as an array -----------------------------------------------------------------------------------


def test_numpy_functions_take_a_handle_as_its_array(store: LocalStore) -> None:
    values = np.arange(6.0).reshape(2, 3)
    handle = SharedNumpyArray.create_copy(values)
    array = handle.array
    assert np.asarray(handle) is array
    assert np.asanyarray(handle) is array
    assert np.asarray(handle, dtype="f8") is array
    for copy in (np.array(handle), np.asarray(handle, "f4"), handle.__array__(copy=True)):
        assert not np.shares_memory(copy, array)
        assert copy.tolist() == values.tolist()
    with pytest.raises(ValueError, match="without a copy"):
        handle.__array__(np.dtype("f4"), copy=False)
    assert (np.sum(handle), np.mean(handle), np.max(handle)) == (15, 2.5, 5)
    assert np.sum(handle, axis=0).tolist() == [3, 5, 7]
    assert np.add.reduce(handle).tolist() == [3, 5, 7]
    assert np.concatenate([handle, values]).shape == (4, 3)
    assert np.reshape(handle, 6).tolist() == list(range(6))
    assert (handle.ndim, handle.size, handle.nbytes, len(handle)) == (2, 6, 48, 2)
    assert "float64 (2, 3)" in repr(handle)


def test_a_handle_is_indexed_and_iterated_as_its_array(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_copy(np.arange(6.0).reshape(2, 3))
    assert handle[1, 2] == 5
    assert type(handle[1, 2]) is np.float64
    assert np.shares_memory(handle[1:], handle.array)
    assert handle[handle > 3].tolist() == [4, 5]
    assert [row.tolist() for row in handle] == [[0, 1, 2], [3, 4, 5]]
    assert 5 in handle
    assert 6 not in handle
    handle[0] = handle[1]
    handle[1, 0] = 9
    assert handle.array.tolist() == [[3, 4, 5], [9, 4, 5]]
    numbers = SharedNumpyArray.create_copy(np.array([2, 0]))
    assert np.arange(5)[numbers].tolist() == [2, 0]
    assert np.arange(5.0)[np.asarray(numbers)].tolist() == [2, 0]
    one = SharedNumpyArray.create_copy(np.array(3))
    assert (float(one), int(one), complex(one), bool(one), "abcd"[one]) == (3, 3, 3, True, "d")
    with pytest.raises(TypeError, match="unsized"):
        len(one)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(handle)


def test_a_handle_has_the_operators_of_its_array(store: LocalStore) -> None:
    values = np.arange(3.0)
    handle = SharedNumpyArray.create_copy(values)
    for found, wanted in (
        (handle + 1, values + 1),
        (1 - handle, 1 - values),
        (values * handle, values * values),
        (handle @ handle, values @ values),
        (-handle, -values),
        (handle == values, [True] * 3),
        (values == handle, [True] * 3),
        (handle != 1, [True, False, True]),
        (handle >= values, [True] * 3),
        (np.sqrt(handle), np.sqrt(values)),
        (np.add(handle, handle, out=np.zeros(3)), values * 2),
    ):
        assert not isinstance(found, SharedNumpyArray)
        assert np.array_equal(found, wanted)
    same = handle
    handle += 1
    assert handle is same
    assert np.multiply(values, 2, out=handle) is handle
    assert handle.array.tolist() == [0, 2, 4]
    records = SharedNumpyArray.create_copy(np.array([(1, 2.0)], "i4,f8"))
    assert (records == records.array).tolist() == [True]
    with pytest.raises(TypeError, match="unhashable"):
        hash(handle)


def test_assigning_to_a_read_only_handle_is_an_error(store: LocalStore) -> None:
    jshm.publish("X", np.zeros(3))
    jshm.publish("Y", np.zeros(3), writable=True)
    for mode in ("c", "r+"):
        handle = SharedNumpyArray.as_shared(jshm.attach("Y", mode))  # type: ignore[call-overload]
        handle[0] = 5
        assert handle[0] == 5
    handle = SharedNumpyArray.as_shared(jshm.attach("X"))
    for error in (jshm.ReadOnlyError, ValueError):
        with pytest.raises(error, match=r"read-only \(mode 'r'.*'c'"):
            handle[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        handle += 1
    assert handle.array.tolist() == [0, 0, 0]


def test_a_detached_handle_refuses_everything(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_new(3)
    handle.detach()
    uses: list[Callable[[], object]] = [
        lambda: np.asarray(handle), lambda: np.sum(handle), lambda: handle[0], lambda: len(handle),
        lambda: list(handle), lambda: handle == 1, lambda: handle != 1, lambda: handle + 1,
        lambda: 1 + handle, lambda: 0 in handle, lambda: float(handle), lambda: bool(handle),
        lambda: handle.__setitem__(0, 1), lambda: np.zeros(3) + handle, lambda: handle.size,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(DetachedError):
            use()
    assert repr(handle) == "<SharedNumpyArray float64 (3,), detached>"


# -- let go ----------------------------------------------------------------------------------------


def test_detach(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_new(5)
    path = the_file(store)
    assert handle.is_in_use()
    view = handle.array[1:]
    handle.detach()
    handle.detach()
    assert handle.is_in_use()  # the view keeps it
    assert os.path.exists(path)
    for use in (lambda: handle.array, lambda: handle.nbytes, lambda: pickle.dumps(handle)):
        with pytest.raises(DetachedError):
            use()
    assert "detached" in repr(handle)
    assert handle.shape == (5,)
    view[0] = 1.0
    del view
    gc.collect()
    assert not handle.is_in_use()
    store.flush()
    assert not os.path.exists(path)  # it had no name: no process can attach it


def test_published_memory_outlives_its_handle(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_new(5)
    handle.array[:] = 7.0
    jshm.publish("X", handle.array)
    assert (handle.name, handle.version) == ("X", 1)
    assert "X v1" in repr(handle)
    handle.detach()
    gc.collect()
    assert not handle.is_in_use()
    assert (np.load(store.location("X")) == 7.0).all()


def test_release(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_new(5)
    jshm.publish("X", handle.array)
    jshm.publish("Y", handle.array)
    kept = jshm.attach("X")
    path = store.location("X")
    assert path == store.location("Y")
    handle.release()
    assert store.names() == []
    assert not os.path.exists(path)
    assert kept.sum() == 0.0  # a live view is never unmapped
    with pytest.raises(DetachedError):
        handle.array.sum()


def test_the_name_of_another_owner_is_not_released(store: LocalStore, tmp_path: Path) -> None:
    with Child(tmp_path, "other.py") as child:
        child.run("import jshm, numpy as np; jshm.publish('X', np.ones(3), keep=True)")
    handle = SharedNumpyArray.as_shared(jshm.attach("X"))
    with pytest.raises(jshm.NotOwnerError, match=r"other\.py"):
        handle.release()
    assert handle.array.sum() == 3.0
    handle.release(force=True)
    assert store.names() == []


def test_in_use_counts_all_processes(store: LocalStore, tmp_path: Path) -> None:
    handle = SharedNumpyArray.create_new(5)
    jshm.publish("X", handle.array)
    handle.detach()
    gc.collect()
    with Child(tmp_path) as child:
        assert not handle.is_in_use()
        child.run("import jshm; X = jshm.attach('X')")
        assert handle.is_in_use()
        child.kill()
        assert not handle.is_in_use()


# -- pickled ---------------------------------------------------------------------------------------


def test_a_pickled_handle_is_small_and_keeps_nothing(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_new((1000, 1000))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert len(pickle.dumps(handle, protocol)) < 700
    text = pickle.dumps(handle)
    assert len(text) < 500
    handle.release()
    gc.collect()
    store.flush()
    with pytest.raises(SegmentNotFoundError, match="gone"):
        pickle.loads(text)


def test_another_process_sees_the_same_pages(store: LocalStore, tmp_path: Path) -> None:
    handle = SharedNumpyArray.create_new((100, 100), "i8")
    view = SharedNumpyArray.as_shared(handle.array[::-2, 1:])
    with Child(tmp_path) as child:
        child.run(f"import pickle; h = pickle.loads({pickle.dumps(view)!r})")
        view.array[3, 4] = 42
        assert child.run("int(h.array[3, 4])") == 42
        child.run("h.array[5, 6] = 43")
        assert view.array[5, 6] == 43
        assert child.run("h.strides == (-1600, 8) and h.mode == 'r+'")
        # The memory lives while any process holds it, also after its creator has ended.
        view.detach()
        handle.release()
        gc.collect()
        assert child.run("int(h.array[3, 4])") == 42
        assert child.run("h.is_in_use()")


def test_a_handle_sealed_after_it_was_pickled_is_read_only(
    store: LocalStore, tmp_path: Path
) -> None:
    handle = SharedNumpyArray.create_new(5)
    text = pickle.dumps(handle)
    jshm.publish("X", handle.array)
    for pickled in (text, pickle.dumps(handle)):
        with Child(tmp_path) as child:
            child.run(f"import pickle; h = pickle.loads({pickled!r})")
            assert child.run("(h.mode, h.array.flags.writeable)") == ["r", False]
            error = child.fails("h.array[0] = 1")
            assert "ValueError" in error.kinds


def test_loading_a_handle_in_another_store_is_an_error(store: LocalStore, tmp_path: Path) -> None:
    text = pickle.dumps(SharedNumpyArray.create_new(5))
    with Child(tmp_path, env={"JSHM_DIR": str(tmp_path / "elsewhere")}) as child:
        error = child.fails(f"import pickle; pickle.loads({text!r})")
    assert error.kinds[0] == "SegmentNotFoundError"
    assert "JSHM_DIR" in error.message


def double(handle: SharedNumpyArray) -> SharedNumpyArray:
    handle.array[...] *= 2
    return handle


def test_multiprocessing_passes_handles(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_copy(np.arange(10.0))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        back = pool.apply(double, (handle,))
        pool.close()
        pool.join()
    assert np.array_equal(handle.array, np.arange(10.0) * 2)
    assert np.shares_memory(back.array, handle.array)


def test_a_mangled_reference_is_an_error(store: LocalStore) -> None:
    handle = SharedNumpyArray.create_new(5)
    load, arguments = handle.__reduce__()
    known = inspect.signature(load).bind(*arguments).arguments
    for change in ({"segment": "0" * 16}, {"segment": "../../etc/passwd"}, {"mode": "w"},
                   {"offset": 10**6}, {"shape": (50,)}):  # fmt: skip
        with pytest.raises(jshm.JshmError):
            load(**{**known, **change})
