"""The content of a store, read without jshm: with sqlite3, NumPy and the file system."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...support.processes import Done

USE = "import sys, jshm.cli; sys.exit(jshm.cli.main(['list']))"
_CURRENT = """SELECT n.name, s.id, v.version FROM names n
  JOIN versions v ON v.name = n.name AND v.version = n.current JOIN segments s ON s.id = v.segment"""


@dataclass(frozen=True)
class Outside:
    """A look at a store without jshm.

    Attributes
    ----------
    store : str
    process : callable, optional
        Runs `USE` in a new process.
    """

    store: str
    process: Callable[[], Done] | None = None

    def segments(self) -> list[str]:
        """Return the files that take memory."""
        return sorted(os.listdir(f"{self.store}/segments"))

    def current(self) -> set[str]:
        """Return the names that can be attached, of all kinds."""
        return {name for name, _, _ in self._current()}

    def _current(self) -> list[tuple[str, str, int]]:
        with closing(sqlite3.connect(f"file:{self.store}/registry.db?mode=ro", uri=True)) as rows:
            return rows.execute(_CURRENT).fetchall()

    def names(self) -> dict[str, list[float]]:
        """Return each name that can be attached, with the data in its file."""
        return {name: data for name, (_, data) in self.versions().items()}

    def versions(self) -> dict[str, tuple[int, list[float]]]:
        """Return each name that can be attached, with the number and the data of its newest version."""
        return {
            name: (version, np.load(f"{self.store}/segments/{segment}.npy").tolist())
            for name, segment, version in self._current()
        }

    def rewrite(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change the identity of every process in the registry."""
        with closing(sqlite3.connect(f"{self.store}/registry.db")) as rows, rows:
            for lease, identity in rows.execute("SELECT id, identity FROM leases").fetchall():
                rows.execute(
                    "UPDATE leases SET identity = ? WHERE id = ?",
                    (json.dumps(change(json.loads(identity))), lease),
                )

    def use(self) -> None:
        """Use jshm once, in a new process."""
        if self.process is not None:
            done = self.process()
            assert done.returncode == 0, done.stderr
        else:
            subprocess.run([sys.executable, "-c", USE], check=True, timeout=60, capture_output=True)
