"""Enumerations by value: their members, however they are made."""

from __future__ import annotations

import copyreg
import enum
from types import FunctionType
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..errors import NotShareableError
from . import frozen
from .definitions import module_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Member = tuple[str, Any, dict[str, Any]]
    """A name (also an alias), the value, and what else the member has."""
    Reduced = tuple[Callable[..., type], tuple[Any, ...]]

# The types of values that `Enum` makes members of by itself.
_SIMPLE = (object, int, str, float, bytes)
# What a class body takes for something else than a member.
_NO_VALUES = (FunctionType, classmethod, staticmethod, property, type)
_MADE_BY = ("__new_member__", "_new_member_", "_use_args_")


def reduce(cls: Any, attributes: dict[str, Any]) -> Reduced:
    """Return what makes an enumeration with its members, and the arguments for it."""
    bases, name, qualname, values, _, *_ = cp._enum_getnewargs(cls)
    known = (bases, name, qualname, module_of(cls))
    if getattr(attributes.get("_value_repr_"), "__module__", "") == "enum":
        del attributes["_value_repr_"]  # not of all versions, which each find their own
    if _is_simple(cls, values):
        return frozen.enumeration, (*known, values)
    for word in _MADE_BY:
        attributes.pop(word, None)
    contents = {member.name: (member.value, _content(cls, member)) for member in cls}
    made = cls.__dict__.get("__new_member__")
    return frozen.enumeration_of, (*known, contents, cls._use_args_, made)


def _is_simple(cls: Any, values: dict[str, Any]) -> bool:
    makes = cls.__dict__.get("__new_member__")
    return (
        (makes is None or not isinstance(makes, FunctionType))
        and cls._member_type_ in _SIMPLE
        and not any(_is_made_in_python(base) for base in cls.__mro__[1:])
        and not any(
            hasattr(type(v), "__get__") or isinstance(v, _NO_VALUES) for v in values.values()
        )
    )


def _is_made_in_python(base: type) -> bool:
    """Tell whether an enumeration's base has a way of its own to make members."""
    if base.__module__ == "enum":
        return False
    own = vars(base)
    return any(isinstance(own.get(n), FunctionType) for n in ("__new_member__", "__init__")) or (
        isinstance(own.get("__new__"), staticmethod | FunctionType)
        and own["__new__"] is not enum.Enum.__new__
    )


def _content(cls: Any, member: Any) -> tuple[Any, ...]:
    """Return what `__new__` of the members' type wants, besides the class."""
    kind = cls._member_type_
    if kind is object:
        return ()
    function, arguments, *_ = kind.__reduce_ex__(member, 2)
    if function is copyreg.__newobj__:  # type: ignore[attr-defined]
        return tuple(arguments[1:])
    if function is cls:
        return tuple(arguments)
    raise NotShareableError(
        f"members of {cls.__qualname__} are each a {kind.__qualname__} too, which does not say how it is made"
    )


def reduce_member(_: object, member: Any) -> Any:
    """Reduce a member to its name: its value may be equal to nothing that arrives, as a function is."""
    name = member.__dict__.get("_name_")
    if name not in type(member)._member_names_:
        return NotImplemented  # several flags: what is made first does not have them
    # Strings are copied: what else in a pickle is the very same object is up to chance.
    return getattr, (type(member), "".join(name))


def members(cls: type[enum.Enum]) -> list[Member]:
    """Return each name of an enumeration, aliases too, its value, and that member's attributes."""
    return [
        (
            name,
            member.value,
            {key: value for key, value in vars(member).items() if key[0] + key[-1] != "__"},
        )
        for name, member in cls.__members__.items()
    ]


def make(  # noqa: PLR0917 - as a pickle calls it
    bases: tuple[Any, ...],
    name: str,
    qualname: str,
    module: str,
    contents: dict[str, tuple[Any, tuple[Any, ...]]],
    uses_arguments: bool,
    made_by: Any,
) -> type:
    """Make an enumeration whose class body has a `__new__`, or whose members are of another type."""
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
    """Return the types of which an enumeration's members are, besides being members."""
    kinds = [getattr(base, "_member_type_", base) for base in bases]
    return [kind for kind in kinds if kind is not object]


def complete(cls: Any, found: list[Member]) -> None:
    """Give back what an enumeration is not made with: aliases, and what ``__init__`` set."""
    named = dict(cls._member_map_)
    for name, value, attributes in found:
        member = named.get(name)
        if member is None:
            member = cls(value)
            if all(member is not known for known in named.values()):
                member._name_ = name  # several flags, with a name of their own
            named[name] = member
            type.__setattr__(cls, name, member)
        member.__dict__.update(attributes)
    ordered = {name: named[name] for name, _, _ in found}
    if [*cls._member_map_] != [*ordered]:  # else another thread may be using it
        cls._member_map_.clear()
        cls._member_map_.update(ordered)
