"""Tables of pandas over read-only memory: they can be changed, and take a copy of what is changed.

pandas copies a block of columns before it writes into it if another block refers to the same memory
(copy-on-write: always since pandas 3, in pandas 2 with ``pd.options.mode.copy_on_write``). Of a block that
was loaded over shared memory it knows no other, would write, and fail. So it is told of one.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from .writer import Writer

PACKAGE = "pandas.core.internals."
"""Where the types are that `REDUCERS` names."""


def reduce_manager(_: Writer, manager: Any) -> Any:
    """Reduce what keeps the blocks of a DataFrame or Series: as pandas does, and they are shared."""
    make, arguments, *state = manager.__reduce_ex__(4)
    if state:
        return make, arguments, state[0], None, None, _fill_manager
    return _load_manager, (make, *arguments)


def reduce_block(_: Writer, block: Any) -> Any:
    """Reduce a block without a copy of what is strided, which pandas makes for protocol 5."""
    return block.__reduce__()


def _load_manager(make: Any, *arguments: Any) -> Any:
    manager = make(*arguments)
    _share(manager)
    return manager


def _fill_manager(manager: Any, state: Any) -> None:
    manager.__setstate__(state)
    _share(manager)


def _share(manager: Any) -> None:
    """Let pandas take read-only blocks for shared, and so do views of them, for as long as they live.

    What it counts are weak references to blocks; the one that is added is to what never goes.
    """
    for block in getattr(manager, "blocks", ()):
        if not _is_writable(block.values):
            with contextlib.suppress(
                AttributeError
            ):  # another pandas: what is attached is read-only
                block.refs.referenced_blocks.append(_ALWAYS)


_ALWAYS = weakref.ref(_share)


def _is_writable(values: Any) -> bool:
    """Tell whether a block can be written in place, as in mode ``'c'``; of Arrow's and others' never."""
    array = values
    if not isinstance(array, np.ndarray):  # dates and categories; nullable numbers
        array = getattr(values, "_ndarray", getattr(values, "_data", None))
    return isinstance(array, np.ndarray) and array.flags.writeable


REDUCERS: dict[str, Callable[[Writer, Any], Any]] = {
    "BlockManager": reduce_manager,
    "SingleBlockManager": reduce_manager,
    "NumpyBlock": reduce_block,
    "NumericBlock": reduce_block,
    "ObjectBlock": reduce_block,
}
"""By the names of the types."""
