"""What jshm gave to the user here, and which segments it is from.

A variable that still *is* that array or object may go on detach, and may be replaced by an attach of
many; a view that the user made of it is the user's.
"""

from __future__ import annotations

import logging
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple, TypeVar

from .pickling import static as looking
from .system.weak import WeakValues

T = TypeVar("T")

# Two equal ones may be the same object, whoever made them.
_SHARED_BY_ALL = (
    int, float, complex, str, bytes, tuple, frozenset, type(None), ModuleType, logging.Logger,
)  # fmt: skip
# References to a value that is in `_strong`, and nowhere else, while `prune` looks at it.
_OURS = 3

_weak: WeakValues[int, Any] = WeakValues()
# Dicts, lists and the like know no weak references: they are kept until nobody else has them. Only
# where somebody asks after each cell; else they would stay.
_strong: dict[int, Any] = {}
prunes = False
_segments: dict[int, tuple[str, ...]] = {}


class _Bound(NamedTuple):
    """What an attach bound to a variable.

    Attributes
    ----------
    id : int
    known : bool
        Whether it is known as handed out. A text or a number is anybody's.
    segments : tuple of str
    """

    id: int
    known: bool
    segments: tuple[str, ...]

    def is_still(self, value: object) -> bool:
        """Tell whether a value is it: what was made when it had gone may have got its id."""
        return id(value) == self.id and (not self.known or was_handed_out(value))


_bound: dict[str, _Bound] = {}


def hand_out(value: T, segments: tuple[str, ...] = ()) -> T:
    """Remember that jshm gave this value to the user, from these segments; return it."""
    if issubclass(type(value), _SHARED_BY_ALL) or _is_imported(value):
        return value
    try:
        _weak[id(value)] = value
    except TypeError:
        if not prunes:
            return value
        prune()
        _strong[id(value)] = value
    _segments[id(value)] = segments
    return value


def bind(
    namespace: dict[str, Any], variable: str, value: object, segments: tuple[str, ...]
) -> None:
    """Let a variable be what was attached, and remember it."""
    namespace[variable] = hand_out(value, segments)
    _bound[variable] = _Bound(id(value), was_handed_out(value), segments)


def _is_imported(value: Any) -> bool:
    """Tell whether a value is a function or a class that everybody here gets by importing it."""
    kind = type(value)
    if issubclass(kind, type):
        place = looking.module(value)
    elif kind is FunctionType or kind is BuiltinFunctionType:
        place = looking.text(value.__module__)
    else:
        return False
    module = sys.modules.get(place)
    if module is None or not issubclass(type(module), ModuleType):
        return False
    # Not `getattr`: a module may import others for it.
    return (looking.attributes(module) or {}).get(looking.own_name(value)) is value


def was_handed_out(value: object) -> bool:
    """Tell whether a value is one that jshm gave to the user."""
    if value is None:
        return False
    return _weak.get(id(value)) is value or _strong.get(id(value)) is value


def segments_of(value: object) -> tuple[str, ...]:
    """Return the segments that a value was attached from, its own first; () if from none."""
    return _segments.get(id(value), ()) if was_handed_out(value) else ()


def segments_bound(variable: str, value: object) -> tuple[str, ...]:
    """Return the segments of what an attach bound to a variable, if it still is that."""
    bound = _bound.get(variable)
    return bound.segments if bound is not None and bound.is_still(value) else ()


def is_from_jshm(variable: str, value: object) -> bool:
    """Tell whether what a variable has is what jshm gave or bound to it, and not the user's work."""
    return was_handed_out(value) or bool(segments_bound(variable, value))


def forget_unbound(namespace: dict[str, Any]) -> list[str]:
    """Forget what is not bound any more; return the variables."""
    gone = [
        variable
        for variable, bound in _bound.copy().items()
        if variable not in namespace or not bound.is_still(namespace[variable])
    ]
    for variable in gone:
        _bound.pop(variable, None)
    return gone


def _prune_once() -> bool:
    before = len(_strong)
    for key, value in list(_strong.copy().items()):
        # The list's reference is not there while its tuple is taken apart.
        if sys.getrefcount(value) <= _OURS + 1:
            _strong.pop(key, None)
    return len(_strong) < before


def prune() -> None:
    """Let go of what nobody else has any more."""
    while _prune_once():  # one may have been in another that went
        pass
    for key in list(_segments):
        if key not in _strong and key not in _weak:
            _segments.pop(key, None)
