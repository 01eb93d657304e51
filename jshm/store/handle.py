"""`SharedNumpyArray`: a handle on an array in shared memory, that pickles as a reference."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..errors import DetachedError, NotShareableError, ReadOnlyError, SegmentNotFoundError
from ..pickling import frozen
from ..segment import file as segment
from ..segment import pages
from ..segment.array_layout import describe
from ..segment.views import Reference, reference_to
from ..text import shown
from . import default_store, store_of
from .local.references import publishing, shows_segment
from .local.source import check_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ..segment.array_layout import Order
    from ..segment.file import Mode
    from .local.store import LocalStore


class SharedNumpyArray(NDArrayOperatorsMixin):
    """A handle on an array that lives in a segment, or on a view of one.

    NumPy's functions, operators, indexing, `len` and iteration take it as the array, whose memory they
    share. What they return is no handle, but an ordinary array or number.

    Make one with `create_new`, `create_copy` or `as_shared`. The handle keeps the memory mapped until
    `detach`, `release`, or until it goes itself; memory that was never published belongs to those who
    hold it, and goes with the last of them.

    Pickling a handle gives a reference of a few hundred bytes, not the data, and holds nothing:
    loading it when the segment is gone raises SegmentNotFoundError.

    Attributes
    ----------
    array : ndarray
        The data.
    """

    __slots__ = ("_array", "_reference", "_store")

    def __init__(self, store: LocalStore, array: np.ndarray[Any, Any]) -> None:
        reference = reference_to(array)
        if reference is None:
            raise DetachedError("the array is not in shared memory: use as_shared or create_copy")
        self._store = store
        self._reference = reference
        self._array: np.ndarray[Any, Any] | None = array

    # -- make ------------------------------------------------------------------------------------

    @classmethod
    def create_new(
        cls,
        shape: int | tuple[int, ...],
        dtype: npt.DTypeLike = float,
        order: Order = "C",
        *,
        zero: bool = True,
    ) -> Self:
        """Return a handle on a new array.

        Parameters
        ----------
        shape : int or tuple of int
        dtype : data-type
        order : {'C', 'F'}
        zero : bool
            Fill it with zeros; else it holds anything, which is faster where memory is used again.

        Raises
        ------
        NotShareableError
            The dtype would not come back exactly.
        NoSpaceError
        """
        store = default_store()
        return cls(store, store.allocate(_shape(shape), dtype, order, zero=zero))

    @classmethod
    def create_copy(cls, array: np.ndarray[Any, Any]) -> Self:
        """Return a handle on a copy of `array`, of the same dtype, shape and order (C or F).

        Raises
        ------
        NotShareableError, NoSpaceError
        """
        store = default_store()
        return cls(store, store.copy(array))

    @classmethod
    def as_shared(cls, array: np.ndarray[Any, Any]) -> Self:
        """Return a handle on `array` itself if it is in shared memory already, else on a copy.

        A view of a shared array is recognised. One that was changed privately (mode ``'c'``) is
        copied: others could not see it.

        Raises
        ------
        NotShareableError, NoSpaceError
        """
        check_array(array)
        mapping = segment.find_mapping(array)
        if mapping is None or (mapping.mode != "r+" and not pages.is_pristine(mapping)):
            return cls.create_copy(array)
        return cls(store_of(mapping.segment), array)

    @staticmethod
    def needed_mem_size(
        shape: int | tuple[int, ...], dtype: npt.DTypeLike = float, order: Order = "C"
    ) -> int:
        """Return the bytes of shared memory that such an array takes, header included."""
        return describe(_shape(shape), dtype, order).trailer_offset

    # -- look ------------------------------------------------------------------------------------

    @property
    def array(self) -> np.ndarray[Any, Any]:
        if self._array is None:
            raise DetachedError("this handle was detached or released; it has no array any more")
        return self._array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._reference.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._reference.dtype

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes to step in each dimension; negative in a reversed view."""
        return self._reference.strides

    @property
    def order(self) -> Order:
        """``'F'`` for an array that is Fortran- and not C-contiguous, else ``'C'``."""
        flags = self.array.flags
        return "F" if flags.f_contiguous and not flags.c_contiguous else "C"

    @property
    def mode(self) -> Mode:
        return self._reference.mode

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def name(self) -> str | None:
        """The newest name that the segment was published under, or None."""
        entries = self._store.catalogue.of_segment(self._reference.segment)
        return max(entries, key=lambda entry: entry.created).name if entries else None

    @property
    def version(self) -> int | None:
        """The version that goes with `name`, or None."""
        entries = self._store.catalogue.of_segment(self._reference.segment)
        return max(entries, key=lambda entry: entry.created).version if entries else None

    def is_in_use(self) -> bool:
        """Tell whether any process, this one included, has the segment mapped."""
        row = self._store.catalogue.segment(self._reference.segment)
        if row is None or row.unlinked:
            return self._store.process.mappings.is_mapped(self._reference.segment)
        return self._store.is_held(row)

    # -- as an array -----------------------------------------------------------------------------
    # There is no `__array_interface__`: an array that it makes would keep the handle, and not the
    # memory, which goes when the handle is detached.

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> np.ndarray[Any, Any]:
        array = self.array
        if dtype is None or array.dtype == dtype:
            return array.copy() if copy else array
        if copy is False:
            raise ValueError(f"cannot show an array of {array.dtype} as {dtype} without a copy")
        return array.astype(dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        out = named.get("out", ())
        if out:
            named["out"] = tuple(map(_array_of, out))
        found = getattr(ufunc, method)(*map(_array_of, inputs), **named)
        # `handle += 1` leaves a handle.
        return out[0] if len(out) == 1 and isinstance(out[0], SharedNumpyArray) else found

    # These, as an array has them, also know structures.
    def __eq__(self, other: object) -> Any:
        return self.array == _array_of(other)

    def __ne__(self, other: object) -> Any:
        return self.array != _array_of(other)

    __hash__ = None  # type: ignore[assignment] # as an array has none

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __contains__(self, value: object) -> bool:
        return value in self.array

    def __getitem__(self, index: Any) -> Any:
        return self.array[_array_of(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        array = self.array
        if not array.flags.writeable:
            raise ReadOnlyError(
                f"the array is read-only (mode {self.mode!r}, or published by now): attach it with mode "
                "'c' for a private writable copy, or write into handle.array.copy()"
            )
        array[_array_of(index)] = _array_of(value)

    def __bool__(self) -> bool:
        return bool(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __float__(self) -> float:
        return float(self.array)

    def __complex__(self) -> complex:
        return complex(self.array)

    def __index__(self) -> int:
        return operator.index(self.array)  # type: ignore[arg-type, unused-ignore]

    # -- let go ----------------------------------------------------------------------------------

    def detach(self) -> None:
        """Let go of the view. The memory is unmapped when no other view of it is left here."""
        self._array = None
        self._store.flush()

    def release(self, *, force: bool = False) -> None:
        """Let go, and retire every name of the segment for everyone.

        Raises
        ------
        NotOwnerError
            The name belongs to another notebook and `force` is False; nothing was let go.
        """
        entries = self._store.catalogue.of_segment(self._reference.segment)
        names = [entry.name for entry in entries if entry.is_current]
        if names:
            self._store.release(names, force=force)
        self.detach()

    def __repr__(self) -> str:
        if self._array is None:
            return shown(f"<SharedNumpyArray {self.dtype} {self.shape}, detached>")
        name = f" {self.name} v{self.version}" if self.name else ""
        return shown(f"<SharedNumpyArray{name} {self.dtype} {self.shape}, mode {self.mode!r}>")

    def __reduce__(self) -> tuple[Any, ...]:
        if self._array is None:
            raise DetachedError("a detached handle cannot be pickled: it refers to nothing")
        if not shows_segment(self._array):
            raise NotShareableError(
                f"the array was changed privately (mode {self.mode!r}), so its segment does not hold what it "
                "shows: pickle SharedNumpyArray.as_shared(handle.array), a copy"
            )
        object_ = publishing.get()
        if object_ is not None:
            object_.need(self._array)
        self._store.process.referred.add(self._reference.segment)
        reference = self._reference
        where = (reference.offset, reference.dtype, reference.shape, reference.strides)
        root = self._store.directory.root
        return frozen.load_handle, (root, reference.segment, reference.mode, *where)


def _array_of(value: Any) -> Any:
    return value.array if isinstance(value, SharedNumpyArray) else value


def load(root: str, segment: str, mode: Mode, *where: Any) -> SharedNumpyArray:
    """Return the handle that a pickle holds: see `jshm.pickling.frozen.load_handle`."""
    store = default_store()
    identity = store.segment_of(root, segment)
    if identity is None:
        raise SegmentNotFoundError(
            f"the array is shared in {root}, and this process uses {store.directory.root}: set "
            "JSHM_DIR alike in both"
        )
    mapping = store.attach_segment(identity, mode)
    return SharedNumpyArray(store, Reference(segment, mode, *where).view(mapping))


def _shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    # NumPy's integers too, but no floats, and plain ints: they are written into the header.
    dims = tuple(
        int(operator.index(n))
        for n in ((shape,) if isinstance(shape, (int, np.integer)) else shape)
    )
    if any(n < 0 for n in dims):
        raise ValueError(f"negative dimensions are not allowed: {dims}")
    return dims
