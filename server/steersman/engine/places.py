"""Rows of a table on the device, one for each live request."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Places:
    """Rows that are given out and taken back.

    Args:
        capacity: Rows of the table.
        device: Where the table is.

    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._device = device
        self._place: dict[str, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._place

    def __getitem__(self, request_id: str) -> int:
        return self._place[request_id]

    def give(self, request_id: str) -> int:
        """The row of a request: its own if it has one, else a free one."""
        if request_id not in self._place:
            self._place[request_id] = self._free.pop()
        return self._place[request_id]

    def take_back(self, request_id: str) -> int:
        """Free a request's row."""
        place = self._place.pop(request_id)
        self._free.append(place)
        return place

    def of(self, request_ids: Sequence[str]) -> Tensor:
        """The rows of a batch: [requests] int32 on the device, -1 for a request without one."""
        places = [self._place.get(id_, -1) for id_ in request_ids]
        return upload(torch.tensor(places, dtype=torch.int32), self._device)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, without waiting for the device."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def download(tensor: Tensor) -> NDArray[Any]:
    """A tensor of the device on the host; of the CPU's, a view.

    From a GPU the copy is only queued: the caller must not read it before the stream got there.
    """
    if not tensor.is_cuda:
        return tensor.numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True).numpy()
