"""How the Pickler writes what cloudpickle writes otherwise, or not at all. The rest is cloudpickle's."""

from __future__ import annotations

import builtins
import functools
import io
import pickle
import sys
import types
import typing
import weakref
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

import numpy as np
from cloudpickle import cloudpickle as cp

from . import (
    arrays,
    beside,
    classes,
    extensions,
    foreign,
    frozen,
    generated,
    hints,
    imports,
    modules,
    numeric,
    typings,
)
from . import static as looking
from .code import class_globals, reduce_code
from .definitions import module_of
from .namespaces import (
    EndOfPrefix,
    Namespace,
    Prefixed,
    reduce_end,
    reduce_namespace,
    reduce_prefixed,
    reduce_spec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .writer import Writer

# Of a module that travels by value: what the reader's Python sets itself.
_OF_THE_LOADER = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__", "__name__"})


def _reduce_function(pickler: Writer, function: types.FunctionType) -> Any:
    module = function.__module__
    if not modules.is_by_value(module) and cp._should_pickle_by_reference(function):
        return extensions.reduce(pickler, module, function.__qualname__, function)
    if pickler.whole and id(function.__globals__) in pickler.whole:
        _share_namespace(pickler, pickler.whole[id(function.__globals__)])
    if function.__code__.co_name == "_modified_open" and function.__name__ == "open":
        return frozen.last, (io.open,)  # what `open` is in a notebook
    if reference := beside.refer(pickler, function, function.__qualname__):
        return reference
    code, namespace, name, defaults, _ = pickler._function_getnewargs(function)
    state, slots = cp._function_getstate(function)
    slots["__module__"] = module_of(function) or module
    if isinstance(namespace, dict) and namespace.get("__name__") == "__mp_main__":
        namespace["__name__"] = "__main__"
    for word in class_globals(code):
        if word in function.__globals__:
            slots["__globals__"][word] = function.__globals__[word]
    submodules = map(numeric.part_or_module, slots["_cloudpickle_submodules"])
    # Loaded, and then forgotten.
    slots["_cloudpickle_submodules"] = [*submodules, *imports.beside(function)]
    hints.complete(pickler, function, slots["__globals__"])
    if parameters := getattr(function, "__type_params__", ()):
        slots["__type_params__"] = parameters
    # The very cells, and not cells of the same content: others may share them.
    slots["__closure__"] = None
    arguments = (code, namespace, name, defaults, function.__closure__)
    reduced = cp._make_function, arguments, (state, slots), None, None, cp._function_setstate
    return beside.reduce(function, function.__qualname__, reduced)


def reduce_class(pickler: Writer, cls: type) -> Any:
    """Reduce a class, by value or by reference."""
    module = getattr(cls, "__module__", None)
    by_value = modules.is_by_value(module)
    if by_value and (reference := beside.refer(pickler, cls, cls.__qualname__)):
        return reference
    reduced = cp._dynamic_class_reduce(cls) if by_value else cp._class_reduce(cls)
    if reduced is NotImplemented:
        if isinstance(module, str):
            return extensions.reduce(pickler, module, cls.__qualname__, cls)
    elif reduced[-1] is cp._class_setstate:
        hints.resolve(pickler, cls, reduced[2][0])
        return foreign.reduce(pickler, cls, reduced) or classes.reduce(pickler, cls, reduced)
    return reduced


def _reduce_cell(_: Writer, cell: types.CellType) -> Any:
    try:
        content = cell.cell_contents
    except ValueError:
        return types.CellType, ()
    # Filled later, when what it contains may refer to it.
    return types.CellType, (), (content,), None, None, frozen.fill_cell


def reduce_module(pickler: Writer, module: types.ModuleType) -> Any:
    """Reduce a module: to its name, or to what it contains."""
    name = module.__name__
    if type(name) is not str:
        raise pickle.PicklingError(
            "the __name__ of a module must be text, to be imported or made again"
        )
    if module is builtins:  # the first object in the namespace of a __main__
        pickler.meet(sys.modules["__main__"])
    # Another of its name may be imported here, if this one arrived by value.
    is_imported = sys.modules.get(name) is module and cp._should_pickle_by_reference(module)
    if is_imported and not modules.is_by_value(name):
        found = extensions.reduce(pickler, name)
        return (cp.subimport, (name,)) if found is NotImplemented else found
    if reference := beside.refer(pickler, module, ""):
        return reference
    if isinstance(pickler.globals_ref.get(id(module.__dict__)), dict):
        pickler.meet_whole(module)  # after some of its functions
    state = {key: value for key, value in module.__dict__.items() if key not in _OF_THE_LOADER}
    return frozen.last, (_share_namespace(pickler, module),), state, None, None, frozen.fill_module


def _share_namespace(pickler: Writer, module: types.ModuleType) -> _Bare:
    """Let functions of a module that travels by value find their globals in the one that arrives."""
    namespace = pickler.globals_ref.get(id(module.__dict__))
    if not isinstance(namespace, Namespace):
        namespace = Namespace(_Bare(module))
        pickler.globals_ref[id(module.__dict__)] = namespace
    bare: _Bare = namespace.module
    return bare


class _Bare:
    """Stands for a module that is made in the reader's process, and filled later or never."""

    def __init__(self, module: types.ModuleType) -> None:
        self.module = module


def _reduce_bare(_: Writer, bare: _Bare) -> Any:
    module = bare.module
    known = looking.attributes(module) or {}  # of a lazy one no more
    named = {name: known[name] for name in ("__package__", "__file__") if name in known}
    origin = modules.origin_of(module.__name__)
    return frozen.own_or_new_module, (
        origin and tuple(origin),
        frozen.new_module,
        module.__name__,
        named,
    )


def _reduce_cached(pickler: Writer, function: Any) -> Any:
    """Reduce a function with a cache (`functools.lru_cache`): by value without what is cached."""
    if typings.is_found(function):
        pickler.needs.add(function.__module__)
        return NotImplemented
    parameters = function.cache_parameters()
    arguments = (function.__wrapped__, parameters["maxsize"], parameters["typed"])
    if reference := beside.refer(pickler, function, function.__qualname__):
        return reference
    own = {k: v for k, v in vars(function).items() if k not in ("__wrapped__", "cache_parameters")}
    reduced = frozen.cached_function, arguments, own or None, None, None, frozen.set_state
    return beside.reduce(function, function.__qualname__, reduced)


def _reduce_cached_property(_: Writer, cached: Any) -> Any:
    # Before Python 3.12 there is a lock in it.
    return frozen.cached_property, (cached.func, cached.attrname)


def _reduce_dispatching(_: Writer, method: functools.singledispatchmethod[Any]) -> Any:
    # From Python 3.13 it has a cache, or lacks it.
    own = {name: value for name, value in vars(method).items() if name != "_method_cache"}
    return type(method), (method.func,), own


def _reduce_weak_keys(_: Writer, mapping: Any) -> Any:
    return type(mapping), (dict(mapping),)


def reduce_shell(_: Writer, __: Any) -> Any:
    """Reduce a notebook's shell: to that of whoever loads it."""
    return sys.modules["IPython"].get_ipython, ()


def _reduce_method(_: Writer, method: types.MethodType) -> Any:
    # What a cell's `get_ipython` is; where there is no shell, the function says so. A method may be of
    # anything that can be called, and have no name.
    name = looking.own_name(method.__func__)
    if name == "get_ipython" and REDUCERS.get(type(method.__self__)) is reduce_shell:
        return frozen.last, (sys.modules["IPython"].get_ipython,)
    return NotImplemented


def _reduce_file(_: Writer, file: io.TextIOWrapper) -> Any:
    if file.closed or file is sys.stdout or file is sys.stderr:
        return NotImplemented  # cloudpickle's word
    # cloudpickle would make a copy of what is in the file by now.
    raise TypeError("an open file")


REDUCERS: dict[type, Callable[[Writer, Any], Any]] = {
    np.ndarray: arrays.reduce_array,
    memoryview: arrays.reduce_memoryview,
    types.FunctionType: _reduce_function,
    types.CodeType: lambda _, code: reduce_code(code),
    types.CellType: _reduce_cell,
    types.MethodType: _reduce_method,
    types.ModuleType: reduce_module,
    typing.TypeVar: typings.reduce_typevar,
    typing.ForwardRef: typings.reduce_forward_reference,
    typing.NewType: typings.reduce_new_type,
    typing.ParamSpec: typings.reduce_parameters,
    typing.TypeVarTuple: typings.reduce_parameters,
    typing.ParamSpecArgs: typings.reduce_of_parameters,
    typing.ParamSpecKwargs: typings.reduce_of_parameters,
    **({typing.TypeAliasType: typings.reduce_alias} if hasattr(typing, "TypeAliasType") else {}),
    functools._lru_cache_wrapper: _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    functools.singledispatchmethod: _reduce_dispatching,
    **numeric.REDUCERS,
    weakref.WeakKeyDictionary: _reduce_weak_keys,
    weakref.WeakValueDictionary: _reduce_weak_keys,
    ModuleSpec: reduce_spec,
    _Bare: _reduce_bare,
    io.TextIOWrapper: _reduce_file,
    **dict.fromkeys(generated.SLOTTED, generated.reduce_slotted),
    **dict.fromkeys(generated.SENTINELS, generated.reduce_sentinel),
    Namespace: reduce_namespace,
    Prefixed: reduce_prefixed,
    EndOfPrefix: reduce_end,
}
