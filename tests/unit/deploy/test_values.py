"""Values files of the chart: what the schema allows, and arguments that the server knows."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from steersman import cli
from tests.deploy.values import merge

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm" / "steersman"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
FILES = sorted(CHART.glob("values-*.yaml"))


def values(*paths: Path) -> dict[str, Any]:
    """The chart's values with these files on top."""
    merged: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in paths:
        merge(merged, yaml.safe_load(path.read_text()))
    return merged


@pytest.mark.parametrize("files", [(), *((path,) for path in FILES)], ids=str)
def test_the_schema_takes_the_values(files: tuple[Path, ...]) -> None:
    jsonschema.validate(values(*files), SCHEMA)


def test_every_value_has_a_schema() -> None:
    def missing(given: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
        known = schema.get("properties")
        if known is None:
            return []
        absent = [f"{path}{key}" for key in known if key not in given and key != "global"]
        for key, value in given.items():
            if isinstance(value, dict):
                absent += missing(value, known[key], f"{path}{key}.")
        return absent

    assert missing(values(), SCHEMA) == ["resources.claims"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 2},
        {"drain": {"announceSeconds": 10, "seconds": 0}},
        {"multiNode": {"enabled": True}},
        {"replicaCount": 2, "cache": {"persistent": True, "accessModes": ["ReadWriteOnce"]}},
        {"autoscaling": {"enabled": True}, "cache": {"persistent": True}},
        {"replicaCount": 2, "controls": {"enabled": True, "accessModes": ["ReadWriteOnce"]}},
        {"queue": {"maxRequests": 0}},
        {"tracing": {"endpoint": "http://collector"}},
    ],
    ids=str,
)
def test_the_schema_refuses_wrong_values(wrong: dict[str, Any]) -> None:
    given = values()
    merge(given, wrong)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(given, SCHEMA)


def test_a_claim_of_ones_own_is_not_looked_into() -> None:
    given = values()
    merge(given, {"replicaCount": 2, "cache": {"persistent": True, "existingClaim": "mine"}})
    jsonschema.validate(given, SCHEMA)


def options(text: str) -> set[str]:
    """Long options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Options of `steersman serve`, vLLM's included."""
    parser = make_arg_parser(FlexibleArgumentParser())
    ours = {f"--{name.replace('_', '-')}" for name in inspect.signature(cli.serve).parameters}
    return ours | set(parser._option_string_actions)


def test_the_server_knows_its_arguments(known: set[str]) -> None:
    template = (CHART / "templates" / "_pod.tpl").read_text()
    passed = options(template)
    for path in (CHART / "values.yaml", *FILES):
        passed |= options(" ".join(yaml.safe_load(path.read_text()).get("args", ())))
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    passed |= options(" ".join(compose["services"]["steersman"]["command"]))
    assert {"--shutdown-timeout", "--vectors", "--max-model-len"} <= passed
    assert passed <= known
