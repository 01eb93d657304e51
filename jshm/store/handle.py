"""`SharedNumpyArray`: a handle on an array in shared memory; it is pickled as a reference."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..errors import DetachedError, NotShareableError, ReadOnlyError
from ..pickling import frozen, static
from ..segment import file as segment_file
from ..segment import pages
from ..segment.array_layout import describe
from ..segment.views import Reference, reference_to, shows_segment
from ..text import shown
from . import default_store, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ..segment.array_layout import Order
    from ..segment.file import Mode
    from .base import SegmentInfo, Store


class SharedNumpyArray(NDArrayOperatorsMixin):
    """A handle on an array in a segment, or on a view of one.

    NumPy's functions, operators, indexing, `len` and iteration use the handle as the array, without a
    copy. They return ordinary arrays and numbers, not handles.

    Create a handle with `create_new`, `create_copy` or `as_shared`. It keeps the memory mapped until
    `detach` or `release`, or until it is deleted. Memory that was never published belongs to its holders,
    and is freed with the last of them.

    A pickled handle is a reference of a few hundred bytes, without the data, and keeps nothing: to load it
    after its segment is gone raises SegmentNotFoundError.

    Attributes
    ----------
    array : ndarray
        The data.
    """

    __slots__ = ("_array", "_reference", "_store")

    def __init__(self, store: Store, array: np.ndarray[Any, Any]) -> None:
        reference = reference_to(array)
        if reference is None:
            raise DetachedError("the array is not in shared memory: use as_shared or create_copy")
        self._store = store
        self._reference = reference
        self._array: np.ndarray[Any, Any] | None = array

    # -- create ----------------------------------------------------------------------------------

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
            Fill it with zeros. Otherwise its content is undefined, which is faster in reused memory.

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
        _check_array(array)
        store = default_store()
        return cls(store, store.copy(array))

    @classmethod
    def as_shared(cls, array: np.ndarray[Any, Any]) -> Self:
        """Return a handle on `array` itself if it is in shared memory, else on a copy.

        A view of a shared array counts as in shared memory. An array that was changed privately (mode
        ``'c'``) is copied, because other processes cannot see the changes.

        Raises
        ------
        NotShareableError, NoSpaceError
        """
        _check_array(array)
        mapping = segment_file.find_mapping(array)
        if mapping is None or (mapping.mode != "r+" and not pages.is_pristine(mapping)):
            return cls.create_copy(array)
        return cls(store_of(mapping.segment), array)

    @staticmethod
    def needed_mem_size(
        shape: int | tuple[int, ...], dtype: npt.DTypeLike = float, order: Order = "C"
    ) -> int:
        """Return the bytes of shared memory that such an array takes, with its header."""
        return describe(_shape(shape), dtype, order).trailer_offset

    # -- look ------------------------------------------------------------------------------------

    @property
    def array(self) -> np.ndarray[Any, Any]:
        if self._array is None:
            raise DetachedError("this handle was detached or released, and has no array")
        return self._array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._reference.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._reference.dtype

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes between two elements in each dimension; negative in a reversed view."""
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
        """The last name that the segment was published under, or None."""
        info = self._published()
        return info.name if info else None

    @property
    def version(self) -> int | None:
        """The version that goes with `name`, or None."""
        info = self._published()
        return info.version if info else None

    def _published(self) -> SegmentInfo | None:
        segment = self._reference.segment
        infos = [
            info
            for name in set(self._store.names_of(segment))
            for info in self._store.versions(name)
            if info.segment == segment
        ]
        return max(infos, key=lambda info: info.created, default=None)

    def is_in_use(self) -> bool:
        """Return whether any process, including this one, has the segment mapped."""
        return self._store.in_use(self._reference.segment)

    # -- as an array -----------------------------------------------------------------------------
    # There is no `__array_interface__`: an array made from it would keep the handle, and not the memory,
    # which is unmapped when the handle is detached.

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

    # As an array's, these also compare structured dtypes.
    def __eq__(self, other: object) -> Any:
        return self.array == _array_of(other)

    def __ne__(self, other: object) -> Any:
        return self.array != _array_of(other)

    __hash__ = None  # type: ignore[assignment] # an array has none either

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
                f"the array is read-only (mode {self.mode!r}, or it has been published): attach it with "
                "mode 'c' for a private writable copy, or write into handle.array.copy()"
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
        """Let go of the view. The memory is unmapped when this process has no other view of it."""
        self._array = None
        self._store.flush()

    def release(self, *, force: bool = False) -> None:
        """Retire the names whose newest version is in the segment, for everyone, and let go of the view.

        Raises
        ------
        NotOwnerError
            A name belongs to another notebook and `force` is False; nothing was released.
        """
        segment = self._reference.segment
        infos = self._store.current(self._store.names_of(segment)).values()
        names = [info.name for info in infos if info.segment == segment]
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
            raise DetachedError("a detached handle cannot be pickled: it has no array")
        if not shows_segment(self._array):
            raise NotShareableError(
                f"the array was changed privately (mode {self.mode!r}), so its segment holds other data: "
                "pickle SharedNumpyArray.as_shared(handle.array), a copy"
            )
        reference = self._reference
        where = reference.offset, reference.dtype, reference.shape, reference.strides
        address = self._store.refer(self._array)
        return frozen.load_handle, (address, reference.segment, reference.mode, *where)


def _array_of(value: Any) -> Any:
    return value.array if isinstance(value, SharedNumpyArray) else value


def load(address: str, segment: str, mode: Mode, *where: Any) -> SharedNumpyArray:
    """Return the handle that a pickle holds: see `jshm.pickling.frozen.load_handle`."""
    store = default_store()
    mapping = store.attach_segment(store.segment_at(address, segment), mode)
    return SharedNumpyArray(store, Reference(segment, mode, *where).view(mapping))


def _check_array(array: object) -> None:
    """Raise NotShareableError unless `array` is a plain NumPy array."""
    # np.memmap is an ndarray whose subclass only says where the bytes came from.
    if type(array) is not np.ndarray and type(array) is not np.memmap:
        raise NotShareableError(
            f"a {static.name(type(array))} is not a plain NumPy array: np.asarray(X) makes one; to share "
            "it as it is, publish it under a name"
        )


def _shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    # NumPy's integers are converted to plain ints, which are written into the header.
    dims = tuple(
        int(operator.index(n))
        for n in ((shape,) if isinstance(shape, (int, np.integer)) else shape)
    )
    if any(n < 0 for n in dims):
        raise ValueError(f"negative dimensions are not allowed: {dims}")
    return dims
