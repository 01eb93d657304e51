"""The alternatives to jshm: write an array somewhere, and read it back."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]


class Rival(Protocol):
    """A way to give an array to another process. It keeps what it wrote until `remove`."""

    label: str

    def write(self, array: Array) -> None:
        """Write the array to where others find it."""

    def read(self) -> object:
        """Return the array as another process would get it."""

    def drop(self, got: Any) -> None:
        """Drop the array that `read` returned."""

    def remove(self) -> None:
        """Remove what was written."""


class MemoryRival(Rival, Protocol):
    """One that can make room without writing all of it."""

    def reserve(self, array: Array) -> None:
        """Make the segment only: its pages are not needed to attach it."""


class SharedMemoryRival:
    """The standard library's ``multiprocessing.shared_memory``."""

    label = "SharedMemory"

    def __init__(self) -> None:
        self._made: SharedMemory | None = None
        self._array: Array | None = None

    def write(self, array: Array) -> None:
        # A reader keeps its last array, as jshm's readers do: writing into it would tear the data.
        self.remove()
        self.reserve(array)
        np.copyto(self._array, array)  # type: ignore[arg-type]

    def reserve(self, array: Array) -> None:
        """Make the segment only: its pages are not needed to attach it."""
        self._made = SharedMemory(create=True, size=array.nbytes)
        self._array = np.ndarray(array.shape, array.dtype, self._made.buf)

    def read(self) -> SharedMemory:
        return SharedMemory(self._made.name)  # type: ignore[union-attr]

    def drop(self, got: SharedMemory) -> None:
        got.close()

    def remove(self) -> None:
        made, self._made, self._array = self._made, None, None
        if made is not None:
            made.close()
            made.unlink()


class SharedArrayRival:
    """The package SharedArray; raises ImportError where it is not installed."""

    label = "SharedArray"
    _numbers = itertools.count()

    def __init__(self) -> None:
        import SharedArray  # type: ignore[import-not-found, unused-ignore]

        self._module = SharedArray
        self._name = f"shm://jshm-bench-{os.getpid()}-{next(self._numbers)}"
        self._made = False

    def write(self, array: Array) -> None:
        self.remove()
        np.copyto(self._create(array), array)

    def reserve(self, array: Array) -> None:
        """Make the segment only: its pages are not needed to attach it."""
        self._create(array)

    def _create(self, array: Array) -> Array:
        self._made = True
        made: Array = self._module.create(self._name, array.shape, array.dtype)
        return made

    def read(self) -> object:
        return self._module.attach(self._name)

    def drop(self, got: object) -> None:
        pass

    def remove(self) -> None:
        if self._made:
            self._made = False
            self._module.delete(self._name)


class FileRival:
    """A file in the same memory-backed file system.

    Parameters
    ----------
    label : str
    path : str
    write : callable
        From path and array to the file.
    read : callable
        From path to the array.
    """

    def __init__(
        self,
        label: str,
        path: str,
        write: Callable[[str, Array], object],
        read: Callable[[str], object],
    ) -> None:
        self.label = label
        self._path = path
        self._write = write
        self._read = read

    def write(self, array: Array) -> None:
        self._write(self._path, array)

    def read(self) -> object:
        return self._read(self._path)

    def drop(self, got: object) -> None:
        pass

    def remove(self) -> None:
        if os.path.isdir(self._path):
            shutil.rmtree(self._path)
        elif os.path.exists(self._path):
            os.unlink(self._path)


def file_rivals(place: str) -> list[FileRival]:
    """Return NumPy's own files, pickle and joblib, memory-mapped if they can."""
    return _installed(lambda: _numpy(place), lambda: _plain_pickle(place), lambda: _joblib(place))


def store_magic(place: str) -> list[FileRival]:
    """Return IPython's ``%store``."""
    return _installed(lambda: _store_magic(place))


def memory_rivals() -> list[MemoryRival]:
    """Return those that are in named shared memory."""
    return _installed(SharedMemoryRival, SharedArrayRival)


def _installed(*rivals: Callable[[], Any]) -> list[Any]:
    """Return those that can be made; say which cannot."""
    made = []
    for rival in rivals:
        try:
            made.append(rival())
        except ImportError as error:
            print(f"skipped: {error} (pip install 'jshm[bench]')")
    return made


def _numpy(place: str) -> FileRival:
    return FileRival(
        "np.save, np.load mmap",
        os.path.join(place, "rival.npy"),
        np.save,
        lambda path: np.load(path, mmap_mode="r"),
    )


def _plain_pickle(place: str) -> FileRival:
    return FileRival("pickle", os.path.join(place, "rival.pickle"), _pickle, _unpickle)


def _joblib(place: str) -> FileRival:
    import joblib  # type: ignore[import-untyped, unused-ignore]

    return FileRival(
        "joblib, mmap",
        os.path.join(place, "rival.joblib"),
        lambda path, array: joblib.dump(array, path),
        lambda path: joblib.load(path, mmap_mode="r"),
    )


def _store_magic(place: str) -> FileRival:
    from IPython.external.pickleshare import PickleShareDB

    # The reader is another process, so nothing is cached.
    return FileRival(
        "%store",
        os.path.join(place, "db"),
        lambda root, array: PickleShareDB(root).__setitem__("autorestore/X", array),
        lambda root: PickleShareDB(root)["autorestore/X"],
    )


def _pickle(path: str, array: Array) -> None:
    with open(path, "wb") as file:
        pickle.dump(array, file, protocol=pickle.HIGHEST_PROTOCOL)


def _unpickle(path: str) -> object:
    with open(path, "rb") as file:
        return pickle.load(file)
