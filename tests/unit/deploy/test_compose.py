"""Compose's services, and what they mount and are asked for by, fit together."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = read("compose.yaml")["services"]
    return found


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    named = read("compose.yaml")["volumes"]
    for service in services.values():
        for source in (volume.split(":")[0] for volume in service["volumes"]):
            assert source in named or (source.startswith("./") and (DEPLOY / source).exists())


def test_prometheus_scrapes_the_server(services: dict[str, Any]) -> None:
    configuration = read("prometheus/prometheus.yaml")
    (scraped,) = configuration["scrape_configs"]
    (target,) = scraped["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in services
    assert services[host]["ports"][0].endswith(f":{port}")
    mounted = {volume.split(":")[1] for volume in services["prometheus"]["volumes"]}
    (rules,) = configuration["rule_files"]
    assert {"/etc/prometheus/prometheus.yml", f"/etc/prometheus/{rules}"} <= mounted
    (key,) = services["prometheus"]["configs"]
    assert key["target"] == f"/etc/prometheus/{scraped['authorization']['credentials_file']}"
    assert read("compose.yaml")["configs"][key["source"]]["content"] == "${API_KEY:-none}"


def test_grafana_reads_prometheus_and_the_dashboard(services: dict[str, Any]) -> None:
    (source,) = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert services[host]["ports"][0].endswith(f":{port}")
    (provider,) = read("grafana/provisioning/dashboards/steersman.yaml")["providers"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert any(path.startswith(f"{provider['options']['path']}/") for path in mounted)


def test_the_server_is_left_the_time_to_drain(services: dict[str, Any]) -> None:
    server = services["steersman"]
    (drained,) = (
        one.partition("=")[2] for one in server["command"] if one.startswith("--shutdown-timeout=")
    )
    assert int(server["stop_grace_period"].removesuffix("s")) > int(drained) > 0


def test_only_the_server_can_be_opened_to_others(services: dict[str, Any]) -> None:
    for name, service in services.items():
        (port,) = service["ports"]
        assert port.startswith("${PORT:-127.0.0.1:" if name == "steersman" else "127.0.0.1:")


def test_prometheus_takes_the_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    shutil.copy(DEPLOY / "prometheus" / "prometheus.yaml", tmp_path)
    shutil.copy(DEPLOY / "helm" / "steersman" / "files" / "alerts.yaml", tmp_path)
    (tmp_path / "key").write_text("none")
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
