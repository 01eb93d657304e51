"""Weak tables, which keep no object alive, and which remove dead entries without running Python code.

The tables of `weakref` remove a dead entry by a callback in Python. It runs wherever the object dies. A
signal handler may run inside it, and if the handler raises, as Ctrl-C does, the exception is printed and
lost. Here the callbacks are functions in C, inside which no handler runs.

Objects are told apart by identity: they need no hash, and none of their methods is called.
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


def _forgetting(table: dict[K, Any], key: K) -> Callable[[object], object]:
    """Return a callback for a weak reference that removes a key from a table.

    The callback's argument, the reference, becomes the default of `dict.pop`. Hashing and comparing the
    key must not run Python code.
    """
    return partial(table.pop, key)


class WeakValues(Generic[K, V]):
    """A table that loses an entry when its value dies; keys are strings, numbers, or tuples of these."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references: dict[K, weakref.ref[Any]] = {}

    def __setitem__(self, key: K, value: V) -> None:
        """Set a value; TypeError if its type does not support weak references."""
        self._references[key] = weakref.ref(value, _forgetting(self._references, key))

    def __contains__(self, key: Hashable) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[V]:
        """Iterate over the present values; values that are added meanwhile do not appear."""
        for reference in list(self._references.values()):
            value = reference()
            if value is not None:
                yield value

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None."""
        reference = self._references.get(key)
        return None if reference is None else reference()

    def pop(self, key: K) -> None:
        """Remove a key if it is present."""
        self._references.pop(key, None)

    def clear(self) -> None:
        """Remove all entries."""
        self._references.clear()


class WeakSet(Generic[T]):
    """A set of objects that loses an object when it dies."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: WeakValues[int, T] = WeakValues()

    def add(self, member: T) -> None:
        """Add an object."""
        self._members[id(member)] = member

    def discard(self, member: T) -> None:
        """Remove an object if it is present."""
        self._members.pop(id(member))

    def __contains__(self, member: object) -> bool:
        return self._members.get(id(member)) is member

    def __iter__(self) -> Iterator[T]:
        return iter(self._members)


class WeakKeys(Generic[K, V]):
    """A table that loses an entry when its key dies."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], V]] = {}

    def __setitem__(self, key: K, value: V) -> None:
        number = id(key)
        self._entries[number] = (weakref.ref(key, _forgetting(self._entries, number)), value)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    def get(self, key: K, default: V | None = None) -> V | None:
        """Return the value of an object, or `default`."""
        entry = self._entries.get(id(key))
        return default if entry is None or entry[0]() is not key else entry[1]

    def pop(self, key: K, default: V) -> V:
        """Remove an object, and return its value, or `default`."""
        found = self.get(key, default)
        self._entries.pop(id(key), None)
        return found
