"""Arguments of the `create` methods: those of the OpenAI SDK, and `control`."""

from collections.abc import Mapping
from typing import Any, Required

from openai import NotGiven, Timeout
from openai.types import completion_create_params as text
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from typing_extensions import TypedDict

from steersman_client.spec import ControlSpec

ControlArgument = ControlSpec | Mapping[str, Any]
"""A checked spec, or a mapping that is sent as it is, for fields newer than this client."""


class _RequestParams(TypedDict, total=False):
    control: ControlArgument | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, object] | None
    extra_body: Mapping[str, object] | None
    timeout: float | Timeout | NotGiven | None


class ChatParams(chat.CompletionCreateParamsNonStreaming, _RequestParams):
    """Of `chat.completions.create`."""


class ChatStreamParams(chat.CompletionCreateParamsStreaming, _RequestParams):
    """Of `chat.completions.create` with `stream=True`."""


class ChatEitherParams(chat.CompletionCreateParamsBase, _RequestParams):
    """Of `chat.completions.create` where `stream` is known only at run time."""

    stream: Required[bool]


class CompletionParams(text.CompletionCreateParamsNonStreaming, _RequestParams):
    """Of `completions.create`."""


class CompletionStreamParams(text.CompletionCreateParamsStreaming, _RequestParams):
    """Of `completions.create` with `stream=True`."""


class CompletionEitherParams(text.CompletionCreateParamsBase, _RequestParams):
    """Of `completions.create` where `stream` is known only at run time."""

    stream: Required[bool]


class ResponseParams(responses.ResponseCreateParamsNonStreaming, _RequestParams):
    """Of `responses.create`."""


class ResponseStreamParams(responses.ResponseCreateParamsStreaming, _RequestParams):
    """Of `responses.create` with `stream=True`."""


class ResponseEitherParams(responses.ResponseCreateParamsBase, _RequestParams):
    """Of `responses.create` where `stream` is known only at run time."""

    stream: Required[bool]


def control_body(control: ControlArgument) -> dict[str, object]:
    """`control` as an `extra_body`, for methods of the SDK that do not take it as an argument.

    Of a spec only what was set is sent. An explicit None is kept: it switches a part of the
    profile off.
    """
    if isinstance(control, ControlSpec):
        return {"control": control.model_dump(mode="json", exclude_unset=True)}
    return {"control": dict(control)}


def with_control(params: dict[str, Any]) -> dict[str, Any]:
    """The SDK's arguments for `params`, with `control` moved into the JSON body.

    Raises ValueError when `extra_body` has a `control` too.
    """
    control = params.pop("control", None)
    if control is None:
        return params
    extra_body = params.get("extra_body") or {}
    if "control" in extra_body:
        raise ValueError("control is given twice: as an argument and in extra_body")
    return {**params, "extra_body": {**extra_body, **control_body(control)}}
