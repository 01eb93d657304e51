"""Rivals that need a server, each in its own process: ``python -m tests.benchmarks.hosted NAME``.

What it starts is in its session, or has inherited its mark, and ends with it: nothing is found or ended
by name. It takes one order a line from its standard input, and ends when that does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .measure import Unavailable
from .servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_END = 20.0
_MARK = "JSHM_BENCHMARK"


class Hosted:
    """A rival in another process.

    Parameters
    ----------
    label : str
        One of `SERVERS`.
    place : str
        A directory for all its files.
    nbytes : int
        The largest array there will be.

    Raises
    ------
    Unavailable
    """

    def __init__(self, label: str, place: str, nbytes: int) -> None:
        self.label = label
        place = os.path.join(place, label)
        os.mkdir(place)
        self._place = place
        command = [sys.executable, "-m", __name__, label, place, str(nbytes)]
        self._log = os.path.join(place, "log")
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env=marked(place),
                text=True,
            )
        try:
            self._answer()
        except BaseException:
            self.end()
            raise

    def burst(self, nbytes: int, seconds: float) -> Callable[[], tuple[float, float]]:
        """Return a contender: `exchange.burst`, over there."""

        def run() -> tuple[float, float]:
            orders = self._process.stdin
            with contextlib.suppress(BrokenPipeError):  # it has ended; why, the answer says
                print(json.dumps([nbytes, seconds]), file=orders, flush=True)
            writing, reading = self._answer()
            return writing, reading

        return run

    def _answer(self) -> Any:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            with open(self._log, errors="replace") as log:
                last = log.read().strip().rpartition("\n")[2]
            raise Unavailable(f"{self.label} failed: {last}")
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise Unavailable(answer["error"])
        return answer

    def end(self) -> None:
        """End the process, and whatever it did not end itself."""
        process = self._process
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END)
        end_all(process, self._place)
        process.stdout.close()  # type: ignore[union-attr]


def marked(place: str) -> dict[str, str]:
    """Return an environment that tells the processes of a place from all others."""
    return {**os.environ, _MARK: place}


def end_all(leader: subprocess.Popen[Any], place: str) -> None:
    """End a process that leads a session, and all that is left of that, or of its place."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(leader.pid, place):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        end = time.monotonic() + _END
        while processes_of(leader.pid, place) and time.monotonic() < end:
            leader.poll()
            time.sleep(0.05)
    leader.wait()


def processes_of(leader: int, place: str) -> list[int]:
    """Return the processes in a session or with the mark of a place, but for the dead.

    Both: Ray's write over their environment, ipyparallel's have sessions of their own.
    """
    mark = f"{_MARK}={place}".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with (
            contextlib.suppress(OSError),  # it has ended
            open(f"/proc/{pid}/stat") as status,
            open(f"/proc/{pid}/environ", "rb") as environment,
        ):
            state, _, _, session = status.read().rpartition(")")[2].split()[:4]
            ours = int(session) == leader or mark in environment.read().split(b"\0")
            if ours and state != "Z":
                found.append(int(pid))
    return found


@contextlib.contextmanager
def hosted_rivals(place: str, nbytes: int) -> Iterator[list[Hosted]]:
    """Start all of `SERVERS` that can be started; say which cannot. End them afterwards."""
    with contextlib.ExitStack() as stack:
        started = []
        for label in SERVERS:
            try:
                one = Hosted(label, place, nbytes)
            except Unavailable as error:
                print(f"{label}: skipped ({error})")
            else:
                stack.callback(one.end)
                started.append(one)
        yield started


def main(label: str, place: str, nbytes: int) -> None:
    """Start a server, carry orders out until there are no more, end it.

    An order that fails is the last one.
    """
    from .exchange import burst

    answers = _answers()
    try:
        rival = SERVERS[label](place, nbytes)
    except (Unavailable, ImportError) as error:
        print(json.dumps({"error": str(error)}), file=answers)
        return
    try:
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            size, seconds = json.loads(line)
            array = np.arange(size // 8, dtype=float)
            print(json.dumps(burst(rival, array, seconds)()), file=answers)
            del array
    finally:
        rival.end()


def _answers() -> IO[str]:
    """Return what was the standard output; what libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
