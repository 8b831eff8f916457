"""Spans of an engine call: of its trajectories, and of the choice among them."""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from vllm.outputs import RequestOutput

from steersman.ledger import Generation
from steersman.tracing import Attributes, Span
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.trajectory import Trajectory


async def generation(
    outputs: AsyncGenerator[RequestOutput, None], books: Generation, span: Span
) -> AsyncGenerator[RequestOutput, None]:
    """Pass the outputs of an engine call on, and end its span with them.

    Args:
        outputs: The outputs.
        books: Of the call.
        span: Of the call.

    """
    try:
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                yield output
    except Exception as error:
        span.fail(error)
        raise
    finally:
        span.set(
            {
                "gen_ai.usage.input_tokens": books.prompt_tokens,
                "steersman.branches": len(books.branches),
                "steersman.tokens.sampled": books.sampled_tokens,
            }
        )
        span.end()


@contextlib.contextmanager
def branch(
    trajectories: Sequence[Trajectory[Any]], above: Span, spans: dict[Trajectory[Any], Span]
) -> Iterator[Span]:
    """A span for the engine request of some trajectories, for the body of the `with`.

    Args:
        trajectories: Its choices.
        above: The span of the engine call.
        spans: Spans of the call's trajectories, to which this one is added.

    """
    start = trajectories[0].start
    parent = spans.get(start.prefix.trajectory) if start.prefix is not None else None
    with above.within("fork" if start.forked else "branch", after=parent) as span:
        if not span.recorded:
            yield span
            return
        spans.update(dict.fromkeys(trajectories, span))
        try:
            yield span
        finally:
            span.set(_branch(trajectories))


def select(outcome: Outcome[Any], span: Span) -> None:
    """Make the span of a decision: from the end of the last branch, or of the last scoring, on."""
    winners = [one.branch for one in outcome.winners]
    attributes: Attributes = {
        "steersman.decided_by": outcome.decided_by,
        "steersman.winners": winners,
    }
    span.child("select", attributes, began=span.latest).end()


def _branch(trajectories: Sequence[Trajectory[Any]]) -> Attributes:
    first = trajectories[0]
    return {
        "steersman.branch": [one.branch for one in trajectories],
        "steersman.begun_tokens": first.start.begun or None,
        "steersman.bare": first.start.bare or None,
        "gen_ai.request.seed": first.seed,
        "gen_ai.usage.output_tokens": sum(one.sampled_tokens for one in trajectories),
        "gen_ai.response.finish_reasons": [
            one.finish_reason for one in trajectories if one.finish_reason is not None
        ]
        or None,
    }
