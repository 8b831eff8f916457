"""Manifests that Helm renders are valid for Kubernetes, with each of the values files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

helm = pytest.importorskip("helm_python", reason="make test-deploy has what this needs")

import jsonschema
import kubernetes_validate
import yaml

from tests.deploy.rendered import CHART, SETUPS, manifests, values

KUBERNETES = ("1.28", "1.34")
"""Versions whose schemas the manifests are checked against: the oldest allowed, and a newer one."""
CUSTOM = {"HTTPRoute", "InferencePool", "LeaderWorkerSet", "PrometheusRule", "ServiceMonitor"}
"""Kinds of other projects. Their schemas are in the directory that CRDS names, if it does."""
CRDS = os.environ.get("CRDS")


def schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """Schemas of the custom kinds in the directory, by kind and version."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in Path(CRDS or "").glob("*.yaml"):
        for definition in yaml.safe_load_all(path.read_text()):
            if definition is None or definition["kind"] != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                name = f"{spec['group']}/{version['name']}"
                found[spec["names"]["kind"], name] = version["schema"]["openAPIV3Schema"]
    return found


def closed(schema: Any) -> Any:
    """The schema with no fields allowed but those that it names."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        result.setdefault("additionalProperties", bool(open_ended))
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    return result


@pytest.mark.parametrize("setup", SETUPS)
def test_lint(setup: str) -> None:
    report = helm.lint(str(CHART), values(setup), strict=True)
    worse_than_a_hint = [one for one in report["messages"] if one["severity"] > 1]
    assert report["total_charts_linted"] == 1
    assert (report["errors"], worse_than_a_hint) == ([], [])


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("setup", SETUPS)
def test_kubernetes_takes_the_manifests(setup: str, version: str) -> None:
    checked = [one for one in manifests(setup) if one["kind"] not in CUSTOM]
    assert checked
    for manifest in checked:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_kubernetes_refuses_a_wrong_field() -> None:
    (manifest,) = (one for one in manifests("default") if one["kind"] == "Deployment")
    wrong = manifest | {"spec": manifest["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def custom() -> Iterator[tuple[str, dict[str, Any]]]:
    for setup in SETUPS:
        for manifest in manifests(setup):
            if manifest["kind"] in CUSTOM:
                yield setup, manifest


def test_every_custom_kind_is_rendered() -> None:
    assert {manifest["kind"] for _, manifest in custom()} == CUSTOM


@pytest.mark.skipif(not CRDS, reason="CRDS names no directory with the custom kinds' definitions")
def test_custom_kinds_take_the_manifests() -> None:
    known = schemas()
    for setup, manifest in custom():
        schema = closed(known[manifest["kind"], manifest["apiVersion"]])
        schema["properties"]["metadata"] = {"type": "object"}
        validator = jsonschema.Draft202012Validator(schema)
        errors = [
            f"{setup}: {error.json_path}: {error.message}"
            for error in validator.iter_errors(manifest)
        ]
        assert not errors
        assert not validator.is_valid(manifest | {"spec": manifest["spec"] | {"wrong": 1}})
