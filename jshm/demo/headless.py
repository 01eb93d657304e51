"""``jshm demo --headless``: two real kernels, one gigabyte, one copy.

It prints what it measures while it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import textwrap
from typing import TYPE_CHECKING, Any

from ..errors import JshmError
from ..text import duration_text, say, size_text

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.manager import KernelManager

_NAME = "jshm-demo/X"
_TIMEOUT = 300

# The code that the kernels run. Each snippet leaves a value in `result`, which must be JSON.
_PRELUDE = """
import os, time
import numpy as np
import jshm

def private_bytes():
    # RSS without shared memory: a copy would add to it.
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["RssAnon"].split()[0]) * 1024
"""
_LOAD = """
from sklearn.datasets import load_digits
digits = load_digits().data
X = np.tile(digits, (max(1, SIZE // digits.nbytes), 1))
result = dict(pid=os.getpid(), shape=X.shape, dtype=str(X.dtype), nbytes=X.nbytes)
"""
_PUBLISH = """
began = time.perf_counter()
jshm.publish(NAME, X, writable=True, note="jshm demo")
result = time.perf_counter() - began
"""
_ATTACH = """
before = private_bytes()
jshm.segments()  # opens the store, as in a notebook that has used it before
began = time.perf_counter()
X = jshm.attach(NAME)
attach = time.perf_counter() - began
began = time.perf_counter()
total = float(X.sum())
result = dict(attach=attach, total=total, memory=private_bytes() - before, read=time.perf_counter() - began)
"""
_WRITE = """
W = jshm.attach(NAME, mode="r+")
old = float(W[0, 3])
W[0, 3] = 424242.0
result = old
"""
_READ = "result = float(X[0, 3])"
_RESTORE = "W[0, 3] = OLD; result = float(W.sum())"
_COPY = """
before = private_bytes()
began = time.perf_counter()
Y = X.copy()
result = dict(seconds=time.perf_counter() - began, memory=private_bytes() - before)
del Y
"""
_PICKLE = """
import pickle
began = time.perf_counter()
Y = pickle.loads(pickle.dumps(X, protocol=5))
result = time.perf_counter() - began
del Y
"""
_AGAIN = """
import os, time
import jshm
began = time.perf_counter()
X = jshm.attach(NAME)
seconds = time.perf_counter() - began
mine = jshm.info(NAME).mine
result = dict(seconds=seconds, total=float(X.sum()), mine=mine)
"""


class Kernel:
    """A real kernel, started as Jupyter starts one for a notebook."""

    def __init__(self, notebook: str, directory: str) -> None:
        from jupyter_client.manager import KernelManager

        self.notebook = notebook
        self.manager: KernelManager = KernelManager(
            kernel_name="python3",
            transport="ipc",  # sockets in the directory: nothing listens on the network
            connection_file=os.path.join(directory, f"kernel-{notebook}.json"),
        )
        self._env = {**os.environ, "JPY_SESSION_NAME": os.path.join(directory, notebook)}
        self._start()

    def _start(self) -> None:
        spec = self.manager.kernel_spec
        if spec is not None:
            spec.argv[0] = sys.executable
        self.manager.start_kernel(env=self._env)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=_TIMEOUT)

    def run(self, code: str, **values: Any) -> Any:
        """Run code in the kernel; return the value of its `result`."""
        for name, value in values.items():
            code = f"{name} = {value!r}\n{code}"
        code += '\nimport json as _json; print("\\x00" + _json.dumps(result))'
        printed: list[str] = []

        def keep(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                printed.append(message["content"]["text"])

        reply = self.client.execute_interactive(code, timeout=_TIMEOUT, output_hook=keep)
        if reply["content"]["status"] != "ok":
            raise JshmError(
                f"{self.notebook} failed: {reply['content']['ename']}: {reply['content']['evalue']}"
            )
        return json.loads("".join(printed).partition("\x00")[2])

    def kill(self, pid: int) -> None:
        """End the process with SIGKILL, as the operating system does when memory runs out."""
        os.kill(pid, signal.SIGKILL)
        self.client.stop_channels()
        self.manager.cleanup_resources(restart=True)

    def restart(self) -> None:
        """Start the kernel again for the same notebook: the connection file stays."""
        self._start()

    def close(self) -> None:
        """Shut the kernel down."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def run(size: int) -> int:
    """Run the demo once, end its kernels whatever happens, and return the exit code."""
    from ..api import release
    from ..errors import SegmentNotFoundError

    try:
        import sklearn  # noqa: F401
    except ImportError:
        say("the demo needs scikit-learn's digits: pip install 'jshm[demo]'", stream=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="jshm-demo-") as directory:
        kernels: list[Kernel] = []
        try:
            say("starting two kernels: train.ipynb and eda.ipynb")
            kernels += [Kernel("train.ipynb", directory)]
            kernels += [Kernel("eda.ipynb", directory)]
            return _tell(kernels[0], kernels[1], size)
        finally:
            for kernel in kernels:
                kernel.close()
            with contextlib.suppress(SegmentNotFoundError):
                release(_NAME, force=True)


def _tell(train: Kernel, eda: Kernel, size: int) -> int:
    loaded = train.run(_PRELUDE + _LOAD, SIZE=size)
    nbytes = loaded["nbytes"]
    say(f"train.ipynb: load_digits(), tiled: {loaded['dtype']} {tuple(loaded['shape'])}, "
          f"{size_text(nbytes)}")  # fmt: skip
    publish = train.run(_PUBLISH, NAME=_NAME)
    say(f'train.ipynb: jshm.publish("X", X)          {duration_text(publish)}')
    attached = eda.run(_PRELUDE + _ATTACH, NAME=_NAME)
    say(f'eda.ipynb:   X = jshm.attach("X")          {duration_text(attached["attach"])}')

    old = train.run(_WRITE, NAME=_NAME)
    seen = eda.run(_READ)
    _require(seen == 424242.0, "a write in train.ipynb was not seen in eda.ipynb")  # noqa: PLR2004
    say("the same pages: train.ipynb wrote 424242.0 through its mapping, eda.ipynb reads it")
    total = train.run(_RESTORE, OLD=old)
    copy, pickled = eda.run(_COPY), eda.run(_PICKLE)

    train.kill(loaded["pid"])
    still = eda.run("result = float(X.sum())")
    _require(still == total, "the data changed when its publisher was killed")
    say("train.ipynb: killed with SIGKILL; eda.ipynb still reads every byte")
    train.restart()
    again = train.run(_AGAIN, NAME=_NAME)
    _require(again["total"] == total and again["mine"], "the restarted kernel lost its data")
    say(f'train.ipynb: restarted; X = jshm.attach("X") {duration_text(again["seconds"])}, imports '
          "included: it still owns X, and nothing was lost")  # fmt: skip
    freed = train.run("result = [r.nbytes for r in jshm.release(NAME)]", NAME=_NAME)
    say(f"train.ipynb: released; {size_text(sum(freed))} are freed with the last view", "")
    say(*_table(nbytes, publish, attached, copy, pickled).split("\n"), "")
    say(
        "Next: `make lab` in a clone, or `pip install jupyterlab` and `jshm demo`: the same in JupyterLab,"
    )
    say("with a picture. In your notebooks: %load_ext jshm, %shm_publish X, %shm_attach X")
    return 0


def _table(
    nbytes: int, publish: float, attached: dict[str, float], copy: dict[str, float], pickled: float
) -> str:
    def row(what: str, seconds: float, memory: float) -> str:
        return f"{what:<44}{duration_text(seconds):>10}{size_text(max(0, int(memory))):>12}"

    return textwrap.dedent(
        f"""\
        to get {size_text(nbytes)} into a second notebook       seconds  new memory
        {row("jshm.attach (the one copy, shared)", attached["attach"], attached["memory"])}
        {row("a copy in memory", copy["seconds"], copy["memory"])}
        {row("pickle, as most tools do it", pickled, 2 * nbytes)}

        once, in the first notebook:
        {row("jshm.publish", publish, nbytes)}"""
    )


def _require(condition: bool, failure: str) -> None:
    if not condition:
        raise JshmError(failure)
