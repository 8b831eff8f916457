"""The facts of an OpenAI request body that a plan depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from steersman.changes import GRAMMARS


class Endpoint(StrEnum):
    """The endpoints that take `control`."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"


@dataclass(frozen=True, slots=True)
class Request:
    """The facts of the rest of the body, as the engine will understand it.

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
        include_reasoning: Whether the thinking is returned; without it a grammar binds the response
            from its first token on.
        stop_token_ids: Tokens that the request names as ends of its response.
        changes: The fields that change what is drawn otherwise: penalties, grammars, `stop`, ...
        truncated: The field that cuts distributions off: top_p, top_k or min_p; None if the request
            names none that does.
        allowed_token_ids: The only tokens that its response may consist of; None if all may be.
        messages: The messages of its prompt as they came; empty if it came as text.

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
    include_reasoning: bool = True
    stop_token_ids: int = 0
    changes: tuple[str, ...] = ()
    truncated: str | None = None
    allowed_token_ids: frozenset[int] | None = None
    messages: Sequence[Mapping[str, Any]] = field(default=(), compare=False, repr=False)

    @property
    def grammar(self) -> str | None:
        """The field that binds the output to a grammar; None if none does."""
        return next((field for field in self.changes if field in GRAMMARS), None)
