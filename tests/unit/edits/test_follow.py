"""Weight edits of several servers over one directory, and edits on offer beside them."""

from pathlib import Path

import pytest

from steersman.artifacts.directory import DirectoryError
from steersman.artifacts.store import Store
from steersman.edits import file
from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import Edit, EditError
from steersman.edits.store import EDITS, ChoosableEdits, LiveEdits
from tests.unit.edits import made_up
from tests.unit.edits.scripted import MODEL, REFUSED, ScriptedEngine

pytestmark = pytest.mark.anyio


def names(directory: Path) -> list[str]:
    """The files of a directory."""
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def second(checkpoint: Checkpoint) -> Edit:
    return made_up.edit(checkpoint, {1: (2,)}, seed=1)


class Replica:
    """Weight edits that follow a directory, and their engine."""

    def __init__(self, directory: Path) -> None:
        self.engine = ScriptedEngine()
        self.live = LiveEdits(MODEL, self.engine.apply, directory)

    async def follow(self) -> tuple[str, ...]:
        """Look as often as it takes for a change to be taken over."""
        await self.live.follow()
        return await self.live.follow()

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.live.entries]


@pytest.fixture
async def one(tmp_path: Path) -> Replica:
    return Replica(tmp_path)


@pytest.fixture
async def two(tmp_path: Path) -> Replica:
    replica = Replica(tmp_path)
    assert await replica.live.follow() == ()
    return replica


async def test_what_is_live_on_one_is_live_on_the_other(
    one: Replica, two: Replica, first: Edit, second: Edit, tmp_path: Path
) -> None:
    await one.live.put("calm", file.write(first))
    await one.live.put("steady", file.write(second))
    assert await two.follow() == ()
    assert set(two.engine.weights) == {first.digest, second.digest}
    await two.live.delete("calm")
    await one.follow()
    assert one.names == ["steady"]
    assert one.engine.weights == [second.digest]
    assert names(tmp_path) == ["steady.safetensors"]
    applied = one.engine.applied, two.engine.applied
    for replica in (one, two):
        await replica.follow()
    assert (one.engine.applied, two.engine.applied) == applied, "the engine is left alone"


async def test_a_start_from_the_directory(
    one: Replica,
    first: Edit,
    second: Edit,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    await one.live.put("calm", file.write(first))
    again = Replica(tmp_path)
    await again.live.load_directory()
    assert again.engine.weights == [first.digest]
    outside = tmp_path_factory.mktemp("outside") / "steady.safetensors"
    outside.write_bytes(file.write(second))
    both = Replica(tmp_path)
    await both.live.load([outside])
    await both.live.follow()
    assert both.names == ["steady", "calm"]
    await both.follow()
    assert both.names == ["steady", "calm"], "what is not of the directory stays"
    (tmp_path / "steady.safetensors").write_bytes(b"no")
    strict = Replica(tmp_path)
    with pytest.raises(EditError, match=r"steady\.safetensors: not a safetensors file"):
        await strict.live.load_directory()
    assert strict.engine.applied == 0


async def test_a_bad_file_interrupts_no_engine(
    one: Replica, two: Replica, first: Edit, tmp_path: Path
) -> None:
    await one.live.put("calm", file.write(first))
    await two.follow()
    (tmp_path / "calm.safetensors").write_bytes(file.write(first)[:-1])
    (fault,) = await two.follow()
    assert "calm.safetensors: not a safetensors file" in fault
    assert two.engine.weights == [first.digest]
    assert two.engine.applied == 1


async def test_a_refused_edit_is_tried_again_after_another_change_alone(
    one: Replica, two: Replica, first: Edit, second: Edit
) -> None:
    await one.live.put("calm", file.write(first))
    two.engine.refuses = True
    for _ in range(3):
        await two.follow()
        assert await two.live.follow() == (f"edit 'calm': {REFUSED}",)
    assert two.engine.tried == 1, "each try would interrupt all requests"
    two.engine.refuses = False
    await one.live.put("steady", file.write(second))
    await two.follow()
    assert await two.live.follow() == ()
    assert set(two.engine.weights) == {first.digest, second.digest}


async def test_a_file_that_cannot_get_to_its_place_changes_no_weights(
    one: Replica, first: Edit, second: Edit, tmp_path: Path
) -> None:
    await one.live.put("steady", file.write(second))
    (tmp_path / "calm.safetensors").mkdir()
    with pytest.raises(DirectoryError):
        await one.live.put("calm", file.write(first))
    assert one.names == ["steady"]
    assert one.engine.weights == [second.digest]


async def test_a_refused_upload_leaves_no_file(one: Replica, first: Edit, tmp_path: Path) -> None:
    one.engine.refuses = True
    with pytest.raises(EditError, match=REFUSED):
        await one.live.put("calm", file.write(first))
    assert names(tmp_path) == []


async def test_a_name_that_is_live_and_on_offer_is_a_fault(first: Edit, tmp_path: Path) -> None:
    for kind in ("live", "offered"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "calm.safetensors").write_bytes(file.write(first))
    replica = Replica(tmp_path / "live")
    offered = Store(EDITS, MODEL, replica.engine, tmp_path / "offered")
    choosable = ChoosableEdits(offered, replica.live)
    assert await choosable.follow() == ()
    await replica.live.follow()
    assert await choosable.follow() == ("edit 'calm' is both live and on offer to requests",)
    with pytest.raises(EditError, match="every request has it"):
        choosable.get("calm")
    (tmp_path / "live" / "calm.safetensors").unlink()
    await replica.follow()
    assert await choosable.follow() == ()
    assert choosable.get("calm") == first
