"""vLLM's offline engine, driven request by request."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from vllm import LLM, RequestOutput, SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Let vLLM build an engine in this process: where a request takes a millisecond, to send it to
    another takes as long."""
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def run(
    llm: LLM, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]
) -> Iterator[tuple[int, RequestOutput]]:
    """Run requests; yields the index of each and its output when it has ended.

    All are queued before the first step: so what the steps hold does not depend on timing. All
    outputs have to be taken before other requests are run.

    Args:
        llm: The engine.
        prompts: As tokens.
        params: Sampling parameters of each prompt; their kind of output is replaced.

    Raises:
        VLLMValidationError: vLLM refuses a prompt, as one that is too long. Then none is run.

    """
    llm.sleep(level=0, mode="keep")
    engine = llm.llm_engine
    added: list[str] = []
    places: dict[str, int] = {}
    try:
        for place, (prompt, own) in enumerate(zip(prompts, params, strict=True)):
            # As `LLM.enqueue` does it with a prompt that need not be rendered.
            own.output_kind = RequestOutputKind.FINAL_ONLY
            request_id = str(next(llm.request_counter))
            tokens = tokens_input(list(prompt))
            added.append(engine.add_request(request_id, tokens, own))
            places[request_id] = place
    except BaseException:
        engine.abort_request(added, internal=True)
        raise
    finally:
        llm.wake_up(tags=["scheduling"])
    while engine.has_unfinished_requests():
        for output in engine.step():
            if isinstance(output, RequestOutput) and output.finished:
                yield places[output.request_id], output


def shut_down(llm: LLM) -> None:
    """End an engine and its processes."""
    llm.llm_engine.engine_core.shutdown()
