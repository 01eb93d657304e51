"""What the reducers see of the Pickler that calls them, and how they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import types

    import numpy as np


class Writer(Protocol):
    """A pickler, while it writes.

    Attributes
    ----------
    name : str
        What messages call the object; '' where no name is known.
    refers_to_any : bool
        Whether `refer` is asked about every array, and not only about those in a segment.
    proto : int
    in_band : bool
        Whether large buffers become a part of the pickle.
    publishes : bool
        Whether what is written out-of-band becomes a segment.
    needs : set of str
        Names of the modules from which the reader will import.
    by_import : set of str
        Names of modules beside the notebook that hold what no pickle can: the reader imports them.
    memo : mapping
        Object id → index and object, as the C pickler has it.
    whole : dict
        Id of a module's namespace → the module, if it is written by value.
    judged : dict
        Object id → whether it can be written, of what only annotations name.
    globals_ref : dict
        cloudpickle's: id of a namespace → what stands for it.
    """

    name: str
    refers_to_any: bool
    proto: int
    in_band: bool
    publishes: bool
    needs: set[str]
    by_import: set[str]
    memo: Any
    globals_ref: dict[int, Any]
    dispatch_table: Any
    judged: dict[int, bool]
    whole: dict[int, types.ModuleType]

    def refer(self, array: np.ndarray[Any, Any], /) -> Any:
        """Return how an array in a segment is written; None: by value."""

    def can_write(self, obj: Any, /) -> bool:
        """Tell whether an object can be written, by writing it for nobody."""

    def meet(self, module: types.ModuleType) -> None:
        """Begin anew unless this module's namespace is known to be one."""

    def meet_whole(self, module: types.ModuleType) -> None:
        """Begin anew unless it is known that this module is written by value."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is written; NotImplemented: as `pickle` does."""

    def _function_getnewargs(self, func: types.FunctionType) -> tuple[Any, ...]: ...


class UnwritableError(TypeError):
    """An object cannot be written: why, and what to do instead.

    Attributes
    ----------
    way_out : str
        '' where there is no better advice than the usual one.
    """

    def __init__(self, why: str, way_out: str = "") -> None:
        super().__init__(why)
        self.way_out = way_out
