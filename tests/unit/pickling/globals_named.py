"""The functions and classes that a pickle names."""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FROZEN = "jshm.pickling.frozen"
_NOT_TEXT: Any = object()


def names(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield module and name of each global that a pickle names."""
    stack: list[Any] = []
    memo: list[Any] = []
    put: dict[int, Any] = {}
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield module, name
            stack.append(_NOT_TEXT)
        elif operation.name == "STACK_GLOBAL":
            yield stack[-2], stack[-1]
            stack.append(_NOT_TEXT)
        elif operation.name == "MEMOIZE":
            memo.append(stack[-1] if stack else _NOT_TEXT)
        elif "PUT" in operation.name:
            put[argument] = stack[-1] if stack else _NOT_TEXT
        elif "GET" in operation.name:
            stack.append(memo[argument] if len(memo) > argument else put.get(argument, _NOT_TEXT))
        elif "UNICODE" in operation.name:
            stack.append(argument)
        else:
            stack.append(_NOT_TEXT)


def not_frozen(data: bytes) -> set[tuple[str, str]]:
    """Return what a pickle names of jshm that is no part of the format."""
    return {
        (module, name)
        for module, name in names(data)
        if module.partition(".")[0] == "jshm" and module != FROZEN
    }
