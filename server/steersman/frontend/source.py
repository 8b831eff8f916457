"""Trajectories on vLLM: one engine request each, or one for all choices of a plain request."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.changes import LOST, changes
from steersman.engine.compat.client import collective_rpc
from steersman.engine.plugin import ASK
from steersman.frontend import traced
from steersman.frontend.carrier import Carrier
from steersman.frontend.outputs import check, never_begun, piece, prefill_tokens
from steersman.frontend.queue import PLACES, Places
from steersman.frontend.splice import Seam, Texts, begun_tokens, excerpt, fork_params, joined_track
from steersman.tracing import NO_SPAN, Span
from steersman.trajectory.trajectory import Piece, Start, Trajectory

_NOTHING = Carrier()
_WHOLE: Mapping[str, float] = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""Sampling parameters that cut distributions off, where they cut off nothing."""
_TRANSFER = "kv_transfer_params"
"""Where a request says, in `SamplingParams.extra_args`, which blocks another engine hands over."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of `EngineClient.generate`, as vLLM's serving layer makes it.

    Attributes:
        prompt: The rendered prompt.
        params: Sampling parameters.
        request_id: The id of the request.
        options: The remaining keyword arguments.

    """

    prompt: Any
    params: SamplingParams
    request_id: str
    options: Mapping[str, Any]

    @property
    def prompt_token_ids(self) -> Sequence[int]:
        """Tokens of the rendered prompt; none for one that has only embeddings."""
        if not isinstance(self.prompt, Mapping):
            return ()
        return self.prompt.get("prompt_token_ids") or ()

    def start(
        self, engine: EngineClient, params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """Make the call, with other sampling parameters."""
        outputs: AsyncGenerator[RequestOutput, None] = engine.generate(
            self.prompt, params, self.request_id, **self.options
        )
        return outputs

    def below(self, span: Span) -> "Call":
        """The same as a part of a span, to which vLLM's own span of it will belong."""
        if span.headers is None:
            return self
        return replace(self, options={**self.options, "trace_headers": span.headers})

    def after(self, token_ids: Sequence[int]) -> "Call":
        """The same with a prompt that goes on with generated tokens."""
        if not token_ids:
            return self
        # Without the text that its tokens were made from.
        rendered = {name: part for name, part in self.prompt.items() if name != "prompt"}
        return replace(
            self,
            prompt={**rendered, "prompt_token_ids": [*rendered["prompt_token_ids"], *token_ids]},
        )


class EngineSource:
    """Starts trajectories of one vLLM request: same prompt, own seed.

    Args:
        engine: vLLM's engine client.
        call: The request. Its `n` and its output kind are replaced.
        carrier: The control that all trajectories have.
        room: Bounds the engine requests in flight: over it a trajectory waits before it begins.
        opened: Called with each trajectory that is admitted.
        span: Of the request, above the spans of its trajectories.

    """

    def __init__(
        self,
        engine: EngineClient,
        call: Call,
        carrier: Carrier = _NOTHING,
        room: asyncio.Semaphore | None = None,
        opened: Callable[[Trajectory[RequestOutput]], None] = lambda _: None,
        span: Span = NO_SPAN,
    ) -> None:
        self._engine = engine
        self._call = call
        self._carrier = carrier
        self._room = room or asyncio.Semaphore(1 << 30)
        self._opened = opened
        self._span = span
        self._places = PLACES.get() or Places()
        self._spans: dict[Trajectory[RequestOutput], Span] = {}
        # Clients may reuse their request ids; the ids that `stop` aborts must be ours alone.
        self._prefix = f"{call.request_id}-{uuid.uuid4().hex}"
        self._ids: dict[Trajectory[RequestOutput], str] = {}
        self._stopping: set[Trajectory[RequestOutput]] = set()

    def start_all(
        self, starts: Sequence[Start[RequestOutput]]
    ) -> Sequence[Trajectory[RequestOutput]]:
        """Admit trajectories: all, or none.

        Raises:
            Exception: The engine's queue is full.
            ValueError: A fork that would lose some state of its parent, or has no room left.

        """
        forks = [start for start in starts if start.forked]
        for start in forks:
            self._check_fork(start)
        if forks:  # the others were admitted with the request
            self._places.admit(self._engine, len(forks), self._call.request_id)
        self._places.waiting += len(starts)
        return [self._admit(start) for start in starts]

    async def stop(self, trajectories: Sequence[Trajectory[RequestOutput]]) -> None:
        running = [one for one in trajectories if one.running]
        self._stopping.update(running)
        if ids := [self._ids[one] for one in running if one in self._ids]:
            await self._engine.abort(ids)

    async def close_thinking(self, trajectory: Trajectory[RequestOutput]) -> None:
        assert trajectory.track is not None
        args = ("settle", trajectory.track.key, trajectory.track.choice)
        await collective_rpc(self._engine, ASK, args)

    async def pass_through(
        self, branches: list[Trajectory[RequestOutput]]
    ) -> AsyncGenerator[RequestOutput, None]:
        """One engine request for all choices of a plain request: its outputs, as they come.

        Args:
            branches: The records of its choices are put here.

        """
        params = self._call.params
        trajectories: list[Trajectory[RequestOutput]] = []
        for branch in range(params.n):
            trajectory: Trajectory[RequestOutput] = Trajectory(Start(branch))
            trajectory.seed = branch_seed(params.seed, branch)
            trajectories.append(trajectory)
            self._opened(trajectory)
        branches.extend(trajectories)
        async with contextlib.aclosing(self._run(trajectories, self._call, params)) as outputs:
            async for output in outputs:
                for completion in output.outputs:
                    one = trajectories[completion.index]
                    one.advance(len(completion.token_ids), completion.finish_reason)
                    one.delivered = one.tokens
                yield output

    def _admit(self, start: Start[RequestOutput]) -> Trajectory[RequestOutput]:
        trajectory: Trajectory[RequestOutput] = Trajectory(start, excerpts=excerpt)
        trajectory.steps = self._steps(trajectory)
        self._opened(trajectory)
        return trajectory

    def _check_fork(self, start: Start[RequestOutput]) -> None:
        if not self._call.prompt_token_ids or "prompt_embeds" in self._call.prompt:
            raise ValueError("a prompt of embeddings cannot go on with tokens")
        if len(self._call.prompt_token_ids) + start.begun >= self._carrier.longest:
            raise ValueError("the model's context is full")
        if start.bare:
            return
        most = self._call.params.max_tokens
        if most is not None and start.begun >= most:
            raise ValueError(f"max_tokens: the response has all of its {most} tokens")
        for field in changes(partial(getattr, self._call.params)):
            if field in LOST:
                raise ValueError(f"forks are new engine requests, and {field} {LOST[field]}")
        if start.suffix and self._call.params.logprobs is not None:
            raise ValueError("logprobs: tokens that nobody drew have none")

    async def _steps(
        self, trajectory: Trajectory[RequestOutput]
    ) -> AsyncGenerator[Piece[RequestOutput], None]:
        """Run a trajectory, and record it."""
        start, params = trajectory.start, self._params(trajectory.start)
        trajectory.seed = params.seed
        async with self._turn():
            if trajectory in self._stopping:
                step = never_begun(self._call.prompt, params)
                trajectory.add(step)
                yield step
                return
            if start.prefix is not None:
                start.prefix.trajectory.forks.append(trajectory)
            try:
                async with contextlib.aclosing(self._recorded(trajectory, params)) as steps:
                    async for step in steps:
                        yield step
            except Exception:
                if start.prefix is not None and not trajectory.pieces:  # it was not taken
                    start.prefix.trajectory.forks.remove(trajectory)
                raise

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Wait until a trajectory may begin; it has its room for the body of the `with`."""
        try:
            await self._room.acquire()
        finally:
            self._places.waiting -= 1
        try:
            yield
        finally:
            self._room.release()

    async def _recorded(
        self, trajectory: Trajectory[RequestOutput], params: SamplingParams
    ) -> AsyncGenerator[Piece[RequestOutput], None]:
        start, own_id = trajectory.start, f"{self._prefix}-{len(self._ids)}"
        self._ids[trajectory] = own_id
        call = replace(
            self._call.after(begun_tokens(start.prefix, start.suffix)), request_id=own_id
        )
        async with contextlib.aclosing(self._run([trajectory], call, params)) as outputs:
            spliced = start.begun and not start.bare
            pieces = self._spliced(outputs, start) if spliced else _plain(outputs)
            async with contextlib.aclosing(pieces):
                async for step in pieces:
                    unheard = trajectory in self._stopping and not trajectory.pieces
                    trajectory.add(step)
                    if trajectory.track is not None and not trajectory.running:
                        trajectory.track.cut(trajectory.tokens)
                    yield step
                    if unheard and trajectory.running:  # it was not yet there to be aborted
                        await self._engine.abort([own_id])

    async def _run(
        self, trajectories: Sequence[Trajectory[RequestOutput]], call: Call, params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """The outputs of one engine request, whose choices are these trajectories."""
        start = trajectories[0].start
        carrier = replace(self._carrier.bare() if start.bare else self._carrier, begun=start.begun)
        with (
            traced.branch(trajectories, self._span, self._spans) as span,
            carrier.carrying(trajectories, params) as carried,
        ):
            joined_track(trajectories[0].track, start.prefix, start.suffix)
            outputs = call.below(span).start(self._engine, carried)
            async with contextlib.aclosing(outputs):
                async for output in outputs:
                    check(output, trajectories)
                    first = trajectories[output.outputs[0].index]
                    if not first.tokens:
                        first.prefill_tokens = prefill_tokens(output)
                    for completion in output.outputs:
                        track = trajectories[completion.index].track
                        if track is not None:
                            track.add(completion.token_ids)
                    yield output

    async def _spliced(
        self, outputs: AsyncGenerator[RequestOutput, None], start: Start[RequestOutput]
    ) -> AsyncGenerator[Piece[RequestOutput], None]:
        seam: Seam | None = None
        async for output in outputs:
            if seam is None:
                seam = Seam(self._texts, start.prefix, start.suffix)
                step = seam.begin(output)
                yield step
                if step.finish_reason is not None:
                    return
            step = seam.go_on(output)
            yield step
            if step.finish_reason is not None:
                return

    @cached_property
    def _texts(self) -> Texts:
        tokenizer, call = self._engine.get_tokenizer(), self._call
        return Texts(tokenizer, call.prompt_token_ids, call.params)

    def _params(self, start: Start[RequestOutput]) -> SamplingParams:
        """Sampling parameters of a trajectory.

        Blocks of another engine can be fetched, or left for it, once: that is for branch 0.
        """
        if start.bare:
            params = SamplingParams()
            params.max_tokens = None
        elif start.begun:
            params = fork_params(self._call.params, start.begun)
        else:
            params = self._call.params.clone()
        params.n = 1
        params.output_kind = RequestOutputKind.DELTA
        params.seed = branch_seed(params.seed, start.branch) if start.seed is None else start.seed
        if start.temperature is not None:
            params.temperature = start.temperature
        if start.whole:
            for name, whole in _WHOLE.items():
                setattr(params, name, whole)
        if start.max_tokens is not None:
            params.max_tokens = start.max_tokens
        if start.prefix is not None:  # the trajectory that it goes back to has them
            params.prompt_logprobs = None
        if start.branch or start.forked:
            own = dict(params.extra_args or {})
            own.pop(_TRANSFER, None)
            params.extra_args = own or None
        return params


async def _plain(
    outputs: AsyncGenerator[RequestOutput, None],
) -> AsyncGenerator[Piece[RequestOutput], None]:
    async for output in outputs:
        yield piece(output)


def truncations(params: SamplingParams) -> tuple[str, ...]:
    """The sampling parameters that cut distributions off."""
    return tuple(name for name, whole in _WHOLE.items() if getattr(params, name) != whole)


def branch_seed(seed: int | None, branch: int) -> int | None:
    """The seed of a branch: `seed + branch`, kept within the 64 bits that vLLM accepts; None
    without one."""
    if seed is None:
        return None
    wanted = seed + branch
    return wanted if wanted < 2**63 else wanted - 2**63
