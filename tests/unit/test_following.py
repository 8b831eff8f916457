"""Looks at files: what has changed since, and the faults that are said."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from steersman.following import Follower, Looks, Stamp

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def take(looks: Looks[int], found: dict[str, int]) -> list[str]:
    """Look, and take in all that has changed."""
    names = looks.changed(found)
    for name in names:
        looks.take(name, found.get(name))
    return names


def test_a_change_is_found_once_two_looks_agree() -> None:
    looks: Looks[int] = Looks()
    assert take(looks, {"a": 1, "b": 1}) == ["a", "b"], "at the start all is taken as it is"
    assert take(looks, {"a": 2, "b": 1}) == []
    assert take(looks, {"a": 3, "b": 1}) == [], "it is still being written"
    assert take(looks, {"a": 3, "b": 1}) == ["a"]
    assert take(looks, {"a": 3, "b": 1}) == []
    assert looks.taken("a") == 3


def test_what_is_gone_is_found_once_two_looks_agree() -> None:
    looks: Looks[int] = Looks()
    take(looks, {"a": 1})
    assert take(looks, {}) == []
    assert take(looks, {"a": 1}) == [], "it was moved away and back"
    assert take(looks, {}) == []
    assert take(looks, {}) == ["a"]
    assert take(looks, {}) == []
    assert looks.taken("a") is None


def test_what_comes_and_goes_between_two_looks_is_never_found() -> None:
    looks: Looks[int] = Looks()
    take(looks, {})
    assert take(looks, {"a": 1}) == []
    assert take(looks, {}) == []
    assert take(looks, {}) == []


def test_what_is_to_be_found_again() -> None:
    looks: Looks[int] = Looks()
    take(looks, {"a": 1, "b": 1})
    looks.again("a")
    looks.again("b")
    assert looks.changed({"a": 1, "b": 1}) == ["a", "b"]
    looks.take("a", 1)
    assert take(looks, {"a": 1}) == [], "b has just gone"
    assert take(looks, {"a": 1}) == ["b"]


def test_a_stamp_tells_another_file_and_another_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert Stamp.of(path) is None
    path.write_text("one")
    first = Stamp.of(path)
    assert Stamp.of(path) == first
    os.utime(path, ns=(0, 0))
    assert Stamp.of(path) != first, "written at another time"
    (tmp_path / "other").write_text("two")
    os.utime(tmp_path / "other", ns=(0, 0))
    there = Stamp.of(path)
    (tmp_path / "other").rename(path)
    assert Stamp.of(path) != there, "another file"
    with pytest.raises(NotADirectoryError):
        Stamp.of(path / "below")


def scripted(*looks: Iterable[str] | Exception) -> Callable[[], Awaitable[Iterable[str]]]:
    """Files with these faults, look by look."""
    rest = iter(looks)

    async def follow() -> Iterable[str]:
        found = next(rest)
        if isinstance(found, Exception):
            raise found
        return found

    return follow


async def test_a_fault_is_said_once_and_counted_while_it_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="steersman")
    follower = Follower(1)
    follower.add("vectors", scripted(["a: broken"], ["a: broken"], ["a: broken", "b: large"], []))
    counts = []
    for _ in range(4):
        await follower.look()
        counts.append(follower.faults("vectors"))
    assert counts == [1, 1, 2, 0]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Not used: a: broken"),
        ("WARNING", "Not used: b: large"),
        ("INFO", "No longer: a: broken"),
        ("INFO", "No longer: b: large"),
    ]
    assert follower.faults("edits") == 0


async def test_one_kind_that_fails_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    follower = Follower(1)
    error = RuntimeError("surprise")
    follower.add("vectors", scripted(error, error, ()))
    follower.add("profiles", scripted((), (), ["p: broken"]))
    for faults in ((1, 0), (1, 0), (0, 1)):
        await follower.look()
        assert (follower.faults("vectors"), follower.faults("profiles")) == faults
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == 1


async def test_a_look_that_does_not_end_makes_what_is_known_old() -> None:
    waiting = asyncio.Event()

    async def follow() -> tuple[str, ...]:
        await waiting.wait()
        return ()

    follower = Follower(1e-6)
    before = follower.age()
    follower.add("vectors", follow)
    async with follower.following():
        await asyncio.sleep(0.05)
        old = follower.age()
        waiting.set()
        while follower.age() >= old:
            await asyncio.sleep(0.001)
    assert before < old
    assert Follower(0).age() == 0


async def test_it_looks_for_as_long_as_it_is_told_to() -> None:
    looks = asyncio.Semaphore(0)

    async def follow() -> tuple[str, ...]:
        looks.release()
        return ()

    before = asyncio.all_tasks()
    off, on = Follower(0), Follower(1e-6)
    for follower in (off, on):
        follower.add("vectors", follow)
    async with off.following():
        pass
    assert (off.on, looks.locked()) == (False, True)
    async with on.following():
        for _ in range(3):
            await looks.acquire()
    assert asyncio.all_tasks() == before
