"""What the workers say of requests, on its way into the receipts."""

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steersman.engine.batch import Said
from steersman.steering.configuration import CLASSES, KEY
from steersman.trajectory.track import VALUE_BYTES

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
        self._said: Said | None = None

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
            self._take(outputs)
            return process_outputs(outputs, *args, **options)

        processor.process_outputs = process

    def _take(self, outputs: Sequence[Any]) -> None:
        """Take in what the workers say of a step.

        Args:
            outputs: Those of the step, or a part of them: the very first carries what is said.

        """
        params = outputs[0].kv_transfer_params if outputs else None
        if params and KEY in params:
            self._said = Said(*params.pop(KEY))
            outputs[0].kv_transfer_params = params or None
        if (said := self._said) is None:
            return
        for output in outputs:
            id_ = output.request_id
            if (report := self._reports.get(said.keys.get(id_, ""))) is None:
                continue
            choice = _choice(id_) if len(report.counts) > 1 else 0
            # Each row is taken once: no output of a later step can find it.
            if (row := said.steered.pop(id_, None)) is not None:
                report.counts[choice] = _row(said.counts, row, _COUNTS.size)
            if (row := said.watched.pop(id_, None)) is not None and output.new_token_ids:
                report.values[choice].append(_row(said.track, row, VALUE_BYTES))


def _row(table: bytes, row: int, width: int) -> bytes:
    return table[row * width : (row + 1) * width]


def read_counts(content: bytes) -> tuple[int, ...]:
    """Tokens steered, by class, and last those that went through an edit; empty if nothing was
    said."""
    return _COUNTS.unpack(content) if content else ()


def _choice(request_id: str) -> int:
    """Which of a request's `n` choices an engine request samples, by the name vLLM gives it."""
    index: Sequence[str] = request_id.split("_", 1)
    return int(index[0])
