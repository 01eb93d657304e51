"""A real JupyterHub with its proxy, which starts servers of real users of this machine. Needs root."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client import BlockingKernelClient

from ...support.processes import until
from ...support.users import people

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...support.users import User

PROXY = "configurable-http-proxy"
_BIN = Path(sys.prefix) / "bin"
# Seconds; a hub's server starts slowly on a busy machine.
_PATIENCE = 180.0
_SCOPES = ["admin:users", "admin:servers", "tokens", "access:servers", "read:hub"]
_CULLER_SCOPES = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
_CONFIG = """
c.JupyterHub.bind_url = "http://127.0.0.1:{ports[0]}/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{ports[1]}/"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{ports[2]}/"
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.ConfigurableHTTPProxy.pid_file = "{place}/proxy.pid"
c.JupyterHub.db_url = "sqlite:///{place}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{place}/secret"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.allow_named_servers = True
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
c.Spawner.cmd = [{server!r}]
c.Spawner.http_timeout = c.Spawner.start_timeout = {patience}
c.Spawner.environment = {{
    "HOME": lambda spawner: f"{place}/{{spawner.user.name}}",
    "JUPYTER_RUNTIME_DIR": lambda spawner: f"{place}/{{spawner.user.name}}/runtime",
}}
c.JupyterHub.services = [
    {{"name": "tester", "api_token": "{tester}"}}, {{"name": "culler", "api_token": "{culler}"}},
]
c.JupyterHub.load_roles = [
    {{"name": "tester", "scopes": {scopes}, "services": ["tester"]}},
    {{"name": "culler", "scopes": {culler_scopes}, "services": ["culler"]}},
]
"""


def missing() -> str:
    """Return why no hub can run here; '' if it can."""
    if os.geteuid() != 0:
        return "only root can start servers of other users"
    modules = [name for name in ("jupyterhub", "jupyterhub_idle_culler") if not _is_there(name)]
    if modules or not (_BIN / PROXY).exists():
        return f"not installed: {', '.join([*modules, PROXY])} (`make torture` does it)"
    seen = subprocess.run(
        [sys.executable, "-c", "import jshm, jupyter_server"],
        user="nobody", env={"PATH": os.defpath}, cwd="/", capture_output=True, check=False,
    )  # fmt: skip
    return "" if seen.returncode == 0 else f"other users cannot run {sys.executable}"


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Hub:
    """A running hub.

    Attributes
    ----------
    ada, bob : User
        Two users of this machine, created for the hub.
    """

    def __init__(self, place: Path, ada: User, bob: User) -> None:
        self.ada, self.bob = ada, bob
        self._place = place
        self._tokens = {name: secrets.token_hex(16) for name in ("tester", "culler")}
        ports = _free_ports(3)
        self._url = f"http://127.0.0.1:{ports[0]}"
        config = place / "config.py"
        filled = _CONFIG.format(
            ports=ports, place=place, proxy=str(_BIN / PROXY), patience=int(_PATIENCE),
            server=str(_BIN / "jupyterhub-singleuser"), scopes=_SCOPES,
            culler_scopes=_CULLER_SCOPES, **self._tokens,
        )  # fmt: skip
        config.write_text(filled)
        config.chmod(0o600)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JSHM_", "JPY_"))}
        environment["PATH"] = f"{_BIN}:{environment.get('PATH', os.defpath)}"
        self.log = place / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "--config", str(config)],
                cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until(self._answers, _PATIENCE)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-4000:]
        with contextlib.suppress(OSError):
            self.ask("GET", "users")
            return True
        return False

    def ask(self, method: str, path: str, body: Any = None, token: str = "", base: str = "") -> Any:
        """Send a request to the hub's API, or to the API of one of its servers (`base`)."""
        request = urllib.request.Request(
            self._url + (base or "/hub/api/") + path, method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {token or self._tokens['tester']}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return json.loads(answer.read() or b"null")

    def _servers(self, user: User) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"users/{user.name}")["servers"]
        return found

    @functools.cache  # noqa: B019 - a hub lives as long as its test
    def _token(self, user: User) -> str:
        for home in ("", "runtime"):
            (self._place / user.name / home).mkdir(mode=0o700)
            os.chown(self._place / user.name / home, user.uid, user.gid)
        self.ask("POST", f"users/{user.name}")
        token: str = self.ask("POST", f"users/{user.name}/tokens", {"note": "trial"})["token"]
        return token

    def start(self, user: User, server: str = "") -> None:
        """Start a server of a user, the default one or a named one."""
        self._token(user)
        self.ask("POST", f"users/{user.name}/{_path(server)}", {})
        until(lambda: self._servers(user).get(server, {}).get("ready"), _PATIENCE)

    def stop(self, user: User, server: str = "") -> None:
        """Stop a server through the hub's API, and return when it is gone."""
        self.ask(
            "DELETE", f"users/{user.name}/{_path(server)}", {"remove": True} if server else None
        )
        self.wait_for_end(user, server)

    def wait_for_end(self, user: User, server: str = "") -> None:
        """Return when a server is gone."""
        until(lambda: server not in self._servers(user), _PATIENCE)

    def cull(self, user: User) -> None:
        """Let the idle culler stop a user's servers, and return when they are gone."""
        culler = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=1", "--cull-every=1",
                f"--url={self._url}/hub/api",
            ],
            env={**os.environ, "JUPYTERHUB_API_TOKEN": self._tokens["culler"]},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until(lambda: not self._servers(user), _PATIENCE)
        finally:
            culler.kill()
            culler.wait()

    def run(
        self, user: User, notebook: str, code: str, server: str = "", *, wait: bool = True
    ) -> str:
        """Run code in a notebook's kernel, opened if necessary; return what it printed."""
        session = {
            "path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"},
        }  # fmt: skip
        base = f"/user/{user.name}/{server + '/' if server else ''}"
        opened = self.ask("POST", "api/sessions", session, self._token(user), base)
        client = BlockingKernelClient()
        runtime = self._place / user.name / "runtime"
        client.load_connection_file(str(runtime / f"kernel-{opened['kernel']['id']}.json"))
        client.start_channels(hb=False)
        printed: list[str] = []
        try:
            client.wait_for_ready(timeout=_PATIENCE)
            if not wait:
                client.execute(code)
                return ""
            reply = client.execute_interactive(
                code, timeout=_PATIENCE,
                output_hook=lambda message: printed.append(message["content"].get("text", "")),
            )  # fmt: skip
            assert reply["content"]["status"] == "ok", reply["content"]
        finally:
            client.stop_channels()
            client.context.term()
        return "".join(printed)

    def end(self) -> None:
        """Stop the hub with all servers and the proxy."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(_PATIENCE)


def _path(server: str) -> str:
    return f"servers/{server}" if server else "server"


def store_of(user: User) -> str:
    """Return the directory of a user's store."""
    return f"/dev/shm/jshm-{user.uid}"


def left(user: User) -> dict[str, int]:
    """Return the segment files in a user's store, with their bytes."""
    segments = f"{store_of(user)}/segments"
    return {name: os.stat(f"{segments}/{name}").st_blocks * 512 for name in os.listdir(segments)}


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """Start a hub and stop it; its users and their stores are removed with it."""
    with people() as made, tempfile.TemporaryDirectory(prefix="jh-") as place:
        os.chmod(place, 0o755)
        for user in (made.ada, made.bob):  # uids are used again
            shutil.rmtree(store_of(user), ignore_errors=True)
        running = None
        try:
            running = Hub(Path(place), made.ada, made.bob)
            yield running
        finally:
            if running is not None:
                running.end()
            for user in (made.ada, made.bob):
                shutil.rmtree(store_of(user), ignore_errors=True)
