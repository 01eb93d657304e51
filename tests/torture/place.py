"""A store of one's own for what runs without pytest."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jshm.store import default_store

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def own_place() -> Iterator[Path]:
    """Set ``JSHM_DIR`` to an empty directory in memory; yield one on disk for scripts."""
    before = {name: os.environ.get(name) for name in ("JSHM_DIR", "JSHM_OVERFLOW_DIR")}
    root = tempfile.mkdtemp(
        prefix="jt-storm-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    with tempfile.TemporaryDirectory() as scripts:
        os.environ.update(JSHM_DIR=root, JSHM_OVERFLOW_DIR="")
        try:
            yield Path(scripts)
        finally:
            default_store().close()
            shutil.rmtree(root, ignore_errors=True)
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
