from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import pytest

from .notebook import Notebook


@pytest.fixture
def open_notebook(store_dir: str) -> Iterator[Callable[..., Notebook]]:
    """Open live notebooks in a private store; their kernels end with the test."""
    opened: list[Notebook] = []
    with tempfile.TemporaryDirectory(prefix="jt-") as directory:

        def start(path: str, **options: bool) -> Notebook:
            notebook = Notebook(f"/home/someone/{path}", directory, store_dir, **options)
            opened.append(notebook)
            notebook.do("%load_ext jshm\nimport numpy as np, jshm, os")
            return notebook

        try:
            yield start
        finally:
            for notebook in opened:
                notebook.close()
