"""The alerts that are committed, and the tests that promtool runs on them."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from deploy.dashboards import alerts

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy" / "helm" / "steersman" / "files" / "alerts.yaml"
TESTS = ROOT / "deploy" / "prometheus" / "alerts.test.yaml"


def test_the_committed_rules_are_those_of_the_code() -> None:
    assert yaml.safe_load(RULES.read_text()) == alerts.document(), "python -m deploy.dashboards"


def test_every_alert_is_tested_firing_and_quiet() -> None:
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {f"Steersman{alert.name}" for alert in alerts.ALERTS}
    assert {(name, fires) for name in names for fires in (True, False)} == set(cases)


@pytest.mark.parametrize(
    "command", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=["check", "test"]
)
def test_promtool(command: tuple[str | Path, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
