"""Winners' outputs put back together as vLLM would have made them."""

from typing import Any

import pytest
from vllm.exceptions import GenerationError
from vllm.logprobs import FlatLogprobs, Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind

from steersman.frontend.outputs import check, piece, prefill_tokens, replay, transfer_of
from steersman.trajectory.trajectory import FAILED, Start, Trajectory


def step(token: int, text: str, finish_reason: str | None = None, **fields: Any) -> RequestOutput:
    """One delta of a branch, as the engine yields it."""
    completion = CompletionOutput(
        index=0,
        text=text,
        token_ids=[token],
        cumulative_logprob=-float(token),
        logprobs=fields.pop("logprobs", None),
        finish_reason=finish_reason,
    )
    return RequestOutput(
        request_id="ours",
        prompt=fields.get("prompt"),
        prompt_token_ids=fields.get("prompt_token_ids"),
        prompt_logprobs=None,
        outputs=[completion],
        finished=finish_reason is not None,
        num_cached_tokens=fields.get("num_cached_tokens"),
    )


def trajectory(branch: int, *steps: RequestOutput) -> Trajectory[RequestOutput]:
    result: Trajectory[RequestOutput] = Trajectory(Start(branch))
    for output in steps:
        result.add(piece(output))
    return result


def two() -> list[Trajectory[RequestOutput]]:
    return [
        trajectory(3, step(1, "a", prompt="p", prompt_token_ids=[8, 9]), step(2, "b", "stop")),
        trajectory(0, step(5, "c", prompt="p", prompt_token_ids=[8, 9], finish_reason="length")),
    ]


@pytest.mark.parametrize(
    ("reason", "message"),
    [("a NaN", "the engine ended this request: a NaN"), (None, str(GenerationError()))],
)
def test_a_failed_output_ends_its_line_with_the_reason_or_vllms_words(
    reason: str | None, message: str
) -> None:
    output, failed = step(1, "a", FAILED), Trajectory[RequestOutput](Start(0))
    output.outputs[0].stop_reason = reason
    with pytest.raises(GenerationError) as raised:
        check(output, [failed])
    assert str(raised.value) == message
    assert failed.finish_reason == FAILED


def test_an_output_that_goes_on_is_no_failure() -> None:
    going: Trajectory[RequestOutput] = Trajectory(Start(0))
    check(step(1, "a"), [going])
    assert going.finish_reason is None


def test_a_final_output_holds_all_choices() -> None:
    (answer,) = replay(two(), RequestOutputKind.FINAL_ONLY, "theirs")
    assert (answer.request_id, answer.finished) == ("theirs", True)
    assert (answer.prompt, answer.prompt_token_ids) == ("p", [8, 9])
    first, second = answer.outputs
    assert (first.index, first.text, first.token_ids) == (0, "ab", [1, 2])
    assert (first.finish_reason, first.cumulative_logprob) == ("stop", -2.0)
    assert (second.index, second.text, second.finish_reason) == (1, "c", "length")


def test_deltas_are_replayed_choice_by_choice() -> None:
    outputs = list(replay(two(), RequestOutputKind.DELTA, "theirs"))
    assert [(o.outputs[0].index, o.outputs[0].text) for o in outputs] == [
        (0, "a"),
        (0, "b"),
        (1, "c"),
    ]
    assert [output.finished for output in outputs] == [False, False, True]
    assert {output.request_id for output in outputs} == {"theirs"}


def entry(token: int) -> dict[int, Logprob]:
    return {token: Logprob(-0.5, 1, str(token))}


def flat(token: int) -> FlatLogprobs:
    logprobs = FlatLogprobs()
    logprobs.append(entry(token))
    return logprobs


@pytest.mark.parametrize("make", [lambda token: [entry(token)], flat], ids=["list", "flat"])
def test_log_probabilities_stay_beside_their_tokens(make: Any) -> None:
    steps = [step(t, str(t), "stop" if t == 3 else None, logprobs=make(t)) for t in (1, 2, 3)]
    (answer,) = replay([trajectory(0, *steps)], RequestOutputKind.FINAL_ONLY, "r")
    logprobs = answer.outputs[0].logprobs
    assert logprobs is not None
    assert [list(position) for position in logprobs] == [[1], [2], [3]]


def test_a_single_step_is_its_own_final_output() -> None:
    output = step(1, "a", "stop", logprobs=[entry(1)])
    (answer,) = replay([trajectory(0, output)], RequestOutputKind.FINAL_ONLY, "r")
    assert answer.outputs[0].logprobs == [entry(1)]


@pytest.mark.parametrize("kind", [RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY])
def test_where_the_blocks_were_left_is_said_once_at_the_end(kind: RequestOutputKind) -> None:
    left = {"remote_block_ids": [1]}
    outputs = list(replay(two(), kind, "theirs", left))
    assert [output.kv_transfer_params for output in outputs] == [None] * (len(outputs) - 1) + [left]


def test_the_first_branch_knows_where_the_blocks_were_left() -> None:
    trajectories = [
        trajectory(0, step(1, "a"), step(2, "b", "length")),
        trajectory(1, step(5, "c")),
    ]
    assert transfer_of(trajectories) is None
    trajectories[0].pieces[-1].output.kv_transfer_params = {"remote_block_ids": [1]}
    assert transfer_of(trajectories) == {"remote_block_ids": [1]}
    assert transfer_of([trajectory(0)]) is None


def test_prefill_leaves_out_what_the_cache_had() -> None:
    assert prefill_tokens(step(1, "a", prompt_token_ids=[0] * 40, num_cached_tokens=32)) == 8
    assert prefill_tokens(step(1, "a", prompt_token_ids=[0] * 40)) == 40
