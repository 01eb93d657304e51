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
from . import arrays, sources
from .namespaces import Namespace, NamespaceMet, Prefixed
from .reducers import REDUCERS, reduce_class, reduce_module, reduce_shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class _Output:
    """A file that keeps what is written, and copies nothing."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.write = self.chunks.append


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

    Attributes
    ----------
    needs : set of str
        Names of the modules from which the reader will import.
    """

    memo: Any
    globals_ref: dict[int, Any]
    name = ""
    """What messages call the object; by default what it calls itself."""

    refer: Callable[[np.ndarray[Any, Any]], Any] = staticmethod(lambda _: None)
    """How an array in a segment is written; None: by value. The store knows, and says it here."""

    def __init__(
        self,
        file: Any,
        protocol: int | None = None,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
    ) -> None:
        self._file = file
        # A dump may have to begin anew, so it is written when it is complete.
        self._output = _Output()
        super().__init__(self._output, protocol, buffer_callback)
        self.needs: set[str] = set()
        # Namespace's id → what stands for it.
        self._namespaces: dict[int, Namespace] = {}
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is not None:
            REDUCERS[type(shell)] = reduce_shell

    def dump(self, obj: Any) -> None:
        """Write an object.

        Raises
        ------
        NotShareableError
            Something in it cannot be written; says what, and where it is.
        """
        chunks, memo = self._output.chunks, self.memo.copy()
        try:
            while True:
                try:
                    prefixed = Prefixed(obj, self._namespaces.values())
                    super().dump(prefixed if self._namespaces else obj)
                    break
                except NamespaceMet as met:
                    self._namespaces[id(met.module.__dict__)] = Namespace(met.module)
                    chunks.clear()
                    self.memo = memo
                    self.globals_ref = {}
            for chunk in chunks:
                self._file.write(chunk)
        except (JshmError, MemoryError):
            raise
        except Exception as error:
            from . import refusals

            raise refusals.explain(self, obj, error) from error
        finally:
            chunks.clear()
            self._namespaces.clear()
            sources.forget_trees()

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
        return NotImplemented

    def meet(self, module: types.ModuleType) -> None:
        """Begin anew unless this module's namespace is known to be one: it may be what is written."""
        if id(module.__dict__) not in self._namespaces:
            raise NamespaceMet(module)


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
    file = _Output()
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
    return pickle.loads(data, buffers=buffers)  # noqa: S301 - what it is for
