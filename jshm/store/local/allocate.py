"""Arrays that are born in shared memory: allocated there, and without a name until they are published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...segment import file as segment
from . import attach as attaching
from .registry import rows

if TYPE_CHECKING:
    import numpy as np

    from ...segment.array_layout import ArrayLayout
    from .lookup import Lookup
    from .new_segment import Draft
    from .space import Room


def adopt(store: Lookup, layout: ArrayLayout, draft: Draft, room: Room) -> np.ndarray[Any, Any]:
    """Register a segment that only its holders keep, and map it."""
    process = store.process
    row = rows.with_writable(draft.row, writable=True)
    try:
        mapping = draft.map()
        with process.transaction() as (tx, _):
            room.confirm(tx)
            draft.offer()
            rows.put_segment(tx, row, wanted=False)
            segment.write(draft.fd, 0, [layout.magic])
            draft.unlock()
            tx.on_commit(draft.close)
    except BaseException:
        draft.discard()
        raise
    process.mappings.adopt(mapping)
    process.tell_holds()
    array = attaching.view(layout, mapping, segment.sealable(mapping))
    process.born[row.id] = array
    return array
