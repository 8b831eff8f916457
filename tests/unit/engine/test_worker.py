"""Steering on one rank, step by step."""

import numpy as np
import torch
from msgspec import to_builtins
from safetensors.torch import save

from steersman.engine.batch import Arrival, Batch
from steersman.engine.worker import WorkerSteering
from steersman.steering.configuration import Configuration, Term
from steersman_kernels.vocabulary import Vocabulary
from tests.unit.engine.layers import Layer

SIZE = 4


def steering() -> WorkerSteering:
    made = WorkerSteering(
        {0: Layer()},
        rows=2,
        hidden_size=SIZE,
        dtype=torch.float32,
        device=torch.device("cpu"),
        max_requests=4,
        max_tokens=8,
    )
    made.arm(Vocabulary.of((), (), boundary=bytes(10)))
    made.load("v", save({"layer.0": torch.ones(SIZE)}))
    control = {
        "origin": 1,
        "opened": False,
        "steering": to_builtins(Configuration.of((Term("v", 1.0),)).message(1)),
    }
    made.arrive(Arrival("a", control, token_ids=(1,), computed=0))
    return made


def step(position: int) -> Batch:
    """One token of the request."""
    return Batch(
        ["a"],
        query_start=torch.tensor([0, 1], dtype=torch.int32),
        positions=torch.tensor([position]),
        token_ids=torch.tensor([5], dtype=torch.int32),
        tokens=1,
    )


def test_counts_are_those_of_the_step_and_not_of_what_the_device_did_since() -> None:
    rank = steering()
    rank.begin(step(1))
    # On a GPU the host is ahead: the next step's gate can be through before anybody reads these.
    table = rank._table.table
    kept = table.clone()
    table[:] = 99

    places, counts = rank.counted()

    assert places == {"a": 0}
    assert counts is not None
    assert counts.sum() == 1
    table[:] = kept
    rank.begin(step(2))
    table[:] = 99
    later = rank.counted()[1]
    assert later is not None
    assert (later.sum(), np.asarray(counts).sum()) == (2, 1)


def test_a_step_is_counted_once() -> None:
    rank = steering()
    rank.begin(step(1))
    rank.counted()
    assert rank.counted() == ({}, None)
