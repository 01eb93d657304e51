"""The README's chart: how many times jshm's time the others take, as an SVG that is drawn by hand.

It brings its own background, for light and for dark pages: where a page and a reader's system disagree
it is a card, and still readable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from jshm.text import duration_text

from .measure import JSHM, LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .measure import Result

KEY = "exchange"
"""Of the result that is drawn."""
_WIDTH, _LEFT, _RIGHT = 840, 190, 120
_TOP, _ROW, _BAR, _FOOT = 92, 30, 18, 52
_STEPS = (1, 2, 5)
_STYLE = """
  text { font: 14px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328;
    paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
  .card { fill: #ffffff; stroke: #d1d9e0 }
  .title { font-size: 17px; font-weight: 600 }
  .quiet { fill: #59636e; font-size: 12px }
  .grid { stroke: #d1d9e0 }
  .other { fill: #a3b1c2 }
  .jshm { fill: #0969da }
  .limit { stroke: #bc4c00; stroke-width: 2; stroke-dasharray: 5 3 }
  .limit-text { fill: #bc4c00; font-size: 12px }
  .first { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; stroke: #0d1117 }
    .card { fill: #0d1117; stroke: #3d444d }
    .quiet { fill: #9198a1 }
    .grid { stroke: #2a313c }
    .other { fill: #59677a }
    .jshm { fill: #4493f8 }
    .limit { stroke: #f0883e }
    .limit-text { fill: #f0883e }
  }
"""


def draw(results: Sequence[Result], note: str) -> str:
    """Return the SVG of the result whose key is `KEY`.

    Parameters
    ----------
    results : sequence of Result
    note : str
        Where and how it was measured.

    Raises
    ------
    LookupError
        It was not measured.
    """
    result = next((each for each in results if each.key == KEY), None)
    if result is None:
        raise LookupError("nothing to draw: measure the theme 'exchange', too")
    lines = _lines(result, note)
    return "\n".join(lines) + "\n"


def _lines(result: Result, note: str) -> Iterator[str]:
    own = result.seconds[JSHM]
    ratios = {name: seconds / own for name, seconds in result.seconds.items()}
    limit = ratios.pop(LIMIT, None)
    names = sorted(ratios, key=lambda name: (name != JSHM, ratios[name]))
    axis = _Axis([*ratios.values(), limit or 1.0])
    bottom = _TOP + _ROW * len(names)
    height = bottom + _FOOT
    title = result.title[0].upper() + result.title[1:]
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="title">'
    )
    yield f'<title id="title">{escape(title)}: how many times as long as jshm</title>'
    yield f"<style>{_STYLE}</style>"
    yield (f'<rect class="card" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>')
    yield _text(20, 32, title, "title")
    yield _text(
        20, 53, "How many times jshm's time it takes (logarithmic, shorter is better)", "quiet"
    )
    for tick in axis.ticks():
        x = axis.x(tick)
        yield _line(x, _TOP - 4, bottom + 2, "grid")
        yield _text(x, bottom + 18, f"{tick:g} ×", "quiet", "middle")
    for row, name in enumerate(names):
        yield from _bar(axis, _TOP + row * _ROW, name, ratios[name], result.seconds[name])
    if limit is not None:
        x = axis.x(limit)
        yield _line(x, _TOP - 8, bottom + 2, "limit")
        what = f"physical limit: a copy into warm memory, {_ratio(limit)}"
        yield _text(x, _TOP - 13, what, "limit-text")
    yield _text(20, height - 14, note, "quiet")
    yield "</svg>"


def _bar(axis: _Axis, y: float, name: str, ratio: float, seconds: float) -> Iterator[str]:
    middle = y + _ROW / 2 + 5
    own = name == JSHM
    style = "first" if own else ""
    yield _text(_LEFT - 10, middle, name, style, "end")
    yield (
        f'<rect class="{"jshm" if own else "other"}" x="{_LEFT}" y="{y + (_ROW - _BAR) / 2}" '
        f'width="{axis.x(ratio) - _LEFT:.1f}" height="{_BAR}" rx="3"/>'
    )
    label = f"{_ratio(ratio)} · {duration_text(seconds)}"
    yield _text(axis.x(ratio) + 8, middle, label, style)


class _Axis:
    """From a ratio to a place."""

    def __init__(self, ratios: Sequence[float]) -> None:
        # A bar needs some length, and the first one is 1.
        self._first = min(0.5, 0.8 * min(ratios))
        self._last = max(*ratios, 2.0)

    def x(self, ratio: float) -> float:
        share = math.log(ratio / self._first) / math.log(self._last / self._first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self._first)), math.ceil(math.log10(self._last)) + 1)
        ticks = [step * 10.0**power for power in powers for step in _STEPS]
        return [tick for tick in ticks if self._first <= tick <= self._last]


def _ratio(value: float) -> str:
    return f"{value:.2f} ×" if value < 10 and value != 1 else f"{value:,.0f} ×"


def _line(x: float, top: float, bottom: float, style: str) -> str:
    return f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
