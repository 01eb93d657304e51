"""``%%shm_once``: run a cell once on the machine, and attach its result everywhere else."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import json
import time
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import UsageError

from .. import variables
from ..errors import JshmError, SegmentNotFoundError
from ..store import default_store, group
from ..text import duration_text, say, size_text
from ..variables import bind
from . import cell_definitions as definitions
from .calling import caller
from .magics import warn_of_short_life, with_traceback

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..segment.file import Mode
    from ..store.base import Attached, SegmentInfo, Store

# Characters of the note about its cell that a version has.
_LONGEST = 1000
# Keys of the cells that this notebook has run, so that their definitions exist.
_ran: set[str] = set()


def run(
    shell: Any,
    names: dict[str, str],
    cell: str,
    *,
    mode: Mode,
    replace: bool,
    keep: bool,
    rerun: bool,
) -> None:
    """Attach `names` (variable → name) if this cell published them, otherwise run it and publish.

    Raises
    ------
    UsageError
        The cell did not make one of the variables.
    JshmError
        What it made cannot be published.
    """
    store = default_store()
    store.require("locks", "%%shm_once")
    key = cell_key(shell, cell)
    note = "".join(f" · {text}" for text in caller().elsewhere())
    with _turn(store, key):
        if not rerun and _attach(shell, store, names, cell, key, mode=mode, note=note):
            return
        # Before the cell runs, which may take minutes.
        store.require_owner(list(names.values()), replace=replace)
        began = time.perf_counter()
        with group(None):  # --group of this line does not apply to the code of the cell
            _execute(shell, cell)
        _ran.add(key)
        spent = time.perf_counter() - began
        values = {name: _result(shell, variable) for variable, name in names.items()}
        once = json.dumps({"key": key, "seconds": spent, "at": time.time()})
        done = store.publish(values, replace=replace, keep=keep, once=once)
        del values
        _bind(shell, names, variables.attach_published(store, done, mode))
        size = size_text(sum(published.info.nbytes for published in done))
        say(
            f"{', '.join(names.values())} published · {size} · the cell took {duration_text(spent)}; "
            f"the next run attaches them{note}"
        )
        warn_of_short_life(done[0].info)


def cell_key(shell: Any, cell: str) -> str:
    """Return a key of a cell that does not depend on comments, blanks and quotes."""
    source = shell.transform_cell(cell)
    with contextlib.suppress(SyntaxError):  # running it will tell
        source = ast.unparse(ast.parse(source))
    return hashlib.sha256(source.encode()).hexdigest()


def _attach(
    shell: Any,
    store: Store,
    names: dict[str, str],
    cell: str,
    key: str,
    *,
    mode: Mode,
    note: str,
) -> bool:
    """Attach the names if the cell with that key published all of them; return whether it did."""
    try:
        if not all(_is_of(store.info(name), key) for name in names.values()):
            return False
        # Before the attach, so that instances get the class that the cell defines.
        defined = _define(shell, cell, names, key)
        began = time.perf_counter()
        found = store.attach(list(names.values()), mode)
    except SegmentNotFoundError:
        return False
    if not all(_is_of(attached, key) for attached in found):
        return False
    spent = time.perf_counter() - began
    _bind(shell, names, found)
    made = _Run.parse(found[0].once)
    say(
        f"{', '.join(names.values())} attached in {duration_text(spent)}; the cell took "
        f"{duration_text(made.seconds)} at {made.clock} in {found[0].publisher}{note}"
    )
    if defined:
        say(defined)
    return True


class _Run(NamedTuple):
    """A run of a cell, from the note of the version that it made: key, duration, and time of day."""

    key: str = ""
    seconds: float = 0.0
    clock: str = ""

    @classmethod
    def parse(cls, once: str) -> _Run:
        """Return the run that a note describes; one with an empty key if jshm did not write the note."""
        try:
            said = json.loads(once[:_LONGEST])
            key, seconds, at = said["key"], said["seconds"], said["at"]
            if type(key) is str and isfinite(seconds) and seconds >= 0:
                return cls(key, float(seconds), time.strftime("%H:%M", time.localtime(at)))
        except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError):
            pass
        return cls()


def _is_of(published: SegmentInfo | Attached, key: str) -> bool:
    """Return whether the cell with that key published this version."""
    return _Run.parse(published.once).key == key


def _define(shell: Any, cell: str, names: dict[str, str], key: str) -> str:
    """Bind the definitions of the cell that need no run; return the line that tells the user."""
    source = shell.transform_cell(cell)
    filename = shell.compile.cache(source, shell.execution_count, raw_code=cell)
    there = frozenset(shell.user_ns)
    found = definitions.bind(shell, source, frozenset(names), filename)
    if key in _ran:
        found = found._replace(
            bound=[], missing=[n for n in found.missing if n.isidentifier() and n not in there]
        )
    return found.line()


def _bind(shell: Any, names: dict[str, str], found: list[Attached]) -> None:
    for variable, attached in zip(names, found, strict=True):
        bind(shell.user_ns, variable, attached.value, attached.segments)


def _result(shell: Any, variable: str) -> Any:
    if variable not in shell.user_ns:
        raise UsageError(
            f"%%shm_once: the cell did not make the variable {variable}; nothing was published"
        )
    return shell.user_ns[variable]


def _execute(shell: Any, cell: str) -> None:
    """Run a cell's source in the notebook's namespace; its errors are raised unchanged."""
    source = shell.transform_cell(cell)
    name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
    try:
        code = shell.compile(source, name, "exec")
    except SyntaxError:
        if _awaits(source):
            raise UsageError(
                "%%shm_once: the cell cannot `await`: others wait for it and need its variables. "
                "Put the await into a separate cell, and publish its result with %shm_publish"
            ) from None
        raise
    try:
        exec(code, shell.user_global_ns, shell.user_ns)  # noqa: S102 - it is what the user typed
    except JshmError as error:
        with_traceback(error)
        raise


def _awaits(source: str) -> bool:
    """Return whether the only error in a cell is an `await` outside a function."""
    try:
        code = compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError:
        return False
    return bool(code.co_flags & inspect.CO_COROUTINE)


def _turn(store: Store, key: str) -> AbstractContextManager[object]:
    """Return a lock that waits until no other notebook runs this cell."""
    return store.lock(
        f"once-{key[:32]}",
        called="this cell",
        waits=lambda who: say(f"waiting for {who}, which is running this cell"),
    )
