"""Results of the OpenAI SDK, with the `control` field of the response typed."""

from collections.abc import Mapping
from typing import Any

import pydantic
from openai import BaseModel
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseIncompleteEvent,
    ResponseStreamEvent,
)

from steersman_client.receipt import Branch, ChainStep, Leader, Live, Progress, Receipt, Trials

_EVENTS = frozenset({"leader", "live", "progress", "branches", "trials", "steps"})
"""Keys of `control` in a chunk that are no part of a receipt."""


def receipt_of(result: pydantic.BaseModel) -> Receipt | None:
    """The receipt in any result of the SDK, `ParsedChatCompletion` and `ParsedResponse` included.

    None when the response carries no `control`, or when that only tells of a leader or of the
    monitor's values so far. A receipt that does not follow the contract raises
    `pydantic.ValidationError`.
    """
    control = _control_of(result)
    if control is None or (control and control.keys() <= _EVENTS):
        return None
    return Receipt.model_validate({k: v for k, v in control.items() if k not in _EVENTS})


def _control_of(result: pydantic.BaseModel) -> Mapping[str, Any] | None:
    return (result.model_extra or {}).get("control")


class _Result(BaseModel):
    """A result that can have a receipt."""

    @property
    def control(self) -> Receipt | None:
        """Receipt: controls applied and their cost. Of a stream only the last chunk has it.

        None as well when the request asked for no control, and until the response has ended.
        """
        return receipt_of(self)


class _Chunk(_Result):
    """A chunk of a stream, which can have events."""

    @property
    def leader(self) -> Leader | None:
        """Progress of the leading branch: only in a stream that asked for the event `leader`."""
        control = _control_of(self)
        return Leader.model_validate(control["leader"]) if control and "leader" in control else None

    @property
    def progress(self) -> Progress | None:
        """State of the branches: only in a stream that asked for the event `progress`."""
        told = (_control_of(self) or {}).get("progress")
        return None if told is None else Progress.model_validate(told)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """News of the branches: only in a stream that asked for the event `branches`."""
        told = (_control_of(self) or {}).get("branches", ())
        return tuple(Branch.model_validate(news) for news in told)

    @property
    def trials(self) -> tuple[Trials, ...]:
        """Decisions of a sampler: only in a stream that asked for the event `trials`."""
        told = (_control_of(self) or {}).get("trials", ())
        return tuple(Trials.model_validate(news) for news in told)

    @property
    def steps(self) -> tuple[ChainStep, ...]:
        """Steps of chains: only in a stream that asked for the event `steps`."""
        told = (_control_of(self) or {}).get("steps", ())
        return tuple(ChainStep.model_validate(news) for news in told)

    @property
    def live(self) -> Live | None:
        """Monitor values so far: only in a stream that asked for `monitor`."""
        control = _control_of(self)
        return Live.model_validate(control["live"]) if control and "live" in control else None


class ControlledChatCompletion(_Result, ChatCompletion):
    """A chat completion with its receipt."""


class ControlledChatCompletionChunk(_Chunk, ChatCompletionChunk):
    """A chunk of a chat stream."""


class ControlledCompletion(_Chunk, Completion):
    """A text completion with its receipt; also a chunk of its stream, as in the SDK."""


class ControlledResponse(_Result, Response):
    """A response of the Responses API with its receipt."""


class ControlledResponseCompletedEvent(ResponseCompletedEvent):
    """Last event of a Responses stream that ran to its end."""

    response: ControlledResponse


class ControlledResponseIncompleteEvent(ResponseIncompleteEvent):
    """Last event of a Responses stream that was cut off, at a token limit for example."""

    response: ControlledResponse


_CONTROLLED: dict[object, type] = {
    ChatCompletion: ControlledChatCompletion,
    ChatCompletionChunk: ControlledChatCompletionChunk,
    Completion: ControlledCompletion,
    Response: ControlledResponse,
}
_CONTROLLED_EVENTS: dict[object, type] = {
    "response.completed": ControlledResponseCompletedEvent,
    "response.incomplete": ControlledResponseIncompleteEvent,
}


def controlled_type(cast_to: Any, data: object) -> Any:
    """The type to build from the JSON value `data` where the SDK would build a `cast_to`."""
    if isinstance(cast_to, type):
        return _CONTROLLED.get(cast_to, cast_to)
    if cast_to == ResponseStreamEvent and isinstance(data, dict):
        return _CONTROLLED_EVENTS.get(data.get("type"), cast_to)
    return cast_to
