"""Compiled modules that are not installed: beside the notebook, or of a ``%%cython`` cell.

They go by reference, for there is no value that could travel. A reader that does not find one by its
name loads it from the file that it was in.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from ..errors import MissingModuleError
from . import frozen, modules, numeric

if TYPE_CHECKING:
    from .writer import Writer


def reduce(pickler: Writer, name: str, qualname: str = "", obj: Any = None) -> Any:
    """Reduce what is imported from a module by name; the module itself, if no `qualname` is given.

    NotImplemented if a plain import finds it: then the module is one that the reader needs.

    Parameters
    ----------
    pickler : Writer
    name : str
        Of the module.
    qualname : str
    obj : object, optional
        What has that name in the module.
    """
    file = file_of(name)
    if file:
        return frozen.compiled, (name, file, qualname)
    if obj is not None:
        return numeric.reduce_named(pickler, name, obj)
    pickler.needs.add(name)
    return NotImplemented


def file_of(name: str) -> str:
    """Return the file of a compiled module that is not installed; '' for any other module."""
    module = sys.modules.get(name)
    if modules.is_everywhere(name) or module is None or not modules.is_compiled(module):
        return ""
    file = os.path.realpath(str(module.__file__))
    return "" if modules.is_installed(name, file) else file


def find(name: str, file: str, qualname: str) -> Any:
    """Return a compiled module, or something of it.

    Raises
    ------
    MissingModuleError
        It cannot be imported here, neither by its name nor from its file.
    """
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
        # By its name, so that a package is imported before what is in it.
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
