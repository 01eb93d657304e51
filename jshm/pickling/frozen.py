"""The functions that pickles name: a format, like the layout of a segment.

A pickle names each function that rebuilds an object by its module and its name, and holds its
positional arguments. So each function and class here without a leading underscore is frozen, because a
segment that was published by an older version calls it: keep the name and the parameters; add
parameters at the end, with a default; add a new function for new behaviour. (`Resolver`, `resolver` and
`process_resolver` are for stores, and not in pickles.) Reducers name nothing else of jshm.
`docs/formats.md` lists the names of other packages.

Short functions are complete here. Longer ones call the module that does the work.
"""

from __future__ import annotations

import _ctypes
import builtins
import contextlib
import ctypes
import functools
import importlib
import operator
import sys
import types
import typing
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from cloudpickle import cloudpickle as cp

from ..errors import NotShareableError
from . import classes, imports, remake
from . import code as code_objects

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Origin = tuple[str, str, str]


# -- references to segments ------------------------------------------------------------------------


class Resolver(Protocol):
    """Writes arrays in segments as references, and finds them again."""

    def refer(self, array: Array, /) -> Any:
        """Return the reduction of an array in a segment, to `load_view`; None: it goes by value."""

    def view(
        self, segment: str, offset: int, dtype: np.dtype[Any], shape: Shape, strides: Shape, /
    ) -> Array:
        """Return a view of a segment; SegmentNotFoundError if the segment is gone."""

    def published(
        self, segment: str, offset: int, dtype: np.dtype[Any], shape: Shape, strides: Shape, /
    ) -> Array:
        """Return the array that was published together with the object: the very one, if attached too."""


resolver: ContextVar[Resolver | None] = ContextVar("resolver", default=None)
"""Set by a store while it loads an object; None: the store of this process resolves."""


def process_resolver() -> Resolver:
    """Return the resolver that `jshm.dumps`, `jshm.loads` and `pickle.loads` use: no publish, no attach."""
    # By name: imports point from the store to here, and `pickle.loads` may be the first use of jshm.
    return importlib.import_module("jshm.store").resolver()  # type: ignore[no-any-return]


def load_view(
    segment: str, offset: int, dtype: np.dtype[Any], shape: Shape, strides: Shape
) -> Array:
    """Return a view of an array in a segment.

    Raises
    ------
    SegmentNotFoundError
        The segment is gone.
    """
    return (resolver.get() or process_resolver()).view(segment, offset, dtype, shape, strides)


def load_published(
    segment: str, offset: int, dtype: np.dtype[Any], shape: Shape, strides: Shape
) -> Array:
    """Return the array that was published together with the object: the very one, if attached too."""
    return (resolver.get() or process_resolver()).published(segment, offset, dtype, shape, strides)


def load_handle(  # noqa: PLR0917 - as a pickle calls it
    root: str, segment: str, mode: str, offset: int, dtype: Any, shape: Shape, strides: Shape
) -> Any:
    """Return a `SharedNumpyArray` of the store at `root`."""
    handles = importlib.import_module("jshm.store.handle")
    return handles.load(root, segment, mode, offset, dtype, shape, strides)


# -- any object ------------------------------------------------------------------------------------


def last(*values: Any) -> Any:
    """Return the last argument; those before it only had to be loaded first."""
    return values[-1]


def named(module: str, path: str) -> Any:
    """Return what a module has under a dotted path."""
    return operator.attrgetter(path)(importlib.import_module(module))


def type_of_named(module: str, path: str) -> Any:
    """Return the type of what a module has under a dotted path."""
    return type(named(module, path))


def if_there(module: str, qualname: str = "") -> Any:
    """Return a module, or what it has under a dotted path; None if it cannot be imported here."""
    try:
        found: Any = importlib.import_module(module)
        for name in filter(None, qualname.split(".")):
            found = getattr(found, name)
    except Exception:  # noqa: BLE001 - importing may raise anything
        return None
    return found


def set_state(obj: Any, state: Any) -> None:
    """Set attributes, given as a dict, or as a dict (or None) and the values of slots."""
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)  # noqa: PLR2004
    if attributes:
        object.__getattribute__(obj, "__dict__").update(attributes)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


def called(kind: Any, *arguments: Any) -> Any:
    """Return an instance made by the compiled class that its class inherits from."""
    made = _inherited(kind, "__new__")(kind, *arguments)
    initialize = _inherited(kind, "__init__")
    if initialize is not object.__init__:
        initialize(made, *arguments)
    return made


def bare(kind: Any, *arguments: Any) -> Any:
    """Return an instance without its state, made by what its class inherits."""
    giver: Any = remake.giver(kind)
    make = _inherited(kind, "__new__") if giver is None else giver.__new__
    return make(kind, *arguments)


def exception(kind: Any, made_of: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
    """Return an exception, made by what its class inherits from Python itself."""
    made = _inherited(kind, "__new__")(kind, *made_of)
    _inherited(kind, "__init__")(made, *made_of)
    made.args = arguments
    return made


def _inherited(kind: type, name: str) -> Any:
    """Return a method that a class inherits from compiled code."""
    found = (base.__dict__[name] for base in kind.__mro__ if name in base.__dict__)
    return next(m for m in found if not isinstance(m, types.FunctionType | staticmethod))


def with_attributes(kind: Any, attributes: dict[str, Any]) -> Any:
    """Return an instance of a class that takes its attributes by name; those that are None are left out."""
    return kind(**{name: value for name, value in attributes.items() if value is not None})


def slotted(kind: Any, values: dict[str, Any]) -> Any:
    """Return a part of a dataclass, with as many of its slots as this Python knows."""
    made = kind.__new__(kind)
    for name in kind.__slots__:
        setattr(made, name, values.get(name))
    return made


# -- arrays and buffers ----------------------------------------------------------------------------


def array(buffer: Any, dtype: np.dtype[Any], shape: Shape, order: Any) -> Array:
    """Return an array over a buffer; it is writable if the buffer is."""
    memory = memoryview(buffer)
    if not memory.nbytes:
        empty: Array = np.ndarray(shape, dtype, order=order)
        empty.flags.writeable = not memory.readonly
        return empty
    # Over an array of the buffer: given the buffer itself, NumPy would take the memory behind it as
    # the base, and that may be writable.
    return np.ndarray(shape, dtype, np.frombuffer(buffer, np.uint8), 0, None, order)


def empty_array(kind: type[Array], shape: Shape, dtype: Any) -> Array:
    """Return an array of a subclass, to be filled by its state."""
    return np.ndarray.__new__(kind, shape, dtype)


def empty_masked_array(kind: type[Array], base: type[Array], shape: Shape, dtype: Any) -> Array:
    """Return a masked array, to be filled by its state."""
    mask = np.ndarray.__new__(np.ndarray, shape, np.ma.make_mask_descr(np.dtype(dtype)))
    made: Any = kind
    return made.__new__(kind, np.ndarray.__new__(base, shape, dtype), mask=mask, dtype=dtype)  # type: ignore[no-any-return]


def fill_array(array: Array, state: tuple[Any, bool]) -> None:
    """Fill an array from NumPy's own state, and make it read-only if the second item says so."""
    items, read_only = state
    array.__setstate__(items)
    if read_only:
        array.flags.writeable = False


def subclass_array(kind: type[Array], array: Array) -> Array:
    """Return an array as one of a subclass."""
    return array.view(kind)


def memory_view(buffer: Any, form: str, shape: Shape) -> memoryview:
    """Return a memoryview of a buffer."""
    view = memoryview(buffer).cast("B")
    if form == "B" and len(shape) == 1:
        return view
    return view.cast(form, shape)  # type: ignore[call-overload, no-any-return, unused-ignore]


def memory_view_of_array(array: Any, readonly: bool) -> memoryview:
    """Return a memoryview of an array."""
    view = memoryview(array)
    return view.toreadonly() if readonly else view


# -- NumPy -----------------------------------------------------------------------------------------

# The index of the flags in the state of a dtype.
_FLAGS = 7
_SIGNED = np.dtype([("a", "u1"), ("b", "u2")], align=True).flags < 0


def scalar(dtype: np.dtype[Any], content: bytes) -> Any:
    """Return a number, a date or a record of these bytes."""
    return np.ndarray((), dtype, bytearray(content))[()]


def item(array: Array) -> Any:
    """Return the item of an array without dimensions."""
    return array[()]


def aligned_dtype(arguments: Any, state: Any) -> np.dtype[Any]:
    """Return an aligned structured dtype; its flags are written unsigned, and NumPy 1.26 has them signed."""
    dtype: Any = np.dtype(*arguments)
    if _SIGNED:
        state = (*state[:_FLAGS], state[_FLAGS] - 256, *state[_FLAGS + 1 :])
    dtype.__setstate__(state)
    return dtype  # type: ignore[no-any-return]


def string_dtype(coerce: bool, *missing: Any) -> Any:
    """Return a `StringDType`; `missing` is its ``na_object``, if it has one."""
    options = {"na_object": missing[0]} if missing else {}
    return np.dtypes.StringDType(coerce=coerce, **options)


def generator(bits: Any) -> Any:
    """Return a `numpy.random.Generator`."""
    return np.random.Generator(bits)


def random_state(bits: Any, state: Any) -> Any:
    """Return a `numpy.random.RandomState`."""
    made = np.random.RandomState(bits)
    made.set_state(state)
    return made


def seed_sequence(state: dict[str, Any]) -> Any:
    """Return a `numpy.random.SeedSequence`."""
    return np.random.SeedSequence(**state)


def bit_generator(name: str, seed: Any, state: Any) -> Any:
    """Return a bit generator of NumPy in this state, whatever its seed was."""
    made = getattr(np.random, name)(0 if seed is None else seed)
    made.state = state
    return made


# -- pandas ----------------------------------------------------------------------------------------


def block_manager(make: Any, *arguments: Any) -> Any:
    """Return the blocks of a DataFrame or a Series; read-only ones are copied before they are changed."""
    manager = make(*arguments)
    _copy_on_write(manager)
    return manager


def fill_block_manager(manager: Any, state: Any) -> None:
    """Fill the blocks of a DataFrame or a Series; read-only ones are copied before they are changed."""
    manager.__setstate__(state)
    _copy_on_write(manager)


def _copy_on_write(manager: Any) -> None:
    """Make pandas treat read-only blocks as shared, and views of them too.

    pandas counts weak references to blocks; the one added here is to an object that always exists.
    """
    for block in getattr(manager, "blocks", ()):
        if not _is_writable(block.values):
            # Another pandas may lack these: then the attached table is read-only.
            with contextlib.suppress(AttributeError):
                block.refs.referenced_blocks.append(_ALWAYS)


def _is_writable(values: Any) -> bool:
    """Return whether a block can be written in place, as in mode ``'c'``; one of Arrow cannot."""
    array = values
    if not isinstance(array, np.ndarray):  # dates and categories; nullable numbers
        array = getattr(values, "_ndarray", getattr(values, "_data", None))
    return isinstance(array, np.ndarray) and array.flags.writeable


_ALWAYS = weakref.ref(_copy_on_write)


# -- functions and modules -------------------------------------------------------------------------


def code(
    tag: int,
    marshalled: bytes,
    python: str,
    address: Any,
    block: tuple[str, int, str] | None = None,
) -> types.CodeType:
    """Return a code object: unmarshalled, or compiled from its source by another version of Python.

    Parameters
    ----------
    tag : int
        The magic number of the bytecode.
    marshalled : bytes
    python : str
        The version that wrote it, as ``3.11``.
    address : tuple, or str
        Which function of the block it is; without a block, its qualified name.
    block : tuple, optional
        Filename, number of the first line, and text of the statement that it is in.
    """
    return code_objects.load(tag, marshalled, python, address, block)


def generated_code(
    tag: int, marshalled: bytes, qualname: str, free: tuple[str, ...]
) -> types.CodeType:
    """Return the code of a generated method, or a placeholder until its class generates it again."""
    return code_objects.load_generated(tag, marshalled, qualname, free)


def fill_cell(cell: types.CellType, state: tuple[Any]) -> None:
    """Set the content of a closure's cell."""
    (cell.cell_contents,) = state


def cached_function(function: Any, maxsize: int | None, typed: bool) -> Any:
    """Return a function with an empty cache."""
    return functools.lru_cache(maxsize, typed)(function)


def cached_property(function: Any, name: str | None) -> Any:
    """Return a cached property that knows its name."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def own_or_new(
    origin: Origin, qualname: str, text: str, make: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """Return what the reader's own module has under a name, if it is defined the same, or a new object.

    Parameters
    ----------
    origin : tuple of str
        Name of the module, digest of its file, and the directory that it was found in.
    qualname : str
    text : str
        The definition, as JSON; '' if the module is enough.
    make, arguments
        What makes a new one.
    """
    return imports.own_or_new(origin, qualname, text, make, arguments)


def fill_function(function: Any, state: Any) -> None:
    """Set the state of a function that `own_or_new` made."""
    imports.fill_function(function, state)


def fill_cached_function(function: Any, attributes: dict[str, Any] | None) -> None:
    """Set the attributes of a cached function that `own_or_new` made."""
    imports.fill_cached_function(function, attributes)


def own_or_new_module(
    origin: Origin | None, make: Callable[..., types.ModuleType], *arguments: Any
) -> types.ModuleType:
    """Return the module that the reader imports, if its file is the same, or a new one."""
    return imports.own_or_new_module(origin, make, *arguments)


def new_module(name: str, attributes: dict[str, Any]) -> types.ModuleType:
    """Return a module that is in no file here."""
    module = types.ModuleType(name)
    vars(module).update(attributes, __builtins__=builtins)
    return module


def fill_module(module: types.ModuleType, state: dict[str, Any]) -> None:
    """Fill a module that `own_or_new_module` made."""
    imports.fill_module(module, state)


def imported(origin: Origin, qualname: str) -> Any:
    """Return a module beside the notebook, or what it has under a name: it cannot go by value.

    Raises
    ------
    MissingModuleError
        It cannot be imported here.
    """
    return imports.imported(origin, qualname)


def compiled(name: str, file: str, qualname: str) -> Any:
    """Return a compiled module that is not installed, or something of it.

    Raises
    ------
    MissingModuleError
        It cannot be imported here, neither by its name nor from its file.
    """
    return imports.compiled(name, file, qualname)


def remember_place(name: str, root: str, file: str) -> None:
    """Look for a module in the directory `root` from now on, if it is found nowhere else."""
    imports.remember_place(name, root, file)


# -- classes ---------------------------------------------------------------------------------------


def class_of(
    definition: str,
    identity: str,
    origin: Origin | None,
    construct: Callable[..., type],
    arguments: tuple[Any, ...],
) -> type:
    """Return the class of a definition: the reader's own, one that was made before, or a new one.

    Parameters
    ----------
    definition : str
        JSON.
    identity : str
        cloudpickle's id of the class.
    origin : tuple of str, or None
        Of its module; see `own_or_new`.
    construct, arguments
        What makes a new one.
    """
    return classes.class_of(definition, identity, origin, construct, arguments)


def fill_class(cls: type, state: Any) -> None:
    """Set the attributes of a class that `class_of` made; of any other, those added since."""
    classes.fill(cls, state)


def new_class(metaclass: Any, name: str, bases: tuple[Any, ...], keywords: dict[str, Any]) -> type:
    """Return a class without its attributes."""
    return classes.new_class(metaclass, name, bases, keywords)


def enumeration(
    bases: tuple[Any, ...], name: str, qualname: str, module: str, values: dict[str, Any]
) -> type:
    """Return an enumeration made of names and values, as its class body does."""
    return cp._make_skeleton_enum(bases, name, qualname, values, module, None, None)  # type: ignore[no-any-return]


def enumeration_of(  # noqa: PLR0917 - as a pickle calls it
    bases: tuple[Any, ...],
    name: str,
    qualname: str,
    module: str,
    contents: dict[str, tuple[Any, tuple[Any, ...]]],
    uses_arguments: bool,
    made_by: Any,
) -> type:
    """Return an enumeration whose members are of another type too, or made by its own ``__new__``."""
    return remake.enumeration_of(bases, name, qualname, module, contents, uses_arguments, made_by)


def typed_dict(kind: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
    """Return a `typing.TypedDict`."""
    return type.__new__(kind, name, bases, namespace)


def base_named(cls: type, name: str) -> type:
    """Return the base of a class that has this name."""
    (found,) = (base for base in cls.__mro__ if base.__name__ == name)
    return found


class Annotations(dict[str, Any]):
    """Annotations of a class that arrived, with the types in place of text.

    Attributes
    ----------
    written : dict
        The annotations with their text: a class's definition is made of these.
    """

    __slots__ = ("written",)

    written: dict[str, Any]

    def __reduce__(self) -> Any:
        return resolved_annotations, (dict(self), self.written)


def resolved_annotations(resolved: dict[str, Any], written: dict[str, Any]) -> Annotations:
    """Return the annotations of a class."""
    made = Annotations(resolved)
    made.written = written
    return made


class LateFactory:
    """The default factory of a struct's field, made with the struct; its function is set afterwards.

    The function may refer to the struct, which does not exist yet when its fields are needed.
    """

    __slots__ = ("function",)

    function: Any

    def __call__(self) -> Any:
        return self.function()

    def __reduce__(self) -> Any:
        return LateFactory, ()


def struct(
    fields: list[tuple[str, dict[str, Any]]],
    options: dict[str, Any],
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
) -> Any:
    """Return a `msgspec.Struct`; a field is its name and what `msgspec.field` takes."""
    msgspec: Any = importlib.import_module("msgspec")
    given = {field: msgspec.field(**how) for field, how in fields}
    annotated = {field: Any for field, _ in fields}
    namespace = {n: value for n, value in namespace.items() if n != "__slots__"}
    kind = type(msgspec.Struct)
    return kind(name, bases, {**namespace, "__annotations__": annotated, **given}, **options)


def fill_struct(cls: type, state: tuple[Any, Any, list[tuple[LateFactory, Any]]]) -> None:
    """Fill a struct, and set the functions of its default factories."""
    fill, attributes, factories = state
    for factory, function in factories:
        factory.function = function
    fill(cls, attributes)


# -- typing ----------------------------------------------------------------------------------------


def type_variable(module: str, name: str, *arguments: Any) -> Any:
    """Return the reader's own type variable of that name, if it is alike, or a new one."""
    own = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    if type(own) is typing.TypeVar and cp._decompose_typevar(own)[1:-1] == arguments[:-1]:
        return own
    return cp._make_typevar(name, *arguments)


def new_type(name: str, supertype: Any, module: str) -> Any:
    """Return a `typing.NewType`."""
    made = typing.NewType(name, supertype)  # type: ignore[misc]
    made.__module__ = module
    return made


def type_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """Return a type alias; before Python 3.12, its value."""
    make: Any = getattr(typing, "TypeAliasType", None)
    return value if make is None else make(name, value, type_params=parameters)


def forward_reference(
    text: str, is_argument: bool, module: Any, is_class: bool
) -> typing.ForwardRef:
    """Return an annotation that is text."""
    return typing.ForwardRef(text, is_argument, module=module, is_class=is_class)


# -- ctypes ----------------------------------------------------------------------------------------


def ctypes_value(kind: Any, *value: Any) -> Any:
    """Return data of ctypes: of this value, or empty."""
    return kind(*value)


def library(kind: Any, name: str | None, flags: int) -> Any:
    """Return a library, loaded here by its name.

    Raises
    ------
    NotShareableError
        It cannot be loaded here.
    """
    made = kind.__new__(kind)
    try:
        ctypes.CDLL.__init__(
            made,
            name,
            use_errno=bool(flags & _ctypes.FUNCFLAG_USE_ERRNO),
            use_last_error=bool(flags & _ctypes.FUNCFLAG_USE_LASTERROR),
        )
    except OSError as error:
        raise NotShareableError(
            f"it uses the library {name}, which cannot be loaded here: {error}. Put the library in "
            "that place, or where the loader finds it (LD_LIBRARY_PATH)"
        ) from error
    return made


def library_function(library: Any, name: str, is_own: bool) -> Any:
    """Return a function of a library: the one that its attribute is (`is_own`), or a new one.

    Raises
    ------
    NotShareableError
        The library has none of that name here.
    """
    try:
        return getattr(library, name) if is_own else library[name]
    except AttributeError as error:
        raise NotShareableError(f"the library {library._name} has no {name} here") from error


def declare_function(function: Any, declared: dict[str, Any]) -> None:
    """Set the types of a library's function."""
    for name, value in declared.items():
        setattr(function, name, value)


def function_type(restype: Any, argtypes: tuple[Any, ...], flags: int) -> Any:
    """Return the type of a C function."""
    if flags & _ctypes.FUNCFLAG_PYTHONAPI:
        return ctypes.PYFUNCTYPE(restype, *argtypes)
    return ctypes.CFUNCTYPE(
        restype,
        *argtypes,
        use_errno=bool(flags & _ctypes.FUNCFLAG_USE_ERRNO),
        use_last_error=bool(flags & _ctypes.FUNCFLAG_USE_LASTERROR),
    )


def ctypes_type(make: Any, arguments: tuple[Any, ...]) -> Any:
    """Return a type of ctypes, whose fields come later."""
    return remake.ctypes_type(make, arguments)


def fill_ctypes_type(cls: Any, state: tuple[Any, Any, Any]) -> None:
    """Fill a type of ctypes, and give it its fields as soon as the types that it contains have theirs."""
    remake.fill_ctypes_type(cls, state)
