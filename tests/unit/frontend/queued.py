"""An engine client that counts requests as vLLM does."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from vllm.exceptions import GracefulHTTPError
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams

from tests.unit.frontend.scripted import ScriptedClient


class Vllm(ScriptedClient):
    """vLLM's client: it looks for room when it is asked to, and again when a request begins, and
    counts from then on.

    Args:
        room: Engine requests that it takes.
        prefilling: Engine requests without a token at which it takes no more; None for no limit.

    """

    def __init__(self, room: int, prefilling: int | None = None) -> None:
        super().__init__(length=2)
        self.room = room
        self.prefilling = prefilling
        self.running: list[str] = []
        self.begun: list[str] = []
        self.go = asyncio.Event()

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        if len(self.running) + n > self.room:
            raise GracefulHTTPError("the queue is full", 503)
        if self.prefilling is not None and len(self.running) >= self.prefilling:
            raise GracefulHTTPError("too many tokens are queued", 503)

    def begin(self, request_id: str, n: int = 1) -> None:
        self.check_admission(n, request_id)
        self.running += [request_id] * n
        self.begun += [request_id] * n

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        self.begin(request_id, params.n)
        try:
            await self.go.wait()
            async for output in super().generate(prompt, params, request_id, **options):
                yield output
        finally:
            self.running = [one for one in self.running if one != request_id]

    def begun_of(self, request_id: str) -> int:
        """Engine requests of an HTTP request that have begun."""
        return sum(one.startswith(request_id) for one in self.begun)


async def settle() -> None:
    """Let all tasks come as far as they do."""
    for _ in range(50):
        await asyncio.sleep(0)
