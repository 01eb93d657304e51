"""What a class or a function is defined as, to tell whether two of one name are the same.

A definition is a fingerprint of each *part*: a class's methods, fields, members, bases and constants,
and the functions, classes and constants of its own module that its code names. It holds what travels
with a class: code, defaults, annotations. It does not hold line numbers, comments, or state: what is
mutable, and what code assigns to.

There are two fingerprints of each part, because neither is always known. One is of the bytecode or of
the value; another version of Python compiles other bytecode, and a constant may have been assigned to.
The other is of the source: it is known for cells and files, and not for what `exec` made.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import dis
import enum
import functools
import hashlib
import json
import linecache
import re
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from cloudpickle import cloudpickle as cp

from . import generated, modules
from .code import TAG, class_globals, source_of
from .preview import class_statement
from .rebuild import no_warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import CodeType

_CODE, _VALUE, _SOURCE = "c", "v", "s"

# Classes and functions are followed through what they name, up to so many; and values, so deep.
_MOST = 2000
_DEEPEST = 8
# Items of a container that are compared.
_LONGEST = 10_000

# What Python and its library keep in a class, derived from what is compared anyway.
_DERIVED = frozenset(
    {
        "__module__", "__qualname__", "__dict__", "__weakref__", "__doc__", "__annotations__",
        "__annotate__", "__annotate_func__", "__annotations_cache__", "__firstlineno__",
        "__static_attributes__", "__classdictcell__", "__classcell__", "__slotnames__", "__abstractmethods__",
        "__parameters__", "__orig_bases__", "__match_args__", "__dataclass_fields__",
        "__dataclass_params__", "__replace__", "__protocol_attrs__", "__subclasshook__",
        "__non_callable_proto_members__", "__callable_proto_members_only__",
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
_PARTIAL = (functools.partial, functools.partialmethod)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_CONSTANTS = frozenset({bool, int, float, complex, str, bytes, type(None), type(...), range})
# Immutable, and their `repr` says all.
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


class Part(NamedTuple):
    """The fingerprints of one part of a definition; '' where one is not known.

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
        """Tell whether two parts of one name are known to differ."""
        if self.kind != other.kind:
            return True
        if self.kind == _CODE and not same_python:
            # Without both sources nobody can tell.
            return not self.source or self.source != other.source
        if self.kind != _CODE and self.source and other.source:
            return self.source != other.source
        return bool(self.here and other.here) and self.here != other.here


class Definition(NamedTuple):
    """What a class or a function is defined as.

    Attributes
    ----------
    module, qualname : str
        What it is called; ``__main__`` also where that is the main module of a worker.
    tag : int
        Which bytecode its code is.
    reaches : bool
        Whether it holds what its code names of its module, too.
    parts : dict of str to Part
    """

    module: str
    qualname: str
    tag: int
    reaches: bool
    parts: Mapping[str, Part]

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.qualname

    def differences(self, other: Definition) -> list[str]:
        """Return the names of the parts that differ; empty if both are the same definition."""
        same_python = self.tag == other.tag
        return [
            name
            for name in sorted({*self.parts, *other.parts})
            if name not in self.parts
            or name not in other.parts
            or self.parts[name].differs(other.parts[name], same_python=same_python)
        ]

    def to_json(self) -> str:
        """Return it as text: one object in a pickle, and the same bytes in every process."""
        return json.dumps(self, separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Definition:
        module, qualname, tag, reaches, parts = json.loads(text)
        return Definition(module, qualname, tag, reaches, {n: Part(*p) for n, p in parts.items()})


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
    survey = _Survey(module, reaches)
    if isinstance(obj, type):
        survey.add_class(obj, "")
    else:
        survey.add_function("its code", getattr(obj, "__wrapped__", obj))
    survey.follow()
    return Definition(module, obj.__qualname__, TAG, reaches, survey.parts)


def module_of(obj: Any) -> str:
    """Return the name of a class's or a function's module.

    `multiprocessing` calls the main module of a worker ``__mp_main__``: it is the script's.
    """
    name = getattr(obj, "__module__", None)
    if name == "__mp_main__":
        return "__main__"
    return name if isinstance(name, str) else ""


def _digest(*texts: str) -> str:
    found = hashlib.blake2s(digest_size=8)
    for text in texts:
        data = text.encode(errors="surrogatepass")
        found.update(b"%d:" % len(data))
        found.update(data)
    return found.hexdigest()


class _Survey:
    """The parts of one definition, while they are collected."""

    def __init__(self, module: str, reaches: bool) -> None:
        self.module = module
        self.reaches = reaches
        self.parts: dict[str, Part] = {}
        self._seen: set[int] = set()
        self._within: set[int] = set()
        # Values, so that no id is another's meanwhile.
        self._kept: list[Any] = []
        self._queue: collections.deque[tuple[str, Any]] = collections.deque()
        self._constants: dict[str, str] = {}
        self._assigned: set[str] = set()

    def follow(self) -> None:
        """Add what the code names, and what that names."""
        while self._queue and len(self._seen) < _MOST:
            name, obj = self._queue.popleft()
            if isinstance(obj, type):
                self.add_class(obj, f"{obj.__qualname__}.")
            else:
                self.add_function(name, obj)
        for name, digest in self._constants.items():
            if name not in self._assigned:
                self.parts[f"global {name}"] = Part(_VALUE, digest)

    # -- functions ---------------------------------------------------------------------------------

    def add_function(self, name: str, function: Any) -> None:
        """Add a function as a part of its own."""
        if isinstance(function, types.FunctionType):
            self._seen.add(id(function))
            here, source = self._function(function)
            self.parts[name] = Part(_CODE, here, source)

    def _function(self, function: types.FunctionType) -> tuple[str, str]:
        """Return the fingerprints of a function's code, defaults, annotations and closure."""
        if id(function) in self._within:
            return "itself", ""
        self._within.add(id(function))
        code = function.__code__
        known = _look(code)
        texts = [known.digest]
        texts += [self._word(value) for value in function.__defaults__ or ()]
        texts += [
            f"{n}={self._word(v)}" for n, v in sorted((function.__kwdefaults__ or {}).items())
        ]
        texts += self._annotations(function)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name == "__class__":
                continue
            try:
                texts.append(f"{name}:{self._word(cell.cell_contents)}")
            except ValueError:  # an empty cell
                texts.append(name)
        self._within.discard(id(function))
        if self.reaches:
            self._assigned |= known.assigned
            for name in {**cp._extract_code_globals(code), **dict.fromkeys(class_globals(code))}:
                if name in function.__globals__:
                    self._global(name, function.__globals__[name])
        return _digest(*texts), known.source

    def _global(self, name: str, value: Any) -> None:
        """Look at what code finds under a global name: code and constants count, state does not."""
        if isinstance(value, types.FunctionType) or issubclass(type(value), type):
            if module_of(value) == self.module and not _is_local(value):
                if id(value) not in self._seen:
                    self._seen.add(id(value))
                    self._queue.append((f"global {name}", value))
                return
            self.parts[f"global {name}"] = Part(_VALUE, _digest(_named(value)))
            return
        if value is None or name.startswith("__"):
            return
        text = self._text(value)
        if text is not None:
            self._constants[name] = _digest(text)

    def _annotations(self, owner: Any) -> Iterator[str]:
        try:
            found = owner.__annotations__
            pairs = [*found.items()] if isinstance(found, dict) else []
        except Exception:  # noqa: BLE001 - Python 3.14 evaluates them now, and names may be missing
            return
        for name, value in pairs:
            yield f"{name}->{self._annotation(value)}"

    def _annotation(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, type) and not isinstance(value, types.GenericAlias):
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
        space = type.__dict__["__dict__"].__get__(cls)
        expressions = _expressions(cls)
        skipped = {*_DERIVED, *generated.methods(cls)}
        if issubclass(type(cls), enum.EnumMeta):
            skipped |= _OF_ENUMERATIONS | set(cls._member_map_)  # type: ignore[attr-defined]
            self._members(cls, prefix, space)
        if "__dataclass_fields__" in space:
            self._fields(cls, prefix)
        if issubclass(cls, tuple) and "_fields" in space:
            self._named_tuple(cls, prefix, space)
            skipped |= {*space["_fields"], "_field_defaults", "_fields_defaults"}
        stored: set[str] | None = None
        for name, value in sorted(space.items()):
            if name in skipped or isinstance(value, _DESCRIPTORS):
                continue
            source = expressions.get(name, "")
            function = _function_of(value)
            if function is not None and not isinstance(value, _PARTIAL):
                here, text = self._function(function)
                here = _digest(type(value).__name__, here, *self._others_of(value))
                self.parts[prefix + name] = Part(_CODE, here, text)
                continue
            constant = self._text(value, deep=name == "__slots__")
            if constant is not None and not source and not name.startswith("__"):
                if stored is None:
                    stored = _stored_by(space.values())
                if name in stored:
                    constant = None
            here = "" if constant is None else _digest(constant)
            self.parts[prefix + name] = Part(_VALUE, here, source)
        for name, source in expressions.items():
            if name not in space and "(" in name:
                self.parts[prefix + name] = Part(_SOURCE, "", source)
        for annotation in self._annotations_of(space):
            name, _, text = annotation.partition("->")
            self.parts[f"{prefix}annotation {name}"] = Part(_VALUE, _digest(text))
        self._bases(cls, prefix, space)

    def _bases(self, cls: type, prefix: str, space: Mapping[str, Any]) -> None:
        bases = [self._annotation(base) for base in space.get("__orig_bases__", ())]
        names = [_named(base) for base in cls.__bases__]
        texts = [_named(type(cls)), *names, *bases]
        self.parts[f"{prefix}its bases"] = Part(_VALUE, _digest(*texts))
        for base in (*cls.__bases__, type(cls)):
            if self.reaches and id(base) not in self._seen and module_of(base) == self.module:
                self._seen.add(id(base))
                self._queue.append(("", base))

    def _annotations_of(self, space: Mapping[str, Any]) -> Iterable[str]:
        return self._annotations(types.SimpleNamespace(**{
            "__annotations__": space.get("__annotations__", space.get("__annotations_cache__", {}))
        }))  # fmt: skip

    def _members(self, cls: Any, prefix: str, space: Mapping[str, Any]) -> None:
        for name, member in cls._member_map_.items():
            value = member.__dict__.get("_value_", member)
            self.parts[f"{prefix}member {name}"] = Part(
                _VALUE, _digest(self._word(value, deep=True))
            )
        if isinstance(made := space.get("__new_member__"), types.FunctionType):
            self.parts[f"{prefix}__new__"] = Part(_CODE, *self._function(made))

    def _fields(self, cls: Any, prefix: str) -> None:
        params = repr(cls.__dict__.get("__dataclass_params__"))
        self.parts[f"{prefix}its dataclass options"] = Part(_VALUE, _digest(params))
        own = cls.__dict__.get("__annotations__", cls.__dict__.get("__annotations_cache__"))
        for name, field in cls.__dataclass_fields__.items():
            if own is not None and name not in own:
                continue  # inherited
            texts = [
                self._word(getattr(field, attribute, None), deep=True)
                for attribute in (
                    "default",
                    "default_factory",
                    "init",
                    "repr",
                    "hash",
                    "compare",
                    "kw_only",
                )
            ]
            self.parts[f"{prefix}field {name}"] = Part(
                _VALUE, _digest(self._annotation(field.type), *texts)
            )

    def _named_tuple(self, cls: Any, prefix: str, space: Mapping[str, Any]) -> None:
        defaults = space.get("_field_defaults", {})
        for name in space["_fields"]:
            text = self._word(defaults[name], deep=True) if name in defaults else ""
            self.parts[f"{prefix}field {name}"] = Part(_VALUE, _digest(text))

    def _others_of(self, value: Any) -> list[str]:
        """Return what a descriptor holds besides its first function."""
        if isinstance(value, property):
            return [self._word(value.fset), self._word(value.fdel)]
        return []

    # -- values ------------------------------------------------------------------------------------

    def _word(self, value: Any, *, deep: bool = False) -> str:
        """Return a text for a value; of what is mutable, its type's name."""
        text = self._text(value, deep=deep)
        return f"<{type(value).__name__}>" if text is None else text

    def _text(self, value: Any, depth: int = 0, *, deep: bool = False) -> str | None:
        """Return a text that equal constants have in common; None for what is mutable, or unknown."""
        kind = type(value)
        if kind in _CONSTANTS:
            return f"{kind.__name__} {value!r}"
        if depth > _DEEPEST:
            return None
        if kind is tuple or kind is frozenset or (deep and kind in (list, dict, set)):
            return self._container(value, depth, deep=deep)
        function = _function_of(value)
        if function is not None:
            here, _ = self._function(function)
            others = self._others_of(value)
            if issubclass(kind, _PARTIAL):
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
        if len(value) > _LONGEST:
            return f"{type(value).__name__} of {len(value)}"
        items = [*value.items()] if type(value) is dict else [*value]
        texts = [self._text(item, depth + 1, deep=deep) for item in items]
        if not deep and None in texts:
            return None
        words = [text or f"<{type(i).__name__}>" for text, i in zip(texts, items, strict=True)]
        if isinstance(value, (set, frozenset)):
            words.sort()
        return f"{type(value).__name__} ({', '.join(words)})"


def _is_local(obj: Any) -> bool:
    return "<locals>" in obj.__qualname__


def _named(obj: Any) -> str:
    return f"{module_of(obj)}.{getattr(obj, '__qualname__', getattr(obj, '__name__', ''))}"


def _function_of(value: Any) -> types.FunctionType | None:
    """Return the function within a method, a property, a cached or a partial function."""
    for _ in range(_DEEPEST):
        kind = type(value)
        if kind is types.FunctionType:
            return value  # type: ignore[no-any-return]
        if kind is classmethod or kind is staticmethod or kind is types.MethodType:
            value = value.__func__
        elif issubclass(kind, property):
            value = value.fget
        elif kind is functools.cached_property:
            value = value.func
        elif kind in (functools.partial, functools.partialmethod):
            value = value.func
        elif kind is functools._lru_cache_wrapper:
            value = value.__wrapped__
        else:
            return None
    return None


# -- code ------------------------------------------------------------------------------------------


class _Known(NamedTuple):
    """What was found out about a code object."""

    code: weakref.ref[CodeType]
    digest: str
    source: str
    assigned: frozenset[str]
    stored: frozenset[str]


# By id: to hash a code object takes longer than the rest.
_known: dict[int, _Known] = {}


def _look(code: CodeType) -> _Known:
    key = id(code)
    found = _known.get(key)
    if found is None or found.code() is not code:
        alive = weakref.ref(code, functools.partial(_forget, _known, key))
        text = source_of(code)
        assigned, stored = _assignments(code)
        found = _Known(
            alive,
            _digest(_code_text(code)),
            _digest(text.strip()) if text else "",
            assigned,
            stored,
        )
        _known[key] = found
    return found


def _forget(known: dict[int, _Known], key: int, _: object) -> None:
    known.pop(key, None)


def _code_text(code: CodeType) -> str:
    """Return what a code object does: all of it but names of files, lines and columns."""
    constants = [_constant_text(constant) for constant in code.co_consts]
    return repr(
        (
            code.co_name, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
            code.co_flags, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
            code.co_code, code.co_exceptiontable, constants,
        )
    )  # fmt: skip


def _constant_text(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _code_text(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant_text, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_constant_text, value)))}}}"
    return f"{type(value).__name__} {value!r}"


def _assignments(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the globals and of the attributes that code assigns to."""
    names: set[str] = set()
    attributes: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            names.add(instruction.argval)
        elif instruction.opname in ("STORE_ATTR", "DELETE_ATTR"):
            attributes.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _assignments(constant)
            names |= inner[0]
            attributes |= inner[1]
    return frozenset(names), frozenset(attributes)


def _stored_by(values: Iterable[Any]) -> set[str]:
    """Return the names of the attributes that methods assign to."""
    functions = [f for value in values if (f := _function_of(value)) is not None]
    return {name for function in functions for name in _look(function.__code__).stored}


# -- source ----------------------------------------------------------------------------------------


def _expressions(cls: type) -> dict[str, str]:
    """Return the fingerprints of the expressions in a class's body; empty where it is not known.

    Of its assignments, by name; and of its methods' defaults that are mutable, as ``method(argument)``.
    """
    text = _statement(cls)
    return _expressions_in(text, cls.__name__) if text else {}


def _statement(cls: type) -> str:
    prefix = f"{cls.__qualname__}."
    for value in vars(cls).values():
        function = _function_of(value)
        code = getattr(function, "__code__", None)
        if code is not None and code.co_qualname.startswith(prefix) and source_of(code):
            lines = linecache.getlines(code.co_filename)
            return class_statement(lines, cls.__name__, code.co_firstlineno)
    return ""


@functools.lru_cache(maxsize=256)
def _expressions_in(text: str, name: str) -> dict[str, str]:
    try:
        with no_warnings():
            (statement,) = (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef))
    except (SyntaxError, ValueError):
        return {}
    if statement.name != name:
        return {}
    found: dict[str, str] = {}
    for node in statement.body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found.update(dict.fromkeys(names, _digest(ast.unparse(node.value))))
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found[node.target.id] = _digest(ast.unparse(node.value))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(_defaults(node))
    return found


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][-len(arguments.defaults) or None :]
    for argument, default in (
        *zip(positional, arguments.defaults, strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ):
        if default is not None and not isinstance(default, ast.Constant):
            yield f"{node.name}({argument.arg})", _digest(ast.unparse(default))
