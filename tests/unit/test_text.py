"""Sizes, ages and durations as people read them, and caches of results for text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jshm.text import age_text, cached_by_text, duration_text, size_text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1, "1 B"), (999, "999 B"), (1000, "1.0 kB"), (8_000_000, "8.0 MB"),
     (999_949, "999.9 kB"), (999_950, "1.0 MB"), (1 << 30, "1.1 GB"), (4 * 10**12, "4.0 TB"),
     (5 * 10**20, "500000.0 PB")],
)  # fmt: skip
def test_sizes(nbytes: int, text: str) -> None:
    assert size_text(nbytes) == text


@given(st.integers(0, 10**18))
def test_a_size_is_near_and_short(nbytes: int) -> None:
    number, unit = size_text(nbytes).split()
    scale = 1000 ** ["B", "kB", "MB", "GB", "TB", "PB"].index(unit)
    assert abs(float(number) * scale - nbytes) <= 0.0501 * scale
    assert float(number) < 1000 or unit == "PB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3e-5, "30 µs"), (0, "1 µs"), (2.1e-3, "2.1 ms"), (0.0123, "12 ms"), (0.0996, "100 ms"),
     (0.25, "250 ms"), (1.25, "1.2 s"), (41, "41 s"), (119, "119 s"), (120, "2 min"), (3600, "60 min"),
     (7200, "2 h"), (86400 * 3, "3 days")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.floats(1e-6, 1e9))
def test_a_duration_is_near_and_readable(seconds: float) -> None:
    match = re.fullmatch(r"([0-9.]+) (µs|ms|s|min|h|days)", duration_text(seconds))
    assert match
    unit = {"µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "days": 86400}[match[2]]
    near = float(match[1]) * unit
    assert abs(near - seconds) <= max(0.051 * seconds, 0.51 * unit if unit != 1 else 0)


@pytest.mark.parametrize(
    ("ago", "text"),
    [(0, "just now"), (-5, "just now"), (5, "5"), (150, "2 min ago"), (90000, "25 h")],
)
def test_ages(monkeypatch: pytest.MonkeyPatch, ago: float, text: str) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert age_text(1e9 - ago).startswith(text)


def test_of_long_text_only_a_few_results_are_cached() -> None:
    calls = []

    @cached_by_text(100)
    def parse(text: str, number: int) -> int:
        calls.append(text)
        return number

    for length, kept in ((10, True), (10_000, False)):
        texts = [f"{i}".rjust(length) for i in range(50)]
        for text in texts:
            parse(text, 1)
        calls.clear()
        assert [parse(text, 1) for text in texts] == [1] * 50
        assert (calls == []) == kept
