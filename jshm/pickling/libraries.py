"""What libraries keep of a class that its namespace does not show."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

STRUCT_OPTIONS = (
    "frozen", "eq", "order", "array_like", "gc", "repr_omit_defaults", "omit_defaults",
    "forbid_unknown_fields", "weakref", "dict", "cache_hash", "tag", "tag_field",
)  # fmt: skip


CACHES = frozenset({"__msgspec_cache__"})
"""What libraries keep in classes of other makers, and find out again."""


def own_annotations(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations of a class that are not inherited, as they were written."""
    found = space.get("__annotations__") or space.get("__annotations_cache__")
    found = getattr(found, "written", found)
    return found if isinstance(found, dict) else {}


def is_struct(cls: type) -> bool:
    """Tell whether a class is a `msgspec.Struct`."""
    msgspec: Any = sys.modules.get("msgspec")
    return msgspec is not None and issubclass(type(cls), type(msgspec.Struct))


def struct_options(cls: Any) -> dict[str, Any]:
    """Return the options that a struct was made with."""
    config = cls.__struct_config__
    return {name: getattr(config, name) for name in STRUCT_OPTIONS if hasattr(config, name)}


def struct_parts(cls: Any) -> dict[str, Any]:
    """Return what a struct, or a structure of ctypes, was declared with; nothing of other classes."""
    if issubclass(cls, ctypes.Structure | ctypes.Union):
        # Types by name: the module of an array's type is the one that happened to make it first.
        own = cls.__dict__.get("_fields_", ())
        return {"its fields": tuple((name, kind.__name__, *bits) for name, kind, *bits in own)}
    if not is_struct(cls):
        return {}
    encoded = zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
    return {
        "its options": struct_options(cls),
        "its fields": tuple(encoded),
        "its defaults": cls.__struct_defaults__,
    }


def is_compiled_by_numba(cls: type) -> bool:
    """Tell whether a class is one that Numba does not pickle: a jitclass."""
    numba: Any = sys.modules.get("numba.core.serialize")
    return numba is not None and type(cls) in numba.NumbaPickler.disabled_types
