"""The store of a group keeps the contract for the names of one member."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from .contract import StoreContract
from .test_local import read_raw

if TYPE_CHECKING:
    import numpy as np

    from jshm.store.groups.group_store import GroupStore


class TestGroupStore(StoreContract):
    PRELUDE = "import numpy as np; from jshm.store import default_store; store = default_store()"

    @pytest.fixture
    def store(self, group_store: GroupStore) -> GroupStore:
        return group_store

    def read_raw(self, store: GroupStore, name: str, version: int | None = None) -> np.ndarray:
        return read_raw(store.directory.root, "private/registry.db", name, version)

    def footprint(self, store: GroupStore) -> int:
        with os.scandir(f"{store.directory.root}/segments") as files:
            return sum(file.stat().st_size for file in files)
