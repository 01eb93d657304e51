"""What attached names are bound to: variables of the notebook, or whatever the user assigns them to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ..binding import attached_line
from ..handouts import hand_out
from ..store.names import variable_for
from . import arguments

if TYPE_CHECKING:
    from ..segment.file import Mode
    from ..store.base import Attached
    from .calling import Assigned, Caller


@dataclass(frozen=True, slots=True)
class Targets:
    """What attached names are bound to.

    Attributes
    ----------
    bound : list of str
        Variables of the notebook, which the magic binds; empty if only the assignment binds.
    shown : list of str
        What to call the values where the assignment binds them; empty where that is no variable.
    assigned, several : bool
        Whether the magic has a value, for an assignment, and whether that is a tuple.
    note : list of str
        What to add to each line.
    """

    bound: list[str]
    shown: list[str] = field(default_factory=list)
    assigned: bool = False
    several: bool = False
    note: list[str] = field(default_factory=list)

    def value(self, done: list[Attached]) -> Any:
        """Return the value of the magic. Without an assignment `Out` would keep it."""
        if not self.assigned:
            return None
        values = tuple(hand_out(attached.value, attached.segments) for attached in done)
        return values if self.several else values[0]

    def lines(self, done: list[Attached], mode: Mode) -> list[str]:
        """Return what to tell the user of what an assignment binds."""
        shown = zip(self.shown, done, strict=True)
        return [attached_line(name, attached, mode) for name, attached in shown]


def targets_of(names: list[str], chosen: str | None, here: Caller, *, several: bool) -> Targets:
    """Return what to bind names to: what they are assigned to, or to each its own variable.

    Parameters
    ----------
    names
    chosen : str or None
        What ``--as`` says.
    here
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
        raise UsageError(f"--as {chosen} is one variable for {len(names)} names; attach one")
    else:
        targets = [arguments.check_variable(chosen, "--as ")]
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
                f"{target} = %shm_attach {name}; nothing was attached"
            )
    return Targets(targets, note=here.elsewhere())


def _of_assignment(
    names: list[str], chosen: str | None, here: Caller, assigned: Assigned, *, several: bool
) -> Targets:
    """Return the targets of ``Z = %shm_attach X`` and its like."""
    if chosen is not None:
        raise UsageError(
            f"--as {chosen} and the assignment both say what to bind: leave one of them out; nothing "
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
