"""Reducers for Arrow, torch and pandas: slices without the rest of their memory, tables without copies.

An Arrow array is pickled with whole buffers, and a tensor with its whole storage, however little of
it they show. Here only that part is pickled.

pandas copies a block of columns before it writes into it if another block refers to the same memory
(copy-on-write: always since pandas 3, in pandas 2 with ``pd.options.mode.copy_on_write``). A block
over shared memory is the only one that pandas knows of, so pandas would write into it, and fail. So
the reader adds a second reference.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from . import frozen, static

if TYPE_CHECKING:
    from collections.abc import Callable

    from .writer import Writer

# Less waste than this many bytes, or than a quarter of the data shown, is not worth a copy.
_LITTLE, _PART = 1 << 10, 4


def _drags(whole: int, own: int) -> bool:
    return whole - own > max(_LITTLE, own // _PART)


# -- Arrow -----------------------------------------------------------------------------------------


# A page of memory: copying it costs no more than referring to it.
_PAGE = 4096


def is_little(memory: Any) -> bool:
    """Return whether a buffer is better copied: a small one of Arrow, which writes into no buffer.

    pandas hands the names of a table's columns on to all tables that are made of it. If they were
    shared, each of those would keep the memory of the whole table.
    """
    kind = type(memory.obj) if isinstance(memory, memoryview) else object
    return static.root(kind) == "pyarrow" and memory.nbytes <= _PAGE


def reduce_arrow(_: Writer, obj: Any) -> Any:
    """Reduce an Arrow array without the data that it does not show. Tables consist of such arrays."""
    arrow = sys.modules["pyarrow"]
    if not isinstance(obj, arrow.Array):
        return NotImplemented
    try:
        kind = obj.type
        has_views = type(obj).__name__ in _VIEWS
        own = _bytes_of_views(obj) if has_views else obj.nbytes
        if not _drags(obj.get_total_buffer_size(), own):
            return NotImplemented
        if arrow.types.is_primitive(kind) or arrow.types.is_decimal(kind):
            cut = _cut_items(arrow, obj)
        elif type(obj).__name__ in _OFFSETS:
            cut = _cut_texts(arrow, obj)
        else:
            cut = arrow.concat_arrays([obj])  # a copy: of lists, structures and the like
            if has_views:  # the copy has views, and of the texts all that there were
                flat = arrow.large_string() if kind == arrow.string_view() else arrow.large_binary()
                cut = cut.cast(flat).cast(kind)
    except arrow.ArrowException:  # it is not in memory, or of a type that is not known there
        return NotImplemented
    return cut.__reduce__()


_OFFSETS = {
    "StringArray": np.int32, "BinaryArray": np.int32,
    "LargeStringArray": np.int64, "LargeBinaryArray": np.int64,
}  # fmt: skip
_VIEWS = ("StringViewArray", "BinaryViewArray")
# Bytes of a view, and of the longest text that is in the view itself; a longer one is elsewhere.
_VIEW, _SHORT = 16, 12


def _bytes_of_views(array: Any) -> int:
    """Return how many bytes the views of an array show; Arrow counts whole buffers."""
    lengths = np.frombuffer(array.buffers()[1], np.int32)[:: _VIEW // 4]
    shown = lengths[array.offset : array.offset + len(array)]
    return _VIEW * len(array) + int(shown[shown > _SHORT].sum(dtype=np.int64))


def _bounds(array: Any) -> tuple[int, int, Any]:
    """Return the items to keep, from a whole byte of the bitmap on, and that part of the bitmap."""
    first, last = array.offset // 8 * 8, array.offset + len(array)
    valid = array.buffers()[0]
    if valid is not None:
        valid = valid.slice(first // 8, (last + 7) // 8 - first // 8)
    return first, last, valid


def _cut_items(arrow: Any, array: Any) -> Any:
    """Return the same array over parts of its buffers; nothing is copied."""
    first, last, valid = _bounds(array)
    bits = array.type.bit_width
    start, end = first * bits // 8, (last * bits + 7) // 8
    data = array.buffers()[1].slice(start, end - start)
    offset = array.offset - first
    return arrow.Array.from_buffers(array.type, len(array), [valid, data], offset=offset)


def _cut_texts(arrow: Any, array: Any) -> Any:
    """Return the same array over parts of its buffers; only the offsets are copied."""
    first, last, valid = _bounds(array)
    _, offsets, data = array.buffers()
    positions = np.frombuffer(offsets, _OFFSETS[type(array).__name__])[first : last + 1]
    start, end = int(positions[0]), int(positions[-1])
    if data is not None:
        data = data.slice(start, end - start)
    buffers = [valid, arrow.py_buffer(positions - positions[0]), data]
    return arrow.Array.from_buffers(array.type, len(array), buffers, offset=array.offset - first)


# -- torch -----------------------------------------------------------------------------------------


def reduce_tensor(pickler: Writer, obj: Any) -> Any:
    """Reduce a tensor without the rest of its storage.

    Tensors that share a storage no longer share it after a pickle, with or without this.
    """
    torch = sys.modules["torch"]
    if type(obj) is not torch.Tensor or obj.layout is not torch.strided:
        return NotImplemented
    if obj.device.type == "meta" or obj.is_quantized or obj._backward_hooks:
        return NotImplemented
    reaches = ((n - 1) * step for n, step in zip(obj.shape, obj.stride(), strict=True))
    span = 1 + sum(reaches) if obj.numel() else 0  # repeated, it is less than there are items
    as_it_lies = span <= obj.numel() and not (obj.is_conj() or obj.is_neg())
    own = (span if as_it_lies else obj.numel()) * obj.element_size()
    if not _drags(obj.untyped_storage().nbytes(), own):
        return NotImplemented
    cut = obj.detach()
    if as_it_lies:
        cut = cut.as_strided((span,), (1,)).clone().as_strided(obj.shape, obj.stride(), 0)
    else:
        cut = cut.clone()
    cut.requires_grad_(obj.requires_grad)
    vars(cut).update(vars(obj))
    return cut.__reduce_ex__(pickler.proto)


# -- pandas ----------------------------------------------------------------------------------------


PANDAS_INTERNALS = "pandas.core.internals."
"""The package of the types that `PANDAS_REDUCERS` names."""


def reduce_manager(_: Writer, manager: Any) -> Any:
    """Reduce the manager of the blocks of a DataFrame or Series; the reader marks its blocks as shared."""
    make, arguments, *state = manager.__reduce_ex__(4)
    if state:
        return make, arguments, state[0], None, None, frozen.fill_block_manager
    return frozen.block_manager, (make, *arguments)


def reduce_block(_: Writer, block: Any) -> Any:
    """Reduce a block as it is; for protocol 5 pandas would copy strided data."""
    return block.__reduce__()


PANDAS_REDUCERS: dict[str, Callable[[Writer, Any], Any]] = {
    "BlockManager": reduce_manager,
    "SingleBlockManager": reduce_manager,
    "NumpyBlock": reduce_block,
    "NumericBlock": reduce_block,
    "ObjectBlock": reduce_block,
}
"""By the names of the types."""
