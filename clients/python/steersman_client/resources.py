"""The SDK's resources whose `create` takes `control`, and the server's own `/control` routes."""

from functools import cached_property
from typing import Any, Unpack, overload

from openai import AsyncOpenAI, AsyncStream, OpenAI, Stream, resources
from openai.resources import responses
from openai.resources.chat import completions as chat_completions
from openai.types.responses import ResponseStreamEvent

from steersman_client.edits import AsyncEdits, Edits
from steersman_client.params import (
    ChatEitherParams,
    ChatParams,
    ChatStreamParams,
    CompletionEitherParams,
    CompletionParams,
    CompletionStreamParams,
    ResponseEitherParams,
    ResponseParams,
    ResponseStreamParams,
    with_control,
)
from steersman_client.results import (
    ControlledChatCompletion,
    ControlledChatCompletionChunk,
    ControlledCompletion,
    ControlledResponse,
)
from steersman_client.vectors import AsyncVectors, Vectors

# `create` narrows the SDK's signature on purpose: `Unpack` of its parameter types has no `Omit`,
# and the results are ours. At run time any argument of the SDK is passed on.


class ChatCompletions(chat_completions.Completions):
    """`client.chat.completions`."""

    @overload  # type: ignore[override]
    def create(self, **params: Unpack[ChatParams]) -> ControlledChatCompletion: ...
    @overload
    def create(
        self, **params: Unpack[ChatStreamParams]
    ) -> Stream[ControlledChatCompletionChunk]: ...
    @overload
    def create(
        self, **params: Unpack[ChatEitherParams]
    ) -> ControlledChatCompletion | Stream[ControlledChatCompletionChunk]: ...
    def create(self, **params: Any) -> Any:
        """Create a chat completion. `control` asks for controls; the result's is the receipt."""
        return super().create(**with_control(params))


class AsyncChatCompletions(chat_completions.AsyncCompletions):
    """`client.chat.completions` of the async client."""

    @overload  # type: ignore[override]
    async def create(self, **params: Unpack[ChatParams]) -> ControlledChatCompletion: ...
    @overload
    async def create(
        self, **params: Unpack[ChatStreamParams]
    ) -> AsyncStream[ControlledChatCompletionChunk]: ...
    @overload
    async def create(
        self, **params: Unpack[ChatEitherParams]
    ) -> ControlledChatCompletion | AsyncStream[ControlledChatCompletionChunk]: ...
    async def create(self, **params: Any) -> Any:
        """Create a chat completion. `control` asks for controls; the result's is the receipt."""
        return await super().create(**with_control(params))


class Chat(resources.Chat):
    """`client.chat`."""

    @cached_property
    def completions(self) -> ChatCompletions:
        """Chat completions."""
        return ChatCompletions(self._client)


class AsyncChat(resources.AsyncChat):
    """`client.chat` of the async client."""

    @cached_property
    def completions(self) -> AsyncChatCompletions:
        """Chat completions."""
        return AsyncChatCompletions(self._client)


class Completions(resources.Completions):
    """`client.completions`."""

    @overload  # type: ignore[override]
    def create(self, **params: Unpack[CompletionParams]) -> ControlledCompletion: ...
    @overload
    def create(self, **params: Unpack[CompletionStreamParams]) -> Stream[ControlledCompletion]: ...
    @overload
    def create(
        self, **params: Unpack[CompletionEitherParams]
    ) -> ControlledCompletion | Stream[ControlledCompletion]: ...
    def create(self, **params: Any) -> Any:
        """Create a text completion. `control` asks for controls; the result's is the receipt."""
        return super().create(**with_control(params))


class AsyncCompletions(resources.AsyncCompletions):
    """`client.completions` of the async client."""

    @overload  # type: ignore[override]
    async def create(self, **params: Unpack[CompletionParams]) -> ControlledCompletion: ...
    @overload
    async def create(
        self, **params: Unpack[CompletionStreamParams]
    ) -> AsyncStream[ControlledCompletion]: ...
    @overload
    async def create(
        self, **params: Unpack[CompletionEitherParams]
    ) -> ControlledCompletion | AsyncStream[ControlledCompletion]: ...
    async def create(self, **params: Any) -> Any:
        """Create a text completion. `control` asks for controls; the result's is the receipt."""
        return await super().create(**with_control(params))


class Responses(responses.Responses):
    """`client.responses`.

    The last event of a stream is a `ControlledResponseCompletedEvent` or
    `ControlledResponseIncompleteEvent`, whose `response.control` is the receipt.
    """

    @overload  # type: ignore[override]
    def create(self, **params: Unpack[ResponseParams]) -> ControlledResponse: ...
    @overload
    def create(self, **params: Unpack[ResponseStreamParams]) -> Stream[ResponseStreamEvent]: ...
    @overload
    def create(
        self, **params: Unpack[ResponseEitherParams]
    ) -> ControlledResponse | Stream[ResponseStreamEvent]: ...
    def create(self, **params: Any) -> Any:
        """Create a response. `control` asks for controls; the result's is the receipt."""
        return super().create(**with_control(params))


class AsyncResponses(responses.AsyncResponses):
    """`client.responses` of the async client; its streams end as those of `Responses`."""

    @overload  # type: ignore[override]
    async def create(self, **params: Unpack[ResponseParams]) -> ControlledResponse: ...
    @overload
    async def create(
        self, **params: Unpack[ResponseStreamParams]
    ) -> AsyncStream[ResponseStreamEvent]: ...
    @overload
    async def create(
        self, **params: Unpack[ResponseEitherParams]
    ) -> ControlledResponse | AsyncStream[ResponseStreamEvent]: ...
    async def create(self, **params: Any) -> Any:
        """Create a response. `control` asks for controls; the result's is the receipt."""
        return await super().create(**with_control(params))


class Control:
    """`client.control`: the server's capabilities, profiles, vectors and edits."""

    def __init__(self, client: OpenAI) -> None:
        self._client = client

    @cached_property
    def edits(self) -> Edits:
        """The edits of the model's weights."""
        return Edits(self._client)

    @cached_property
    def vectors(self) -> Vectors:
        """The steering vectors."""
        return Vectors(self._client)

    def capabilities(self) -> dict[str, Any]:
        """GET /control/capabilities: the controls that this server and its engine support."""
        return self._client.get("/control/capabilities", cast_to=dict[str, Any])

    def profiles(self) -> dict[str, Any]:
        """GET /control/profiles: the named presets, as a list object under `data`."""
        return self._client.get("/control/profiles", cast_to=dict[str, Any])


class AsyncControl:
    """`client.control` of the async client."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    @cached_property
    def edits(self) -> AsyncEdits:
        """The edits of the model's weights."""
        return AsyncEdits(self._client)

    @cached_property
    def vectors(self) -> AsyncVectors:
        """The steering vectors."""
        return AsyncVectors(self._client)

    async def capabilities(self) -> dict[str, Any]:
        """GET /control/capabilities: the controls that this server and its engine support."""
        return await self._client.get("/control/capabilities", cast_to=dict[str, Any])

    async def profiles(self) -> dict[str, Any]:
        """GET /control/profiles: the named presets, as a list object under `data`."""
        return await self._client.get("/control/profiles", cast_to=dict[str, Any])
