"""Cautious sampling on vLLM's offline engine, by the source of the server."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput

from steersman.controls.sampler import SamplerPart
from steersman.frontend.carrier import Carrier
from steersman.frontend.reports import Reports
from steersman.frontend.source import Call, EngineSource
from steersman.sampling.cautious import CautiousSampler
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import Start, Trajectory
from steersman_client import Cautious, Trials
from steersman_kernels.layout import Value

_TURNS = 8
"""Turns of the event loop between two steps of the engine."""


@dataclass(frozen=True)
class Drawn:
    """A response that was sampled cautiously.

    Attributes:
        token_ids: Its tokens.
        values: The measurements at each of them.
        trials: The decisions.
        lost: Tokens sampled that are not part of it.

    """

    token_ids: tuple[int, ...]
    values: tuple[Value, ...]
    trials: tuple[Trials, ...]
    lost: int


class _Client:
    """The part of vLLM's asynchronous client that trajectories use, over its offline engine."""

    def __init__(self, engine: Any, tokenizer: Any) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._outputs: dict[str, asyncio.Queue[RequestOutput]] = {}

    def get_tokenizer(self) -> Any:
        return self._tokenizer

    def check_admission(self, n: int, request_id: str) -> None:
        pass

    async def abort(self, request_ids: Sequence[str]) -> None:
        for id_ in request_ids:
            if (outputs := self._outputs.get(id_)) is not None:
                self._engine.abort_request([id_])
                end = CompletionOutput(0, "", [], None, None, finish_reason="abort")
                outputs.put_nowait(RequestOutput(id_, None, [], None, [end], finished=True))

    async def generate(
        self, prompt: Any, params: Any, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = self._outputs[request_id] = asyncio.Queue()
        self._engine.add_request(request_id, prompt, params)
        finished = False
        try:
            while not finished:
                output = await outputs.get()
                finished = output.finished
                yield output
        finally:
            del self._outputs[request_id]
            if not finished:
                self._engine.abort_request([request_id])

    async def run(self) -> None:
        """Take steps until cancelled."""
        while True:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if self._engine.has_unfinished_requests():
                for output in self._engine.step():
                    if output.request_id in self._outputs:
                        self._outputs[output.request_id].put_nowait(output)


async def draw(
    llm: Any,
    reports: Reports,
    spec: Cautious,
    calls: Sequence[tuple[Sequence[int], Any]],
    room: int,
) -> list[Drawn]:
    """Sample responses side by side.

    Args:
        llm: vLLM's offline engine.
        reports: Where the workers' reports arrive.
        spec: Fields of the sampler.
        calls: Prompts, each with its sampling parameters.
        room: Engine requests of each response that are in flight at most.

    """
    tokenizer = llm.get_tokenizer()
    client: Any = _Client(llm.llm_engine, tokenizer)
    sampler = CautiousSampler()
    reading = Reading(text_of=lambda token: tokenizer.decode([token], skip_special_tokens=True))

    def start(number: int, prompt: Sequence[int], params: Any) -> Trajectory[RequestOutput]:
        longest = llm.llm_engine.model_config.max_model_len
        carrier = Carrier(
            reports, (SamplerPart(sampler, spec),), origin=len(prompt), longest=longest
        )
        call = Call({"prompt_token_ids": [*prompt]}, params, str(number), {})
        source = EngineSource(client, call, carrier, asyncio.Semaphore(room))
        (line,) = sampler.wrap(spec, source, reading).start_all([Start(0)])
        return line

    lines = [start(number, *call) for number, call in enumerate(calls)]
    steps = asyncio.create_task(client.run())
    responses = asyncio.gather(*(line.run() for line in lines))
    await asyncio.wait([steps, responses], return_when=asyncio.FIRST_COMPLETED)
    steps.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await steps
    await responses
    return [_drawn(line) for line in lines]


def _drawn(line: Trajectory[RequestOutput]) -> Drawn:
    track, record = line.track, line.sampling
    assert track is not None
    return Drawn(
        tuple(line.token_ids),
        tuple(map(Value.of, track.values)),
        tuple(record.trials),
        record.lost_tokens,
    )
