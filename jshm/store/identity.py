"""Identities of processes: which kernel, notebook, script or terminal; and what ends their names' lives.

A worker that multiprocessing, concurrent.futures or loky started belongs to the process that started it.
A pool ends its workers when and how it likes (SIGTERM, `os._exit`, after some tasks), so a published name
must not depend on them: a worker's session is that of its nearest ancestor that is not a worker. A program
that `subprocess` or ``!`` starts inherits the same environment, but has its own session.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from .._version import __version__
from ..pickling import static
from ..system import processes
from ..system.processes import is_running, pid_namespace, process_start
from ..text import cached_by_text, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SessionKind = Literal["server", "run", "process"]
_KINDS = ("server", "run", "process")
_MAX_ID = 1 << 32
# Characters of a file's name.
_LONGEST_LABEL = 255
# Characters of a UUID: the ids that a Jupyter server gives its kernels. `jupyter console` and the like use
# a part of one.
_UUID = 36
# The end of a short lifetime in words, by kind of session, or by program if the session is the process.
_ENDS = {
    "run": "this run ends",
    "kernel": "this kernel ends or is restarted",
    "ipython": "this IPython ends",
    "python": "this program ends",
}
# Words in the command lines of workers that were started and not forked, and of the fork server.
_MARKS = (b"--multiprocessing-fork", b"multiprocessing.forkserver", b"loky.backend.popen_loky")
_LOKY = "loky/backend/popen_loky"
# The programs that a terminal or a kernel is started with; they are not scripts of the user's.
_LAUNCHERS = (
    "/ipython",
    "/ipython3",
    "/IPython/__main__.py",
    "/ipykernel_launcher.py",
    "/ipykernel/__main__.py",
)


@dataclass(frozen=True, slots=True)
class Session:
    """A program whose end ends the lifetime of published names.

    Attributes
    ----------
    kind : {'server', 'run', 'process'}
        A Jupyter server; another program that started the kernel (nbclient, papermill, ``jupyter
        console``); the publishing process itself.
    pid : int
    start : str
        Boot id and start time of the process; with the pid they identify it for all time.
    """

    kind: SessionKind
    pid: int
    start: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a process, as others see it.

    Attributes
    ----------
    pid, start, pid_ns
        The process: id, boot id and start time, pid namespace.
    session : Session
    connection_file : str
        The kernel's, which stays the same through a restart; empty outside kernels.
    kernel_id : str
        The server's id of the kernel; empty if no server started it.
    notebook : str
        Path of the notebook when its kernel started (``JPY_SESSION_NAME``, or VS Code's variable).
    script : str
        Path of a script; empty in kernels and terminals.
    program : str
        ``'kernel'``, ``'ipython'`` or ``'python'``.
    uid : int
        The user.
    root : int
        For a worker, the pid of the kernel, script or terminal that it works for; else 0.
    python, jshm : str
        Versions.
    """

    pid: int
    start: str
    pid_ns: str
    session: Session
    connection_file: str = ""
    kernel_id: str = ""
    notebook: str = ""
    script: str = ""
    program: str = "python"
    uid: int = field(default_factory=os.geteuid)
    root: int = 0
    python: str = field(default_factory=platform.python_version)
    jshm: str = __version__

    @property
    def label(self) -> str:
        """The name that people see: ``train.ipynb``, ``fit.py``, ``kernel 1f0c…``, ``ipython 4711``.

        Another user's process has the user's name too: ``train.ipynb (ada)``.
        """
        path = self.notebook or self.script
        name = shortened(
            path.rpartition("/")[2]
            if path
            else f"{self.program} {self.kernel_id[:8] or self.root or self.pid}",
            _LONGEST_LABEL,
        )
        return name if self.uid == os.geteuid() else f"{name} ({processes.user_name(self.uid)})"

    def short_life(self, lifetime: str) -> str:
        """Return how long this process's names live ("lives until this program ends"), or ''.

        It is '' if they outlive this process, and in workers.

        Parameters
        ----------
        lifetime : str
            The lifetime of a `SegmentInfo`.
        """
        end = _ENDS.get(self.program if lifetime == "process" else lifetime)
        return f"lives until {end}" if end and not self.root else ""

    @property
    def owner(self) -> str:
        """Text that all processes of one notebook, script or terminal share, and no others."""
        return (
            self.notebook
            or self.script
            or self.connection_file
            or f"{self.session.pid}:{self.session.start}:{self.pid_ns}"
        )

    @property
    def is_here(self) -> bool:
        """Whether it is this process, if it runs; in another container the pid is another process's."""
        return self.pid == os.getpid() and self.pid_ns == pid_namespace()

    def owns(self, other: Identity) -> bool:
        """Return whether both are the same notebook, script or terminal, maybe restarted."""
        if self.uid != other.uid:
            return False
        for mine, theirs in (
            (self.connection_file, other.connection_file),
            (self.notebook, other.notebook),
            (self.script, other.script),
        ):
            if mine and mine == theirs:
                return True
        if not (self.connection_file or other.connection_file):  # terminals and their workers
            return self.owner == other.owner
        return (self.pid, self.start, self.pid_ns) == (other.pid, other.start, other.pid_ns)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    @cached_by_text(1024)
    def from_json(text: str) -> Identity:
        """Parse an identity that `to_json` wrote; unknown fields are ignored, missing ones are empty.

        Raises
        ------
        ValueError
            It is not a JSON object, or a field has an impossible value.
        """
        try:
            content: Any = json.loads(text)
        except RecursionError as error:
            raise ValueError(f"not an identity: {text!r:.80}") from error
        session = content.get("session", {}) if isinstance(content, dict) else None
        if not isinstance(session, dict):
            raise ValueError(f"not an identity: {text!r:.80}")  # noqa: TRY004 - data are wrong, not a call
        known = {k: v for k, v in content.items() if k in Identity.__slots__ and k != "session"}
        who = Identity(
            **{"pid": 0, "start": "", "pid_ns": "", **known},
            session=Session(
                session.get("kind", "process"), session.get("pid", 0), session.get("start", "")
            ),
        )
        for part in (who, who.session):
            for name in set(part.__slots__) - {"session"}:
                _check_field(name, getattr(part, name))
        return who


def _check_field(name: str, value: Any) -> None:
    """Raise ValueError if a field that was read does not have its type: a number, or text."""
    if name in ("pid", "uid", "root"):
        fits = type(value) is int and 0 <= value < _MAX_ID
    else:
        fits = type(value) is str
    if not fits:
        raise ValueError(f"not an identity: {name} is {value!r:.80}")
    str(value).encode()  # raises at half a surrogate pair


def seems_to_run(who: Identity) -> bool:
    """Return whether a process, also of another user, runs; True if this process cannot find out."""
    if who.uid != os.geteuid() and not processes.shows_others():
        return True
    return is_running(who.pid, who.start, who.pid_ns)


def has_ended(dead: Identity, ending: tuple[int, str] | None = None) -> bool:
    """Return whether the session of a dead process has ended, too.

    Parameters
    ----------
    dead : Identity
    ending : (int, str), optional
        Pid and start of a process in our pid namespace that counts as ended, because it is about to end.
    """
    session = dead.session
    if session.kind == "process":
        return True
    if session.kind not in _KINDS:
        return False  # a newer jshm knows more kinds
    if dead.uid != os.geteuid() and not processes.shows_others():
        return False
    return is_part_of(dead, ending) or not is_running(session.pid, session.start, dead.pid_ns)


def is_part_of(who: Identity, program: tuple[int, str] | None) -> bool:
    """Return whether a process's session is a program, given by pid and start, in our pid namespace."""
    session = who.session
    return (
        session.kind != "process"
        and program == (session.pid, session.start)
        and who.pid_ns == pid_namespace()
    )


# -- which process this is --------------------------------------------------------------------------


def discover(known: Callable[[], Iterable[Identity]] = tuple) -> Identity:
    """Return this process's identity; a worker's is that of the process that it works for.

    Nothing is imported: a module that is not loaded is not running.

    Parameters
    ----------
    known : callable
        Returns the identities of running processes that have a lease. Only workers call it.
    """
    me = _this_process()
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


def _this_process() -> Identity:
    """Return this process's identity as if it were not a worker."""
    pid = os.getpid()
    start, pid_ns = process_start(pid) or "", pid_namespace()
    itself = Session("process", pid, start)
    connection_file = _connection_file()
    shell = _shell()
    if not connection_file:
        script = "" if shell else getattr(sys.modules.get("__main__"), "__file__", None) or ""
        return Identity(
            pid, start, pid_ns, itself,
            script=path_text(os.path.realpath(script)) if script else "",
            program="ipython" if shell else "python",
            uid=os.geteuid(),
        )  # fmt: skip
    who = of_kernel(pid, connection_file, os.environ)
    notebook = static.text(getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__"))
    return replace(who, notebook=path_text(notebook)) if notebook else who


def of_kernel(pid: int, connection_file: str, environment: Mapping[str, str]) -> Identity:
    """Return the identity of a kernel of this user, from its environment and connection file."""
    start = process_start(pid) or ""
    stem = os.path.splitext(os.path.basename(connection_file))[0]
    kernel_id = stem.removeprefix("kernel-") if stem.startswith("kernel-") else ""
    parent = environment.get("JPY_PARENT_PID", "")
    return Identity(
        pid, start, pid_namespace(),
        _kernel_session(pid, kernel_id, parent) or Session("process", pid, start),
        connection_file=connection_file,
        kernel_id=kernel_id,
        notebook=path_text(environment.get("JPY_SESSION_NAME", "")),
        program="kernel",
        uid=os.geteuid(),
    )  # fmt: skip


def path_text(path: str) -> str:
    """Return a path with "?" for bytes that are not valid UTF-8."""
    return path.encode(errors="replace").decode()


def _kernel_session(pid: int, kernel_id: str, parent_pid: str) -> Session | None:
    """Return the server or program that started a kernel, or None.

    `parent_pid` is ``JPY_PARENT_PID``. It counts only if it is an ancestor: programs that a kernel starts
    inherit the variable.
    """
    try:
        parent = int(parent_pid)
    except ValueError:
        return None
    start = process_start(parent)
    if start is None or not processes.is_ancestor(parent, pid):
        return None
    return Session("server" if len(kernel_id) == _UUID else "run", parent, start)


def _connection_file() -> str:
    """Return the connection file of the ipykernel that runs in this process, or ''."""
    module = sys.modules.get("ipykernel.kernelapp")
    if module is None or not module.IPKernelApp.initialized():
        return ""
    app = module.IPKernelApp.instance()
    return path_text(os.path.realpath(app.abs_connection_file))


def _shell() -> Any:
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


# -- workers ---------------------------------------------------------------------------------------


def _parent() -> tuple[int, int]:
    """Return the pid of the process that started this worker, and the worker's depth; else (0, 0).

    The depth is the number of workers above it, itself included. With a fork server, the process that
    started the worker is not the one that forked it.
    """
    module: Any = sys.modules.get("multiprocessing.process")
    if module is None:
        return 0, 0
    current, parent = module.current_process(), module.parent_process()
    if parent is not None:
        return parent.pid, len(current._identity)  # noqa: SLF001
    # The worker is starting: the top level of its script runs.
    if getattr(current, "_inheriting", False):
        return os.getppid(), 0
    return 0, 0


def _is_older(start: str, than: str) -> bool:
    """Return whether a process is at least as old as a worker; a younger one has its dead parent's pid."""
    try:
        return int(start.rpartition(":")[2]) <= int(than.rpartition(":")[2])
    except ValueError:  # no /proc
        return True


def _above(pid: int, *, forked: bool) -> int:
    """Return the process that started a worker; 0 if the process does not look like a worker.

    `forked` tells whether it may be a forked worker, which has the command line of its parent.
    """
    fields = processes.stat_fields(pid)
    if fields is None:
        return 0
    words, parent = processes.command(pid), int(fields[1])
    marked = any(mark in word for word in words for mark in _MARKS)
    if not (marked or (forked and words == processes.command(parent))):
        return 0
    # An orphan's parent is init, or another program that adopts orphans.
    return parent if processes.executable(parent) == processes.executable(pid) else 0


def _from_outside(root: int, me: Identity) -> Identity:
    """Return the identity of a process that has not used jshm itself."""
    try:
        file = me.connection_file or processes.connection_file(root)
        if file:
            who = of_kernel(root, file, processes.environment(root))
            return replace(who, notebook=who.notebook or me.notebook)
    except OSError:  # not visible
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
