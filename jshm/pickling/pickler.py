"""The Pickler: cloudpickle's, with what notebooks need besides.

Everything is decided in `reducer_override`, which the C pickler calls for all that is not a number, a
text or a builtin container; ``persistent_id`` would be called for every object.
"""

from __future__ import annotations

import pickle
import sys
import types
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from ..errors import JshmError
from ..system import signals as interrupts
from . import (
    arrays,
    classes,
    depth,
    extensions,
    frozen,
    instances,
    numeric,
    slices,
    sources,
    tables,
)
from . import static as looking
from .namespaces import Namespace, NamespaceMet, Prefixed
from .reducers import REDUCERS, reduce_class, reduce_module, reduce_shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


# The first protocol that knows buffers.
_OUT_OF_BAND = 5
# Functions that reduce to their names, with which the reader imports their modules.
_IN_C = frozenset({"builtin_function_or_method", "cython_function_or_method"})
# For instances of all classes of these packages.
LIBRARIES: dict[str, Callable[[Any, Any], Any]] = {
    "numpy": numeric.reduce_other,
    "pyarrow": slices.reduce_arrow,
    "torch": slices.reduce_tensor,
}


class Output:
    """A file that keeps what is written, and copies nothing."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.write = self.chunks.append


class _Nowhere:
    """A file that keeps nothing, and refuses more than a megabyte."""

    left = 1 << 20

    def write(self, data: Any) -> None:
        self.take(len(data))

    def take(self, nbytes: int) -> None:
        self.left -= nbytes
        if self.left < 0:
            raise OverflowError("it is too large")


class _Buffers:
    """A `buffer_callback` that is asked once about each buffer, also if a dump begins anew.

    Then the same buffers come in the same order.
    """

    def __init__(self, callback: Callable[[pickle.PickleBuffer], Any]) -> None:
        self._callback = callback
        self._asked: list[Any] = []
        self._again: list[Any] = []

    def begin_anew(self) -> None:
        self._again = self._asked[::-1]

    def end(self) -> None:
        self._asked, self._again = [], []

    def __call__(self, buffer: pickle.PickleBuffer) -> Any:
        if self._again:
            return self._again.pop()
        answer = self._callback(buffer)
        self._asked.append(answer)
        return answer


class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # it has no types
    """Write any object: functions and classes of a notebook, with arrays by reference.

    It is `cloudpickle.Pickler` at the same speed, and besides:

    - code carries its source, so that it is shown where it arrives, and compiled again where another
      version of Python reads it;
    - arrays that are in a segment are written as references to it, all other large buffers go
      out-of-band where there is a `buffer_callback`;
    - closures that share a variable go on sharing it;
    - functions and classes of modules that other notebooks cannot import go by value
      (`jshm.pickle_by_value`, `jshm.pickle_by_reference`);
    - what cannot be written is refused with the path to it.

    Parameters
    ----------
    file : object with a method `write`
    protocol : int, optional
        By default 5, the first that knows out-of-band buffers.
    buffer_callback : callable, optional
        Called with each `pickle.PickleBuffer`; see `pickle.Pickler`.
    name : str
        What messages call the object; by default what it calls itself.
    publishes : bool
        Whether `buffer_callback` writes a segment, and knows `arrays.bytes_of`.
    refer : callable, optional
        Called with an array in a segment; returns its reduction, or None: it goes by value. By default
        it is a reference into the store of this process.
    refers_to_any : bool
        Whether `refer` is asked about every array, and not only about those in a segment.

    Attributes
    ----------
    needs : set of str
        Names of the modules from which the reader will import.
    by_import : set of str
        Names of modules beside the notebook that hold what no pickle can: the reader imports them.
    """

    memo: Any
    globals_ref: dict[int, Any]
    _is_trial = False

    def __init__(
        self,
        file: Any,
        protocol: int | None = None,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        *,
        name: str = "",
        publishes: bool = False,
        refer: Callable[[np.ndarray[Any, Any]], Any] | None = None,
        refers_to_any: bool = False,
    ) -> None:
        if not callable(getattr(file, "write", None)):
            raise TypeError(f"file must have a method 'write'; a {type(file).__name__} has none")
        self._file = file
        # A dump may have to begin anew, so it is written when it is complete.
        self._output = Output()
        self.in_band = buffer_callback is None
        self._buffers = None if buffer_callback is None else _Buffers(buffer_callback)
        super().__init__(self._output, protocol, self._buffers)
        self.name = name
        self.publishes = publishes
        self._refer = refer
        self.refers_to_any = refers_to_any
        self.needs: set[str] = set()
        self.by_import: set[str] = set()
        # Namespace's id → what stands for it.
        self._namespaces: dict[int, Namespace] = {}
        self.whole: dict[int, types.ModuleType] = {}
        self.judged: dict[int, bool] = {}
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is not None:
            REDUCERS[type(shell)] = reduce_shell
        numba = sys.modules.get("numba.core.serialize")
        if numba is not None:
            # Else Numba pickles its functions apart, with captured arrays and without source.
            REDUCERS[numba._CustomPickled] = lambda _, pickled: pickled._reduce()

    def dump(self, obj: Any) -> None:
        """Write an object.

        Raises
        ------
        NotShareableError
            Something in it cannot be written; says what, and where it is.
        """
        chunks, memo, known = self._output.chunks, self.memo.copy(), self.globals_ref.copy()
        limit = depth.begin()
        try:
            self._dump(obj, memo, known)
            for chunk in chunks:
                self._file.write(chunk)
        except BaseException:
            # What was not written must not be referred to by the next dump.
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
            sources.forget_trees()

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
                if self._is_trial or interrupts.has_raised(error):
                    raise
                from . import refusals

                # Where a module beside the notebook has a lock, say, it is enough that others import it.
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
                self._buffers.begin_anew()

    def can_write(self, obj: Any) -> bool:
        """Tell whether an object can be written, and is small, by writing it for nobody."""
        nowhere = _Nowhere()
        take = (
            (lambda buffer: nowhere.take(arrays.bytes_of(buffer).nbytes))
            if self.proto >= _OUT_OF_BAND
            else None
        )
        trial = type(self)(nowhere, self.proto, take)
        # As for a segment: of no array a copy is made.
        trial.judged, trial._is_trial, trial.publishes = self.judged, True, True
        try:
            trial.dump(obj)
        except MemoryError:
            raise
        except Exception as error:
            if interrupts.has_raised(error):
                raise
            return False  # whatever a reducer raises
        return True

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        reduce = REDUCERS.get(kind)
        if reduce is not None:
            return reduce(self, obj)
        if issubclass(kind, type):
            return reduce_class(self, obj)
        if issubclass(kind, np.ndarray):
            return arrays.reduce_subclass(self, obj)
        if obj is sys.stdout or obj is sys.stderr:
            return getattr, (sys, "stdout" if obj is sys.stdout else "stderr")
        if issubclass(kind, types.ModuleType):
            return reduce_module(self, obj)
        reduce = tables.REDUCERS.get(looking.name(kind))
        if reduce is not None and looking.module(kind).startswith(tables.PACKAGE):
            REDUCERS[kind] = reduce
            return reduce(self, obj)
        if looking.name(kind) in _IN_C and type(obj.__module__) is str:
            return extensions.reduce(self, obj.__module__, obj.__qualname__, obj)
        reduce = LIBRARIES.get(looking.root(kind))
        return instances.reduce(self, obj, kind) if reduce is None else reduce(self, obj)

    def refer(self, array: np.ndarray[Any, Any]) -> Any:
        """Return the reduction of an array in a segment; None: it goes by value."""
        refer = self._refer or frozen.process_resolver().refer
        return refer(array)

    def meet(self, module: types.ModuleType) -> None:
        """Begin anew unless this module's namespace is known to be one: it may be what is written."""
        if id(module.__dict__) not in self._namespaces:
            raise NamespaceMet(module, whole=False)

    def meet_whole(self, module: types.ModuleType) -> None:
        """Begin anew unless it is known that this module is written by value."""
        if id(module.__dict__) not in self.whole:
            raise NamespaceMet(module, whole=True)


def dumps(
    obj: Any,
    protocol: int | None = None,
    buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
) -> bytes:
    """Return any object as bytes; see `Pickler`.

    An array that is in shared memory is written as a reference, which keeps nothing alive: to load it
    after its memory is gone is an error. What is published keeps what it refers to.

    Raises
    ------
    NotShareableError
    """
    file = Output()
    Pickler(file, protocol, buffer_callback).dump(obj)
    return b"".join(file.chunks)


def loads(data: Any, *, buffers: Iterable[Any] | None = None) -> Any:
    """Return the object that `dumps` wrote. Runs code: load only what you, or who you trust, wrote.

    Parameters
    ----------
    data : bytes-like
    buffers : iterable of buffers, optional
        What a `buffer_callback` was called with; arrays are views of them.

    Raises
    ------
    NotShareableError
        Another version of Python wrote a function whose source is not known.
    SegmentNotFoundError
        Shared memory that it refers to is gone.
    """
    token = classes.making.set(set())
    try:
        return pickle.loads(data, buffers=buffers)  # noqa: S301 - what it is for
    finally:
        classes.making.reset(token)
