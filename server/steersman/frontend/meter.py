"""`Meter`: vLLM's engine client, and what it samples for each key."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.engine.compat.requests import sampled_tokens
from steersman.keys.usage import PASS, Pass


class Meter:
    """A stand-in for the engine client, below everything that starts engine requests.

    Requests without a key, and those of keys without limits, go straight through.

    Args:
        engine: vLLM's engine client.

    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate; the tokens are charged to the key in scope as they come."""
        admitted = PASS.get()
        if admitted is not None and admitted.key.priority is not None:
            options["priority"] = admitted.key.priority
        outputs: AsyncGenerator[RequestOutput, None] = self._engine.generate(
            prompt, sampling_params, request_id, **options
        )
        if admitted is None or not admitted.key.limits:
            return outputs
        admitted.started(sampling_params.n)
        return self._metered(outputs, admitted, sampling_params, request_id)

    async def _metered(
        self,
        outputs: AsyncGenerator[RequestOutput, None],
        admitted: Pass,
        params: SamplingParams,
        request_id: str,
    ) -> AsyncGenerator[RequestOutput, None]:
        usage, whole = admitted.usage, params.output_kind is RequestOutputKind.FINAL_ONLY
        try:
            with admitted.held():
                async with contextlib.aclosing(outputs):
                    if whole:
                        yield await self._whole(outputs, admitted, request_id)
                    async for output in outputs:
                        usage.charge(_tokens(output))
                        yield output
        finally:
            admitted.ended(params.n)

    async def _whole(
        self, outputs: AsyncGenerator[RequestOutput, None], admitted: Pass, request_id: str
    ) -> RequestOutput:
        """The one output of a request that is not streamed; one whose client hangs up is charged
        for what was sampled until then."""
        waiting = asyncio.ensure_future(anext(outputs))
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError:
            admitted.usage.charge(sampled_tokens(self._engine, request_id))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            raise
        output = waiting.result()
        admitted.usage.charge(_tokens(output))
        return output


def _tokens(output: RequestOutput) -> int:
    """Tokens that an output brings; mostly it is of one choice."""
    first, *others = output.outputs
    return len(first.token_ids) + sum(len(one.token_ids) for one in others)
