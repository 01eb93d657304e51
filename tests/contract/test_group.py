"""The store of a group keeps the contract, too: for the names of one member."""

from __future__ import annotations

import grp
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from jshm.store import default_store

from ..conftest import PREFIX, SHM
from .contract import StoreContract
from .test_local import read_raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from jshm.store.groups.store import GroupStore

GROUP = grp.getgrgid(os.getegid()).gr_name


class TestGroupStore(StoreContract):
    PRELUDE = "import numpy as np; from jshm.store import default_store; store = default_store()"

    @pytest.fixture
    def store(self, store_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GroupStore]:
        place = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
        monkeypatch.setenv("JSHM_GROUP_DIR", place)
        monkeypatch.setenv("JSHM_GROUP", GROUP)
        yield default_store()
        shutil.rmtree(place)

    def read_raw(self, store: GroupStore, name: str, version: int | None = None) -> np.ndarray:
        return read_raw(store.directory.root, "private/registry.db", name, version)

    def footprint(self, store: GroupStore) -> int:
        with os.scandir(f"{store.directory.root}/segments") as files:
            return sum(file.stat().st_size for file in files)
