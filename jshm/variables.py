"""The variables of a notebook (or of a program's ``__main__``): which are shared, what keeps memory.

IPython keeps what was displayed (``Out``, ``_``, ``_5``) and what was raised (``sys.last_value``), so
that ``del X`` often frees nothing. Here it is found and let go.
"""

from __future__ import annotations

import gc
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from . import handouts
from .errors import SegmentNotFoundError
from .handouts import hand_out, was_handed_out
from .pickling import static as looking
from .pickling.static import parts_of
from .segment import file as segment
from .segment import pages
from .store.local.registry.rows import segment_in
from .store.names import as_variable

if TYPE_CHECKING:
    from .segment.file import Mode
    from .store.base import Attached, Published
    from .store.local.mappings import Mappings
    from .store.local.store import LocalStore

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


@dataclass(frozen=True, slots=True)
class Detached:
    """What `detach_segments` did.

    Attributes
    ----------
    variables : tuple of str
        Deleted here.
    culprits : list of str
        What still keeps the memory mapped in this process.
    nbytes : int
        Bytes of the mapped segments.
    """

    variables: tuple[str, ...]
    culprits: list[str]
    nbytes: int


def shell() -> Any:
    """Return the running IPython shell, or None."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def user_namespace() -> Namespace:
    """Return the notebook's variables, or those of ``__main__``."""
    running = shell()
    found: Namespace = running.user_ns if running is not None else sys.modules["__main__"].__dict__
    return found


def attach_published(store: LocalStore, done: Iterable[Published], mode: Mode) -> list[Attached]:
    """Attach the very versions that were published here; by now others may be the newest.

    Raises
    ------
    SegmentNotFoundError
        One is gone: nobody held it when it was superseded.
    """
    try:
        return store.attach_published(list(done), mode)
    except SegmentNotFoundError as error:
        raise SegmentNotFoundError(
            f"published, and replaced by another process at once, so your own array stays private: "
            f"{error}"
        ) from None


def rebind(namespace: Namespace, old: object, new: Attached) -> list[str]:
    """Let the variables that are `old` be what was attached; return their names."""
    names = [name for name, value in user_variables(namespace) if value is old]
    for name in names:
        namespace[name] = hand_out(new.value, new.segments)
    return names


def user_variables(namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the variables that the user made: not IPython's own, and not its history."""
    running = shell()
    hidden = running.user_ns_hidden if running is not None else {}
    for name, value in list(namespace.items()):
        if type(name) is not str or name in ("In", "Out") or _HISTORY.match(name):
            continue
        if name in hidden and hidden[name] is value:
            continue
        yield name, value


# -- detach ----------------------------------------------------------------------------------------


def detach_segments(
    namespace: Namespace, segments: set[str], store: LocalStore, named: Iterable[str] = ()
) -> Detached:
    """Delete the variables that are views of segments, and the variables `named` in any case.

    What was changed privately (mode ``'c'``) is somebody's work: it goes only if it is named.

    Who was given an array and calls this must have let go of it, else it is what keeps the memory.
    """
    mappings = store.presence.mappings
    concerns = in_segment(segments)
    gone: list[str] = []
    # Of values that were published in one step each has an id of its own in one segment.
    watched = segments.union(map(segment_in, segments))
    for name, value in list(user_variables(namespace)):
        bound = handouts.segments_bound(name, value) if name in named else ()
        if not concerns(value) and segments.isdisjoint(bound[:1]):
            continue
        if name in named or (was_handed_out(value) and not _has_changes(value, mappings)):
            gone.append(name)
            # An object also lets go of what it refers to.
            watched.update(handouts.segments_of(value) or bound)
    value = None
    nbytes = sum(mappings.length(identity) for identity in watched)
    for name in gone:
        del namespace[name]
    forget_history(namespace, concerns)
    handouts.prune()
    if any(map(mappings.is_mapped, watched)):
        _forget_exceptions()
        gc.collect()
    culprits = []
    if any(map(mappings.is_mapped, watched)):
        culprits = find_arrays(namespace, in_segment(watched)) or [_UNKNOWN]
    store.flush()
    return Detached(tuple(gone), culprits, nbytes)


def _has_changes(value: object, mappings: Mappings) -> bool:
    """Tell whether an array, or an array of an object, was changed privately."""
    # What is in an object may be hidden; the object's mappings are not.
    within = handouts.segments_of(value)
    found = [segment.find(value)] if _is_array(value) else [*mappings.private(within)]
    return any(m is not None and m.mode == "c" and not pages.is_pristine(m) for m in found)


def segments_of(namespace: Namespace, what: str | Array, store: LocalStore) -> set[str]:
    """Return the ids of the mapped segments that a name, a variable's name or an array stands for.

    Raises
    ------
    SegmentNotFoundError
        None.
    """
    name = looking.text(what)
    value: Any = namespace.get(as_variable(name)) if name else what
    if issubclass(type(value), np.ndarray):
        mapping = segment.find(value)
        if mapping is not None:
            return {mapping.segment}
    if own := handouts.segments_of(value)[:1]:
        return set(own)
    if not issubclass(type(what), str):
        raise SegmentNotFoundError("it is not in shared memory")
    if own := handouts.segments_bound(as_variable(name), value)[:1]:
        return set(own)
    what = unicodedata.normalize("NFC", name)
    bound = _attached_from(namespace)
    found = {
        entry.own
        for entry in store.catalogue.versions(what)
        if store.presence.mappings.is_mapped(entry.segment.id) or entry.own in bound
    }
    if not found:
        raise SegmentNotFoundError(
            f"{what!r} is mapped nowhere here: neither a variable that is a shared array, nor a name "
            "that is attached"
        )
    return found


def _attached_from(namespace: Namespace) -> set[str]:
    """Return the segments that variables were attached from; of an object nothing may be mapped."""
    found: set[str] = set()
    for name, value in user_variables(namespace):
        found.update(handouts.segments_of(value)[:1], handouts.segments_bound(name, value)[:1])
    return found


def attached_names(namespace: Namespace, store: LocalStore) -> list[str]:
    """Return the names of which some version is attached here."""
    bound = _attached_from(namespace)
    return sorted(
        {
            entry.name
            for entry in store.catalogue.everything()
            if entry.own in bound or store.presence.mappings.is_mapped(entry.segment.id)
        }
    )


def forget_history(namespace: Namespace, test: Test) -> list[str]:
    """Drop what IPython keeps of displayed results; return the entries' names."""
    gone = []
    out = namespace.get("_oh")
    if type(out) is dict:
        for number in [number for number, value in out.items() if test(value)]:
            del out[number]
            gone.append(f"Out[{looking.key(number)}]")
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
    # `_5` is also where IPython remembers which variables are its own.
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


# -- who keeps it ----------------------------------------------------------------------------------


def in_segment(segments: set[str]) -> Test:
    """Return a test for arrays in one of these segments, and for objects attached from one."""

    def test(value: object) -> bool:
        if _is_array(value):
            mapping = segment.find(value)
            return mapping is not None and mapping.segment in segments
        return not segments.isdisjoint(handouts.segments_of(value)[:1])

    return test


def _is_array(value: object) -> TypeGuard[Array]:
    """Tell whether a value is an array that may be in a segment: one without Python objects."""
    kind = type(value)
    return issubclass(kind, np.ndarray) and not np.ndarray.dtype.__get__(value).hasobject


def same_owner(array: Array) -> Test:
    """Return a test for arrays that share their memory's owner with `array`.

    It keeps neither alive.
    """
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
    """Return how one reaches what passes `test`: ``Y``, ``d['x']``, ``Out[3]``."""
    out = namespace.get("_oh")
    results = list(out.items()) if type(out) is dict else []
    roots = [
        *user_variables(namespace),
        *((f"Out[{looking.key(key)}]", value) for key, value in results),
    ]
    # What is in private attributes is shown as what has them: `df`, not `df._mgr.blocks[0]`.
    return list(dict.fromkeys(path.partition("._")[0] for path in _search(roots, test)))


def _search(roots: Iterable[tuple[str, object]], test: Test) -> list[str]:
    roots = list(roots)
    # The variables themselves first: a long list must not use up the search before the last of them.
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
