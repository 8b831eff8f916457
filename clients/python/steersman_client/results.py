"""Results of the OpenAI SDK, with the `control` field of the response typed."""

from collections.abc import Mapping
from typing import Any

import pydantic
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseIncompleteEvent,
    ResponseStreamEvent,
)

from steersman_client.receipt import Branch, Leader, Live, Progress, Receipt, Trials

_EVENTS = frozenset({"leader", "live", "progress", "branches", "trials"})
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


def _leader_of(result: pydantic.BaseModel) -> Leader | None:
    control = _control_of(result)
    return Leader.model_validate(control["leader"]) if control and "leader" in control else None


def _live_of(result: pydantic.BaseModel) -> Live | None:
    control = _control_of(result)
    return Live.model_validate(control["live"]) if control and "live" in control else None


def _progress_of(result: pydantic.BaseModel) -> Progress | None:
    control = _control_of(result)
    told = (control or {}).get("progress")
    return None if told is None else Progress.model_validate(told)


def _branches_of(result: pydantic.BaseModel) -> tuple[Branch, ...]:
    control = _control_of(result)
    return tuple(Branch.model_validate(news) for news in (control or {}).get("branches", ()))


def _trials_of(result: pydantic.BaseModel) -> tuple[Trials, ...]:
    control = _control_of(result)
    return tuple(Trials.model_validate(news) for news in (control or {}).get("trials", ()))


def _control_of(result: pydantic.BaseModel) -> Mapping[str, Any] | None:
    return (result.model_extra or {}).get("control")


class ControlledChatCompletion(ChatCompletion):
    """A chat completion with its receipt."""

    @property
    def control(self) -> Receipt | None:
        """Receipt: controls applied and their cost; None when the request asked for no control."""
        return receipt_of(self)


class ControlledChatCompletionChunk(ChatCompletionChunk):
    """A chunk of a chat stream."""

    @property
    def control(self) -> Receipt | None:
        """The receipt: only in the last chunk of the stream."""
        return receipt_of(self)

    @property
    def leader(self) -> Leader | None:
        """Progress of the leading branch: only in a stream that asked for the event `leader`."""
        return _leader_of(self)

    @property
    def progress(self) -> Progress | None:
        """State of the branches: only in a stream that asked for the event `progress`."""
        return _progress_of(self)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """News of the branches: only in a stream that asked for the event `branches`."""
        return _branches_of(self)

    @property
    def trials(self) -> tuple[Trials, ...]:
        """Decisions of a sampler: only in a stream that asked for the event `trials`."""
        return _trials_of(self)

    @property
    def live(self) -> Live | None:
        """Monitor values so far: only in a stream that asked for `monitor`."""
        return _live_of(self)


class ControlledCompletion(Completion):
    """A text completion with its receipt; also a chunk of its stream, as in the SDK."""

    @property
    def control(self) -> Receipt | None:
        """The receipt; in a stream, only in the last chunk."""
        return receipt_of(self)

    @property
    def leader(self) -> Leader | None:
        """Progress of the leading branch: only in a stream that asked for the event `leader`."""
        return _leader_of(self)

    @property
    def progress(self) -> Progress | None:
        """State of the branches: only in a stream that asked for the event `progress`."""
        return _progress_of(self)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """News of the branches: only in a stream that asked for the event `branches`."""
        return _branches_of(self)

    @property
    def trials(self) -> tuple[Trials, ...]:
        """Decisions of a sampler: only in a stream that asked for the event `trials`."""
        return _trials_of(self)

    @property
    def live(self) -> Live | None:
        """Monitor values so far: only in a stream that asked for `monitor`."""
        return _live_of(self)


class ControlledResponse(Response):
    """A response of the Responses API with its receipt."""

    @property
    def control(self) -> Receipt | None:
        """Receipt: controls applied and their cost; None until the response has ended."""
        return receipt_of(self)


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
