"""Edits by name: on offer to requests, and live for all of them."""

import asyncio
from pathlib import Path

import anyio
import pytest

from steersman.artifacts.artifact import ArtifactError, UnknownArtifactError
from steersman.artifacts.store import Store
from steersman.edits import file
from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import Edit, EditError
from steersman.edits.store import EDITS, ChoosableEdits, LiveEdits
from tests.unit.edits import made_up
from tests.unit.edits.scripted import MODEL, REFUSED, ScriptedEngine

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def second(checkpoint: Checkpoint) -> Edit:
    return made_up.edit(checkpoint, seed=1)


@pytest.fixture
async def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
async def live(engine: ScriptedEngine) -> LiveEdits:
    return LiveEdits(MODEL, engine.apply)


@pytest.fixture
async def offered(engine: ScriptedEngine) -> Store[Edit]:
    return Store(EDITS, MODEL, engine, max_entries=2)


def names(live: LiveEdits) -> list[str]:
    return [entry.name for entry in live.entries]


async def test_a_live_edit_is_replaced_in_one_change(
    live: LiveEdits, engine: ScriptedEngine, checkpoint: Checkpoint, first: Edit, second: Edit
) -> None:
    other = made_up.edit(checkpoint, {1: (2,)})
    assert (await live.put("calm", file.write(first))).new
    await live.put("other", file.write(other))

    entry = await live.put("calm", file.write(second))

    assert not entry.new
    assert entry.artifact == second
    assert engine.weights == [second.digest, other.digest]
    assert engine.applied == 3
    await live.delete("calm")
    assert engine.weights == [other.digest]
    await live.delete("other")
    assert engine.weights == []


async def test_a_refused_change_of_the_weights_changes_nothing(
    live: LiveEdits, engine: ScriptedEngine, first: Edit, second: Edit
) -> None:
    await live.put("calm", file.write(first))
    engine.refuses = True

    for change in (
        live.put("calm", file.write(second)),
        live.put("other", file.write(second)),
        live.delete("calm"),
    ):
        with pytest.raises(EditError, match=REFUSED):
            await change

    assert names(live) == ["calm"]
    assert live.entries[0].artifact == first
    assert engine.weights == [first.digest]
    engine.refuses = False
    await live.put("calm", file.write(second))
    assert engine.weights == [second.digest]


async def test_the_same_edit_again_leaves_the_engine_alone(
    live: LiveEdits, engine: ScriptedEngine, checkpoint: Checkpoint, first: Edit
) -> None:
    await live.put("calm", file.write(first))

    again = await live.put("calm", file.write(first))
    described = made_up.edit(checkpoint, description="Calmer.")
    await live.put("calm", file.write(described))

    assert not again.new
    assert engine.applied == 1
    assert live.entries[0].artifact.metadata.description == "Calmer."


async def test_changes_of_the_weights_wait_for_each_other(
    live: LiveEdits, engine: ScriptedEngine, checkpoint: Checkpoint, first: Edit
) -> None:
    other = made_up.edit(checkpoint, {1: (2,)})
    engine.goes_on.clear()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live.put("a", file.write(first)))
        tasks.create_task(live.put("b", file.write(other)))
        await asyncio.sleep(0)
        assert names(live) == []
        engine.goes_on.set()

    assert sorted(names(live)) == ["a", "b"]
    assert engine.weights == [entry.artifact.digest for entry in live.entries]


async def test_what_cannot_be_put_live(
    live: LiveEdits, engine: ScriptedEngine, first: Edit, checkpoint: Checkpoint
) -> None:
    content = file.write(first)
    for name in ("", ".a", "a/b", "a..b", "é", "a" * 65):
        with pytest.raises(ArtifactError, match="cannot be the name of an edit") as error:
            await live.put(name, content)
        assert error.value.field == "name"
    another = made_up.edit(checkpoint, model_digest="0" * 16)
    for data in (b"", content[:-1], file.write(another)):
        with pytest.raises(ArtifactError):
            await live.put("calm", data)
    with pytest.raises(UnknownArtifactError, match="unknown edit 'calm'"):
        await live.delete("calm")
    assert engine.applied == 0


async def test_files_that_are_applied_at_the_start(
    live: LiveEdits, engine: ScriptedEngine, first: Edit, tmp_path: Path
) -> None:
    (tmp_path / "calm.safetensors").write_bytes(file.write(first))
    (tmp_path / "bad.safetensors").write_bytes(b"no")

    await live.load([tmp_path / "calm.safetensors"])

    assert "calm" in live
    assert engine.weights == [first.digest]
    for name, message in (
        ("calm", "another edit is named calm"),
        ("bad", "bad.safetensors: not a safetensors file"),
        ("none", "none.safetensors: No such file"),
    ):
        with pytest.raises(EditError, match=message):
            await live.load([tmp_path / f"{name}.safetensors"])


async def test_an_edit_on_offer_is_replaced_once_the_new_one_is_there(
    offered: Store[Edit], engine: ScriptedEngine, first: Edit, second: Edit
) -> None:
    await offered.put("calm", file.write(first))
    with offered.holding([first]):
        entry = await offered.put("calm", file.write(second))
        assert not entry.new
        assert offered.get("calm") == second
        assert engine.rows == {first.digest, second.digest}
    await offered.settle()
    assert engine.rows == {second.digest}
    assert engine.applied == 0


async def test_a_refused_offer_changes_nothing(
    offered: Store[Edit], engine: ScriptedEngine, first: Edit, second: Edit
) -> None:
    await offered.put("calm", file.write(first))
    engine.refuses = True
    for name in ("calm", "other"):
        with pytest.raises(EditError, match=REFUSED):
            await offered.put(name, file.write(second))
    assert offered.names == ("calm",)
    assert offered.get("calm") == first
    assert engine.rows == {first.digest}


async def test_the_row_of_a_deleted_edit_comes_free_with_its_last_request(
    offered: Store[Edit], engine: ScriptedEngine, first: Edit
) -> None:
    await offered.put("calm", file.write(first))
    one, two = offered.holding([first]), offered.holding([first])
    one.__enter__()
    two.__enter__()
    await offered.delete("calm")
    with pytest.raises(UnknownArtifactError):
        offered.get("calm")
    one.__exit__(None, None, None)
    await offered.settle()
    assert engine.rows == {first.digest}
    two.__exit__(None, None, None)
    await offered.settle()
    assert engine.rows == set()


async def test_the_directory_keeps_what_is_on_offer(
    engine: ScriptedEngine, first: Edit, second: Edit, tmp_path: Path
) -> None:
    store = Store(EDITS, MODEL, engine, tmp_path, max_entries=2)
    await store.put("calm", file.write(first))
    await store.put("gone", file.write(second))
    await store.delete("gone")

    again = Store(EDITS, MODEL, ScriptedEngine(), tmp_path, max_entries=2)
    await again.load_directories()

    assert [path.name async for path in anyio.Path(tmp_path).iterdir()] == ["calm.safetensors"]
    assert {entry.name: entry.artifact for entry in again} == {"calm": first}


async def test_a_directory_with_more_edits_than_rows(first: Edit, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.safetensors").write_bytes(file.write(first))
    store = Store(EDITS, MODEL, ScriptedEngine(), tmp_path, max_entries=2)
    with pytest.raises(ArtifactError, match="there are 3 edits, this server keeps 2 at most"):
        await store.load_directories()


async def test_what_every_request_has_cannot_be_chosen(
    live: LiveEdits, offered: Store[Edit], first: Edit, second: Edit
) -> None:
    choosable = ChoosableEdits(offered, live)
    await offered.put("calm", file.write(first))
    await live.put("steady", file.write(second))

    assert choosable.get("calm") == first
    with pytest.raises(EditError, match="edit 'steady' is live: every request has it"):
        choosable.get("steady")
    with pytest.raises(UnknownArtifactError, match="unknown edit 'x'; this server has: calm"):
        choosable.get("x")
    await live.put("steady", file.write(first))
    with pytest.raises(EditError, match="edit 'calm' is live as 'steady': every request has it"):
        choosable.get("calm")
    await live.delete("steady")
    assert choosable.get("calm") == first
