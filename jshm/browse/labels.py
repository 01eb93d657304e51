"""How the faces call a process, and where its notebook can be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Notebooks:
    """The notebooks that a face can open.

    This base class knows none, like a kernel. A Jupyter server knows where its notebooks are.
    """

    def path(self, kernel_id: str, notebook: str) -> str:  # noqa: ARG002
        """Return the path under which Jupyter opens a notebook now; '' if it cannot."""
        return ""

    @property
    def names(self) -> Mapping[str, str]:
        """Kernel id → the current name of its notebook, for all running kernels."""
        return {}


def process(
    label: str,
    kernel_id: str,
    notebook: str,
    notebooks: Notebooks,
    *,
    alive: bool,
    here: bool = False,
) -> dict[str, Any]:
    """Return a process (`Process` in ``openapi.yaml``); a renamed notebook has its new name."""
    return {
        "label": current_label(label, notebooks.names.get(kernel_id, "")),
        "path": notebooks.path(kernel_id, notebook),
        "alive": alive,
        "here": here,
    }


def current_label(label: str, name: str) -> str:
    """Return the label of a process whose notebook has a name now; its folders stay if that is the same."""
    return label if not name or name == label.rpartition("/")[2] else name


def distinct(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return notebook → label; equal labels get as many folders as make them different.

    Parameters
    ----------
    labels : iterable of (str, str)
        The path and the label of each notebook.
    """
    found = dict(labels)
    by_label: dict[str, list[str]] = {}
    for path, label in found.items():
        by_label.setdefault(label, []).append(path)
    for alike in by_label.values():
        if len(alike) > 1:
            found.update(_with_folders(alike))
    return found


def _with_folders(paths: list[str]) -> dict[str, str]:
    parts = {path: path.strip("/").split("/") for path in paths}
    for depth in range(2, max(map(len, parts.values())) + 1):
        named = {path: "/".join(part[-depth:]) for path, part in parts.items()}
        if len(set(named.values())) == len(paths):
            return named
    return {path: path for path in paths}
