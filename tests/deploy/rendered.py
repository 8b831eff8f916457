"""The chart rendered by Helm, with the values files that are beside it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from tests.deploy.values import merge

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "steersman"
SETUPS: dict[str, tuple[str, ...]] = {
    "default": (),
    "one-gpu": ("one-gpu",),
    "replicas": ("replicas",),
    "inference-pool": ("replicas", "inference-pool"),
    "multi-node": ("multi-node",),
}
"""Ways to install the chart, each with its values files in order."""
NAMESPACE = "serving"

Manifest = dict[str, Any]


def values(setup: str, **more: Any) -> dict[str, Any]:
    """Values that a set-up gives to the chart, as Helm merges its files."""
    merged: dict[str, Any] = {}
    for name in SETUPS[setup]:
        merge(merged, yaml.safe_load((CHART / f"values-{name}.yaml").read_text()))
    merge(merged, more)
    return merged


def merged(setup: str) -> dict[str, Any]:
    """All values of a set-up, the chart's own defaults included."""
    every: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    merge(every, values(setup))
    return every


def render(given: dict[str, Any]) -> list[Manifest]:
    """Manifests of a release called `steersman`."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(given, name="steersman", namespace=NAMESPACE)
    documents = (yaml.safe_load_all(text) for path, text in files.items() if path.endswith(".yaml"))
    return [one for every in documents for one in every if one is not None]


@cache
def manifests(setup: str) -> list[Manifest]:
    """Manifests of a set-up."""
    return render(values(setup))


def of_kind(setup: str, kind: str) -> list[Manifest]:
    """Manifests of one kind."""
    return [one for one in manifests(setup) if one["kind"] == kind]


def pods(every: list[Manifest]) -> Iterator[Manifest]:
    """Templates of all pods, the router's included."""
    for one in every:
        if one["kind"] == "Deployment":
            yield one["spec"]["template"]
        elif one["kind"] == "LeaderWorkerSet":
            template = one["spec"]["leaderWorkerTemplate"]
            yield from (template["leaderTemplate"], template["workerTemplate"])


def servers(every: list[Manifest]) -> list[Manifest]:
    """Templates of the pods that serve."""
    return [pod for pod in pods(every) if component(pod) == "server"]


def component(pod: Manifest) -> str:
    """Part of the release that a pod is: server, worker or router."""
    name: str = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return name


def container(pod: Manifest) -> Manifest:
    """A pod's container."""
    (only,) = pod["spec"]["containers"]
    found: Manifest = only
    return found
