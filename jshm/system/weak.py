"""Tables that keep nothing alive: `weakref` has such, but they forget by functions in Python.

Python calls these from wherever an object goes. A signal handler may run there, and if it raises, as
Ctrl-C does, the exception is printed and lost. Here functions in C forget, so no handler runs.

All is by identity: objects need no hash, and none of their methods is called.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")


def forgetting(table: dict[K, Any], key: K) -> Callable[[object], object]:
    """Return a callback of a weak reference: it removes a key from a table.

    The reference is given to `pop` as what to return if the key is gone already. Hashing and comparing the
    key must not run Python code.
    """
    return partial(table.pop, key)


class WeakValues(Generic[K, V]):
    """A table whose entries go when their values do; keys are texts, numbers, or tuples of these."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references: dict[K, weakref.ref[Any]] = {}

    def __setitem__(self, key: K, value: V) -> None:
        """Raise TypeError if there are no weak references to such values."""
        self._references[key] = weakref.ref(value, forgetting(self._references, key))

    def __contains__(self, key: Hashable) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[V]:
        """Iterate over the values that there are now, whatever is added meanwhile."""
        for reference in list(self._references.values()):
            value = reference()
            if value is not None:
                yield value

    def get(self, key: K) -> V | None:
        """Return a value, or None."""
        reference = self._references.get(key)
        return None if reference is None else reference()

    def pop(self, key: K) -> None:
        """Forget a key, if it is there."""
        self._references.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._references.clear()


class WeakSet(Generic[T]):
    """Objects, as long as they live."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: WeakValues[int, T] = WeakValues()

    def add(self, member: T) -> None:
        """Remember an object."""
        self._members[id(member)] = member

    def discard(self, member: T) -> None:
        """Forget an object, if it is there."""
        self._members.pop(id(member))

    def __contains__(self, member: object) -> bool:
        return self._members.get(id(member)) is member

    def __iter__(self) -> Iterator[T]:
        return iter(self._members)


class WeakKeys(Generic[K, V]):
    """What is known about objects, as long as they live."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], V]] = {}

    def __setitem__(self, key: K, value: V) -> None:
        number = id(key)
        self._entries[number] = (weakref.ref(key, forgetting(self._entries, number)), value)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    def get(self, key: K, default: V | None = None) -> V | None:
        """Return what is known about an object, or `default`."""
        entry = self._entries.get(id(key))
        return default if entry is None or entry[0]() is not key else entry[1]

    def pop(self, key: K, default: V) -> V:
        """Forget an object, and return what was known about it, or `default`."""
        found = self.get(key, default)
        self._entries.pop(id(key), None)
        return found
