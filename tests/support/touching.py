"""Objects that record whatever is asked of them, and objects that raise at it.

What jshm looks at (for lists, for `detach`, for completion) it must not touch: the record stays empty.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

touched: list[str] = []
"""Each access to an object that `recording` made."""

_SPECIAL = (
    "__eq__", "__ne__", "__hash__", "__bool__", "__len__", "__repr__", "__str__", "__format__",
    "__iter__", "__getitem__", "__contains__", "__call__", "__dir__", "__index__", "__array__",
)  # fmt: skip


class Meta(type):
    """A metaclass that records what is asked of its classes."""

    def __getattribute__(cls, name: str) -> Any:
        touched.append(f"class.{name}")
        return type.__getattribute__(cls, name)

    def __instancecheck__(cls, _: object) -> bool:
        touched.append("class.__instancecheck__")
        return False

    def __subclasscheck__(cls, _: object) -> bool:
        touched.append("class.__subclasscheck__")
        return False

    def __eq__(cls, other: object) -> bool:
        touched.append("class.__eq__")
        return cls is other

    def __hash__(cls) -> int:
        touched.append("class.__hash__")
        return type.__hash__(
            cls
        )  # else classes of other tests are compared with it, until they are gone


def recording(base: Any) -> Any:
    """Return an instance of a new subclass, which records what is asked of it, and answers as `base`."""

    def special(name: str) -> Any:
        def method(self: Any, *arguments: Any) -> Any:
            touched.append(name)
            return getattr(base, name)(self, *arguments)

        return method

    def get(self: Any, name: str) -> Any:
        touched.append(name)
        return base.__getattribute__(self, name)

    def get_missing(_: Any, name: str) -> Any:
        touched.append(f"__getattr__ {name}")
        raise KeyError(name)

    written = {name: special(name) for name in _SPECIAL if hasattr(base, name)}
    written |= {"__getattribute__": get, "__getattr__": get_missing, "shape": property(get_missing)}
    kind = Meta("Recording", (base,), {**written, "__slots__": ()} if base is object else written)
    made = base.__new__(kind, (2,)) if base is np.ndarray else base.__new__(kind)
    if base is dict:
        dict.update(made, key=[1])
    touched.clear()
    return made


BASES = (object, dict, list, tuple, set, str, int, float, np.ndarray, Exception)


class Lazy:
    """Like an object that is set up when it is first used: even `isinstance` raises."""

    def __init__(self) -> None:
        object.__setattr__(self, "inner", {})

    @property
    def __class__(self) -> Any:
        raise RuntimeError("settings are not configured")

    def __setattr__(self, _: str, __: object) -> None:
        raise RuntimeError("settings are not configured")

    def __reduce__(self) -> Any:
        return Lazy, ()


class Mapping(dict[Any, Any]):
    """The commonest recipe for attributes that are items."""

    __getattr__ = dict.__getitem__


class Proxy:
    def __init__(self, target: Any = None) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise RuntimeError(f"not bound: {name}")
        return getattr(self.target, name)

    def __reduce__(self) -> Any:
        return Proxy, (self.target,)


class Endless:
    def __getattr__(self, name: str) -> Any:
        return self.missing


class Slotted:
    """A slot that is not set, and names that are looked up elsewhere."""

    __slots__ = ("a",)

    def __getattr__(self, name: str) -> Any:
        return {}[name]


class NoModule: ...


NoModule.__module__ = None  # type: ignore[assignment]


class OddModule:
    __module__ = property(lambda _: 1 / 0)  # type: ignore[assignment]


class Raising(type):
    """A metaclass that raises for some names."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__init__", "__doc__", "shape"):
            raise ZeroDivisionError(name)
        return type.__getattribute__(cls, name)


class OfRaising(metaclass=Raising): ...


class Key:
    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("asked")

    def __repr__(self) -> str:
        raise RuntimeError("asked")


class Words(str):
    """A text whose own methods raise."""

    __slots__ = ()
    __str__ = __format__ = __repr__ = __eq__ = Key.__eq__  # type: ignore[assignment]
    __hash__ = str.__hash__


def reading() -> Any:
    def function() -> None: ...

    function.__module__, function.__doc__ = None, Lazy()  # type: ignore[assignment]
    function.__name__ = Words("function")
    return function


RAISING: dict[str, Any] = {
    "lazy": Lazy(),
    "list of lazy": [Lazy()],
    "attributes are items": Mapping(lr=0.1),
    "proxy": Proxy(3),
    "endless": Endless(),
    "slotted": Slotted(),
    "no module": NoModule(),
    "class without a module": NoModule,
    "odd module": OddModule(),
    "of a metaclass that raises": OfRaising(),
    "class that raises": OfRaising,
    "key": {Key(): {Words("a"): [1]}},
    "words": Words("words"),
    "function": reading(),
    "without a name": type("", (), {}),
}
"""Values of variables that have nothing to do with jshm: asked for something, they raise."""

CANNOT_BE_SHARED: dict[str, Any] = {
    "unhashable": type("Un", (type,), {"__hash__": None})("U", (), {})()
}
CANNOT_BE_SHARED["a lock under such a key"] = {Key(): threading.Lock()}
