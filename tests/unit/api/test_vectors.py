"""The routes of the vectors over a store with a scripted engine."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from steersman.api import vectors
from steersman.api.admin import Admin
from steersman.artifacts.store import Store
from steersman.keys.ring import Keys
from steersman.vectors import file, gguf
from steersman.vectors.store import VECTORS
from tests.unit.servers import MODEL
from tests.unit.vectors.made_up import content, vector
from tests.unit.vectors.scripted import ScriptedHost

pytestmark = pytest.mark.anyio

PATH = "/v1/control/vectors"
ADMIN = "ädmin-key"
ORDINARY = "ordinary-key"
LIMIT = 4096


class Server:
    """The routes, the store and the engine below them.

    Attributes:
        sent: What the application answered to `upload`.
        unauthorized: Statuses of the refusals that were counted.

    """

    def __init__(self, *, admin_key: str | None = ADMIN, directory: Path | None = None) -> None:
        self.host = ScriptedHost()
        self.unauthorized: list[int] = []
        self.store = Store(VECTORS, MODEL, self.host, directory)
        self.app = FastAPI()
        self.app.include_router(
            vectors.router(
                self.store,
                Admin(Keys([ORDINARY, "other"], admin_key), LIMIT, self.unauthorized.append),
            )
        )
        self.sent: list[Message] = []

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | AsyncIterator[bytes] | None = None,
        key: str | None = ADMIN,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        all_headers = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        if key is not None:
            all_headers[b"authorization"] = f"Bearer {key}".encode()
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, f"{PATH}{path}", content=body, headers=all_headers)

    async def upload(self, *messages: Message, headers: dict[str, str]) -> int:
        """PUT of `calm` message by message; how many of them were read."""
        waiting = list(messages)

        async def receive() -> Message:
            return waiting.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "PUT",
            "scheme": "http",
            "path": f"{PATH}/calm",
            "raw_path": f"{PATH}/calm".encode(),
            "query_string": b"",
            "root_path": "",
            "server": ("test", 80),
            "client": ("test", 1),
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in {"Authorization": f"Bearer {ADMIN}", **headers}.items()
            ],
        }
        await self.app(scope, receive, send)
        return len(messages) - len(waiting)


def refused(response: httpx.Response) -> tuple[int, Any, str]:
    """Status, param and message of an error in OpenAI's format."""
    error = response.json()["error"]
    ours = response.status_code >= 500
    assert error["type"] == ("server_error" if ours else "invalid_request_error")
    code = "invalid_api_key" if response.status_code == 401 else response.status_code
    assert error["code"] == code
    return response.status_code, error["param"], error["message"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> Server:
    return Server()


async def test_nothing_is_there_at_first(server: Server) -> None:
    response = await server.ask("GET", "")
    assert (response.status_code, response.json()) == (200, {"object": "list", "data": []})


async def test_put_then_get(server: Server) -> None:
    made = vector(0.5, description="é", residual_norms={1: 2.0})
    put = await server.ask("PUT", "/calm", body=file.write(made))
    assert put.status_code == 201
    assert put.json() == {
        "id": "calm",
        "object": "control.vector",
        "digest": made.digest[:16],
        "metadata": {
            "site": "layer",
            "method": "by hand",
            "model": None,
            "model_digest": None,
            "created_from": None,
            "description": "é",
            "strength": 1.0,
            "phase": "all",
            "at": "all",
            "layers": None,
            "strength_range": None,
            "residual_norms": {"1": 2.0},
            "provenance": None,
            "calibration": None,
        },
        "layers": [0, 1],
        "hidden_size": 8,
        "norms": {"0": pytest.approx(2**0.5), "1": pytest.approx(2**0.5)},
        "size": len(file.write(made)),
    }
    for key in (ADMIN, ORDINARY, None):  # who may read is decided before these routes
        assert (await server.ask("GET", "/calm", key=key)).json() == put.json()
    assert (await server.ask("GET", "")).json()["data"] == [put.json()]


async def test_put_again(server: Server) -> None:
    statuses = [
        (await server.ask("PUT", "/calm", body=content(value))).status_code
        for value in (1.0, 1.0, 2.0)
    ]
    assert statuses == [201, 200, 200]
    assert server.store.get("calm") == vector(2.0)
    assert server.host.digests == {vector(2.0).digest}


async def test_delete(server: Server) -> None:
    await server.ask("PUT", "/calm", body=content())
    response = await server.ask("DELETE", "/calm")
    assert response.status_code == 200
    assert response.json() == {"id": "calm", "object": "control.vector", "deleted": True}
    assert refused(await server.ask("DELETE", "/calm"))[:2] == (404, "name")
    assert server.host.digests == set()


@pytest.mark.parametrize(("format", "layers"), [("safetensors", (0, 1)), ("gguf", (1,))])
async def test_the_file(server: Server, format: str, layers: tuple[int, ...]) -> None:
    made = vector(layers=layers)
    await server.ask("PUT", "/calm", body=gguf.write(made) if format == "gguf" else content())
    response = await server.ask("GET", f"/calm?format={format}", key=None)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == f'attachment; filename="calm.{format}"'
    assert (gguf if format == "gguf" else file).read(response.content) == made


async def test_a_file_that_cannot_be_made(server: Server) -> None:
    await server.ask("PUT", "/calm", body=content())
    assert refused(await server.ask("GET", "/calm?format=gguf"))[:2] == (400, "layers[0]")
    assert refused(await server.ask("GET", "/calm?format=onnx")) == (
        400,
        "format",
        "unknown format 'onnx'; known: safetensors, gguf",
    )


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({}, 401, "changing vectors needs the admin key: Authorization: Bearer KEY"),
        ({"Authorization": "Bearer"}, 401, "changing vectors needs the admin key"),
        ({"Authorization": "Bearer "}, 401, "changing vectors needs the admin key"),
        ({"Authorization": "Basic admin-key"}, 401, "changing vectors needs the admin key"),
        ({"Authorization": "Bearer wrong"}, 401, "the admin key is wrong"),
        ({"Authorization": f"Bearer {ORDINARY}"}, 403, "this is an ordinary API key"),
        ({"Authorization": "bearer other"}, 403, "this is an ordinary API key"),
    ],
)
async def test_the_admin_key_is_needed(
    server: Server, method: str, headers: dict[str, str], status: int, message: str
) -> None:
    await server.ask("PUT", "/calm", body=content())
    response = await server.ask(method, "/calm", body=content(2.0), key=None, headers=headers)
    assert refused(response)[:2] == (status, None)
    assert refused(response)[2].startswith(message)
    assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert server.unauthorized == [status]
    assert server.store.get("calm") == vector()


@pytest.mark.parametrize("admin_key", [None, ""])
@pytest.mark.parametrize("key", [None, "", ADMIN, ORDINARY])
async def test_without_an_admin_key_nobody_changes_anything(
    admin_key: str | None, key: str | None
) -> None:
    server = Server(admin_key=admin_key)
    for method in ("PUT", "DELETE"):
        status, param, message = refused(await server.ask(method, "/calm", body=content(), key=key))
        assert (status, param) == (403, None)
        assert "start it with --admin-api-key" in message
    assert (await server.ask("GET", "", key=key)).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"", "vector", "not a safetensors file"),
        (b"GGUF", "vector", "the GGUF file ends early"),
        (b"\x80\x04.", "vector", "pickles"),
        (content(strength=2.0)[:-4], "vector", "not a safetensors file"),
        (content(layers=(0, 4)), "layers[4]", "the model's layers are 0 to 1"),
        (content(model_digest="other"), "metadata.model_digest", "digest other"),
    ],
)
async def test_a_bad_file_names_the_field(
    server: Server, body: bytes, param: str, message: str
) -> None:
    response = await server.ask("PUT", "/calm", body=body)
    assert refused(response)[:2] == (400, param)
    assert message in refused(response)[2]
    assert server.store.names == ()


def below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


BAD_NAMES = ["..%2Fx", "%2E%2E%2Fx", "a%2Fb", "a/b", ".hidden", "a..b", "a%00", "%C3%A9"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "", "%20", "x" * 65])
async def test_bad_names_reach_no_file(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "vectors"
    directory.mkdir()
    (tmp_path / "x.safetensors").write_bytes(content())
    server = Server(directory=directory)
    put = await server.ask("PUT", f"/{name}", body=content())
    assert refused(put)[:2] == (400, "name")
    for method, path in [("DELETE", name), ("GET", name), ("GET", f"{name}?format=gguf")]:
        assert refused(await server.ask(method, f"/{path}"))[:2] == (404, "name")
    assert below(tmp_path) == ["vectors", "x.safetensors"]
    assert server.host.calls == []


async def test_a_refusal_comes_before_the_upload_is_read(server: Server) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield content()

    assert refused(await server.ask("PUT", "/a/b", body=body()))[:2] == (400, "name")
    assert refused(await server.ask("PUT", "/calm", body=body(), key="wrong"))[0] == 401
    assert read == []
    assert (await server.ask("PUT", "/calm", body=body())).status_code == 201
    assert read == [True]


def chunk(size: int, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": bytes(size), "more_body": more}


async def test_a_declared_length_over_the_limit_is_refused_unread(server: Server) -> None:
    for length in (str(LIMIT + 1), "9" * 5000):
        assert await server.upload(chunk(1), headers={"Content-Length": length}) == 0
        assert server.sent.pop(0)["status"] == 400
        body = server.sent.pop(0)["body"]
        assert b'"param":"body"' in body
        assert f"limit of {LIMIT} bytes".encode() in body


async def test_an_upload_over_the_limit_is_not_read_to_its_end(server: Server) -> None:
    messages = [chunk(LIMIT // 2 + 1), chunk(LIMIT // 2), chunk(1, more=False)]
    assert await server.upload(*messages, headers={}) == 2
    assert server.sent[0]["status"] == 400
    assert b'"param":"body"' in server.sent[1]["body"]


async def test_an_upload_at_the_limit_is_read(server: Server) -> None:
    response = await server.ask("PUT", "/calm", body=bytes(LIMIT))
    assert refused(response)[:2] == (400, "vector")


async def test_a_client_that_hangs_up_changes_nothing(server: Server) -> None:
    begun = {"type": "http.request", "body": content(), "more_body": True}
    length = {"Content-Length": str(len(content()))}
    assert await server.upload(begun, {"type": "http.disconnect"}, headers=length) == 2
    assert server.store.names == ()
    assert server.host.calls == []


async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    server = Server(directory=tmp_path / "none")
    status, param, message = refused(await server.ask("PUT", "/calm", body=content()))
    assert (status, param) == (500, None)
    assert "cannot use the directory" in message


async def test_other_methods_are_not_allowed(server: Server) -> None:
    assert (await server.ask("POST", "/calm", body=content())).status_code == 405
    assert (await server.ask("PUT", "", body=content())).status_code == 405


async def test_the_routes_are_in_the_schema(server: Server) -> None:
    paths = server.app.openapi()["paths"]
    assert {path: sorted(methods) for path, methods in paths.items()} == {
        PATH: ["get"],
        f"{PATH}/{{name}}": ["delete", "get", "put"],
    }
