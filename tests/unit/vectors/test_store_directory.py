"""The directory of a store: files that are kept, replaced, refused, or cannot be written."""

import resource
import shutil
from pathlib import Path

import pytest

from steersman.artifacts.artifact import ArtifactError
from steersman.artifacts.directory import DirectoryError
from steersman.artifacts.store import Store
from steersman.vectors import file, gguf
from steersman.vectors.store import VECTORS
from tests.unit.servers import MODEL

from .made_up import content, files, vector
from .scripted import ScriptedHost

pytestmark = pytest.mark.anyio

A, B = vector(1.0), vector(2.0)
LOAD_A = f"load {A.digest[:16]}"
FILE_A, FILE_B = file.write(A), file.write(B)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost()


async def test_the_directory_keeps_the_vectors(host: ScriptedHost, tmp_path: Path) -> None:
    store = Store(VECTORS, MODEL, host, tmp_path)
    await store.put("calm", FILE_A)
    await store.put("two", FILE_B)
    await store.put("two", FILE_A)
    await store.put("gone", FILE_B)
    await store.delete("gone")
    assert files(tmp_path) == ["calm.safetensors", "two.safetensors"]
    again_host = ScriptedHost()
    again = Store(VECTORS, MODEL, again_host, tmp_path)
    await again.load_directories()
    assert {entry.name: entry.artifact for entry in again} == {"calm": A, "two": A}
    assert again_host.calls == [LOAD_A]


async def test_a_gguf_file_in_the_directory_is_replaced(host: ScriptedHost, tmp_path: Path) -> None:
    (tmp_path / "calm.gguf").write_bytes(gguf.write(vector(layers=(1,))))
    (tmp_path / "other.gguf").write_bytes(gguf.write(vector(layers=(1,))))
    (tmp_path / "README.md").write_text("not a vector")
    store = Store(VECTORS, MODEL, host, tmp_path)
    await store.load_directories()
    assert store.names == ("calm", "other")
    await store.put("calm", FILE_A)
    await store.delete("other")
    assert files(tmp_path) == ["README.md", "calm.safetensors"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("bad.safetensors", b"x", "bad.safetensors: not a safetensors file"),
        ("bad.gguf", b"GGUF", "bad.gguf: the GGUF file ends early"),
        ("bad.safetensors", content(layers=(5,)), "bad.safetensors: the vector has a layer 5"),
        ("bad name.safetensors", FILE_A, "bad name.safetensors: 'bad name' cannot be the name"),
        ("good.gguf", FILE_A, "good.safetensors: good.gguf has the same name"),
        ("large.gguf", FILE_A + b"\0", "large.gguf: the file is over this server's limit"),
        ("second.gguf", FILE_A, "there are 2 vectors, this server keeps 1 at most"),
    ],
)
async def test_a_bad_file_in_the_directory(
    host: ScriptedHost, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / "good.safetensors").write_bytes(FILE_A)
    (tmp_path / name).write_bytes(data)
    limit = 1 if name.startswith("second") else 2
    store = Store(VECTORS, MODEL, host, tmp_path, max_bytes=len(FILE_A), max_entries=limit)
    with pytest.raises(ArtifactError, match=message):
        await store.load_directories()
    assert host.calls == []


async def test_a_directory_that_is_not_there(host: ScriptedHost, tmp_path: Path) -> None:
    store = Store(VECTORS, MODEL, host, tmp_path / "none")
    with pytest.raises(DirectoryError, match="none: No such file"):
        await store.load_directories()
    await Store(VECTORS, MODEL, host).load_directories()


async def test_a_directory_that_cannot_be_written(host: ScriptedHost, tmp_path: Path) -> None:
    directory = tmp_path / "vectors"
    directory.mkdir()
    store = Store(VECTORS, MODEL, host, directory)
    await store.put("calm", FILE_A)
    shutil.rmtree(directory)
    with pytest.raises(DirectoryError, match="cannot use the directory"):
        await store.put("calm", FILE_B)
    assert store.get("calm") == A
    assert host.calls == [LOAD_A]


async def test_a_file_for_which_there_is_no_space(host: ScriptedHost, tmp_path: Path) -> None:
    store = Store(VECTORS, MODEL, host, tmp_path)
    await store.put("calm", FILE_A)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(FILE_B) // 2, limits[1]))
    try:
        with pytest.raises(DirectoryError) as caught:
            await store.put("calm", FILE_B)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    await store.settle()
    assert (tmp_path / "calm.safetensors").read_bytes() == FILE_A
    assert files(tmp_path) == ["calm.safetensors"]
    assert store.names == ("calm",)


async def test_a_file_that_cannot_get_to_its_place(host: ScriptedHost, tmp_path: Path) -> None:
    (tmp_path / "calm.safetensors").mkdir()
    store = Store(VECTORS, MODEL, host, tmp_path)
    with pytest.raises(DirectoryError):
        await store.put("calm", FILE_A)
    await store.settle()
    assert (store.names, host.digests) == ((), set())
    assert files(tmp_path) == ["calm.safetensors"]
