"""Stores of each kind, empty and private."""

from __future__ import annotations

import grp
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from jshm.store import default_store

from ..conftest import PREFIX, SHM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jshm.store.base import Store


@pytest.fixture
def group_store(store_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store of this user's group, in a directory with no other members."""
    place = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    monkeypatch.setenv("JSHM_GROUP_DIR", place)
    monkeypatch.setenv("JSHM_GROUP", grp.getgrgid(os.getegid()).gr_name)
    yield default_store()
    shutil.rmtree(place)
