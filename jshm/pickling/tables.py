"""Tables of pandas over read-only memory: they can be changed, and take a copy of what is changed.

pandas copies a block of columns before it writes into it if another block refers to the same memory
(copy-on-write: always since pandas 3, in pandas 2 with ``pd.options.mode.copy_on_write``). Of a block that
was loaded over shared memory it knows no other, would write, and fail. So it is told of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from .writer import Writer

PACKAGE = "pandas.core.internals."
"""Where the types are that `REDUCERS` names."""


def reduce_manager(_: Writer, manager: Any) -> Any:
    """Reduce what keeps the blocks of a DataFrame or Series: as pandas does, and they are shared."""
    make, arguments, *state = manager.__reduce_ex__(4)
    if state:
        return make, arguments, state[0], None, None, frozen.fill_block_manager
    return frozen.block_manager, (make, *arguments)


def reduce_block(_: Writer, block: Any) -> Any:
    """Reduce a block without a copy of what is strided, which pandas makes for protocol 5."""
    return block.__reduce__()


REDUCERS: dict[str, Callable[[Writer, Any], Any]] = {
    "BlockManager": reduce_manager,
    "SingleBlockManager": reduce_manager,
    "NumpyBlock": reduce_block,
    "NumericBlock": reduce_block,
    "ObjectBlock": reduce_block,
}
"""By the names of the types."""
