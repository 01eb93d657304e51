"""Imports by the reader: its own modules, modules beside the notebook, compiled modules.

Functions and whole modules that travel by value are not made again if the reader's own module has the
same file. Then the reader gets the same objects as its own code that imports the module.

A module that a function imports when it is called does not travel: an ``import`` statement looks
for it by name. The reader is told where the publisher found it, and looks there when nothing else
has that name. So modules that it can import itself are never hidden.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import types
import warnings
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..errors import MissingModuleError
from ..system.weak import WeakSet
from . import modules
from .definitions import Definition, definition_of
from .modules import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

# Objects that were made here and do not have their state yet.
_unfilled: WeakSet[Any] = WeakSet()


def own_or_new(
    origin: tuple[str, str, str],
    qualname: str,
    text: str,
    make: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:
    """Return the reader's own object of a name, if it is the same, or a new one."""
    name = origin[0]
    module = sys.modules.get(name) if name == "__main__" else modules.imported(Origin(*origin))
    found = modules.lookup(module, qualname)
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


def fill_function(function: Any, state: Any) -> None:
    """Give a function its state, unless it was found."""
    if function in _unfilled:
        attributes, slots = state
        if _is_imported(function.__globals__):
            slots = {**slots, "__globals__": {}}  # the module here has them
        cp._function_setstate(function, (attributes, slots))
        _unfilled.discard(function)


def _is_imported(namespace: dict[str, Any]) -> bool:
    name = namespace.get("__name__")
    return (
        name != "__main__" and getattr(sys.modules.get(name or ""), "__dict__", None) is namespace
    )


def fill_cached_function(function: Any, attributes: dict[str, Any] | None) -> None:
    """Give a cached function its attributes, unless it was found."""
    if function in _unfilled:
        vars(function).update(attributes or {})
        _unfilled.discard(function)


# -- whole modules ---------------------------------------------------------------------------------


def own_or_new_module(
    origin: tuple[str, str, str] | None, make: Callable[..., ModuleType], *arguments: Any
) -> ModuleType:
    """Return the module that the reader imports, if its file is the same, or a new one."""
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


def imported(origin: tuple[str, str, str], qualname: str) -> Any:
    """Return a module, or what it has under a name; see `frozen.imported`."""
    name, _, root = origin
    module = modules.imported(Origin(*origin), also_from_root=True)
    if module is None and modules.is_here(name):
        modules.tell_difference(
            name,
            "what was shared uses the module of this process, because the other one contains an object "
            "that cannot be shared",
        )
        __import__(name)
        module = sys.modules[name]
    if module is None:
        raise MissingModuleError(
            f"the module {name} cannot be imported here, and {root or 'its directory'} no longer has the "
            "version that was published: add the module's directory to sys.path, and attach again",
            name=name,
        )
    found = modules.lookup(module, qualname) if qualname else module
    if found is None:
        raise MissingModuleError(f"the module {name} has no {qualname} here", name=name)
    return found


# -- compiled modules ------------------------------------------------------------------------------


def compiled(name: str, file: str, qualname: str) -> Any:
    """Return a compiled module, or something of it; see `frozen.compiled`."""
    found = sys.modules.get(name) or _import(name, file)
    for part in filter(None, qualname.split(".")):
        found = getattr(found, part)
    return found


def _import(name: str, file: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
    try:
        return _import_from(name, file)
    except ImportError as error:
        raise MissingModuleError(
            f"the compiled module {name} is needed, and cannot be imported here ({error}); it was {file}. "
            "Add its directory to sys.path, or install it",
            name=name,
        ) from error


def _import_from(name: str, file: str) -> Any:
    root = modules.import_root(name, file)
    if root and os.path.exists(file):
        # By its name, so that a package is imported before its modules.
        sys.path.append(root)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(root)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a module for this Python")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# -- modules imported by calls ---------------------------------------------------------------------


# Module name → the directory in which its publisher found it.
_roots: dict[str, str] = {}


class _Finder:
    """Finds modules where their publishers found them; it is the last finder."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, _: object = None
    ) -> ModuleSpec | None:
        root = _roots.get(name) if path is None else None
        if root is None:
            return None
        spec = PathFinder.find_spec(name, [root])
        if spec is None:
            raise ModuleNotFoundError(
                f"No module named {name!r}: it was in {root} when a function that imports it was "
                "published. Put it there again, or in a directory of sys.path",
                name=name,
            )
        return spec


def remember_place(name: str, root: str, file: str) -> None:
    """Look for a module in a directory from now on, if it is found nowhere else."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
    here = _file_here(name)
    if here is None:
        _roots[name] = root
    elif file and here and here != file and not _same(here, file):
        warnings.warn(
            f"a function that was published imports {name} when it is called: {file} where it was "
            f"published, and {here} here, which differs",
            RuntimeWarning,
            stacklevel=2,
        )


def _file_here(name: str) -> str | None:
    """Return the file of the module that the reader imports by a name; None if there is none."""
    module = sys.modules.get(name)
    if module is not None:
        return str(getattr(module, "__file__", None) or "")
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if finder is _Finder or find is None:
            continue
        try:
            spec = find(name, None)
        except (ImportError, ValueError):
            continue
        if spec is not None:
            return spec.origin or ""
    return None


def _same(here: str, file: str) -> bool:
    """Return whether two files have the same content; True if that cannot be known."""
    try:
        with open(here, "rb") as one, open(file, "rb") as other:
            return one.read() == other.read()
    except OSError:
        return True
