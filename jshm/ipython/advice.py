"""What to do about a cell that failed because what it would change is attached read-only."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import handouts, variables
from ..pickling import static as looking
from ..segment import file as segment
from ..store import default_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..segment.file import Mapping

# NumPy, Cython's buffers, memoryview and pandas say the first; numba the second; NumPy of its flag the
# third; xarray replaces NumPy's words.
_READ_ONLY = re.compile(r"read-only|readonly|WRITEABLE|Assignment destination is a view")


def lines(error: BaseException | None) -> list[str]:
    """Return a line for each variable that the failed statement names and that is attached read-only."""
    with contextlib.suppress(Exception):  # it must not hide the error that it is about
        if error is not None and _READ_ONLY.search(str(error)):
            space = variables.user_namespace()
            named = {name: space[name] for name in _names(error, space)}
            if not any(map(_is_own, named.values())):  # else nobody knows which it was about
                return [line for name, value in named.items() if (line := _line(name, value))]
    return []


def _names(error: BaseException, space: dict[str, Any]) -> Iterator[str]:
    """Yield the notebook's variables that the failed statement, and functions that it called, name."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals is space:
            yield from (name for name in trace.tb_frame.f_code.co_names if name in space)
        trace = trace.tb_next


def _is_own(value: object) -> bool:
    """Tell whether a value is an array that the user made read-only."""
    return (
        isinstance(value, np.ndarray) and not value.flags.writeable and segment.find(value) is None
    )


def _copies_itself(value: object) -> bool:
    """Tell whether a value is a table that pandas copies on write; its read-only views are pandas' own."""
    if not any(looking.root(base) == "pandas" for base in looking.mro(type(value))):
        return False
    pandas = sys.modules["pandas"]
    return pandas.__version__ >= "3" or pandas.get_option("mode.copy_on_write") is True


def _line(variable: str, value: object) -> str:
    found: list[Mapping] = []

    if _copies_itself(value):
        return ""

    def test(part: object) -> bool:
        if not isinstance(part, np.ndarray) or part.flags.writeable:
            return False
        mapping = segment.find(part)
        if mapping is not None and mapping.mode == "r":
            found.append(mapping)
        return bool(found)

    variables.find_arrays({variable: value}, test)
    if not found:
        return ""
    own = handouts.segments_of(value)[:1]
    names = default_store().names_of(own[0] if own else found[0].segment)
    if not names:  # it was released, or is of a group
        return f"{variable} is attached read-only; with --mode c your changes would stay yours"
    name = names[0]
    what = "is attached" if own else f"is a part of {name}, which is attached"
    bound = f" --as {variable}" if own and variable != name else ""
    return (
        f"{variable} {what} read-only: %shm_attach {name}{bound} --mode c (copy-on-write: your "
        "changes stay yours)"
    )
