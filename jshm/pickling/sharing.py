"""Find the values that share state: two of them contain the same object, and it can change.

Such values are published in one segment, so that they still share it where they are attached. To find out,
each value is pickled. A pickler's memo has every object that it wrote, so the memos are compared: by
object id, while all picklers are alive and no id can be used again.

These count as no state: values that nobody can tell apart from an equal one (texts, dates, paths),
objects that the reader imports, and classes, which are the same everywhere (see `classes`).

Of the user's code only methods that pickle an object are called.
"""

from __future__ import annotations

import copyreg
import datetime as dt
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
from .code import assigned_by
from .pickler import REDUCERS, Pickler
from .static import Types
from .writer import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_PROTOCOL = 5
# Most objects in a memo are of these types.
_PLAIN = Types(str, bytes, tuple)


class Written:
    """A value that was pickled, and what its pickler wrote.

    Parameters
    ----------
    value : object
    pickler : Pickler
        The pickler that has just written it.
    by_reference : callable
        Tells whether an array is in a segment: that is shared in any case.
    """

    def __init__(
        self, value: object, pickler: Any, by_reference: Callable[[Any], bool] = lambda _: False
    ) -> None:
        self.value = value
        self.memo: dict[int, tuple[int, Any]] = _copied(pickler.memo)
        # cloudpickle's: the namespaces of the functions that went by value.
        self.namespaces = set(pickler.globals_ref)
        self.by_reference = by_reference

    def functions(self) -> Iterator[types.FunctionType]:
        """Yield the functions that went by value."""
        for _, found in self.memo.values():
            if type(found) is types.FunctionType and not modules.is_by_reference(found):
                yield found


def _copied(memo: Any) -> dict[int, tuple[int, Any]]:
    # The copy makes a tuple for each object; a collection in between would look at all objects each time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        copy: dict[int, tuple[int, Any]] = memo.copy()
    finally:
        if enabled:
            gc.enable()
    return copy


def together(written: Sequence[Written]) -> list[list[int]]:
    """Return the indices of the values in groups that share state; most values are alone."""
    groups = _Groups(len(written))
    _join_contained(written, groups)
    belongings = _Belongings()
    _join_by_objects(written, groups, belongings)
    _join_by_globals(written, groups, belongings)
    return groups.found()


class _Groups:
    """Groups of indices; at first each index is alone."""

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


# -- 1. one value is another one, or contains it -------------------------------------------------------


def _join_contained(written: Sequence[Written], groups: _Groups) -> None:
    for i, one in enumerate(written):
        if type(one.value) is types.FunctionType:
            is_own = not modules.is_by_reference(one.value)
        else:
            is_own = _is_state(one.value, lambda _: False)
        if not is_own:
            continue
        is_state = _is_state(one.value, one.by_reference)
        for j, other in enumerate(written):
            if one.value is other.value or (is_state and id(one.value) in other.memo):
                groups.join(i, j)


# -- 2. two values contain the same object -------------------------------------------------------------


def _join_by_objects(written: Sequence[Written], groups: _Groups, belongings: _Belongings) -> None:
    # Object id → the first value that has it. The largest value comes last: its own objects are not added.
    first: dict[int, int] = {}
    order = sorted(range(len(written)), key=lambda i: len(written[i].memo))
    for i in order:
        one = written[i]
        # Other value → the objects that this one has in common with it.
        common: dict[int, list[Any]] = {}
        for key in one.memo.keys() & first.keys() if len(groups.found()) > 1 else ():
            found = one.memo[key][1]
            if type(found) not in _PLAIN:
                common.setdefault(first[key], []).append(found)
        for j, objects in common.items():
            if not groups.are_joined(i, j) and _any_state(one, written[j], objects, belongings):
                groups.join(i, j)
        if i != order[-1]:
            first.update(dict.fromkeys(one.memo.keys() - first.keys(), i))


def _any_state(
    one: Written, other: Written, objects: Sequence[Any], belongings: _Belongings
) -> bool:
    """Return whether some of the objects that two values have in common can change."""
    hidden = _attributes(objects)
    likely = [x for x in objects if id(x) not in hidden and _is_state(x, one.by_reference)]
    if likely:
        owned = belongings.of(objects)
        likely = [x for x in likely if id(x) not in owned]
    if any(issubclass(type(x), np.ndarray) for x in likely):
        columns = _columns(one) | _columns(other)
        likely = [x for x in likely if id(x) not in columns]
    return bool(likely)


class _Belongings:
    """The objects that a value contains only as parts of a class, or of the index of a table."""

    def __init__(self) -> None:
        self._known: dict[frozenset[int], set[int]] = {}

    def of(self, objects: Iterable[Any]) -> set[int]:
        """Return the ids of the objects that belong to the classes and indices among these."""
        owners = {id(x): x for x in objects if _is_owner(x)}
        key = frozenset(owners)
        if key not in self._known:
            pickler = Pickler(Output(), _PROTOCOL, lambda _: None)
            if owners:
                pickler.dump(list(owners.values()))
            # The ids of what this pickler made itself are compared with nothing that lives.
            self._known[key] = set(pickler.memo.copy())
        return self._known[key]


def _attributes(objects: Iterable[Any]) -> set[int]:
    """Return the ids of the objects that come with functions, classes, modules and instances."""
    hidden: set[int] = set()
    for one in objects:
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
            hidden.add(id(static.attributes(one)))  # an instance's dict changes with the instance
            if issubclass(kind, functools.partial):
                hidden.add(id(_KEYWORDS(one)))
    return hidden


def _columns(written: Written) -> set[int]:
    """Return the ids of the arrays that tables are made of: pandas copies them before it changes them."""
    return {
        id(getattr(found, part, None))
        for _, found in written.memo.values()
        if static.root(type(found)) == "pandas"
        for base in _bases(type(found))
        for part in _COLUMN_PARTS.get(base, ())
    }


# -- 3. functions of two values use a global variable that one of them sets ----------------------------


def _join_by_globals(written: Sequence[Written], groups: _Groups, belongings: _Belongings) -> None:
    shared = {
        space
        for i, one in enumerate(written)
        for other in written[:i]
        for space in one.namespaces & other.namespaces
    }
    if not shared:
        return
    functions = [[f for f in one.functions() if id(f.__globals__) in shared] for one in written]
    for i, one in enumerate(written):
        if not any(_set_globals(f.__code__) for f in functions[i]):
            continue
        for j, other in enumerate(written):
            if groups.are_joined(i, j):
                continue
            owned = belongings.of(one.memo[key][1] for key in one.memo.keys() & other.memo)
            is_set = _variables(functions[i], owned, _set_globals)
            is_used = _variables(functions[j], owned, cp._extract_code_globals)
            if not is_set.isdisjoint(is_used):
                groups.join(i, j)


def _variables(
    functions: Iterable[types.FunctionType],
    owned: set[int],
    names: Callable[[types.CodeType], Iterable[str]],
) -> set[tuple[int, str]]:
    """Return the global variables of functions, as the id of a namespace and a name."""
    return {
        (id(f.__globals__), name)
        for f in functions
        if id(f) not in owned
        for name in names(f.__code__)
    }


def _set_globals(code: types.CodeType) -> frozenset[str]:
    return assigned_by(code)[0]


# -- what is state -------------------------------------------------------------------------------------

# Instances of these, and of their subclasses, do not change, or are found by name.
_ATOMS = (
    str, bytes, int, float, complex, type(None), tuple, frozenset, range, slice, type,
    types.ModuleType, types.BuiltinFunctionType, types.MethodType, types.GenericAlias,
    property, staticmethod, classmethod, np.dtype, np.generic, enum.Enum, logging.Logger,
    pickle.PickleBuffer, functools.partial, dt.tzinfo,
)  # fmt: skip
_BUILTIN = Types(list, dict, set, bytearray)
# Types with a reducer of jshm whose instances can change.
_REDUCED_STATE = Types(types.CellType, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
# Packages whose objects never change; of pandas, all but tables and columns.
_UNCHANGED = frozenset({"pyarrow", "pandas", "typing"})
# By package, classes whose instances do not share their parts; the parts never change.
_OWNERS = {
    "numpy": ("dtype",),
    "pandas": ("Index", "ExtensionDtype"),
    "xarray": ("Index", "IndexVariable", "PandasIndexingAdapter"),
}
# By class of pandas, the attributes with the arrays of a table.
_COLUMN_PARTS = {
    "Block": ("values",),
    "Index": ("_data",),
    "ExtensionArray": ("_ndarray", "_data", "_mask"),
}
_KEYWORDS = functools.partial.__dict__["keywords"].__get__


def _is_state(found: Any, by_reference: Callable[[Any], bool]) -> bool:
    """Return whether an object can change, or has an identity and not only a value."""
    kind = type(found)
    if kind in _BUILTIN:
        return kind is not dict or not _is_namespace(found)
    if issubclass(kind, np.ndarray):
        # Of a subclass the plain array: the subclass may have other attributes of these names.
        plain = np.ndarray.view(found, np.ndarray)
        return bool(plain.flags.writeable) and not by_reference(plain)
    if kind is types.FunctionType:
        return bool(vars(found)) and not modules.is_by_reference(found)
    if kind is memoryview:
        return not found.readonly
    if issubclass(kind, _ATOMS):
        return False
    if kind in REDUCERS:
        return kind in _REDUCED_STATE
    if kind in cp.Pickler._dispatch_table:
        return kind is weakref.WeakSet
    if static.root(kind) in _UNCHANGED or _is_owner(found):
        return static.lookup(kind, "iloc") is not None  # a table, or a column
    return kind is object or not _is_value(found)


def _is_namespace(found: dict[Any, Any]) -> bool:
    """Return whether a dict is a module's, which goes by reference."""
    module = sys.modules.get(static.text(found.get("__name__")))
    return module is not None and static.attributes(module) is found


def _is_owner(found: Any) -> bool:
    """Return whether the parts of an object belong to it alone and never change."""
    kind = type(found)
    if issubclass(kind, type):
        by_value = modules.is_by_value(static.module(found))
        return by_value or not cp._should_pickle_by_reference(found)
    return not _bases(kind).isdisjoint(_OWNERS.get(static.root(kind), ()))


def _bases(kind: type) -> set[str]:
    return set(map(static.name, static.mro(kind)))


def _is_value(found: Any) -> bool:
    """Return whether an object is as good as any other that is equal to it."""
    kind = type(found)
    hashed = static.lookup(kind, "__hash__")
    if not _has_own(kind, "__eq__") or hashed is None or not _has_own(kind, "__hash__"):
        # Equal to nothing else; but it may reduce to a name by which it is found again.
        return _has_own_reduction(kind) and issubclass(type(_reduce(found)), str)
    if not _has_own_reduction(kind):
        return _has_own(kind, "__setattr__")  # a frozen dataclass, a UUID
    reduced = _reduce(found)
    return issubclass(type(reduced), str) or (
        all(rest is None for rest in reduced[2:]) and _is_constant(reduced[1])
    )


def _has_own(kind: type, method: str) -> bool:
    """Return whether a class, or a base, replaces a method of `object`."""
    return static.lookup(kind, method) is not static.namespace(object)[method]


def _has_own_reduction(kind: type) -> bool:
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
