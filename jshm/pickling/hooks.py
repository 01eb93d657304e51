"""Making a class anew, also where its metaclass or its bases have hooks that want what is not there yet."""

from __future__ import annotations

import contextlib
from itertools import product
from types import resolve_bases
from typing import Any

from cloudpickle import cloudpickle as cp


def new_class(metaclass: Any, name: str, bases: tuple[Any, ...], body: dict[str, Any]) -> type:
    """Make a class.

    Where its metaclass, or a base's ``__init_subclass__``, wants options or attributes that it has not
    yet, it is made without them: what they did to the class is among its attributes.
    """
    try:
        return cp._make_skeleton_class(metaclass, name, bases, body, None, None)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - code of the user's
        return without_hooks(metaclass, name, bases, body)


def hooked(bases: tuple[Any, ...]) -> type | None:
    """Return the class whose ``__init_subclass__`` a new class with these bases would call."""
    order = [kind for base in resolve_bases(bases) for kind in base.__mro__]
    return next((kind for kind in order if _HOOK in vars(kind)), None)


def without_hooks(
    metaclass: Any, name: str, bases: tuple[Any, ...], keywords: dict[str, Any]
) -> type:
    """Make a class by what Python itself has for that, calling neither metaclass nor bases."""
    resolved = resolve_bases(bases)
    if resolved is not bases:
        keywords = {**keywords, "__orig_bases__": bases}
    if resolved == (object,):
        return _new(metaclass, name, resolved, keywords)
    # `type.__new__` calls the hook of the first base. A class can lose that base again if another one
    # is left whose instances have the same layout.
    parents = {parent: None for base in resolved for parent in reversed(_parents(base))}
    for parent, slots in product(parents, (("__dict__", "__weakref__"), (), *_SLOTS)):
        with contextlib.suppress(Exception):
            hook: Any = classmethod(_do_nothing)
            quiet = _new(type(parent), "Quiet", (parent,), {"__slots__": slots, _HOOK: hook})
            made: Any = _new(metaclass, name, (quiet, *resolved), keywords)
            made.__bases__ = resolved
            return made  # type: ignore[no-any-return]
    raise TypeError(f"the class {name} cannot be made again without calling __init_subclass__")


_HOOK = "__init_subclass__"
_SLOTS = (("__dict__",), ("__weakref__",))


def _do_nothing(_: type, /, **__: Any) -> None:
    pass


def _parents(base: type) -> list[type]:
    """Return a class's first base, that one's, and so on."""
    found: list[type] = []
    parent = base.__base__
    while parent is not None:
        found.append(parent)
        parent = parent.__base__
    return found


def _new(metaclass: Any, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
    maker: Any = next(k for k in metaclass.__mro__ if k.__module__ in _OF_PYTHON)
    return maker.__new__(metaclass, name, bases, body)  # type: ignore[no-any-return]


# The modules of metaclasses that a class cannot do without.
_OF_PYTHON = ("builtins", "abc", "typing", "enum", "_ctypes")
