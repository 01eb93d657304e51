"""Whose class it is that arrives.

cloudpickle gives a class an id when it is first written. Where a class of that id is known already, no
second one is made: so all objects of a class are, wherever they come from. But it also sets all
attributes of the class again, to what they were when it was written. Here that is done once for what
was written once; and a class is never set back in the process that defined it.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import Any

from cloudpickle import cloudpickle as cp

origin: ContextVar[str] = ContextVar("origin", default="")
"""What is loaded at the moment (a segment's id); empty: something that nobody can tell again."""

_own: weakref.WeakSet[type] = weakref.WeakSet()
# Class → what its attributes are from.
_filled: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def write(cls: type) -> None:
    """Remember that a class which is written was defined here, unless it was loaded."""
    if cls not in _filled:
        _own.add(cls)


def fill(cls: type, state: Any) -> None:
    """Set the attributes of a class that was just made, or was known."""
    source = origin.get()
    if cls in _own or (source and _filled.get(cls) == source):
        return
    cp._class_setstate(cls, state)
    _filled[cls] = source
