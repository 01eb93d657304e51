"""The Pickler: cloudpickle's, and what notebooks need besides.

Everything is decided in `reducer_override`. The C pickler calls it for everything but numbers,
texts and builtin containers; it would call ``persistent_id`` for every object.
"""

from __future__ import annotations

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

from ..errors import JshmError
from ..system import signals
from . import (
    arrays,
    class_reducers,
    classes,
    depth,
    foreign,
    functions,
    hints,
    instances,
    libraries,
    refusals,
    source,
    static,
    writer,
)
from .writer import EndOfPrefix, Namespace, NamespaceMet, Output, Prefixed, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Reducer = Callable[[Any, Any], Any]

# Functions that reduce to their names: the reader imports their modules.
_IN_C = frozenset({"builtin_function_or_method", "cython_function_or_method"})
# For instances of all classes of these packages.
_BY_PACKAGE: dict[str, Reducer] = {
    "numpy": arrays.reduce_other,
    "pyarrow": libraries.reduce_arrow,
    "torch": libraries.reduce_tensor,
}
REDUCERS: dict[type, Reducer] = {
    np.ndarray: arrays.reduce_array,
    memoryview: arrays.reduce_memoryview,
    **arrays.REDUCERS,
    types.FunctionType: functions.reduce_function,
    types.CodeType: functions.reduce_code,
    types.CellType: functions.reduce_cell,
    types.MethodType: functions.reduce_method,
    types.ModuleType: functions.reduce_module,
    functions.BareModule: functions.reduce_bare_module,
    functools._lru_cache_wrapper: functions.reduce_cached,
    functools.cached_property: functions.reduce_cached_property,
    functools.singledispatchmethod: functions.reduce_dispatching,
    io.TextIOWrapper: functions.reduce_file,
    typing.TypeVar: functions.reduce_type_variable,
    **hints.REDUCERS,
    **class_reducers.REDUCERS,
    weakref.WeakKeyDictionary: instances.reduce_weak_dictionary,
    weakref.WeakValueDictionary: instances.reduce_weak_dictionary,
    ModuleSpec: writer.reduce_spec,
    Namespace: writer.reduce_namespace,
    Prefixed: writer.reduce_prefixed,
    EndOfPrefix: writer.reduce_end,
}
"""By type; types of libraries are added when they are first met."""


class Pickler(Writer):
    """Write any object: functions and classes of a notebook, with arrays by reference.

    It is `cloudpickle.Pickler` at the same speed, and besides:

    - code carries its source, so that it is shown where it arrives, and compiled again by another
      version of Python;
    - arrays in a segment are written as references to it, all other large buffers go out-of-band if there
      is a `buffer_callback`;
    - closures that share a variable still share it where they arrive;
    - functions and classes of modules that other notebooks cannot import go by value
      (`jshm.pickle_by_value`, `jshm.pickle_by_reference`);
    - an object that cannot be written is refused with the path to it.

    Parameters
    ----------
    file : object with a method `write`
    protocol : int, optional
        By default 5, the first with out-of-band buffers.
    buffer_callback : callable, optional
        Called with each `pickle.PickleBuffer`; see `pickle.Pickler`.
    name : str
        What messages call the object; by default what it calls itself.
    notebook : str
        What people call this process: tracebacks through a function show it where the function arrives.
    publishes : bool
        Whether `buffer_callback` writes a segment, and knows `writer.bytes_of`.
    refer : callable, optional
        Called with an array in a segment; returns its reduction, or None: the array goes by value. By
        default it returns a reference into the store of this process.
    refers_to_any : bool
        Whether `refer` is asked about every array, and not only about those in a segment.

    Attributes
    ----------
    needs : set of str
        Names of the modules from which the reader will import.
    by_import : set of str
        Names of modules beside the notebook that hold what no pickle can: the reader imports them.
    """

    def dump(self, obj: Any) -> None:
        """Write an object.

        Raises
        ------
        NotShareableError
            A part of it cannot be written; the message says which, and where it is.
        """
        _know_loaded_libraries()
        chunks, memo, known = self._output.chunks, self.memo.copy(), self.globals_ref.copy()
        limit = depth.begin()
        try:
            self._dump(obj, memo, known)
            for chunk in chunks:
                self._file.write(chunk)
        except BaseException:
            # The next dump must not refer to what was not written.
            self.memo, self.globals_ref = memo, known
            raise
        finally:
            depth.end(limit)
            chunks.clear()
            self._namespaces.clear()
            self.whole.clear()
            self.judged = {}
            if self._buffers is not None:
                self._buffers.end()
            source.forget_trees()

    def _dump(self, obj: Any, memo: Any, known: dict[int, Any]) -> None:
        while True:
            try:
                prefixed = Prefixed(obj, self._namespaces.values())
                super().dump(prefixed if self._namespaces else obj)
            except NamespaceMet as met:
                module, key = met.module, id(met.module.__dict__)
                if met.whole:
                    self.whole[key] = module
                else:
                    self._namespaces[key] = Namespace(module)
            except (JshmError, MemoryError):
                raise
            except Exception as error:
                if self._is_trial or signals.has_raised(error):
                    raise
                # If a module beside the notebook holds a lock, say, the readers import the module instead.
                name = refusals.module_at_fault(self, obj, error)
                if not name:
                    raise refusals.explain(self, obj, error) from error
                self.by_import.add(name)
                module = sys.modules[name]
                self._namespaces[id(module.__dict__)] = Namespace(module)
            else:
                return
            self._output.chunks.clear()
            self.memo, self.globals_ref = memo, known.copy()
            if self._buffers is not None:
                self._buffers.begin_again()

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduction of an object; NotImplemented: as `pickle` and cloudpickle do it."""
        kind = type(obj)
        reduce = REDUCERS.get(kind)
        if reduce is not None:
            return reduce(self, obj)
        if issubclass(kind, type):
            return foreign.reduce_class(self, obj)
        if issubclass(kind, np.ndarray):
            return arrays.reduce_subclass(self, obj)
        if obj is sys.stdout or obj is sys.stderr:
            return getattr, (sys, "stdout" if obj is sys.stdout else "stderr")
        if issubclass(kind, types.ModuleType):
            return functions.reduce_module(self, obj)
        reduce = libraries.PANDAS_REDUCERS.get(static.name(kind))
        if reduce is not None and static.module(kind).startswith(libraries.PANDAS_INTERNALS):
            REDUCERS[kind] = reduce
            return reduce(self, obj)
        if static.name(kind) in _IN_C and type(obj.__module__) is str:
            return functions.reduce_named(self, obj.__module__, obj.__qualname__, obj)
        reduce = _BY_PACKAGE.get(static.root(kind))
        return instances.reduce(self, obj, kind) if reduce is None else reduce(self, obj)


def _know_loaded_libraries() -> None:
    """Add the reducers of IPython's shell and of Numba's functions, once these are imported."""
    shell = source.shell()
    if shell is not None:
        REDUCERS[type(shell)] = functions.reduce_shell
    numba = sys.modules.get("numba.core.serialize")
    if numba is not None:
        # Otherwise Numba pickles its functions separately, with captured arrays and without source.
        REDUCERS[numba._CustomPickled] = lambda _, pickled: pickled._reduce()


def dumps(
    obj: Any,
    protocol: int | None = None,
    buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
) -> bytes:
    """Return any object as bytes; see `Pickler`.

    An array in shared memory is written as a reference, which keeps nothing alive: loading it after its
    memory is gone is an error. (A published object keeps the memory that it refers to.)

    Raises
    ------
    NotShareableError
    """
    file = Output()
    Pickler(file, protocol, buffer_callback).dump(obj)
    return b"".join(file.chunks)


def loads(data: Any, *, buffers: Iterable[Any] | None = None) -> Any:
    """Return the object that `dumps` wrote. This runs code: load only what you or people you trust wrote.

    Parameters
    ----------
    data : bytes-like
    buffers : iterable of buffers, optional
        The buffers that `buffer_callback` was called with; arrays are views of them.

    Raises
    ------
    NotShareableError
        Another version of Python wrote a function whose source is not known.
    SegmentNotFoundError
        Shared memory that it refers to is gone.
    """
    token = classes.making.set(set())
    try:
        return pickle.loads(data, buffers=buffers)  # noqa: S301 - its purpose
    finally:
        classes.making.reset(token)
