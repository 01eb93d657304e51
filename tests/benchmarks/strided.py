"""Publishing what is not contiguous: a column of two, and the transpose of every second column."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from jshm.segment.array_layout import describe_array

from .measure import JSHM, LIMIT, in_turn
from .republish import against_copy, copying, publish_versions
from .workspace import size_label

if TYPE_CHECKING:
    from .measure import Result

Array = np.ndarray[Any, Any]
_COLUMNS = 1024
_SPARE, _FRESH = 1.3, 2.8
_FIRST_STEADY, _COUNT = 4, 6


def measure(nbytes: int, rounds: int) -> list[Result]:
    """Measure both, fresh and into a spare, against `np.copyto` of the same strides."""
    both = np.arange(2 * nbytes // 8, dtype=float)
    rows = len(both) // (2 * _COLUMNS)
    results = []
    for what, source in (
        ("`a[:, 0]`", both.reshape(-1, 2)[:, 0]),
        ("`a[:, ::2].T`", both[: rows * 2 * _COLUMNS].reshape(rows, -1)[:, ::2].T),
    ):
        results += _measure(f"publish {what}, {size_label(source.nbytes)}", source, rounds)
    return results


def _measure(what: str, source: Array, rounds: int) -> list[Result]:
    # In the order in which jshm has it in the end.
    target = np.zeros(source.shape, source.dtype, order=describe_array(source).order)
    seconds = in_turn(
        {
            "fresh": lambda: publish_versions(source, 1)[0],
            JSHM: lambda: statistics.median(publish_versions(source, _COUNT)[_FIRST_STEADY:]),
            LIMIT: copying(source, target),
        },
        rounds,
    )
    limit = seconds[LIMIT]
    return [
        against_copy(f"{what}: the first version", seconds["fresh"], limit, _FRESH, "strided"),
        against_copy(f"{what}: again and again", seconds[JSHM], limit, _SPARE, "strided"),
    ]
