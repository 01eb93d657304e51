"""Fresh interpreters: one defines in its ``__main__`` what a notebook's cells say, another loads it.

A test within one process proves nothing, because objects are found there by name. So writer and reader
are two processes that share only the bytes. Each starts once, and `reset` makes it a blank notebook.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import jshm

from .globals_named import not_frozen

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(jshm.__file__).parent.parent
PROGRAM = Path(__file__).with_name("child.py")
TIMEOUT = 60.0


class FreshError(Exception):
    """An exception in an interpreter; `kinds` are the names of its class and of all bases."""

    def __init__(self, kinds: list[str], message: str, text: str) -> None:
        super().__init__(text)
        self.kinds = kinds
        self.message = message


class Pickled:
    """The pickle of an interpreter, and its out-of-band buffers."""

    def __init__(self, data: str, buffers: list[str]) -> None:
        self.sent = (data, buffers)
        self.data = base64.b64decode(data)
        self.buffers = [base64.b64decode(buffer) for buffer in buffers]


class Interpreter:
    """A Python process whose ``__main__`` is a notebook.

    Parameters
    ----------
    python : str
        The interpreter; it finds jshm by PYTHONPATH.
    *options : str
        Of its command line.
    pythonpath : tuple of str
        What else is in PYTHONPATH.
    cwd : path
        The directory that it runs in, from which it imports.
    """

    def __init__(
        self,
        python: str = sys.executable,
        *options: str,
        pythonpath: tuple[str, ...] = (),
        cwd: str | os.PathLike[str] = "/",
    ) -> None:
        program = f"__import__('runpy').run_path({str(PROGRAM)!r}, run_name='child')"
        self._process = subprocess.Popen(
            [python, *options, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *pythonpath])},
            cwd=cwd,
        )
        self._buffer = b""

    def _call(self, *words: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        fd = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([fd], [], [], TIMEOUT)
            assert ready, f"no answer within {TIMEOUT} s"
            chunk = os.read(fd, 1 << 16)
            assert chunk, f"the interpreter died ({self._process.wait()})"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if "kinds" in answer:
            raise FreshError(answer["kinds"], answer["message"], answer["traceback"])
        return answer["value"]

    def reset(self) -> None:
        """Forget all cells and loaded objects."""
        self._call("reset")

    def cell(self, source: str) -> None:
        """Run a cell; its lines are known, as IPython's are."""
        self._call("cell", source)

    def without_source(self, source: str) -> None:
        """Run text whose lines are not known."""
        self._call("without_source", source)

    def dump(self, expression: str, protocol: int | None = None) -> Pickled:
        """Pickle the value of an expression of the cells; `obj` is that value from now on."""
        pickled = Pickled(*self._call("dump", expression, protocol))
        assert (found := not_frozen(pickled.data)) == set(), found
        return pickled

    def load(self, pickled: Pickled) -> None:
        """Load the pickle of another interpreter; `obj` becomes the result."""
        self._call("load", *pickled.sent)

    def run(self, code: str) -> Any:
        """Run code that knows `obj`, outside of ``__main__``; return its last expression's value."""
        return self._call("run", code)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(TIMEOUT)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def failing(function: Callable[..., Any], *arguments: Any) -> FreshError:
    """Return the exception of a call that must raise one."""
    try:
        value = function(*arguments)
    except FreshError as error:
        return error
    raise AssertionError(f"{arguments!r} did not fail: {value!r}")


def travel(
    writer: Interpreter,
    reader: Interpreter,
    source: str,
    expression: str,
    check: str = "",
    *,
    protocol: int | None = None,
) -> Pickled:
    """Run a cell here, pickle an expression of it, load that there, and check it on both sides.

    The check on the writer's side tests the check itself.
    """
    writer.cell(source)
    pickled = writer.dump(expression, protocol)
    writer.run(check)
    reader.load(pickled)
    reader.run(check)
    return pickled
