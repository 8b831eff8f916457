"""`client.control.vectors` of both clients against a scripted server."""

import subprocess
import sys
from pathlib import Path
from typing import Any, assert_type

import httpx2
import openai
import pytest
from pydantic import ValidationError

from steersman_client import AsyncSteersman, ControlVector, DeletedControlVector, Steersman

from .conftest import ScriptedServer

VECTOR: dict[str, Any] = {
    "id": "calm",
    "object": "control.vector",
    "digest": "0123456789abcdef",
    "metadata": {
        "site": "layer",
        "method": "by hand",
        "model": None,
        "strength": 2.0,
        "strength_range": [0.5, 4.0],
        "residual_norms": {"1": 20.0},
        "newer": True,
    },
    "layers": [0, 1],
    "hidden_size": 8,
    "norms": {"0": 1.0, "1": 2.0},
    "size": 256,
    "newer": True,
}
DELETED = {"id": "calm", "object": "control.vector", "deleted": True}


def is_the_vector(vector: ControlVector) -> bool:
    assert vector.metadata.strength_range == (0.5, 4.0)
    assert vector.metadata.residual_norms == {1: 20.0}
    assert vector.norms == {0: 1.0, 1: 2.0}
    return vector == ControlVector.model_validate(VECTOR)


URL = "http://127.0.0.1:8000/v1/control/vectors"


def test_list(server: ScriptedServer, client: Steersman) -> None:
    server.reply({"object": "list", "data": [VECTOR, {**VECTOR, "id": "b"}]})
    listed = client.control.vectors.list()
    assert_type(listed, tuple[ControlVector, ...])
    assert [vector.id for vector in listed] == ["calm", "b"]
    assert is_the_vector(listed[0])
    assert server.sent == ("GET", URL, "Bearer none")


def test_retrieve(server: ScriptedServer, client: Steersman) -> None:
    server.reply(VECTOR)
    vector = client.control.vectors.retrieve("calm")
    assert_type(vector, ControlVector)
    assert is_the_vector(vector)
    assert vector.model_extra == {"object": "control.vector", "newer": True}
    with pytest.raises(ValidationError, match="frozen"):
        vector.size = 1  # type: ignore[misc]
    assert server.sent == ("GET", f"{URL}/calm", "Bearer none")


def test_an_answer_that_is_no_vector(server: ScriptedServer, client: Steersman) -> None:
    server.reply({"id": "calm"})
    with pytest.raises(ValidationError):
        client.control.vectors.retrieve("calm")


@pytest.mark.parametrize("as_path", [False, True])
def test_upload(server: ScriptedServer, client: Steersman, tmp_path: Path, as_path: bool) -> None:
    data = bytes(range(256))
    (tmp_path / "calm.safetensors").write_bytes(data)
    server.reply(VECTOR, 201)
    vector = client.control.vectors.upload(
        "calm", tmp_path / "calm.safetensors" if as_path else data, admin_key="k"
    )
    assert_type(vector, ControlVector)
    assert is_the_vector(vector)
    assert server.sent == ("PUT", f"{URL}/calm", "Bearer k")
    assert server.requests[0].content == data
    assert server.requests[0].headers["content-type"] == "application/octet-stream"


def test_delete(server: ScriptedServer, client: Steersman) -> None:
    server.reply(DELETED)
    deleted = client.control.vectors.delete("calm", admin_key="k")
    assert_type(deleted, DeletedControlVector)
    assert (deleted.id, deleted.deleted) == ("calm", True)
    assert server.sent == ("DELETE", f"{URL}/calm", "Bearer k")


def test_the_admin_key(
    server: ScriptedServer, client: Steersman, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (None, "", "argument"):
        server.reply(DELETED)
        client.control.vectors.delete("calm", admin_key=key)
    monkeypatch.setenv("STEERSMAN_ADMIN_API_KEY", "environment")
    for key in (None, "argument"):
        server.reply(VECTOR)
        client.control.vectors.upload("calm", b"", admin_key=key)
    server.reply({"data": []})
    client.control.vectors.list()
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer none",
        "Bearer none",
        "Bearer argument",
        "Bearer environment",
        "Bearer argument",
        "Bearer none",
    ]


@pytest.mark.parametrize(
    ("name", "path"), [("a/../b", "a%2F..%2Fb"), ("a b", "a%20b"), ("a?b#c", "a%3Fb%23c")]
)
def test_a_name_stays_one_part_of_the_path(
    server: ScriptedServer, client: Steersman, name: str, path: str
) -> None:
    server.reply(VECTOR)
    client.control.vectors.retrieve(name)
    assert server.requests[0].url.raw_path == f"/v1/control/vectors/{path}".encode()


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_would_lead_elsewhere(client: Steersman, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of anything"):
        client.control.vectors.delete(name)


def test_download(server: ScriptedServer, client: Steersman) -> None:
    for _ in range(2):
        server.reply({"any": "bytes"})
    files = [
        client.control.vectors.download("calm"),
        client.control.vectors.download("calm", format="gguf"),
    ]
    assert files == [b'{"any":"bytes"}'] * 2
    assert [str(request.url) for request in server.requests] == [
        f"{URL}/calm?format=safetensors",
        f"{URL}/calm?format=gguf",
    ]


def test_a_downloaded_file_is_left_as_it_is() -> None:
    data = b"\x00\xff\r\n"
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=data))
    with Steersman(http_client=httpx2.Client(transport=transport)) as client:
        assert client.control.vectors.download("calm") == data


def test_errors_are_those_of_the_sdk(server: ScriptedServer, client: Steersman) -> None:
    server.reply({"error": {"message": "no", "param": "name", "code": 404}}, 404)
    with pytest.raises(openai.NotFoundError) as error:
        client.control.vectors.retrieve("calm")
    assert error.value.param == "name"


@pytest.mark.anyio
async def test_the_async_client(
    server: ScriptedServer, async_client: AsyncSteersman, tmp_path: Path
) -> None:
    vectors = async_client.control.vectors
    (tmp_path / "calm.gguf").write_bytes(b"GGUF")
    server.reply({"object": "list", "data": [VECTOR]})
    server.reply(VECTOR)
    server.reply(VECTOR, 201)
    server.reply(VECTOR)
    server.reply({"any": "bytes"})
    server.reply(DELETED)
    listed = await vectors.list()
    assert_type(listed, tuple[ControlVector, ...])
    assert is_the_vector(listed[0])
    assert is_the_vector(await vectors.retrieve("calm"))
    assert is_the_vector(await vectors.upload("calm", tmp_path / "calm.gguf", admin_key="k"))
    assert is_the_vector(await vectors.upload("calm", b"data"))
    assert await vectors.download("calm", format="gguf") == b'{"any":"bytes"}'
    assert (await vectors.delete("calm", admin_key="k")).deleted
    assert [
        (request.method, str(request.url).removeprefix(URL), request.headers["authorization"])
        for request in server.requests
    ] == [
        ("GET", "", "Bearer none"),
        ("GET", "/calm", "Bearer none"),
        ("PUT", "/calm", "Bearer k"),
        ("PUT", "/calm", "Bearer none"),
        ("GET", "/calm?format=gguf", "Bearer none"),
        ("DELETE", "/calm", "Bearer k"),
    ]
    assert [request.content for request in server.requests[2:4]] == [b"GGUF", b"data"]


def test_the_client_needs_no_numpy() -> None:
    code = (
        "import sys, steersman_client; "
        "sys.exit(bool({'numpy', 'safetensors', 'steersman'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
