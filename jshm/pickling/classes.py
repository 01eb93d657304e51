"""The class that a pickle stands for: the reader's own, one that arrived before, or a new one.

A class travels by value, with its definition (`definitions`). In the reader's process the class of
that module and name is used if it is defined the same; otherwise the class that was made here of
the same definition; otherwise a new one is made, and filled with the attributes that travelled. A
class is filled once: state that it got later (a counter, a patch) is never set back. Attributes
that its publisher added since to the same class are added here too.

cloudpickle gives each class an id when it is first written. The id tells classes apart that no name
leads to: those of functions, and those that `type` made.
"""

from __future__ import annotations

import sys
import threading
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..errors import DefinitionWarning, outside
from ..system import signals
from ..system.forks import wait_for
from ..system.weak import WeakKeys, WeakSet
from . import modules, remake
from .code import TAG
from .definitions import CONSTANT, DOCSTRING, Definition, Part, definition_of, label, module_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# Names that a warning lists.
_SHOWN = 6
# The part of a definition that tells apart classes that no name leads to.
_WHICH = "class:identity"

_lock = threading.RLock()
wait_for(_lock)
# Class → the definitions that it was written with, found by, or made of.
_definitions: WeakKeys[type, list[Definition]] = WeakKeys()
# Module and qualified name → the classes that were made here.
_made: dict[tuple[str, str], WeakSet[type]] = {}
# The same classes; and those that were written here, and were not made here.
_made_here: WeakSet[type] = WeakSet()
_own: WeakSet[type] = WeakSet()
# Classes that were made here, and do not have all of their attributes yet.
_unfilled: WeakSet[type] = WeakSet()
# Classes that were made here → the parts that their publisher added since.
_added: WeakKeys[type, set[str]] = WeakKeys()
making: ContextVar[set[type] | None] = ContextVar("making", default=None)
"""The classes made for the object that is being loaded; None while nothing is."""

# Differences that the user was warned of: the definition that arrived, and the one that is here.
_told: set[tuple[str, str]] = set()


# -- reading ---------------------------------------------------------------------------------------


def class_of(
    text: str,
    identity: str,
    origin: tuple[str, str, str] | None,
    construct: Callable[..., type],
    arguments: tuple[Any, ...],
) -> type:
    """Return the class of a definition; for the parameters see `frozen.class_of`."""
    with cp._DYNAMIC_CLASS_TRACKER_LOCK:
        same = cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)
    if same is not None and same in _own:
        return same  # type: ignore[no-any-return]
    definition = Definition.from_json(text)
    here = None if _WHICH in definition.parts else _own_class(definition, origin)
    different: list[str] = []
    if here is not None and here not in _made_here:
        own, different = _apart(here, definition)
        if _is_known_by(here, definition):
            # Found before. Its attributes may be patched since, with code that names something else.
            common = own.parts.keys() & definition.parts.keys()
            different = [n for n in different if n in common and not n.isidentifier()]
        elif not different:
            _remember(definition, here)
        values = [n for n in different if n.startswith(CONSTANT) and n in own.parts]
        if values == different and definition.parts.keys() >= set(values):
            if values and _is_news(text, own):
                _warn_of_values(definition, values)
            return here
    cls = _made_before(definition, same)
    if cls is None:
        made = construct(*arguments)  # runs the user's code, so without the lock
        with _lock:
            cls = _made_before(definition, same)  # by another thread meanwhile
            if cls is None:
                cls = made
                _unfilled.add(cls)
                _made_here.add(cls)
                _remember(definition, cls)
                if same is None:
                    cp._lookup_class_or_track(identity, cls)
        if cls is made and (now := making.get()) is not None:
            now.add(cls)
    if different and _is_news(text, own):
        _warn_of_difference(definition, different)
    return cls


def new_class(metaclass: Any, name: str, bases: tuple[Any, ...], keywords: dict[str, Any]) -> type:
    """Return a class without its attributes.

    If a base arrives at the same time, its hook is not called: the base has the hook's effects already.
    """
    keywords = {sys.intern(key): value for key, value in keywords.items()}
    if remake.hooked(bases) in (making.get() or ()):
        return remake.without_hooks(metaclass, name, bases, keywords)
    return remake.new_class(metaclass, name, bases, keywords)


def fill(cls: type, state: Any) -> None:
    """Set the attributes of a class that was just made; of any other, those added since."""
    attributes, about = state
    if cls not in _unfilled:
        added = _added.pop(cls, set())
        cp._class_setstate(cls, ({n: v for n, v in attributes.items() if n in added}, {}))
        return
    of_another_python = about["tag"] != TAG
    is_protocol = of_another_python and remake.is_protocol(cls)
    if is_protocol:
        attributes = remake.without_members(attributes)
    cp._class_setstate(cls, (attributes, {}))
    cls.__qualname__ = about["qualname"]
    if "members" in about:
        remake.complete_enumeration(cls, about["members"])
    if about["generated"] and of_another_python:
        remake.generate_again(cls, about["generated"])
    if remake.REPLACE is not None and "__dataclass_params__" in cls.__dict__:
        cls.__replace__ = remake.REPLACE  # type: ignore[attr-defined]
    if is_protocol:
        remake.complete_protocol(cls)
    _unfilled.discard(cls)


def _own_class(definition: Definition, origin: tuple[str, str, str] | None) -> type | None:
    """Return the class that this process has under a definition's name; None if it has none."""
    module = sys.modules.get(definition.module)
    if module is None and origin is not None:
        module = modules.imported(modules.Origin(*origin))
    return _named(module, definition.qualname)


def _named(module: ModuleType | None, qualname: str) -> type | None:
    """Return the class of a qualified name."""
    found = modules.lookup(module, qualname)
    return found if issubclass(type(found), type) else None


def _apart(cls: type, definition: Definition) -> tuple[Definition, list[str]]:
    """Return the definition of a class of this process, and the parts in which another one differs."""
    own = definition_of(cls, reaches=definition.reaches)
    return own, own.differences(definition, apart_from={DOCSTRING})


def _made_before(definition: Definition, same: Any) -> type | None:
    """Return the class that was made here of a definition, or of the publisher's very class."""
    with _lock:
        for cls in _made.get(definition.key, ()):
            if _is_known_by(cls, definition):
                return cls
        return same if same is not None and _grows(same, definition) else None


def _is_known_by(cls: type, definition: Definition) -> bool:
    return any(
        known.key == definition.key and not known.differences(definition)
        for known in _definitions.get(cls, [])
    )


def _grows(cls: type, definition: Definition) -> bool:
    """Return whether a class made here is the publisher's very class, but for parts added since."""
    known = next((d for d in _definitions.get(cls, []) if d.key == definition.key), None)
    if known is None or cls not in _made_here:
        return False
    added = definition.parts.keys() - known.parts.keys()
    if known.differences(definition, apart_from=definition.parts.keys() ^ known.parts.keys()):
        return False
    if added:
        whole = known._replace(parts={**known.parts, **definition.parts})
        _definitions[cls] = [whole if d is known else d for d in _definitions.get(cls, [])]
        _added[cls] = {*_added.get(cls, set()), *added}
    return True


# -- writing ---------------------------------------------------------------------------------------


@signals.deferred()
def definition_written(cls: type, identity: str) -> Definition:
    """Return the definition to write with a class, and remember that it is this class's.

    Parameters
    ----------
    cls : type
    identity : str
        cloudpickle's id of the class.
    """
    if cls not in _made_here:
        _own.add(cls)
    try:
        definition = definition_of(cls)
        if _is_only_in_main(cls, definition):
            definition = definition._replace(module="__main__")
        for known in _definitions.get(cls, []):
            # As it arrived: that one has more of the source than is known here.
            is_same = not known.differences(definition, apart_from={_WHICH})
            if known.key == definition.key and is_same:
                return known
        has_name = _has_its_name(cls, definition)
    except Exception:  # noqa: BLE001 - a metaclass of the user's may raise anything
        definition = Definition(module_of(cls), cls.__qualname__, TAG, False, {})
        has_name = False
    if not has_name:
        # No name leads to it, so another class that looks the same is another class.
        definition = definition._replace(parts={**definition.parts, _WHICH: Part("v", identity)})
    _remember(definition, cls)
    return definition


def _remember(definition: Definition, cls: type) -> None:
    with _lock:
        _definitions[cls] = [*_definitions.get(cls, []), definition]
        if cls in _made_here:
            _made.setdefault(definition.key, WeakSet()).add(cls)


def _is_only_in_main(cls: type, definition: Definition) -> bool:
    """Return whether a class of the notebook names a module of Python's as its own.

    Before Python 3.12 `dataclasses.make_dataclass` makes such classes.
    """
    name, module = definition.qualname, sys.modules.get(definition.module)
    if module is None or modules.is_by_value(definition.module):
        return False
    return _named(module, name) is not cls and _named(sys.modules["__main__"], name) is cls


def _has_its_name(cls: type, definition: Definition) -> bool:
    """Return whether a class's name leads to it, or to one that is defined the same: its cell ran again."""
    found = _named(sys.modules.get(definition.module), definition.qualname)
    return found is cls or (found is not None and not _apart(found, definition)[1])


# -- warnings --------------------------------------------------------------------------------------


def _is_news(text: str, own: Definition) -> bool:
    """Return whether the user was not warned yet that these definitions differ."""
    pair = (text, own.to_json())
    if pair in _told:
        return False
    _told.add(pair)
    return True


def _listed(names: list[str]) -> str:
    return ", ".join(map(label, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")


def _warn_of_values(definition: Definition, values: list[str]) -> None:
    """Warn that the reader's class, which is the same, finds other values under global names."""
    names = _listed([value.removeprefix(CONSTANT) for value in values])
    warnings.warn(
        f"the methods of {definition.qualname} use the values of this process, which differ from those "
        f"where it was shared: {names}",
        DefinitionWarning,
        stacklevel=outside(),
    )


def _warn_of_difference(definition: Definition, different: list[str]) -> None:
    """Warn that the reader's class of a name is defined differently."""
    module = "" if definition.module == "__main__" else f"{definition.module}."
    name = definition.qualname
    warnings.warn(
        f"the class {module}{name} that was shared differs from the one defined here, in: "
        f"{_listed(different)}. The shared object keeps the class that it was published with, so isinstance "
        f"and == with the {name} of this process are False. Run the same definition in both, and publish "
        "again",
        DefinitionWarning,
        stacklevel=outside(),
    )
