"""The store: names, what the engine has, and changes that are cut short."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from steersman.artifacts.artifact import ArtifactError, UnknownArtifactError
from steersman.artifacts.store import Store
from steersman.vectors import file, gguf
from steersman.vectors.store import VECTORS
from steersman.vectors.vector import Vector
from tests.unit.servers import MODEL

from .made_up import content, files, vector
from .scripted import EngineError, ScriptedHost

pytestmark = pytest.mark.anyio

A, B = vector(1.0), vector(2.0)
LOAD_A, LOAD_B = f"load {A.digest[:16]}", f"load {B.digest[:16]}"
UNLOAD_A, UNLOAD_B = f"unload {A.digest[:16]}", f"unload {B.digest[:16]}"
FILE_A, FILE_B = file.write(A), file.write(B)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def host() -> ScriptedHost:
    return ScriptedHost()


@pytest.fixture
async def store(host: ScriptedHost) -> Store[Vector]:
    return Store(VECTORS, MODEL, host)


async def test_put_and_get(store: Store[Vector], host: ScriptedHost) -> None:
    entry = await store.put("calm", FILE_A)
    assert (entry.name, entry.artifact, entry.size, entry.new) == ("calm", A, len(FILE_A), True)
    assert store.get("calm") == A
    assert store.names == ("calm",)
    assert [each.name for each in store] == ["calm"]
    assert host.calls == [LOAD_A]


async def test_a_gguf_file_is_told_by_its_content(store: Store[Vector]) -> None:
    made = vector(layers=(1,))
    await store.put("calm", gguf.write(made))
    assert store.get("calm") == made


async def test_an_unknown_name(store: Store[Vector]) -> None:
    with pytest.raises(UnknownArtifactError, match="unknown vector 'x'; this server has: none"):
        store.get("x")
    await store.put("b", FILE_A)
    await store.put("a", FILE_B)
    with pytest.raises(UnknownArtifactError, match="this server has: a, b") as error:
        store.get("x")
    assert error.value.field == "name"
    with pytest.raises(UnknownArtifactError):
        await store.delete("x")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "-a", "a/b", "../a", "a..b", "a b", "a\n", "a\0", "é", "a" * 65, "a\\b"],
)
async def test_what_is_no_name(store: Store[Vector], host: ScriptedHost, name: str) -> None:
    with pytest.raises(ArtifactError, match="cannot be the name of a vector") as error:
        await store.put(name, FILE_A)
    assert error.value.field == "name"
    assert host.calls == []


@pytest.mark.parametrize("name", ["a", "0", "A.b-c_d", "a" * 64, "x.safetensors"])
async def test_what_is_a_name(host: ScriptedHost, tmp_path: Path, name: str) -> None:
    await Store(VECTORS, MODEL, host, tmp_path).put(name, FILE_A)
    again = Store(VECTORS, MODEL, ScriptedHost(), tmp_path)
    await again.load_directories()
    assert again.names == (name,)


async def test_bad_content_changes_nothing(store: Store[Vector], host: ScriptedHost) -> None:
    await store.put("calm", FILE_A)
    for data in (b"", b"GGUF", FILE_B[:-1], content(layers=(2,)), content(model_digest="x")):
        with pytest.raises(ArtifactError):
            await store.put("calm", data)
    assert store.get("calm") == A
    assert host.calls == [LOAD_A]


async def test_limits(host: ScriptedHost) -> None:
    store = Store(VECTORS, MODEL, host, max_bytes=len(FILE_A), max_entries=1)
    await store.put("a", FILE_A)
    with pytest.raises(ArtifactError, match=f"limit of {len(FILE_A)} bytes") as error:
        await store.put("a", content(description="longer"))
    assert error.value.field == "body"
    with pytest.raises(ArtifactError, match="keeps 1 vectors at most"):
        await store.put("b", FILE_B)
    await store.put("a", FILE_B)
    assert host.digests == {B.digest}


async def test_the_same_again_is_nothing(host: ScriptedHost, tmp_path: Path) -> None:
    store = Store(VECTORS, MODEL, host, tmp_path)
    await store.put("calm", FILE_A)
    written = (tmp_path / "calm.safetensors").stat()
    entry = await store.put("calm", FILE_A)
    assert not entry.new
    assert host.calls == [LOAD_A]
    assert (tmp_path / "calm.safetensors").stat().st_ino == written.st_ino


async def test_another_vector_replaces(store: Store[Vector], host: ScriptedHost) -> None:
    await store.put("calm", FILE_A)
    entry = await store.put("calm", FILE_B)
    assert not entry.new
    assert store.get("calm") == B
    assert host.calls == [LOAD_A, LOAD_B, UNLOAD_A]


async def test_other_words_replace_without_the_engine(
    store: Store[Vector], host: ScriptedHost
) -> None:
    await store.put("calm", FILE_A)
    await store.put("calm", content(description="new"))
    assert store.get("calm").metadata.description == "new"
    assert host.calls == [LOAD_A]


async def test_names_share_a_digest(store: Store[Vector], host: ScriptedHost) -> None:
    await store.put("one", FILE_A)
    await store.put("two", FILE_A)
    await store.delete("one")
    assert host.calls == [LOAD_A]
    assert store.get("two") == A
    await store.put("two", FILE_B)
    assert host.calls == [LOAD_A, LOAD_B, UNLOAD_A]


async def test_delete(store: Store[Vector], host: ScriptedHost) -> None:
    await store.put("calm", FILE_A)
    await store.delete("calm")
    assert store.names == ()
    assert host.calls == [LOAD_A, UNLOAD_A]
    assert (await store.put("calm", FILE_A)).new


async def test_a_failed_load_changes_nothing(host: ScriptedHost, tmp_path: Path) -> None:
    store = Store(VECTORS, MODEL, host, tmp_path)
    await store.put("calm", FILE_A)
    host.refuses = True
    for name in ("calm", "new"):
        with pytest.raises(EngineError):
            await store.put(name, FILE_B)
    host.refuses = False
    assert (store.names, store.get("calm")) == (("calm",), A)
    assert files(tmp_path) == ["calm.safetensors"]
    assert file.read((tmp_path / "calm.safetensors").read_bytes()) == A
    await store.put("calm", FILE_B)
    assert host.digests == {B.digest}


async def test_a_failed_unload_is_logged(
    store: Store[Vector], host: ScriptedHost, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put("calm", FILE_A)
    host.refuses = True
    await store.delete("calm")
    assert f"vector {A.digest[:16]} could not be unloaded" in caplog.text
    assert store.names == ()


async def test_a_deleted_vector_stays_while_it_is_held(
    store: Store[Vector], host: ScriptedHost
) -> None:
    await store.put("calm", FILE_A)
    held = store.get("calm")
    with store.holding([held, held]), store.holding([held]):
        await store.delete("calm")
        assert host.digests == {A.digest}
    await store.settle()
    assert host.calls == [LOAD_A, UNLOAD_A]


async def test_the_last_holder_lets_go(store: Store[Vector], host: ScriptedHost) -> None:
    await store.put("calm", FILE_A)
    first, second = store.holding([A]), store.holding([A])
    first.__enter__()
    second.__enter__()
    await store.put("calm", FILE_B)
    first.__exit__(None, None, None)
    await store.settle()
    assert host.digests == {A.digest, B.digest}
    second.__exit__(None, None, None)
    await store.settle()
    assert host.digests == {B.digest}


async def test_holders_let_go_when_they_fail(store: Store[Vector], host: ScriptedHost) -> None:
    await store.put("calm", FILE_A)
    with pytest.raises(RuntimeError), store.holding([A]):
        raise RuntimeError
    await store.delete("calm")
    assert host.digests == set()


async def test_a_held_vector_that_is_put_again_stays(
    store: Store[Vector], host: ScriptedHost
) -> None:
    await store.put("calm", FILE_A)
    with store.holding([A]):
        await store.delete("calm")
        await store.put("other", FILE_A)
    await store.settle()
    assert host.calls == [LOAD_A]
    assert store.get("other") == A


async def test_what_has_left_cannot_be_held(store: Store[Vector]) -> None:
    await store.put("calm", FILE_A)
    await store.put("b", FILE_B)
    await store.delete("calm")
    with pytest.raises(ArtifactError, match=f"{A.digest[:16]} was deleted"), store.holding([A, B]):
        pass
    await store.delete("b")


async def test_what_is_leaving_cannot_be_held(store: Store[Vector], host: ScriptedHost) -> None:
    await store.put("calm", FILE_A)
    host.goes_on.clear()
    leaving = asyncio.create_task(store.delete("calm"))
    while host.calls != [LOAD_A, UNLOAD_A]:
        await asyncio.sleep(0)
    with pytest.raises(ArtifactError, match="was deleted"), store.holding([A]):
        pass
    host.goes_on.set()
    await leaving


async def test_nothing_to_hold(store: Store[Vector]) -> None:
    with store.holding([]):
        pass


async def test_changes_wait_for_each_other(store: Store[Vector], host: ScriptedHost) -> None:
    host.goes_on.clear()
    changes = [
        asyncio.create_task(store.put("calm", FILE_A)),
        asyncio.create_task(store.put("calm", FILE_B)),
        asyncio.create_task(store.put("other", FILE_A)),
    ]
    while not host.calls:
        await asyncio.sleep(0)
    assert store.names == ()
    host.goes_on.set()
    entries = await asyncio.gather(*changes)
    assert sorted(entry.new for entry in entries) == [False, True, True]
    assert host.digests == {entry.artifact.digest for entry in store}
    await asyncio.gather(store.delete("calm"), store.put("calm", FILE_B), store.delete("other"))
    assert host.digests == {entry.artifact.digest for entry in store}


async def cancelled(change: Coroutine[Any, Any, object], host: ScriptedHost) -> None:
    """Cancel a change while the engine is at it, twice, and let the engine go on."""
    host.calls.clear()
    host.goes_on.clear()
    changing = asyncio.create_task(change)
    while not host.calls:
        await asyncio.sleep(0)
    for _ in range(2):
        changing.cancel()
        await asyncio.sleep(0)
    host.goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await changing


async def test_a_cancelled_change_is_done_whole(host: ScriptedHost, tmp_path: Path) -> None:
    """The engine cannot be told to forget what it is at: it would have what no name needs."""
    store = Store(VECTORS, MODEL, host, tmp_path)

    await cancelled(store.put("calm", FILE_A), host)
    assert (store.names, files(tmp_path)) == (("calm",), ["calm.safetensors"])
    assert host.digests == {A.digest}
    await cancelled(store.put("calm", FILE_B), host)
    assert store.get("calm") == B
    assert host.digests == {B.digest}
    await cancelled(store.delete("calm"), host)
    assert (store.names, files(tmp_path)) == ((), [])
    assert host.digests == set()


async def test_a_cancelled_change_that_fails_changes_nothing(
    host: ScriptedHost, tmp_path: Path
) -> None:
    store = Store(VECTORS, MODEL, host, tmp_path)
    host.refuses = True
    await cancelled(store.put("calm", FILE_A), host)
    assert (store.names, files(tmp_path), host.digests) == ((), [], set())
    host.refuses = False
    await store.put("calm", FILE_A)
