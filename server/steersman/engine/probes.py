"""Forks of a thinking line that are asked for its answer."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.engine.carrier import Carrier
from steersman.engine.compat.client import collective_rpc
from steersman.engine.lines import Call, piece, prefill_tokens
from steersman.engine.plugin import ASK
from steersman.thinking.governing import Probing
from steersman.trajectory.line import Line
from steersman.trajectory.phases import Markers
from steersman.trajectory.probe import Prober


@dataclass(frozen=True, slots=True)
class Probes:
    """Makes the probers of one engine call.

    Attributes:
        engine: vLLM's engine client.
        call: The request.
        carrier: Its control: forks are steered as it is, and not governed.
        probing: When to ask.
        markers: The model's thinking markers.
        closing: What closes the thinking of a fork.

    """

    engine: EngineClient
    call: Call
    carrier: Carrier
    probing: Probing
    markers: Markers
    closing: Sequence[int]

    def of(self, line: Line[Any]) -> Prober:
        """The prober of a line that is about to run."""

        async def ask(token_ids: Sequence[int]) -> str:
            return await self._answer(line, token_ids)

        async def settle() -> None:
            assert line.track is not None
            args = ("settle", line.track.key, line.track.choice)
            await collective_rpc(self.engine, ASK, args)

        return Prober(self.probing, self.markers, ask, settle, opened=self.carrier.opened)

    async def _answer(self, line: Line[Any], token_ids: Sequence[int]) -> str:
        # Without the text that its tokens were made from.
        rendered = {name: part for name, part in self.call.prompt.items() if name != "prompt"}
        prompt = [*rendered["prompt_token_ids"], *token_ids, *self.closing]
        params = SamplingParams(
            temperature=0.0,
            max_tokens=self.probing.max_tokens,
            output_kind=RequestOutputKind.DELTA,
        )
        if len(prompt) + self.probing.max_tokens > self.carrier.longest:
            return ""
        fork: Line[Any] = Line(len(line.probes))
        line.probes.append(fork)
        request = replace(
            self.call,
            prompt={**rendered, "prompt_token_ids": prompt},
            request_id=f"{self.call.request_id}-{uuid.uuid4().hex}",
        )
        try:
            await self._run(fork, request, params)
        except Exception:
            if not fork.pieces:  # the engine took no such request, or did nothing for it
                line.probes.remove(fork)
            raise
        return fork.text

    async def _run(self, fork: Line[Any], request: Call, params: SamplingParams) -> None:
        with replace(self.carrier, governing=None, monitored=False).lines([fork], params) as asked:
            outputs = request.start(self.engine, asked)
            try:
                async for output in outputs:
                    if not fork.pieces:
                        fork.prefill_tokens = prefill_tokens(output)
                    fork.add(piece(output))
            finally:
                await outputs.aclose()
