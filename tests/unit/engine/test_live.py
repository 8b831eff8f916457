"""Edits of a rank's weights: made ready, exchanged, and taken back."""

import gc
from itertools import count
from pathlib import Path

import pytest
import torch

from steersman.edits.edit import Edit, EditError
from steersman.engine.live import LiveEdits
from tests.unit.edits import made_up
from tests.unit.engine.projections import NoMemory, OutOfMemory, Rank

HEADS = ({0: (1, 3), 2: (0,)}, {0: (0,), 1: (2,)})


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> list[Edit]:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path_factory.mktemp("made") / "model"))
    return [made_up.edit(checkpoint, heads, seed) for seed, heads in enumerate(HEADS)]


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def rank(request: pytest.FixtureRequest) -> Rank:
    return Rank(packed=request.param)


def apply(live: LiveEdits, *edits: Edit) -> None:
    live.prepare(edits)
    live.commit()
    live.keep()


def test_edits_come_and_go_bit_by_bit(rank: Rank, edits: list[Edit]) -> None:
    first, second = edits
    seen = []
    for chosen in ([], [first], [first, second], [second], [first], [], [second], [], []):
        apply(rank.live, *chosen)
        seen.append(rank.matrices())

    plain, one, both, other = seen[:4]
    assert torch.equal(seen[4], one)
    assert torch.equal(seen[6], other)
    assert all(torch.equal(seen[index], plain) for index in (5, 7, 8))
    for index, matrices in enumerate((plain, one, both, other)):
        assert all(not torch.equal(matrices, later) for later in seen[index + 1 : 4])


@pytest.mark.parametrize("before", [[], [0], [0, 1]])
def test_what_was_exchanged_goes_back(rank: Rank, edits: list[Edit], before: list[int]) -> None:
    plain = rank.matrices()
    for chosen in ([], [0], [1], [0, 1]):
        apply(rank.live, *(edits[index] for index in before))
        now = rank.matrices()
        rank.live.prepare([edits[index] for index in chosen])
        rank.live.undo()
        assert torch.equal(rank.matrices(), now)
        rank.live.prepare([edits[index] for index in chosen])
        rank.live.commit()
        assert torch.equal(rank.matrices(), now) == (chosen == before)
        rank.live.undo()
        rank.live.undo()
        assert torch.equal(rank.matrices(), now)
        apply(rank.live)
        assert torch.equal(rank.matrices(), plain)


@pytest.mark.parametrize("before", [[], [0]])
def test_no_memory_at_any_step_of_preparing_changes_nothing(
    rank: Rank, edits: list[Edit], before: list[int]
) -> None:
    plain = rank.matrices()
    apply(rank.live, *(edits[index] for index in before))
    now = rank.matrices()
    for at in count():
        with OutOfMemory(at) as memory:
            try:
                rank.live.prepare(edits)
            except torch.OutOfMemoryError:
                assert memory.failed
        if not memory.failed:
            break
        assert torch.equal(rank.matrices(), now)
    assert at > 20
    rank.live.commit()
    assert not torch.equal(rank.matrices(), now)
    apply(rank.live)
    assert torch.equal(rank.matrices(), plain)


def test_to_exchange_takes_no_memory(rank: Rank, edits: list[Edit]) -> None:
    plain = rank.matrices()
    for chosen in (edits[:1], edits, []):
        rank.live.prepare(chosen)
        with NoMemory():
            rank.live.commit()
            rank.live.undo()
            gc.collect()
        rank.live.prepare(chosen)
        with NoMemory():
            rank.live.commit()
            rank.live.keep()
            gc.collect()
    assert torch.equal(rank.matrices(), plain)


@pytest.mark.parametrize("before", [[], [0]])
def test_an_exchange_that_fails_at_any_copy_goes_back_by_itself(
    edits: list[Edit], before: list[int]
) -> None:
    """A packed weight is exchanged by its name alone, so that no copy can fail."""
    rank = Rank(packed=False)
    plain = rank.matrices()
    apply(rank.live, *(edits[index] for index in before))
    now = rank.matrices()
    for at in count():
        rank.live.prepare(edits)
        with OutOfMemory(at, "copy_") as memory:
            try:
                rank.live.commit()
            except torch.OutOfMemoryError:
                assert memory.failed
        if not memory.failed:
            break
        assert torch.equal(rank.matrices(), now)
        rank.live.undo()  # as the front end asks of all ranks
        assert torch.equal(rank.matrices(), now)
    assert at == 3 * made_up.LAYERS
    assert not torch.equal(rank.matrices(), now)
    rank.live.keep()
    apply(rank.live)
    assert torch.equal(rank.matrices(), plain)


def test_rows_that_are_exchanged_go_back_too(
    monkeypatch: pytest.MonkeyPatch, edits: list[Edit]
) -> None:
    monkeypatch.setattr("steersman.engine.compat.weights._SPARE_ROWS", 5)
    rank = Rank(packed=False)
    now = rank.matrices()
    copies = 3 * -(-made_up.HIDDEN // 5)
    for at in range(copies * made_up.LAYERS):
        rank.live.prepare(edits)
        with OutOfMemory(at, "copy_"), pytest.raises(torch.OutOfMemoryError):
            rank.live.commit()
        assert torch.equal(rank.matrices(), now)
    apply(rank.live, *edits)
    assert not torch.equal(rank.matrices(), now)


def test_taking_back_goes_on_where_it_failed(edits: list[Edit]) -> None:
    for at in range(3 * made_up.LAYERS):
        rank = Rank(packed=False)
        now = rank.matrices()
        rank.live.prepare(edits)
        rank.live.commit()
        with OutOfMemory(at, "copy_"), pytest.raises(torch.OutOfMemoryError):
            rank.live.undo()
        rank.live.prepare(edits[:1])
        assert torch.equal(rank.matrices(), now)


def test_a_refused_edit_leaves_the_last_ones(rank: Rank, edits: list[Edit], tmp_path: Path) -> None:
    apply(rank.live, edits[0])
    now = rank.matrices()
    other = made_up.checkpoint(made_up.directory(tmp_path / "model", made_up.tensors(seed=1)))
    for chosen in ([edits[0], edits[0]], [edits[1], made_up.edit(other)]):
        with pytest.raises(EditError):
            rank.live.prepare(chosen)
        assert torch.equal(rank.matrices(), now)
