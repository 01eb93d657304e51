"""Range, mean and distribution of a sample of numbers, ready for JSON.

Infinities and NaN are left out: JSON has no form for them, and a picture cannot show them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_BINS = 64


def as_floats(values: np.ndarray[Any, Any]) -> Floats:
    """Return numbers, booleans or times as floats; complex numbers as their magnitude."""
    with np.errstate(all="ignore"):
        if values.dtype.kind in "mM":
            steps = values.astype(values.dtype.newbyteorder("=")).view(np.int64)
            return np.where(np.isnat(values), np.nan, steps.astype(np.float64))
        if values.dtype.kind == "c":
            # The magnitude of a complex number with one NaN may be infinite.
            return np.where(np.isnan(values), np.nan, np.abs(values)).astype(np.float64)
        return values.astype(np.float64)


def no_stats() -> dict[str, Any]:
    """Return the `Stats` of an empty array."""
    stats = dict.fromkeys(("min", "max", "mean"))
    return {**stats, "nan": 0, "count": 0, "total": 0, "exact": True}


def stats(values: np.ndarray[Any, Any], total: int) -> dict[str, Any]:
    """Return the `Stats` of the finite numbers; of complex numbers, of their magnitude."""
    kind = values.dtype.kind
    looked_at = values if kind in "iu" else as_floats(values)
    known = looked_at if kind in "biu" else looked_at[np.isfinite(looked_at)]
    found: dict[str, Any] = {
        **no_stats(),
        "nan": 0 if kind in "biu" else int(np.isnan(looked_at).sum()),
        "count": values.size,
        "total": total,
        "exact": values.size == total,
    }
    if known.size:
        found |= {"min": known.min().item(), "max": known.max().item(), "mean": _mean(known)}
    if infinite := values.size - known.size - found["nan"]:
        found["infinite"] = infinite
    if kind == "c":
        found["of"] = "magnitude"
    return found


def _mean(values: np.ndarray[Any, Any]) -> float:
    with np.errstate(all="ignore"):
        mean = float(values.mean(dtype=np.float64))
    # The sum of large numbers may be infinite.
    return mean if math.isfinite(mean) else float((values / values.size).sum())


def extent(values: Floats) -> tuple[float, float]:
    """Return the lowest and the highest finite number; zeros if no number is finite."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def scaled(values: Floats, low: float, high: float) -> Floats:
    """Return numbers scaled from `low`…`high` to 0…1; 0 if the bounds are equal."""
    # Halves, because the difference of large numbers may be infinite.
    width = high / 2 - low / 2
    with np.errstate(all="ignore"):
        return (values / 2 - low / 2) / width if width > 0 else values * 0.0


def envelope(values: Floats, starts: list[int]) -> tuple[list[float | None], list[float | None]]:
    """Return the lowest and the highest finite number of each stretch; None if it has none."""
    finite = np.where(np.isinf(values), np.nan, values)
    edges = [function.reduceat(finite, starts).tolist() for function in (np.fmin, np.fmax)]
    low, high = ([None if math.isnan(x) else x for x in edge] for edge in edges)
    return low, high


def histogram(values: Floats, whole: bool) -> dict[str, Any] | None:
    """Return the number of finite numbers in each of equal bins; None if no number is finite.

    Whole numbers in a small range get one bin each.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = extent(finite)
    if whole and high - low < _BINS:
        bins = int(high - low) + 1
    else:
        bins = min(_BINS, math.isqrt(finite.size) + 1) if high / 2 > low / 2 else 1
    bin_of = np.minimum((scaled(finite, low, high) * bins).astype(np.int64), bins - 1)
    return {"counts": np.bincount(bin_of, minlength=bins).tolist(), "low": low, "high": high}
