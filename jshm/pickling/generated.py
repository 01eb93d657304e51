"""Methods that a class got from generated text: of dataclasses and named tuples.

No source of them is kept, so another version of Python cannot compile it. But it can generate them:
from the fields, which travel.
"""

from __future__ import annotations

import collections
import dataclasses
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from ..errors import NotShareableError
from . import frozen
from .hooks import without_hooks
from .rebuild import LAMBDA

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT = "<string>"
# The function in which dataclasses defines all methods that it generates.
_BY_DATACLASSES = "__create_fn__."


def methods(cls: type) -> dict[str, CodeType]:
    """Return the names and code objects of the methods that were generated for a class."""
    if not _is_dataclass(cls) and not _is_named_tuple(cls):
        return {}
    codes = {name: _code(value) for name, value in vars(cls).items()}
    return {
        name: code for name, code in codes.items() if code is not None and _is_generated(name, code)
    }


def _is_generated(name: str, code: CodeType) -> bool:
    """Tell whether code is of a generated method; what `exec` and ``python -c`` run is text, too."""
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


def placeholder(qualname: str, free: tuple[str, ...]) -> CodeType:
    """Return code that stands for a generated method until `restore`; it has these free variables."""
    name = qualname.rpartition(".")[2]
    outer = (
        f"def outer({', '.join(free)}):\n"
        f"    def method(*_, **__):\n"
        f"        raise TypeError({name!r} + ' was not generated again', [{', '.join(free)}])\n"
    )
    (code,) = (c for c in compile(outer, _TEXT, "exec").co_consts if isinstance(c, CodeType))
    (method,) = (c for c in code.co_consts if isinstance(c, CodeType))
    return method.replace(co_name=name, co_qualname=qualname)


def restore(cls: Any, names: list[str]) -> None:
    """Generate methods of a class again, by this Python's own means.

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
    """Let what a method refers to as its class be the class, and not its twin."""
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
    # Where annotations are text, dataclasses would look in the reader's module for what it means.
    types = {
        n: dataclasses.InitVar[Any] if _is(f, "_FIELD_INITVAR") else f.type for n, f in own.items()
    }
    space: dict[str, Any] = {"__annotations__": types, "__module__": cls.__module__}
    if "__post_init__" in cls.__dict__:  # `__init__` is to call it
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


# -- what dataclasses are made of ------------------------------------------------------------------


def reduce_slotted(_: object, obj: Any) -> Any:
    """Reduce a field, or a dataclass's parameters: other versions have other slots."""
    return frozen.slotted, (
        type(obj),
        {n: getattr(obj, n) for n in obj.__slots__ if hasattr(obj, n)},
    )


def reduce_sentinel(_: object, sentinel: object) -> Any:
    """Reduce one of the objects that dataclasses compare with `is`."""
    return getattr, (dataclasses, SENTINELS[type(sentinel)])


SENTINELS: dict[type, str] = {
    type(getattr(dataclasses, name)): name
    for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY")
}
SLOTTED = (dataclasses.Field, type(dataclasses.dataclass(type("_", (), {})).__dataclass_params__))  # type: ignore[attr-defined]
# A method that newer versions give to all dataclasses, by reference.
REPLACE = getattr(dataclasses, "_replace", None)
