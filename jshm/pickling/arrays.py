"""Arrays and other buffers: out-of-band wherever their bytes can be written as they are.

NumPy's own protocol-5 reduction serves contiguous arrays of plain dtypes. It copies all others into
the pickle: strided ones, datetimes and other dtypes that have no buffer protocol, masked arrays and
other subclasses. These are reduced here.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import looking, segment

if TYPE_CHECKING:
    from .writer import Writer

Array = np.ndarray[Any, Any]

# Their buffers have a format that `memoryview` knows, so NumPy reduces them out-of-band itself.
_EXPORTED = frozenset("biufc")
# Formats of one item that `memoryview.cast` knows.
_NATIVE = frozenset("bBhHiIlLqQnNfd?c")
_BUFFERS = 5
"""The first protocol that knows out-of-band buffers."""
_OVERRIDES = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__")


def reduce_array(pickler: Writer, array: Array) -> Any:
    """Reduce a plain array: by reference if it is in a segment, else with its bytes out-of-band."""
    if not array.flags.owndata and segment.find(array) is not None:
        reference = pickler.refer(array)
        if reference is not None:
            return reference
    dtype = array.dtype
    if pickler.proto < _BUFFERS or dtype.hasobject:
        return NotImplemented
    flags = array.flags
    if flags.forc and flags.writeable and dtype.kind in _EXPORTED and dtype.isbuiltin == 1:
        return NotImplemented
    return _load, _bytes_of(array)


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


def _bytes_of(array: Array) -> tuple[Any, ...]:
    """Return an array's bytes as an out-of-band buffer, dtype, shape and order."""
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    contiguous = array if array.flags.forc else np.ascontiguousarray(array)
    data: Any = np.asarray(_Writable(contiguous)) if array.nbytes else np.empty(0, np.uint8)
    return PickleBuffer(data), array.dtype, array.shape, "F" if fortran else "C"


def _load(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> Array:
    if not memoryview(buffer).nbytes:
        return np.ndarray(shape, dtype, order=order)
    # Over an array of the buffer: of the buffer itself NumPy would take the memory behind it for the
    # base, which may be writable.
    return np.ndarray(shape, dtype, np.frombuffer(buffer, np.uint8), order=order)


def reduce_subclass(pickler: Writer, array: Array) -> Any:
    """Reduce an array of a subclass, unless the subclass has its own ways."""
    kind = type(array)
    plain = np.ndarray.view(array, np.ndarray)  # a subclass may have its own `view`, and `dtype`
    if kind is np.memmap:  # an ndarray whose subclass only says where the bytes came from
        return _load_plain, (plain,)
    if pickler.proto < _BUFFERS or plain.dtype.hasobject or not _is_plain(kind):
        return NotImplemented
    state = looking.attributes(array)
    return _load_subclass, (kind, plain), state or None, None, None, _update


def _is_plain(kind: type[Array]) -> bool:
    """Tell whether a subclass is the bytes and attributes that anybody sees, and no more."""
    base = np.ma.MaskedArray if issubclass(kind, np.ma.MaskedArray) else np.ndarray
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in _OVERRIDES)


def _load_plain(array: Array) -> Array:
    return array


def _load_subclass(kind: type[Array], array: Array) -> Array:
    return array.view(kind)


def _update(array: Array, state: dict[str, Any]) -> None:
    array.__dict__.update(state)


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
