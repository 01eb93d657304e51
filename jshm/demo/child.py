"""``python -m jshm.demo.child PID …``: JupyterLab, told to end when its parent, the demo, is gone.

The demo ends it in an orderly way; but nobody can do that who was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Run Lab with the words after the pid of the parent."""
    parent = int(sys.argv.pop(1))
    # Here and not between fork and exec, where a process with threads may do next to nothing.
    with contextlib.suppress(AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before
        return
    runpy.run_module("jupyterlab", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
