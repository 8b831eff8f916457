"""The facts of an OpenAI request body that a plan depends on."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class Endpoint(StrEnum):
    """The endpoints that take `control`."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"


MAX_TOKENS_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Request:
    """What the rest of the body says.

    A field of the wrong type counts as absent here: vLLM's own schema refuses the body later.

    Attributes:
        endpoint: Where the request came in.
        stream: Whether the answer is streamed.
        prompts: Number of prompts (completions take several).
        choices: Returned choices for each prompt: `n`.
        max_tokens: Limit of one response, and the name of the field that sets it.
        temperature: None if the request names none.
        beam_search: vLLM's own beam search.
        background: The Responses API's background mode.
        embeddings: Whether some prompts are given as embeddings.
        thinking_token_budget: Whether vLLM's own budget of the thinking phase is set.

    """

    endpoint: Endpoint
    stream: bool = False
    prompts: int = 1
    choices: int = 1
    max_tokens: int | None = None
    max_tokens_field: str = "max_tokens"
    temperature: float | None = None
    beam_search: bool = False
    background: bool = False
    embeddings: bool = False
    thinking_token_budget: bool = False

    @classmethod
    def of(cls, endpoint: Endpoint, body: Mapping[str, Any]) -> Self:
        field = next((f for f in MAX_TOKENS_FIELDS if _integer(body.get(f)) is not None), None)
        temperature = body.get("temperature")
        return cls(
            endpoint=endpoint,
            stream=body.get("stream") is True,
            prompts=_prompts(body) if endpoint is Endpoint.COMPLETIONS else 1,
            choices=_integer(body.get("n")) or 1,
            max_tokens=_integer(body.get(field)) if field else None,
            max_tokens_field=field or "max_tokens",
            temperature=temperature if isinstance(temperature, int | float) else None,
            beam_search=body.get("use_beam_search") is True,
            background=body.get("background") is True,
            embeddings=body.get("prompt_embeds") is not None,
            thinking_token_budget=body.get("thinking_token_budget") is not None,
        )


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _prompts(body: Mapping[str, Any]) -> int:
    """Prompts of a completion: texts (or token ids) and embeddings, each one or a list of them."""
    return max(1, _count(body.get("prompt")) + _count(body.get("prompt_embeds")))


def _count(prompt: object) -> int:
    # One prompt may itself be a list: of token ids.
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return len(prompt)
    return int(prompt is not None)
