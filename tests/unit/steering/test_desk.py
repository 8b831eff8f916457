"""Rows and edits that a request holds while it runs, and what its receipt says of the weights."""

import asyncio
from pathlib import Path

import pytest

from steersman.artifacts.store import Store
from steersman.capabilities import Capabilities, Steering
from steersman.edits import file
from steersman.edits.edit import Edit
from steersman.edits.store import EDITS, LiveEdits
from steersman.steering import plan as steering
from steersman.steering.admission import Admission
from steersman.steering.desk import Desk
from steersman.vectors.store import VECTORS
from steersman_client import ThinkEdit
from tests.unit.edits import made_up
from tests.unit.edits.scripted import MODEL, ScriptedEngine
from tests.unit.vectors.scripted import ScriptedHost

pytestmark = pytest.mark.anyio

CAPABILITIES = Capabilities(
    model=MODEL,
    thinking_tokens=None,
    greedy_by_default=False,
    steering=Steering(rows=1, bytes=0, runner="V1", model_digest="", edit_rows=2),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def made(tmp_path: Path) -> Edit:
    return made_up.edit(made_up.checkpoint(made_up.directory(tmp_path / "model")))


def desk(engine: ScriptedEngine, *, edit_rows: int = 2) -> Desk:
    return Desk(
        Store(VECTORS, MODEL, ScriptedHost()),
        Admission(1),
        LiveEdits(MODEL, engine.apply),
        Store(EDITS, MODEL, engine, max_entries=edit_rows) if edit_rows else None,
    )


async def test_a_request_keeps_its_edit_for_as_long_as_it_runs(made: Edit) -> None:
    engine = ScriptedEngine()
    full = desk(engine)
    assert full.edits is not None
    await full.edits.put("calm", file.write(made))
    chosen = ThinkEdit(edit="calm")
    planned = steering.plan([], steering.NoVectors(), CAPABILITIES, chosen, full.choosable)
    runs, ends = asyncio.Event(), asyncio.Event()

    async def request() -> None:
        async with full.taken(planned):
            runs.set()
            await ends.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(request())
        await runs.wait()
        assert full.admission.rows_in_use == 0
        await full.edits.delete("calm")
        assert engine.rows == {made.digest}
        ends.set()
    await full.edits.settle()
    assert engine.rows == set()


async def test_what_the_weights_have_is_asked_when_it_is_needed(made: Edit) -> None:
    full = desk(ScriptedEngine())
    ask = full.applied_edits
    assert ask() == ()
    await full.live.put("calm", file.write(made))
    (applied,) = ask()
    assert applied.model_dump() == {"edit": "calm", "digest": made.digest[:16], "heads": 3}
    await full.live.delete("calm")
    assert ask() == ()


async def test_without_rows_no_edit_can_be_chosen() -> None:
    assert desk(ScriptedEngine(), edit_rows=0).choosable is None
