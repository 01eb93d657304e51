from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..conftest import open_notebook  # noqa: F401 - a fixture
from .outside import Outside

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def outside(store_dir: str) -> Outside:
    """Somebody who looks past jshm, and who can use it once."""
    return Outside(store_dir)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path: sockets of kernels need one."""
    with tempfile.TemporaryDirectory(prefix="jt-") as made:
        yield Path(made)
