"""Faults while a request runs, as vLLM's serving layer tells clients of them."""

from collections.abc import Iterator
from http import HTTPStatus

from vllm.exceptions import GenerationError

from steersman.reward.error import RewardError


def reward_failure(error: RewardError) -> GenerationError:
    """The error for a reward that gave no usable scores: HTTP 502, or 504 where it took too long;
    in a stream, whose status has gone, an error event."""
    failure = GenerationError(str(error))
    failure.status_code = HTTPStatus(error.status)
    return failure


def told_of(error: Exception) -> tuple[int, str]:
    """HTTP status and message for an exception that came out of vLLM's application: those of the
    fault that is behind it, if clients may know of that."""
    for one in _behind(error):
        if isinstance(one, GenerationError):
            return one.status_code.value, str(one)
    return 500, "Internal server error"


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from, or while handling."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__
