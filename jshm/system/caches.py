"""Caches of what was made of text that others may have written."""

from __future__ import annotations

from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

# Characters of what is short.
_SHORT = 1000
# So many results for long text are kept: what is made of it may take a hundred times its memory.
_FEW = 16


def by_text(most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Cache a function's last `most` results, as `lru_cache` does; for long text the last few only.

    The text is the first argument; all are passed by position.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        of_short, of_long = lru_cache(most)(function), lru_cache(_FEW)(function)

        @wraps(function)
        def cached(*args: Any) -> T:
            return (of_short if len(args[0]) < _SHORT else of_long)(*args)

        return cast("Callable[P, T]", cached)

    return decorate
