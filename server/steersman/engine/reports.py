"""What the workers say of requests, on its way into the receipts."""

import itertools
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from steersman.steering.configuration import CLASSES, KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

_COUNTS = struct.Struct(f"={len(CLASSES) + 1}i")


@dataclass(slots=True)
class Report:
    """The report on one engine request, as it comes in.

    Attributes:
        key: The name under which the workers speak of it.
        counts: For each choice: what was last said of how many of its tokens were steered, for
            `read_counts`; empty until something was said.
        values: For each choice: what is said of each of its tokens, a packed `Value`.

    """

    key: str
    counts: list[bytes]
    values: list[list[bytes]] = field(default_factory=list)


class Reports:
    """The reports on requests in flight, by the key that each request was given."""

    def __init__(self) -> None:
        self._keys = itertools.count()
        self._reports: dict[str, Report] = {}

    def open(self, choices: int) -> Report:
        """A new report, on a request of which so many choices are sampled."""
        key = str(next(self._keys))
        report = Report(key, [b""] * choices, [[] for _ in range(choices)])
        self._reports[key] = report
        return report

    def close(self, report: Report) -> None:
        """Take nothing more."""
        del self._reports[report.key]

    def listen(self, engine: Any) -> None:
        """Take the reports out of an engine client's outputs, before anybody sees them."""
        processor = engine.output_processor
        process_outputs = processor.process_outputs

        def process(outputs: Any, *args: Any, **options: Any) -> Any:
            for output in outputs:
                if output.kv_transfer_params:
                    self._take(output)
            return process_outputs(outputs, *args, **options)

        processor.process_outputs = process

    def _take(self, output: Any) -> None:
        if (said := output.kv_transfer_params.pop(KEY, None)) is None:
            return
        output.kv_transfer_params = output.kv_transfer_params or None
        key, counts, values = said
        if (report := self._reports.get(key)) is None:
            return
        choice = _choice(output.request_id) if len(report.counts) > 1 else 0
        if counts is not None:
            report.counts[choice] = counts
        if values is not None and output.new_token_ids:
            report.values[choice].append(values)


def read_counts(content: bytes) -> tuple[int, ...]:
    """Tokens steered, by class, and last those that went through an edit; empty if nothing was
    said."""
    return _COUNTS.unpack(content) if content else ()


def _choice(request_id: str) -> int:
    """Which of a request's `n` choices an engine request samples, by the name vLLM gives it."""
    index: Sequence[str] = request_id.split("_", 1)
    return int(index[0])
