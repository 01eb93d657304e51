"""What is in a store, read past jshm: with sqlite3, NumPy and the file system alone."""

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

_CURRENT = """SELECT n.name, s.id, v.version FROM names n
  JOIN versions v ON v.name = n.name AND v.version = n.current JOIN segments s ON s.id = v.segment"""


@dataclass(frozen=True)
class Outside:
    """Somebody who has nothing to do with all the others."""

    store: str

    def segments(self) -> list[str]:
        """Return the files that take memory."""
        return sorted(os.listdir(f"{self.store}/segments"))

    def current(self) -> set[str]:
        """Return the names that can be attached, of data of any kind."""
        return {name for name, _, _ in self._current()}

    def _current(self) -> list[tuple[str, str, int]]:
        with closing(sqlite3.connect(f"file:{self.store}/registry.db?mode=ro", uri=True)) as rows:
            return rows.execute(_CURRENT).fetchall()

    def names(self) -> dict[str, list[float]]:
        """Return each name that can be attached, with the data that are in its file."""
        return {name: data for name, (_, data) in self.versions().items()}

    def versions(self) -> dict[str, tuple[int, list[float]]]:
        """Return each name that can be attached, with its newest version and that one's data."""
        return {
            name: (version, np.load(f"{self.store}/segments/{segment}.npy").tolist())
            for name, segment, version in self._current()
        }

    def rewrite(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change what the registry says of every process."""
        with closing(sqlite3.connect(f"{self.store}/registry.db")) as rows, rows:
            for lease, identity in rows.execute("SELECT id, identity FROM leases").fetchall():
                rows.execute(
                    "UPDATE leases SET identity = ? WHERE id = ?",
                    (json.dumps(change(json.loads(identity))), lease),
                )

    def use(self) -> None:
        """Use jshm once, in a process of its own."""
        subprocess.run(
            [sys.executable, "-m", "jshm", "list"], check=True, timeout=60, capture_output=True
        )
