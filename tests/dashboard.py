"""The dashboard as Grafana reads it: panels and queries of the JSON file that is committed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILES = ROOT / "deploy" / "helm" / "steersman" / "files"
DASHBOARD = FILES / "dashboard.json"


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the file.

    Attributes:
        title: Heading.
        row: Heading of the row that it stands in.
        kind: Grafana's name of what draws it.
        unit: Grafana's name of the unit.
        stacked: The lines stand on top of each other.
        queries: PromQL with variables, by the template of the legend.

    """

    title: str
    row: str
    kind: str
    unit: str
    stacked: bool
    queries: Mapping[str, str]


def panels(path: Path = DASHBOARD) -> Iterator[Panel]:
    """The panels, from top to bottom."""
    row = ""
    for panel in _flat(json.loads(path.read_text())["panels"]):
        if panel["type"] == "row":
            row = panel["title"]
            continue
        defaults = panel["fieldConfig"]["defaults"]
        stacking = defaults.get("custom", {}).get("stacking", {})
        yield Panel(
            panel["title"],
            row,
            panel["type"],
            defaults["unit"],
            stacking.get("mode") == "normal",
            {target["legendFormat"]: target["expr"] for target in panel["targets"]},
        )


def _flat(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _flat(panel.get("panels") or [])


def filled(expression: str, interval: str) -> str:
    """A query with every job and instance, and rates over this interval."""
    for variable, value in {
        "$job": ".*",
        "$instance": ".*",
        "$__rate_interval": interval,
    }.items():
        expression = expression.replace(variable, value)
    return expression
