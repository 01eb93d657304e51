"""The functions and classes that a pickle names."""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FROZEN = "jshm.pickling.frozen"
# These names of cloudpickle are a part of the format too.
CLOUDPICKLE = {
    "_builtin_type", "_function_setstate", "_get_dataclass_field_type_sentinel", "_make_function",
    "subimport", "_make_typevar", "_make_dict_keys", "_make_dict_values", "_make_dict_items",
}  # fmt: skip
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
    """Return the names of jshm and of cloudpickle in a pickle that are not a part of the format."""
    return {
        (module, name)
        for module, name in names(data)
        if (module.partition(".")[0] == "jshm" and module != FROZEN)
        or (module.startswith("cloudpickle") and name not in CLOUDPICKLE)
    }
