"""A short run of what ``make torture`` does at length: random operations while the disk fills."""

from __future__ import annotations

import pytest

from ...support.full_disk import CannotMountError
from .torture import PLACES, Place, trial


@pytest.mark.parametrize("place", PLACES[1::2], ids=lambda place: place.what)
def test_random_operations_while_others_take_the_room(place: Place) -> None:
    try:
        found = trial(place, seed=5, operations=72)
    except CannotMountError as error:
        pytest.skip(f"a tmpfs cannot be mounted here: {error}")
    assert found.failures == []
    assert found.operations >= 72
