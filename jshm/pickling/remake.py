"""Parts of a class that are made again in the reader's process: skeleton, generated methods, members.

Metaclasses and ``__init_subclass__`` may want options or attributes that are not there yet, so a
class is made without calling them where they fail. Methods that dataclasses and named tuples
generate have no source; another version of Python generates them again from the fields, which
travel.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import functools
import operator
import typing
from itertools import product
from types import CodeType, FunctionType, resolve_bases
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..errors import NotShareableError
from ..system.weak import WeakKeys
from .source import LAMBDA

if TYPE_CHECKING:
    from collections.abc import Callable

    Member = tuple[str, Any, dict[str, Any]]
    """A name (also an alias), the value, and the member's other attributes."""


def new_class(metaclass: Any, name: str, bases: tuple[Any, ...], body: dict[str, Any]) -> type:
    """Make a class.

    If its metaclass, or a base's ``__init_subclass__``, fails because options or attributes are missing, the
    class is made without calling them: their effects are among its attributes.
    """
    try:
        return cp._make_skeleton_class(metaclass, name, bases, body, None, None)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - code of the user's
        return without_hooks(metaclass, name, bases, body)


def hooked(bases: tuple[Any, ...]) -> type | None:
    """Return the class whose ``__init_subclass__`` a new class with these bases would call."""
    order = [kind for base in resolve_bases(bases) for kind in base.__mro__]
    return next((kind for kind in order if _HOOK in vars(kind)), None)


def without_hooks(
    metaclass: Any, name: str, bases: tuple[Any, ...], keywords: dict[str, Any]
) -> type:
    """Make a class by Python's own metaclass, calling neither the user's metaclass nor the bases."""
    resolved = resolve_bases(bases)
    if resolved is not bases:
        keywords = {**keywords, "__orig_bases__": bases}
    if resolved == (object,):
        return _new(metaclass, name, resolved, keywords)
    # `type.__new__` calls the hook of the first base. So a base without one comes first, and is removed
    # afterwards: that works if another base has the same layout of instances.
    parents = {parent: None for base in resolved for parent in reversed(_parents(base))}
    for parent, slots in product(parents, (("__dict__", "__weakref__"), (), *_SLOTS)):
        with contextlib.suppress(Exception):
            hook: Any = classmethod(lambda _, **__: None)
            quiet = _new(type(parent), "Quiet", (parent,), {"__slots__": slots, _HOOK: hook})
            made: Any = _new(metaclass, name, (quiet, *resolved), keywords)
            made.__bases__ = resolved
            return made  # type: ignore[no-any-return]
    raise TypeError(f"the class {name} cannot be made again without calling __init_subclass__")


def giver(kind: type) -> type | None:
    """Return the class whose ``__getnewargs__`` gives the arguments for a class's ``__new__``."""
    return next((base for base in kind.__mro__ if _GIVERS & set(vars(base))), None)


_GIVERS = {"__getnewargs__", "__getnewargs_ex__"}
_HOOK = "__init_subclass__"
_SLOTS = (("__dict__",), ("__weakref__",))


def _parents(base: type) -> list[type]:
    """Return a class's first base, the first base of that, and so on."""
    found: list[type] = []
    parent = base.__base__
    while parent is not None:
        found.append(parent)
        parent = parent.__base__
    return found


def _new(metaclass: Any, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
    maker: Any = next(k for k in metaclass.__mro__ if k.__module__ in _OF_PYTHON)
    return maker.__new__(metaclass, name, bases, body)  # type: ignore[no-any-return]


# Modules of the metaclasses that Python itself needs for a class.
_OF_PYTHON = ("builtins", "abc", "typing", "enum", "_ctypes")


# -- generated methods -----------------------------------------------------------------------------


_TEXT = "<string>"
# The function in which dataclasses defines all methods that it generates.
_BY_DATACLASSES = "__create_fn__."
# A method that newer versions of Python give to all dataclasses.
REPLACE = getattr(dataclasses, "_replace", None)


def generated_methods(cls: type) -> dict[str, CodeType]:
    """Return the names and code objects of the methods that were generated for a class."""
    if not _is_dataclass(cls) and not _is_named_tuple(cls):
        return {}
    codes = {name: _code(value) for name, value in vars(cls).items()}
    return {
        name: code for name, code in codes.items() if code is not None and _is_generated(name, code)
    }


def _is_generated(name: str, code: CodeType) -> bool:
    """Return whether code is that of a generated method, and not of text that `exec` or ``python -c`` ran."""
    return code.co_filename == _TEXT and (
        code.co_qualname.startswith(_BY_DATACLASSES)
        or (name == "__new__" and code.co_name == LAMBDA)
    )


def _is_dataclass(cls: type) -> bool:
    return "__dataclass_params__" in cls.__dict__


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and "_fields" in cls.__dict__


def _code(value: Any) -> CodeType | None:
    if isinstance(value, staticmethod):
        value = value.__func__
    while hasattr(value, "__wrapped__"):  # `__repr__` is guarded against recursion
        value = value.__wrapped__
    return value.__code__ if isinstance(value, FunctionType) else None


def generate_again(cls: Any, names: list[str]) -> None:
    """Generate methods of a class again, as this version of Python does.

    Raises
    ------
    NotShareableError
        This Python does not generate one of them.
    """
    twin = _twin_of_dataclass(cls) if _is_dataclass(cls) else _twin_of_named_tuple(cls)
    for name in names:
        method = vars(twin).get(name)
        code = _code(method)
        if method is None or code is None:
            raise NotShareableError(f"this Python generates no {name} for {cls.__qualname__}")
        _retarget(method, twin, cls)
        setattr(cls, name, method)


def _retarget(method: Any, twin: type, cls: type) -> None:
    """Make a method refer to the class in place of its twin."""
    function = method.__func__ if isinstance(method, staticmethod) else method
    function.__qualname__ = f"{cls.__qualname__}.{function.__name__}"
    function.__module__ = cls.__module__
    for cell in function.__closure__ or ():
        if cell.cell_contents is twin:
            cell.cell_contents = cls


def _twin_of_dataclass(cls: Any) -> type:
    """Return a dataclass of the same fields, without slots."""
    inherited = {
        name: field
        for base in cls.__mro__[1:]
        for name, field in getattr(base, "__dataclass_fields__", {}).items()
    }
    own = {
        name: field
        for name, field in cls.__dataclass_fields__.items()
        if field is not inherited.get(name) and not _is(field, "_FIELD_CLASSVAR")
    }
    # If annotations were text, dataclasses would resolve them in the reader's module.
    types = {
        n: dataclasses.InitVar[Any] if _is(f, "_FIELD_INITVAR") else f.type for n, f in own.items()
    }
    space: dict[str, Any] = {"__annotations__": types, "__module__": cls.__module__}
    if "__post_init__" in cls.__dict__:  # for `__init__` to call it
        space["__post_init__"] = cls.__dict__["__post_init__"]
    for name, field in own.items():
        space[name] = dataclasses.field(
            **_given(field, "default", "default_factory"),
            init=field.init,
            repr=field.repr,
            hash=field.hash,
            compare=field.compare,
            metadata=field.metadata,
            kw_only=field.kw_only,
        )
    params = cls.__dataclass_params__
    twin = without_hooks(type(cls), cls.__name__, cls.__bases__, space)
    make: Callable[..., type] = dataclasses.dataclass
    return make(
        twin,
        **{n: getattr(params, n) for n in ("init", "repr", "eq", "order", "unsafe_hash", "frozen")},
        match_args="__match_args__" in cls.__dict__,
    )


def _is(field: Any, kind: str) -> bool:
    return field._field_type is getattr(dataclasses, kind)


def _given(field: Any, *names: str) -> dict[str, Any]:
    values = {name: getattr(field, name) for name in names}
    return {n: value for n, value in values.items() if value is not dataclasses.MISSING}


def _twin_of_named_tuple(cls: Any) -> type:
    defaults = [cls._field_defaults[n] for n in cls._fields if n in cls._field_defaults]
    make: Callable[..., type] = collections.namedtuple  # noqa: PYI024 - what made it
    return make(cls.__name__, cls._fields, defaults=defaults, module=cls.__module__)


# -- enumerations ----------------------------------------------------------------------------------


def enumeration_of(  # noqa: PLR0917 - as a pickle calls it
    bases: tuple[Any, ...],
    name: str,
    qualname: str,
    module: str,
    contents: dict[str, tuple[Any, tuple[Any, ...]]],
    uses_arguments: bool,
    made_by: Any,
) -> type:
    """Make an enumeration whose class body has a `__new__`, or whose members are of another type too."""
    metaclass: Any = type(bases[-1])
    kind: Any = next(iter(_mixed_in(bases)), object)

    def new(cls: Any, index: int) -> Any:
        value, content = listed[index]
        member = kind.__new__(cls, *content)
        member._value_ = value
        return member

    listed = list(contents.values())
    body = metaclass.__prepare__(name, bases)
    body["__new__"] = new
    body["__init__"] = lambda *_: None
    for index, word in enumerate(contents):
        body[word] = enum.member(index)
    made: Any = metaclass.__new__(metaclass, name, bases, body)
    type.__delattr__(made, "__init__")
    made._use_args_ = uses_arguments
    made._new_member_ = made_by or kind.__new__
    if made_by is not None:
        made.__new_member__ = made_by
    elif "__new_member__" in made.__dict__:
        type.__delattr__(made, "__new_member__")
    made.__module__, made.__qualname__ = module, qualname
    return made  # type: ignore[no-any-return]


def _mixed_in(bases: tuple[Any, ...]) -> list[type]:
    """Return the types that an enumeration's members have besides."""
    kinds = [getattr(base, "_member_type_", base) for base in bases]
    return [kind for kind in kinds if kind is not object]


def complete_enumeration(cls: Any, found: list[Member]) -> None:
    """Add to an enumeration what it was not made with: aliases, and attributes that ``__init__`` set."""
    named = dict(cls._member_map_)
    for name, value, attributes in found:
        member = named.get(name)
        if member is None:
            member = cls(value)
            if all(member is not known for known in named.values()):
                member._name_ = name  # a combination of flags that has a name
            named[name] = member
            type.__setattr__(cls, name, member)
        member.__dict__.update(attributes)
    ordered = {name: named[name] for name, _, _ in found}
    if [*cls._member_map_] != [*ordered]:  # else leave it alone: another thread may be using it
        cls._member_map_.clear()
        cls._member_map_.update(ordered)


# -- protocols -------------------------------------------------------------------------------------


def is_protocol(cls: type) -> bool:
    """Return whether a class is a `typing.Protocol`, and not one that implements it."""
    return bool(cls.__dict__.get("_is_protocol", False))


def without_members(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a protocol's attributes without those in which its version of Python listed its members.

    Another version would take them for members.
    """
    return {name: value for name, value in attributes.items() if name not in _MEMBERS}


def complete_protocol(cls: Any) -> None:
    """List a protocol's members in it, as newer versions do when a class is made."""
    find = getattr(typing, "_get_protocol_attrs", None)
    if find is None or "__protocol_attrs__" not in cls.__dict__:
        return
    cls.__protocol_attrs__ = members = find(cls)
    if getattr(cls, "_is_runtime_protocol", False):
        others = {name for name in members if not callable(getattr(cls, name, None))}
        cls.__non_callable_proto_members__ = others


_MEMBERS = frozenset(
    {
        "__protocol_attrs__",
        "__callable_proto_members_only__",
        "__non_callable_proto_members__",
        "__static_attributes__",
        "__firstlineno__",
    }
)


# -- types of ctypes -------------------------------------------------------------------------------


# Types without their fields yet → the types, and their states, that wait for that.
_incomplete: WeakKeys[type, list[tuple[Any, Any]]] = WeakKeys()


def ctypes_type(make: Any, arguments: tuple[Any, ...]) -> Any:
    """Return a type whose fields come later."""
    cls = make(*arguments)
    if "_fields_" not in cls.__dict__:
        _incomplete[cls] = _incomplete.get(cls, [])
    return cls


def fill_ctypes_type(cls: Any, state: tuple[Any, Any, Any]) -> None:
    """Fill a type, and give it its fields as soon as the types that it contains have theirs."""
    fill, attributes, fields = state
    fill(cls, attributes)
    if fields is None or "_fields_" in cls.__dict__:
        _incomplete.pop(cls, [])
        return
    for _, contained, *_ in fields:
        waiting_too = None if contained is cls else _incomplete.get(contained)
        if waiting_too is not None:
            waiting_too.append((cls, state))
            return
    cls._fields_ = [
        (name, functools.reduce(operator.mul, lengths, contained), *bits)
        for name, contained, lengths, *bits in fields
    ]
    for waiting, its_state in _incomplete.pop(cls, []):
        fill_ctypes_type(waiting, its_state)
