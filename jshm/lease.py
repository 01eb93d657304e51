"""Tell whether a process lives, and who it is.

A lease is a small file that its process keeps locked (``flock(LOCK_EX)``). The kernel drops the lock
when the process ends, however it ends, so a probe (``LOCK_SH | LOCK_NB``) never lies; a pid can be
reused, and means nothing in another pid namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import sys
import weakref
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from ._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

SessionKind = Literal["server", "run", "process"]
_PROC = os.path.isdir("/proc/self")
_TEMPORARY = ".new-"
_HOLDS = ".holds"
# Lines of a log that may be out of date before it is written anew.
_LOG_SLACK = 1000

Hold = tuple[str, str]
"""Segment id and mode."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a published name's life is tied to.

    Attributes
    ----------
    kind : {'server', 'run', 'process'}
        A Jupyter server; another program that started the kernel (nbclient, papermill); the
        publishing process itself.
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
    python: str = field(default_factory=platform.python_version)
    jshm: str = __version__

    @property
    def label(self) -> str:
        """What people know it by: ``train.ipynb``, ``fit.py``, ``kernel 1f0c…``, ``ipython 4711``."""
        path = self.notebook or self.script
        if path:
            return path.rpartition("/")[2]
        return f"{self.program} {self.kernel_id[:8] or self.pid}"

    def owns(self, other: Identity) -> bool:
        """Tell whether this is the same notebook, script or terminal as `other`, maybe restarted."""
        for mine, theirs in (
            (self.connection_file, other.connection_file),
            (self.notebook, other.notebook),
            (self.script, other.script),
        ):
            if mine and mine == theirs:
                return True
        return (self.pid, self.start, self.pid_ns) == (other.pid, other.start, other.pid_ns)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    @lru_cache(maxsize=1024)
    def from_json(text: str) -> Identity:
        """Parse what `to_json` wrote; fields of a newer jshm are ignored, lost ones are empty.

        Raises
        ------
        ValueError
            It is no JSON object.
        """
        content: Any = json.loads(text)
        session = content.get("session", {}) if isinstance(content, dict) else None
        if not isinstance(session, dict):
            raise ValueError(f"not an identity: {text[:80]}")  # noqa: TRY004 - of data, not of calls
        known = {k: v for k, v in content.items() if k in Identity.__slots__ and k != "session"}
        return Identity(
            **{"pid": 0, "start": "", "pid_ns": "", **known},
            session=Session(
                session.get("kind", "process"), session.get("pid", 0), session.get("start", "")
            ),
        )


def process_start(pid: int) -> str | None:
    """Return boot id and start time of a process, or None if there is no such process."""
    if _PROC:
        fields = _stat_fields(pid)
        # State and start time are fields 3 and 22 of proc_pid_stat(5); the name may hold blanks.
        return None if fields is None or fields[0] == "Z" else f"{boot_id()}:{fields[19]}"
    import subprocess

    shown = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or None


def _stat_fields(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return eight characters that name this boot of the machine, or '' where nothing tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read(8)
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_running(pid: int, start: str, pid_ns: str) -> bool:
    """Tell whether a process runs; one that cannot be judged from here counts as running."""
    return pid_ns != _pid_namespace() or process_start(pid) == start


def _is_ancestor(pid: int) -> bool:
    if not _PROC:
        return pid == os.getppid()
    seen = os.getppid()
    while seen > 1 and seen != pid:
        fields = _stat_fields(seen)
        if fields is None:
            return False
        seen = int(fields[1])
    return seen == pid


def discover() -> Identity:
    """Find out who this process is. Imports nothing: what is not loaded is not running."""
    pid = os.getpid()
    start, pid_ns = process_start(pid) or "", _pid_namespace()
    itself = Session("process", pid, start)
    connection_file = _connection_file()
    shell = _shell()
    if not connection_file:
        script = "" if shell else getattr(sys.modules.get("__main__"), "__file__", None) or ""
        return Identity(
            pid, start, pid_ns, itself,
            script=os.path.realpath(script) if script else "",
            program="ipython" if shell else "python",
        )  # fmt: skip
    stem = os.path.splitext(os.path.basename(connection_file))[0]
    kernel_id = stem.removeprefix("kernel-") if stem.startswith("kernel-") else ""
    notebook = getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__") or os.environ.get(
        "JPY_SESSION_NAME", ""
    )
    return Identity(
        pid, start, pid_ns,
        _kernel_session(kernel_id) or itself,
        connection_file=connection_file,
        kernel_id=kernel_id,
        notebook=notebook,
        program="kernel",
    )  # fmt: skip


def _kernel_session(kernel_id: str) -> Session | None:
    """Return the server or program that started this kernel.

    ``JPY_PARENT_PID`` counts only for an ancestor: programs that a kernel starts inherit it.
    """
    try:
        parent = int(os.environ.get("JPY_PARENT_PID", ""))
    except ValueError:
        return None
    start = process_start(parent)
    if start is None or not _is_ancestor(parent):
        return None
    return Session("server" if kernel_id else "run", parent, start)


def _connection_file() -> str:
    """Return the connection file of the ipykernel that runs in this process, or ''."""
    module = sys.modules.get("ipykernel.kernelapp")
    if module is None or not module.IPKernelApp.initialized():
        return ""
    app = module.IPKernelApp.instance()
    return str(os.path.realpath(app.abs_connection_file))


def _shell() -> Any:
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


class Lease:
    """The proof that this process lives: a locked file, until `close` or the process's end.

    Parameters
    ----------
    directory : str
        Where leases are kept.
    identity : Identity
        Written into the file, for people.

    Attributes
    ----------
    text : str
        The identity as JSON.
    """

    def __init__(self, directory: str, identity: Identity) -> None:
        self.identity = identity
        self.text = identity.to_json()
        self.id = os.urandom(8).hex()
        self.pid = os.getpid()
        self._path = os.path.join(directory, self.id)
        self._held: set[Hold] = set()
        self._log = -1
        self._lines = 0
        self._fd = self._create(os.path.join(directory, _TEMPORARY + self.id))
        _leases.add(self)

    def _create(self, temporary: str) -> int:
        # Locked before it has its name: nobody ever sees it unlocked while its process lives.
        while True:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.write(fd, self.text.encode())
                os.rename(temporary, self._path)
            except FileNotFoundError:  # a reaper won the instant between creation and lock
                os.close(fd)
            except BaseException:
                os.close(fd)
                raise
            else:
                return fd

    def is_valid(self) -> bool:
        """Tell whether it is this process's, and others can still see it."""
        return self.pid == os.getpid() and self._fd >= 0 and os.path.exists(self._path)

    def close(self) -> None:
        """Give the lease up."""
        if self._fd >= 0 and self.pid == os.getpid():
            for path in (self._path + _HOLDS, self._path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor only: in a forked child, where the lock belongs to the parent."""
        for fd in (self._fd, self._log):
            if fd >= 0:
                os.close(fd)
        self._fd = self._log = -1

    def note(self, changes: Iterable[tuple[Hold, bool]]) -> None:
        """Say which segments this process holds now, or holds no more.

        A log beside the lease, and not rows: appending a line costs a tenth of a transaction, waits
        for nobody, and vanishes with the process. It is for display; the kernel's locks decide.
        """
        lines = []
        for hold, held in changes:
            (self._held.add if held else self._held.discard)(hold)
            lines.append(f"{'+' if held else '-'}{hold[0]} {hold[1]}\n")
        self._lines += len(lines)
        if self._log < 0 or self._lines > _LOG_SLACK + 4 * len(self._held):
            self._rewrite()
        elif lines:
            os.write(self._log, "".join(lines).encode())

    def _rewrite(self) -> None:
        """Begin a new log with what is held now; readers see the old one or the new one."""
        path = self._path + _HOLDS
        temporary = os.path.join(os.path.dirname(path), _TEMPORARY + os.path.basename(path))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        log = os.open(temporary, flags, 0o600)
        try:
            os.write(log, "".join(f"+{hold[0]} {hold[1]}\n" for hold in self._held).encode())
            os.rename(temporary, path)
        except BaseException:
            os.close(log)
            raise
        if self._log >= 0:
            os.close(self._log)
        self._log, self._lines = log, len(self._held)


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


def _abandon_inherited() -> None:
    # A child that kept the descriptor open would make a dead parent look alive.
    for lease in _leases:
        lease.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)


def is_alive(directory: str, lease_id: str) -> bool:
    """Tell whether the process of a lease lives."""
    try:
        fd = os.open(os.path.join(directory, lease_id), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def living(directory: str) -> list[tuple[Identity, set[Hold]]]:
    """Return who lives, and what each says that it holds."""
    found = []
    for name in os.listdir(directory):
        if "." not in name and is_alive(directory, name):
            path = os.path.join(directory, name)
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
                with open(path, encoding="utf-8") as file:
                    identity = Identity.from_json(file.read())
                held: set[Hold] = set()
                with contextlib.suppress(FileNotFoundError):
                    held = _read_log(path + _HOLDS)
                found.append((identity, held))
    return found


def _read_log(path: str) -> set[Hold]:
    held: set[Hold] = set()
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            if not line.endswith("\n"):
                break  # being written
            segment, _, mode = line[1:-1].partition(" ")
            (held.add if line[0] == "+" else held.discard)((segment, mode))
    return held


def sweep(directory: str) -> None:
    """Remove the files of dead processes, also of those that died while making one."""
    for name in os.listdir(directory):
        lease = name.removeprefix(_TEMPORARY).removesuffix(_HOLDS)
        owner = name if name.startswith(_TEMPORARY) and not name.endswith(_HOLDS) else lease
        if not is_alive(directory, owner):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))
