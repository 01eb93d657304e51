"""What processes are called, and where their notebooks are now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Places(Protocol):
    """Where notebooks are, as whoever shows them knows it."""

    def path(self, kernel_id: str, notebook: str) -> str:
        """Return the path under which a notebook can be opened now; '' if it cannot."""

    @property
    def names(self) -> dict[str, str]:
        """Kernel id → what its notebook is called now, of all that run."""


class Nowhere:
    """Nothing can be opened: what a kernel knows of other notebooks."""

    def path(self, _kernel_id: str, _notebook: str) -> str:
        return ""

    @property
    def names(self) -> dict[str, str]:
        return {}


def who(
    label: str, kernel_id: str, notebook: str, places: Places, *, alive: bool, here: bool = False
) -> dict[str, Any]:
    """Return a process as `IWho` of the front end's `types.ts`; a renamed notebook by its new name."""
    return {
        "label": current_label(label, places.names.get(kernel_id, "")),
        "path": places.path(kernel_id, notebook),
        "alive": alive,
        "here": here,
    }


def current_label(label: str, name: str) -> str:
    """Return what to call a process: by its notebook's `name` now, with the folders of its label."""
    return label if not name or name == label.rpartition("/")[2] else name


def distinct(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return notebook → label, with so many folders before it that no two are called alike.

    Parameters
    ----------
    labels : iterable of (str, str)
        Path of each notebook, and what it is called.
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
