"""The state of a Pickler while it writes, for the reducers; and how they refuse an object."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from ..system import signals
from . import frozen

if TYPE_CHECKING:
    import pickle
    import types
    from collections.abc import Callable, Iterable
    from importlib.machinery import ModuleSpec

    Refer = Callable[[np.ndarray[Any, Any]], Any]

BUFFERS = 5
"""The first protocol with out-of-band buffers."""
# Bytes that `Writer.can_write` accepts.
_TRIAL_LIMIT = 1 << 20


class UnwritableError(TypeError):
    """An object cannot be written: why, and what to do instead.

    Attributes
    ----------
    way_out : str
        '' if the usual advice is the best.
    """

    def __init__(self, why: str, way_out: str = "") -> None:
        super().__init__(why)
        self.way_out = way_out


class Call:
    """Stands for the result of a call in the reader's process."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


class Output:
    """A file that keeps the chunks written to it, without a copy."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.write = self.chunks.append


class _Nowhere:
    """A file that keeps nothing, and raises OverflowError after a megabyte."""

    left = _TRIAL_LIMIT

    def write(self, data: Any) -> None:
        self.take(len(data))

    def take(self, nbytes: int) -> None:
        self.left -= nbytes
        if self.left < 0:
            raise OverflowError("it is too large")


class _Buffers:
    """A `buffer_callback` that asks the caller's once about each buffer, also if a dump begins again.

    A dump that begins again meets the same buffers in the same order.
    """

    def __init__(self, callback: Callable[[pickle.PickleBuffer], Any]) -> None:
        self._callback = callback
        self._answers: list[Any] = []
        self._again: list[Any] = []

    def begin_again(self) -> None:
        self._again = self._answers[::-1]

    def end(self) -> None:
        self._answers, self._again = [], []

    def __call__(self, buffer: pickle.PickleBuffer) -> Any:
        if self._again:
            return self._again.pop()
        answer = self._callback(buffer)
        self._answers.append(answer)
        return answer


class Scattered(np.ndarray[Any, Any]):
    """An empty buffer that stands for an array whose bytes are not in the order in which they are written.

    A pickler takes only a `PickleBuffer` out-of-band, and a copy of the whole array would take memory.
    """

    source: np.ndarray[Any, Any]


def bytes_of(buffer: pickle.PickleBuffer) -> memoryview | np.ndarray[Any, Any]:
    """Return the memory of a buffer; or the array that it stands for, to be written in C order."""
    memory = buffer.raw()
    return memory.obj.source if isinstance(memory.obj, Scattered) else memory


class Writer(cloudpickle.Pickler):  # type: ignore[misc] # it has no types
    """What the reducers know of the Pickler that calls them; see `Pickler` for the parameters.

    Attributes
    ----------
    name : str
        What messages call the object; '' if no name is known.
    notebook : str
        What people call this process; '' if it is not to be told.
    publishes : bool
        Whether out-of-band buffers become a part of a segment.
    refers_to_any : bool
        Whether `refer` is asked about every array, and not only about those in a segment.
    in_band : bool
        Whether large buffers become a part of the pickle.
    needs : set of str
        Names of the modules from which the reader will import.
    by_import : set of str
        Names of modules beside the notebook that hold what no pickle can: the reader imports them.
    whole : dict
        Id of a module's namespace → the module, if it is written by value.
    judged : dict
        Object id → whether it can be written, for objects that only annotations name.
    """

    proto: int
    memo: Any
    globals_ref: dict[int, Any]

    def __init__(
        self,
        file: Any,
        protocol: int | None = None,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        *,
        name: str = "",
        notebook: str = "",
        publishes: bool = False,
        refer: Refer | None = None,
        refers_to_any: bool = False,
    ) -> None:
        if not callable(getattr(file, "write", None)):
            raise TypeError(f"file must have a method 'write'; a {type(file).__name__} has none")
        self._file = file
        # A dump may have to begin again, so the file gets it when it is complete.
        self._output = Output()
        self._buffers = None if buffer_callback is None else _Buffers(buffer_callback)
        super().__init__(self._output, protocol, self._buffers)
        self.name = name
        self.notebook = notebook
        self.publishes = publishes
        self.in_band = buffer_callback is None
        self._refer = refer
        self.refers_to_any = refers_to_any
        self.needs: set[str] = set()
        self.by_import: set[str] = set()
        self.whole: dict[int, types.ModuleType] = {}
        self.judged: dict[int, bool] = {}
        self._is_trial = False
        # Id of a module's namespace → the object that stands for it.
        self._namespaces: dict[int, Namespace] = {}

    def refer(self, array: np.ndarray[Any, Any]) -> Any:
        """Return the reduction of an array in a segment; None: it goes by value."""
        refer = self._refer or frozen.process_resolver().refer
        return refer(array)

    def can_write(self, obj: Any) -> bool:
        """Return whether an object can be written and is small, by writing it to nowhere."""
        nowhere = _Nowhere()
        take = (
            (lambda buffer: nowhere.take(bytes_of(buffer).nbytes))
            if self.proto >= BUFFERS
            else None
        )
        trial = type(self)(nowhere, self.proto, take)
        # As for a segment: no array is copied.
        trial.judged, trial.notebook = self.judged, self.notebook
        trial._is_trial = trial.publishes = True
        try:
            trial.dump(obj)
        except MemoryError:
            raise
        except Exception as error:
            if signals.has_raised(error):
                raise
            return False  # a reducer may raise anything
        return True

    def meet(self, module: types.ModuleType) -> None:
        """Begin again unless this module's namespace is known already: it may be what is being written."""
        if id(module.__dict__) not in self._namespaces:
            raise NamespaceMet(module, whole=False)

    def meet_whole(self, module: types.ModuleType) -> None:
        """Begin again unless it is known already that this module is written by value."""
        if id(module.__dict__) not in self.whole:
            raise NamespaceMet(module, whole=True)


# -- namespaces of modules, which go by reference -----------------------------------------------------


class NamespaceMet(BaseException):
    """The dump must begin again, with this module known from the beginning.

    Attributes
    ----------
    module : module
    whole : bool
        True: the module travels by value, and some of its functions were written before it. False: the
        dict that is being written may be the module's namespace.
    """

    def __init__(self, module: types.ModuleType, *, whole: bool) -> None:
        self.module = module
        self.whole = whole


class Namespace:
    """Stands for the namespace of a module, or of an object in its place, in the reader's process."""

    def __init__(self, module: Any) -> None:
        self.module = module


class Prefixed:
    """An object, and before it the namespaces that it refers to.

    The C pickler calls no reducer for a dict. But it writes a reference for every object in its memo. So
    the namespaces are written first, and then the memo says that they are those dicts.
    """

    def __init__(self, obj: Any, namespaces: Iterable[Namespace]) -> None:
        self.obj = obj
        self.namespaces = tuple(namespaces)


class EndOfPrefix:
    """Comes after the namespaces and before the object."""

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
        # Replaced, not added: the memo's size is the reader's next index.
        memo[id(dict_)] = (memo.pop(id(namespace))[0], dict_)
    pickler.memo = memo
    return tuple, ()


def reduce_spec(pickler: Writer, spec: ModuleSpec) -> Any:
    """Reduce a module's spec by reference; the module's namespace may be what is being written."""
    module = sys.modules.get(spec.name)
    if module is None or getattr(module, "__spec__", None) is not spec:
        return NotImplemented
    pickler.meet(module)
    return getattr, (module, "__spec__")
