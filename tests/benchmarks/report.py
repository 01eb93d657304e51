"""The results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jshm.text import duration_text

from . import chart
from .measure import JSHM, LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .archive import Run
    from .calls import Calls
    from .measure import Result

_BEGIN, _END = "<!-- measured -->", "<!-- end of what was measured -->"


def document(run: Run) -> str:
    """Return all tables, first those for the README."""
    results = run.results
    sections = {}
    if results:
        sections = {
            "For the README": readme(results),
            "How many times jshm's time the others take": ratios(results),
            "Median times": medians(results),
            "To reach": targets(results),
        }
    if run.calls:
        sections["Calls"] = calls(run.calls)
    tables = [f"{title}:\n\n{table}" for title, table in sections.items()]
    return "\n\n".join([run.machine, *tables])


def readme(results: Sequence[Result]) -> str:
    """Return two tables of what has a key: what rivals do too, each a line, and what only jshm does."""
    chosen = [result for result in results if result.key and result.key != chart.KEY]
    shared = [result for result in chosen if set(result.seconds) - {JSHM, LIMIT}]
    rivals = [
        [name, *(_against(result, name) for result in shared)]
        for name in [JSHM, *_contenders(shared)]
    ]
    alone = [
        [result.title, _against(result, JSHM), _against(result, LIMIT), result.limit]
        for result in chosen
        if result not in shared
    ]
    return "\n\n".join(
        [
            _table(["", *(result.what for result in shared)], rivals),
            _table(["", "jshm", "the limit", "which is"], alone),
        ]
    )


def renewed(text: str, run: Run) -> str:
    """Return the README with the tables of this run in the place of those that are there.

    Raises
    ------
    LookupError
        It has no place for them.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise LookupError(f"the README has no place for the tables: {_BEGIN} … {_END}")
    return "\n".join([before + begin, readme(run.results), "", f"({run.machine}.)", end + after])


def _against(result: Result, name: str) -> str:
    """Return jshm's time, or how many times that somebody else takes."""
    own = result.seconds[JSHM]
    if name == JSHM:
        return f"**{_duration(own)}**"
    return f"{_ratio(result.seconds[name] / own)} ×" if name in result.seconds else "–"


def ratios(results: Sequence[Result]) -> str:
    """Return a table: jshm's times, and how many times as long (or short) all others take."""
    others = _contenders(results)
    rows = [
        [result.what, *(_against(result, name) for name in (JSHM, *others))] for result in results
    ]
    return _table(["", "jshm", *others], rows)


def medians(results: Sequence[Result]) -> str:
    """Return a table of the median times."""
    others = [JSHM, *_contenders(results)]
    rows = [
        [result.what]
        + [_duration(result.seconds[n]) if n in result.seconds else "–" for n in others]
        for result in results
    ]
    return _table(["", *others], rows)


def targets(results: Sequence[Result]) -> str:
    """Return a table of what was to be reached."""
    rows = [
        [result.what, target.text, f"{target.value:.3g}", "yes" if target.reached else "**no**"]
        for result in results
        for target in result.targets
    ]
    return _table(["", "to reach", "measured", "reached"], rows)


def calls(counts: Sequence[Calls]) -> str:
    """Return a table of the calls that operations take."""
    rows = [
        [c.what, *map(str, (c.python, c.crossings, c.files, c.others, c.builtin))] for c in counts
    ]
    head = [
        "",
        "Python calls in jshm",
        "from file to file",
        "files",
        "Python calls elsewhere",
        "C calls",
    ]
    return _table(head, rows)


def _contenders(results: Iterable[Result]) -> list[str]:
    found = dict.fromkeys(name for result in results for name in result.seconds)
    rest = [name for name in found if name not in (JSHM, LIMIT)]
    return [*([LIMIT] if LIMIT in found else []), *rest]


def _duration(seconds: float) -> str:
    """Return a time, in µs with one more digit than people are told elsewhere."""
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-4 else duration_text(seconds)


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
