"""The rows for edits, as a store puts edits there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steersman import opening
from steersman.edits.edit import Edit, EditError
from steersman.opening import EditRows
from tests.unit.edits import made_up

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Ranks:
    """Ranks that hold edits, and can refuse one.

    Attributes:
        edits: Digests of those that they hold.
        refuses: Whether the next ones are refused.
        stuck: Whether none can be taken off.

    """

    def __init__(self) -> None:
        self.edits: set[str] = set()
        self.refuses = self.stuck = False

    async def load_edit(self, edit: Edit) -> None:
        if self.refuses:
            raise RuntimeError("refused")
        self.edits.add(edit.digest)

    async def unload_edit(self, digest: str) -> None:
        if self.stuck:
            raise RuntimeError("stuck")
        self.edits.remove(digest)


def test_everything_that_the_governor_does_is_listed() -> None:
    def engine(stages: int) -> Any:
        config = SimpleNamespace(pipeline_parallel_size=stages)
        return SimpleNamespace(vllm_config=SimpleNamespace(parallel_config=config))

    # What a thinking phase can be told, other than how much of it there is and what follows it.
    shared = {"budget", "min", "exit", "certainty", "loop"}
    assert set(opening.thinking_methods(engine(1))) == {*shared, "balance"}
    assert set(opening.thinking_methods(engine(2))) == shared


async def test_rows_that_requests_still_use_are_not_given_away(tmp_path: Path) -> None:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path / "model"))
    first, second, third = (made_up.edit(checkpoint, seed=seed) for seed in range(3))
    ranks = Ranks()
    rows = EditRows(ranks, 2)

    await rows.load(first)
    ranks.refuses = True
    with pytest.raises(RuntimeError):
        await rows.load(second)
    ranks.refuses = False
    await rows.load(second)  # the refused one took no row
    with pytest.raises(EditError, match="still used by requests: try again") as error:
        await rows.load(third)

    assert error.value.field == "name"
    assert ranks.edits == {first.digest, second.digest}
    await rows.unload(first.digest)
    await rows.load(third)
    assert ranks.edits == {second.digest, third.digest}


async def test_a_row_that_was_not_given_back_is_asked_for_again(tmp_path: Path) -> None:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path / "model"))
    first, second, third = (made_up.edit(checkpoint, seed=seed) for seed in range(3))
    ranks = Ranks()
    rows = EditRows(ranks, 2)
    await rows.load(first)
    await rows.load(second)
    ranks.stuck = True
    for digest in (first.digest, second.digest):
        with pytest.raises(RuntimeError, match="stuck"):
            await rows.unload(digest)
    with pytest.raises(RuntimeError, match="stuck"):
        await rows.load(third)
    await rows.load(first)  # it has the row that it had
    ranks.stuck = False

    await rows.load(third)

    assert ranks.edits == {first.digest, third.digest}
    with pytest.raises(EditError, match="still used by requests"):
        await rows.load(second)
