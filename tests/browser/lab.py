"""A real JupyterLab (or Notebook 7) with real kernels, in a home of its own, driven through Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

TIMEOUT = 60.0
_APP = "window.jupyterapp"
# The kernel of the current notebook answers, and not only its indicator says so.
_READY = f"""async path => {{
  const app = {_APP};
  await app.restored;
  const all = [...app.shell.widgets('main')];
  const panel = all.find(w => w.context && w.context.path === path);
  if (!panel) return false;
  await panel.context.ready;
  await panel.sessionContext.ready;
  const kernel = panel.sessionContext.session && panel.sessionContext.session.kernel;
  if (!kernel) return false;
  await kernel.info;
  return true;
}}"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """A Jupyter server with Lab, as a process of its own.

    Parameters
    ----------
    home : path
        Everything that it writes is below.
    store : str
        ``JSHM_DIR`` of it and of its kernels.
    options : str
        Of the command line.
    app : {'lab', 'notebook'}
    base : str
        ``base_url`` of the server.
    """

    def __init__(
        self, home: Path, store: str, *options: str, app: str = "lab", base: str = "/"
    ) -> None:
        self.token = secrets.token_hex(8)
        self.root = home / "notebooks"
        self.root.mkdir(parents=True, exist_ok=True)
        self.store = store
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{base}".rstrip("/")
        shown = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}[app]
        settings = home / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "notification.jupyterlab-settings").write_text(
            json.dumps({"fetchNews": "false", "checkForUpdates": False})
        )
        self.env = {
            **os.environ,
            "JSHM_DIR": store,
            "HOME": str(home),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        }
        self._log = home / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "jupyter", app, "--no-browser", "--allow-root",
                    f"--port={port}", "--ServerApp.port_retries=0",
                    f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.root}",
                    "--ServerApp.allow_unauthenticated_access=False",
                    f"--ServerApp.base_url={base}", f"--{shown}.expose_app_in_browser=True",
                    *options,
                ],
                env=self.env, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            self._await()
        except BaseException:
            self.stop()
            raise

    def _await(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while True:
            with contextlib.suppress(OSError):
                if self.ask("api/status")[0] == 200:
                    return
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Ask the REST interface; return status and JSON."""
        request = urllib.request.Request(
            f"{self.url}/{path}", method=method, headers={"Authorization": f"token {self.token}"},
            data=None if body is None else json.dumps(body).encode(),
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def write(self, name: str, *cells: str) -> None:
        """Write a notebook with code cells."""
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(nbformat.writes(book))

    def kernels(self) -> dict[str, str]:
        """Return path → kernel id of every open notebook."""
        return {s["path"]: s["kernel"]["id"] for s in self.ask("api/sessions")[1]}

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Lab:
    """One browser window with Lab in it."""

    def __init__(self, server: Server, page: Page) -> None:
        self.server = server
        self.page = page
        page.set_default_timeout(TIMEOUT * 1000)

    def open(self, *notebooks: str) -> None:
        """Open Lab with an empty workspace, then these notebooks, each with its kernel."""
        self.page.goto(f"{self.server.url}/lab?reset&token={self.server.token}")
        self.page.wait_for_function(f"() => {_APP} !== undefined")
        self.page.evaluate(f"() => {_APP}.restored")
        for path in notebooks:
            self.open_notebook(path)

    def command(self, name: str, **arguments: Any) -> Any:
        """Execute one of Lab's commands."""
        code = f"""async ([name, arguments_]) => {{
            const result = await {_APP}.commands.execute(name, arguments_);
            return typeof result === 'object' ? null : result;
        }}"""
        return self.page.evaluate(code, [name, arguments])

    def open_notebook(self, path: str) -> None:
        """Open (or show) a notebook, and wait for its kernel."""
        self.command("docmanager:open", path=path)
        self.await_kernel(path)

    def await_kernel(self, path: str) -> None:
        """Return when the kernel of an open notebook answers."""
        deadline = time.monotonic() + TIMEOUT
        while not self.page.evaluate(_READY, path):
            assert time.monotonic() < deadline, f"{path} got no kernel"
            self.page.wait_for_timeout(100)

    def run(self, path: str, code: str, *, wait: bool = True) -> str:
        """Run code in an empty last cell, or a new one; return what it printed, as plain text."""
        self.open_notebook(path)
        result = self.page.evaluate(
            f"""async ([path, code, wait]) => {{
              const app = {_APP};
              const panel = [...app.shell.widgets('main')].find(
                w => w.context && w.context.path === path);
              const notebook = panel.content;
              notebook.activeCellIndex = notebook.widgets.length - 1;
              if (notebook.activeCell.model.sharedModel.getSource()) {{
                await app.commands.execute('notebook:insert-cell-below');
              }}
              const cell = notebook.activeCell;
              cell.model.sharedModel.setSource(code);
              notebook.deselectAll();
              const done = app.commands.execute('notebook:run-cell');
              if (!wait) return '';
              await done;
              return cell.model.outputs.toJSON().map(o => o.output_type === 'error'
                ? o.ename + ': ' + o.evalue
                : o.text ? [].concat(o.text).join('')
                : [].concat((o.data || {{}})['text/plain'] || '').join('')).join('');
            }}""",
            [path, code, wait],
        )
        return str(result)

    def sources(self, path: str) -> list[str]:
        """Return the source of each cell of an open notebook."""
        found: list[str] = self.page.evaluate(
            f"""path => [...{_APP}.shell.widgets('main')]
              .find(w => w.context && w.context.path === path)
              .content.widgets.map(cell => cell.model.sharedModel.getSource())""",
            path,
        )
        return found

    # -- the panel -------------------------------------------------------------------------------

    def show_panel(self) -> Locator:
        """Open jshm's panel; return it."""
        self.page.evaluate(f"() => {_APP}.shell.activateById('jshm-panel')")
        panel = self.panel
        panel.wait_for(state="visible")
        return panel

    @property
    def panel(self) -> Locator:
        return self.page.locator("#jshm-panel")

    def row(self, name: str, *, within: Locator | None = None) -> Locator:
        """Return the row of a name."""
        named = self.page.locator(f'.jshm-name[title="{name}"]')
        return (within or self.panel).locator(".jshm-row", has=named)
