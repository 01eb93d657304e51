"""Many at once, for seconds; ``make torture`` does it for minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .runner import MOST_LOG, Plan, storm

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "plan",
    [
        Plan(names=20, seconds=2.0, seed=1),
        Plan(names=1000, seconds=2.0, threads=3, releasing=True, kills=4, seed=2),
    ],
    ids=["no update is lost", "killed"],
)
@pytest.mark.xdist_group("storms")
def test_no_update_is_lost_torn_or_left_over(store_dir: str, tmp_path: Path, plan: Plan) -> None:
    report = storm(plan, tmp_path)
    assert report.failures == []
    assert report.operations > 200
    assert report.publishes > 50
    assert report.log < MOST_LOG
