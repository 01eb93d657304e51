"""The demo's directory: two notebooks, and the JupyterLab workspace that shows them."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from typing import Any

NAME = "jshm-demo"
LEFT, RIGHT = "train.ipynb", "eda.ipynb"
# At its first start, Lab asks whether it may fetch news; the question would cover the demo.
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}
}


def make(directory: str, size: int) -> None:
    """Create everything that the demo's Lab needs in a directory.

    Parameters
    ----------
    directory : str
        An empty one. It gets ``notebooks``, the server's root; ``workspaces`` and ``settings``, for Lab;
        and ``data``, for ``JUPYTER_PATH``.
    size : int
        Approximate size of the picture in bytes.
    """
    from ipykernel.kernelspec import write_kernel_spec
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    for name in (LEFT, RIGHT):
        _write(os.path.join(directory, "notebooks", name), notebook(name, size))
    for name, settings in _SETTINGS.items():
        path = os.path.join(directory, "settings", f"{name}.jupyterlab-settings")
        _write(path, json.dumps(settings))
    WorkspacesManager(os.path.join(directory, "workspaces")).save(NAME, json.dumps(workspace()))
    # Kernels of this environment, whatever the user's "python3" is.
    kernels = os.path.join(directory, "data", "kernels")
    os.makedirs(kernels)
    write_kernel_spec(os.path.join(kernels, "python3"))


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def notebook(name: str, size: int) -> str:
    """Return one of the demo's notebooks, with the size of the picture filled in."""
    text = resources.files(__package__).joinpath("notebooks", name).read_text(encoding="utf-8")
    return re.sub(r"SIZE = [\d_]+", f"SIZE = {size:_}", text)


def workspace() -> dict[str, Any]:
    """Return a workspace in Lab's format: the panel, and two notebooks side by side."""
    columns = [
        {"type": "tab-area", "currentIndex": 0, "widgets": [f"notebook:{name}"]}
        for name in (LEFT, RIGHT)
    ]
    dock = {
        "type": "split-area", "orientation": "horizontal", "sizes": [0.5, 0.5], "children": columns
    }  # fmt: skip
    layout = {
        "main": {"dock": dock, "current": f"notebook:{LEFT}"},
        "left": {"collapsed": False, "visible": True, "current": "jshm-panel"},
        "right": {"collapsed": True, "visible": True},
        "relativeSizes": [0.2, 0.8, 0],
    }
    opened = {
        f"notebook:{name}": {"data": {"path": name, "factory": "Notebook"}}
        for name in (LEFT, RIGHT)
    }
    return {"data": {"layout-restorer:data": layout, **opened}, "metadata": {"id": NAME}}
