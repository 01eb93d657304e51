from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from .notebook import Notebook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def open_notebook(store_dir: str) -> Iterator[Callable[..., Notebook]]:
    """Open live notebooks in a private store; their kernels end with the test."""
    opened: list[Notebook] = []
    with tempfile.TemporaryDirectory(prefix="jt-") as directory:

        def start(
            path: str, *, server: bool = True, bare: bool = False, **variables: str
        ) -> Notebook:
            notebook = Notebook(
                f"/home/someone/{path}", directory, store_dir, server=server, env=variables
            )
            opened.append(notebook)
            if not bare:
                notebook.do("%load_ext jshm\nimport numpy as np, jshm, os")
            return notebook

        try:
            yield start
        finally:
            for notebook in opened:
                notebook.close()
