"""What the workers counted, on its way into the receipts."""

import itertools
from typing import TYPE_CHECKING, Any

from steersman.steering.configuration import CLASSES, KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

Counts = tuple[int, ...]
"""Tokens steered, for each of `CLASSES`, and last those that went through an edit."""


class Reports:
    """The reports of requests in flight, by the key that each request was given."""

    def __init__(self) -> None:
        self._keys = itertools.count()
        # By key, then by the engine's request id: one request may be several there (its `n`).
        self._counts: dict[str, dict[str, Sequence[int]]] = {}

    def open(self) -> str:
        """A new key."""
        key = str(next(self._keys))
        self._counts[key] = {}
        return key

    def close(self, key: str) -> Counts:
        """All that was reported under a key; nothing more is taken under it."""
        counts = self._counts.pop(key).values()
        sums = tuple(sum(column) for column in zip(*counts, strict=True))
        return sums or (0,) * (len(CLASSES) + 1)

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
        if (report := output.kv_transfer_params.pop(KEY, None)) is None:
            return
        key, *counts = report
        if key in self._counts:
            self._counts[key][output.request_id] = counts
        output.kv_transfer_params = output.kv_transfer_params or None
