"""Span of a controlled request, in the names of OpenTelemetry's conventions for generative AI."""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from steersman.errors import ControlError
from steersman.request import Endpoint
from steersman.scope import ControlScope
from steersman.tracing import NO_SPAN, Attributes, Span, Tracing

_OPERATIONS = {
    Endpoint.CHAT: "chat",
    Endpoint.COMPLETIONS: "text_completion",
    Endpoint.RESPONSES: "chat",
}
_NUMBERS = {  # fields of a body, and how the conventions call them
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
}
_LONGEST_NAME = 256


def begin(tracing: Tracing, endpoint: Endpoint, body: Mapping[str, Any], scope: Scope) -> Span:
    """Begin the span of a request.

    Args:
        tracing: Makes it.
        endpoint: Where the request came in.
        body: Its body, without its control.
        scope: The request.

    """
    if not tracing.on:
        return NO_SPAN
    operation, model = _OPERATIONS[endpoint], body.get("model")
    named = model[:_LONGEST_NAME] if isinstance(model, str) else None
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "steersman",
        "gen_ai.request.model": named,
        "gen_ai.request.reasoning.level": _effort(body),
        "url.path": endpoint.value,
    }
    for field, name in _NUMBERS.items():
        value = body.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool):
            attributes[name] = value
    title = operation if named is None else f"{operation} {named}"
    return tracing.request(title, Headers(scope=scope), attributes)


def planned(control: ControlScope) -> None:
    """Add what a request's plan says."""
    if not control.span.recorded:
        return
    request, (method, profile) = control.plan.request, control.plan.labels
    control.span.set(
        {
            "gen_ai.request.stream": request.stream,
            "gen_ai.request.choice.count": None if request.choices == 1 else request.choices,
            "steersman.request_id": control.request_id,
            "steersman.method": method,
            "steersman.profile": profile,
        }
    )


def refuse(span: Span, request_id: str, error: ControlError) -> None:
    """End the span of a request that was refused."""
    span.set(
        {
            "http.response.status_code": error.status,
            "steersman.request_id": request_id,
            "steersman.outcome": "refused",
        }
    )
    _blame(span, error.status)
    span.close()


def end(control: ControlScope, outcome: str, status: int) -> None:
    """End the span of a request that has run, and all that is open below it.

    Args:
        control: The request.
        outcome: ok, refused, error or disconnected.
        status: HTTP status of its answer; 0 if there was none.

    """
    span = control.span
    if span.recorded:
        span.set(_ended(control, outcome, status))
    if outcome == "error" and status == 200:
        span.fail("stream")
    elif outcome in ("error", "refused"):
        _blame(span, status)
    span.close()


def _blame(span: Span, status: int) -> None:
    """Name the error; by the conventions a client's is no failure of a server's span."""
    if status < 500:
        span.set({"error.type": str(status)})
    else:
        span.fail(str(status))


def _ended(control: ControlScope, outcome: str, status: int) -> Attributes:
    ledger = control.ledger
    compute = ledger.spent(answered=outcome == "ok")
    returned = [one for _, one in ledger.returned]
    reasons = [one.finish_reason for one in returned if one.finish_reason is not None]
    return {
        "http.response.status_code": status or None,
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.response.time_to_first_chunk": ledger.first_token_seconds,
        "gen_ai.usage.input_tokens": sum(one.prompt_tokens for one in ledger.generations),
        "gen_ai.usage.output_tokens": compute.returned_tokens,
        "gen_ai.usage.reasoning.output_tokens": _thinking_tokens(control),
        "steersman.outcome": outcome,
        "steersman.branches": len(ledger.branches),
        "steersman.tokens.sampled": compute.sampled_tokens,
        "steersman.tokens.cancelled": compute.cancelled_tokens,
        "steersman.tokens.lost": compute.lost_tokens,
        "steersman.tokens.sequential": compute.sequential_tokens,
        "steersman.stopped_by": ledger.stopped_by,
    }


def _thinking_tokens(control: ControlScope) -> int | None:
    """Thinking tokens of the returned choices; None if nothing has looked at their tokens."""
    found = 0
    for generation, one in control.ledger.returned:
        tokens = one.track.token_ids if one.track is not None else one.token_ids
        if len(tokens) < one.tokens:
            return None
        found += generation.reading.thinking_tokens(tokens)
    return found


def _effort(body: Mapping[str, Any]) -> str | None:
    reasoning = body.get("reasoning")
    effort = body.get("reasoning_effort") or (
        reasoning.get("effort") if isinstance(reasoning, dict) else None
    )
    return effort[:_LONGEST_NAME] if isinstance(effort, str) else None
