"""The variables of a notebook, or of a program's ``__main__``: what jshm bound, what keeps memory mapped.

jshm remembers by identity each value that it gave to the user, and the segments that it is from. A
variable that still is that value may be deleted by a detach and replaced by an attach with a glob; a view
that the user made of it belongs to the user.

IPython keeps what was displayed (``Out``, ``_``, ``_5``) and what was raised (``sys.last_value``), so
that ``del X`` often frees nothing. `forget_history` finds these references and drops them.
"""

from __future__ import annotations

import gc
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, TypeVar

import numpy as np

from .errors import SegmentNotFoundError
from .pickling import static
from .pickling.source import shell
from .pickling.static import parts_of
from .segment import file as segment
from .segment import pages
from .store.base import segment_of, type_name
from .store.names import as_variable
from .system.weak import WeakValues
from .text import age_text

if TYPE_CHECKING:
    from .segment.file import Mode
    from .store.base import Attached, Published, Store

T = TypeVar("T")
Array = np.ndarray[Any, Any]
Namespace = dict[str, Any]
Test = Callable[[object], bool]

_DEPTH = 4
_LIMIT = 20_000
# Python's own (`__name__`) and IPython's: results (`_`, `_5`), inputs (`_i`, `_i5`), `_oh` …
_HISTORY = re.compile(r"__.*__\Z|_{1,3}\Z|_\d+\Z|_i{1,3}\Z|_i\d+\Z|_[dio]h\Z|_exit_code\Z")
_RESULT = re.compile(r"_{1,3}\Z|_\d+\Z")
_CONTEXT = BaseException.__dict__["__context__"].__get__
_TRACEBACK = BaseException.__dict__["__traceback__"].__set__
_UNKNOWN = "something outside the notebook's variables (a library's cache, a running thread)"


def user_namespace() -> Namespace:
    """Return the notebook's variables, or those of ``__main__``."""
    running = shell()
    found: Namespace = running.user_ns if running is not None else sys.modules["__main__"].__dict__
    return found


def attach_published(store: Store, done: Iterable[Published], mode: Mode) -> list[Attached]:
    """Attach the versions that `publish` just returned, even if newer ones exist already.

    Raises
    ------
    SegmentNotFoundError
        One is gone: another process replaced it while nobody held it.
    """
    try:
        return store.attach_published(list(done), mode)
    except SegmentNotFoundError as error:
        raise SegmentNotFoundError(
            "published, but another process replaced it at once, so your own array stays private: "
            f"{error.message}"
        ) from None


def rebind(namespace: Namespace, old: object, new: Attached) -> list[str]:
    """Rebind the variables that are `old` to what was attached; return their names."""
    names = [name for name, value in user_variables(namespace) if value is old]
    for name in names:
        namespace[name] = remember(new.value, new.segments)
    return names


def user_variables(namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the variables that the user made, without IPython's own and its history."""
    running = shell()
    hidden = running.user_ns_hidden if running is not None else {}
    for name, value in list(namespace.items()):
        if type(name) is not str or name in ("In", "Out") or _HISTORY.match(name):
            continue
        if name in hidden and hidden[name] is value:
            continue
        yield name, value


# -- what jshm gave --------------------------------------------------------------------------------


# Equal values of these types may be one object, so that identity does not tell who made it.
_SHARED_BY_ALL = (
    int, float, complex, str, bytes, tuple, frozenset, type(None), ModuleType, logging.Logger,
)  # fmt: skip
# References to a value that only `_strong` keeps, while `forget_unused` counts them.
_OURS = 3

_weak: WeakValues[int, Any] = WeakValues()
# Dicts, lists and the like take no weak references. They are kept here until nothing else refers to
# them, but only where `forget_unused` runs after each cell; otherwise they would stay.
_strong: dict[int, Any] = {}
_keeps_containers = False
_segments: dict[int, tuple[str, ...]] = {}


class _Bound(NamedTuple):
    """What an attach bound to a variable.

    Attributes
    ----------
    id : int
    known : bool
        Whether the value is remembered (`remember`). Texts and numbers never are.
    segments : tuple of str
    """

    id: int
    known: bool
    segments: tuple[str, ...]

    def is_still(self, value: object) -> bool:
        """Return whether a value is still this one, and not a newer object with the same id."""
        return id(value) == self.id and (not self.known or is_remembered(value))


_bound: dict[str, _Bound] = {}


def remember(value: T, segments: tuple[str, ...] = ()) -> T:
    """Remember that jshm gave this value to the user, and from which segments; return it."""
    if issubclass(type(value), _SHARED_BY_ALL) or _is_imported(value):
        return value
    try:
        _weak[id(value)] = value
    except TypeError:
        if not _keeps_containers:
            return value
        forget_unused()
        _strong[id(value)] = value
    _segments[id(value)] = segments
    return value


def keep_containers(on: bool) -> None:
    """Remember dicts, lists and the like too, which take no weak references.

    Only for a process that calls `forget_unused` after each cell: otherwise they would stay.
    """
    global _keeps_containers  # noqa: PLW0603
    _keeps_containers = on


def bind(
    namespace: dict[str, Any], variable: str, value: object, segments: tuple[str, ...]
) -> None:
    """Bind a variable to an attached value, and remember both."""
    namespace[variable] = remember(value, segments)
    _bound[variable] = _Bound(id(value), is_remembered(value), segments)


def _is_imported(value: Any) -> bool:
    """Return whether a value is a function or class that an import in this process gives too."""
    kind = type(value)
    if issubclass(kind, type):
        place = static.module(value)
    elif kind is FunctionType or kind is BuiltinFunctionType:
        place = static.text(value.__module__)
    else:
        return False
    module = sys.modules.get(place)
    if module is None or not issubclass(type(module), ModuleType):
        return False
    # Not `getattr`: a module may import others in its `__getattr__`.
    return (static.attributes(module) or {}).get(static.own_name(value)) is value


def is_remembered(value: object) -> bool:
    """Return whether jshm gave this value to the user."""
    if value is None:
        return False
    return _weak.get(id(value)) is value or _strong.get(id(value)) is value


def segments_of_value(value: object) -> tuple[str, ...]:
    """Return the segments that a value was attached from, its own first; () if it was not attached."""
    return _segments.get(id(value), ()) if is_remembered(value) else ()


def segments_bound(variable: str, value: object) -> tuple[str, ...]:
    """Return the segments of the value that an attach bound to a variable, while the variable is it."""
    bound = _bound.get(variable)
    return bound.segments if bound is not None and bound.is_still(value) else ()


def is_from_jshm(variable: str, value: object) -> bool:
    """Return whether jshm gave this value or bound it to this variable, so that it is not the user's work."""
    return is_remembered(value) or bool(segments_bound(variable, value))


def forget_unbound(namespace: dict[str, Any]) -> list[str]:
    """Forget variables that are no longer bound to what was attached; return them."""
    gone = [
        variable
        for variable, bound in _bound.copy().items()
        if variable not in namespace or not bound.is_still(namespace[variable])
    ]
    for variable in gone:
        _bound.pop(variable, None)
    return gone


def _forget_unused_once() -> bool:
    before = len(_strong)
    for key, value in list(_strong.copy().items()):
        # The tuple from `items` is gone when it is unpacked, so its reference does not count.
        if sys.getrefcount(value) <= _OURS + 1:
            _strong.pop(key, None)
    return len(_strong) < before


def forget_unused() -> None:
    """Drop the remembered values that nothing else refers to."""
    while _forget_unused_once():  # a dropped value may have been the last to refer to another
        pass
    for key in list(_segments):
        if key not in _strong and key not in _weak:
            _segments.pop(key, None)


# -- bind ------------------------------------------------------------------------------------------


_MODES: dict[Mode, str] = {
    "r": "read-only, nothing copied",
    "r+": "LIVE: shared and writable, nothing copied",
    "c": "copy-on-write: your changes stay yours, nothing copied",
}
_OBJECT_MODES: dict[Mode, str] = {
    "r": "its arrays are read-only, nothing copied",
    "c": "its arrays are copy-on-write: your changes stay yours, nothing copied",
}


def bind_attached(namespace: dict[str, Any], variable: str, attached: Attached, mode: Mode) -> str:
    """Bind a variable to an attached value; return the line that tells the user."""
    before = namespace.get(variable)
    replaced = "" if is_from_jshm(variable, before) else _describe_replaced(before)
    bind(namespace, variable, attached.value, attached.segments)
    return attached_line(variable, attached, mode) + replaced


def attached_line(variable: str, attached: Attached, mode: Mode) -> str:
    """Return the line that tells the user what was attached as `variable`, or under no variable ('')."""
    shown = f"{variable} ← {attached.name}" if variable else attached.name
    arrow = ""
    if variable == attached.name:
        shown, arrow = variable, " ←"
    age = age_text(attached.created)
    how = (_MODES if attached.kind == "array" else _OBJECT_MODES)[mode]
    how = f" · {how}" if attached.shares else ""
    apart = ", ".join(attached.apart)
    how += f" · shares state with {apart}, not attached with it" if apart else ""
    return f"{shown}{arrow} v{attached.version} from {attached.publisher}, {age}{how}"


def _describe_replaced(value: Any) -> str:
    if value is None:
        return ""
    if issubclass(type(value), np.ndarray):
        dtype, shape = np.ndarray.dtype.__get__(value), np.ndarray.shape.__get__(value)
        return f" · replaced your {type_name(dtype)} {shape}"
    return f" · replaced your {static.name(type(value))}"


# -- detach ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Detached:
    """What `detach_segments` did.

    Attributes
    ----------
    variables : tuple of str
        The deleted variables.
    culprits : list of str
        What still keeps the memory mapped in this process.
    nbytes : int
        Bytes of the mapped segments.
    """

    variables: tuple[str, ...]
    culprits: list[str]
    nbytes: int


def detach_segments(
    namespace: Namespace, segments: set[str], store: Store, named: Iterable[str] = ()
) -> Detached:
    """Delete the variables that are views of segments, and the variables `named` in any case.

    A copy-on-write view (mode ``'c'``) with changes is the user's work: it is deleted only if it is named.
    The caller must not keep a reference to such an array, which would keep the memory mapped.
    """
    concerns = in_segment(segments)
    gone: list[str] = []
    # Values that were published in one step share a segment, and each has its own id in it.
    watched = segments.union(map(segment_of, segments))
    for name, value in list(user_variables(namespace)):
        bound = segments_bound(name, value) if name in named else ()
        if not concerns(value) and segments.isdisjoint(bound[:1]):
            continue
        if name in named or (is_remembered(value) and not _has_changes(value, store)):
            gone.append(name)
            # With an object go the segments that it refers to.
            watched.update(segments_of_value(value) or bound)
    value = None
    nbytes = sum(max(map(len, store.mappings(identity)), default=0) for identity in watched)
    for name in gone:
        del namespace[name]
    forget_history(namespace, concerns)
    forget_unused()
    if not watched.isdisjoint(store.mapped()):
        _forget_exceptions()
        gc.collect()
    culprits = []
    if not watched.isdisjoint(store.mapped()):
        culprits = find_arrays(namespace, in_segment(watched)) or [_UNKNOWN]
    store.flush()
    return Detached(tuple(gone), culprits, nbytes)


def _has_changes(value: object, store: Store) -> bool:
    """Return whether an array, or an array in an object, has private changes."""
    # Arrays in an object may be hidden from a search, but its mappings are known.
    if _is_array(value):
        found = [segment.find_mapping(value)]
    else:
        found = [m for identity in segments_of_value(value) for m in store.mappings(identity)]
    return any(m is not None and m.mode == "c" and not pages.is_pristine(m) for m in found)


def segments_named(namespace: Namespace, what: str | Array, store: Store) -> set[str]:
    """Return the ids of the mapped segments that a name, a variable's name or an array means.

    Raises
    ------
    SegmentNotFoundError
        Nothing that is mapped here.
    """
    name = static.text(what)
    value: Any = namespace.get(as_variable(name)) if name else what
    if issubclass(type(value), np.ndarray):
        mapping = segment.find_mapping(value)
        if mapping is not None:
            return {mapping.segment}
    if own := segments_of_value(value)[:1]:
        return set(own)
    if not issubclass(type(what), str):
        raise SegmentNotFoundError("the array is not in shared memory")
    if own := segments_bound(as_variable(name), value)[:1]:
        return set(own)
    what = unicodedata.normalize("NFC", name)
    bound = _attached_from(namespace)
    mapped = store.mapped()
    found = {i.value_id for i in store.versions(what) if i.segment in mapped or i.value_id in bound}
    if not found:
        raise SegmentNotFoundError(
            f"{what!r} is not mapped here: it is neither a variable with a shared array nor an attached "
            "name"
        )
    return found


def _attached_from(namespace: Namespace) -> set[str]:
    """Return the segments that variables were attached from, mapped or not (an object may map none)."""
    found: set[str] = set()
    for name, value in user_variables(namespace):
        found.update(segments_of_value(value)[:1], segments_bound(name, value)[:1])
    return found


def attached_names(namespace: Namespace, store: Store) -> list[str]:
    """Return the names that have a version attached here."""
    bound = _attached_from(namespace)
    mapped = store.mapped()
    found = {i.name for i in store.segments() if i.segment in mapped or i.value_id in bound}
    return sorted(found)


def forget_history(namespace: Namespace, test: Test) -> list[str]:
    """Drop the displayed results that IPython keeps and that pass `test`; return their names."""
    gone = []
    out = namespace.get("_oh")
    if type(out) is dict:
        for number in [number for number, value in out.items() if test(value)]:
            del out[number]
            gone.append(f"Out[{static.key(number)}]")
    results = [
        name
        for name in list(namespace)
        if type(name) is str and _RESULT.match(name) and test(namespace[name])
    ]
    for name in results:
        if name.strip("_"):
            del namespace[name]
        else:
            namespace[name] = ""
    running = shell()
    # IPython lists `_5` among its own variables, too.
    hidden = getattr(running, "user_ns_hidden", {})
    for name in [name for name, value in hidden.items() if test(value)]:
        del hidden[name]
    hook = getattr(running, "displayhook", None)
    for name in ("_", "__", "___"):
        if hook is not None and test(getattr(hook, name, None)):
            setattr(hook, name, "")
    last = getattr(running, "last_execution_result", None)
    if last is not None and test(last.result):
        last.result = None
    return gone


def _forget_exceptions() -> None:
    for name in ("last_traceback", "last_value", "last_type", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    running = shell()
    result = getattr(running, "last_execution_result", None)
    error = getattr(result, "error_in_exec", None)
    while error is not None:
        _TRACEBACK(error, None)
        error = _CONTEXT(error)
    for handler in ("InteractiveTB", "SyntaxTB"):
        for name in ("tb", "etype", "evalue", "value"):
            if getattr(getattr(running, handler, None), name, None) is not None:
                setattr(getattr(running, handler), name, None)


# -- what keeps it ---------------------------------------------------------------------------------


def in_segment(segments: set[str]) -> Test:
    """Return a test for arrays in one of these segments, and for objects attached from one."""

    def test(value: object) -> bool:
        if _is_array(value):
            mapping = segment.find_mapping(value)
            return mapping is not None and mapping.segment in segments
        return not segments.isdisjoint(segments_of_value(value)[:1])

    return test


def _is_array(value: object) -> TypeGuard[Array]:
    """Return whether a value is an array that can be in a segment, which has no Python objects."""
    kind = type(value)
    return issubclass(kind, np.ndarray) and not np.ndarray.dtype.__get__(value).hasobject


def same_owner(array: Array) -> Test:
    """Return a test for arrays with the same memory owner as `array`. It keeps neither alive."""
    owner = id(owner_of(array))

    def test(other: Any) -> bool:
        return issubclass(type(other), np.ndarray) and id(owner_of(other)) == owner

    return test


def owner_of(array: Array) -> Array:
    """Return the array at the end of the chain of bases."""
    while True:
        base: Any = np.ndarray.base.__get__(array)
        if not issubclass(type(base), np.ndarray):
            return array
        array = base


def find_arrays(namespace: Mapping[str, Any], test: Test) -> list[str]:
    """Return the expressions that lead to what passes `test`: ``Y``, ``d['x']``, ``Out[3]``."""
    out = namespace.get("_oh")
    results = list(out.items()) if type(out) is dict else []
    roots = [
        *user_variables(namespace),
        *((f"Out[{static.key(key)}]", value) for key, value in results),
    ]
    # Private attributes are not shown: `df`, not `df._mgr.blocks[0]`.
    return list(dict.fromkeys(path.partition("._")[0] for path in _search(roots, test)))


def _search(roots: Iterable[tuple[str, object]], test: Test) -> list[str]:
    roots = list(roots)
    # All variables first, so that a long list cannot use up the search before the last of them.
    found = [path for path, value in roots if test(value)]
    known = set(found)
    seen: set[int] = set()
    stack = [(name, value, _DEPTH) for name, value in roots if name not in known]
    stack.reverse()
    while stack and len(seen) <= _LIMIT:
        path, value, depth = stack.pop()
        if depth < _DEPTH and test(value):
            found.append(path)
        elif id(value) not in seen and depth:
            seen.add(id(value))
            inner = [(path + part, inner, depth - 1) for part, inner in parts_of(value)]
            stack.extend(reversed(inner))
    return found
