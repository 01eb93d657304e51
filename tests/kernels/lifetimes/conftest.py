from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ...support.processes import Beginnings
from ..conftest import open_notebook  # noqa: F401 - a fixture
from .outside import USE, Outside

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def beginnings() -> Iterator[Beginnings]:
    with Beginnings("import numpy, jshm, jshm.cli, jshm.store") as begun:
        yield begun


@pytest.fixture
def outside(store_dir: str, beginnings: Beginnings, tmp_path: Path) -> Outside:
    """A look at the store without jshm, and a process that uses jshm once."""
    return Outside(store_dir, lambda: beginnings.run(tmp_path, USE))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, as sockets of kernels need it."""
    with tempfile.TemporaryDirectory(prefix="jt-") as made:
        yield Path(made)
