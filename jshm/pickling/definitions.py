"""Definitions of classes and functions: whether two of one name are the same.

A definition has a fingerprint of each *part*: a class's methods, fields, members, bases and
constants, and the functions, classes and constants of its own module that its code names. It covers
what travels with a class: code, defaults, annotations. It leaves out line numbers, comments and
state: mutable values, and variables that code assigns to.

A part has two fingerprints, because neither is always known. One is of the bytecode or of the
value: another version of Python compiles other bytecode, and a constant may have been assigned to.
The other is of the source: it is known for cells and files, and not for text that `exec` ran.
"""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import enum
import inspect
import json
import re
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import modules, remake, static
from .code import TAG
from .fingerprints import PARTIAL, digest, expressions, function_of, look, stored_by

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CODE, VALUE, SOURCE = "c", "v", "s"
CONSTANT = "constant:"
"""Begins the keys of parts for the values of global constants that the code uses."""
DOCSTRING = "class:docstring"
"""The key of a part that tells apart only classes that the reader did not define."""
_FACTORY = "factory"


def label(key: str) -> str:
    """Return what people call a part: ``its bases`` for ``class:bases``, ``field lr`` for ``field:lr``."""
    what, colon, name = key.partition(":")
    owner, dot, kind = what.rpartition(".")
    if not colon:
        return key
    if kind in ("class", "function"):
        return f"{owner}{dot}its {name}"
    return f"{owner}{dot}{kind}{' of' if kind == _FACTORY else ''} {name}"


class Part(NamedTuple):
    """The fingerprints of one part of a definition; '' if one is not known.

    Attributes
    ----------
    kind : {'c', 'v', 's'}
        Code, a value, or what only its source tells.
    here : str
        Of the bytecode, or of the value.
    source : str
        Of the source: of a function's statement, or of the expression that gave the value.
    """

    kind: str
    here: str
    source: str = ""

    def differs(self, other: Part, *, same_python: bool) -> bool:
        """Return whether two parts of one name are known to differ."""
        if self.kind != other.kind:
            return True
        if self.kind == CODE and not same_python:
            # Without both sources the difference is unknown, and counts as one.
            return not self.source or self.source != other.source
        if self.kind != CODE and self.source and other.source:
            return self.source != other.source
        return bool(self.here and other.here) and self.here != other.here


class Definition(NamedTuple):
    """The definition of a class or a function.

    Attributes
    ----------
    module, qualname : str
        Its name; ``__main__`` also if it is in the main module of a worker.
    tag : int
        The magic number of its bytecode.
    reaches : bool
        Whether it also covers what its code names in its module.
    parts : dict of str to Part
        By key: the name of an attribute, or a kind and a name, as ``field:lr``. The keys for what a class
        of the same module has begin with its qualified name and a dot.
    """

    module: str
    qualname: str
    tag: int
    reaches: bool
    parts: Mapping[str, Part]

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.qualname

    def differences(self, other: Definition, *, apart_from: Collection[str] = ()) -> list[str]:
        """Return the keys of the parts that differ; empty if both are the same definition."""
        same_python = self.tag == other.tag
        return [
            name
            for name in sorted({*self.parts, *other.parts}.difference(apart_from))
            if name not in self.parts
            or name not in other.parts
            or self.parts[name].differs(other.parts[name], same_python=same_python)
        ]

    def to_json(self) -> str:
        """Return it as text, which is one object in a pickle and the same in every process."""
        return json.dumps(self, separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Definition:
        module, qualname, tag, reaches, parts = json.loads(text)
        return Definition(module, qualname, tag, reaches, {n: Part(*p) for n, p in parts.items()})


def module_of(obj: Any) -> str:
    """Return the name of a class's or a function's module.

    `multiprocessing` calls the main module of a worker ``__mp_main__``: it is the script's.
    """
    name = getattr(obj, "__module__", None)
    if name == "__mp_main__":
        return "__main__"
    return name if isinstance(name, str) else ""


# -- msgspec and ctypes ----------------------------------------------------------------------------


STRUCT_OPTIONS = (
    "frozen", "eq", "order", "array_like", "gc", "repr_omit_defaults", "omit_defaults",
    "forbid_unknown_fields", "weakref", "dict", "cache_hash", "tag", "tag_field",
)  # fmt: skip
CACHES = frozenset({"__msgspec_cache__"})
"""Attributes in which libraries cache what they know of a class."""


def own_annotations(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations of a class that are not inherited, as they were written."""
    found = space.get("__annotations__") or space.get("__annotations_cache__")
    found = getattr(found, "written", found)
    return found if isinstance(found, dict) else {}


def is_struct(cls: type) -> bool:
    """Return whether a class is a `msgspec.Struct`."""
    msgspec: Any = sys.modules.get("msgspec")
    return msgspec is not None and issubclass(type(cls), type(msgspec.Struct))


def struct_options(cls: Any) -> dict[str, Any]:
    """Return the options that a struct was made with."""
    config = cls.__struct_config__
    return {name: getattr(config, name) for name in STRUCT_OPTIONS if hasattr(config, name)}


def struct_parts(cls: Any) -> dict[str, Any]:
    """Return the declaration of a struct or of a structure of ctypes; nothing for other classes."""
    if issubclass(cls, ctypes.Structure | ctypes.Union):
        # Types by name: the module of an array's type is the one that made it first, by chance.
        own = cls.__dict__.get("_fields_", ())
        return {"class:fields": tuple((name, kind.__name__, *bits) for name, kind, *bits in own)}
    if not is_struct(cls):
        return {}
    encoded = zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
    return {
        "class:options": struct_options(cls),
        "class:fields": tuple(encoded),
        "class:defaults": cls.__struct_defaults__,
    }


# -- the parts of a definition ---------------------------------------------------------------------


# Limits: classes and functions that are followed through names, and the depth of values.
_MOST = 2000
_DEEPEST = 8
# Limits: items of all constants that are compared; characters, bytes or bits of one constant.
_ITEMS = 100_000
_LONGEST = 1_000_000
# Attributes that Python and its library derive from parts that are compared anyway.
_DERIVED = frozenset(
    {
        "__module__", "__qualname__", "__dict__", "__weakref__", "__doc__", "__annotations__",
        "__annotate__", "__annotate_func__", "__annotations_cache__", "__firstlineno__",
        "__static_attributes__", "__classdictcell__", "__classcell__", "__slotnames__", "__abstractmethods__",
        "__parameters__", "__orig_bases__", "__match_args__", "__dataclass_fields__",
        "__dataclass_params__", "__replace__", "__protocol_attrs__", "__subclasshook__",
        "__non_callable_proto_members__", "__callable_proto_members_only__",
        "__mutable_keys__", "__readonly_keys__",
        "_is_protocol", "_is_runtime_protocol", "_abc_impl", "__type_params__",
        "_fields", "_field_defaults",
    }
)  # fmt: skip
_OF_ENUMERATIONS = frozenset(
    {
        "_generate_next_value_", "_member_names_", "_member_map_", "_member_type_",
        "_value2member_map_", "_hashable_values_", "_unhashable_values_",
        "_unhashable_values_map_", "_new_member_", "_use_args_", "_value_repr_", "_flag_mask_",
        "_singles_mask_", "_all_bits_", "_boundary_", "_inverted_", "__new__",
    }
)  # fmt: skip
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
# Modules whose functions are in the classes that they make.
_OF_PYTHON = frozenset({"abc", "collections", "dataclasses", "enum", "functools", "typing"})
# Options of dataclasses that all versions have.
_OPTIONS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
_OF_A_FIELD = ("default", "init", "repr", "hash", "compare", "kw_only")
_BY_ATTRS = "<attrs generated"
_OF_ATTRS = ("name", "default", "init", "repr", "eq", "order", "hash", "kw_only", "alias")
_CONSTANTS = frozenset({bool, int, float, complex, str, bytes, type(None), type(...), range})
# Immutable types whose `repr` tells the whole value.
_IMMUTABLE = frozenset(
    {
        "datetime.date", "datetime.time", "datetime.datetime", "datetime.timedelta",
        "datetime.timezone", "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re.Pattern",
        "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib._local.PosixPath",
        "pathlib._local.PurePosixPath", "zoneinfo.ZoneInfo",
    }
)  # fmt: skip
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MP_MAIN = re.compile(r"\b__mp_main__\b")


def definition_of(obj: Any, *, reaches: bool | None = None) -> Definition:
    """Return the definition of a class, or of a function (also a cached one).

    Parameters
    ----------
    obj : type or function
    reaches : bool, optional
        Whether to follow what its code names. By default, if its module travels by value.
    """
    module = module_of(obj)
    if reaches is None:
        reaches = module == "__main__" or modules.is_by_value(module) or module not in sys.modules
    survey = _Survey(obj, module, reaches)
    if isinstance(obj, type):
        survey.add_class(obj, "")
        survey.add_docstring(obj)
    else:
        survey.parts["function:code"] = survey.part(getattr(obj, "__wrapped__", obj))
    survey.follow()
    return Definition(module, obj.__qualname__, TAG, reaches, survey.parts)


class _Survey:
    """The parts of one definition, while they are collected."""

    def __init__(self, root: Any, module: str, reaches: bool) -> None:
        self.root = root.__qualname__
        self.module = module
        self.reaches = reaches
        self.parts: dict[str, Part] = {}
        self._seen: set[int] = set()
        self._within: set[int] = set()
        self._queue: collections.deque[tuple[str, Any]] = collections.deque()
        self._left = _ITEMS
        self._constants: dict[str, str] = {}
        self._assigned: set[str] = set()

    def follow(self) -> None:
        """Add the objects that the code names, and those that they name."""
        while self._queue and len(self._seen) < _MOST:
            name, obj = self._queue.popleft()
            if isinstance(obj, type):
                self.add_class(obj, f"{obj.__qualname__}.")
            else:
                self.parts[name] = self.part(obj)
        for name, fingerprint in self._constants.items():
            if name not in self._assigned:
                self.parts[f"{CONSTANT}{name}"] = Part(VALUE, fingerprint)

    # -- functions ---------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> tuple[str, str]:
        """Return the fingerprints of a function's code, defaults, annotations and closure."""
        if id(function) in self._within:
            return "itself", ""
        self._within.add(id(function))
        code = function.__code__
        known = look(code)
        texts = [known.digest]
        texts += [self._word(value) for value in function.__defaults__ or ()]
        texts += [
            f"{n}={self._word(v)}" for n, v in sorted((function.__kwdefaults__ or {}).items())
        ]
        texts += [f"{n}->{text}" for n, text in self._annotations(_annotated(function)).items()]
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name == "__class__":
                continue
            try:
                texts.append(f"{name}:{self._word(cell.cell_contents)}")
            except ValueError:  # an empty cell
                texts.append(name)
        if self.reaches:
            self._assigned |= known.assigned
            for name in known.names:
                if name in function.__globals__:
                    self._global(name, function.__globals__[name])
        self._within.discard(id(function))
        return known.digest if len(texts) == 1 else digest(*texts), known.source

    def _global(self, name: str, value: Any) -> None:
        """Follow a global name that code uses: functions, classes and constants count, state does not."""
        if isinstance(value, types.FunctionType) or issubclass(type(value), type):
            if module_of(value) == self.module and not _is_local(value):
                # An object with the root's name is the root, or replaced it when its cell ran again.
                if id(value) not in self._seen and value.__qualname__ != self.root:
                    self._seen.add(id(value))
                    self._queue.append((f"global:{name}", value))
                return
            self.parts[f"global:{name}"] = Part(VALUE, digest(_named(value)))
            return
        if value is None or name.startswith("__"):
            return
        if function_of(value) is not None:
            if id(value) not in self._seen:
                self._seen.add(id(value))
                self._queue.append((f"global:{name}", value))
            return
        text = self._text(value)
        if text is not None:
            self._constants[name] = digest(text)

    def _annotations(self, annotated: Mapping[str, Any] | None) -> dict[str, str]:
        pairs = annotated.items() if isinstance(annotated, dict) else ()
        return {name: self._annotation(value) for name, value in pairs}

    def _annotation(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if issubclass(type(value), type):
            return _named(value)
        try:
            text = repr(value)
        except Exception:  # noqa: BLE001 - the user's own
            return type(value).__name__
        return _MP_MAIN.sub("__main__", _ADDRESS.sub("", text))

    # -- classes -----------------------------------------------------------------------------------

    def add_class(self, cls: type, prefix: str) -> None:
        """Add the parts of a class."""
        self._seen.add(id(cls))
        space = static.namespace(cls)
        sources = expressions(cls)
        skipped = {*_DERIVED, *CACHES, *remake.generated_methods(cls)}
        if issubclass(type(cls), enum.EnumMeta):
            skipped |= _OF_ENUMERATIONS | set(cls._member_map_)  # type: ignore[attr-defined]
            self._members(cls, prefix)
        if "__dataclass_fields__" in space:
            self._fields(cls, prefix)
        for attribute in space.get("__attrs_attrs__", ()):
            texts = [self._word(getattr(attribute, word, None), deep=True) for word in _OF_ATTRS]
            self.parts[f"{prefix}field:{attribute.name}"] = Part(VALUE, digest(*texts))
        for name, value in struct_parts(cls).items():
            self.parts[prefix + name] = Part(VALUE, digest(self._word(value, deep=True)))
        if issubclass(cls, tuple) and "_fields" in space:
            self._named_tuple(prefix, space)
            skipped |= {*space["_fields"], "_field_defaults", "_fields_defaults"}
        stored: set[str] | None = None
        for name, value in sorted(space.items()):
            if name in skipped or isinstance(value, _DESCRIPTORS) or _is_python_s(name, value):
                continue
            source = sources.get(name, "")
            if function_of(value) is not None:
                self.parts[prefix + name] = self.part(value)
                continue
            constant = self._text(value, deep=name == "__slots__")
            if constant is not None and not source and not name.startswith("__"):
                if stored is None:
                    stored = stored_by(space.values())
                if name in stored:
                    constant = None
            here = "" if constant is None else digest(constant)
            self.parts[prefix + name] = Part(VALUE, here, source)
        for name, source in sources.items():
            if name not in space:
                self.parts[prefix + name] = Part(SOURCE, "", source)
        for name, text in self._annotations(own_annotations(space)).items():
            self.parts[f"{prefix}annotation:{name}"] = Part(VALUE, digest(text))
        self._bases(cls, prefix, space)

    def add_docstring(self, cls: type) -> None:
        text = static.namespace(cls).get("__doc__")
        if isinstance(text, str):
            # Cleaned, because Python 3.13 and later remove the indentation.
            self.parts[DOCSTRING] = Part(VALUE, digest(inspect.cleandoc(text)))

    def _bases(self, cls: type, prefix: str, space: Mapping[str, Any]) -> None:
        written = space.get("__orig_bases__", ())
        # A typed dict has its original bases only since Python 3.12, and copies all that it inherits.
        bases = [] if typing.is_typeddict(cls) else [self._annotation(base) for base in written]
        names = [_named(base) for base in cls.__bases__]
        texts = [_named(type(cls)), *names, *bases]
        self.parts[f"{prefix}class:bases"] = Part(VALUE, digest(*texts))
        for base in (*cls.__bases__, type(cls)):
            if self.reaches and id(base) not in self._seen and module_of(base) == self.module:
                self._seen.add(id(base))
                self._queue.append(("", base))

    def _members(self, cls: Any, prefix: str) -> None:
        for name, member in cls._member_map_.items():
            value = member.__dict__.get("_value_", member)
            self.parts[f"{prefix}member:{name}"] = self.part(value, deep=True)

    def _fields(self, cls: Any, prefix: str) -> None:
        params = cls.__dict__.get("__dataclass_params__")
        options = [f"{name}={getattr(params, name, None)}" for name in _OPTIONS]
        self.parts[f"{prefix}class:dataclass options"] = Part(VALUE, digest(*options))
        own = own_annotations(vars(cls))
        for name, field in cls.__dataclass_fields__.items():
            if own and name not in own:
                continue  # inherited
            texts = [self._word(getattr(field, w, None), deep=True) for w in _OF_A_FIELD]
            self.parts[f"{prefix}field:{name}"] = Part(
                VALUE, digest(self._annotation(field.type), *texts)
            )
            if field.default_factory is not dataclasses.MISSING:
                self.parts[f"{prefix}{_FACTORY}:{name}"] = self.part(field.default_factory)

    def _named_tuple(self, prefix: str, space: Mapping[str, Any]) -> None:
        defaults = space.get("_field_defaults", {})
        for name in space["_fields"]:
            self.parts[f"{prefix}field:{name}"] = (
                self.part(defaults[name], deep=True) if name in defaults else Part(VALUE, "")
            )

    def part(self, value: Any, *, deep: bool = False) -> Part:
        """Return the fingerprints of a value; of a function, or a wrapper of one, those of its code."""
        function = function_of(value)
        if function is None:
            return Part(VALUE, digest(self._word(value, deep=deep)))
        if function.__module__ in _OF_PYTHON:
            return Part(VALUE, digest(function.__qualname__))
        if value is function:
            return Part(CODE, *self._function(function))
        return Part(CODE, digest(self._word(value, deep=deep)), look(function.__code__).source)

    # -- values ------------------------------------------------------------------------------------

    def _word(self, value: Any, *, deep: bool = False) -> str:
        """Return a text for a value; for a mutable one, its type's name."""
        text = self._text(value, deep=deep)
        return f"<{type(value).__name__}>" if text is None else text

    def _text(self, value: Any, depth: int = 0, *, deep: bool = False) -> str | None:
        """Return a text that equal constants have in common; None for mutable or unknown values."""
        kind = type(value)
        if kind in _CONSTANTS:
            return _constant(value)
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return None
        if kind is tuple or kind is frozenset or (deep and kind in (list, dict, set)):
            return self._container(value, depth, deep=deep)
        function = function_of(value)
        if function is not None:
            here, _ = self._function(function)
            others = []
            if issubclass(kind, property):
                others = [self._word(value.fset), self._word(value.fdel)]
            elif issubclass(kind, PARTIAL):
                items = (*value.args, *sorted(value.keywords.items()))
                others = [self._word(item, deep=deep) for item in items]
            return f"{kind.__name__} {here} {' '.join(others)}"
        if issubclass(kind, type):
            if self.reaches and module_of(value) == self.module and not _is_local(value):
                self._global(value.__name__, value)
            return _named(value)
        if kind is types.ModuleType:
            return f"module {value.__name__}"
        if kind in (types.BuiltinFunctionType, np.ufunc):
            return f"function {value.__name__}"
        if issubclass(type(kind), enum.EnumMeta):
            return f"{_named(kind)}.{value.__dict__.get('_name_', '')}"
        if issubclass(kind, np.generic | np.dtype):
            return f"{kind.__name__} {value!r}"
        if f"{kind.__module__}.{kind.__qualname__}" in _IMMUTABLE:
            return repr(value)
        if value is dataclasses.MISSING:
            return "missing"
        return None

    def _container(self, value: Any, depth: int, *, deep: bool) -> str | None:
        if len(value) > self._left:
            return None
        items = [*value.items()] if type(value) is dict else [*value]
        texts = [self._text(item, depth + 1, deep=deep) for item in items]
        if not deep and None in texts:
            return None
        words = [text or f"<{type(i).__name__}>" for text, i in zip(texts, items, strict=True)]
        if isinstance(value, (set, frozenset)):
            words.sort()
        return f"{type(value).__name__} ({', '.join(words)})"


def _is_python_s(name: str, value: Any) -> bool:
    """Return whether Python or a library replaces a method, so that it says nothing about the class."""
    function = function_of(value) or value
    # A class that implements a protocol gets another `__init__` after its first instance is made.
    if name == "__init__" and (value is object.__init__ or module_of(function) == "typing"):
        return True
    if name == "__class_getitem__" and module_of(function) == "typing":
        return True  # of a generic named tuple
    return type(value) is types.FunctionType and value.__code__.co_filename.startswith(_BY_ATTRS)


def _annotated(function: types.FunctionType) -> dict[str, Any] | None:
    try:
        return function.__annotations__
    except Exception:  # noqa: BLE001 - Python 3.14 evaluates them now, and names may be missing
        return None


def _constant(value: Any) -> str | None:
    """Return a text for a number, a text or the like; None for one that is too long to compare."""
    kind = type(value)
    if kind is int:
        # In hexadecimal, because Python writes at most 4,300 decimal digits.
        return f"int {value:x}" if value.bit_length() <= _LONGEST else None
    if kind in (str, bytes) and len(value) > _LONGEST:
        return None
    return f"{kind.__name__} {value!r}"


def _is_local(obj: Any) -> bool:
    return "<locals>" in obj.__qualname__


def _named(obj: Any) -> str:
    return f"{module_of(obj)}.{getattr(obj, '__qualname__', getattr(obj, '__name__', ''))}"
