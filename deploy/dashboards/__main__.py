"""Write the dashboard and the alerts where compose and the chart find them."""

from pathlib import Path

import yaml
from deploy.dashboards import alerts, grafana

FILES = Path(__file__).parents[1] / "helm" / "steersman" / "files"


def main() -> None:
    """Write both files."""
    rules = yaml.safe_dump(alerts.document(), sort_keys=False, width=100)
    (FILES / "alerts.yaml").write_text(rules)
    (FILES / "dashboard.json").write_text(grafana.encoded())


if __name__ == "__main__":
    main()
