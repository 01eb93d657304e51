"""Reducers for arrays and other objects of NumPy: buffers out-of-band, names that every NumPy knows.

NumPy's own protocol-5 reduction serves contiguous arrays of plain dtypes. It copies all others into
the pickle: strided ones, datetimes and other dtypes without the buffer protocol, masked arrays and
other subclasses. And it names functions that are private to one version: `numpy._core` of NumPy 2
is `numpy.core` in 1.26, and modules with an underscore may move with any release. So everything of
NumPy is reduced here.
"""

from __future__ import annotations

import pickle
import sys
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NoSpaceError
from ..segment import copying
from ..segment import file as segment_file
from ..segment.array_layout import order_of
from ..system.memory import available_memory
from ..text import size_text
from . import frozen, modules, static
from .writer import BUFFERS, Call, Scattered

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Collection

    from ..segment.array_layout import Order
    from .writer import Writer

Array = np.ndarray[Any, Any]
# Formats of one item that `memoryview.cast` knows.
_NATIVE = frozenset("bBhHiIlLqQnNfd?c")
# Smaller copies are made without checking the free memory.
_LARGE = 16 << 20
# Not `__getnewargs__`: no reducer of an array calls it.
_OVERRIDES = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_NUMPY_S_OWN = ("numpy._core.multiarray", "numpy.core.multiarray", "numpy.ma.core")


def reduce_array(pickler: Writer, array: Array) -> Any:
    """Reduce a plain array: by reference if it is in a segment, else with its bytes out-of-band."""
    if pickler.refers_to_any or (
        not array.flags.owndata and segment_file.find_mapping(array) is not None
    ):
        reference = pickler.refer(array)
        if reference is not None:
            return reference
    if pickler.proto < BUFFERS or array.dtype.hasobject:
        return _reduce_items(pickler, array)
    order = order_of(array)
    return frozen.array, (_bytes_of(pickler, array, order), array.dtype, array.shape, order)


def _reduce_items(pickler: Writer, array: Array) -> Any:
    """Reduce an array to the state that NumPy's own reducer gives, without its constructor."""
    if not array.flags.forc:
        _require_memory(pickler, array)
    if copying.mask_of(array.dtype) is not None and not array.dtype.hasobject:
        array = _cleared(array)
    read_only = not (array.flags.writeable or pickler.publishes)
    state = (array.__reduce__()[2], read_only)
    return frozen.empty_array, (np.ndarray, (0,), "b"), state, None, None, frozen.fill_array


def _require_memory(pickler: Writer, array: Array) -> None:
    """Raise NoSpaceError if there is no memory for a copy of an array; a view may be larger than its memory.

    Linux would grant the memory, and kill this process when the copy is written.
    """
    if array.nbytes < _LARGE:
        return
    # A pickle with the bytes in it is a second copy.
    needed = array.nbytes * (2 if pickler.in_band else 1)
    left = available_memory()
    if needed > left:
        shown = " (a view that repeats its items)" if 0 in array.strides else ""
        raise NoSpaceError(
            f"needs {size_text(needed)} for the bytes of an array of shape {array.shape}{shown}, "
            f"{size_text(left)} of memory available: pickle the array that it is a view of, or publish it"
        )


def _cleared(array: Array) -> Array:
    """Return a copy of an array with zeros between its fields, and the same read-only flag."""
    order = order_of(array)
    copy = np.ndarray(array.shape, array.dtype, copying.packed(array, order), order=order)
    copy.flags.writeable = array.flags.writeable
    return copy


class _Writable:
    """The bytes of an array, without its read-only flag.

    A pickle records that a buffer is read-only. But whether an attached array is writable depends on the
    mode of the attach.
    """

    def __init__(self, array: Array) -> None:
        self.array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {
            "version": 3, "shape": (array.nbytes,), "typestr": "|u1", "data": (address, False),
        }  # fmt: skip


def _bytes_of(pickler: Writer, array: Array, order: Order) -> PickleBuffer:
    """Return an array's bytes in this order, as an out-of-band buffer."""
    array = array.T if order == "F" else array
    data: Any = np.empty(0, np.uint8)
    data.flags.writeable = array.flags.writeable or pickler.publishes
    is_packed = array.flags.c_contiguous and copying.mask_of(array.dtype) is None
    if array.nbytes and is_packed:
        writable = array.flags.writeable or not pickler.publishes
        data = array.reshape(-1).view(np.uint8) if writable else np.asarray(_Writable(array))
    elif array.nbytes and not pickler.publishes:
        _require_memory(pickler, array)
        data = copying.packed(array, "C")
        data.flags.writeable = array.flags.writeable
    elif array.nbytes:
        data = data.view(Scattered)
        data.source = array
    return PickleBuffer(data)


def reduce_subclass(pickler: Writer, array: Array) -> Any:
    """Reduce an array of a subclass; with its own methods for that, if it has them."""
    kind = type(array)
    plain = np.ndarray.view(array, np.ndarray)  # a subclass may have its own `view`, and `dtype`
    if kind is np.memmap:  # an ndarray whose subclass only says where the bytes came from
        return frozen.last, (plain,)
    if pickler.proto < BUFFERS or plain.dtype.hasobject or not _is_plain(kind):
        if kind in pickler.dispatch_table:
            return NotImplemented
        if not plain.flags.forc:
            _require_memory(pickler, plain)
        return _renamed(array.__reduce_ex__(pickler.proto))
    return frozen.subclass_array, (kind, plain), _state(array), None, None, frozen.set_state


def _is_plain(kind: type[Array]) -> bool:
    """Return whether a subclass has no state but its bytes and its attributes."""
    base = np.ma.MaskedArray if issubclass(kind, np.ma.MaskedArray) else np.ndarray
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in _OVERRIDES)


def _state(array: Array) -> Any:
    """Return the attributes of an array: a dict, or a dict and the values of slots; else None."""
    known, slots = getattr(array, "__dict__", None), dict(static.slots(array))
    return (known, slots) if slots else known or None


def _renamed(reduced: Any) -> Any:
    """Replace functions in a reduction by NumPy that only some versions of NumPy have."""
    if (
        not isinstance(reduced, tuple)
        or getattr(reduced[0], "__module__", None) not in _NUMPY_S_OWN
    ):
        return reduced
    if reduced[0].__name__ == "_reconstruct":
        return frozen.empty_array, reduced[1], *reduced[2:]
    if reduced[0].__name__ == "_mareconstruct":
        return frozen.empty_masked_array, reduced[1], *reduced[2:]
    return reduced


def reduce_memoryview(pickler: Writer, view: memoryview) -> Any:
    """Reduce a memoryview: as one again, its bytes out-of-band."""
    if pickler.proto < BUFFERS:
        return NotImplemented
    if view.format in _NATIVE and view.c_contiguous and view.nbytes:
        return frozen.memory_view, (PickleBuffer(view), view.format, view.shape)
    # NumPy handles all other formats and strides.
    return frozen.memory_view_of_array, (np.asarray(view), view.readonly)


# -- names of NumPy --------------------------------------------------------------------------------


# Public modules of NumPy 1.26 and 2, which re-export what private ones define; the first match counts.
_PUBLIC = (
    "numpy.exceptions", "numpy", "numpy.ma", "numpy.random", "numpy.linalg", "numpy.fft",
    "numpy.polynomial", "numpy.dtypes", "numpy.testing",
)  # fmt: skip
# Index of the flags in the state of a dtype.
_FLAGS = 7
# Objects that exist once.
_ONCE = ("s_", "index_exp", "mgrid", "ogrid", "r_", "c_")


def reduce_named(pickler: Writer, module: str, obj: Any) -> Any:
    """Reduce a class or a function to its name; one of NumPy, to a name that all versions have."""
    top = module.partition(".")[0]
    if top == "jshm":
        return _reduce_own(obj)
    place = _place(module, obj) if top == "numpy" else None
    pickler.needs.add(module if place is None else place[0])
    return NotImplemented if place is None else (frozen.named, place)


def _reduce_own(obj: Any) -> Any:
    """Reduce a function or a class of jshm to its public name, because modules may move."""
    public = sys.modules["jshm"]
    name = obj.__name__
    is_public = name in public.__all__ and getattr(public, name) is obj
    return (frozen.named, ("jshm", name)) if is_public else NotImplemented


def _place(module: str, obj: Any) -> tuple[str, str] | None:
    """Return the public module and path of an object of NumPy; None if its own are public."""
    if obj is np.bool_:  # in 2 it calls itself `bool`, a name that 1.26 does not have
        return "numpy", "bool_"
    path = getattr(obj, "__qualname__", obj.__name__)
    for public in _PUBLIC:
        if public in sys.modules and modules.lookup(sys.modules[public], path) is obj:
            return None if public == module else (public, path)
    # In 1.26 `numpy.rec` and `numpy.char` are attributes and not modules.
    # `numpy.strings` exists only in 2; `numpy.char` has the same functions in both.
    for within in ("char", module.partition(".")[2]):
        found = f"{within}.{path}"
        if "._" not in f".{found}" and modules.lookup(np, found) is obj:
            return "numpy", found
    return None


def submodule(module: types.ModuleType) -> Call | types.ModuleType:
    """Return what to write for a module that a function may need; the reader may lack one within NumPy.

    cloudpickle takes any module whose name occurs in the function: of `np.linalg.norm`, in NumPy 1.26, also
    `numpy.linalg.linalg`, which 2 does not have.
    """
    name = module.__name__
    return Call(frozen.if_there, name) if name.startswith("numpy.") else module


def version(needs: Collection[str]) -> dict[str, str]:
    """Return NumPy's version if a pickle names anything below `numpy`, which other versions may lack."""
    return {"numpy": np.__version__} if any(n.startswith("numpy.") for n in needs) else {}


# -- scalars, dtypes, generators -------------------------------------------------------------------


def _reduce_ufunc(pickler: Writer, ufunc: np.ufunc) -> Any:
    # A ufunc does not know its module; `pickle` searches for it, and so does this.
    name = ufunc.__name__
    if vars(np).get(name) is ufunc:
        return frozen.named, ("numpy", name)
    return reduce_named(pickler, pickle.whichmodule(ufunc, name), ufunc)  # type: ignore[attr-defined]


def _reduce_scalar(_: Writer, scalar: np.generic) -> Any:
    if isinstance(scalar, (str, bytes)):
        return type(scalar), (scalar[:],)
    array = np.asarray(scalar)
    if array.dtype.hasobject:
        return frozen.item, (array,)
    return frozen.scalar, (array.dtype, copying.packed(array, "C").tobytes())


def _reduce_info(_: Writer, info: Any) -> Any:
    return type(info), (np.dtype(info.dtype),)


def reduce_other(pickler: Writer, obj: Any) -> Any:
    """Reduce an instance of any other class of NumPy's."""
    kind = type(obj)
    if kind is type(np.sum):  # which NumPy lets other libraries take over
        return reduce_named(pickler, obj.__module__, obj)
    if issubclass(kind, np.dtype) and obj.isalignedstruct:
        return _reduce_aligned(obj)
    for name in _ONCE:
        if obj is vars(np)[name]:
            return frozen.named, ("numpy", name)
    if kind is getattr(getattr(np, "dtypes", None), "StringDType", None):
        return frozen.string_dtype, (
            obj.coerce,
            *([obj.na_object] if hasattr(obj, "na_object") else []),
        )
    random = sys.modules.get("numpy.random")
    if random is None or vars(random).get(kind.__name__) is not kind:
        return NotImplemented
    pickler.needs.add("numpy.random")
    if kind is random.Generator:
        return frozen.generator, (obj.bit_generator,)
    if kind is random.RandomState:
        return frozen.random_state, (obj._bit_generator, obj.get_state(legacy=False))
    if kind is random.SeedSequence:
        return frozen.seed_sequence, (obj.state,)
    if issubclass(kind, random.BitGenerator):
        seed = getattr(obj, "seed_seq", None)
        return frozen.bit_generator, (kind.__name__, seed, obj.state)
    return NotImplemented


def _reduce_aligned(dtype: np.dtype[Any]) -> Any:
    """Reduce an aligned structure as NumPy does, with flags that 1.26 and 2 both read.

    They are one byte, signed in 1.26 and unsigned in 2; the flag for alignment is its first bit.
    """
    reduced: Any = dtype.__reduce__()
    _, arguments, state = reduced
    *before, flags = state[: _FLAGS + 1]
    return frozen.aligned_dtype, (arguments, (*before, flags % 256, *state[_FLAGS + 1 :]))


REDUCERS: dict[type, Callable[[Writer, Any], Any]] = {
    **dict.fromkeys([*set(np.sctypeDict.values()), np.record], _reduce_scalar),
    np.ufunc: _reduce_ufunc,
    np.finfo: _reduce_info,
    np.iinfo: _reduce_info,
}
