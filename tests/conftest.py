"""Each test has its own directory. No test touches the user's."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import signal
import tempfile
from typing import TYPE_CHECKING

import pytest

import jshm
from jshm.api import _warned
from jshm.store import _made, _store_in, default_store
from jshm.store.local.inspection import VersionList

from .support.full_disk import CannotMountError, mounted
from .support.processes import SHORT_LIFE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

    from .support.full_disk import MakeMount, Mount

SHM = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
PREFIX = f"jt{os.getpid()}-"
# Cannot be made: whoever uses jshm without `store_dir` fails, also in a child process.
NOWHERE = "/proc/a-test-without-the-store_dir-fixture"
os.environ["JSHM_DIR"] = NOWHERE
os.environ["JSHM_OVERFLOW_DIR"] = ""
# A test starts hundreds of Python processes. Without its byte code each of them compiles all of jshm.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    _root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ.setdefault("PYTHONPYCACHEPREFIX", os.path.join(_root, ".pytest_cache", "bytecode"))
# Names that tests publish end with the tests: no warning about it, here or in programs that they start.
_warned.add(jshm.ShortLifeWarning)
os.environ["PYTHONWARNINGS"] = SHORT_LIFE
pytest.register_assert_rewrite("tests.support.exactness")
# A shell gives its background jobs an ignored Ctrl-C; tests of it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A notebook that runs the tests must not be taken for their session.
for _name in ("JPY_PARENT_PID", "JPY_SESSION_NAME"):
    os.environ.pop(_name, None)


@pytest.hookimpl(trylast=True)  # with -x it is called before the fixtures of modules are closed
def pytest_sessionfinish(session: pytest.Session) -> None:
    left = [name for name in os.listdir(SHM) if name.startswith(PREFIX)]
    if left and not session.testsfailed:  # the error would hide the failures, which explain it
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        raise pytest.UsageError(f"left in {SHM}: {left}")


@pytest.fixture(autouse=True)
def _never_the_default_directory() -> Iterator[None]:
    yield
    assert os.environ["JSHM_DIR"] == NOWHERE, "a test changed JSHM_DIR for good: use monkeypatch"


@pytest.fixture
def store_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A private, empty JSHM_DIR in memory, for this process and its children."""
    root = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    monkeypatch.setenv("JSHM_DIR", root)
    monkeypatch.setenv("JSHM_OVERFLOW_DIR", str(tmp_path / "overflow"))
    try:
        yield root
    finally:
        try:
            if os.path.exists(root):
                _store_in(root, os.geteuid()).close()
        finally:
            _store_in.cache_clear()
            _made.clear()  # the hooks of a shell would create the directory of a store again
            shutil.rmtree(root, ignore_errors=True)
            assert not os.path.lexists(root)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[MakeMount]:
    """Mount small tmpfs, one after the other."""
    with contextlib.ExitStack() as stack:
        count = itertools.count()

        def make(options: str) -> Mount:
            try:
                return stack.enter_context(mounted(tmp_path / f"mount{next(count)}", options))
            except CannotMountError as error:
                pytest.skip(f"a tmpfs cannot be mounted here: {error}")

        yield make


def make_older(store: LocalStore, seconds: float = 600.0) -> None:
    """Make everything look as if it was published `seconds` earlier."""
    with store.registry.transact() as tx:
        tx.execute("UPDATE versions SET created = created - ?", (seconds,))
    # jshm changes no version's row, and does not look whether others do.
    store._listed = VersionList()


@pytest.fixture
def store(store_dir: str) -> Iterator[LocalStore]:
    """The default store, in a private directory; afterwards nothing is wrong and nothing is left.

    A test that damages something on purpose mends it, or uses `store_dir` alone.
    """
    yield default_store()
    found = default_store()
    assert jshm.check() == []
    found.release(found.names(), force=True)
    found.gc()
    if found.directory.files():  # arrays in reference cycles: collecting takes 50 ms, so not always
        gc.collect()
        found.gc()
    assert jshm.check() == []
    assert found.directory.files() == {}
