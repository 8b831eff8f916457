"""Engine requests as vLLM names them, and their outputs on the way to the front end."""

from collections.abc import Callable, Sequence
from typing import Any


def choice_of(request_id: str) -> int:
    """Index of the choice that an engine request samples, by the id that vLLM gives it.

    Args:
        request_id: `{choice}_{id of the whole}`, as each of several choices has it; a request for
            one choice alone has no such id.

    """
    return int(request_id.partition("_")[0])


def before_outputs(engine: Any, take: Callable[[Sequence[Any]], None]) -> None:
    """Let a function see the outputs of each step before all others in the front end.

    Args:
        engine: vLLM's engine client.
        take: Gets `EngineCoreOutput`s: those of a step, or a part of them.

    """
    processor = engine.output_processor
    process_outputs = processor.process_outputs

    def process(outputs: Any, *args: Any, **options: Any) -> Any:
        take(outputs)
        return process_outputs(outputs, *args, **options)

    processor.process_outputs = process


def admit_by(engine: Any, admit: Callable[..., None]) -> Callable[[int, str | None], None]:
    """Have a function admit each engine request that begins, in place of vLLM's own check.

    It is called in the task that begins the request, with the number of its choices and its id, and
    may raise what the check raises. vLLM counts the request before any other task runs.

    Args:
        engine: vLLM's engine client.
        admit: The function; as for the check, both arguments may be left out.

    Returns:
        The check, which knows nothing of what was admitted and has not begun.

    """
    check: Callable[[int, str | None], None] = engine.check_admission
    engine.check_admission = admit
    return check


def sampled_tokens(engine: Any, request_id: str) -> int:
    """Tokens that were sampled for a request in flight, all its choices together.

    Args:
        engine: vLLM's engine client.
        request_id: The id that `generate` was called with.

    """
    processor = engine.output_processor
    states = (
        processor.request_states.get(one) for one in processor.external_req_ids.get(request_id, ())
    )
    return sum(state.detokenizer.num_output_tokens() for state in states if state is not None)
