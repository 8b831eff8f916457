"""`client.control.edits` of both clients against a scripted server."""

from pathlib import Path
from typing import Any, assert_type

import pytest

from steersman_client import AsyncSteersman, ControlEdit, DeletedControlEdit, Steersman

from .conftest import ScriptedServer

URL = "http://127.0.0.1:8000/v1/control/edits"
EDIT: dict[str, Any] = {
    "id": "calm",
    "object": "control.edit",
    "digest": "0123456789abcdef",
    "live": True,
    "metadata": {
        "method": "thinkedit",
        "weight": 0.5,
        "heads": {"0": [1, 3]},
        "head_dim": 8,
        "dtype": "bfloat16",
        "weights": {"0": "f" * 64},
        "newer": True,
    },
    "layers": [0],
    "heads": 2,
    "hidden_size": 24,
    "parameters": 384,
    "size": 256,
    "newer": True,
}
DELETED = {"id": "calm", "object": "control.edit", "deleted": True}


def test_list_and_retrieve(server: ScriptedServer, client: Steersman) -> None:
    server.reply({"object": "list", "data": [EDIT]})
    listed = client.control.edits.list()
    server.reply(EDIT)
    one = client.control.edits.retrieve("calm")

    assert_type(listed, tuple[ControlEdit, ...])
    assert listed == (one,)
    assert one.metadata.heads == {0: (1, 3)}
    assert [str(request.url) for request in server.requests] == [URL, f"{URL}/calm"]


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize("as_path", [False, True])
def test_upload(
    server: ScriptedServer, client: Steersman, tmp_path: Path, as_path: bool, apply: bool
) -> None:
    (tmp_path / "calm.safetensors").write_bytes(b"file")
    server.reply(EDIT, 201)

    edit = client.control.edits.upload(
        "calm",
        tmp_path / "calm.safetensors" if as_path else b"file",
        apply=apply,
        admin_key="k",
    )

    assert edit.live
    assert server.sent == ("PUT", f"{URL}/calm?apply={str(apply).lower()}", "Bearer k")
    assert server.requests[0].content == b"file"
    assert server.requests[0].headers["content-type"] == "application/octet-stream"


def test_delete(server: ScriptedServer, client: Steersman) -> None:
    server.reply(DELETED)
    deleted = client.control.edits.delete("calm", admin_key="k")
    assert_type(deleted, DeletedControlEdit)
    assert (deleted.id, deleted.deleted) == ("calm", True)
    assert server.sent == ("DELETE", f"{URL}/calm", "Bearer k")


def test_download(server: ScriptedServer, client: Steersman) -> None:
    server.reply({"any": "bytes"})
    assert client.control.edits.download("calm") == b'{"any":"bytes"}'
    assert server.sent[:2] == ("GET", f"{URL}/calm?format=safetensors")


@pytest.mark.anyio
async def test_the_async_client(
    server: ScriptedServer, async_client: AsyncSteersman, tmp_path: Path
) -> None:
    edits = async_client.control.edits
    (tmp_path / "calm.safetensors").write_bytes(b"file")
    server.reply({"object": "list", "data": [EDIT]})
    server.reply(EDIT)
    server.reply(EDIT, 201)
    server.reply({"any": "bytes"})
    server.reply(DELETED)

    assert await edits.list() == (await edits.retrieve("calm"),)
    await edits.upload("calm", tmp_path / "calm.safetensors", apply=False, admin_key="k")
    assert await edits.download("calm") == b'{"any":"bytes"}'
    assert (await edits.delete("calm", admin_key="k")).deleted

    assert [
        (request.method, str(request.url).removeprefix(URL), request.headers["authorization"])
        for request in server.requests
    ] == [
        ("GET", "", "Bearer none"),
        ("GET", "/calm", "Bearer none"),
        ("PUT", "/calm?apply=false", "Bearer k"),
        ("GET", "/calm?format=safetensors", "Bearer none"),
        ("DELETE", "/calm", "Bearer k"),
    ]
    assert server.requests[2].content == b"file"
