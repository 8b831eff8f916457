"""A server as a child process on this machine: for evaluation runs, benchmarks and tests."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import httpx
import psutil

START_SECONDS = 600.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.2


class ServerError(Exception):
    """The server did not come up; the message ends with the last lines of its log."""


class LocalServer:
    """One server process and all that it starts; ended with the `with` block.

    Args:
        command: The command line up to host and port, which are added.
        log: File that takes the output.
        environment: Variables laid over this process's own.

    Attributes:
        headers: HTTP headers of requests for metrics: a key, if the server wants one.

    """

    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self._command = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def steersman(
        cls,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """`steersman serve` with these arguments."""
        return cls([sys.executable, "-m", "steersman", "serve", *arguments], log, environment)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and wait until the server is healthy.

        Raises:
            ServerError: It ended before, or took longer than `START_SECONDS`.

        """
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if not self.running or time.monotonic() > deadline:
                self.stop()
                lines = self._log.read_text(errors="replace").splitlines()[-20:]
                raise ServerError("the server did not start:\n" + "\n".join(lines))
            time.sleep(_POLL_SECONDS)

    def launch(self) -> None:
        """Start, and wait for nothing."""
        self._process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the process."""
        return self._run(self._command)

    def _run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process as the leader of a session of its own."""
        with self._log.open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End the server and every process that it started."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, seconds: float) -> int:
        """The exit code of a server that ends by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    @property
    def process_id(self) -> int:
        """Of the server itself."""
        assert self._process is not None
        return self._process.pid

    def children(self) -> list[int]:
        """Process ids of everything that the server has started, its engine among them.

        They are known by their session, which the server leads: neither the end of a process
        between them nor a step of the machine's clock hides one.
        """
        return [pid for pid in psutil.pids() if pid != self.process_id and self._started(pid)]

    def _started(self, process_id: int) -> bool:
        try:
            return os.getsid(process_id) == self.process_id
        except ProcessLookupError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels; 0 if there are none."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        return sum(value for found, value in self._samples(name) if wanted <= found)

    def wait_for_metric(self, name: str, value: float, seconds: float, **labels: str) -> bool:
        """Wait some seconds for a metric to take this value; False if it does not."""
        deadline = time.monotonic() + seconds
        while self.metric(name, **labels) != value:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS / 4)
        return True

    def _samples(self, name: str) -> Iterator[tuple[set[str], float]]:
        sample = re.compile(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)$")
        page = httpx.get(f"{self.url}/metrics", headers=self.headers, timeout=30)
        for line in page.text.splitlines():
            if match := sample.match(line):
                yield set((match[1] or "").split(",")), float(match[2])

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
