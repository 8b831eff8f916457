"""The process that works ahead of a first start."""

import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from steersman import ahead
from steersman.ahead import Ahead, unprepared_model
from steersman.models import BUILT_IN, Fetched, ModelError
from steersman.models.cache import ModelCache
from steersman.models.progress import Progress
from steersman_kernels.loops import kept


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERSMAN_CACHE", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return tmp_path


def fill(model: Fetched, work: Path, target: Path, progress: Progress) -> None:
    (target / "config.json").write_text("{}")


def keep_model(cache: Path) -> None:
    model = BUILT_IN["smollm2"]
    assert isinstance(model, Fetched)
    ModelCache(cache).prepare(model, fill, Silent())


def keep_loops() -> None:
    kept.directory().mkdir(parents=True)
    (kept.directory() / kept.DONE).touch()


class Silent:
    """A `Progress` that says nothing."""

    def step(self, text: str, total: int | None = None) -> None: ...

    def update(self, done: int) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "smollm2"),
        (["smollm2", "--port", "8001"], "smollm2"),
        (["--model", "smollm2"], "smollm2"),
        (["reasoner"], None),
        (["reasoner", "--served-model-name", "smollm2"], None),
        (["a/model"], None),
        (["--port", "8001"], None),
        (["--model"], None),
    ],
)
def test_the_model_is_known_before_vllm_is(
    cache: Path, arguments: list[str], name: str | None
) -> None:
    assert unprepared_model(arguments) == name


def test_a_model_that_is_ready_is_left_alone(cache: Path) -> None:
    assert unprepared_model(["smollm2"]) == "smollm2"
    keep_model(cache)
    assert unprepared_model(["smollm2"]) is None


def test_there_is_no_process_where_all_is_done(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_model(cache)
    keep_loops()

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    with Ahead(["smollm2"]) as process:
        process.wait_for_model()


def test_a_gpu_needs_no_loops(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(ahead, "version", version)
    with Ahead(["reasoner"]) as process:
        assert process.process is None


def test_the_reason_why_a_model_cannot_be_had_is_the_servers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_loops()
    (cache / "models").touch()  # where a directory has to be
    with Ahead(["smollm2"]) as process, pytest.raises(ModelError, match="cannot use"):
        process.wait_for_model()


def test_the_model_is_waited_for_and_the_loops_are_not(cache: Path) -> None:
    """The process still compiles when the wait is over, and ends with the server."""
    with Ahead(["reasoner"]) as process:
        process.wait_for_model()
        assert process.process is not None
        assert process.process.poll() is None
        assert not kept.compiled_ahead()
    assert process.process.returncode in {1, -signal.SIGTERM}


def test_whatever_an_engine_needs_is_compiled_ahead(cache: Path) -> None:
    subprocess.run([sys.executable, "-m", "steersman.ahead"], check=True, timeout=300)
    assert kept.compiled_ahead()
    ran = subprocess.run(
        [sys.executable, "-c", ENGINE], capture_output=True, text=True, check=True, timeout=300
    )
    hits, misses = ran.stdout.split()
    assert int(hits) > 0
    assert misses == "0"


ENGINE = """
import gc
import torch
from numba.core.registry import CPUDispatcher
from steersman.engine.governor import Governor
from steersman.engine.slots import SteeredTable
from steersman_kernels.loops.rows import steering
from steersman_kernels.vocabulary import Vocabulary

cpu = torch.device("cpu")
vocabulary = Vocabulary.of([5], [6, 7], [1], [6, 7, 8], bytes(64))
Governor(4, cpu, torch.float32).arm(vocabulary)
SteeredTable(4, cpu).warm_up(vocabulary)
bank, slot, coef = torch.zeros(8, 48), torch.zeros(16, dtype=torch.int32), torch.ones(16)
steering(bank, slot, coef)(torch.zeros(16, 48))
stats = [one.stats for one in gc.get_objects() if isinstance(one, CPUDispatcher)]
ours = [one for one in stats if "/loops/" in str(one.cache_path)]
print(sum(sum(one.cache_hits.values()) for one in ours),
      sum(sum(one.cache_misses.values()) for one in ours))
"""
"""Work of an engine that starts; prints loops read from the cache, and those compiled."""
