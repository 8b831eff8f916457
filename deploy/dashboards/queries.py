"""Rows, panels and queries of a dashboard, and the PromQL that they are made of."""

from dataclasses import dataclass
from typing import Literal

SELECTED = 'job=~"$job",instance=~"$instance"'
"""Label matchers of the dashboard's variables; each query has them."""
RATE = "$__rate_interval"
"""Range of rates; Grafana fills in at least four scrapes."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expression: PromQL.
        legend: Name of each series, with labels in `{{ }}`.

    """

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Queries drawn together.

    Attributes:
        title: Heading.
        meaning: Sentence for the reader of the panel.
        queries: Series that it draws.
        unit: Grafana's name of the unit.
        kind: `lines` over time, or `number` for the latest values.
        stacked: Draw the lines on top of each other.

    """

    title: str
    meaning: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Literal["lines", "number"] = "lines"
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, *labels: str, where: str = "") -> str:
    """Rate of a counter in 1/s, summed over replicas and over all labels but these."""
    by = f" by ({', '.join(labels)})" if labels else ""
    matchers = f"{SELECTED},{where}" if where else SELECTED
    return f"sum{by} (rate({metric}{{{matchers}}}[{RATE}]))"


def total(metric: str, *labels: str) -> str:
    """Sum of a gauge over replicas and over all labels but these."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by} ({metric}{{{SELECTED}}})"


def different(metric: str, *labels: str) -> str:
    """Number of different values that replicas have, for each value of some labels."""
    by = f"by ({', '.join(labels)})"
    return f'count {by} (count_values {by} ("value", {metric}{{{SELECTED}}}))'


def quantile(q: float, histogram: str, *labels: str) -> str:
    """Quantile of a histogram over replicas, for each value of some labels."""
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', 'le', *labels)})"


def quantiles(histogram: str) -> tuple[Query, ...]:
    """Queries of a histogram's median, 95th and 99th percentile."""
    return tuple(Query(quantile(q, histogram), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99))


def share(part: str, whole: str) -> str:
    """Ratio of two rates; no data while the whole is 0."""
    return f"{part} / ({whole} > 0)"
