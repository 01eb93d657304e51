"""What the front end is told: the values of `labextension/src/view/types.ts`, ready for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import (
    JshmError,
    NoSpaceError,
    RegistryError,
    RegistryTimeout,
    SegmentNotFoundError,
    TooManyFilesError,
    UnsafeDirectoryError,
)
from ..store.base import type_name
from .people import who

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..store.base import Holder, Released, SegmentInfo
    from .people import Places

_RANKS = {"r": 1, "c": 2, "r+": 3}
# What is wrong with the store as a whole, and not with what was asked.
OF_THE_STORE = (
    NoSpaceError, RegistryError, RegistryTimeout, TooManyFilesError, UnsafeDirectoryError,
)  # fmt: skip


def row(info: SegmentInfo, older: Sequence[SegmentInfo], places: Places) -> dict[str, Any]:
    """Return one name: its newest version, and those that somebody still holds (`IRow`)."""
    return {
        "name": info.name,
        "version": info.version,
        "state": "current" if info.state == "current" else "released",
        "kind": info.kind,
        "summary": info.summary,
        "dtype": "" if info.dtype is None else type_name(info.dtype),
        "shape": list(info.shape),
        "nbytes": info.nbytes,
        "publisher": publisher(info, places),
        "group": info.owner,
        "created": info.created,
        "note": info.note,
        "keep": info.keep,
        "writable": info.writable,
        "overflow": info.overflow,
        "onlyCopy": info.only_copy,
        "keeps": info.keeps,
        "lifetime": info.lifetime,
        "holders": holders(info.holders, places),
        "older": [
            {
                "version": old.version,
                "nbytes": old.nbytes,
                "summary": old.summary,
                "holders": holders(old.holders, places),
            }
            for old in older
        ],
    }


def publisher(info: SegmentInfo, places: Places) -> dict[str, Any]:
    """Return who published it (`IWho`); a notebook lives also after its kernel was restarted."""
    return who(
        info.publisher, info.kernel_id, info.notebook, places,
        alive=info.publisher_alive or info.kernel_id in places.names, here=info.mine,
    )  # fmt: skip


def holders(found: Sequence[Holder], places: Places) -> list[dict[str, Any]]:
    """Return who holds a version (`IHolder`), each process once, by what it may do most."""
    ranked = sorted(found, key=lambda h: _RANKS.get(h.mode, 0))
    # Not by pid alone: kernels in two containers may have the same.
    found = list({(h.pid, h.label, h.here): h for h in ranked}.values())
    return [
        {
            **who(h.label, h.kernel_id, h.notebook, places, alive=True, here=h.here),
            "mode": h.mode,
            "pid": h.pid,
        }
        for h in found
    ]


def details(info: SegmentInfo | None, shown: dict[str, Any]) -> dict[str, Any]:
    """Return a row with all that is known besides (`IDetails`); None of what can only be listed."""
    found = info.details if info is not None else None
    return {
        **shown,
        "order": info.order if info is not None else "C",
        "doc": found.doc if found else "",
        "place": found.place if found else "",
        "python": found.python if found else "",
        "modules": found.modules if found else {},
        "shared": sum(found.buffers) if found else 0,
        "copied": found.copied if found else 0,
        "columns": list(found.columns) if found else [],
        "references": found.references if found else {},
        "together": list(found.together) if found else [],
    }


def released(found: Released) -> dict[str, Any]:
    """Return what a release came to (`IReleased`)."""
    return {
        "name": found.name,
        "nbytes": found.nbytes,
        "freed": found.freed,
        "heldBy": list(found.held_by),
        "neededBy": list(found.needed_by),
    }


def problem(error: Exception) -> dict[str, str]:
    """Return what is wrong and why, as `BackendError` has it; the message says what to do."""
    if isinstance(error, SegmentNotFoundError):
        reason = "missing"
    elif isinstance(error, OF_THE_STORE) or not isinstance(error, JshmError):
        reason = "store"
    else:
        reason = "refused"
    return {"reason": reason, "message": str(error), "remedy": ""}
