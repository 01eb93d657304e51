"""Two notebooks, each in its own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .fresh import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def _notebooks() -> Iterator[tuple[Interpreter, Interpreter]]:
    with Interpreter() as writer, Interpreter() as reader:
        yield writer, reader


@pytest.fixture
def writer(_notebooks: tuple[Interpreter, Interpreter]) -> Interpreter:
    """A blank notebook."""
    _notebooks[0].reset()
    return _notebooks[0]


@pytest.fixture
def reader(_notebooks: tuple[Interpreter, Interpreter]) -> Interpreter:
    """Another blank notebook, in a process that knows nothing of the first."""
    _notebooks[1].reset()
    return _notebooks[1]


@pytest.fixture
def beside(writer: Interpreter, tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Write modules that lie beside the first notebook, which only it can import."""
    writer.run(f"sys.path.append({str(tmp_path)!r})")

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        writer.run("import importlib; importlib.invalidate_caches()")

    yield write
    writer.run(
        f"""\
sys.path.remove({str(tmp_path)!r})
for name, module in list(sys.modules.items()):
    if str(getattr(module, "__file__", "")).startswith({str(tmp_path)!r}):
        del sys.modules[name]
"""
    )
