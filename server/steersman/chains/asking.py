"""A question to a server, answered by chains in a stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import openai
from pydantic import BaseModel, ValidationError

from steersman.chains.record import Record
from steersman.chains.shares import Texts, shares
from steersman_client import AppliedSearch, Receipt, Steersman


class _Model(BaseModel):
    names: tuple[str, ...]


class _Markers(BaseModel):
    start_text: str
    end_text: str


class _Capabilities(BaseModel):
    """Parts of `/v1/control/capabilities` that are asked for."""

    model: _Model
    thinking_tokens: _Markers | None = None


class AskingError(Exception):
    """A question that got no answer; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request.

    Attributes:
        text: The question.
        search: `control.search`, as it is sent.
        model: The name to ask for; the server's first one when None.
        options: Further fields of the body, as the seed.

    """

    text: str
    search: Mapping[str, Any]
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """A response and its chains.

    Attributes:
        record: The steps.
        text: The response without its thinking, as the server tells them apart.
        finish_reason: The reason why it ended.
        receipt: Its receipt, once the stream has ended.
        answers: Share of each answer among the states after the steps, largest first; an empty
            one where a state has none.

    """

    record: Record = field(default_factory=Record)
    text: str = ""
    finish_reason: str | None = None
    receipt: Receipt | None = None
    answers: Mapping[str, float] = field(default_factory=dict)

    @property
    def search(self) -> AppliedSearch | None:
        """Part of the receipt that tells of the search."""
        return self.receipt.applied.search if self.receipt is not None else None


def ask(client: Steersman, question: Question, told: Callable[[Record], None]) -> Answer:
    """Ask a question, and read its stream to the end.

    Args:
        client: Client of a running server.
        question: The request.
        told: Called with the record whenever it has grown.

    Raises:
        AskingError: There is no answer, or it came with no receipt.

    """
    try:
        server = _capabilities(client)
        model = question.model or server.model.names[0]
        answer = _streamed(client, model, question, told)
        if answer.receipt is None:
            raise AskingError(f"the response of {client.base_url} has no receipt")
    except openai.APIError as error:
        raise AskingError(_reason(client, error)) from error
    except ValidationError as error:
        line = " ".join(str(error).split())
        raise AskingError(f"{client.base_url} answers otherwise than expected: {line}") from error
    markers = server.thinking_tokens
    reading = Texts() if markers is None else Texts.between(markers.start_text, markers.end_text)
    states = (answer.search and answer.search.chain) or ()
    answer.answers = shares(reading.answers([state.text for state in states]))
    return answer


def _capabilities(client: Steersman) -> _Capabilities:
    try:
        return _Capabilities.model_validate(client.control.capabilities())
    except (openai.NotFoundError, ValidationError) as error:
        raise AskingError(f"{client.base_url} is not a Steersman server") from error


def _streamed(
    client: Steersman, model: str, question: Question, told: Callable[[Record], None]
) -> Answer:
    answer = Answer()
    with client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question.text}],
        stream=True,
        control={"search": {**question.search, "return_chain": True}, "events": ["steps"]},
        extra_body=question.options,
    ) as chunks:
        for chunk in chunks:
            for choice in chunk.choices:
                answer.text += choice.delta.content or ""
                answer.finish_reason = choice.finish_reason or answer.finish_reason
            if chunk.steps:
                answer.record.add(chunk.steps)
                told(answer.record)
            answer.receipt = chunk.control or answer.receipt
    return answer


def _reason(client: Steersman, error: openai.APIError) -> str:
    if isinstance(error, openai.APIConnectionError):
        return f"{client.base_url} does not answer: {error.__cause__ or error.message}"
    body = error.body if isinstance(error.body, dict) else {}
    message = " ".join(str(body.get("message") or error.message).split())
    if not isinstance(error, openai.APIStatusError):
        return f"the server ended the stream with an error: {message}"
    if error.status_code != 400:
        return f"the server answered HTTP {error.status_code}: {message}"
    param = body.get("param")
    return f"the server refuses the request: {f'{param}: ' if param else ''}{message}"
