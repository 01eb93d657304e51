"""Code objects, between processes and between versions of Python.

A code object travels marshalled, tagged with the magic number of the bytecode, beside the block of
source that it is in. A reader of the same tag unmarshals it; any other compiles it again.
"""

from __future__ import annotations

import dis
import importlib.util
import marshal
import sys
import textwrap
import weakref
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import NotShareableError
from ..system.weak import forgetting
from . import frozen, sources
from .generated import placeholder
from .rebuild import LAMBDA, Address, address_of, locate, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .rebuild import Block

TAG = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Version 2 writes no references to objects that were met before. What is one depends on reference
# counts, and so would the bytes.
_MARSHAL_VERSION = 2
# By these, classes and annotations look up what functions do by LOAD_GLOBAL.
_NAME_LOOKUPS = {"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}

Reduced = tuple["Callable[..., CodeType]", tuple[Any, ...]]


class _Known(NamedTuple):
    """What was found out about a code object."""

    code: weakref.ref[CodeType]
    reduced: Reduced
    class_names: tuple[str, ...]


# By id, and not by the code object: they are equal by content, and hashing one costs more than all
# else here.
_known: dict[int, _Known] = {}


def reduce_code(code: CodeType) -> Reduced:
    """Return how to write a code object: a callable and its arguments."""
    return _look(code).reduced


def shipped_block(code: CodeType) -> Block | None:
    """Return the block of source that travels with a code object that was written; None if none does."""
    found = _known.get(id(code))
    if found is None or found.code() is not code:
        return None
    load, arguments = found.reduced
    return arguments[-1] if load is frozen.code and isinstance(arguments[-1], tuple) else None


def source_of(code: CodeType) -> str:
    """Return the statement that a code object is of; '' where its source is not known."""
    load, arguments = _look(code).reduced
    if load is not frozen.code or not isinstance(arguments[-1], tuple):
        return ""
    text: str = arguments[-1][2]
    return textwrap.dedent(text) if text[:1] in " \t" else text


def mark_generated(code: CodeType) -> None:
    """Let a code object be one that its class generates again, where it cannot be unmarshalled."""
    if _look(code).reduced[0] is frozen.code:
        arguments = (TAG, _marshalled(code), "".join(code.co_qualname), tuple(code.co_freevars))
        _known[id(code)] = _look(code)._replace(reduced=(frozen.generated_code, arguments))


def load_generated(tag: int, marshalled: bytes, qualname: str, free: tuple[str, ...]) -> CodeType:
    """Return the code object of a generated method, or a placeholder until it is generated again."""
    if tag == TAG:
        code: CodeType = marshal.loads(marshalled)  # noqa: S302 - of the pickle that calls this
        return code
    return placeholder(qualname, free)


def class_globals(code: CodeType) -> tuple[str, ...]:
    """Return the names that classes within a function may look up among its globals.

    Class bodies do so by other instructions than functions, which cloudpickle does not look for.
    """
    return _look(code).class_names


def _look(code: CodeType) -> _Known:
    key = id(code)
    found = _known.get(key)
    if found is None or found.code() is not code:
        alive = weakref.ref(code, forgetting(_known, key))
        found = _Known(alive, _reduce(code), tuple(dict.fromkeys(_class_names(code))))
        _known[key] = found
    return found


def _reduce(code: CodeType) -> Reduced:
    block = sources.block_of(code)
    if block is not None:
        # Under a file's own name its lines would be wrong once it is edited.
        named, address = _renamed(code, block[0]), address_of(code)
        if code.co_name == LAMBDA and address.span is None:
            address = locate(address, block, named)
        # It may have been edited already, since it was imported.
        if not sources.is_file(code.co_filename) or sources.is_current(code):
            return frozen.code, (TAG, _marshalled(named), PYTHON, tuple(address), block)
    if sources.is_file(code.co_filename):
        code = _renamed(code, sources.without_source(code.co_filename))
    return frozen.code, (TAG, _marshalled(code), PYTHON, "".join(code.co_qualname))


def _marshalled(code: CodeType) -> bytes:
    try:
        return marshal.dumps(code, _MARSHAL_VERSION)
    except ValueError:  # a constant that only newer formats know
        return marshal.dumps(code)


def _renamed(code: CodeType, filename: str) -> CodeType:
    """Return a code object with another filename, as all those that it defines."""
    constants = tuple(
        _renamed(constant, filename) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)


def load(
    tag: int,
    marshalled: bytes,
    python: str,
    address: tuple[Any, ...] | str,
    block: Block | None = None,
) -> CodeType:
    """Return the code object that `reduce_code` wrote.

    Raises
    ------
    NotShareableError
        Another version of Python wrote it, and it cannot be compiled again.
    """
    if block is not None:
        sources.register(block)
    if tag == TAG:
        code: CodeType = marshal.loads(marshalled)  # noqa: S302 - of the pickle that calls this
        return code
    if block is None:
        raise NotShareableError(
            f"the function {address} was compiled by Python {python} without known source, so "
            f"this Python {PYTHON} cannot compile it again: define it in a cell or a file and publish "
            f"it again, or attach it with Python {python}"
        )
    address = Address(*address)
    try:
        return rebuild(address, block)
    except SyntaxError as error:
        why = f"it does not know the syntax ({error.msg})"
    except LookupError as error:
        why = str(error)
    raise NotShareableError(
        f"the function {address.qualname} was compiled by Python {python}, and this Python {PYTHON} "
        f"cannot compile it again from its source: {why}. Attach it with Python {python}"
    )


def _class_names(code: CodeType) -> Iterator[str]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            instructions = dis.get_instructions(inner)
            yield from (i.argval for i in instructions if i.opname in _NAME_LOOKUPS)
            yield from _class_names(inner)
