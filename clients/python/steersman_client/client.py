"""The OpenAI SDK's clients for a Steersman server."""

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from openai import AsyncOpenAI, NotGiven, OpenAI

from steersman_client import resources
from steersman_client.results import controlled_type

DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"

P = ParamSpec("P")
R = TypeVar("R")


def _typed_as(_: Callable[P, R]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    # For type checkers: the decorated function takes the arguments that the given one takes.
    def keep(function: Callable[..., R]) -> Callable[P, R]:
        return function

    return keep


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    # The SDK's own defaults are OpenAI's address and key: neither may reach another server.
    base_url = options.get("base_url")
    if base_url is None or isinstance(base_url, NotGiven):
        base_url = os.environ.get("STEERSMAN_BASE_URL") or DEFAULT_BASE_URL
    api_key = options.get("api_key")
    if api_key is None:
        api_key = os.environ.get("STEERSMAN_API_KEY") or "none"
    return {**options, "base_url": base_url, "api_key": api_key}


class Steersman(OpenAI):
    """`openai.OpenAI` whose requests take `control` and whose results carry a receipt.

    Without a `base_url`, STEERSMAN_BASE_URL or http://127.0.0.1:8000/v1 is used; without an
    `api_key`, STEERSMAN_API_KEY or "none". All other arguments are the SDK's.
    """

    @_typed_as(OpenAI.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(**_with_defaults(options))

    @cached_property
    def chat(self) -> resources.Chat:
        """Chat completions, under `chat.completions`."""
        return resources.Chat(self)

    @cached_property
    def completions(self) -> resources.Completions:
        """Text completions."""
        return resources.Completions(self)

    @cached_property
    def responses(self) -> resources.Responses:
        """The Responses API."""
        return resources.Responses(self)

    @cached_property
    def control(self) -> resources.Control:
        """Capabilities of the server."""
        return resources.Control(self)

    def _process_response_data(self, *, data: object, cast_to: Any, response: Any) -> Any:
        # The one place where the SDK turns JSON into objects: plain, raw and streamed.
        return super()._process_response_data(
            data=data, cast_to=controlled_type(cast_to, data), response=response
        )


class AsyncSteersman(AsyncOpenAI):
    """`openai.AsyncOpenAI` for a Steersman server: the async twin of `Steersman`."""

    @_typed_as(AsyncOpenAI.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(**_with_defaults(options))

    @cached_property
    def chat(self) -> resources.AsyncChat:
        """Chat completions, under `chat.completions`."""
        return resources.AsyncChat(self)

    @cached_property
    def completions(self) -> resources.AsyncCompletions:
        """Text completions."""
        return resources.AsyncCompletions(self)

    @cached_property
    def responses(self) -> resources.AsyncResponses:
        """The Responses API."""
        return resources.AsyncResponses(self)

    @cached_property
    def control(self) -> resources.AsyncControl:
        """Capabilities of the server."""
        return resources.AsyncControl(self)

    def _process_response_data(self, *, data: object, cast_to: Any, response: Any) -> Any:
        return super()._process_response_data(
            data=data, cast_to=controlled_type(cast_to, data), response=response
        )
