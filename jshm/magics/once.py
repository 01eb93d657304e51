"""``%%shm_once``: run a cell once on the machine, and attach its result everywhere else."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from IPython.core.error import UsageError

from .. import namespace as variables
from ..errors import SegmentNotFoundError
from ..store import default_store
from ..text import duration_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..segment import Mode
    from ..store.base import Attached
    from ..store.local import LocalStore

_POLL = 0.05
# Bytes of the label of the notebook whose turn it is.
_LABEL = 200


def run(
    shell: Any, names: dict[str, str], cell: str, *, mode: Mode, replace: bool, keep: bool
) -> None:
    """Attach `names` (variable → name) if this very cell published them, else run it and publish.

    Raises
    ------
    UsageError
        The cell did not make one of the variables.
    JshmError
        What it made cannot be published.
    """
    store = default_store()
    key = cell_key(shell, cell)
    with _turn(store, key):
        began = time.perf_counter()
        found = _find(store, list(names.values()), key, mode)
        if found:
            spent = time.perf_counter() - began
            _bind(shell, names, found)
            memory = json.loads(found[0].once)
            clock = time.strftime("%H:%M", time.localtime(memory["at"]))
            print(
                f"{', '.join(names)} attached in {duration_text(spent)}; the cell took "
                f"{duration_text(memory['seconds'])} at {clock} in {found[0].publisher}"
            )
            return
        # Before the cell, which may take minutes.
        store.require_owner(list(names.values()), replace=replace)
        began = time.perf_counter()
        _execute(shell, cell)
        spent = time.perf_counter() - began
        arrays = {name: _result(shell, variable) for variable, name in names.items()}
        once = json.dumps({"key": key, "seconds": spent, "at": time.time()})
        done = store.publish(arrays, replace=replace, keep=keep, once=once)
        del arrays
        _bind(shell, names, store.attach(list(names.values()), mode))
        size = size_text(sum(published.info.nbytes for published in done))
        print(
            f"{', '.join(names)} published · {size} · the cell took {duration_text(spent)}; "
            "the next run attaches them"
        )


def cell_key(shell: Any, cell: str) -> str:
    """Return what is the same for cells that differ in comments, blanks and quotes only."""
    source = shell.transform_cell(cell)
    with contextlib.suppress(SyntaxError):  # running it will tell
        source = ast.unparse(ast.parse(source))
    return hashlib.sha256(source.encode()).hexdigest()


def _find(store: LocalStore, names: list[str], key: str, mode: Mode) -> list[Attached]:
    """Return the attached names if all were published from the cell of that key."""
    try:
        infos = [store.info(name) for name in names]
        if all(info.once and json.loads(info.once)["key"] == key for info in infos):
            found = store.attach(names, mode)
            if all(a.once and json.loads(a.once)["key"] == key for a in found):
                return found
    except SegmentNotFoundError:
        pass
    return []


def _bind(shell: Any, names: dict[str, str], found: list[Attached]) -> None:
    for variable, attached in zip(names, found, strict=True):
        shell.user_ns[variable] = variables.hand_out(attached.array)


def _result(shell: Any, variable: str) -> Any:
    if variable not in shell.user_ns:
        raise UsageError(
            f"%%shm_once: the cell did not make the variable {variable}; nothing was published"
        )
    value = shell.user_ns[variable]
    if not isinstance(value, np.ndarray):
        raise UsageError(
            f"%%shm_once: {variable} is a {type(value).__name__}, not an array; nothing was published"
        )
    return value


def _execute(shell: Any, cell: str) -> None:
    """Run a cell's source in the notebook's namespace; what it raises is the cell's own error."""
    source = shell.transform_cell(cell)
    name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
    code = shell.compile(source, name, "exec")
    exec(code, shell.user_global_ns, shell.user_ns)  # noqa: S102 - it is what the user typed


@contextlib.contextmanager
def _turn(store: LocalStore, key: str) -> Iterator[None]:
    """Wait until no other notebook runs this cell. The OS frees the turn of one that dies."""
    path = os.path.join(store.directory.locks, f"once-{key[:32]}")
    fd = _wait_for_turn(path)
    try:
        os.pwrite(fd, store.presence.identity.label.encode()[:_LABEL], 0)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # Not only closed: a process that the cell has forked keeps a descriptor too.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _wait_for_turn(path: str) -> int:
    """Return a locked descriptor of the file that has this path."""
    told = False
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BlockingIOError:
            if not told:
                who = os.pread(fd, _LABEL, 0).decode(errors="replace") or "another notebook"
                print(f"waiting for {who}, which runs this very cell")
                told = True
            time.sleep(_POLL)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
