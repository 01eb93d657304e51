"""A real JupyterHub stops a server; ``make torture`` tries all other ways to stop one."""

from __future__ import annotations

import pytest

from . import hub as hubs
from . import torture


@pytest.mark.skipif(bool(hubs.missing()), reason=hubs.missing())
def test_a_server_that_a_hub_stops_leaves_nothing() -> None:
    with hubs.hub() as hub:
        hub.start(hub.ada)
        hub.run(hub.ada, "kept.ipynb", torture.KEEP)
        assert torture.share(hub, hub.ada) > 1e8
        hub.stop(hub.ada)
        assert len(hubs.left(hub.ada)) == 1
