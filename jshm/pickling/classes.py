"""Which class it is that arrives: the reader's own, one that arrived before, or a new one.

A class travels by value, with its definition (`definitions`). In the reader's process the class of that
module and name is used if it is defined the same; else the class that was made here of the same
definition; else a new one is made, and filled with the attributes that travelled. A class is filled
once: state that it got later (a counter, a patch) is never set back. What its publisher added to the
very same class since is added here, too.

cloudpickle gives each class an id when it is first written. It tells apart classes that no name leads
to: those of functions, and those that `type` made.
"""

from __future__ import annotations

import enum
import sys
import threading
import typing
import warnings
import weakref
from contextvars import ContextVar
from types import MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..errors import DefinitionWarning, outside
from ..system import signals as interrupts
from ..system.forks import wait_for
from ..system.weak import WeakKeys, WeakSet
from . import enumerations, generated, modules, typings
from .code import TAG, mark_generated
from .definitions import CONSTANT, DOCSTRING, Definition, Part, module_of
from .hooks import hooked, new_class, without_hooks
from .libraries import CACHES
from .survey import definition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .writer import Writer

_lock = threading.RLock()
wait_for(_lock)
_SHOWN = 6
# The part of a definition that only one class has.
_WHICH = "which it is"

# Classes that were written here, and were not made here.
_own: WeakSet[type] = WeakSet()
# Classes that were made here, and have none of their attributes yet, or not all.
_unfilled: WeakSet[type] = WeakSet()
# Classes that were made here → the parts that their publisher added since.
_added: WeakKeys[type, set[str]] = WeakKeys()
# Module and qualified name → the definitions that were written or made here, and their classes.
_known: dict[tuple[str, str], list[tuple[Definition, weakref.ref[type]]]] = {}
_made: WeakSet[type] = WeakSet()
making: ContextVar[set[type] | None] = ContextVar("making", default=None)
"""The classes that were made for what is loaded at the moment; None where nobody keeps account."""

# What the user was told: texts of the definition that arrived and of the one that is here.
_told: set[tuple[str, str]] = set()


# -- writing ---------------------------------------------------------------------------------------


def reduce(_: Writer, cls: type, reduced: Any) -> Any:
    """Return cloudpickle's reduction of a class by value, with its definition and its slots."""
    if cls not in _made:
        _own.add(cls)
    construct, arguments, (attributes, _), *_, _setter = reduced
    identity = cp._get_or_create_tracker_id(cls)
    if (
        "__slots__" in cls.__dict__
        and construct is cp._make_skeleton_class
        and not _makes_slots(cls)
    ):
        # Made again from `__slots__`: given to the class when it is made, for later is too late.
        members = [
            name
            for name, value in attributes.items()
            if isinstance(value, MemberDescriptorType) and _is_slot(cls, name, value)
        ]
        for name in members:
            del attributes[name]
        constructor, name, bases, keywords, *rest = arguments
        keywords = {**keywords, "__slots__": _slots_of(cls)}
        arguments = (constructor, name, bases, keywords, *rest)
    module = module_of(cls)
    if construct is cp._make_skeleton_class:
        constructor, name, bases, keywords, *_ = arguments
        if "__module__" in keywords:
            keywords["__module__"] = module
        construct, arguments = _new_class, (constructor, name, bases, keywords)
    else:
        construct, arguments = enumerations.reduce(cls, attributes)
    if "__module__" in attributes:
        attributes["__module__"] = module
    if generated.REPLACE is not None and attributes.get("__replace__") is generated.REPLACE:
        del attributes["__replace__"]
    typings.drop_protocol_hook(attributes)
    for name in CACHES & attributes.keys():
        del attributes[name]
    methods = generated.methods(cls)
    for code in methods.values():
        mark_generated(code)
    about = {"tag": TAG, "generated": list(methods), "qualname": cls.__qualname__}
    if issubclass(cls, enum.Enum):
        about["members"] = enumerations.members(cls)
    definition = _defined(cls, identity)
    origin = modules.origin_of(definition.module)
    # Strings are copied: what else in a pickle is the very same object is up to chance.
    where = (definition.to_json(), "".join(identity), tuple(origin) if origin else None)
    return make, (*where, construct, arguments), (attributes, about), None, None, fill


@interrupts.deferred()
def _defined(cls: type, identity: str) -> Definition:
    """Return a class's definition, and remember whose it is."""
    try:
        definition = definition_of(cls)
        if _is_only_in_main(cls, definition):
            definition = definition._replace(module="__main__")
        for known, reference in _known.get(definition.key, ()):
            # As it arrived: then it says more of the source than what arrived does.
            if reference() is cls and not known.differences(definition, apart_from={_WHICH}):
                return known
        is_named = _has_its_name(cls, definition)
    except Exception:  # noqa: BLE001 - a metaclass of the user's may raise anything
        definition = Definition(module_of(cls), cls.__qualname__, TAG, False, {})
        is_named = False
    if not is_named:
        # No name leads to it: another one that looks the same is another one.
        definition = definition._replace(parts={**definition.parts, _WHICH: Part("v", identity)})
    _remember(definition, cls)
    return definition


def _remember(definition: Definition, cls: type) -> None:
    with _lock:
        living = [entry for entry in _known.get(definition.key, ()) if entry[1]() is not None]
        _known[definition.key] = [*living, (definition, weakref.ref(cls))]


def _is_only_in_main(cls: type, definition: Definition) -> bool:
    """Tell whether a class of the notebook says that it is of a module of Python's.

    Before Python 3.12 `dataclasses.make_dataclass` makes it so.
    """
    name, module = definition.qualname, sys.modules.get(definition.module)
    if module is None or modules.is_by_value(definition.module):
        return False
    return _named(module, name) is not cls and _named(sys.modules["__main__"], name) is cls


def _has_its_name(cls: type, definition: Definition) -> bool:
    """Tell whether a class's name leads to it, or to one that is defined the same: its cell ran again."""
    found = _named(sys.modules.get(definition.module), definition.qualname)
    return found is cls or (found is not None and not _apart(found, definition)[1])


def _is_slot(cls: type, name: str, member: MemberDescriptorType) -> bool:
    """Tell whether a descriptor is that of a slot of this class, under the slot's own name."""
    private = f"_{cls.__name__.lstrip('_')}{member.__name__}"
    return member.__objclass__ is cls and name in (member.__name__, private)


def _makes_slots(cls: type) -> bool:
    """Tell whether a class's constructor sets `__slots__` itself: that of named tuples does."""
    return typing.NamedTuple in getattr(cls, "__orig_bases__", ())


def _slots_of(cls: type) -> Any:
    slots = cls.__dict__["__slots__"]
    if isinstance(slots, (str, tuple, list, dict)):
        return slots
    # An iterator, which is used up by now.
    return tuple(n for n, value in vars(cls).items() if isinstance(value, MemberDescriptorType))


# -- reading ---------------------------------------------------------------------------------------


def make(
    text: str,
    identity: str,
    origin: tuple[str, str, str] | None,
    construct: Callable[..., type],
    arguments: tuple[Any, ...],
) -> type:
    """Return the class of a definition: the reader's own, one that was made before, or a new one.

    Parameters
    ----------
    text : str
        The definition, as JSON.
    identity : str
        cloudpickle's id of the class.
    origin : tuple of str, or None
        Of its module; see `modules.Origin`.
    construct, arguments
        What makes it.
    """
    with cp._DYNAMIC_CLASS_TRACKER_LOCK:
        same = cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)
    if same is not None and same in _own:
        return same  # type: ignore[no-any-return]
    definition = Definition.from_json(text)
    here = None if _WHICH in definition.parts else _own_class(definition, origin)
    different: list[str] = []
    if here is not None and here not in _made:
        own, different = _apart(here, definition)
        if any(cls is here for cls in _classes_of(definition)):
            # Found before. Its attributes may be patched since, with code that names something else.
            common = own.parts.keys() & definition.parts.keys()
            different = [n for n in different if n in common and not n.isidentifier()]
        elif not different:
            _remember(definition, here)
        values = [n for n in different if n.partition(" ")[0] == CONSTANT and n in own.parts]
        if values == different and definition.parts.keys() >= set(values):
            if values and _is_new(text, own):
                _tell_values(definition, values)
            return here
    cls = _class_of(definition, same)
    if cls is None:
        made = construct(*arguments)  # runs code of the user's: not with the lock
        with _lock:
            cls = _class_of(definition, same)  # made by another thread meanwhile
            if cls is None:
                cls = made
                _unfilled.add(cls)
                _made.add(cls)
                _remember(definition, cls)
                if same is None:
                    cp._lookup_class_or_track(identity, cls)
        if cls is made and (now := making.get()) is not None:
            now.add(cls)
    if different and _is_new(text, own):
        _tell(definition, different)
    return cls


def _own_class(definition: Definition, origin: tuple[str, str, str] | None) -> type | None:
    """Return the class that this process has under a definition's name, if it has one."""
    module = sys.modules.get(definition.module)
    if module is None and origin is not None:
        module = modules.imported(modules.Origin(*origin))
    return _named(module, definition.qualname)


def _named(module: ModuleType | None, qualname: str) -> type | None:
    """Return the class of a qualified name; no ``__getattr__`` is asked for it."""
    found: Any = module
    for name in qualname.split("."):
        if issubclass(type(found), ModuleType):
            found = vars(found).get(name)
        elif issubclass(type(found), type):
            found = type.__dict__["__dict__"].__get__(found).get(name)
        else:
            return None
    return found if issubclass(type(found), type) else None


def _class_of(definition: Definition, same: Any) -> type | None:
    """Return the class that was made here of a definition, or of the publisher's very class."""
    with _lock:
        # Classes of the reader's own may have changed since they were found to be the same.
        found = next((cls for cls in _classes_of(definition) if cls in _made), None)
        if found is None and same is not None and _grows(same, definition):
            found = same
    return found


def _classes_of(definition: Definition) -> Iterator[type]:
    """Yield the living classes that were written or made here of the same definition."""
    for known, reference in _known.get(definition.key, ()):
        cls = reference()
        if cls is not None and not known.differences(definition):
            yield cls


def _apart(cls: type, definition: Definition) -> tuple[Definition, list[str]]:
    """Return the definition of a class of this process, and in what another one differs from it."""
    own = definition_of(cls, reaches=definition.reaches)
    return own, own.differences(definition, apart_from={DOCSTRING})


def _grows(cls: type, definition: Definition) -> bool:
    """Tell whether a class that was made here is the publisher's very class, but for parts added since."""
    entries = _known.get(definition.key, [])
    index = next((i for i, (_, reference) in enumerate(entries) if reference() is cls), None)
    if index is None or cls not in _made:
        return False
    known = entries[index][0]
    added = definition.parts.keys() - known.parts.keys()
    if known.differences(definition, apart_from=definition.parts.keys() ^ known.parts.keys()):
        return False
    if added:
        whole = known._replace(parts={**known.parts, **definition.parts})
        entries[index] = whole, weakref.ref(cls)
        _added[cls] = {*_added.get(cls, set()), *added}
    return True


def _is_new(text: str, own: Definition) -> bool:
    """Tell whether the user was not told yet how these definitions differ."""
    pair = (text, own.to_json())
    if pair in _told:
        return False
    _told.add(pair)
    return True


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _tell_values(definition: Definition, values: list[str]) -> None:
    """Warn that the reader's class, which is the same, finds other values under global names."""
    names = _listed([value.partition(" ")[2] for value in values])
    warnings.warn(
        f"the methods of {definition.qualname} use values of here that differ from those where it was "
        f"shared: {names}",
        DefinitionWarning,
        stacklevel=outside(),
    )


def _tell(definition: Definition, different: list[str]) -> None:
    """Warn that the reader's class of a name is defined differently."""
    module = "" if definition.module == "__main__" else f"{definition.module}."
    name = definition.qualname
    warnings.warn(
        f"the class {module}{name} that was shared differs from the one defined here, in: "
        f"{_listed(different)}. The shared object keeps the class that it was published with, so isinstance "
        f"and == with {name} of here are False. Run the same definition in both, and publish again",
        DefinitionWarning,
        stacklevel=outside(),
    )


def _new_class(metaclass: Any, name: str, bases: tuple[Any, ...], keywords: dict[str, Any]) -> type:
    """Make a class without its attributes.

    What the hook of a base did to that base is there already, if the base arrives at the same time.
    """
    keywords = {sys.intern(key): value for key, value in keywords.items()}
    if hooked(bases) in (making.get() or ()):
        return without_hooks(metaclass, name, bases, keywords)
    return new_class(metaclass, name, bases, keywords)


def fill(cls: type, state: Any) -> None:
    """Set the attributes of a class that was just made; of any other, those that were added."""
    attributes, about = state
    if cls not in _unfilled:
        added = _added.pop(cls, set())
        cp._class_setstate(cls, ({n: v for n, v in attributes.items() if n in added}, {}))
        return
    tag = about["tag"]
    if tag != TAG and typings.is_protocol(cls):
        attributes = typings.without_members(attributes)
    cp._class_setstate(cls, (attributes, {}))
    cls.__qualname__ = about["qualname"]
    if "members" in about:
        enumerations.complete(cls, about["members"])
    if about["generated"] and tag != TAG:
        generated.restore(cls, about["generated"])
    if generated.REPLACE is not None and "__dataclass_params__" in cls.__dict__:
        cls.__replace__ = generated.REPLACE  # type: ignore[attr-defined]
    if tag != TAG and typings.is_protocol(cls):
        typings.complete_protocol(cls)
    _unfilled.discard(cls)
