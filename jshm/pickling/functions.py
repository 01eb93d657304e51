"""Reducers of functions and modules, and of what belongs to them: cells, methods, caches, open files."""

from __future__ import annotations

import builtins
import functools
import importlib.util
import io
import os
import pickle
import sys
import types
import typing
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from . import arrays, code, frozen, hints, modules, source, static
from .definitions import definition_of, module_of
from .modules import Origin
from .writer import Call, Namespace

if TYPE_CHECKING:
    from .writer import Writer

# The reader's Python sets these of a module itself.
_OF_THE_LOADER = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__", "__name__"})


def reduce_function(pickler: Writer, function: types.FunctionType) -> Any:
    """Reduce a function, by value or by reference."""
    module = function.__module__
    if modules.is_by_reference(function):
        return reduce_named(pickler, module, function.__qualname__, function)
    if pickler.whole and id(function.__globals__) in pickler.whole:
        _share_namespace(pickler, pickler.whole[id(function.__globals__)])
    if function.__code__.co_name == "_modified_open" and function.__name__ == "open":
        return frozen.last, (io.open,)  # IPython's `open` of a notebook
    if reference := reduce_to_import(pickler, function, function.__qualname__):
        return reference
    code_, namespace, name, defaults, _ = pickler._function_getnewargs(function)
    state, slots = cp._function_getstate(function)
    slots["__module__"] = module_of(function) or module
    if isinstance(namespace, dict) and namespace.get("__name__") == "__mp_main__":
        namespace["__name__"] = "__main__"
    for word in code.class_globals(code_):
        if word in function.__globals__:
            slots["__globals__"][word] = function.__globals__[word]
    submodules = map(arrays.submodule, slots["_cloudpickle_submodules"])
    # The reader loads these and forgets them.
    slots["_cloudpickle_submodules"] = [*submodules, *places_of_imports(function)]
    hints.complete(pickler, function, slots["__globals__"])
    if parameters := getattr(function, "__type_params__", ()):
        slots["__type_params__"] = parameters
    # The very cells, not cells of the same content: other functions may share them.
    slots["__closure__"] = None
    arguments = (code_, namespace, name, defaults, function.__closure__)
    reduced = cp._make_function, arguments, (state, slots), None, None, cp._function_setstate
    return reduce_own_or_new(function, function.__qualname__, reduced)


def reduce_code(pickler: Writer, obj: types.CodeType) -> Any:
    """Reduce a code object, with its source if that is known."""
    if obj in code.generated:
        return frozen.generated_code, code.generated_arguments(obj)
    return frozen.code, code.arguments(obj, pickler.notebook)


def reduce_cell(_: Writer, cell: types.CellType) -> Any:
    """Reduce a closure's cell; its content may refer to it, so it is filled afterwards."""
    try:
        content = cell.cell_contents
    except ValueError:
        return types.CellType, ()
    return types.CellType, (), (content,), None, None, frozen.fill_cell


def reduce_method(_: Writer, method: types.MethodType) -> Any:
    """Reduce a method: of a notebook's shell, to the function that finds the reader's shell."""
    # `get_ipython` of a cell. A method may be of anything that can be called, and have no name.
    if static.own_name(method.__func__) == "get_ipython" and type(method.__self__) is type(
        source.shell()
    ):
        return frozen.last, (sys.modules["IPython"].get_ipython,)
    return NotImplemented


def reduce_shell(_: Writer, __: Any) -> Any:
    """Reduce a notebook's shell to the reader's."""
    return sys.modules["IPython"].get_ipython, ()


def reduce_cached(pickler: Writer, function: Any) -> Any:
    """Reduce a function with a cache (`functools.lru_cache`): by value, with an empty cache."""
    if hints.is_found(function):
        pickler.needs.add(function.__module__)
        return NotImplemented
    parameters = function.cache_parameters()
    arguments = (function.__wrapped__, parameters["maxsize"], parameters["typed"])
    if reference := reduce_to_import(pickler, function, function.__qualname__):
        return reference
    own = {k: v for k, v in vars(function).items() if k not in ("__wrapped__", "cache_parameters")}
    reduced = frozen.cached_function, arguments, own or None, None, None, frozen.set_state
    return reduce_own_or_new(function, function.__qualname__, reduced)


def reduce_cached_property(_: Writer, cached: Any) -> Any:
    """Reduce a cached property without its lock, which it has before Python 3.12."""
    return frozen.cached_property, (cached.func, cached.attrname)


def reduce_dispatching(_: Writer, method: functools.singledispatchmethod[Any]) -> Any:
    """Reduce a dispatching method without its cache, which not all versions have."""
    own = {name: value for name, value in vars(method).items() if name != "_method_cache"}
    return type(method), (method.func,), own


def reduce_file(_: Writer, file: io.TextIOWrapper) -> Any:
    """Refuse an open file; cloudpickle would copy its present content."""
    if file.closed or file is sys.stdout or file is sys.stderr:
        return NotImplemented  # cloudpickle's message
    raise TypeError("an open file")


def reduce_type_variable(_: Writer, typevar: typing.TypeVar) -> Any:
    """Reduce a type variable by value, if it is of a module that is; else as cloudpickle does."""
    module = module_of(typevar)
    if module != "__main__" and not modules.is_by_value(module):
        return NotImplemented
    reduced = frozen.type_variable, (module, *cp._decompose_typevar(typevar))
    return reduce_own_or_new(typevar, typevar.__name__, reduced)


# -- modules ---------------------------------------------------------------------------------------


class BareModule:
    """Stands for a module that is made in the reader's process, and filled later or never."""

    def __init__(self, module: types.ModuleType) -> None:
        self.module = module


def reduce_module(pickler: Writer, module: types.ModuleType) -> Any:
    """Reduce a module: to its name, or to what it contains."""
    name = module.__name__
    if type(name) is not str:
        raise pickle.PicklingError(
            "the __name__ of a module must be text, to be imported or made again"
        )
    if module is builtins:  # the first object in the namespace of a __main__
        pickler.meet(sys.modules["__main__"])
    # If this one arrived by value, another of its name may be imported here.
    is_imported = sys.modules.get(name) is module and cp._should_pickle_by_reference(module)
    if is_imported and not modules.is_by_value(name):
        found = reduce_named(pickler, name)
        return (cp.subimport, (name,)) if found is NotImplemented else found
    if reference := reduce_to_import(pickler, module, ""):
        return reference
    if isinstance(pickler.globals_ref.get(id(module.__dict__)), dict):
        pickler.meet_whole(module)  # some of its functions were written before
    state = {key: value for key, value in module.__dict__.items() if key not in _OF_THE_LOADER}
    bare = _share_namespace(pickler, module)
    return frozen.last, (bare,), state, None, None, frozen.fill_module


def _share_namespace(pickler: Writer, module: types.ModuleType) -> BareModule:
    """Make functions of a module that travels by value use the module that arrives as their globals."""
    namespace = pickler.globals_ref.get(id(module.__dict__))
    if not isinstance(namespace, Namespace):
        namespace = Namespace(BareModule(module))
        pickler.globals_ref[id(module.__dict__)] = namespace
    bare: BareModule = namespace.module
    return bare


def reduce_bare_module(_: Writer, bare: BareModule) -> Any:
    """Reduce to the reader's own module, if its file is the same, or a new one."""
    module = bare.module
    known = static.attributes(module) or {}  # a lazy module has no more
    named = {name: known[name] for name in ("__package__", "__file__") if name in known}
    origin = modules.origin_of(module.__name__)
    arguments = (origin and tuple(origin), frozen.new_module, module.__name__, named)
    return frozen.own_or_new_module, arguments


# -- objects with a name in a module -----------------------------------------------------------------


def reduce_named(pickler: Writer, module: str, qualname: str = "", obj: Any = None) -> Any:
    """Reduce an object to its name in a module; the module itself, if no `qualname` is given.

    NotImplemented if a plain import finds it: then the module is one that the reader needs.

    Parameters
    ----------
    pickler : Writer
    module : str
    qualname : str
    obj : object, optional
        The object of that name.
    """
    file = modules.file_of_compiled(module)
    if file:
        return frozen.compiled, (module, file, qualname)
    if obj is not None:
        return arrays.reduce_named(pickler, module, obj)
    pickler.needs.add(module)
    return NotImplemented


def reduce_own_or_new(obj: Any, qualname: str, reduced: Any) -> Any:
    """Return a reduction to the reader's own object, if the module there is the same; else `reduced`.

    A cached function of a notebook is the reader's own, with the reader's cache, if it is defined the same.

    Parameters
    ----------
    obj : function, cached function or type variable
    qualname : str
    reduced : tuple
        How it is made anew.
    """
    name = module_of(obj)
    is_cached = type(obj) is functools._lru_cache_wrapper
    origin = Origin(name, "", "") if name == "__main__" and is_cached else modules.origin_of(name)
    is_method = "." in qualname  # it belongs to its class
    if not origin or is_method or modules.lookup(sys.modules.get(name), qualname) is not obj:
        return reduced
    make, arguments, *rest = reduced
    text = definition_of(obj).to_json() if rest else ""
    found = (tuple(origin), "".join(qualname), text, make, arguments)
    if not rest:
        return frozen.own_or_new, found
    fill = frozen.fill_cached_function if is_cached else frozen.fill_function
    return frozen.own_or_new, found, rest[0], None, None, fill


def reduce_to_import(pickler: Writer, obj: Any, qualname: str) -> Any:
    """Return a reduction to a name, in a module that holds what no pickle can; None: by value.

    The reader imports the module, also from the directory that it was found in.
    """
    name = obj.__name__ if isinstance(obj, types.ModuleType) else obj.__module__
    if name not in pickler.by_import:
        return None
    origin = modules.origin_of(name)
    is_found = not qualname or modules.lookup(sys.modules.get(name), qualname) is obj
    return (frozen.imported, (tuple(origin), "".join(qualname))) if origin and is_found else None


# -- modules imported by calls -----------------------------------------------------------------------


def places_of_imports(function: types.FunctionType) -> list[Call]:
    """Return calls that tell the reader where the modules are that a function imports when it is called."""
    imported = code.imported_by(function.__code__)
    if not imported:
        return []
    package = str(function.__globals__.get("__package__") or "")
    names = {(package if level else name).partition(".")[0] for name, level in imported}
    found = [_place(name) for name in sorted(names - {""})]
    return [Call(frozen.remember_place, *place) for place in found if place is not None]


def _place(name: str) -> tuple[str, str, str] | None:
    """Return a top-level module's name, directory and file; None if others can import it."""
    if modules.is_everywhere(name):
        return None
    if name in sys.modules:
        if not modules.is_by_value(name) and not modules.file_of_compiled(name):
            return None
        spec = getattr(sys.modules[name], "__spec__", None)
    else:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
    if not isinstance(spec, ModuleSpec) or not _is_beside_notebook(spec):
        return None
    file = spec.origin or ""
    within = [*(spec.submodule_search_locations or ())]
    root = os.path.dirname(within[0] if within else file)
    return name, os.path.abspath(root), os.path.abspath(file) if file else ""


def _is_beside_notebook(spec: ModuleSpec) -> bool:
    """Return whether a module, imported or not, is in a place that other notebooks do not search."""
    places = [spec.origin] if spec.has_location and spec.origin else spec.submodule_search_locations
    found = [os.path.realpath(place) for place in places or ()]
    return bool(found) and not all(modules.is_installed(spec.name, place) for place in found)
