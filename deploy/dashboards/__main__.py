"""Write the dashboard and the alerts where compose and the chart find them."""

from pathlib import Path

import yaml
from deploy.dashboards import alerts, grafana

FILES = Path(__file__).parents[1] / "helm" / "steersman" / "files"

(FILES / "dashboard.json").write_text(grafana.encoded())
(FILES / "alerts.yaml").write_text(yaml.safe_dump(alerts.document(), sort_keys=False, width=100))
