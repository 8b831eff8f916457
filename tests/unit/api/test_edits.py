"""The routes of the edits over stores with a scripted engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from steersman.api import edits
from steersman.api.admin import Admin, closed
from steersman.artifacts.artifact import HostError
from steersman.artifacts.store import Store
from steersman.edits import file
from steersman.edits.edit import Edit
from steersman.edits.store import EDITS, LiveEdits
from steersman.keys.ring import Keys
from tests.unit.edits import made_up
from tests.unit.edits.scripted import MODEL, REFUSED, ScriptedEngine

pytestmark = pytest.mark.anyio

ADMIN, ORDINARY = "admin-key", "ordinary-key"


class Server:
    """The routes, what they keep and the engine below."""

    def __init__(self, *, rows: int = 2, admin_key: str | None = ADMIN) -> None:
        self.host = ScriptedEngine()
        self.live = LiveEdits(MODEL, self.host.apply)
        self.offered = Store(EDITS, MODEL, self.host, max_entries=rows) if rows else None
        self.app = FastAPI()
        admin = Admin(Keys([ORDINARY], admin_key), 20_000)
        self.app.include_router(edits.router(self.live, self.offered, admin))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | AsyncIterator[bytes] | None = None,
        key: str | None = ADMIN,
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


@pytest.mark.parametrize(
    ("full", "status", "reason"),
    [(True, 507, "has no memory left for it"), (False, 500, "could not do it")],
)
@pytest.mark.parametrize("query", ["", "?apply=false"])
async def test_an_engine_that_cannot_is_an_error_of_the_server(
    server: Server, made: Edit, query: str, full: bool, status: int, reason: str
) -> None:
    server.host.fails = HostError("rank 1 of 2: out of memory", full=full)
    response = await server.ask("PUT", f"/calm{query}", body=file.write(made))
    message = f"nothing has changed: the engine {reason} (rank 1 of 2: out of memory)"
    assert response.json() == {
        "error": {"message": message, "type": "server_error", "param": None, "code": status}
    }
    assert (response.status_code, response.headers["x-should-retry"]) == (status, "false")
    assert (await server.ask("GET", "")).json()["data"] == []
    server.host.fails = None
    again = await server.ask("PUT", f"/calm{query}", body=file.write(made))
    assert again.status_code == 201


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


async def test_a_name_that_is_taken_during_an_upload(server: Server, made: Edit) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        assert (await server.ask("PUT", "/calm", body=file.write(made))).status_code == 201
        yield file.write(made)

    late = await server.ask("PUT", "/calm?apply=false", body=slowly())

    assert refusal(late)[1:] == ("name", "edit 'calm' is live: delete it first")
    assert server.host.rows == set()


async def test_a_name_that_is_taken_while_the_engine_works(server: Server, made: Edit) -> None:
    server.host.goes_on.clear()
    uploaded = asyncio.Event()

    async def at_once() -> AsyncIterator[bytes]:
        yield file.write(made)
        uploaded.set()

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(server.ask("PUT", "/calm", body=file.write(made)))
        while not server.host.waiting:
            await asyncio.sleep(0)
        second = tasks.create_task(server.ask("PUT", "/calm?apply=false", body=at_once()))
        await uploaded.wait()
        server.host.goes_on.set()

    assert first.result().status_code == 201
    assert refusal(second.result())[1:] == ("name", "edit 'calm' is live: delete it first")


async def test_an_unknown_name_is_answered_with_all_names(server: Server, made: Edit) -> None:
    await server.ask("PUT", "/live", body=file.write(made))
    await server.ask("PUT", "/brief?apply=false", body=file.write(made))

    for method in ("GET", "DELETE"):
        assert refusal(await server.ask(method, "/x")) == (
            404,
            "name",
            "unknown edit 'x'; this server has: brief, live",
        )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/calm"), ("PUT", "/calm?apply=true"), ("DELETE", "/calm")],
)
async def test_a_server_without_steering_says_why_it_has_no_edits(method: str, path: str) -> None:
    server = Server()
    server.app = FastAPI()
    server.app.include_router(closed("edit"))

    assert refusal(await server.ask(method, path, body=b"")) == (
        403,
        None,
        "this server has no edits: it was started with --no-steering",
    )
