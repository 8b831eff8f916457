"""vLLM's first model runner (`vllm/v1/worker/gpu_model_runner.py`): the default on CPUs."""

from typing import Any

from steersman.engine.batch import Batch, Driven
from steersman.engine.compat import steps


def attach(runner: Any, driven: Driven) -> None:
    """Let a runner's steps drive what its rank does beside them."""
    prepare_inputs = runner._prepare_inputs

    def resumed(request_id: str) -> tuple[Any, list[int]]:
        request = runner.requests[request_id]
        known = [*(request.prompt_token_ids or ()), *request.output_token_ids]
        return request.sampling_params, known

    def prepare(scheduler_output: Any, *args: Any, **options: Any) -> Any:
        prepared = prepare_inputs(scheduler_output, *args, **options)
        driven.begin(
            Batch(
                request_ids=runner.input_batch.req_ids,
                query_start=runner.query_start_loc.gpu,
                positions=runner.positions[: scheduler_output.total_num_scheduled_tokens],
                token_ids=runner.input_ids.gpu,
            )
        )
        return prepared

    runner._prepare_inputs = prepare
    steps.drive(runner, driven, resumed)
