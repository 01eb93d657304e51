"""Who a process is: kernel, notebook, script or terminal, and what its names' lives are tied to."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from .._version import __version__
from ..pickling import static as looking
from ..segment.file import limit_error
from ..system.caches import by_text
from ..text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

SessionKind = Literal["server", "run", "process"]
_KINDS = ("server", "run", "process")
_PROC = os.path.isdir("/proc/self")
_MAX_ID = 1 << 32
# Of a file's name.
_LONGEST_LABEL = 255
# Ids that a Jupyter server gives its kernels are UUIDs; `jupyter console` and the like use a part.
_UUID = 36


# Whose names end soon, by session, and by program where that is the session → with what they end.
_ENDS = {
    "run": "this run ends",
    "kernel": "this kernel ends or is restarted",
    "ipython": "this IPython ends",
    "python": "this program ends",
}


@dataclass(frozen=True, slots=True)
class Session:
    """What a published name's life is tied to.

    Attributes
    ----------
    kind : {'server', 'run', 'process'}
        A Jupyter server; another program that started the kernel (nbclient, papermill, ``jupyter
        console``); the publishing process itself.
    pid : int
    start : str
        Boot id and start time of the process; with the pid it names a process for good.
    """

    kind: SessionKind
    pid: int
    start: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is.

    Attributes
    ----------
    pid, start, pid_ns
        The process: id, boot id and start time, pid namespace.
    session : Session
    connection_file : str
        Of the kernel, which keeps it through a restart; empty outside kernels.
    kernel_id : str
        The server's id of the kernel; empty where no server started it.
    notebook : str
        Path of the notebook when its kernel started (``JPY_SESSION_NAME``, or what VS Code says).
    script : str
        Path of a script; empty in kernels and terminals.
    program : str
        ``'kernel'``, ``'ipython'`` or ``'python'``.
    uid : int
        The user.
    root : int
        Of a worker (`workers`): the pid of the kernel, script or terminal whose worker it is; else 0.
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
        """What people know it by: ``train.ipynb``, ``fit.py``, ``kernel 1f0c…``, ``ipython 4711``.

        Another user's name goes with it: ``train.ipynb (ada)``.
        """
        path = self.notebook or self.script
        name = shortened(
            path.rpartition("/")[2]
            if path
            else f"{self.program} {self.kernel_id[:8] or self.root or self.pid}",
            _LONGEST_LABEL,
        )
        return name if self.uid == os.geteuid() else f"{name} ({user_name(self.uid)})"

    def short_life(self, lifetime: str) -> str:
        """Return how long what this process published lives, where that is short; else, and in workers, ''.

        Parameters
        ----------
        lifetime : str
            Of a `SegmentInfo`.
        """
        end = _ENDS.get(self.program if lifetime == "process" else lifetime)
        return f"lives until {end}" if end and not self.root else ""

    def is_user_of(self, other: Identity) -> bool:
        """Tell whether both are the same user's."""
        return self.uid == other.uid

    @property
    def owner(self) -> str:
        """What all processes of one notebook, script or terminal have in common, and nobody else."""
        return (
            self.notebook
            or self.script
            or self.connection_file
            or f"{self.session.pid}:{self.session.start}:{self.pid_ns}"
        )

    @property
    def is_here(self) -> bool:
        """Whether it is this process, if it lives: in another container a pid is another's."""
        return self.pid == os.getpid() and self.pid_ns == pid_namespace()

    def owns(self, other: Identity) -> bool:
        """Tell whether this is the same notebook, script or terminal as `other`, maybe restarted."""
        if not self.is_user_of(other):
            return False
        for mine, theirs in (
            (self.connection_file, other.connection_file),
            (self.notebook, other.notebook),
            (self.script, other.script),
        ):
            if mine and mine == theirs:
                return True
        if not (self.connection_file or other.connection_file):  # terminals, and their workers
            return self.owner == other.owner
        return (self.pid, self.start, self.pid_ns) == (other.pid, other.start, other.pid_ns)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    @by_text(1024)
    def from_json(text: str) -> Identity:
        """Parse what `to_json` wrote; fields of a newer jshm are ignored, lost ones are empty.

        Raises
        ------
        ValueError
            It is no JSON object, or says of something what nothing can be.
        """
        try:
            content: Any = json.loads(text)
        except RecursionError as error:
            raise ValueError(f"not an identity: {text!r:.80}") from error
        session = content.get("session", {}) if isinstance(content, dict) else None
        if not isinstance(session, dict):
            raise ValueError(f"not an identity: {text!r:.80}")  # noqa: TRY004 - of data, not of calls
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
    """Raise ValueError unless a field of what was read is of its type: a number, or text."""
    if name in ("pid", "uid", "root"):
        fits = type(value) is int and 0 <= value < _MAX_ID
    else:
        fits = type(value) is str
    if not fits:
        raise ValueError(f"not an identity: {name} is {value!r:.80}")
    str(value).encode()  # half a surrogate pair is no text


@lru_cache(maxsize=64)
def user_name(uid: int) -> str:
    """Return a user's name, or his number where he has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def process_start(pid: int) -> str | None:
    """Return boot id and start time of a process, or None if none is to be seen.

    Raises
    ------
    TooManyFilesError
        It cannot be told now.
    """
    if _PROC:
        if not _shows_us():
            return None
        fields = stat_fields(pid)
        # State and start time are fields 3 and 22 of proc_pid_stat(5); the name may hold blanks.
        return None if fields is None or fields[0] == "Z" else f"{boot_id()}:{fields[19]}"
    import subprocess

    shown = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or None


def stat_fields(pid: int) -> list[str] | None:
    """Return the fields of proc_pid_stat(5) from the third on; None if no process is to be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError as error:
        _refuse_to_guess(error)
        return None


def _shows_us() -> bool:
    """Tell whether ``/proc`` is of our pid namespace: ``unshare --pid`` alone leaves another's."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _shows_others() -> bool:
    """Tell whether ``/proc`` shows other users' processes: proc(5), mount option ``hidepid``."""
    return stat_fields(1) is not None


def _refuse_to_guess(error: OSError) -> None:
    """Raise TooManyFilesError where only this process's limits keep it from looking.

    A process that is there would count as ended, and what it shares as leftover.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise limit_error(error) from None


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return eight characters that name this boot of the machine, or '' where nothing tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read(8)
    except OSError as error:
        _refuse_to_guess(error)
        return ""


def pid_namespace() -> str:
    """Return what names the pid namespace of this process, or '' where nothing tells."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_running(pid: int, start: str, pid_ns: str) -> bool:
    """Tell whether a process runs; one that cannot be judged from here counts as running."""
    boot = start.partition(":")[0]
    if boot and boot_id() and boot != boot_id():
        return False  # whatever ran before the machine was started again
    if not start or pid_ns != pid_namespace() or (_PROC and not _shows_us()):
        return True
    return process_start(pid) == start


def seems_to_run(who: Identity) -> bool:
    """Tell whether a process of another user runs; one that cannot be judged from here counts as running."""
    if who.uid != os.geteuid() and not _shows_others():
        return True
    return is_running(who.pid, who.start, who.pid_ns)


def has_ended(dead: Identity, ending: tuple[int, str] | None = None) -> bool:
    """Tell whether the session of a process that has ended, has ended too.

    Parameters
    ----------
    dead
    ending : (int, str), optional
        Pid and start of a process that is about to end, in our pid namespace: it counts as ended.
    """
    session = dead.session
    if session.kind == "process":
        return True
    if session.kind not in _KINDS:
        return False  # only a newer jshm can judge it
    if dead.uid != os.geteuid() and not _shows_others():
        return False
    return is_part_of(dead, ending) or not is_running(session.pid, session.start, dead.pid_ns)


def is_part_of(who: Identity, program: tuple[int, str] | None) -> bool:
    """Tell whether a process's session is that program: pid and start, in our pid namespace."""
    session = who.session
    return (
        session.kind != "process"
        and program == (session.pid, session.start)
        and who.pid_ns == pid_namespace()
    )


def _is_ancestor(pid: int, process: int) -> bool:
    """Tell whether `pid` is the process that started `process`, or started who did."""
    if not _PROC:
        return pid == os.getppid()
    seen = process
    while seen > 1 and seen != pid:
        fields = stat_fields(seen)
        if fields is None:
            return False
        seen = int(fields[1])
    return seen == pid != process


def discover() -> Identity:
    """Find out who this process is. Imports nothing: what is not loaded is not running."""
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
    notebook = looking.text(getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__"))
    return replace(who, notebook=path_text(notebook)) if notebook else who


def of_kernel(pid: int, connection_file: str, environment: Mapping[str, str]) -> Identity:
    """Return who a kernel of this user's is, by what it was started with."""
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
    """Return a path without what is no text: file names are bytes, and need not be UTF-8."""
    return path.encode(errors="replace").decode()


def _kernel_session(pid: int, kernel_id: str, said: str) -> Session | None:
    """Return the server or program that started a kernel.

    ``JPY_PARENT_PID`` counts only for an ancestor: programs that a kernel starts inherit it.
    """
    try:
        parent = int(said)
    except ValueError:
        return None
    start = process_start(parent)
    if start is None or not _is_ancestor(parent, pid):
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
