"""Edits on offer on one rank: their rows."""

from itertools import count

import pytest
import torch

from steersman.edits.edit import Edit
from steersman.engine.bank import BankError
from steersman.engine.edited import ChosenEdits
from tests.unit.edits import made_up
from tests.unit.engine.projections import OutOfMemory, Rank


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> list[Edit]:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path_factory.mktemp("made") / "model"))
    return [made_up.edit(checkpoint, seed=seed) for seed in range(3)]


def offered(rows: int) -> tuple[Rank, ChosenEdits]:
    rank = Rank(packed=False)
    cpu = torch.device("cpu")
    hidden = made_up.HIDDEN
    return rank, ChosenEdits(
        rank.outputs(), rows=rows, hidden_size=hidden, device=cpu, max_tokens=8
    )


def test_an_edit_for_which_there_is_no_memory_takes_no_row(edits: list[Edit]) -> None:
    _, chosen = offered(2)
    chosen.load(edits[0])
    for at in count():
        with OutOfMemory(at) as memory:
            try:
                chosen.load(edits[1])
            except torch.OutOfMemoryError:
                assert memory.failed
        if not memory.failed:
            break
        with pytest.raises(BankError, match="is not loaded"):
            chosen.arrive("r", edits[1].digest, 1.0)
    assert at > 5
    chosen.arrive("r", edits[1].digest, 1.0)
    with pytest.raises(BankError, match="all 2 rows for edits are taken"):
        chosen.load(edits[2])


def test_an_edit_is_put_and_taken_off_once(edits: list[Edit]) -> None:
    rank, chosen = offered(1)
    for _ in range(2):
        chosen.load(edits[0])
    for _ in range(2):
        chosen.unload(edits[0].digest)
    chosen.load(edits[1])
    with pytest.raises(BankError):
        chosen.load(edits[2])
    kept = rank.modules[0].get_buffer("steersman_write")[0]
    assert torch.equal(kept, torch.from_numpy(edits[1].directions[0].copy()))
