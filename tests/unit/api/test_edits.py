"""The routes of the edits over stores with a scripted engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from steersman.api import edits
from steersman.api.admin import Admin
from steersman.capabilities import Model
from steersman.edits import file
from steersman.edits.edit import Edit, EditError
from steersman.edits.store import EditStore, LiveEdits
from tests.unit.edits import made_up

pytestmark = pytest.mark.anyio

MODEL = Model(
    names=("m",),
    architecture="A",
    hidden_size=made_up.HIDDEN,
    layers=made_up.LAYERS,
    vocabulary=50,
    max_model_len=64,
)
ADMIN, ORDINARY = "admin-key", "ordinary-key"
REFUSED = "two edits change a head"


class Host:
    """Rows that hold edits, and weights that have them."""

    def __init__(self) -> None:
        self.rows: set[str] = set()
        self.weights: list[str] = []
        self.refuses = False

    async def load(self, edit: Edit) -> None:
        self.rows.add(edit.digest)

    async def unload(self, digest: str) -> None:
        self.rows.remove(digest)

    async def apply(self, given: Sequence[Edit]) -> None:
        if self.refuses:
            raise EditError(REFUSED, field="edit")
        self.weights = [edit.digest for edit in given]


class Server:
    """The routes, what they keep and the engine below."""

    def __init__(self, *, rows: int = 2, admin_key: str | None = ADMIN) -> None:
        self.host = Host()
        self.live = LiveEdits(MODEL, self.host.apply)
        self.offered = EditStore(MODEL, self.host, max_edits=rows) if rows else None
        self.app = FastAPI()
        admin = Admin(admin_key, [ORDINARY], 20_000)
        self.app.include_router(edits.router(self.live, self.offered, admin))

    async def ask(
        self, method: str, path: str, *, body: bytes | None = None, key: str | None = ADMIN
    ) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(
                method, f"/v1/control/edits{path}", content=body, headers=headers
            )


def refusal(response: httpx.Response) -> tuple[int, str | None, str]:
    error = response.json()["error"]
    return response.status_code, error["param"], error["message"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
def made(tmp_path: Path) -> Edit:
    return made_up.edit(made_up.checkpoint(made_up.directory(tmp_path / "model")))


async def test_a_live_edit_comes_and_goes(server: Server, made: Edit) -> None:
    put = await server.ask("PUT", "/calm", body=file.write(made))

    assert put.status_code == 201
    described: dict[str, Any] = put.json()
    assert described.pop("metadata")["heads"] == {"0": [1, 3], "2": [0]}
    assert described == {
        "id": "calm",
        "object": "control.edit",
        "digest": made.digest[:16],
        "live": True,
        "layers": [0, 2],
        "heads": 3,
        "hidden_size": 24,
        "parameters": 3 * 8 * 24,
        "size": len(file.write(made)),
    }
    assert server.host.weights == [made.digest]
    assert server.host.rows == set()
    assert (await server.ask("GET", "")).json()["data"] == [put.json()]
    content = await server.ask("GET", "/calm?format=safetensors")
    assert content.content == file.write(made)

    again = await server.ask("PUT", "/calm", body=file.write(made))
    assert again.status_code == 200
    gone = await server.ask("DELETE", "/calm")
    assert gone.json() == {"id": "calm", "object": "control.edit", "deleted": True}
    assert server.host.weights == []
    assert (await server.ask("GET", "/calm")).status_code == 404


async def test_an_edit_on_offer_leaves_the_weights_alone(server: Server, made: Edit) -> None:
    put = await server.ask("PUT", "/calm?apply=false", body=file.write(made))

    assert (put.status_code, put.json()["live"]) == (201, False)
    assert server.host.rows == {made.digest}
    assert server.host.weights == []
    assert (await server.ask("GET", "/calm")).json() == put.json()
    assert refusal(await server.ask("PUT", "/calm", body=file.write(made)))[:2] == (400, "name")
    await server.ask("DELETE", "/calm")
    assert server.host.rows == set()
    await server.ask("PUT", "/calm", body=file.write(made))
    other = await server.ask("PUT", "/calm?apply=false", body=file.write(made))
    assert refusal(other)[:2] == (400, "name")


async def test_a_refused_edit_changes_nothing(server: Server, made: Edit) -> None:
    await server.ask("PUT", "/calm", body=file.write(made))
    server.host.refuses = True

    for response in (
        await server.ask("PUT", "/other", body=file.write(made)),
        await server.ask("DELETE", "/calm"),
    ):
        assert refusal(response) == (400, "edit", REFUSED)
    assert [entry.name for entry in server.live.entries] == ["calm"]
    assert server.host.weights == [made.digest]


async def test_an_edit_in_use_stays_on_the_engine(server: Server, made: Edit) -> None:
    await server.ask("PUT", "/calm?apply=false", body=file.write(made))
    assert server.offered is not None

    with server.offered.holding([made]):
        await server.ask("DELETE", "/calm")
        assert server.host.rows == {made.digest}
    await server.offered.settle()
    assert server.host.rows == set()


async def test_bad_input(server: Server, made: Edit) -> None:
    good = file.write(made)
    for path, body, status, param in (
        ("/a..b", good, 400, "name"),
        ("/a/b", good, 400, "name"),
        ("/calm", b"\x80pickle", 400, "edit"),
        ("/calm", good + bytes(20_000), 400, "body"),
        ("/calm?apply=maybe", good, 400, "apply"),
    ):
        assert refusal(await server.ask("PUT", path, body=body))[:2] == (status, param)
    assert refusal(await server.ask("DELETE", "/nobody"))[:2] == (404, "name")
    assert refusal(await server.ask("GET", "/nobody"))[0] == 404
    await server.ask("PUT", "/calm", body=good)
    assert refusal(await server.ask("GET", "/calm?format=gguf"))[:2] == (400, "format")
    many = [await server.ask("PUT", f"/{i}?apply=false", body=good) for i in range(3)]
    assert refusal(many[2]) == (
        400,
        "name",
        "this server keeps 2 edits at most: delete one first",
    )


async def test_who_may_change_edits(server: Server, made: Edit) -> None:
    for key, status in ((None, 401), ("wrong", 401), (ORDINARY, 403)):
        for method in ("PUT", "DELETE"):
            response = await server.ask(method, "/calm", body=file.write(made), key=key)
            assert response.status_code == status
    closed = Server(admin_key=None)
    response = await closed.ask("PUT", "/calm", body=file.write(made))
    assert refusal(response)[2].startswith("the edits of this server are read-only")


async def test_without_rows_only_live_edits_are_there(made: Edit) -> None:
    server = Server(rows=0)
    refused = await server.ask("PUT", "/calm?apply=false", body=file.write(made))
    assert refusal(refused)[:2] == (400, "apply")
    assert (await server.ask("PUT", "/calm", body=file.write(made))).status_code == 201
    assert refusal(await server.ask("GET", "/other"))[0] == 404


async def test_files_that_are_applied_at_the_start(made: Edit, tmp_path: Path) -> None:
    (tmp_path / "calm.safetensors").write_bytes(file.write(made))
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    server = Server()

    await server.live.load([tmp_path / "calm.safetensors"])

    assert "calm" in server.live
    assert server.host.weights == [made.digest]
    for name, message in (
        ("calm", "another edit is named calm"),
        ("bad", "bad.safetensors: not a safetensors file"),
        ("none", "none.safetensors: No such file"),
    ):
        with pytest.raises(EditError, match=message):
            await server.live.load([tmp_path / f"{name}.safetensors"])
