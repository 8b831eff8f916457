"""Lines of generation on vLLM: siblings of one request, and their outputs put back together."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.exceptions import GenerationError
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.engine.carrier import Carrier
from steersman.trajectory.line import FAILED, Line, Piece
from steersman.trajectory.probe import Prober

_NOTHING = Carrier()
_TRANSFER = "kv_transfer_params"
"""Where a request says, in `SamplingParams.extra_args`, which blocks another engine hands over."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of `EngineClient.generate`, as vLLM's serving layer makes it.

    Attributes:
        prompt: The rendered prompt.
        params: Sampling parameters.
        request_id: The id of the request.
        options: The remaining keyword arguments.

    """

    prompt: Any
    params: SamplingParams
    request_id: str
    options: Mapping[str, Any]

    def start(
        self, engine: EngineClient, params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """Make the call, with other sampling parameters."""
        outputs: AsyncGenerator[RequestOutput, None] = engine.generate(
            self.prompt, params, self.request_id, **self.options
        )
        return outputs


class EngineLines:
    """Starts siblings of one vLLM request: same prompt, own seed, one engine request each.

    Args:
        engine: vLLM's engine client.
        call: The request, under an id that no other request has: `stop` ends everything that
            carries it. Its `n` and its output kind are replaced.
        carrier: The control that all siblings have.
        prober: Makes what asks a sibling for its answer while it thinks; None for nothing.

    """

    def __init__(
        self,
        engine: EngineClient,
        call: Call,
        carrier: Carrier = _NOTHING,
        prober: Callable[[Line[RequestOutput]], Prober] | None = None,
    ) -> None:
        self._prober = prober
        self._engine = engine
        self._call = call
        self._carrier = carrier

    async def follow(self, line: Line[RequestOutput]) -> AsyncGenerator[Piece[RequestOutput]]:
        """Run a branch. Its seed is the request's plus the branch, as with vLLM's own `n`.

        Blocks of another engine can be fetched, or left for it, once: that is for branch 0.
        """
        params = self._call.params.clone()
        params.n = 1
        params.output_kind = RequestOutputKind.DELTA
        if params.seed is not None:
            params.seed = line.seed = branch_seed(params.seed, line.branch)
        if line.branch:
            own = dict(params.extra_args or {})
            own.pop(_TRANSFER, None)
            params.extra_args = own or None
        prober = self._prober(line) if self._prober is not None else None
        with self._carrier.lines([line], params) as carrying:
            outputs = self._call.start(self._engine, carrying)
            async with contextlib.AsyncExitStack() as ending:
                ending.push_async_callback(outputs.aclose)
                if prober is not None:
                    ending.push_async_callback(prober.stop)
                async for output in outputs:
                    if not line.pieces:
                        line.prefill_tokens = prefill_tokens(output)
                    if line.track is not None:
                        line.track.add(output.outputs[0].token_ids)
                        if prober is not None:
                            prober.watch(line.track.token_ids)
                    check(output, [line])
                    yield piece(output)

    async def stop(self) -> None:
        await self._engine.abort(self._call.request_id)


def check(output: RequestOutput, lines: Sequence[Line[Any]]) -> None:
    """Refuse an output that ends a line because of a fault in the engine.

    Args:
        output: One step of a request.
        lines: Its choices.

    Raises:
        GenerationError: It does; vLLM answers with it: HTTP 500, or an event of the stream.

    """
    for completion in output.outputs:
        if completion.finish_reason == FAILED:
            lines[completion.index].advance(0, FAILED)
            if completion.stop_reason is None:
                raise GenerationError  # with vLLM's own words, as without a control
            raise GenerationError(f"the engine ended this request: {completion.stop_reason}")


def branch_seed(seed: int, branch: int) -> int:
    """The seed of a branch: `seed + branch`, kept within the 64 bits that vLLM accepts."""
    wanted = seed + branch
    return wanted if wanted < 2**63 else wanted - 2**63


def piece(output: RequestOutput) -> Piece[RequestOutput]:
    """One step of a request with a single choice."""
    (completion,) = output.outputs
    return Piece(tuple(completion.token_ids), completion.text, completion.finish_reason, output)


def prefill_tokens(output: RequestOutput) -> int:
    """Prompt tokens that were computed for this request, not read from the prefix cache."""
    return len(output.prompt_token_ids or ()) - (output.num_cached_tokens or 0)


def transfer_of(lines: Sequence[Line[RequestOutput]]) -> dict[str, Any] | None:
    """Address of the prompt's blocks for another engine; None if it was not asked for."""
    pieces = lines[0].pieces
    return pieces[-1].output.kv_transfer_params if pieces else None


def replay(
    winners: Sequence[Line[RequestOutput]],
    kind: RequestOutputKind,
    request_id: str,
    transfer: dict[str, Any] | None = None,
) -> Iterator[RequestOutput]:
    """The winners as the outputs of one vLLM request, in the kind that its caller asked for.

    Takes over the winners' outputs: they are changed in place.

    Args:
        winners: The lines to answer with.
        kind: Whole, or piece by piece.
        request_id: That of the caller's request.
        transfer: Where another engine finds the blocks of the prompt.

    """
    last = winners[-1 if kind is RequestOutputKind.DELTA else 0].pieces[-1].output
    last.kv_transfer_params = last.kv_transfer_params or transfer
    if kind is RequestOutputKind.DELTA:
        yield from _deltas(winners, request_id)
    else:
        finals = [_merged(line) for line in winners]
        answer = finals[0]
        for index, final in enumerate(finals):
            final.outputs[0].index = index
        answer.outputs = [final.outputs[0] for final in finals]
        answer.request_id = request_id
        yield answer


def _deltas(winners: Sequence[Line[RequestOutput]], request_id: str) -> Iterator[RequestOutput]:
    last = winners[-1].pieces[-1].output
    for index, line in enumerate(winners):
        for step in line.pieces:
            output = step.output
            output.request_id = request_id
            output.outputs[0].index = index
            output.finished = output is last
            yield output


def _merged(line: Line[RequestOutput]) -> RequestOutput:
    """One line's deltas as a single final output."""
    first, last = line.pieces[0].output, line.pieces[-1].output
    parts = [step.output.outputs[0] for step in line.pieces]
    completion = last.outputs[0]
    if any(part.logprobs for part in parts[:-1]):
        logprobs = parts[0].logprobs
        for part in parts[1:]:
            logprobs.extend(part.logprobs or ())
        completion.logprobs = logprobs
    masks = [part.sampling_mask for part in parts if part.sampling_mask is not None]
    if masks:
        masks[-1].token_ids = list(chain.from_iterable(mask.token_ids for mask in masks))
        completion.sampling_mask = masks[-1]
    completion.text = line.text
    completion.token_ids = line.token_ids
    last.prompt = first.prompt
    last.prompt_token_ids = first.prompt_token_ids
    last.prompt_logprobs = first.prompt_logprobs
    last.prompt_token_id_logprobs = first.prompt_token_id_logprobs
    return last
