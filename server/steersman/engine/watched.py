"""The watched requests of a batch, and the measurements that each of them asks for."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from steersman.engine.slots import Slots, upload
from steersman.wire import GoverningMessage
from steersman_kernels.entropy import measuring

Measure = Callable[[Tensor, Tensor], Tensor]
"""Of logits, and of the tokens that were drawn from them: [watched, TRACK] float32."""


class Asking(NamedTuple):
    """The watched requests of a batch that ask for a measurement.

    Attributes:
        rows: [n] int64, their batch rows.
        alone: [n] int64, their rows among the watched ones, so those of the track.

    """

    rows: Tensor
    alone: Tensor


@dataclass(frozen=True, slots=True)
class Watched:
    """The watched requests of a batch. They stay the same for many steps.

    Attributes:
        batch: All requests of the batch, by the engine's ids.
        track_rows: The watched ones, each with its row of the track.
        rows: [watched] int64, their batch rows.
        alone: [watched] int64, their batch rows where they are alone.
        slots: [watched] int32, theirs in the state.
        measure: Measures the watched ones, which are governed by no one.
        measure_alone: The same, of logits of them alone.
        measured: Whether the entropies are needed.
        governed: Whether the kernel that governs runs: one of them is more than monitored.
        moved: Whether the steering of one of them is moved.
        processed: Those that ask for the processed distribution, and draw; None for nobody.
        greedy: Those that ask for it, and take the likeliest token; None for nobody.
        confident: Those that ask for the confidence; None for nobody.

    """

    batch: Sequence[str]
    track_rows: Mapping[str, int]
    rows: Tensor
    alone: Tensor
    slots: Tensor
    measure: Measure
    measure_alone: Measure
    measured: bool
    governed: bool
    moved: bool
    processed: Asking | None
    greedy: Asking | None
    confident: Asking | None


def watched_of(
    batch: Sequence[str],
    governing: Mapping[str, GoverningMessage],
    greedy: Collection[str],
    slots: Slots,
    device: torch.device,
) -> Watched:
    """Find the watched requests of a batch.

    Args:
        batch: All its requests, by the engine's ids.
        governing: Messages of the watched requests, in the batch or not.
        greedy: Those that take the likeliest token.
        slots: Slots of those that run.
        device: The model's.

    """
    rows = [index for index, id_ in enumerate(batch) if id_ in slots]
    request_ids = [batch[index] for index in rows]
    asked = [governing[id_] for id_ in request_ids]
    on_device = upload(torch.tensor(rows, dtype=torch.int64), device)
    alone = torch.arange(len(rows), device=device)

    def asking(wanted: Callable[[str], bool]) -> Asking | None:
        found = [(row, index) for index, row in enumerate(rows) if wanted(batch[row])]
        if not found:
            return None
        return Asking(*upload(torch.tensor(found, dtype=torch.int64).T.contiguous(), device))

    return Watched(
        batch,
        {id_: row for row, id_ in enumerate(request_ids)},
        rows=on_device,
        alone=alone,
        slots=slots.of(request_ids),
        measure=measuring(on_device, on_device),
        measure_alone=measuring(alone, on_device),
        measured=any(one.measured or one.confidence for one in asked),
        governed=any(one.thinking is not None or one.confidence for one in asked),
        moved=any(_moves(one) for one in asked),
        processed=asking(lambda id_: governing[id_].processed and id_ not in greedy),
        greedy=asking(lambda id_: governing[id_].processed and id_ in greedy),
        confident=asking(lambda id_: governing[id_].confidence),
    )


def _moves(governing: GoverningMessage) -> bool:
    """True if the strength of a vector follows the thinking."""
    return governing.thinking is not None and governing.thinking.law is not None
