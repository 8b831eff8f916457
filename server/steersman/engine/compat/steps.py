"""Steps of both model runners: the life of requests, and the way of a step message."""

from collections.abc import Callable, Sequence
from typing import Any

from vllm.distributed.parallel_state import get_pp_group

from steersman.engine.batch import Arrival, Counted, Driven
from steersman.engine.compat import blocks
from steersman.engine.compat.core import REPORT
from steersman.engine.compat.faults import CLEAR, FAILED
from steersman.engine.health import Health
from steersman.wire import KEY

_GREEDY = 1e-5
"""Temperature below which vLLM takes the likeliest token."""

Resumed = Callable[[str], tuple[Any, Sequence[int]]]
"""Sampling parameters and all tokens of a request that comes back after a preemption."""


def update(driven: Driven, scheduler_output: Any, resumed: Resumed) -> None:
    """Bring a rank's controlled requests up to date with a step of the scheduler.

    A preempted request leaves, and comes back as if it were new: one runner keeps it meanwhile, the
    other forgets it.

    Args:
        driven: The controls that the rank's steps drive.
        scheduler_output: The step.
        resumed: Looks up a request that the runner has kept.

    """
    for request_id in sorted(scheduler_output.finished_req_ids):
        driven.finish(request_id)
    for request_id in sorted(scheduler_output.preempted_req_ids or ()):
        driven.preempt(request_id)
    for new in scheduler_output.scheduled_new_reqs:
        token_ids = new.prefill_token_ids or new.prompt_token_ids or ()
        _arrive(driven, new.req_id, new.sampling_params, token_ids, new.num_computed_tokens)
    cached = scheduler_output.scheduled_cached_reqs
    if cached.resumed_req_ids:
        for request_id, computed in zip(cached.req_ids, cached.num_computed_tokens, strict=True):
            if request_id in cached.resumed_req_ids:
                params, known = resumed(request_id)
                # What the runner knows can be placeholders; the scheduler sends the tokens then.
                token_ids = cached.all_token_ids.get(request_id) or known
                _arrive(driven, request_id, params, token_ids, computed)


def _arrive(
    driven: Driven,
    request_id: str,
    params: Any,
    token_ids: Sequence[int],
    computed: int,
) -> None:
    if content := params.extra_args.get(KEY) if params and params.extra_args else None:
        # vLLM raises other temperatures to 0.01 and more.
        greedy = params.temperature < _GREEDY
        driven.arrive(Arrival(request_id, content, token_ids, computed, greedy))


def drive(runner: Any, driven: Driven, resumed: Resumed) -> None:
    """Let what both runners call alike drive a rank: steps, their outputs, and dummy runs.

    Args:
        runner: vLLM's model runner.
        driven: The controls that its steps drive.
        resumed: Looks up a request that the runner has kept over a preemption.

    """
    execute_model = runner.execute_model
    sample_tokens = runner.sample_tokens
    dummy_run = runner._dummy_run
    # Only the last pipeline stage's output gets to the scheduler with something in it; the others
    # return an object that is shared by all steps.
    is_last = get_pp_group().is_last_rank

    def execute(scheduler_output: Any, *args: Any, **options: Any) -> Any:
        if tainted := getattr(scheduler_output, CLEAR, None):
            blocks.clear(runner, tainted)
        update(driven, scheduler_output, resumed)
        return execute_model(scheduler_output, *args, **options)

    def sample(*args: Any, **options: Any) -> Any:
        output = sample_tokens(*args, **options)
        return reported(output, driven) if is_last else output

    def dummy(*args: Any, **options: Any) -> Any:
        driven.rest()
        return dummy_run(*args, **options)

    runner.execute_model = execute
    runner.sample_tokens = sample
    runner._dummy_run = dummy


def reported(output: Any, driven: Driven) -> Any:
    """The last stage's output with the step message in it, by the time it is read."""
    counted = driven.counted()
    if counted is None or output is None:
        return output
    if not hasattr(output, "get_output"):
        return _put(output, counted)
    get_output = output.get_output

    def with_report() -> Any:
        return _put(get_output(), counted)

    output.get_output = with_report
    return output


def _put(output: Any, counted: Counted) -> Any:
    if counted.steered or counted.watched:
        setattr(output, REPORT, counted.message().encoded())
    if failed := counted.failed():
        setattr(output, FAILED, failed)
    return output


def look(runner: Any, health: Health) -> None:
    """Let the logits be looked at as the model makes them, before a grammar masks any."""
    model = runner.get_model()
    if not hasattr(model, "compute_logits"):
        return
    compute_logits = model.compute_logits

    def looked_at(*args: Any, **options: Any) -> Any:
        logits = compute_logits(*args, **options)
        health.look(logits)
        return logits

    model.compute_logits = looked_at
