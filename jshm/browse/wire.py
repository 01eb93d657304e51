"""The messages to the front end, ready for JSON. ``server/openapi.yaml`` describes them by name."""

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
from .labels import process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..store.base import Holder, Released, SegmentInfo
    from .labels import Notebooks

_RANKS = {"r": 1, "c": 2, "r+": 3}
# Errors of the whole store, not of one request.
OF_THE_STORE = (
    NoSpaceError, RegistryError, RegistryTimeout, TooManyFilesError, UnsafeDirectoryError,
)  # fmt: skip


def row(info: SegmentInfo, older: Sequence[SegmentInfo], notebooks: Notebooks) -> dict[str, Any]:
    """Return one name (`Row`): its newest version, and the older ones that a process still holds."""
    return {
        "name": info.name,
        "version": info.version,
        "state": "current" if info.state == "current" else "released",
        "kind": info.kind,
        "summary": info.summary,
        "dtype": "" if info.dtype is None else type_name(info.dtype),
        "shape": list(info.shape),
        "nbytes": info.nbytes,
        "publisher": publisher(info, notebooks),
        "group": info.owner,
        "created": info.created,
        "note": info.note,
        "keep": info.keep,
        "writable": info.writable,
        "overflow": info.overflow,
        "onlyCopy": info.only_copy,
        "keeps": info.keeps,
        "lifetime": info.lifetime,
        "holders": holders(info.holders, notebooks),
        "older": [
            {
                "version": old.version,
                "nbytes": old.nbytes,
                "summary": old.summary,
                "holders": holders(old.holders, notebooks),
            }
            for old in older
        ],
    }


def publisher(info: SegmentInfo, notebooks: Notebooks) -> dict[str, Any]:
    """Return the publisher (`Process`); a notebook whose kernel was restarted is still alive."""
    return process(
        info.publisher, info.kernel_id, info.notebook, notebooks,
        alive=info.publisher_alive or info.kernel_id in notebooks.names, here=info.mine,
    )  # fmt: skip


def holders(found: Sequence[Holder], notebooks: Notebooks) -> list[dict[str, Any]]:
    """Return the holders of a version (list of `Holder`): each process once, with its strongest mode."""
    ranked = sorted(found, key=lambda h: _RANKS.get(h.mode, 0))
    # The pid is not enough: kernels in two containers may have the same one.
    found = list({(h.pid, h.label, h.here): h for h in ranked}.values())
    return [
        {
            **process(h.label, h.kernel_id, h.notebook, notebooks, alive=True, here=h.here),
            "mode": h.mode,
            "pid": h.pid,
        }
        for h in found
    ]


def details(info: SegmentInfo, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row together with all else that is known of it (`Details`)."""
    found = info.details
    return {
        **row,
        "order": info.order,
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
    """Return the result of a release (`Released`)."""
    return {
        "name": found.name,
        "nbytes": found.nbytes,
        "freed": found.freed,
        "heldBy": list(found.held_by),
        "neededBy": list(found.needed_by),
    }


def problem(error: Exception) -> dict[str, Any]:
    """Return an error (`Error`): a message, and the remedies as data."""
    if isinstance(error, SegmentNotFoundError):
        reason = "missing"
    elif isinstance(error, OF_THE_STORE) or not isinstance(error, JshmError):
        reason = "store"
    else:
        reason = "refused"
    if not isinstance(error, JshmError):
        return failure(reason, str(error))
    remedies = [
        {
            "action": remedy.action,
            "names": list(remedy.names),
            "options": dict(remedy.options),
            "purpose": remedy.purpose,
        }
        for remedy in error.remedies
    ]
    return {"reason": reason, "message": error.message, "remedies": remedies}


def failure(reason: str, message: str) -> dict[str, Any]:
    """Return an error that has no remedy (`Error`)."""
    return {"reason": reason, "message": message, "remedies": []}
