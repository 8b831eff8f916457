"""The dashboard that is committed is the one that the code makes."""

import json

import pytest

pytest.importorskip("grafana_foundation_sdk", reason="make test-deploy has what this needs")

from deploy.dashboards import grafana
from deploy.dashboards.__main__ import FILES
from deploy.dashboards.panels import ROWS


def test_the_committed_dashboard_is_that_of_the_code() -> None:
    assert (FILES / "dashboard.json").read_text() == grafana.encoded(), "make dashboards"


def test_panels_do_not_overlap() -> None:
    panels = json.loads(grafana.encoded())["panels"]
    assert len(panels) == len(ROWS) + sum(len(row.panels) for row in ROWS)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert max(columns) < 24
        assert not cells & taken
        taken |= cells
