"""What a module beside the notebook defines: imported where the reader can, else made anew.

Functions, and whole modules, that travel by value are not made again where the reader imports their
module from a file that says the same. Then they are what the reader's own code gets by importing it.
"""

from __future__ import annotations

import functools
import sys
import types
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..errors import MissingModuleError
from ..system.weak import WeakSet
from . import frozen, modules
from .definitions import Definition, module_of
from .modules import Origin
from .survey import definition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .writer import Writer

# What was made here, and has not got its state yet.
_unfilled: WeakSet[Any] = WeakSet()


def reduce(obj: Any, qualname: str, reduced: Any) -> Any:
    """Return a reduction that finds an object by importing its module, if that is the same there.

    A cached function of a notebook is the reader's own, with what that has in its cache, if it is
    defined the same.

    Parameters
    ----------
    obj : function, cached function or type variable
        What has a name in its module.
    qualname : str
    reduced : tuple
        How it is made anew.
    """
    name = module_of(obj)
    is_cached = type(obj) is functools._lru_cache_wrapper
    origin = Origin(name, "", "") if name == "__main__" and is_cached else modules.origin_of(name)
    # Methods are their classes' matter.
    if origin is None or "." in qualname or _lookup(sys.modules.get(name), qualname) is not obj:
        return reduced
    make, arguments, *rest = reduced
    text = definition_of(obj).to_json() if rest else ""
    found = (tuple(origin), "".join(qualname), text, make, arguments)
    if not rest:
        return frozen.own_or_new, found
    state, *_ = rest
    fill = frozen.fill_cached_function if is_cached else frozen.fill_function
    return frozen.own_or_new, found, state, None, None, fill


def find(
    origin: tuple[str, str, str],
    qualname: str,
    text: str,
    make: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:
    """Return what the reader has under a name, or else what `make` makes of the arguments."""
    name = origin[0]
    module = sys.modules.get(name) if name == "__main__" else modules.imported(Origin(*origin))
    found = _lookup(module, qualname)
    if found is not None and (not text or _is_same(found, Definition.from_json(text))):
        return found
    if name != "__main__" and modules.is_here(name):
        modules.tell_difference(name)
    made = make(*arguments)
    _unfilled.add(made)
    return made


def _is_same(found: Any, definition: Definition) -> bool:
    if type(found) not in (types.FunctionType, functools._lru_cache_wrapper):
        return False
    own = definition_of(found, reaches=definition.reaches)
    return not own.differences(definition)


def _lookup(module: ModuleType | None, qualname: str) -> Any:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found


def fill_function(function: Any, state: Any) -> None:
    """Give a function its state, unless it was found."""
    if function in _unfilled:
        attributes, slots = state
        if _is_imported(function.__globals__):
            slots = {**slots, "__globals__": {}}  # they are the module's, as it is here
        cp._function_setstate(function, (attributes, slots))
        _unfilled.discard(function)


def _is_imported(namespace: dict[str, Any]) -> bool:
    name = namespace.get("__name__")
    return (
        name != "__main__" and getattr(sys.modules.get(name or ""), "__dict__", None) is namespace
    )


def fill_cached(function: Any, attributes: dict[str, Any] | None) -> None:
    """Give a cached function its attributes, unless it was found."""
    if function in _unfilled:
        vars(function).update(attributes or {})
        _unfilled.discard(function)


# -- whole modules ---------------------------------------------------------------------------------


def find_module(
    origin: tuple[str, str, str] | None, make: Callable[..., ModuleType], *arguments: Any
) -> ModuleType:
    """Return a module that the reader imports, if it says the same, or else a new one."""
    module = modules.imported(Origin(*origin)) if origin else None
    if module is not None:
        return module
    if origin and modules.is_here(origin[0]):
        modules.tell_difference(origin[0])
    made = make(*arguments)
    _unfilled.add(made)
    return made


def fill_module(module: ModuleType, state: dict[str, Any]) -> None:
    """Fill a module, unless it was found."""
    if module in _unfilled:
        vars(module).update(state)
        _unfilled.discard(module)


# -- modules that cannot go by value ---------------------------------------------------------------


def refer(pickler: Writer, obj: Any, qualname: str) -> Any:
    """Return a reduction to a name, of a module that holds what no pickle can; None: by value.

    The reader imports the module, also from the directory that it was found in.
    """
    name = obj.__name__ if isinstance(obj, ModuleType) else obj.__module__
    if name not in pickler.by_import:
        return None
    origin = modules.origin_of(name)
    if origin is None or (qualname and _lookup(sys.modules.get(name), qualname) is not obj):
        return None
    return frozen.imported, (tuple(origin), "".join(qualname))


def load(origin: tuple[str, str, str], qualname: str) -> Any:
    """Return a module, or what it has under a name.

    Raises
    ------
    MissingModuleError
        It cannot be imported here.
    """
    name, _, root = origin
    module = modules.imported(Origin(*origin), also_from_root=True)
    if module is None and modules.is_here(name):
        modules.tell_difference(
            name,
            "what was shared uses the one of here, because the other holds what cannot be shared",
        )
        __import__(name)
        module = sys.modules[name]
    if module is None:
        raise MissingModuleError(
            f"the module {name} cannot be imported here, and it is not in {root or 'its directory'} any "
            f"more as it was published: add the directory that it is in to sys.path, and attach again",
            name=name,
        )
    found = _lookup(module, qualname) if qualname else module
    if found is None:
        raise MissingModuleError(f"the module {name} has no {qualname} here", name=name)
    return found
