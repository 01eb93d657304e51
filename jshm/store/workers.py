"""Who a worker is: what multiprocessing, concurrent.futures or loky started belongs to who started it.

A pool ends its workers when and how it likes (SIGTERM, `os._exit`, after some tasks), so nothing that
they publish may depend on them: their session is that of the nearest ancestor that is no worker. A
program that `subprocess` or ``!`` starts inherits the same environment, but is a session of its own.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..system import processes as programs
from . import identity
from .identity import Identity, Session, of_kernel, path_text, process_start, stat_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Command lines of workers that were not forked from who started them, and of the server that forks them.
_MARKS = (b"--multiprocessing-fork", b"multiprocessing.forkserver", b"loky.backend.popen_loky")
_LOKY = "loky/backend/popen_loky"
# What is no script of the user's: the programs that a terminal or a kernel is started with.
_LAUNCHERS = (
    "/ipython",
    "/ipython3",
    "/IPython/__main__.py",
    "/ipykernel_launcher.py",
    "/ipykernel/__main__.py",
)


def discover(known: Callable[[], Iterable[Identity]] = tuple) -> Identity:
    """Find out who this process is: like `identity.discover`, but a worker is a part of its parent.

    Parameters
    ----------
    known : callable
        Returns living processes that say who they are; called in workers only.
    """
    me = identity.discover()
    parent, depth = _parent()
    if not parent:
        return me
    start = process_start(parent)
    if start is None or not _is_older(start, me.start):  # the parent has ended
        return me if me.connection_file else replace(me, script=_script(me.script))
    theirs = {(who.pid, who.start): who for who in known() if who.pid_ns == me.pid_ns}
    while (who := theirs.get((parent, process_start(parent) or ""))) is None:
        depth -= 1
        above = _above(parent, forked=depth > 0)
        if not above:
            who = _from_outside(parent, me)
            break
        parent = above
    session = who.session
    if session.kind == "process":
        session = Session("run", who.pid, who.start)
    return replace(
        who, pid=me.pid, start=me.start, uid=me.uid, session=session, root=who.root or who.pid,
        python=me.python, jshm=me.jshm,
    )  # fmt: skip


def _parent() -> tuple[int, int]:
    """Return the pid of who started this worker, and how many workers deep it is; (0, 0) if it is none.

    With a fork server that is not the process that forked it.
    """
    module: Any = sys.modules.get("multiprocessing.process")
    if module is None:
        return 0, 0
    current, parent = module.current_process(), module.parent_process()
    if parent is not None:
        return parent.pid, len(current._identity)  # noqa: SLF001
    # A worker in the making: the top level of its script runs.
    if getattr(current, "_inheriting", False):
        return os.getppid(), 0
    return 0, 0


def _is_older(start: str, than: str) -> bool:
    """Tell whether a process is as old as a worker: one that has its parent's pid by now is younger."""
    try:
        return int(start.rpartition(":")[2]) <= int(than.rpartition(":")[2])
    except ValueError:  # no /proc
        return True


def _above(pid: int, *, forked: bool) -> int:
    """Return the process that started a worker; 0 if it is none, as far as can be seen.

    A worker that was forked has the command line of its parent, so that it is `forked` must be known.
    """
    fields = stat_fields(pid)
    if fields is None:
        return 0
    words, parent = programs.command(pid), int(fields[1])
    marked = any(mark in word for word in words for mark in _MARKS)
    if not (marked or (forked and words == programs.command(parent))):
        return 0
    # An orphan's parent is init, or another program that adopts orphans.
    return parent if programs.executable(parent) == programs.executable(pid) else 0


def _from_outside(root: int, me: Identity) -> Identity:
    """Return who a process is that has not used jshm itself."""
    try:
        file = me.connection_file or programs.connection_file(root)
        if file:
            who = of_kernel(root, file, programs.environment(root))
            return replace(who, notebook=who.notebook or me.notebook)
    except OSError:  # not to be seen
        pass
    start = process_start(root) or ""
    script = "" if me.program == "ipython" else _script(me.script)
    return replace(
        me, pid=root, start=start, session=Session("process", root, start), script=script
    )


def _script(own: str) -> str:
    """Return the script whose worker this is.

    `own` is the file of the worker's main module: of the script, which multiprocessing loads; of loky,
    which does not load it; or none, while it is not loaded yet. Both hand ``sys.argv`` on.
    """
    if own and _LOKY not in own:
        return own
    path = sys.argv[0] if sys.argv else ""
    if not path or path.endswith(_LAUNCHERS):
        return ""
    module = sys.modules["multiprocessing.process"]
    path = os.path.join(module.ORIGINAL_DIR or "", path)
    return path_text(os.path.realpath(path)) if os.path.isfile(path) else ""


def after_workers(action: Callable[[], None]) -> Callable[[], None]:
    """Return a function for `atexit` that acts after multiprocessing has ended this process's workers."""

    def act() -> None:
        util = sys.modules.get("multiprocessing.util")
        if util is None or util.is_exiting():
            action()
        else:  # lower than any priority that others use
            util.Finalize(None, action, exitpriority=-1000)

    return act
