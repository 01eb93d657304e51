"""Reducers for ctypes: libraries by name, types by declaration, data by value; addresses are refused.

The reader loads a library again, and gives its functions the types that they have here. ctypes itself
makes types again, and keeps one of each kind: so ``c_double * 3`` is the reader's own.
"""

from __future__ import annotations

import _ctypes
import ctypes
import operator
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from . import class_reducers, frozen
from .writer import UnwritableError

if TYPE_CHECKING:
    from .writer import Writer

_DATA: type = ctypes._SimpleCData.__base__  # type: ignore[assignment]
_POINTER, _FUNCTION = _ctypes._Pointer, _ctypes.CFuncPtr
KINDS = (_DATA, ctypes.CDLL, ctypes.LibraryLoader, type(ctypes.byref(ctypes.c_int())))
"""Types whose instances `reduce` takes."""
# Attributes that a type needs when it is made; all others may be set later.
_DECLARED = frozenset(
    {
        "_type_", "_length_", "_flags_", "_restype_", "_argtypes_",
        "_pack_", "_align_", "_layout_", "_anonymous_", "_swappedbytes_",
    }
)  # fmt: skip
# Attributes that ctypes sets itself.
_ADDED = frozenset({"_fields_", "__ctype_be__", "__ctype_le__", "__pointer_type__"})
_OF_A_LIBRARY = frozenset({"_name", "_handle", "_FuncPtr"})


class _Sample(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int),)


_FIELD = type(_Sample.x)


# -- data ------------------------------------------------------------------------------------------


def reduce(pickler: Writer, obj: Any) -> Any:
    """Reduce data, a library, or a function of one.

    Raises
    ------
    UnwritableError
        It is an address in this process, or contains one.
    """
    if isinstance(obj, ctypes.CDLL):
        return _reduce_library(obj)
    if isinstance(obj, ctypes.LibraryLoader):
        found = [name for name in ("cdll", "pydll") if getattr(ctypes, name) is obj]
        return (getattr, (ctypes, found[0])) if found else NotImplemented
    if isinstance(obj, _FUNCTION):
        return _reduce_function(obj)
    if isinstance(obj, _POINTER) and not obj:
        return frozen.ctypes_value, (type(obj),), vars(obj) or None
    if isinstance(obj, _DATA) and not isinstance(obj, _POINTER):
        if isinstance(obj, ctypes.c_void_p) and not obj:
            return frozen.ctypes_value, (type(obj),), vars(obj) or None
        if isinstance(obj, ctypes.c_char_p | ctypes.c_wchar_p):
            return frozen.ctypes_value, (type(obj), obj.value), vars(obj) or None
        if isinstance(obj, ctypes.py_object):
            return frozen.ctypes_value, (type(obj), *_content_of(obj)), vars(obj) or None
        try:
            return obj.__reduce_ex__(pickler.proto)
        except ValueError:  # ctypes: objects that contain pointers
            pass
    raise UnwritableError(
        "it contains an address, which means nothing in another process",
        "share what is at the address (for a pointer p, p.contents), and make the pointer where it is used",
    )


def _content_of(obj: Any) -> tuple[Any, ...]:
    try:
        return (obj.value,)
    except ValueError:  # NULL
        return ()


# -- libraries -------------------------------------------------------------------------------------


def _reduce_library(library: Any) -> Any:
    if library is ctypes.pythonapi:
        return getattr, (ctypes, "pythonapi")
    own = {name: value for name, value in vars(library).items() if name not in _OF_A_LIBRARY}
    arguments = (type(library), _name_of(library), library._FuncPtr._flags_)
    return frozen.library, arguments, own or None, None, None, frozen.set_state


def _name_of(library: Any) -> str | None:
    """Return the name that a library can be loaded by, in any directory.

    Raises
    ------
    UnwritableError
        What that name loads now is something else.
    """
    name = library._name
    if name is not None and os.sep in name:
        name = os.path.abspath(name)
    try:
        handle = _ctypes.dlopen(name, os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        handle = 0
    else:
        _ctypes.dlclose(handle)
    if handle != library._handle or (name is not None and _is_replaced(name)):
        raise UnwritableError(
            f"what is loaded is not what the name {library._name!r} stands for now (another file, "
            "another directory, or a library of a handle)",
            "load it by its full path with ctypes.CDLL, or load it where it is used",
        )
    return name  # type: ignore[no-any-return]


def _is_replaced(name: str) -> bool:
    """Return whether a library's file was removed or replaced since it was loaded."""
    try:
        with open("/proc/self/maps") as maps:
            return f"{os.path.realpath(name)} (deleted)" in maps.read()
    except OSError:
        return False


def _reduce_function(function: Any) -> Any:
    for key in ("memmove", "memset"):
        if function is getattr(ctypes, key):
            return getattr, (ctypes, key)
    kept = function._objects
    library = kept.get("0") if isinstance(kept, dict) else None
    name = getattr(function, "__name__", None)
    if (
        not isinstance(library, ctypes.CDLL)
        or type(function) is not library._FuncPtr
        or not isinstance(name, str)
    ):
        raise UnwritableError(
            "it is the address of a function in this process",
            "make it where it is used: share the Python function and the type, or the library and use "
            "its function by name (lib.f, with argtypes and restype)",
        )
    declared = {key: value for key, value in vars(function).items() if key != "__name__"}
    if function.restype is not type(function)._restype_:
        declared["restype"] = function.restype
    if function.argtypes is not None:
        declared["argtypes"] = function.argtypes
    if function.errcheck is not None:
        declared["errcheck"] = function.errcheck
    # Not of `pythonapi`, whose functions the whole process of the reader uses.
    is_its_own = vars(library).get(name) is function and library is not ctypes.pythonapi
    found = (library, name, is_its_own)
    return frozen.library_function, found, declared or None, None, None, frozen.declare_function


# -- types -----------------------------------------------------------------------------------------


def is_type(cls: type) -> bool:
    """Return whether a class is a type of ctypes."""
    return issubclass(cls, _DATA)


def reduce_type(cls: Any, reduced: Any) -> Any:
    """Reduce a type of ctypes that cannot be imported.

    Parameters
    ----------
    cls : type
    reduced : tuple
        cloudpickle's reduction of it.
    """
    own = cls.__dict__
    if issubclass(cls, ctypes.Array) and own.get("_type_") is not None:
        if cls is own["_type_"] * own.get("_length_", 0):
            return operator.mul, (cls._type_, cls._length_)
    elif issubclass(cls, _POINTER) and own.get("_type_") is not None:
        if cls is ctypes.POINTER(cls._type_):
            return ctypes.POINTER, (cls._type_,)
    elif cls.__name__ == "CFunctionType" and cls.__bases__ == (_FUNCTION,):
        return frozen.function_type, (cls._restype_, cls._argtypes_, cls._flags_)
    elif (pointer := _array_pointer(cls)) is not None:
        return pointer
    return _reduce_declared(cls, reduced)


def _array_pointer(cls: Any) -> Any:
    """Reduce what `numpy.ctypeslib.ndpointer` returns; None for anything else."""
    if not {"_dtype_", "_shape_", "_ndim_", "_flags_"} <= set(cls.__dict__):
        return None
    arguments = (cls._dtype_, cls._ndim_, cls._shape_, cls._flags_)
    try:
        is_one = np.ctypeslib.ndpointer(*arguments) is cls
    except (TypeError, ValueError, KeyError):
        return None
    return (np.ctypeslib.ndpointer, arguments) if is_one else None


def _reduce_declared(cls: Any, reduced: Any) -> Any:
    """Reduce a declared type; its fields come afterwards, because they may refer to it."""
    make, (constructor, name, bases, keywords, *rest), (attributes, slots), *others = reduced
    declared = {n: value for n, value in attributes.items() if n in _DECLARED}
    attributes = {
        n: value
        for n, value in attributes.items()
        if n not in _DECLARED | _ADDED and type(value) is not _FIELD
    }
    arguments = (constructor, name, bases, {**keywords, **declared}, *rest)
    made = class_reducers.reduce(cls, (make, arguments, (attributes, slots), *others))
    make, arguments, state, *_, fill = made
    fields = cls.__dict__.get("_fields_")
    if fields is not None:
        fields = [(field[0], *_lengths_of(field[1]), *field[2:]) for field in fields]
    declared_later = (fill, state, fields)
    return (
        frozen.ctypes_type,
        (make, arguments),
        declared_later,
        None,
        None,
        frozen.fill_ctypes_type,
    )


def _lengths_of(cls: Any) -> tuple[Any, list[int]]:
    """Return the type of an array's elements, and the array's lengths; for other types no lengths.

    An array of a type without fields would stay empty, so the reader makes it when the fields are known.
    """
    lengths: list[int] = []
    while issubclass(cls, ctypes.Array) and cls is cls._type_ * cls._length_:
        lengths.insert(0, cls._length_)
        cls = cls._type_
    return cls, lengths
