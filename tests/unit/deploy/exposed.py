"""Metrics that a server exposes: its own from a registry, vLLM's from vLLM's source."""

import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator, metrics

from steersman.digests import digests
from steersman.following import Follower
from steersman.observe.metrics import Metrics
from steersman.reward.rewards import Rewards
from steersman.steering.admission import Admission
from steersman.thinking.entropies import TokenEntropies
from tests.unit.reward.made_up import MadeUp

if TYPE_CHECKING:
    from steersman.steering.desk import Desk

ENDINGS = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
"""Endings of the names of a metric's series, by type."""
EVERY = frozenset(("job", "instance", "namespace"))
"""Labels that Prometheus gives to every series, the last one in a cluster."""

Series = dict[str, frozenset[str]]
"""Names of series, each with its labels."""


def series() -> Series:
    """All series of a server with steering, scraped by Prometheus."""
    return {"up": EVERY, **ours(), **vllm(), **http()}


def ours() -> Series:
    """Series of Steersman's own metrics."""
    registry = _Recording()
    desk = cast("Desk", SimpleNamespace(admission=Admission(1)))
    rewards = Rewards({"length": MadeUp()})
    Metrics(registry, desk, rewards, lambda: digests(None, {}), Follower())
    return dict(registry.found())


def vllm() -> Series:
    """Series of vLLM's metrics, as the installed version's source declares them."""
    package = find_spec("vllm")
    assert package is not None
    assert package.submodule_search_locations is not None
    source = Path(package.submodule_search_locations[0], "v1", "metrics", "loggers.py")
    return dict(_declared(ast.parse(source.read_text())))


class _Recording(CollectorRegistry):
    """A registry that remembers what is registered and never collects."""

    def __init__(self) -> None:
        super().__init__()
        self._metrics: list[Any] = []

    def register(self, collector: Collector) -> None:
        self._metrics.append(collector)

    def found(self) -> Iterator[tuple[str, frozenset[str]]]:
        for metric in self._metrics:
            if isinstance(metric, MetricWrapperBase):
                yield from _series(metric._name, metric._type, metric._labelnames)
            else:
                if isinstance(metric, TokenEntropies):
                    metric.observe(("x",) * 3, np.ones(1))  # without any it shows no labels
                samples = (sample for family in metric.collect() for sample in family.samples)
                yield from ((sample.name, EVERY | set(sample.labels)) for sample in samples)


def http() -> Series:
    """Series of vLLM's instrumented routes."""
    registry = _Recording()
    Instrumentator(registry=registry).add(metrics.default(registry=registry))
    return dict(registry.found())


def _declared(tree: ast.Module) -> Iterator[tuple[str, frozenset[str]]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        kind = node.func.attr.removeprefix("_").removesuffix("_cls")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if kind in ENDINGS and isinstance(name := given.get("name"), ast.Constant):
            yield from _series(name.value, kind, _labels(given["labelnames"]))


def _labels(expression: ast.expr) -> Iterator[str]:
    """Labels that a list of names has, in vLLM's ways to write one."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant):
            yield node.value
        elif isinstance(node, ast.Name) and node.id == "labelnames":
            yield from ("model_name", "engine")


def _series(name: str, kind: str, labels: Iterable[str]) -> Iterator[tuple[str, frozenset[str]]]:
    every = EVERY.union(labels, ("le",) if kind == "histogram" else ())
    if kind == "counter":
        name = name.removesuffix("_total")
    return ((name + ending, every) for ending in ENDINGS[kind])
