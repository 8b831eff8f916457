"""Calls of the engine, checked against the plan."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.changes import changes
from steersman.controls.control import Arrived, UnplannedError
from steersman.plan import Plan
from steersman.request import Endpoint
from steersman.scope import ControlScope


def check_arrival(
    control: ControlScope, prompt: Any, params: SamplingParams, *, grammar_in_thinking: bool
) -> None:
    """Refuse a call that is not the one planned, before anything of it runs.

    Args:
        control: The request.
        prompt: The rendered prompt.
        params: Its sampling parameters.
        grammar_in_thinking: Whether a grammar, if there is one, binds the thinking too: always on
            this server, or here, where the prompt has opened a phase that vLLM takes for ended.

    Raises:
        VLLMValidationError: The call differs from the plan.

    """
    plan, calls = control.plan, len(control.ledger.generations)
    prompts = plan.request.prompts
    if plan.request.endpoint is not Endpoint.RESPONSES and calls >= prompts:
        raise _refusal("prompt", f"it was planned for prompts: {prompts}, and there are more")
    for field, reason in _differences(plan, prompt, params):
        raise _refusal(field, reason)
    arrived = Arrived(
        temperature=params.temperature,
        grammar_in_thinking=params.structured_outputs is not None and grammar_in_thinking,
        changes=changes(partial(getattr, params)),
    )
    try:
        for part in plan.parts:
            part.check_arrival(arrived)
    except UnplannedError as error:
        raise _refusal(error.field, str(error)) from error


def _differences(plan: Plan, prompt: Any, params: SamplingParams) -> Iterator[tuple[str, str]]:
    """The field and the reason of each difference."""
    request = plan.request
    if params.n != request.choices:
        yield "n", f"it was planned for n = {request.choices}, not {params.n}"
    # Beam search asks for what its steps have gathered so far, as no endpoint does otherwise.
    if params.output_kind is not _KINDS[request.stream]:
        yield "stream", f"it was planned for another kind of output than {params.output_kind.name}"
    embeddings = isinstance(prompt, Mapping) and prompt.get("prompt_embeds") is not None
    if embeddings and plan.reads_tokens:
        yield "prompt_embeds", "it needs prompts of tokens, not of embeddings"


_KINDS = {True: RequestOutputKind.DELTA, False: RequestOutputKind.FINAL_ONLY}


def _refusal(field: str, reason: str) -> VLLMValidationError:
    return VLLMValidationError(f"the control cannot be applied: {reason}", parameter=field)
