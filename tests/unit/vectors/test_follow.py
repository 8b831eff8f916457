"""Stores of several servers over one directory: what one has, the others get."""

import asyncio
import shutil
from pathlib import Path

import pytest

from steersman.artifacts.artifact import ArtifactError
from steersman.artifacts.store import Store
from steersman.vectors import file, gguf
from steersman.vectors.store import VECTORS
from steersman.vectors.vector import Vector
from tests.unit.servers import MODEL

from .made_up import content, vector
from .scripted import ScriptedHost

pytestmark = pytest.mark.anyio

A, B, C, D = (vector(value) for value in (1.0, 2.0, 3.0, 4.0))
FILE_A, FILE_B, FILE_C, FILE_D = (file.write(one) for one in (A, B, C, D))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Replica:
    """A store that follows a directory, and its engine."""

    def __init__(self, directory: Path, *, shipped: Path | None = None, limit: int = 256) -> None:
        self.host = ScriptedHost()
        self.store: Store[Vector] = Store(
            VECTORS,
            MODEL,
            self.host,
            directory,
            shipped,
            max_bytes=4096,
            max_entries=limit,
        )

    async def start(self) -> tuple[str, ...]:
        await self.store.load_directories(followed=True)
        return await self.store.follow()

    async def follow(self) -> tuple[str, ...]:
        """Look as often as it takes for a change to be taken over."""
        await self.store.follow()
        return await self.store.follow()

    @property
    def vectors(self) -> dict[str, Vector]:
        return {entry.name: entry.artifact for entry in self.store}


@pytest.fixture
async def one(tmp_path: Path) -> Replica:
    replica = Replica(tmp_path)
    assert await replica.start() == ()
    return replica


@pytest.fixture
async def two(tmp_path: Path) -> Replica:
    replica = Replica(tmp_path)
    assert await replica.start() == ()
    return replica


async def test_an_upload_reaches_the_other(one: Replica, two: Replica) -> None:
    await one.store.put("calm", FILE_A)
    assert await two.follow() == ()
    assert two.vectors == {"calm": A}
    await two.store.put("calm", FILE_B)
    await one.follow()
    assert one.vectors == two.vectors == {"calm": B}
    assert one.host.digests == two.host.digests == {B.digest}
    await one.store.delete("calm")
    await two.follow()
    assert two.vectors == {}
    assert two.host.digests == set()


async def test_nothing_is_read_or_loaded_twice(one: Replica, two: Replica) -> None:
    await one.store.put("calm", FILE_A)
    await two.follow()
    calls = [list(replica.host.calls) for replica in (one, two)]
    for replica in (one, two):
        await replica.follow()
        assert replica.vectors == {"calm": A}
    assert [replica.host.calls for replica in (one, two)] == calls


async def test_a_file_that_was_put_there_by_hand(one: Replica, tmp_path: Path) -> None:
    (tmp_path / "calm.gguf").write_bytes(gguf.write(vector(layers=(1,))))
    (tmp_path / "README.md").write_text("not a vector")
    await one.follow()
    assert one.vectors == {"calm": vector(layers=(1,))}
    (tmp_path / "calm.gguf").unlink()
    await one.follow()
    assert one.vectors == {}


async def test_an_upload_is_not_undone_by_a_look(one: Replica, tmp_path: Path) -> None:
    (tmp_path / "calm.safetensors").write_bytes(FILE_A)
    await one.store.follow()  # seen, and not yet taken over
    await one.store.put("calm", FILE_B)
    for _ in range(3):
        await one.store.follow()
        assert one.vectors == {"calm": B}
    await one.store.delete("calm")
    for _ in range(3):
        await one.store.follow()
        assert one.vectors == {}


async def test_a_file_that_is_being_written_is_left_alone(one: Replica, tmp_path: Path) -> None:
    """However much of it is there at a look, and even if that is a good file."""
    path = tmp_path / "calm.safetensors"
    for written in (FILE_A[:100], FILE_A, FILE_A + b"\0"):
        path.write_bytes(written)
        assert await one.store.follow() == ()
        assert one.vectors == {}
    path.write_bytes(FILE_B)
    assert await one.follow() == ()
    assert one.vectors == {"calm": B}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("bad.safetensors", b"x", "bad.safetensors: not a safetensors file"),
        ("bad.safetensors", FILE_B[:-1], "bad.safetensors: not a safetensors file"),
        ("bad.safetensors", b"\x80\x04K\x01.", "pickles, as torch.save writes them"),
        ("bad.gguf", b"GGUF", "bad.gguf: the GGUF file ends early"),
        ("bad.safetensors", content(layers=(5,)), "bad.safetensors: the vector has a layer 5"),
        ("bad.safetensors", content(model_digest="x"), "was made for a model with digest x"),
        ("bad name.safetensors", FILE_B, "'bad name' cannot be the name"),
        ("bad.safetensors", bytes(5000), "over this server's limit of 4096 bytes"),
    ],
)
async def test_a_bad_file_is_a_fault_and_nothing_else(
    one: Replica, two: Replica, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    await one.store.put("good", FILE_A)
    (tmp_path / name).write_bytes(data)
    for replica in (one, two):
        (fault,) = await replica.follow()
        assert message in fault
        assert await replica.follow() == (fault,), "for as long as it is there"
        assert replica.vectors == {"good": A}
        assert replica.host.digests == {A.digest}
    starting = Replica(tmp_path)
    assert await starting.start() == (fault,)
    assert starting.vectors == {"good": A}
    (tmp_path / name).unlink()
    assert await one.follow() == ()


async def test_a_bad_file_in_place_of_a_good_one(one: Replica, tmp_path: Path) -> None:
    await one.store.put("calm", FILE_A)
    path = tmp_path / "calm.safetensors"
    path.write_bytes(FILE_B[:-1])
    (fault,) = await one.follow()
    assert fault.startswith(f"{path}: ")
    assert one.vectors == {"calm": A}, "it stays as it was"
    await one.store.put("calm", FILE_A)  # mends the file, though the vector is the same
    assert path.read_bytes() == FILE_A
    assert await one.follow() == ()
    (tmp_path / "new").write_bytes(FILE_B)
    (tmp_path / "new").replace(path)
    await one.follow()
    assert one.vectors == {"calm": B}


async def test_two_files_of_one_name(one: Replica, tmp_path: Path) -> None:
    await one.store.put("calm", FILE_A)
    (tmp_path / "calm.gguf").write_bytes(gguf.write(vector(layers=(1,))))
    (fault,) = await one.follow()
    assert "calm.gguf has the same name" in fault
    assert one.vectors == {"calm": A}
    (tmp_path / "calm.safetensors").unlink()
    assert await one.follow() == ()
    assert one.vectors == {"calm": vector(layers=(1,))}


async def test_requests_keep_the_vector_that_they_were_planned_with(
    one: Replica, two: Replica
) -> None:
    await one.store.put("calm", FILE_A)
    await two.follow()
    planned = two.store.get("calm")
    with two.store.holding([planned]):
        await one.store.put("calm", FILE_B)
        await two.follow()
        assert two.store.get("calm") == B
        assert two.host.digests == {A.digest, B.digest}
        await one.store.delete("calm")
        await two.follow()
        assert two.host.digests == {A.digest}
    await two.store.settle()
    assert two.host.digests == set()


async def test_more_files_than_names(one: Replica, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        await one.store.put(name, FILE_A)
    small = Replica(tmp_path, limit=2)
    (fault,) = await small.start()
    assert fault == "vector 'c': this server keeps 2 vectors at most: delete one first"
    assert set(small.vectors) == {"a", "b"}
    await one.store.delete("a")
    await small.follow()
    assert await small.follow() == ()
    assert set(small.vectors) == {"b", "c"}


async def test_an_engine_that_refuses_is_asked_again(one: Replica, two: Replica) -> None:
    await one.store.put("calm", FILE_A)
    await one.store.put("old", FILE_B)
    await two.follow()
    await one.store.put("calm", FILE_C)
    await one.store.put("new", FILE_D)
    two.host.refuses = True
    assert await two.follow() == (
        "vector 'calm': EngineError('load')",
        "vector 'new': EngineError('load')",
    )
    assert two.vectors == {"calm": A, "old": B}
    two.host.refuses = False
    assert await two.store.follow() == ()
    assert two.vectors == {"calm": C, "new": D, "old": B}


async def test_a_replaced_file_that_was_refused_can_still_go(one: Replica, two: Replica) -> None:
    await one.store.put("calm", FILE_A)
    await two.follow()
    await one.store.put("calm", FILE_B)
    two.host.refuses = True
    await two.follow()
    two.host.refuses = False
    await one.store.delete("calm")
    assert await two.follow() == ()
    assert two.vectors == {}


async def test_a_directory_that_is_away_takes_nothing_with_it(one: Replica, tmp_path: Path) -> None:
    await one.store.put("calm", FILE_A)
    away = tmp_path.with_name("away")
    shutil.move(tmp_path, away)
    (fault,) = await one.follow()
    assert "cannot use the directory" in fault
    assert one.vectors == {"calm": A}
    shutil.move(away, tmp_path)
    assert await one.follow() == ()
    assert one.vectors == {"calm": A}


async def test_what_the_model_ships_is_no_file_of_the_directory(tmp_path: Path) -> None:
    shipped, directory = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    directory.mkdir()
    (shipped / "calm.safetensors").write_bytes(FILE_A)
    (shipped / "own.safetensors").write_bytes(FILE_A)
    (directory / "own.safetensors").write_bytes(FILE_B)
    replica = Replica(directory, shipped=shipped)
    await replica.start()
    assert replica.vectors == {"calm": A, "own": B}
    await replica.follow()
    assert replica.vectors == {"calm": A, "own": B}
    (shipped / "calm.safetensors").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"calm\.safetensors: not a safetensors file"):
        await Replica(directory, shipped=shipped).start()


async def test_looks_and_uploads_wait_for_each_other(one: Replica, tmp_path: Path) -> None:
    (tmp_path / "calm.safetensors").write_bytes(FILE_A)
    await one.store.follow()
    one.host.goes_on.clear()
    look = asyncio.create_task(one.store.follow())
    while not one.host.calls:
        await asyncio.sleep(0)
    upload = asyncio.create_task(one.store.put("calm", FILE_B))
    one.host.goes_on.set()
    await asyncio.gather(look, upload)
    await one.follow()
    assert one.vectors == {"calm": B}
    assert (tmp_path / "calm.safetensors").read_bytes() == FILE_B
