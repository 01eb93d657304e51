"""``python -m jshm.demo.child PID …``: JupyterLab that ends when its parent, the demo, ends.

Normally the demo terminates it; a demo that is killed cannot.
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
    """Run Lab with the arguments after the parent's pid."""
    parent = int(sys.argv.pop(1))
    # Not between fork and exec: there, a process with threads may call almost nothing.
    with contextlib.suppress(AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it had already ended
        return
    runpy.run_module("jupyterlab", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
