"""Reports of the workers on requests, on their way into the receipts."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from steersman.engine.compat.requests import before_outputs, choice_of
from steersman.wire import KEY, StepMessage, unlisted
from steersman_kernels.layout import STEERED_COUNTS, VALUE


@dataclass(slots=True)
class Report:
    """The report on one engine request, as it comes in.

    Attributes:
        key: The name under which the workers speak of it.
        counts: For each choice: the last counts of its steered tokens, for `read_counts`; empty
            before the first.
        values: For each choice: a packed `Value` for each of its tokens.

    """

    key: str
    counts: list[bytes]
    values: list[list[bytes]] = field(default_factory=list)


_Put = Callable[[bytes], object]
_Places = list[tuple[_Put, slice] | None]
"""The taker of each output's row, and where in the table the row is; None without one."""


class Reports:
    """The reports on requests in flight, by the key that each request was given."""

    def __init__(self) -> None:
        self._keys = itertools.count()
        self._reports: dict[str, Report] = {}
        self._counts = _Table(STEERED_COUNTS.size, self._put_counts)
        self._values = _Table(VALUE.size, self._put_values)

    def open(self, choices: int) -> Report:
        """A new report, on a request of which so many choices are sampled."""
        key = str(next(self._keys))
        report = Report(key, [b""] * choices, [[] for _ in range(choices)])
        self._reports[key] = report
        return report

    def close(self, report: Report) -> None:
        """Take nothing more."""
        del self._reports[report.key]
        self._counts.forget()
        self._values.forget()

    def listen(self, engine: Any) -> None:
        """Take the step messages out of an engine client's outputs, before vLLM sees them."""
        before_outputs(engine, self._take)

    def _take(self, outputs: Sequence[Any]) -> None:
        """Take in a step message.

        Args:
            outputs: Outputs of the step, or a part of them: the first carries the step message.

        """
        counts, values = self._counts, self._values
        params = outputs[0].kv_transfer_params if outputs else None
        if params and KEY in params:
            step = StepMessage.decoded(params.pop(KEY))
            outputs[0].kv_transfer_params = params or None
            counts.begin(step.steered, step.counts)
            values.begin(step.watched, step.track)
        if not counts.left and not values.left:
            return
        ids = [output.request_id for output in outputs]
        if counts.left:
            for put, row in filter(None, counts.take(ids)):
                put(counts.content[row])
        if values.left:
            for output, place in zip(outputs, values.take(ids), strict=True):
                if place is not None and output.new_token_ids:
                    put, row = place
                    put(values.content[row])

    def _put_counts(self, key: str, request_id: str) -> _Put | None:
        if report := self._reports.get(key):
            return partial(report.counts.__setitem__, _choice(report, request_id))
        return None

    def _put_values(self, key: str, request_id: str) -> _Put | None:
        if report := self._reports.get(key):
            return report.values[_choice(report, request_id)].append
        return None


class _Table:
    """Table of a step's values, a row for each request.

    A batch stays the same for many steps, and so does the place of every row: where it is, and
    what takes it. It is looked for once.

    Args:
        width: Bytes of a row.
        find: The taker of a request's row, by the request's key and id; None if there is none.

    """

    def __init__(self, width: int, find: Callable[[str, str], _Put | None]) -> None:
        self.content = b""
        self.left = 0
        """Rows that have not been taken."""
        self._width, self._find = width, find
        self._listed = b""
        self._rows: dict[str, tuple[str, slice]] = {}
        self._parts: list[tuple[list[str], _Places]] = []  # those of a step, by their outputs
        self._part = 0  # the next one of this step

    def begin(self, requests: bytes, content: bytes) -> None:
        """The rows of the next step, and whose they are: see `listed`."""
        if requests != self._listed:
            self._listed, self._rows = requests, unlisted(requests, self._width)
            self._parts.clear()
        self.content, self.left, self._part = content, len(self._rows), 0

    def forget(self) -> None:
        """Look for all places anew."""
        self._parts.clear()
        self._part = 0

    def take(self, request_ids: list[str]) -> _Places:
        """The places of the rows of some outputs of this step, which take each row once."""
        ids, places = self._parts[self._part] if self._part < len(self._parts) else ([], [])
        if ids != request_ids:
            places = self._places(request_ids)
            if not any(places):
                return places
            self._parts[self._part :] = [(request_ids, places)]
        self._part += 1
        self.left -= len(places) - places.count(None)
        return places

    def _places(self, request_ids: list[str]) -> _Places:
        taken = {id_ for ids, _ in self._parts[: self._part] for id_ in ids}
        places: _Places = []
        for id_ in request_ids:
            key, row = self._rows.get(id_, ("", slice(0)))
            put = self._find(key, id_) if key and id_ not in taken else None
            places.append(put and (put, row))
        return places


def read_counts(content: bytes) -> tuple[int, ...]:
    """Tokens steered, by class, last those that went through an edit; empty without a report."""
    return STEERED_COUNTS.unpack(content) if content else ()


def _choice(report: Report, request_id: str) -> int:
    """Index of the choice that an engine request samples."""
    return choice_of(request_id) if len(report.counts) > 1 else 0
