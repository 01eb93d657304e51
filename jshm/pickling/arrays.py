"""Arrays and other buffers: out-of-band wherever their bytes can be written as they are.

NumPy's own protocol-5 reduction serves contiguous arrays of plain dtypes. It copies all others into
the pickle: strided ones, datetimes and other dtypes that have no buffer protocol, masked arrays and
other subclasses. And what it writes names functions that are private to one NumPy. So all arrays are
reduced here.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NoSpaceError
from ..segment import copying
from ..segment import file as segment
from ..segment.array_layout import order_of
from ..system.memory import available_memory
from ..text import size_text

if TYPE_CHECKING:
    from ..segment.array_layout import Order
    from .writer import Writer

Array = np.ndarray[Any, Any]

# Formats of one item that `memoryview.cast` knows.
_NATIVE = frozenset("bBhHiIlLqQnNfd?c")
# Smaller copies are made without a look at what memory is left.
_LARGE = 16 << 20
_BUFFERS = 5
"""The first protocol that knows out-of-band buffers."""
# `__getnewargs__` is none of them: no reducer of an array asks for it.
_OVERRIDES = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_NUMPY_S_OWN = ("numpy._core.multiarray", "numpy.core.multiarray", "numpy.ma.core")


def reduce_array(pickler: Writer, array: Array) -> Any:
    """Reduce a plain array: by reference if it is in a segment, else with its bytes out-of-band."""
    if pickler.refers_to_any or (
        not array.flags.owndata and segment.find_mapping(array) is not None
    ):
        reference = pickler.refer(array)
        if reference is not None:
            return reference
    if pickler.proto < _BUFFERS or array.dtype.hasobject:
        return _reduce_items(pickler, array)
    order = order_of(array)
    return _load, (_bytes_of(pickler, array, order), array.dtype, array.shape, order)


def _reduce_items(pickler: Writer, array: Array) -> Any:
    """Reduce an array to what NumPy's own reducer says of it, without its constructor."""
    if not array.flags.forc:
        _require_memory(pickler, array)
    if copying.mask_of(array.dtype) is not None and not array.dtype.hasobject:
        array = _cleared(array)
    frozen = not (array.flags.writeable or pickler.publishes)
    state = (array.__reduce__()[2], frozen)
    return _load_empty, (np.ndarray, (0,), "b"), state, None, None, _fill


def _require_memory(pickler: Writer, array: Array) -> None:
    """Raise NoSpaceError if there is no memory for a copy of an array, which a view may be far larger than.

    Linux would grant it, and kill this process when the copy is written.
    """
    if array.nbytes < _LARGE:
        return
    # In the pickle itself it is there once more.
    needed = array.nbytes * (2 if pickler.in_band else 1)
    left = available_memory()
    if needed > left:
        shown = " (a view that repeats its items)" if 0 in array.strides else ""
        raise NoSpaceError(
            f"needs {size_text(needed)} for the bytes of an array of shape {array.shape}{shown}, "
            f"{size_text(left)} of memory available: pickle what it is made of instead, or publish it"
        )


def _cleared(array: Array) -> Array:
    """Return a copy of an array with zeros between its fields, and of the same flag."""
    order = order_of(array)
    copy = np.ndarray(array.shape, array.dtype, copying.packed(array, order), order=order)
    copy.flags.writeable = array.flags.writeable
    return copy


def _fill(array: Array, state: tuple[Any, bool]) -> None:
    """Fill an array, which its own items may refer to."""
    items, frozen = state
    array.__setstate__(items)
    if frozen:
        array.flags.writeable = False


class _Writable:
    """The bytes of an array, without its read-only flag.

    A pickle says of a read-only buffer that it is one. But whether an array can be written where it
    is attached is a matter of the mode there.
    """

    def __init__(self, array: Array) -> None:
        self.array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {
            "version": 3, "shape": (array.nbytes,), "typestr": "|u1", "data": (address, False),
        }  # fmt: skip


class _Scattered(np.ndarray[Any, Any]):
    """An empty buffer that stands for those of an array which does not lie in memory as it is written.

    A pickler takes nothing but a `PickleBuffer` out-of-band, and a copy of it all would take memory.
    """

    source: Array


def bytes_of(buffer: PickleBuffer) -> memoryview | Array:
    """Return the memory of a buffer; or an array, to be written in C order, that it stands for."""
    memory = buffer.raw()
    return memory.obj.source if isinstance(memory.obj, _Scattered) else memory


def _bytes_of(pickler: Writer, array: Array, order: Order) -> PickleBuffer:
    """Return an array's bytes in this order, as an out-of-band buffer."""
    array = array.T if order == "F" else array
    data: Any = np.empty(0, np.uint8)
    data.flags.writeable = array.flags.writeable or pickler.publishes
    lies_so = array.flags.c_contiguous and copying.mask_of(array.dtype) is None
    if array.nbytes and lies_so:
        writable = array.flags.writeable or not pickler.publishes
        data = array.reshape(-1).view(np.uint8) if writable else np.asarray(_Writable(array))
    elif array.nbytes and not pickler.publishes:
        _require_memory(pickler, array)
        data = copying.packed(array, "C")
        data.flags.writeable = array.flags.writeable
    elif array.nbytes:
        data = data.view(_Scattered)
        data.source = array
    return PickleBuffer(data)


def _load(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> Array:
    memory = memoryview(buffer)
    if not memory.nbytes:
        empty: Array = np.ndarray(shape, dtype, order=order)
        empty.flags.writeable = not memory.readonly
        return empty
    # Over an array of the buffer: of the buffer itself NumPy would take the memory behind it for the
    # base, which may be writable.
    return np.ndarray(shape, dtype, np.frombuffer(buffer, np.uint8), 0, None, order)


def reduce_subclass(pickler: Writer, array: Array) -> Any:
    """Reduce an array of a subclass; one that has its own ways, in these."""
    kind = type(array)
    plain = np.ndarray.view(array, np.ndarray)  # a subclass may have its own `view`, and `dtype`
    if kind is np.memmap:  # an ndarray whose subclass only says where the bytes came from
        return _load_plain, (plain,)
    if pickler.proto < _BUFFERS or plain.dtype.hasobject or not _is_plain(kind):
        if kind in pickler.dispatch_table:
            return NotImplemented
        if not plain.flags.forc:
            _require_memory(pickler, plain)
        return _renamed(array.__reduce_ex__(pickler.proto))
    return _load_subclass, (kind, plain), _state(array), None, None, _update


def _is_plain(kind: type[Array]) -> bool:
    """Tell whether a subclass is the bytes and attributes that anybody sees, and no more."""
    base = np.ma.MaskedArray if issubclass(kind, np.ma.MaskedArray) else np.ndarray
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in _OVERRIDES)


def _state(array: Array) -> Any:
    """Return the attributes of an array: a dict, or a dict and what is in slots; None if there are none."""
    slots = [
        name
        for kind in type(array).__mro__
        for name in _names(vars(kind).get("__slots__", ()))
        if name not in ("__dict__", "__weakref__")
    ]
    known = getattr(array, "__dict__", None)
    there = {name: getattr(array, name) for name in slots if hasattr(array, name)}
    return (known, there) if there else known or None


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _renamed(reduced: Any) -> Any:
    """Let what a reducer of NumPy's says name no function that only some versions of NumPy have."""
    if (
        not isinstance(reduced, tuple)
        or getattr(reduced[0], "__module__", None) not in _NUMPY_S_OWN
    ):
        return reduced
    if reduced[0].__name__ == "_reconstruct":
        return _load_empty, reduced[1], *reduced[2:]
    if reduced[0].__name__ == "_mareconstruct":
        return _load_empty_masked, reduced[1], *reduced[2:]
    return reduced


def _load_empty(kind: type[Array], shape: tuple[int, ...], dtype: Any) -> Array:
    return np.ndarray.__new__(kind, shape, dtype)


def _load_empty_masked(
    kind: type[Array], base: type[Array], shape: tuple[int, ...], dtype: Any
) -> Array:
    mask = np.ndarray.__new__(np.ndarray, shape, np.ma.make_mask_descr(np.dtype(dtype)))
    made: Any = kind
    return made.__new__(kind, np.ndarray.__new__(base, shape, dtype), mask=mask, dtype=dtype)  # type: ignore[no-any-return]


def _load_plain(array: Array) -> Array:
    return array


def _load_subclass(kind: type[Array], array: Array) -> Array:
    return array.view(kind)


def _update(array: Array, state: dict[str, Any] | tuple[dict[str, Any] | None, Any]) -> None:
    known, slots = state if isinstance(state, tuple) else (state, {})
    if known:
        array.__dict__.update(known)
    for name, value in slots.items():
        setattr(array, name, value)


def reduce_memoryview(pickler: Writer, view: memoryview) -> Any:
    """Reduce a memoryview: as one again, its bytes out-of-band."""
    if pickler.proto < _BUFFERS:
        return NotImplemented
    if view.format in _NATIVE and view.c_contiguous and view.nbytes:
        return _load_memoryview, (PickleBuffer(view), view.format, view.shape)
    # NumPy knows all other formats, and where a view's items are.
    return _load_memoryview_of, (np.asarray(view), view.readonly)


def _load_memoryview(buffer: Any, form: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer).cast("B")
    if form == "B" and len(shape) == 1:
        return view
    return view.cast(form, shape)  # type: ignore[call-overload, no-any-return, unused-ignore]


def _load_memoryview_of(array: Any, readonly: bool) -> memoryview:
    view = memoryview(array)
    return view.toreadonly() if readonly else view
