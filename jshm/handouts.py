"""What jshm gave to the user here, and which segment it is from.

A variable that still *is* that array or object may go on detach, and may be replaced by an attach of
many; a view that the user made of it is the user's.
"""

from __future__ import annotations

import sys
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

# Two equal ones may be the same object, whoever made them.
_SHARED_BY_ALL = (int, float, complex, str, bytes, tuple, frozenset, type(None), ModuleType)

_weak: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
# Dicts, lists and the like know no weak references. They are kept until `prune` finds no variable
# that is they: without a notebook that asks, they are not kept at all.
_strong: dict[int, Any] = {}
_segments: dict[int, str] = {}


def hand_out(value: T, segment: str = "") -> T:
    """Remember that jshm gave this value to the user; return it."""
    if isinstance(value, _SHARED_BY_ALL):
        return value
    try:
        _weak[id(value)] = value
    except TypeError:
        if "IPython" not in sys.modules:
            return value
        _strong[id(value)] = value
    _segments[id(value)] = segment
    return value


def was_handed_out(value: object) -> bool:
    """Tell whether a value is one that jshm gave to the user."""
    if value is None:
        return False
    return _weak.get(id(value)) is value or _strong.get(id(value)) is value


def segment_of(value: object) -> str:
    """Return the id of the segment that a value was attached from; '' if from none."""
    return _segments.get(id(value), "") if was_handed_out(value) else ""


def prune(variables: Iterable[object]) -> None:
    """Let go of what is none of these variables' values any more."""
    there = {id(value) for value in variables}
    for key in [key for key in _strong if key not in there]:
        del _strong[key]
    for key in [key for key in _segments if key not in _strong and key not in _weak]:
        del _segments[key]
