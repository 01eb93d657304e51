"""The caller of a magic: the notebook or a function, and the targets that the magic's value goes to.

A magic cannot bind a local variable of a function: before Python 3.13, `frame.f_locals` is a snapshot.
A magic reads such a variable, and only an assignment binds it.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections import ChainMap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from ..store.names import check_variable, variable_for
from ..variables import attached_line, remember, user_namespace
from .magics import group_option

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from types import CodeType, FrameType

    from ..segment.file import Mode
    from ..store.base import Attached

_ENTRIES = (InteractiveShell.run_line_magic.__code__, InteractiveShell.run_cell_magic.__code__)
# Code that runs inside the function (or cell) that contains it.
_INLINE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_STORES = ("STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "STORE_DEREF")


class Assigned(NamedTuple):
    """The target of an assignment whose value is a magic.

    Attributes
    ----------
    names : tuple of str
        The variables; empty for other targets, like ``d['x']``.
    stores : frozenset of str
        The instructions that bind them.
    unpacked : int or None
        The number of values that it is unpacked into.
    """

    names: tuple[str, ...] = ()
    stores: frozenset[str] = frozenset()
    unpacked: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """The code that contains a magic.

    Attributes
    ----------
    function : str
        Its name for messages, ``f()``; empty in the notebook itself.
    local : dict
        The function's variables that have a value.
    hidden : dict of str to str
        Variable → reason, for variables that have no value yet or cannot be read here.
    owns : frozenset of str
        All local variables of the function.
    assigned : Assigned or None
        None if the value is not assigned.
    binds : tuple of str
        The variables of the notebook that the value is assigned to.
    """

    function: str = ""
    local: dict[str, Any] | None = None
    hidden: dict[str, str] | None = None
    owns: frozenset[str] = frozenset()
    assigned: Assigned | None = None
    binds: tuple[str, ...] = ()

    def sees(self) -> MutableMapping[str, Any]:
        """Return the variables that can be read here: locals hide those of the notebook."""
        return ChainMap(self.local or {}, user_namespace())

    def check_readable(self, name: str) -> None:
        """Raise a UsageError for a variable that cannot be read here."""
        if name in (self.hidden or {}):
            raise UsageError((self.hidden or {})[name])

    def elsewhere(self) -> list[str]:
        """Return the note, inside a function, that a magic binds in the notebook."""
        return [f"bound in the notebook, not in {self.function}"] if self.function else []

    def require_notebook(self, names: Iterable[str], option: str) -> None:
        """Raise a UsageError if a magic cannot rebind one of the variables."""
        for name in names:
            if name in (self.local or {}):
                where = self.function or "a comprehension"
                raise UsageError(
                    f"{name} is a variable of {where}, and {option} cannot rebind it: leave {option} "
                    f"out, and attach the shared copy: {name} = %shm_attach {name}{group_option()}; "
                    "nothing was published"
                )

    def refuse_value(self, magic: str, instead: str) -> None:
        """Raise a UsageError if the value of a magic without a value is assigned."""
        if self.assigned is not None:
            names = ", ".join(self.assigned.names)
            so = f", so {names} would be None" if names else ""
            raise UsageError(f"%{magic} returns nothing{so}: leave the assignment out, {instead}")


def caller() -> Caller:
    """Return the caller of the running magic."""
    frame = _calling_frame()
    if frame is None:
        return Caller()
    assigned = _assigned(frame.f_code, frame.f_lasti)
    space = user_namespace()
    binds: tuple[str, ...] = ()
    if assigned is not None and frame.f_globals is space:
        at_home = {"STORE_GLOBAL"} | ({"STORE_NAME"} if _is_notebook(frame) else set())
        binds = assigned.names if assigned.stores <= at_home else ()
    local: dict[str, Any] = {}
    inner, outer = frame, frame.f_back
    while not _is_notebook(inner):
        local = {**inner.f_locals, **local}
        if outer is None or not (_is_inline(inner.f_code) and _defines(outer, inner.f_code)):
            break
        inner, outer = outer, outer.f_back
    local = {name: value for name, value in local.items() if name.isidentifier()}
    if _is_notebook(inner):
        if inner is frame and frame.f_locals is not space:  # a comprehension in the cell
            local = {k: v for k, v in frame.f_locals.items() if space.get(k) is not v}
        return Caller(local=local, assigned=assigned, binds=binds)
    function = _label(inner.f_code)
    hidden = _out_of_reach(inner)
    owns = _names(frame.f_code) | _names(inner.f_code)
    hidden |= {name: f"{name} is a variable of {function} and has no value yet" for name in owns}
    hidden = {name: why for name, why in hidden.items() if name not in local}
    return Caller(function, local, hidden, owns, assigned, binds)


def _calling_frame() -> FrameType | None:
    """Return the frame of the code that contains the magic."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code not in _ENTRIES:
        frame = frame.f_back
    frame = frame and frame.f_back
    older = getattr(InteractiveShell, "magic", None)  # get_ipython().magic("…")
    if frame is not None and older is not None and frame.f_code is older.__code__:
        frame = frame.f_back
    return frame


def _is_notebook(frame: FrameType) -> bool:
    """Return whether a frame's variables are the notebook's, or a copy of them in a comprehension."""
    space = user_namespace()
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return False
    local = frame.f_locals
    if local is space or frame.f_globals is not space:
        return local is space
    # In a comprehension, Python 3.12 shows a copy of all variables, and 3.13 only its own.
    own = frame.f_code.co_varnames
    return "__name__" in local or (bool(own) and all(name in own for name in local))


def _is_inline(code: CodeType) -> bool:
    """Return whether code belongs to a comprehension or class, which see the surrounding variables."""
    return code.co_name in _INLINE or not code.co_flags & inspect.CO_OPTIMIZED


def _defines(frame: FrameType, code: CodeType) -> bool:
    return any(constant is code for constant in frame.f_code.co_consts)


def _names(code: CodeType) -> frozenset[str]:
    return frozenset(code.co_varnames + code.co_cellvars + code.co_freevars)


def _label(code: CodeType) -> str:
    if code.co_flags & inspect.CO_OPTIMIZED:
        return f"{code.co_name}()"
    return "this function" if code.co_name == "<module>" else f"class {code.co_name}"


def _out_of_reach(frame: FrameType) -> dict[str, str]:
    """Return variable → reason, for variables of enclosing functions that this function does not use.

    Their values are not taken from the enclosing frame: it may belong to another call.
    """
    found: dict[str, str] = {}
    code, outer = frame.f_code, frame.f_back
    while outer is not None:
        if _defines(outer, code):
            if _is_notebook(outer):
                break
            code, inner = outer.f_code, _label(frame.f_code)
            for name in _names(code):
                found.setdefault(
                    name,
                    f"{name} is a variable of {_label(code)}, which {inner} can read only if its own "
                    f"code uses it: put a line `{name}` above the magic",
                )
        outer = outer.f_back
    return found


@functools.lru_cache(maxsize=256)
def _assigned(code: CodeType, last: int) -> Assigned | None:
    """Return the target of the value of the running call; None if it is not assigned.

    It is found in the bytecode, because the source may be missing: the instruction that takes the value
    from the stack.
    """
    after = [
        i for i in dis.get_instructions(code) if i.offset > last and i.opname != "EXTENDED_ARG"
    ]
    depth = 1  # of the value on the stack
    skipped = -1  # a jump: d[1 if x else 2] = …
    for number, instruction in enumerate(after):
        name = instruction.opname
        if instruction.offset < skipped:
            continue
        if name == "JUMP_FORWARD":
            skipped = instruction.argval
        if depth == 1 and name == "UNPACK_SEQUENCE":
            count = instruction.arg or 0
            names, stores = _stored(after[number + 1 :], count)
            return Assigned(names, stores, count)
        effect = dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        if depth == 1 and name.startswith("STORE_FAST_"):  # a combined instruction
            effect = -1
        if depth == 1 and name.startswith("UNPACK"):
            return Assigned()
        depth += effect
        if depth <= 0:
            if not name.startswith("STORE"):
                return None
            if number:  # d['x'] = …, or the last of a = b = …
                return Assigned()
            names, stores = _stored(after, 1)
            return Assigned(names, stores)
    return None


def _stored(
    instructions: list[dis.Instruction], count: int
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the `count` variables that instructions bind, and the instructions; empty for other targets."""
    names: list[str] = []
    stores = set()
    for instruction in instructions:
        if len(names) >= count:
            break
        name = instruction.opname
        if name in _STORES:
            names.append(instruction.argval)
        elif name == "STORE_FAST_STORE_FAST":
            names += instruction.argval
        elif name == "STORE_FAST_LOAD_FAST":
            names.append(instruction.argval[0])
        else:
            return (), frozenset()
        stores.add("STORE_FAST" if name.startswith("STORE_FAST") else name)
    return tuple(names[:count]), frozenset(stores)


# -- targets of an attach --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets that attached names are bound to.

    Attributes
    ----------
    bound : list of str
        Variables of the notebook that the magic binds; empty if only the assignment binds.
    shown : list of str
        Names for messages of the targets that the assignment binds; '' for a target that is not a variable.
    assigned, several : bool
        Whether the magic returns a value, for an assignment, and whether that is a tuple.
    note : list of str
        Notes to add to each line.
    """

    bound: list[str]
    shown: list[str] = field(default_factory=list)
    assigned: bool = False
    several: bool = False
    note: list[str] = field(default_factory=list)

    def value(self, done: list[Attached]) -> Any:
        """Return the value of the magic: None without an assignment, because `Out` would keep it."""
        if not self.assigned:
            return None
        values = tuple(remember(attached.value, attached.segments) for attached in done)
        return values if self.several else values[0]

    def lines(self, done: list[Attached], mode: Mode) -> list[str]:
        """Return the lines that tell the user what the assignment binds."""
        shown = zip(self.shown, done, strict=True)
        return [attached_line(name, attached, mode) for name, attached in shown]


def targets_of(names: list[str], chosen: str | None, here: Caller, *, several: bool) -> Targets:
    """Return the targets of names: those of the assignment, or a variable for each name.

    Parameters
    ----------
    names : list of str
    chosen : str or None
        The value of ``--as``.
    here : Caller
    several : bool
        Whether the user wrote several names, or a pattern.

    Raises
    ------
    UsageError, InvalidNameError
    """
    if here.assigned is not None:
        return _of_assignment(names, chosen, here, here.assigned, several=several)
    if chosen is None:
        targets = [variable_for(name) for name in names]
    elif len(names) > 1:
        raise UsageError(f"--as {chosen} is one variable for {len(names)} names; attach one name")
    else:
        targets = [check_variable(chosen, "--as ")]
    for i, (name, target) in enumerate(zip(names, targets, strict=True)):
        if target in targets[:i]:
            first = names[targets.index(target)]
            raise UsageError(
                f"{first} and {name} would both be the variable {target}: attach them one by one, "
                "with --as"
            )
        if target in here.owns:
            raise UsageError(
                f"{target} is a variable of {here.function}, and a magic cannot bind it. Write "
                f"{target} = %shm_attach {name}{group_option()}; nothing was attached"
            )
    return Targets(targets, note=here.elsewhere())


def _of_assignment(
    names: list[str], chosen: str | None, here: Caller, assigned: Assigned, *, several: bool
) -> Targets:
    """Return the targets of an assignment like ``Z = %shm_attach X``."""
    if chosen is not None:
        raise UsageError(
            f"--as {chosen} and the assignment both name a target: leave one of them out; nothing "
            "was attached"
        )
    shown = list(assigned.names)
    if several and assigned.unpacked is None:
        shown = [f"{name}[{i}]" for name in shown for i in range(len(names))]
    elif several and assigned.unpacked != len(names):
        count = f"{len(names)} names" if len(names) > 1 else "one name"
        raise UsageError(
            f"{count} ({', '.join(names)}) cannot be assigned to {assigned.unpacked} variables; "
            "nothing was attached"
        )
    elif several or assigned.unpacked is None:
        if here.binds:
            return Targets(list(here.binds), assigned=True, several=several)
    else:  # one array is unpacked
        shown = []
    return Targets([], shown or [""] * len(names), assigned=True, several=several)
