"""The cache: a model directory is whole or not there."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from steersman.models.cache import MANIFEST, ModelCache, default_root
from steersman.models.catalog import BUILT_IN, Fetched
from steersman.models.error import ModelError
from steersman.models.progress import Progress

MODEL = BUILT_IN["smollm2"]


class Recorder:
    """A `Progress` that remembers the steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str, total: int | None = None) -> None:
        self.steps.append(text)

    def update(self, done: int) -> None:
        pass


class FakeBuild:
    """Writes two small files, and counts."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.calls = 0
        self.then = then

    def __call__(self, model: Fetched, work: Path, target: Path, progress: Progress) -> None:
        self.calls += 1
        (work / "download").write_bytes(b"intermediate")
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(b"weights")
        self.then()


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path)


def visible(cache: ModelCache) -> list[str]:
    """Everything in the cache but lock files."""
    return sorted(file.name for file in cache.directory.iterdir() if file.suffix != ".lock")


def test_a_prepared_directory_holds_the_files_and_a_manifest(cache: ModelCache) -> None:
    path = cache.prepare(MODEL, FakeBuild(), Recorder())
    assert sorted(file.name for file in path.iterdir()) == [
        "config.json",
        "model.safetensors",
        MANIFEST,
    ]
    assert visible(cache) == [path.name]
    assert cache.size(MODEL) == 9


def test_a_second_call_does_no_work(cache: ModelCache) -> None:
    build, progress = FakeBuild(), Recorder()
    cache.prepare(MODEL, build, Recorder())
    cache.prepare(MODEL, build, progress)
    assert build.calls == 1
    assert progress.steps == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ModelError("digest differs")])
def test_an_interrupted_build_leaves_nothing(
    cache: ModelCache, error: type[BaseException] | BaseException
) -> None:
    def interrupt() -> None:
        raise error

    with pytest.raises((KeyboardInterrupt, ModelError)):
        cache.prepare(MODEL, FakeBuild(interrupt), Recorder())
    assert visible(cache) == []
    assert cache.size(MODEL) is None


def test_a_stale_partial_is_removed(cache: ModelCache) -> None:
    stale = cache.directory / f".partial-{MODEL.key}-dead"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    path = cache.prepare(MODEL, FakeBuild(), Recorder())
    assert visible(cache) == [path.name]


def test_a_partial_of_another_model_is_left_alone(cache: ModelCache) -> None:
    other = cache.directory / ".partial-other-0123456789ab-live"
    other.mkdir(parents=True)
    cache.prepare(MODEL, FakeBuild(), Recorder())
    assert other.is_dir()


@pytest.mark.parametrize("damage", ["model.safetensors", MANIFEST])
def test_a_damaged_directory_is_made_anew(cache: ModelCache, damage: str) -> None:
    build = FakeBuild()
    path = cache.prepare(MODEL, build, Recorder())
    (path / damage).write_text("cut")
    assert cache.size(MODEL) is None
    cache.prepare(MODEL, build, Recorder())
    assert build.calls == 2
    assert cache.size(MODEL) == 9
    assert visible(cache) == [path.name]


def test_a_process_that_waited_finds_the_work_done(cache: ModelCache) -> None:
    cache.directory.mkdir(parents=True)
    lock = FileLock(cache.directory / f".{MODEL.key}.lock", thread_local=False)
    waiting = threading.Event()

    class Waiter(Recorder):
        def step(self, text: str, total: int | None = None) -> None:
            super().step(text, total)
            waiting.set()

    build, waiter = FakeBuild(), Waiter()
    with lock:
        thread = threading.Thread(target=cache.prepare, args=(MODEL, build, waiter))
        thread.start()
        assert waiting.wait(timeout=30)
        elsewhere = ModelCache(cache.root / "elsewhere").prepare(MODEL, FakeBuild(), Recorder())
        elsewhere.rename(cache.path(MODEL))
    thread.join(timeout=30)
    assert waiter.steps == ["waiting for another process that prepares smollm2"]
    assert build.calls == 0


def test_too_little_disk_is_refused_before_the_build(
    cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5_000_000}))
    build = FakeBuild()
    with pytest.raises(ModelError, match="smollm2 needs 487 MB, 5 MB are free"):
        cache.prepare(MODEL, build, Recorder())
    assert build.calls == 0


def test_a_cache_that_cannot_be_used_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the directory belongs")
    with pytest.raises(ModelError, match=r"cannot use .*models: "):
        ModelCache(tmp_path).prepare(MODEL, FakeBuild(), Recorder())


def test_the_root_is_configured_or_the_users(tmp_path: Path) -> None:
    assert default_root({"STEERSMAN_CACHE": str(tmp_path)}) == tmp_path
    assert default_root({}).name == "steersman"
