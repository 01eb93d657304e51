"""Which of several values share state: an object that is in more than one of them, and can change.

What a pickler wrote is in its memo, with what it made on the way. So the memos of several picklers say
what their values share, if they are compared while all of them live: until then no id is used again.

Not compared are values that nobody can tell apart when they are equal (texts, dates, paths), what the
reader imports, and classes: they are the same everywhere (`classes`).

Of the user's own code only what pickles an object is run (`looking`).
"""

from __future__ import annotations

import copyreg
import datetime as dt
import dis
import enum
import functools
import gc
import logging
import pickle
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from cloudpickle import cloudpickle as cp

from . import modules, static
from .pickler import REDUCERS, Pickler
from .static import Types
from .writer import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_PROTOCOL = 5
_ATOMS = (
    str, bytes, int, float, complex, type(None), tuple, frozenset, range, slice, type,
    types.ModuleType, types.BuiltinFunctionType, types.MethodType, types.GenericAlias,
    property, staticmethod, classmethod, np.dtype, np.generic, enum.Enum, logging.Logger,
    pickle.PickleBuffer, functools.partial, dt.tzinfo,
)  # fmt: skip
_KEYWORDS = functools.partial.__dict__["keywords"].__get__
# Most of what is in a memo.
_PLAIN = Types(str, bytes, tuple)
_BUILTIN = Types(list, dict, set, bytearray)
_REDUCED = Types(types.CellType, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
# Whose objects nobody changes; of pandas, all but tables and columns.
_UNCHANGED = frozenset({"pyarrow", "pandas", "typing"})
# What an object of these classes is made of belongs to it alone, and nobody changes it.
_WHOLE = {
    "numpy": ("dtype",),
    "pandas": ("Index", "ExtensionDtype"),
    "xarray": ("Index", "IndexVariable", "PandasIndexingAdapter"),
}
# Where pandas has the arrays of its tables.
_COLUMNS = {
    "Block": ("values",),
    "Index": ("_data",),
    "ExtensionArray": ("_ndarray", "_data", "_mask"),
}


class Written:
    """What a pickler wrote, kept alive to be compared.

    Parameters
    ----------
    value : object
    pickler : Pickler
        That has just written it.
    by_reference : callable
        Tells whether an array is in a segment, which all share anyway.
    """

    def __init__(
        self, value: object, pickler: Any, by_reference: Callable[[Any], bool] = lambda _: False
    ) -> None:
        self.value = value
        self.memo: dict[int, tuple[int, Any]] = _copied(pickler.memo)
        # cloudpickle's: a namespace is in it if a function by value has it.
        self.namespaces = set(pickler.globals_ref)
        self.by_reference = by_reference

    def functions(self) -> Iterator[types.FunctionType]:
        """Yield the functions that went by value."""
        for _, found in self.memo.values():
            if type(found) is types.FunctionType and not _is_imported(found):
                yield found


def together(written: Sequence[Written]) -> list[list[int]]:
    """Return the indices of the values in groups that share state; most are alone."""
    groups = _Groups(len(written))
    first: dict[int, int] = {}
    comparison = _Comparison(written)
    # The largest comes last: what is in it alone is not looked at.
    order = sorted(range(len(written)), key=lambda i: len(written[i].memo))
    for i, one in enumerate(written):
        is_made, is_state = _is_made(one.value), _is_state(one.value, one.by_reference)
        for j, other in enumerate(written) if is_made else ():
            # One is the other, or is in it: that needs no comparison.
            if one.value is other.value or (is_state and id(one.value) in other.memo):
                groups.join(i, j)
    for i in order:
        one = written[i]
        met: dict[int, list[Any]] = {}
        for key in one.memo.keys() & first.keys() if len(groups.found()) > 1 else ():
            found = one.memo[key][1]
            if type(found) not in _PLAIN:
                met.setdefault(first[key], []).append(found)
        for j, common in met.items():
            if not groups.are_joined(i, j) and comparison.is_state_among(i, j, common):
                groups.join(i, j)
        if i != order[-1]:
            first.update(dict.fromkeys(one.memo.keys() - first.keys(), i))
    comparison.join_by_globals(groups)
    return groups.found()


def _copied(memo: Any) -> dict[int, tuple[int, Any]]:
    # For each of a million tuples that are none the garbage collector would look at all objects again.
    enabled = gc.isenabled()
    gc.disable()
    try:
        copy: dict[int, tuple[int, Any]] = memo.copy()
    finally:
        if enabled:
            gc.enable()
    return copy


class _Groups:
    def __init__(self, count: int) -> None:
        self._of = list(range(count))

    def join(self, i: int, j: int) -> None:
        old, new = self._of[i], self._of[j]
        self._of = [new if group == old else group for group in self._of]

    def are_joined(self, i: int, j: int) -> bool:
        return self._of[i] == self._of[j]

    def found(self) -> list[list[int]]:
        groups: dict[int, list[int]] = {}
        for i, group in enumerate(self._of):
            groups.setdefault(group, []).append(i)
        return list(groups.values())


class _Comparison:
    def __init__(self, written: Sequence[Written]) -> None:
        self._written = written
        self._belonging: dict[frozenset[int], set[int]] = {}

    def is_state_among(self, i: int, j: int, found: Sequence[Any]) -> bool:
        """Tell whether some of what two values have in common can change."""
        one, other = self._written[i], self._written[j]
        hidden = _attributes(found)
        likely = [x for x in found if id(x) not in hidden and _is_state(x, one.by_reference)]
        if not likely:
            return False
        belonging = self._belongings(found)
        likely = [x for x in likely if id(x) not in belonging]
        if any(issubclass(type(x), np.ndarray) for x in likely):
            columns = _columns(one) | _columns(other)
            likely = [x for x in likely if id(x) not in columns]
        return bool(likely)

    def _belongings(self, found: Iterable[Any]) -> set[int]:
        """Return what is only there because a class, or an index of a table, is."""
        wholes = {id(x): x for x in found if _is_whole(x)}
        key = frozenset(wholes)
        if key not in self._belonging:
            pickler = Pickler(Output(), _PROTOCOL, lambda _: None)
            if wholes:
                pickler.dump(list(wholes.values()))
            # Only what lives outside of that pickler can be compared, and it does.
            self._belonging[key] = set(pickler.memo.copy())
        return self._belonging[key]

    def join_by_globals(self, groups: _Groups) -> None:
        """Join values whose functions have a global variable in common that one of them sets."""
        written = self._written
        spaces = [one.namespaces for one in written]
        common = {
            space
            for i, mine in enumerate(spaces)
            for others in spaces[:i]
            for space in mine & others
        }
        if not common:
            return
        functions = [[f for f in one.functions() if id(f.__globals__) in common] for one in written]
        setting = [any(map(_sets, found)) for found in functions]
        for i, sets in enumerate(setting):
            for j in range(len(written)) if sets else ():
                if groups.are_joined(i, j):
                    continue
                same = self._belongings(
                    written[i].memo[key][1] for key in written[i].memo.keys() & written[j].memo
                )
                set_, used = (
                    {
                        (id(f.__globals__), name)
                        for f in functions[k]
                        if id(f) not in same
                        for name in names(f.__code__)
                    }
                    for k, names in ((i, _set_globals), (j, cp._extract_code_globals))
                )
                if not set_.isdisjoint(used):
                    groups.join(i, j)


def _is_made(value: object) -> bool:
    """Tell whether it matters that two names are one and the same object."""
    if type(value) is types.FunctionType:
        return not _is_imported(value)
    return _is_state(value, lambda _: False)


def _is_imported(function: types.FunctionType) -> bool:
    return not modules.is_by_value(function.__module__) and bool(
        cp._should_pickle_by_reference(function)
    )


def _is_state(found: Any, by_reference: Callable[[Any], bool]) -> bool:
    """Tell whether an object can change, or is told from others by what it is and not by its value."""
    kind = type(found)
    if kind in _BUILTIN:
        return kind is not dict or not _is_namespace(found)
    if issubclass(kind, np.ndarray):
        # Of a subclass the plain array: it may have attributes of its own under these names.
        plain = np.ndarray.view(found, np.ndarray)
        return bool(plain.flags.writeable) and not by_reference(plain)
    if kind is types.FunctionType:
        return bool(vars(found)) and not _is_imported(found)
    if kind is memoryview:
        return not found.readonly
    if issubclass(kind, _ATOMS):
        return False
    if kind in REDUCERS:
        return kind in _REDUCED
    if kind in cp.Pickler._dispatch_table:
        return kind is weakref.WeakSet
    if static.root(kind) in _UNCHANGED or _is_whole(found):
        return static.lookup(kind, "iloc") is not None  # a table, or a column
    return kind is object or not _is_value(found)


def _is_value(found: Any) -> bool:
    """Tell whether an object is as good as any that is equal to it."""
    kind = type(found)
    hashed = static.lookup(kind, "__hash__")
    if not _has_own(kind, "__eq__") or hashed is None or not _has_own(kind, "__hash__"):
        # Equal to nothing else: but a name, by which it is found again, can stand for it.
        return _is_overridden(kind) and issubclass(type(_reduce(found)), str)
    if not _is_overridden(kind):
        return _has_own(kind, "__setattr__")  # a frozen dataclass, a UUID
    reduced = _reduce(found)
    return issubclass(type(reduced), str) or (
        all(rest is None for rest in reduced[2:]) and _is_constant(reduced[1])
    )


def _has_own(kind: type, method: str) -> bool:
    """Tell whether a class, or a base of it, has a method of its own in place of that of `object`."""
    return static.lookup(kind, method) is not static.namespace(object)[method]


def _is_overridden(kind: type) -> bool:
    return (
        kind in copyreg.dispatch_table
        or _has_own(kind, "__reduce__")
        or _has_own(kind, "__reduce_ex__")
    )


def _reduce(found: Any) -> Any:
    reduce = copyreg.dispatch_table.get(type(found))
    return found.__reduce_ex__(_PROTOCOL) if reduce is None else reduce(found)


def _is_constant(value: Any) -> bool:
    for kind in (tuple, frozenset):
        if issubclass(type(value), kind):
            return all(map(_is_constant, kind.__iter__(value)))
    return issubclass(type(value), _ATOMS)


def _is_namespace(found: dict[Any, Any]) -> bool:
    """Tell whether a dict is a module's, which goes by reference."""
    module = sys.modules.get(static.text(found.get("__name__")))
    return module is not None and static.attributes(module) is found


def _is_whole(found: Any) -> bool:
    """Tell whether what an object is made of belongs to it, and nobody changes it."""
    kind = type(found)
    if issubclass(kind, type):
        return modules.is_by_value(static.module(found)) or not cp._should_pickle_by_reference(
            found
        )
    return not _bases(kind).isdisjoint(_WHOLE.get(static.root(kind), ()))


def _bases(kind: type) -> set[str]:
    return set(map(static.name, static.mro(kind)))


def _attributes(found: Iterable[Any]) -> set[int]:
    """Return what comes with functions, classes and modules that two values have in common."""
    hidden: set[int] = set()
    for one in found:
        kind = type(one)
        if kind is types.FunctionType:
            hidden.update((id(one.__kwdefaults__), id(one.__annotations__)))
        elif issubclass(kind, types.ModuleType):
            known = (static.attributes(one) or {}).items()
            hidden.update(id(v) for name, v in known if static.text(name).startswith("__"))
        elif issubclass(kind, type):
            for base in static.mro(one):
                hidden.update(map(id, static.namespace(base).values()))
        elif kind not in _BUILTIN:
            hidden.add(id(static.attributes(one)))  # an object's own dict changes with it
            if issubclass(kind, functools.partial):
                hidden.add(id(_KEYWORDS(one)))
    return hidden


def _columns(written: Written) -> set[int]:
    """Return the arrays that tables are made of: pandas copies them before it changes them."""
    return {
        id(getattr(found, part, None))
        for _, found in written.memo.values()
        if static.root(type(found)) == "pandas"
        for base in _bases(type(found))
        for part in _COLUMNS.get(base, ())
    }


def _sets(function: types.FunctionType) -> bool:
    return bool(_set_globals(function.__code__))


def _set_globals(code: types.CodeType) -> set[str]:
    """Return the global variables that a function, or one within it, sets or deletes."""
    names = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
    }
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _set_globals(inner)
    return names
