"""Child processes that are forked from one process with all imports: imports take most of a start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from ....support.processes import _PROGRAM, Child
from ....support.users import IMPORTS

if TYPE_CHECKING:
    from pathlib import Path

_FORKS = """
import json, os, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, fds, _, _ = socket.recv_fds(channel, 1 << 20, 2)
    if not data:
        break
    asked = json.loads(data)
    if "wait" in asked:
        answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
    else:
        answer = os.fork()
        if not answer:
            channel.close()
            for fd, number in zip(fds, (0, 1)):
                os.dup2(fd, number)
                os.close(fd)
            os.environ.clear()
            os.environ.update(asked["env"])
            script = asked["script"]
            sys.argv, __file__ = [script], script
            exec(compile(open(script).read(), script, "exec"), {"__name__": "__main__"})
            break
        for fd in fds:
            os.close(fd)
    channel.send(json.dumps(answer).encode())
"""


class Forks:
    """Starts child processes by forking one process that has imported what they need.

    Parameters
    ----------
    imports : str
        Code of more imports.
    """

    def __init__(self, imports: str = "") -> None:
        self._channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"{IMPORTS}{imports}\n{_FORKS}", str(other.fileno())],
                pass_fds=[other.fileno()],
            )

    def start(self, directory: Path, script: str, *, env: dict[str, str]) -> Child:
        """Start a `Child`."""
        program = directory / script
        program.write_text(_PROGRAM)
        return _Forked(self, str(program), {**os.environ, **env})

    def fork(self, script: str, env: dict[str, str], stdin: int, stdout: int) -> int:
        """Return the pid of a new process that runs a script."""
        asked = json.dumps({"script": script, "env": env}).encode()
        socket.send_fds(self._channel, [asked], [stdin, stdout])
        return int(self._channel.recv(100))

    def wait(self, pid: int) -> int:
        """Return the exit status of a process, once it has ended."""
        self._channel.send(json.dumps({"wait": pid}).encode())
        return int(self._channel.recv(100))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        assert self._process.wait(60) == 0


class _Process:
    """The part of `subprocess.Popen` that `Child` uses, for a forked process."""

    def __init__(self, forks: Forks, script: str, env: dict[str, str]) -> None:
        reading, writing = os.pipe()
        answers, answering = os.pipe()
        self.stdin, self.stdout = os.fdopen(writing, "wb"), os.fdopen(answers, "rb")
        self.pid = forks.fork(script, env, reading, answering)
        os.close(reading)
        os.close(answering)
        self._forks = forks
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = self._forks.wait(self.pid)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


class _Forked(Child):
    def __init__(self, forks: Forks, script: str, env: dict[str, str]) -> None:
        self._process: Any = _Process(forks, script, env)
        self.pid = self._process.pid
        self._buffer = b""
