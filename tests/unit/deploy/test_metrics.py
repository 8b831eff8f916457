"""Dashboard and alerts ask for metrics that a server exposes, by labels that these have."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.dashboards.alerts import ALERTS
from deploy.dashboards.panels import ROWS

from tests import dashboard
from tests.unit.deploy import exposed

ROOT = Path(__file__).parents[3]
ADAPTER = ROOT / "deploy" / "prometheus" / "adapter.yaml"

QUERIES = {
    f"{row.title}: {panel.title}, {query.legend}": query
    for row in ROWS
    for panel in row.panels
    for query in panel.queries
}
EXPRESSIONS = {
    **{title: query.expression for title, query in QUERIES.items()},
    **{alert.name: alert.expression for alert in ALERTS},
}
NAME = re.compile(r"\b(?:steersman_\w+|vllm:\w+|http_\w+|up\b)")
LABELS = (re.compile(r"\b(?:by|on) \(([\w, ]+)\)"), re.compile(r"(\w+)(?:=~|!~|!=|=)\""))


@pytest.fixture(scope="module")
def series() -> exposed.Series:
    return exposed.series()


def names(expression: str) -> set[str]:
    """Names of the series that an expression reads."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def labels(expression: str) -> set[str]:
    """Labels that an expression selects or groups by."""
    found = (match for pattern in LABELS for match in pattern.findall(expression))
    return {label.strip() for match in found for label in match.split(",")}


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_queries_name_what_a_server_exposes(title: str, series: exposed.Series) -> None:
    wanted = names(EXPRESSIONS[title])
    assert wanted
    assert wanted <= series.keys()
    known = frozenset.union(*(series[name] for name in wanted))
    assert labels(EXPRESSIONS[title]) <= known


@pytest.mark.parametrize("title", QUERIES)
def test_legends_name_labels_that_the_query_keeps(title: str) -> None:
    query = QUERIES[title]
    assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= labels(query.expression)


def test_the_reader_of_names_finds_wrong_ones(series: exposed.Series) -> None:
    expression = 'sum by (kind) (rate(steersman_token_total{job="up"}[5m])) / vllm:gone'
    assert names(expression) == {"steersman_token_total", "vllm:gone"}
    assert labels(expression) == {"kind", "job"}
    assert not names(expression) & series.keys()


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    asked = set().union(*(names(query.expression) for query in QUERIES.values()))
    histograms = {name.removesuffix("_bucket") for name in asked if name.endswith("_bucket")}
    hidden = {
        name
        for name in exposed.ours()
        if name not in asked and name.removesuffix("_sum").removesuffix("_count") not in histograms
    }
    assert not hidden


def test_the_autoscaler_asks_for_a_metric_of_vllm(series: exposed.Series) -> None:
    (rule,) = yaml.safe_load(ADAPTER.read_text())["rules"]["custom"]
    (name,) = NAME.findall(rule["seriesQuery"])
    assert name in series
    assert rule["name"]["as"] == name.replace(":", "_")


def test_the_committed_dashboard_has_these_queries() -> None:
    shown = [query for panel in dashboard.panels() for query in panel.queries.values()]
    assert shown == [query.expression for query in QUERIES.values()]


VALUES = {
    "kind": ("sampled", "returned", "cancelled", "lost"),
    "outcome": ("ok", "error"),
    "le": ("1", "+Inf"),
    "job": ("steersman",),
}
"""Values of labels that queries ask for; any other label has one."""


def scraped(name: str, own: frozenset[str]) -> Iterator[str]:
    """Series of one name, over the values of its labels."""
    found = [f"{name}{{"]
    for label in sorted(own):
        found = [f'{one}{label}="{value}",' for one in found for value in VALUES.get(label, ("x",))]
    return (f"{one.rstrip(',')}}}" for one in found)


def test_every_query_returns_data(series: exposed.Series, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")

    def asked(expression: str) -> dict[str, Any]:
        return {
            "expr": f"count({dashboard.filled(expression, '5m')}) > bool 0",
            "eval_time": "1h",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }

    def passes(*expressions: str) -> subprocess.CompletedProcess[str]:
        every = [one for name, own in series.items() for one in scraped(name, own)]
        test = {
            "interval": "1m",
            "input_series": [{"series": one, "values": "1+5x60"} for one in every],
            "promql_expr_test": [asked(expression) for expression in expressions],
        }
        file = tmp_path / "queries.yaml"
        file.write_text(yaml.safe_dump({"tests": [test]}))
        return subprocess.run(
            [promtool, "test", "rules", file], capture_output=True, text=True, check=False
        )

    good = passes(*(query.expression for query in QUERIES.values()))
    assert good.returncode == 0, good.stdout + good.stderr
    assert passes('steersman_tokens_total{kind="wrong"}').returncode != 0
