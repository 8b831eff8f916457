"""A real Prometheus that scrapes a server as compose's does."""

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from steersman.local import free_port
from tests.dashboard import FILES, ROOT

PROGRAM = shutil.which("prometheus")
"""None where it is not installed; Debian has it as `prometheus`."""
_CONFIGURATION = ROOT / "deploy" / "prometheus" / "prometheus.yaml"
_START_SECONDS = 60.0
_FIRST_SECONDS = 60.0


class Prometheus:
    """A Prometheus with compose's configuration and alerts, ended with the `with` block.

    Args:
        directory: An empty one, for its configuration and its data.
        target: Host and port of the server.
        key: API key of the server; None if it wants none.
        every: Seconds from one scrape to the next.

    """

    def __init__(self, directory: Path, target: str, key: str | None, every: int) -> None:
        self._directory = directory
        self._url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        document = yaml.safe_load(_CONFIGURATION.read_text())
        document["global"] = dict.fromkeys(document["global"], f"{every}s")
        (job,) = document["scrape_configs"]
        job["static_configs"] = [{"targets": [target]}]
        if key is None:
            del job["authorization"]
        else:
            (directory / job["authorization"]["credentials_file"]).write_text(key)
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(document))
        shutil.copy(FILES / "alerts.yaml", directory)

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        command = [
            PROGRAM,
            f"--config.file={self._directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
            "--log.level=warn",
        ]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._directory / "log").read_text())
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/-/ready").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str, **params: str | float) -> Any:
        """The data of an answer of its HTTP API."""
        response = httpx.get(f"{self._url}/api/v1/{path}", params=params, timeout=60)
        answer = response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def now(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Latest value of each series of a query, with its labels."""
        found = self.get("query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def first(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """The same, once there is any; empty if there is none within a minute."""
        deadline = time.monotonic() + _FIRST_SECONDS
        while not (found := self.now(expression)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def over(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        """Values of each series of a query between two times of the clock, in seconds."""
        found = self.get("query_range", query=expression, start=start, end=end, step=step)
        return [
            (one["metric"], [(time, float(value)) for time, value in one["values"]])
            for one in found["result"]
        ]
