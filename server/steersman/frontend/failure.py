"""Faults while a request runs, as vLLM's serving layer tells clients of them."""

from http import HTTPStatus

from vllm.exceptions import GenerationError

from steersman.reward.error import RewardError


def reward_failure(error: RewardError) -> GenerationError:
    """The error for a reward that gave no usable scores: HTTP 502, or 504 where it took too long;
    in a stream, whose status has gone, an error event."""
    failure = GenerationError(str(error))
    failure.status_code = HTTPStatus(error.status)
    return failure
