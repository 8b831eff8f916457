"""Reading `control` from results."""

from typing import Any

import pydantic
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from steersman_client import (
    AppliedSampler,
    Branch,
    ControlledChatCompletion,
    ControlledChatCompletionChunk,
    Leader,
    Live,
    Progress,
    Receipt,
    TrialResult,
    receipt_of,
)
from steersman_client.results import controlled_type


def test_a_receipt_keeps_parts_newer_than_the_client(
    chat_completion: dict[str, Any], receipt: dict[str, Any]
) -> None:
    completion = ControlledChatCompletion.model_validate({**chat_completion, "control": receipt})
    control = completion.control
    assert control is not None
    assert control.applied.search is not None
    assert control.applied.search.winners == (2,)
    assert control.compute.wall_ms == 8.5
    assert control.model_extra == {"newer_part": {"kept": True}}


def test_dumping_a_result_gives_back_the_wire_form(
    chat_completion: dict[str, Any], receipt: dict[str, Any]
) -> None:
    body = {**chat_completion, "control": receipt}
    assert ControlledChatCompletion.model_validate(body).to_dict() == body


def test_a_chunk_without_control(chat_chunk: dict[str, Any]) -> None:
    chunk = ControlledChatCompletionChunk.model_validate(chat_chunk)
    assert chunk.control is None
    assert chunk.leader is None


def test_progress_is_not_a_receipt(chat_chunk: dict[str, Any]) -> None:
    control = {"leader": {"branch": 3, "tokens": 17, "text": "So "}}
    chunk = ControlledChatCompletionChunk.model_validate({**chat_chunk, "control": control})
    assert chunk.control is None
    assert chunk.leader == Leader(branch=3, tokens=17, text="So ")


def test_events_of_a_stream_are_no_receipt(chat_chunk: dict[str, Any]) -> None:
    def chunk_with(control: dict[str, Any]) -> ControlledChatCompletionChunk:
        return ControlledChatCompletionChunk.model_validate({**chat_chunk, "control": control})

    news = {"branch": 1, "tokens": 2, "text": "a", "state": "running"}
    told = {"progress": {"finished": 0, "running": 2, "tokens": 4}, "branches": [news]}
    chunk = chunk_with(told)
    assert chunk.control is None
    assert chunk.progress == Progress(finished=0, running=2, tokens=4)
    assert chunk.branches == (Branch(branch=1, tokens=2, text="a", state="running"),)
    last = chunk_with({**told, "applied": {}, "compute": {"sampled_tokens": 4}})
    assert last.control is not None
    assert last.control.compute.sampled_tokens == 4
    silent = chunk_with({"leader": {"branch": 0, "tokens": 1, "text": ""}})
    assert (silent.progress, silent.branches, silent.trials) == (None, (), ())


def test_decisions_of_a_sampler_are_no_receipt(chat_chunk: dict[str, Any]) -> None:
    results = [{"trial": 0, "tokens": 3, "logprob": -0.5}, {"trial": 1, "tokens": 2}]
    told = [{"index": 0, "at": 7, "trials": results, "winner": 0}]
    chunk = ControlledChatCompletionChunk.model_validate(
        {**chat_chunk, "control": {"trials": told}}
    )
    assert chunk.control is None
    (trials,) = chunk.trials
    assert (trials.at, trials.winner) == (7, 0)
    assert trials.trials == (
        TrialResult(trial=0, tokens=3, logprob=-0.5),
        TrialResult(trial=1, tokens=2),
    )


def test_the_outcome_of_a_sampler_has_types(
    chat_completion: dict[str, Any], receipt: dict[str, Any]
) -> None:
    sampler = {"method": "cautious", "branch_points": 0, "trials": 0, "winner_mean_tokens": None}
    applied = {**receipt["applied"], "sampler": sampler}
    completion = ControlledChatCompletion.model_validate(
        {**chat_completion, "control": {**receipt, "applied": applied}}
    )
    assert completion.control is not None
    assert completion.control.applied.sampler == AppliedSampler(
        method="cautious", branch_points=0, trials=0
    )


def test_receipt_of_a_plain_sdk_result(
    chat_completion: dict[str, Any], receipt: dict[str, Any]
) -> None:
    plain = ChatCompletion.model_validate({**chat_completion, "control": receipt})
    assert receipt_of(plain) == Receipt.model_validate(receipt)


def test_a_malformed_receipt_is_not_hidden(chat_completion: dict[str, Any]) -> None:
    broken = {"compute": {"sampled_tokens": "many"}}
    completion = ControlledChatCompletion.model_validate({**chat_completion, "control": broken})
    with pytest.raises(pydantic.ValidationError, match="sampled_tokens"):
        _ = completion.control


def test_other_types_are_left_to_the_sdk() -> None:
    assert controlled_type(ChatCompletionChunk, {}) is ControlledChatCompletionChunk
    assert controlled_type(dict[str, int], {"type": "response.completed"}) == dict[str, int]
    assert controlled_type(Receipt, {}) is Receipt


def test_live_values_are_not_a_receipt(chat_chunk: dict[str, Any]) -> None:
    live = {"index": 0, "phase": "thinking", "entropy": 0.5, "tokens": [[7, -0.1, 0.4]]}
    chunk = ControlledChatCompletionChunk.model_validate({**chat_chunk, "control": {"live": live}})
    assert chunk.control is None
    assert chunk.leader is None
    assert chunk.live == Live(index=0, phase="thinking", entropy=0.5, tokens=((7, -0.1, 0.4),))


def test_the_last_chunk_may_hold_live_values_and_the_receipt(
    chat_chunk: dict[str, Any], receipt: dict[str, Any]
) -> None:
    live = {"index": 0, "phase": "answer", "entropy": 0.25}
    body = {**chat_chunk, "control": {"live": live, **receipt}}
    chunk = ControlledChatCompletionChunk.model_validate(body)
    assert chunk.control == Receipt.model_validate(receipt)
    assert chunk.live is not None
    assert chunk.live.phase == "answer"
