"""What was found out about code objects, kept as long as they live."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, TypeVar

from ..system.weak import forgetting

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    T = TypeVar("T")


def cached_by_code(find: Callable[[CodeType], T]) -> Callable[[CodeType], T]:
    """Return a function that remembers its value for each code object.

    By the object and not by what equals it: to hash a code object costs more than to look at it.
    """
    known: dict[int, tuple[weakref.ref[CodeType], T]] = {}

    @functools.wraps(find)
    def found(code: CodeType) -> T:
        key = id(code)
        entry = known.get(key)
        if entry is None or entry[0]() is not code:
            entry = known[key] = (weakref.ref(code, forgetting(known, key)), find(code))
        return entry[1]

    return found
