"""The local store keeps the contract, and so does a store with its data and no optional ability."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ..support.bare_store import BareStore
from .contract import StoreContract

if TYPE_CHECKING:
    from jshm.store.local.store import LocalStore

ROOT = str(Path(__file__).parents[2])
_FIND = """
import sqlite3, sys
con = sqlite3.connect(sys.argv[1])
print(con.execute(
    "SELECT v.segment FROM versions v JOIN names n ON n.name = v.name "
    "WHERE v.name = ? AND v.version = ifnull(?, n.current)", (sys.argv[2], sys.argv[3] or None)
).fetchone()[0])
"""


def read_raw(root: str, registry: str, name: str, version: int | None) -> np.ndarray:
    """Return a copy of a version's data, found by the registry's tables."""
    # In another process: closing a descriptor of the registry here would drop SQLite's locks.
    found = subprocess.run(
        [sys.executable, "-c", _FIND, f"{root}/{registry}", name, str(version or "")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return np.load(f"{root}/segments/{found.stdout.strip()}.npy")


class TestLocalStore(StoreContract):
    PRELUDE = "import numpy as np; from jshm.store import default_store; store = default_store()"

    def read_raw(self, store: LocalStore, name: str, version: int | None = None) -> np.ndarray:
        return read_raw(store.directory.root, "registry.db", name, version)

    def footprint(self, store: LocalStore) -> int:
        """Return the bytes of all files that are segments; a file without a magic is a spare."""
        found = 0
        with os.scandir(f"{store.directory.root}/segments") as files:
            for file in files:
                with open(file.path, "rb") as content:
                    found += file.stat().st_size if any(content.read(6)) else 0
        return found


class TestBareStore(StoreContract):
    """Tests what the contract derives from the abstract methods, and how it refuses the rest."""

    PRELUDE = f"""
import sys
sys.path.insert(0, {ROOT!r})
import numpy as np
from tests.support.bare_store import private_bare_store
store = private_bare_store()
"""

    @pytest.fixture
    def store(self, store: LocalStore) -> BareStore:
        return BareStore(store)

    def read_raw(self, store: BareStore, name: str, version: int | None = None) -> np.ndarray:
        return TestLocalStore().read_raw(store.whole, name, version)

    def footprint(self, store: BareStore) -> int:
        return TestLocalStore().footprint(store.whole)
