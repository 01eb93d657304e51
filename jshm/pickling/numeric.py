"""What NumPy's own reducers name by paths that another NumPy does not know: by public ones.

`numpy._core` of NumPy 2 is `numpy.core` in 1.26, and modules with an underscore may move with any release.
So scalars, generators and such are written with functions of this module, and classes and functions by the
path that users import them by.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..segment import copying
from . import frozen

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Collection

    from .writer import Writer

# Where users find what NumPy defines elsewhere, in 1.26 and 2; the first counts.
_PUBLIC = (
    "numpy.exceptions", "numpy", "numpy.ma", "numpy.random", "numpy.linalg", "numpy.fft",
    "numpy.polynomial", "numpy.dtypes", "numpy.testing",
)  # fmt: skip
# Where the flags of a dtype are in what NumPy reduces it to.
_FLAGS = 7
# Objects that there are once.
_ONCE = ("s_", "index_exp", "mgrid", "ogrid", "r_", "c_")


def reduce_named(pickler: Writer, module: str, obj: Any) -> Any:
    """Reduce a class or a function to its name; of NumPy, to one that all versions know."""
    top = module.partition(".")[0]
    if top == "jshm":
        return _reduce_own(obj)
    place = _place(module, obj) if top == "numpy" else None
    pickler.needs.add(module if place is None else place[0])
    return NotImplemented if place is None else (frozen.named, place)


def _reduce_own(obj: Any) -> Any:
    """Reduce a function or a class of jshm: by its public name, for modules may move."""
    public = sys.modules["jshm"]
    name = obj.__name__
    is_public = name in public.__all__ and getattr(public, name) is obj
    return (frozen.named, ("jshm", name)) if is_public else NotImplemented


def _place(module: str, obj: Any) -> tuple[str, str] | None:
    """Return the public module and the path of what NumPy defines; None: those that it says itself."""
    if obj is np.bool_:  # in 2 it calls itself `bool`, which is no name in 1.26
        return "numpy", "bool_"
    path = getattr(obj, "__qualname__", obj.__name__)
    for public in _PUBLIC:
        if public in sys.modules and _at(sys.modules[public], path) is obj:
            return None if public == module else (public, path)
    # `numpy.rec` and `numpy.char` are attributes in 1.26, and no modules.
    # What 2 has in `numpy.strings`, 1.26 has in `numpy.char`, as 2 has too.
    for within in ("char", module.partition(".")[2]):
        found = f"{within}.{path}"
        if "._" not in f".{found}" and _at(np, found) is obj:
            return "numpy", found
    return None


def _at(obj: Any, path: str) -> Any:
    for name in path.split("."):
        obj = vars(obj).get(name) if hasattr(obj, "__dict__") else None
    return obj


class Part:
    """A module within NumPy that a function may need: imported by who loads it, if it is there.

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return frozen.if_there, (self.name,)


def part_or_module(module: types.ModuleType) -> Part | types.ModuleType:
    """Return what to write of a module that a function may need.

    cloudpickle takes any module whose name occurs in the function: of `np.linalg.norm`, in NumPy 1.26, also
    `numpy.linalg.linalg`, which 2 does not have.
    """
    return Part(module.__name__) if module.__name__.startswith("numpy.") else module


def version(needs: Collection[str]) -> dict[str, str]:
    """Return NumPy's version if a pickle names anything below `numpy`, which others may not have."""
    return {"numpy": np.__version__} if any(n.startswith("numpy.") for n in needs) else {}


def _reduce_ufunc(pickler: Writer, ufunc: np.ufunc) -> Any:
    # It knows its name alone; `pickle` looks for its module, and so does this.
    name = ufunc.__name__
    if vars(np).get(name) is ufunc:
        return frozen.named, ("numpy", name)
    return reduce_named(pickler, pickle.whichmodule(ufunc, name), ufunc)  # type: ignore[attr-defined]


def _reduce_scalar(_: Writer, scalar: np.generic) -> Any:
    if isinstance(scalar, (str, bytes)):
        return type(scalar), (scalar[:],)
    array = np.asarray(scalar)
    if array.dtype.hasobject:
        return frozen.item, (array,)
    return frozen.scalar, (array.dtype, copying.packed(array, "C").tobytes())


def _reduce_info(_: Writer, info: Any) -> Any:
    return type(info), (np.dtype(info.dtype),)


def reduce_other(pickler: Writer, obj: Any) -> Any:
    """Reduce an instance of any other class of NumPy's."""
    kind = type(obj)
    if kind is type(np.sum):  # which NumPy lets other libraries take over
        return reduce_named(pickler, obj.__module__, obj)
    if issubclass(kind, np.dtype) and obj.isalignedstruct:
        return _reduce_aligned(obj)
    for name in _ONCE:
        if obj is vars(np)[name]:
            return frozen.named, ("numpy", name)
    if kind is getattr(getattr(np, "dtypes", None), "StringDType", None):
        return frozen.string_dtype, (
            obj.coerce,
            *([obj.na_object] if hasattr(obj, "na_object") else []),
        )
    random = sys.modules.get("numpy.random")
    if random is None or vars(random).get(kind.__name__) is not kind:
        return NotImplemented
    pickler.needs.add("numpy.random")
    if kind is random.Generator:
        return frozen.generator, (obj.bit_generator,)
    if kind is random.RandomState:
        return frozen.random_state, (obj._bit_generator, obj.get_state(legacy=False))
    if kind is random.SeedSequence:
        return frozen.seed_sequence, (obj.state,)
    if issubclass(kind, random.BitGenerator):
        seed = getattr(obj, "seed_seq", None)
        return frozen.bit_generator, (kind.__name__, seed, obj.state)
    return NotImplemented


def _reduce_aligned(dtype: np.dtype[Any]) -> Any:
    """Reduce an aligned structure as NumPy does, with flags that 1.26 and 2 both read.

    They are one byte, with a sign in 1.26 and without one in 2, and the flag for alignment is its first bit.
    """
    reduced: Any = dtype.__reduce__()
    _, arguments, state = reduced
    *before, flags = state[: _FLAGS + 1]
    return frozen.aligned_dtype, (arguments, (*before, flags % 256, *state[_FLAGS + 1 :]))


REDUCERS: dict[type, Callable[[Writer, Any], Any]] = {
    **dict.fromkeys([*set(np.sctypeDict.values()), np.record], _reduce_scalar),
    np.ufunc: _reduce_ufunc,
    np.finfo: _reduce_info,
    np.iinfo: _reduce_info,
}
