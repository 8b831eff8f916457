"""Time to the first token of a streamed response, and to the first one of its answer."""

import contextlib
from collections.abc import AsyncGenerator

from vllm.outputs import RequestOutput

from steersman.ledger import Ledger
from steersman.trajectory.answer_start import AnswerStart
from steersman.trajectory.reading import Reading


async def timed(
    outputs: AsyncGenerator[RequestOutput, None], reading: Reading, ledger: Ledger
) -> AsyncGenerator[RequestOutput, None]:
    """Pass the outputs of a streamed engine call on, and time their first tokens.

    Of several choices the one that comes first counts, and of several calls within one request.

    Args:
        outputs: The outputs, each with new tokens alone.
        reading: Where the phases of a response begin and end.
        ledger: The books, which keep the times.

    """
    starts: dict[int, AnswerStart] = {}
    async with contextlib.aclosing(outputs):
        async for output in outputs:
            if ledger.first_answer_seconds is None:
                _take(output, starts, reading, ledger)
            yield output


def _take(
    output: RequestOutput, starts: dict[int, AnswerStart], reading: Reading, ledger: Ledger
) -> None:
    for completion in output.outputs:
        if not completion.token_ids:
            continue
        if ledger.first_token_seconds is None:
            ledger.first_token_seconds = ledger.seconds
        start = starts.get(completion.index)
        if start is None:
            start = starts[completion.index] = AnswerStart(reading.markers, reading.opened)
        if start.begun(completion.token_ids):
            ledger.first_answer_seconds = ledger.seconds
            return
