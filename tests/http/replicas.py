"""Two servers behind vLLM's router, as one."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.local import free_port
from tests.http.server import ForkedServer, Server

if TYPE_CHECKING:
    import subprocess

ROUTER = os.environ.get("STEERSMAN_ROUTER", "vllm-router")
"""Its program; `make test-scale` installs it."""
_REPLICAS = 2


class Replicas(Server):
    """Servers of the same command, and a router that sends a prompt to the one that knows it.

    Attributes:
        each: The servers.

    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(command, log, environment)
        self.each = [
            ForkedServer(command, log.with_stem(f"{log.stem}-{number}"), environment)
            for number in range(_REPLICAS)
        ]

    def start(self) -> None:
        for replica in self.each:
            replica.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        for replica in self.each:
            replica.stop()

    def _launch(self) -> "subprocess.Popen[bytes]":
        command = [
            ROUTER,
            *("--host", "127.0.0.1"),
            *("--port", str(self.port)),
            *("--worker-urls", *(replica.url for replica in self.each)),
            *("--policy", "cache_aware"),
            *("--prometheus-port", str(free_port())),
            *("--health-check-interval-secs", "1"),
        ]
        return self._run(command)

    def _samples(self, name: str) -> Iterator[tuple[set[str], float]]:
        for replica in self.each:
            if replica.running:
                yield from replica._samples(name)
