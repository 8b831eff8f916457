"""What the workers say of requests, on its way into the receipts."""

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steersman.engine.batch import unlisted
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
        self._counts, self._values = _Table(_COUNTS.size), _Table(VALUE_BYTES)

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
        counts, values = self._counts, self._values
        params = outputs[0].kv_transfer_params if outputs else None
        if params and KEY in params:
            steered, counted, watched, track = params.pop(KEY)
            outputs[0].kv_transfer_params = params or None
            counts.begin(steered, counted)
            values.begin(watched, track)
        if not counts.rows and not values.rows:
            return
        for output in outputs:
            id_ = output.request_id
            # Each row is taken once: no output of a later step can find it.
            if found := counts.rows.pop(id_, None):
                key, row = found
                if report := self._reports.get(key):
                    report.counts[_choice(report, id_)] = counts.content[row]
            if (found := values.rows.pop(id_, None)) and output.new_token_ids:
                key, row = found
                if report := self._reports.get(key):
                    report.values[_choice(report, id_)].append(values.content[row])


class _Table:
    """What a step says of its requests, a row for each.

    Args:
        width: Bytes of a row.

    """

    def __init__(self, width: int) -> None:
        self.rows: dict[str, tuple[str, slice]] = {}
        """The key, and where the row is, of each request whose row has not been taken."""
        self.content = b""
        self._width = width
        self._listed = b""
        self._all: dict[str, tuple[str, slice]] = {}

    def begin(self, requests: bytes, content: bytes) -> None:
        """The rows of the next step, and whose they are: see `listed`."""
        if requests != self._listed:
            self._listed, self._all = requests, unlisted(requests, self._width)
        self.rows, self.content = dict(self._all), content


def read_counts(content: bytes) -> tuple[int, ...]:
    """Tokens steered, by class, and last those that went through an edit; empty if nothing was
    said."""
    return _COUNTS.unpack(content) if content else ()


def _choice(report: Report, request_id: str) -> int:
    """Which of its choices an engine request samples, by the name vLLM gives it."""
    return int(request_id.split("_", 1)[0]) if len(report.counts) > 1 else 0
