"""Digests by which replicas are compared."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from steersman.artifacts.store import Store
from steersman.digests import KINDS, digests, number
from steersman.edits import file as edit_file
from steersman.edits.store import EDITS, LiveEdits
from steersman.profiles import Profile
from steersman.steering.admission import Admission
from steersman.steering.desk import Desk
from steersman.vectors.store import VECTORS
from tests.unit import servers
from tests.unit.edits import made_up
from tests.unit.edits.scripted import MODEL, ScriptedEngine
from tests.unit.vectors.made_up import content
from tests.unit.vectors.scripted import ScriptedHost

if TYPE_CHECKING:
    from steersman.edits.edit import Edit

pytestmark = pytest.mark.anyio

PROFILES = {
    "fast": Profile(control={"search": {"method": "first_finish", "n": 3}}),
    "plain": Profile(control={}),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def edits(tmp_path: Path) -> tuple[bytes, bytes]:
    checkpoint = made_up.checkpoint(made_up.directory(tmp_path / "model"))
    return (
        edit_file.write(made_up.edit(checkpoint)),
        edit_file.write(made_up.edit(checkpoint, {1: (2,)}, seed=1)),
    )


def replica() -> Desk:
    engine = ScriptedEngine()
    offered: Store[Edit] = Store(EDITS, MODEL, engine)
    return Desk(
        Store(VECTORS, servers.MODEL, ScriptedHost()),
        Admission(1),
        LiveEdits(MODEL, engine.apply),
        offered,
    )


async def test_neither_order_nor_history_matters(edits: tuple[bytes, bytes]) -> None:
    one, two = replica(), replica()
    for desk in (one, two):
        assert desk.edits is not None
        names = ("a", "b") if desk is one else ("b", "a")
        for name in names:
            place = "ab".index(name)
            await desk.store.put(name, content(place + 1.0))
            await desk.live.put(f"live-{name}", edits[place])
            await desk.edits.put(name, edits[place])
    await two.store.put("c", content(3.0))
    await two.store.delete("c")
    await two.store.put("a", content(1.0, description="In other words."))
    described = PROFILES["plain"].model_copy(update={"description": "Nothing."})

    backwards = {"plain": described, "fast": PROFILES["fast"]}

    assert digests(one, PROFILES) == digests(two, backwards)
    assert len(digests(one, PROFILES).all) == 16


async def test_each_kind_has_its_own(edits: tuple[bytes, bytes]) -> None:
    desk, profiles = replica(), dict(PROFILES)
    assert desk.edits is not None
    seen = [digests(desk, profiles)]
    for change, kind in (
        (desk.store.put("calm", content(1.0)), "vectors"),
        (desk.store.put("calm", content(2.0)), "vectors"),
        (desk.store.put("other", content(2.0)), "vectors"),
        (desk.store.delete("calm"), "vectors"),
        (desk.edits.put("steady", edits[0]), "edits"),
        (desk.live.put("firm", edits[1]), "live_edits"),
        (None, "profiles"),
    ):
        if change is None:
            profiles["fast"] = PROFILES["plain"]
        else:
            await change
        now = digests(desk, profiles)
        changed = {one for one in KINDS if getattr(now, one) != getattr(seen[-1], one)}
        assert changed == {kind}
        assert now.all not in {before.all for before in seen}
        seen.append(now)


def test_a_server_without_steering_has_profiles_alone() -> None:
    assert digests(None, PROFILES).profiles != digests(None, {}).profiles
    assert digests(None, PROFILES).vectors == digests(replica(), {}).vectors


def test_a_metric_holds_the_number_of_a_digest() -> None:
    one, two = number("ffffffffffff0123"), number("fffffffffffe0123")
    assert float(one) != float(two)
    assert int(float(one)) == one
