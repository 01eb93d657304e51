"""Notebooks with real kernels, started and named as a Jupyter server does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import uuid
from dataclasses import dataclass, field
from queue import Empty
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 120


@dataclass
class Outcome:
    """What one cell did."""

    status: str
    stdout: str = ""
    stderr: str = ""
    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    results: list[dict[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.status == "ok"


class Notebook:
    """One notebook with its kernel, in a store directory.

    The kernel's connection file is called ``kernel-<uuid>.json``, and its environment names the
    notebook, so that it looks like one of a server's.
    """

    def __init__(
        self,
        path: str,
        directory: str,
        store: str,
        *,
        server: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.kernel_id = str(uuid.uuid4())
        stem = f"kernel-{self.kernel_id}" if server else f"tmp{self.kernel_id[:8]}"
        self.manager = KernelManager(
            kernel_name="python3",
            transport="ipc",
            connection_file=os.path.join(directory, f"{stem}.json"),
            ip=os.path.join(directory, self.kernel_id[:8]),
        )
        self.manager.kernel_spec.argv[0] = sys.executable
        self.env = {**os.environ, "JSHM_DIR": store, "PYTHONWARNINGS": "default", **(env or {})}
        if server:
            self.env["JPY_SESSION_NAME"] = path
        self.start()

    def start(self) -> None:
        self.manager.start_kernel(env=self.env)
        self.client = self.manager.client()
        self.client.start_channels()
        self._wait_until_ready()
        self.pid = int(self("import os; os.getpid()").results[-1]["text/plain"])

    def _wait_until_ready(self) -> None:
        """Return when the kernel answers, and when its messages to all arrive here.

        `KernelClient.wait_for_ready` also waits until there are none for 0.2 s.
        """
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            self.client.kernel_info()
            self.client.get_shell_msg(timeout=TIMEOUT)
            with contextlib.suppress(Empty):
                while self.client.get_iopub_msg(timeout=0.2)["content"] != {
                    "execution_state": "idle"
                }:
                    pass
                return
        raise TimeoutError(f"the kernel of {self.path} does not answer")

    def __call__(self, code: str, timeout: float = TIMEOUT) -> Outcome:
        """Run a cell."""
        outcome = Outcome("")

        def keep(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                setattr(
                    outcome, content["name"], getattr(outcome, content["name"]) + content["text"]
                )
            elif message["msg_type"] in ("execute_result", "display_data"):
                outcome.results.append(content["data"])

        content = self.client.execute_interactive(code, timeout=timeout, output_hook=keep)[
            "content"
        ]
        outcome.status = content["status"]
        outcome.ename, outcome.evalue = content.get("ename", ""), content.get("evalue", "")
        outcome.traceback = "\n".join(content.get("traceback", []))
        return outcome

    def do(self, code: str) -> str:
        """Run a cell that must succeed; return what it printed."""
        outcome = self(code)
        assert outcome.ok, f"{code}\n{outcome.ename}: {outcome.evalue}\n{outcome.traceback}"
        return outcome.stdout

    def value(self, expression: str) -> Any:
        """Return the value of an expression that JSON can say."""
        said = self.do(f"import json as _json; print(_json.dumps({expression}))")
        return json.loads(said.splitlines()[-1])

    def fail(self, code: str) -> Outcome:
        """Run a cell that must fail."""
        outcome = self(code)
        assert outcome.status == "error", outcome
        return outcome

    def complete(self, code: str) -> list[tuple[str, str]]:
        """Return what Tab offers at the end of `code`: texts and types."""
        message = self.client.complete(code, len(code), reply=True, timeout=TIMEOUT)
        content = message["content"]
        types = content["metadata"].get("_jupyter_types_experimental", [])
        kinds = [kind.get("type", "") for kind in types]
        return list(zip(content["matches"], kinds, strict=True))

    def kill(self) -> None:
        """End the kernel's process with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        self.manager.provisioner.process.wait()
        self.client.stop_channels()

    def restart(self) -> None:
        """Restart the kernel as Jupyter does: another process, the same connection file."""
        self.client.stop_channels()
        with contextlib.suppress(Exception):
            self.manager.shutdown_kernel(now=True, restart=True)
        self.start()

    def close(self) -> None:
        self.client.stop_channels()
        process = self.manager.provisioner.process if self.manager.provisioner else None
        if process is not None:  # the manager looks only each 0.1 s whether it has ended
            process.kill()
            process.wait()
        self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)
