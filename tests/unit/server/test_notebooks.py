"""The paths of renamed and closed notebooks, and notices about kernels with other stores."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

    from .conftest import Api


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Kernels speak over files: ports of several tests at once would collide."""
    with tempfile.TemporaryDirectory(prefix="jt-") as place:
        jp_server_config["KernelManager"] = {"transport": "ipc", "ip": f"{place}/k"}
        yield jp_server_config


@pytest.fixture
def open_notebook(
    served: LocalStore,
    jp_asyncio_loop: Any,
    jp_serverapp: Any,
    jp_fetch: Any,
    jp_create_notebook: Any,
) -> Iterator[Any]:
    """Open notebooks as Lab does; what is returned runs code in their kernels."""
    clients = []

    async def start(path: str, kernel: str = "python3") -> tuple[str, Any]:
        jp_create_notebook(path)
        body = {
            "path": path, "type": "notebook", "name": os.path.basename(path),
            "kernel": {"name": kernel},
        }  # fmt: skip
        answer = await jp_fetch("api", "sessions", method="POST", body=json.dumps(body))
        session = json.loads(answer.body)
        client = jp_serverapp.kernel_manager.get_kernel(session["kernel"]["id"]).client()
        client.start_channels()
        clients.append(client)
        await client.wait_for_ready(timeout=60)

        async def run(code: str) -> None:
            reply = await client.execute_interactive(code, timeout=60, output_hook=lambda _: None)
            assert reply["content"]["status"] == "ok", reply["content"]

        return session["id"], run

    yield start
    for client in clients:
        client.stop_channels()
    jp_asyncio_loop.run_until_complete(jp_serverapp.kernel_manager.shutdown_all(now=True))


@pytest.fixture
def a_second_passes(jp_serverapp: Any) -> Callable[[], None]:
    """Let the server ask again where notebooks are."""
    notebooks = jp_serverapp.web_app.settings["jshm_worker"]._notebooks
    return lambda: setattr(notebooks, "_read", -1e9)


async def test_a_notebook_goes_by_where_it_is_now(
    api: Api,
    open_notebook: Any,
    a_second_passes: Callable[[], None],
    jp_fetch: Any,
    jp_root_dir: Path,
) -> None:
    session, run = await open_notebook("train.ipynb")
    _, look = await open_notebook("sub/eda.ipynb")
    await run("import jshm, numpy as np; jshm.publish('X', np.zeros(3))")
    await look("import jshm; x = jshm.attach('X')")

    async def row() -> dict[str, Any]:
        (found,) = (await api.get("/segments", grouped=1))["rows"]
        assert isinstance(found, dict)
        return found

    found = await row()
    assert found["lifetime"] == "server"
    assert {k: found["publisher"][k] for k in ("label", "path", "alive")} == {
        "label": "train.ipynb", "path": "train.ipynb", "alive": True,
    }  # fmt: skip
    assert [(h["label"], h["path"]) for h in found["holders"]] == [("eda.ipynb", "sub/eda.ipynb")]
    # Renamed, as Lab does it: the file, then the session.
    body = json.dumps({"path": "sub/new.ipynb"})
    await jp_fetch("api", "contents", "train.ipynb", method="PATCH", body=body)
    await jp_fetch("api", "sessions", session, method="PATCH", body=body)
    a_second_passes()
    found = await row()
    assert (found["publisher"]["label"], found["publisher"]["path"]) == (
        "new.ipynb",
        "sub/new.ipynb",
    )
    page = await api.get("/segments", grouped=1)
    assert page["groups"][0]["publisher"] == found["publisher"]
    assert (await api.get("/segments/X"))["publisher"] == found["publisher"]
    # Closed: the file is there, so it can be opened; then it is not.
    await jp_fetch("api", "sessions", session, method="DELETE")
    a_second_passes()
    found = await row()
    assert (found["publisher"]["alive"], found["publisher"]["path"]) == (False, "")
    assert found["publisher"]["label"] == "train.ipynb"
    (jp_root_dir / "train.ipynb").write_text((jp_root_dir / "sub/new.ipynb").read_text())
    assert (await row())["publisher"]["path"] == "train.ipynb"
    assert (await api.get("/summary"))["notices"] == []


async def test_a_kernel_with_another_directory_is_told(
    api: Api,
    open_notebook: Any,
    a_second_passes: Callable[[], None],
    jp_data_dir: Path,
    jp_serverapp: Any,
) -> None:
    spec = jp_data_dir / "kernels" / "elsewhere"
    spec.mkdir(parents=True)
    content = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Elsewhere", "language": "python", "env": {"JSHM_DIR": "/dev/shm/elsewhere"},
    }  # fmt: skip
    (spec / "kernel.json").write_text(json.dumps(content))
    assert (await api.get("/summary"))["notices"] == []
    await open_notebook("here.ipynb")
    session, _ = await open_notebook("<b>far.ipynb", "elsewhere")
    a_second_passes()
    for got in (await api.get("/summary"), (await api.get("/segments"))["summary"]):
        (notice,) = got["notices"]
        assert notice["level"] == "warning"
        assert "<b>far.ipynb" in notice["text"]
        assert "another JSHM_DIR" in notice["text"]
    await jp_serverapp.session_manager.delete_session(session)
    a_second_passes()
    assert (await api.get("/summary"))["notices"] == []


async def test_paths_lead_nowhere_outside(
    api: Api, served: LocalStore, jp_serverapp: Any, jp_root_dir: Path, tmp_path: Path
) -> None:
    notebooks = jp_serverapp.web_app.settings["jshm_worker"]._notebooks
    (jp_root_dir / "a").mkdir()
    for place in (jp_root_dir / "a" / "in.ipynb", tmp_path / "out.ipynb"):
        place.write_text("{}")
    (jp_root_dir / "secret.txt").write_text("")
    assert notebooks.path("", str(jp_root_dir / "a" / "in.ipynb")) == "a/in.ipynb"
    for path in (
        str(tmp_path / "out.ipynb"), str(jp_root_dir / ".." / "out.ipynb"), str(jp_root_dir / "gone.ipynb"),
        str(jp_root_dir / "secret.txt"), str(jp_root_dir), "", "\x00.ipynb", "relative.ipynb",
    ):  # fmt: skip
        assert notebooks.path("unknown", path) == "", path
