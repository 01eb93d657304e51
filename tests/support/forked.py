"""Python processes that are forked from one which has imported jshm: they start in milliseconds.

A process that runs this file as a program imports what tests need, and then forks a process for each
request. The forked process has the standard streams, the environment and the main module of a program
that was started in the ordinary way. Its parent reaps it at once and reports its exit code.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import types
import warnings
from typing import IO, Any, cast

# Settings that Python reads only when it starts.
_AT_START = ("PYTHON", "LD_")
_LENGTH = struct.Struct("<I")
_STREAMS = 4  # stdin, stdout, stderr, and a pipe for the exit code


class ForkedProcess:
    """A forked process, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, stdin: int, stdout: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = os.fdopen(stdin, "wb", 0)
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb", 0)
        self._ended = os.fdopen(ended, "rb", 0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the process has ended and is reaped."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._ended, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(f"forked process {self.pid}", timeout or 0.0)
            self.returncode = int(self._ended.read() or b"-9")  # no code: the server has ended
            self._ended.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


_server: tuple[int, socket.socket] | None = None  # pid of this process, and the connection


def can_fork(env: dict[str, str]) -> bool:
    """Return whether a process with this environment can be forked instead of started."""
    return hasattr(os, "pidfd_open") and all(
        os.environ.get(name) == env.get(name)
        for name in {*os.environ, *env}
        if name.startswith(_AT_START)
    )


def fork(program: str, env: dict[str, str]) -> ForkedProcess:
    """Run a program in a forked process, with this process's stderr and working directory."""
    connection = _connect()
    stdin, to_child = os.pipe()
    from_child, stdout = os.pipe()
    ended, ending = os.pipe()
    request = json.dumps({"program": program, "env": env, "cwd": os.getcwd()}).encode()
    fds = [stdin, stdout, 2, ending]
    socket.send_fds(connection, [_LENGTH.pack(len(request))], fds)
    connection.sendall(request)
    for fd in (stdin, stdout, ending):
        os.close(fd)
    (pid,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
    return ForkedProcess(pid, to_child, from_child, ended)


def _connect() -> socket.socket:
    """Return the connection to this process's server."""
    global _server  # noqa: PLW0603
    if _server is None or _server[0] != os.getpid():
        here, there = socket.socketpair()
        with there:
            process = subprocess.Popen(
                [sys.executable, __file__, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(_end, process, here)
        _server = os.getpid(), here
    return _server[1]


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    process.wait()


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        chunk = connection.recv(length - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


# -- the server ------------------------------------------------------------------------------------


def serve(connection: socket.socket) -> dict[str, Any]:
    """Fork a process for each request; return the request in the forked process."""
    children: dict[int, int] = {}  # pid → pipe for its exit code
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is connection:
                    fds, request = _next_request(connection)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy has threads
                        pid = os.fork()
                    if not pid:
                        return _become(fds, request)
                    for fd in fds[:-1]:
                        os.close(fd)
                    children[pid] = fds[-1]
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                    connection.sendall(_LENGTH.pack(pid))
                else:
                    selector.unregister(key.fileobj)
                    os.close(cast("int", key.fileobj))
                    _, status = os.waitpid(key.data, 0)
                    ending = children.pop(key.data)
                    with contextlib.suppress(BrokenPipeError):
                        os.write(ending, str(os.waitstatus_to_exitcode(status)).encode())
                    os.close(ending)


def _next_request(connection: socket.socket) -> tuple[list[int], dict[str, Any]]:
    length, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, _STREAMS)
    if not length:
        os._exit(0)  # the tests have ended
    return list(fds), json.loads(_receive(connection, _LENGTH.unpack(length)[0]))


def _become(fds: list[int], request: dict[str, Any]) -> dict[str, Any]:
    """Give a forked process its streams, environment and directory, and nothing of the server."""
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    os.closerange(3, 1024)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    return request


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    _prepare()
    request = serve(connection)
    connection.detach()
    program = request["program"]
    sys.argv = [program]
    sys.orig_argv = [sys.executable, program]
    sys.path[0] = os.path.dirname(program)
    main_module = types.ModuleType("__main__")
    main_module.__file__ = program
    sys.modules["__main__"] = main_module
    with open(program, encoding="utf-8") as file:
        code = compile(file.read(), program, "exec")
    exec(code, main_module.__dict__)


def _prepare() -> None:
    """Import what nearly every program of the tests imports. None of it opens a store."""
    import importlib
    import pkgutil

    from jshm import pickling, store
    from jshm.store import local

    importlib.import_module("jshm.api")
    for package in (store, local, pickling):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")


if __name__ == "__main__":
    main()
