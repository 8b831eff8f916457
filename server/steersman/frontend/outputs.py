"""vLLM's outputs: read as pieces of trajectories, and put back together as one request's answer."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from vllm.exceptions import GenerationError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.trajectory.trajectory import ABORTED, FAILED, Piece, Trajectory


def check(output: RequestOutput, trajectories: Sequence[Trajectory[Any]]) -> None:
    """Refuse an output that ends a trajectory because of a fault in the engine.

    Args:
        output: One step of a request.
        trajectories: Its choices.

    Raises:
        GenerationError: It does; vLLM answers with it: HTTP 500, or an event of the stream.

    """
    for completion in output.outputs:
        if completion.finish_reason == FAILED:
            trajectories[completion.index].advance(0, FAILED)
            if completion.stop_reason is None:
                raise GenerationError  # with vLLM's own words, as without a control
            raise GenerationError(f"the engine ended this request: {completion.stop_reason}")


def piece(output: RequestOutput) -> Piece[RequestOutput]:
    """One step of a request with a single choice."""
    (completion,) = output.outputs
    return Piece(tuple(completion.token_ids), completion.text, completion.finish_reason, output)


def never_begun(prompt: Any, params: SamplingParams) -> Piece[RequestOutput]:
    """The only piece of a trajectory that was aborted before the engine knew it: no tokens.

    Args:
        prompt: The rendered prompt.
        params: Its sampling parameters.

    """
    rendered = prompt if isinstance(prompt, Mapping) else {}
    logprobs: Any = None if params.logprobs is None else []
    completion = CompletionOutput(0, "", [], None, logprobs, finish_reason=ABORTED)
    token_ids = rendered.get("prompt_token_ids") or []
    output = RequestOutput("", rendered.get("prompt"), token_ids, None, [completion], finished=True)
    return piece(output)


def prefill_tokens(output: RequestOutput) -> int:
    """Prompt tokens that were computed for this request, not read from the prefix cache."""
    return len(output.prompt_token_ids or ()) - (output.num_cached_tokens or 0)


def transfer_of(trajectories: Sequence[Trajectory[RequestOutput]]) -> dict[str, Any] | None:
    """Address of the prompt's blocks for another engine; None if it was not asked for."""
    pieces = trajectories[0].pieces
    return pieces[-1].output.kv_transfer_params if pieces else None


def replay(
    winners: Sequence[Trajectory[RequestOutput]],
    kind: RequestOutputKind,
    request_id: str,
    transfer: dict[str, Any] | None = None,
) -> Iterator[RequestOutput]:
    """The winners as the outputs of one vLLM request, in the kind that its caller asked for.

    Takes over the winners' outputs: they are changed in place.

    Args:
        winners: The trajectories to answer with.
        kind: Whole, or piece by piece.
        request_id: That of the caller's request.
        transfer: Where another engine finds the blocks of the prompt.

    """
    last = winners[-1 if kind is RequestOutputKind.DELTA else 0].pieces[-1].output
    last.kv_transfer_params = last.kv_transfer_params or transfer
    if kind is RequestOutputKind.DELTA:
        for index, winner in enumerate(winners):
            for step in winner.pieces:
                yield as_delta(step.output, index, request_id, last=step.output is last)
    else:
        finals = [_merged(winner) for winner in winners]
        answer = finals[0]
        for index, final in enumerate(finals):
            final.outputs[0].index = index
        answer.outputs = [final.outputs[0] for final in finals]
        answer.request_id = request_id
        yield answer


def as_delta(output: RequestOutput, index: int, request_id: str, *, last: bool) -> RequestOutput:
    """A step of a trajectory as one of a choice of another request; changed in place.

    Args:
        output: The step.
        index: Of the choice.
        request_id: Of the other request.
        last: Whether this is the last step of all its choices.

    """
    output.request_id = request_id
    output.outputs[0].index = index
    output.finished = last
    return output


def _merged(trajectory: Trajectory[RequestOutput]) -> RequestOutput:
    """One trajectory's deltas as a single final output."""
    first, last = trajectory.pieces[0].output, trajectory.pieces[-1].output
    completion = last.outputs[0]
    join(completion, [step.output.outputs[0] for step in trajectory.pieces])
    completion.text = trajectory.text
    completion.token_ids = trajectory.token_ids
    last.prompt = first.prompt
    last.prompt_token_ids = first.prompt_token_ids
    last.prompt_logprobs = first.prompt_logprobs
    last.prompt_token_id_logprobs = first.prompt_token_id_logprobs
    return last


def join(whole: Any, parts: Sequence[Any]) -> None:
    """Join the log-probabilities and sampling masks of several `CompletionOutput`s, in one of them.

    Args:
        whole: The output that takes them; it may be one of the parts.
        parts: In their order; the first one's log-probabilities are extended in place.

    """
    if any(part.logprobs for part in parts if part is not whole):
        logprobs = parts[0].logprobs
        for part in parts[1:]:
            logprobs.extend(part.logprobs or ())
        whole.logprobs = logprobs
    masks = [part.sampling_mask for part in parts if part.sampling_mask is not None]
    if masks:
        masks[-1].token_ids = list(chain.from_iterable(mask.token_ids for mask in masks))
        whole.sampling_mask = masks[-1]
