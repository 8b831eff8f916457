"""`ControlledEngine`: vLLM's engine client with the request's control in front of it.

vLLM's serving layer calls `generate` as always. Without a control in scope the call goes straight
through; with one, it becomes one or many engine requests whose outcome is yielded as if it were
one.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.exceptions import VLLMValidationError
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.engine.arrival import check_arrival
from steersman.engine.carrier import Carrier
from steersman.engine.lines import Call, EngineLines, check, prefill_tokens, replay, transfer_of
from steersman.engine.probes import Probes
from steersman.engine.reasoning import Reasoning, closing_tokens
from steersman.engine.reports import Reports
from steersman.ledger import Run
from steersman.plan import Plan
from steersman.scope import CONTROL, REFUSED, ControlScope
from steersman.search.first_finish import Rules, first_finish
from steersman.steering.configuration import KEY
from steersman.trajectory.line import Line
from steersman_client import FirstFinish


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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Refuse a request that would not fit in the queue, all its branches counted."""
        control = CONTROL.get()
        branches = control.plan.branches(n) if control else n
        self._engine.check_admission(branches, request_id)

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate under the control in scope, or just generate.

        Raises:
            ValueError: The request carries what only this class may put there.
            VLLMValidationError: The call is not what was planned, or was not planned at all.

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
            outputs: AsyncGenerator[RequestOutput, None] = self._engine.generate(
                prompt, sampling_params, request_id, **options
            )
            return outputs
        carrier = self._carrier(control.plan, prompt, options.get("reasoning_parser_kwargs"))
        grammars = self._engine.vllm_config.structured_outputs_config
        from_the_start = carrier.opened and options.get("reasoning_ended") is True
        check_arrival(
            control,
            prompt,
            sampling_params,
            grammar_in_thinking=grammars.enable_in_reasoning or from_the_start,
        )
        run = control.ledger.open(control.plan.branches(sampling_params.n), carrier.opened)
        run.stops = frozenset(carrier.stops_of(sampling_params))
        params = sampling_params.clone()
        params.max_tokens = run.branch_max_tokens = _share(control, run, params.max_tokens)
        call = Call(prompt, params, request_id, options)
        if control.plan.search is not None:
            return self._first_finish(control.plan.search, run, call, carrier)
        probes = self._probes(call, carrier)
        # In one output of several choices vLLM says of one only what was in the prefix cache.
        followed = probes is not None or params.n > 1
        if followed and params.output_kind is not RequestOutputKind.DELTA:
            return self._followed(run, call, carrier, probes)
        return self._plain(run, call, carrier, probes)

    def _carrier(self, plan: Plan, prompt: Any, parser_kwargs: Mapping[str, Any] | None) -> Carrier:
        token_ids = _prompt_token_ids(prompt)
        return Carrier(
            self._reports,
            configuration=plan.steering.configuration if plan.steering else None,
            governing=plan.governing,
            monitored=plan.monitor is not None,
            origin=len(token_ids),
            opened=self._reasoning.opens(token_ids, parser_kwargs),
            stops=self._reasoning.stops,
            vocabulary=self._engine.model_config.get_vocab_size(),
            longest=self._engine.model_config.max_model_len,
        )

    async def _plain(
        self, run: Run, call: Call, carrier: Carrier, probes: Probes | None
    ) -> AsyncGenerator[RequestOutput, None]:
        probers = [probes.of(line) for line in run.lines] if probes is not None else []
        if call.params.seed is not None:
            for line in run.lines:
                line.seed = call.params.seed + line.branch  # as vLLM does for its `n`
        with carrier.lines(run.lines, call.params) as params:
            outputs = call.start(self._engine, params)
            async with contextlib.AsyncExitStack() as ending:
                ending.push_async_callback(outputs.aclose)
                for prober in probers:
                    ending.push_async_callback(prober.stop)
                async for output in outputs:
                    check(output, run.lines)
                    first = run.lines[output.outputs[0].index]
                    if not first.tokens:
                        first.prefill_tokens = prefill_tokens(output)
                    for completion in output.outputs:
                        line = run.lines[completion.index]
                        line.advance(len(completion.token_ids), completion.finish_reason)
                        line.delivered = line.tokens
                        if line.track is not None:
                            line.track.add(completion.token_ids)
                            if probers:
                                probers[completion.index].watch(line.track.token_ids)
                    yield output

    async def _followed(
        self, run: Run, call: Call, carrier: Carrier, probes: Probes | None
    ) -> AsyncGenerator[RequestOutput, None]:
        """A plain request whose caller wants but the whole, followed from token to token."""
        source = EngineLines(self._engine, call, carrier, probes.of if probes else None)

        async def follow(line: Line[RequestOutput]) -> None:
            async for piece in source.follow(line):
                line.add(piece)

        await _all(follow(line) for line in run.lines)
        for output in replay(run.lines, call.params.output_kind, call.request_id):
            yield output

    def _probes(self, call: Call, carrier: Carrier) -> Probes | None:
        probing = carrier.governing.probing if carrier.governing else None
        if probing is None or self._markers is None:
            return None
        closing = closing_tokens(self._engine.vllm_config)
        return Probes(self._engine, call, carrier, probing, self._markers, closing)

    async def _first_finish(
        self, search: FirstFinish, run: Run, call: Call, carrier: Carrier
    ) -> AsyncGenerator[RequestOutput, None]:
        # Clients may reuse their request ids; the id that `stop` aborts must be ours alone.
        own = replace(call, request_id=f"{call.request_id}-{uuid.uuid4().hex}")
        probes = self._probes(own, carrier)
        source = EngineLines(self._engine, own, carrier, probes.of if probes else None)
        rules = Rules(
            voters=search.k,
            choices=call.params.n,
            require_answer=search.require_answer,
            min_thinking=search.min_thinking,
            markers=self._markers,
            opened=carrier.opened,
        )
        with _one_error():
            run.outcome = await first_finish(source, run.lines, rules)
        winners, kind = run.outcome.winners, call.params.output_kind
        for output in replay(winners, kind, call.request_id, transfer_of(run.lines)):
            for completion in output.outputs:
                winners[completion.index].delivered += len(completion.token_ids)
            yield output


def _share(control: ControlScope, run: Run, max_tokens: int | None) -> int:
    """The token limit of one branch: its own, or its share of what the request may still sample."""
    left = control.plan.max_tokens - control.ledger.sampled_tokens
    share = max(1, left // (len(run.lines) * control.plan.prompts))
    return share if max_tokens is None else min(max_tokens, share)


def _prompt_token_ids(prompt: Any) -> Sequence[int]:
    """Tokens of a rendered prompt; none for one that has only embeddings."""
    return prompt.get("prompt_token_ids") or () if isinstance(prompt, Mapping) else ()


async def _all(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them beside each other; the first error ends the others."""
    with _one_error():
        async with asyncio.TaskGroup() as tasks:
            for coroutine in coroutines:
                tasks.create_task(coroutine)


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Turn a group of errors into one that vLLM's handlers know. Siblings fail alike."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group
