"""Looks whether the logits of controlled requests are numbers.

A request whose residual stream overflowed has NaN in every logit, and NaN in its KV cache. So one
logit of a row says it, and one is read.
"""

import torch
from torch import Tensor

from steersman.engine.batch import Batch, Looked
from steersman.engine.slots import download, upload


class Health:
    """The requests that are looked at.

    Args:
        device: The model's.

    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._live: set[str] = set()
        # The batch, those of it that are looked at, and their rows; the same for many steps.
        self._batch: list[str] = []
        self._found: list[str] = []
        self._rows = torch.empty(0, dtype=torch.int64)
        self._due = False
        self._looked: Looked | None = None

    def arrive(self, request_id: str) -> None:
        """Look at a request from now on."""
        self._live.add(request_id)
        self._batch = []

    def finish(self, request_id: str) -> None:
        """Look at a request no longer."""
        self._live.discard(request_id)
        self._batch = []

    def begin(self, batch: Batch) -> None:
        """Find the requests of a step."""
        self.rest()
        if not self._live:
            return
        if self._batch != batch.request_ids:
            self._batch = list(batch.request_ids)
            rows = [row for row, id_ in enumerate(self._batch) if id_ in self._live]
            self._found = [self._batch[row] for row in rows]
            self._rows = upload(torch.tensor(rows, dtype=torch.int64), self._device)
        self._due = bool(self._found)

    def rest(self) -> None:
        """Look at nothing in the next step."""
        self._due, self._looked = False, None

    def look(self, logits: Tensor | None) -> None:
        """Look at the logits of a step as the model makes them: [requests, vocabulary], or None on
        a rank that has none. Further logits of the same step are others', as of prompts."""
        if not self._due:
            return
        self._due = False
        if logits is not None:
            first = logits[:, 0].index_select(0, self._rows).float()
            self._looked = Looked(self._found, download(first))

    def taken(self) -> Looked | None:
        """The logits of this step, once."""
        looked, self._looked = self._looked, None
        return looked
