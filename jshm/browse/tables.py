"""Lists and details as plain text and as HTML. All text in HTML is escaped."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ..text import age_text, encodable, printable, shortened, size_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..segment.pages import Pages
    from ..store.base import ObjectDetails, SegmentInfo

_COLUMNS = ("Name", "Owner", "v", "Type", "Size", "From", "Used by", "Age", "")
_RIGHT = {"v", "Size"}
_SHORT = {"v", "Size", "Age"}
# A long name or note wraps, so that its column does not push the others away.
_WRAPPED = "min-width:6em;max-width:24em;overflow-wrap:anywhere"
# Bytes. If at least this much of an object is copied by each attach, the list says so.
_MUCH = 1 << 20
_LITTLE = 1000
# Bytes. If at least this much of the process's memory is shared, the list explains its RSS.
_NOTICED = 1_000_000_000
_SHOWN = 5
# Characters of a cell in the list, and of a line of details.
_CELL = 500
_DETAIL = 20_000
_EMPTY = "Nothing is shared yet."


def marks(info: SegmentInfo) -> str:
    """Return what is unusual about a version: LIVE, kept, old, released, on disk; and its note."""
    found = [
        (info.writable, "LIVE"),
        (info.state == "old", "old"),
        (info.state == "released", "released, still held"),
        (info.keep, "kept"),
        (info.overflow, "on disk"),
        (info.only_copy, "only copy"),
        (bool(info.keeps), f"keeps {size_text(info.keeps)} without a name"),
        (bool(info.note), info.note),
    ]
    return ", ".join(text for present, text in found if present)


def object_text(details: ObjectDetails) -> str:
    """Return how much of an object is shared and copied, and what it refers to; '' for a small object."""
    shared = sum(details.buffers)
    found = [f"{size_text(shared)} shared"] if shared > _LITTLE else []
    if details.columns or details.copied > _MUCH:
        found.append(f"{size_text(details.copied)} copied{_columns(details)}")
    refers = _references(details)
    return " · ".join(filter(None, [", ".join(found), f"refers to {refers}" if refers else ""]))


def _columns(details: ObjectDetails) -> str:
    return f" (object columns: {', '.join(details.columns)})" if details.columns else ""


def _references(details: ObjectDetails) -> str:
    return ", ".join(f"{name} ({size_text(n)})" for name, n in details.references.items())


def users(info: SegmentInfo) -> str:
    """Return the holders of a version, each once; this process first."""
    here = ["this notebook" if h.here else h.label for h in info.holders]
    names = sorted(dict.fromkeys(here), key=lambda name: (name != "this notebook", name))
    return ", ".join(names) or "–"


def resident_text(pages: Pages | None) -> str:
    """Return an explanation of this process's RSS if much of it is shared; else ''."""
    if pages is None or pages.shared < _NOTICED:
        return ""
    whole = size_text(pages.shared + pages.own)
    return (
        f"RSS of this process: {whole} = {size_text(pages.own)} private + {size_text(pages.shared)} "
        "shared, which counts in the RSS of every process that reads it"
    )


def memory_rows(here: Pages | None, process: Pages | None) -> list[tuple[str, str]]:
    """Return the lines of the details about memory in this process.

    Parameters
    ----------
    here : Pages or None
        The pages of the version's mappings; None if it is not mapped here or the system cannot tell.
    process : Pages or None
        The pages of the whole process.
    """
    rows = []
    if here is not None:
        own = f"{size_text(here.own)} private: pages that were changed here"
        shared = f"{size_text(here.shared)} of shared pages, not copied"
        rows.append(("Memory here", f"{shared} · {own if here.own else 'nothing private'}"))
    if here is not None and process is not None:
        text = f"{size_text(process.own)} private + {size_text(process.shared)} shared"
        rows.append(("RSS here", f"{text}, which counts in the RSS of every process that reads it"))
    return rows


def total_text(infos: Sequence[SegmentInfo], spares: int = 0) -> str:
    """Return sums over segments; a segment that versions share counts once. Spares are extra."""
    sizes = {info.segment: info.nbytes for info in infos}
    idle = {info.segment: info.nbytes for info in infos if not info.in_use}
    names = len({info.name for info in infos if info.state == "current"})
    kept = {info.segment: info.keeps for info in infos}
    total = sum(sizes.values()) + sum(kept.values())
    text = f"{names} name{'s' * (names != 1)} · {size_text(total)}"
    text += f" · {size_text(sum(idle.values()))} not in use" if idle else ""
    return text + (f" · {size_text(spares)} more in spares" if spares else "")


def _cells(info: SegmentInfo, followed: Collection[str]) -> tuple[str, ...]:
    names = {info.name, f"{info.user}:{info.name}"}
    here = "followed here" if names & set(followed) and info.state == "current" else ""
    cells = (
        info.name,
        info.user,
        str(info.version),
        info.summary,
        size_text(info.nbytes),
        "this notebook" if info.mine else info.publisher,
        users(info),
        age_text(info.created),
        ", ".join(filter(None, [here, marks(info)])),
    )
    return tuple(shortened(printable(cell), _CELL) for cell in cells)


def _rows(infos: Sequence[SegmentInfo], followed: Collection[str]) -> list[tuple[str, ...]]:
    """Return the column titles and the cells; the owner's column only if there are several users."""
    rows = [_COLUMNS, *(_cells(info, followed) for info in infos)]
    if any(info.user for info in infos):
        return rows
    owner = _COLUMNS.index("Owner")
    return [(*row[:owner], *row[owner + 1 :]) for row in rows]


def as_text(
    infos: Sequence[SegmentInfo],
    spares: int = 0,
    followed: Collection[str] = (),
    hint: str = "",
) -> str:
    """Return the list as aligned columns, and sums.

    Parameters
    ----------
    infos
    spares : int
        Bytes in spares.
    followed : collection of str
        Names that variables here follow.
    hint : str
        What to do if nothing is shared, in the words of the face.
    """
    if not infos:
        return f"{_EMPTY} {hint}".rstrip()
    rows = [tuple(map(encodable, row)) for row in _rows(infos, followed)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(rows[0], row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, total_text(infos, spares)])


def as_html(
    infos: Sequence[SegmentInfo],
    spares: int = 0,
    followed: Collection[str] = (),
    hint: str = "",
) -> str:
    """Return the list as an HTML table, and sums; for the parameters see `as_text`."""
    if not infos:
        return f"<p>{html.escape(f'{_EMPTY} {hint}'.rstrip())}</p>"
    rows = _rows(infos, followed)

    def row(tag: str, cells: Sequence[str]) -> str:
        shown = (
            f'<{tag} style="text-align:{"right" if name in _RIGHT else "left"};'
            f'{"white-space:nowrap" if name in _SHORT else _WRAPPED}">{html.escape(cell)}</{tag}>'
            for name, cell in zip(rows[0], cells, strict=True)
        )
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(row("td", cells) for cells in rows[1:])
    head = row("th", rows[0])
    total = html.escape(total_text(infos, spares))
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table><p>{total}</p>"


def details(
    info: SegmentInfo,
    path: str,
    here: Sequence[str],
    followers: Sequence[str] = (),
    memory: Sequence[tuple[str, str]] = (),
) -> list[tuple[str, str]]:
    """Return the details of one version as pairs of a label and a text.

    Parameters
    ----------
    info
    path : str
        The path of its file.
    here : sequence of str
        What holds it in this process.
    followers : sequence of str
        Variables here that follow its name.
    memory : sequence of (str, str)
        See `memory_rows`.
    """
    lifetime = {
        "kept": "until it is released (kept)",
        "server": "while its Jupyter server runs or a process holds it",
        "run": "while its program runs (nbclient, papermill, the script of a worker) or a process holds it",
        "process": "while its process runs or another process holds it",
    }[info.lifetime]
    held = "; ".join(f"{h.label} (mode {h.mode!r}, pid {h.pid})" for h in info.holders)
    rows = [
        ("Name", f"{info.name} v{info.version}"),
        ("Type", info.summary + (f", order {info.order}" if info.kind == "array" else "")),
        *_object_rows(info.details),
        ("Size", f"{size_text(info.nbytes)} ({info.nbytes} bytes)"),
        ("Owner", info.user),
        ("From", f"{info.publisher}{'' if info.publisher_alive else ' (stopped)'}"),
        ("Age", age_text(info.created)),
        ("Marks", marks(info)),
        ("Lives", lifetime),
        ("Used by", held or "nobody (not in use)"),
        ("Held here by", ", ".join(here)),
        *memory,
        ("Followed by", ", ".join(followers)),
        ("File", path),
    ]
    return [(label, shortened(printable(text), _DETAIL)) for label, text in rows if text]


def _object_rows(details: ObjectDetails | None) -> list[tuple[str, str]]:
    if details is None:
        return []
    largest = sorted(details.buffers, reverse=True)[:_SHOWN]
    sizes = ", ".join(map(size_text, largest)) + (" …" if len(details.buffers) > _SHOWN else "")
    count = len(details.buffers)
    buffers = f"{count:,} buffer{'s' * (count != 1)} ({sizes})" if count else ""
    needs = ", ".join(f"{name} {version}".rstrip() for name, version in details.modules.items())
    copied = f"{size_text(details.copied)}, by each attach{_columns(details)}"
    return [
        ("Doc", details.doc),
        ("Defined in", details.place),
        ("Python", details.python),
        ("Needs", needs),
        ("Shared", buffers),
        ("Copied", copied),
        ("Refers to", _references(details)),
        ("Shares state with", ", ".join(details.together)),
    ]


def details_text(rows: Sequence[tuple[str, str]]) -> str:
    """Return details as aligned lines."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label.ljust(width)}  {text}" for label, text in rows)


def details_html(rows: Sequence[tuple[str, str]]) -> str:
    """Return details as an HTML table."""
    body = "".join(
        f'<tr><th style="text-align:left">{html.escape(label)}</th>'
        f'<td style="text-align:left">{html.escape(text)}</td></tr>'
        for label, text in rows
    )
    return f"<table><tbody>{body}</tbody></table>"
