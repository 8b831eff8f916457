"""The server under fire: whether it lives, what it holds, and how to begin anew."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import httpx
import psutil

from steersman.local import LocalServer

ARGUMENTS = (
    "reasoner",
    "--max-num-seqs=64",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    # Few blocks, so that what a request leaves in one is soon in another's hands.
    "--num-gpu-blocks-override=256",
)
_ENGINE = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
_BANK = ("steersman_steering_rows_in_use", "steersman_steering_waiting")
_IDLE_SECONDS = 20.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Memory:
    """Resident memory of the server's processes, some seconds after the start.

    Attributes:
        seconds: Since the start.
        by_process: Bytes of each process, by its name.

    """

    seconds: float
    by_process: Mapping[str, int]

    @property
    def resident(self) -> int:
        """Bytes of all."""
        return sum(self.by_process.values())

    def __str__(self) -> str:
        parts = (f"{name} {size >> 20}" for name, size in self.by_process.items())
        return f"{self.resident >> 20} MiB ({', '.join(parts)})"


class Target:
    """A server to ask.

    Args:
        server: The running server.
        key: An API key; None if it wants none.
        restarts: How often it may be started anew once it is dead or gives wrong answers.

    """

    def __init__(self, server: LocalServer, key: str | None = None, restarts: int = 0) -> None:
        self.server = server
        self.restarts = restarts
        self.memory: list[Memory] = []
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._started = time.monotonic()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.server.url, headers=self._headers, timeout=300)

    def async_client(self) -> httpx.AsyncClient:
        """A client that opens a connection for each request: one's end is nobody else's."""
        return httpx.AsyncClient(
            base_url=self.server.url,
            headers=self._headers,
            timeout=None,
            verify=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def dies(self, seconds: float) -> bool:
        """True if it is dead, or is so within some seconds."""
        deadline = time.monotonic() + seconds
        while await self._healthy():
            if time.monotonic() >= deadline:
                return False
            await anyio.sleep(_POLL_SECONDS)
        return True

    async def restart(self) -> None:
        """Begin anew.

        Raises:
            RuntimeError: It was started anew often enough.

        """
        if not self.restarts:
            raise RuntimeError("the server may not be started anew again")
        self.restarts -= 1
        await anyio.to_thread.run_sync(self.server.stop)
        await anyio.to_thread.run_sync(self.server.start)
        self.memory.clear()

    async def held(self) -> dict[str, float]:
        """Things that it still holds although it is idle, by metric; empty if none."""
        deadline = time.monotonic() + _IDLE_SECONDS
        while True:
            held = {name: await self._metric(name) for name in (*_ENGINE, *_BANK)}
            held = {name: value for name, value in held.items() if value}
            if not held or time.monotonic() > deadline:
                return held
            await anyio.sleep(_POLL_SECONDS)

    def weigh(self) -> None:
        """Note how much memory its processes have."""
        by_process: Counter[str] = Counter()
        for pid in (self.server.process_id, *self.server.children()):
            process = psutil.Process(pid)
            by_process[process.name()] += process.memory_info().rss
        self.memory.append(Memory(time.monotonic() - self._started, by_process))

    async def _healthy(self) -> bool:
        if not self.server.running:
            return False
        async with self.async_client() as http:
            try:
                return (await http.get("/health", timeout=10)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

    async def _metric(self, name: str) -> float:
        return await anyio.to_thread.run_sync(self.server.metric, name)
