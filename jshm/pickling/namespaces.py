"""The namespace of a module (its ``__dict__``) by reference, wherever it is met."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from . import frozen

if TYPE_CHECKING:
    import types
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

    from .writer import Writer


class NamespaceMet(BaseException):
    """Begin anew, and know this module from the beginning.

    Attributes
    ----------
    module : module
    whole : bool
        A module is met that travels by value, after some of its functions; else it may be that the
        dict which is being written is the module's namespace.
    """

    def __init__(self, module: types.ModuleType, *, whole: bool) -> None:
        self.module = module
        self.whole = whole


class Namespace:
    """Stands for the namespace of a module (or of what stands for one), in the reader's process."""

    def __init__(self, module: Any) -> None:
        self.module = module


class Prefixed:
    """An object, and before it the namespaces that it refers to.

    The C pickler asks nobody about dicts. But what is in its memo it writes as a reference: so the
    namespaces are written first, and then the memo is told that they are those dicts.
    """

    def __init__(self, obj: Any, namespaces: Iterable[Namespace]) -> None:
        self.obj = obj
        self.namespaces = tuple(namespaces)


class EndOfPrefix:
    """Comes after the namespaces, and before the object."""

    def __init__(self, namespaces: tuple[Namespace, ...]) -> None:
        self.namespaces = namespaces


def reduce_namespace(_: Writer, namespace: Namespace) -> Any:
    """Reduce to the namespace itself."""
    return vars, (namespace.module,)


def reduce_prefixed(_: Writer, prefixed: Prefixed) -> Any:
    """Reduce to the object alone."""
    namespaces = prefixed.namespaces
    return frozen.last, (namespaces, EndOfPrefix(namespaces), prefixed.obj)


def reduce_end(pickler: Writer, end: EndOfPrefix) -> Any:
    """Tell the memo that what was written for these namespaces is those dicts."""
    memo = pickler.memo.copy()
    for namespace in end.namespaces:
        dict_ = namespace.module.__dict__
        # Not added but replaced: the memo's size is the reader's next index.
        memo[id(dict_)] = (memo.pop(id(namespace))[0], dict_)
    pickler.memo = memo
    return tuple, ()


def reduce_spec(pickler: Writer, spec: ModuleSpec) -> Any:
    """Reduce a module's spec by reference; it may be that the module's namespace is written."""
    module = sys.modules.get(spec.name)
    if module is None or getattr(module, "__spec__", None) is not spec:
        return NotImplemented
    pickler.meet(module)
    return getattr, (module, "__spec__")
