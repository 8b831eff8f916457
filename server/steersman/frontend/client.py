"""`ControlledEngine`: vLLM's engine client with the request's control in front of it.

vLLM's serving layer calls `generate` as always. Without a control in scope the call goes straight
through; with one, it becomes one or many engine requests whose outcome is yielded as if it were
one.
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.exceptions import GracefulHTTPError, VLLMValidationError
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.controls.events import EventsPart
from steersman.controls.limits import LimitsPart
from steersman.controls.search import SearchPart
from steersman.frontend import first_tokens, traced
from steersman.frontend.arrival import check_arrival
from steersman.frontend.carrier import Carrier
from steersman.frontend.failure import reward_failure
from steersman.frontend.outputs import as_delta, replay, transfer_of
from steersman.frontend.queue import PLACES, Places
from steersman.frontend.reasoning import Reasoning, closing_tokens
from steersman.frontend.reports import Reports
from steersman.frontend.source import Call, EngineSource, truncations
from steersman.keys.usage import PASS, LimitError
from steersman.ledger import Failure, Generation
from steersman.plan import Plan
from steersman.reward.error import RewardError
from steersman.reward.judge import Judge
from steersman.reward.rewards import Asked
from steersman.scope import CONTROL, REFUSED, ControlScope
from steersman.search.policy import Search
from steersman.tracing import NO_SPAN, Span
from steersman.trajectory.reading import Reading
from steersman.trajectory.together import pieces
from steersman.trajectory.trajectory import ABORTED, Source
from steersman.wire import KEY


class ControlledEngine:
    """A stand-in for the engine client. Whatever it does not override is the client's own.

    It is no subclass of `EngineClient`, whose concrete defaults would hide the client's methods.

    Args:
        engine: vLLM's engine client.
        reasoning: The model's thinking phase.
        reports: Where the workers' counts arrive.

    """

    def __init__(self, engine: EngineClient, reasoning: Reasoning, reports: Reports) -> None:
        self._engine = engine
        self._reasoning = reasoning
        self._markers = reasoning.markers
        self._reports = reports
        self._refusal: GracefulHTTPError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def refuse(self, reason: str) -> int:
        """Answer all requests, those in flight and those to come, with HTTP 503; streams, whose
        status has gone, with an error event.

        Returns:
            The number of engine requests in flight.

        """
        self._refusal = GracefulHTTPError(reason, HTTPStatus.SERVICE_UNAVAILABLE)
        processor = self._engine.output_processor
        processor.propagate_error(self._refusal)
        return len(processor.request_states)

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Refuse a request that does not fit in the queue, all its branches counted.

        Raises:
            GracefulHTTPError: It does not, or has more choices than a request with its key may
                have, or the server ends.

        """
        if self._refusal is not None:
            raise self._refusal
        control, branches = CONTROL.get(), n
        if control is None:
            _check_fan_out(n)  # beam search will start its beams one by one
        else:
            branches = control.plan.branches(n) * control.plan.request.prompts
        self._engine.check_admission(branches, request_id)

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate under the control in scope, or just generate.

        Raises:
            ValueError: The request carries a field that only this class may set.
            VLLMValidationError: The call differs from the plan, or has none.
            GracefulHTTPError: It has more choices than a request with its key may have, or the
                branches of a further prompt or turn do not fit in the queue.

        """
        if KEY in (sampling_params.extra_args or ()):
            raise ValueError(f"vllm_xargs.{KEY} is reserved")
        if REFUSED.get():
            raise VLLMValidationError(
                "this request could not be planned: its control would be ignored",
                parameter="control",
            )
        control = CONTROL.get()
        if control is None:
            _check_fan_out(sampling_params.n)
            if (kept := PLACES.get()) is not None:
                kept.admit_call(self._engine, sampling_params.n, request_id)
            outputs: AsyncGenerator[RequestOutput, None] = self._engine.generate(
                prompt, sampling_params, request_id, **options
            )
            return outputs
        call = Call(prompt, sampling_params, request_id, options)
        carrier = self._carrier(control.plan, call)
        grammars = self._engine.vllm_config.structured_outputs_config
        from_the_start = carrier.opened and options.get("reasoning_ended") is True
        try:
            check_arrival(
                control,
                prompt,
                sampling_params,
                grammar_in_thinking=grammars.enable_in_reasoning or from_the_start,
            )
        except VLLMValidationError as error:
            control.ledger.failure = Failure(400, str(error))
            raise
        closing = closing_tokens(self._engine.vllm_config) if self._markers else ()
        reading = Reading(self._markers, carrier.opened, closing, self._reasoning.text_of)
        # The first turn of a tool loop was admitted with the request, as every prompt is.
        places = PLACES.get() or Places()
        places.admit(self._engine, control.plan.branches(sampling_params.n), request_id)
        generation = control.ledger.open(reading)
        generation.stops = frozenset(carrier.stops_of(sampling_params))
        generation.prompt_tokens = len(call.prompt_token_ids)
        params = sampling_params.clone()
        params.max_tokens = generation.branch_max_tokens = _share(control, params)
        limits = control.plan.part(LimitsPart)
        left = limits.left(control.ledger) if limits is not None else None
        if left is not None and left < params.max_tokens:
            params.max_tokens = generation.tokens_left = left
        params.min_tokens = min(params.min_tokens, params.max_tokens)  # the engine would refuse it
        span = control.span.child("generate")
        call = replace(call, params=params)
        outputs = self._controlled(control, generation, call, carrier, span)
        if span is not NO_SPAN:
            outputs = traced.generation(outputs, generation, span)
        if params.output_kind is RequestOutputKind.DELTA:
            outputs = first_tokens.timed(outputs, reading, control.ledger)
        return outputs

    def _carrier(self, plan: Plan, call: Call) -> Carrier:
        token_ids = call.prompt_token_ids
        return Carrier(
            self._reports,
            parts=plan.parts,
            origin=len(token_ids),
            opened=self._reasoning.opens(token_ids, call.options.get("reasoning_parser_kwargs")),
            stops=self._reasoning.stops,
            vocabulary=self._engine.model_config.get_vocab_size(),
            longest=self._engine.model_config.max_model_len,
        )

    def _controlled(
        self,
        control: ControlScope,
        generation: Generation,
        call: Call,
        carrier: Carrier,
        span: Span,
    ) -> AsyncGenerator[RequestOutput, None]:
        plan = control.plan
        engine_source = EngineSource(
            self._engine, call, carrier, control.room, generation.started.append, span
        )
        source: Source[RequestOutput] = engine_source
        for part in plan.parts:
            source = part.wrap(source, generation.reading)
        search = Search(
            source,
            call.params.n,
            generation.reading,
            generation.branches,
            truncations(call.params),
            steps=generation.steps,
        )
        if (searched := plan.part(SearchPart)) is not None:
            if searched.asked is not None:
                search.judge = generation.judge = self._judge(searched.asked, control, search, call)
                search.judge.span = span
            return self._search(searched, search, control, generation, call, span)
        # In one output of several choices vLLM gives the cached tokens of one choice only.
        streamed = call.params.output_kind is RequestOutputKind.DELTA
        watched = plan.part(LimitsPart) is not None or plan.part(EventsPart) is not None
        if source is engine_source and not watched and (streamed or call.params.n == 1):
            return engine_source.pass_through(generation.branches)
        return self._plain(search, control, call)

    def _judge(
        self,
        asked: Asked,
        control: ControlScope,
        search: Search[RequestOutput],
        call: Call,
    ) -> Judge[RequestOutput]:
        text = self._engine.get_tokenizer().decode(list(call.prompt_token_ids))
        return Judge(asked, search.reading, text, control.plan.request.messages)

    async def _plain(
        self,
        search: Search[RequestOutput],
        control: ControlScope,
        call: Call,
    ) -> AsyncGenerator[RequestOutput, None]:
        """A request without a search, followed from token to token."""
        streamed, ended = call.params.output_kind is RequestOutputKind.DELTA, 0
        trajectories = search.start_branches(call.params.n)
        steps = pieces(trajectories)
        async with _limited(control, search), contextlib.aclosing(steps):
            async for trajectory, step in steps:
                trajectory.delivered += len(step.token_ids)
                ended += step.finish_reason is not None
                if streamed:
                    _end_at_limit(step.output, control)
                    last = ended == len(trajectories)
                    yield as_delta(step.output, trajectory.branch, call.request_id, last=last)
        if not streamed:
            for output in replay(trajectories, call.params.output_kind, call.request_id):
                _end_at_limit(output, control)
                yield output

    async def _search(
        self,
        searched: SearchPart,
        search: Search[RequestOutput],
        control: ControlScope,
        generation: Generation,
        call: Call,
        span: Span,
    ) -> AsyncGenerator[RequestOutput, None]:
        try:
            async with _limited(control, search):
                outcome = await searched.policy.run(searched.spec, search)
        except RewardError as error:
            control.ledger.failure = Failure(error.status, str(error))
            raise reward_failure(error) from error
        generation.outcome = outcome
        traced.select(outcome, span)
        winners, kind = outcome.winners, call.params.output_kind
        for output in replay(winners, kind, call.request_id, transfer_of(search.started)):
            for completion in output.outputs:
                winners[completion.index].delivered += len(completion.token_ids)
            _end_at_limit(output, control)
            yield output


def _check_fan_out(choices: int) -> None:
    admitted = PASS.get()
    if admitted is None:
        return
    try:
        admitted.check_fan_out(choices)
    except LimitError as error:
        raise GracefulHTTPError(error.message, HTTPStatus.TOO_MANY_REQUESTS) from error


@contextlib.asynccontextmanager
async def _limited(control: ControlScope, search: Search[RequestOutput]) -> AsyncGenerator[None]:
    """Stop a search at the limits of its request, if it has any."""
    limits = control.plan.part(LimitsPart)
    if limits is None:
        yield
        return
    async with limits.watching(control.ledger, search.stop):
        yield


def _end_at_limit(output: RequestOutput, control: ControlScope) -> None:
    """Say `length` of a response that a limit of the request has ended."""
    if control.ledger.stopped_by is None:
        return
    for completion in output.outputs:
        if completion.finish_reason == ABORTED:
            completion.finish_reason = "length"


def _share(control: ControlScope, params: SamplingParams) -> int:
    """The token limit of one branch: its own, or its share of what the request may still sample."""
    plan = control.plan
    left = plan.max_tokens - control.ledger.sampled_tokens
    share = max(1, left // (plan.branches(params.n) * plan.request.prompts))
    return share if params.max_tokens is None else min(params.max_tokens, share)
