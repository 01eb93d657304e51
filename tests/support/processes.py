"""Real processes for tests: Python programs that run pieces of code one after the other.

Nothing here imports jshm: a test learns about a child only through a pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from . import forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# The program reads pieces of code, one JSON string a line, and answers each with one line.
_PROGRAM = """\
import ast, json, os, sys
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
names = {"__name__": "__child__"}
lines = sys.stdin if __name__ == "__main__" else ()  # else it is loaded by a worker
for line in lines:
    answer = {}
    try:
        tree = ast.parse(json.loads(line))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<child>", "exec"), names)
        if last:
            value = eval(compile(ast.Expression(last.value), "<child>", "eval"), names)
            answer["value"] = value
            value = None
    except BaseException as error:
        answer["error"] = [c.__name__ for c in type(error).__mro__]
        answer["message"] = str(error)
        del error
    replies.write(json.dumps(answer, default=repr) + "\\n")
    replies.flush()
"""
TIMEOUT = 60.0
# For ``-W``: programs that tests start end soon, and know it. All of them inherit the first; Python
# drops an option that it has already, so where ``-W error`` comes after that, the second must differ.
SHORT_LIFE = "ignore:lives until"
SHORT_LIFE_TOO = "ignore:lives until this"


# It has imported what each program needs, and forks a process for each: imports take longer than all else.
_BEGINNINGS = """\
import json, os, sys
for line in sys.stdin:
    words, code, directory, env, out, err = json.loads(line)
    pid = os.fork()
    if not pid:
        for number, path in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(env)
        sys.argv[1:] = words
        exec(compile(code, "<begun>", "exec"), globals())
        break
    os.write(1, b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a program that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Beginnings:
    """Programs that begin anew, one after the other, behind the same imports.

    Parameters
    ----------
    prepare : str
        What runs once, before all of them. It must not use a store.
    """

    def __init__(self, prepare: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", f"{prepare}\n{_BEGINNINGS}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, directory: Path, code: str, *words: str) -> Done:
        """Run a program to its end."""
        paths = [directory / "stdout", directory / "stderr"]
        for path in paths:
            path.unlink(missing_ok=True)
        said = [words, code, str(directory), dict(os.environ), *map(str, paths)]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(said).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], 2 * TIMEOUT)
        assert ready, "the program hangs"
        returned = int(self._process.stdout.readline())
        return Done(returned, *(path.read_text(errors="replace") for path in paths))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # a program that hangs, too
        self._process.communicate()


class ChildError(Exception):
    """An exception in a child; `kinds` are the names of its class and of all bases."""

    def __init__(self, kinds: list[str], message: str) -> None:
        super().__init__(f"{kinds[0]}: {message}")
        self.kinds = kinds
        self.message = message


class Child:
    """A Python process.

    Parameters
    ----------
    directory : path
        Where its program is written.
    script : str
        File name of its program: to jshm, programs of different files are different owners.
    env : dict of str to str
        Changes of the environment.
    prefix : tuple of str
        Put before the command line (``unshare``, ``prlimit``).
    started : bool
        Start Python instead of forking it, so that ``/proc`` shows the command line and the environment.
    """

    def __init__(
        self,
        directory: Path,
        script: str = "child.py",
        *,
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        started: bool = False,
    ) -> None:
        program = directory / script
        program.write_text(_PROGRAM)
        environment = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | forked.ForkedProcess
        if not (prefix or started) and forked.can_fork(environment):
            self._process = forked.fork(str(program), environment)
        else:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        self.pid = self._process.pid
        self._buffer = b""

    def send(self, code: str) -> None:
        """Start running code; `receive` gets what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(code).encode() + b"\n")
        self._process.stdin.flush()

    def receive(self, timeout: float = TIMEOUT) -> Any:
        """Return the value of the last expression, or raise ChildError."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no answer within {timeout} s"
            chunk = os.read(fd, 1 << 16)
            assert chunk, f"the child died ({self._process.wait()})"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"], answer["message"])
        return answer.get("value")

    def has_answered(self) -> bool:
        """Return whether `receive` would not wait."""
        assert self._process.stdout is not None
        return bool(self._buffer or select.select([self._process.stdout], [], [], 0)[0])

    def run(self, code: str) -> Any:
        """Run code to its end."""
        self.send(code)
        return self.receive()

    def fails(self, code: str) -> ChildError:
        """Run code that must raise."""
        try:
            value = self.run(code)
        except ChildError as error:
            return error
        raise AssertionError(f"{code!r} did not fail: {value!r}")

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """SIGSTOP it, and return when it stands still."""
        self.signal(signal.SIGSTOP)
        self.stands()

    def stands(self) -> None:
        """Return when it is stopped, by itself or by somebody."""
        until(lambda: _state(self.pid) == "T")

    def kill(self) -> None:
        """SIGKILL it, and return when it is gone."""
        self._process.kill()
        self._close()

    def exit(self) -> None:
        """End it in the ordinary way, with its exit handlers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(TIMEOUT) == 0
        self._close()

    def _close(self) -> None:
        self._process.wait(TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._close()


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()


def until(condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


@contextlib.contextmanager
def reading(directory: Path, helpers: str) -> Iterator[Child]:
    """Start a process that reads what tests publish; `helpers` is code that it has from the beginning."""
    with Child(directory, "reader.py") as child:
        child.run(helpers + "import sys, numpy, jshm\nfrom jshm.store import default_store\n")
        child.run("known = set(globals()) | {'known'}")
        yield child


@contextlib.contextmanager
def in_store(child: Child, root: str) -> Iterator[Child]:
    """Use a store in a process that is `reading`; at the end it forgets everything."""
    child.run(f"os.environ['JSHM_DIR'] = {root!r}")
    child.run(f"os.environ['JSHM_OVERFLOW_DIR'] = {os.environ['JSHM_OVERFLOW_DIR']!r}")
    child.run("jshm.segments()")  # its lease and its connection are there
    yield child
    child.run("for name in set(globals()) - known: del globals()[name]")
    child.run("gc.collect(); default_store().close()")
