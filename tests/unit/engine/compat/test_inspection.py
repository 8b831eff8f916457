"""A model's class is looked at without a process for it."""

import inspect
from pathlib import Path

import pytest
from vllm.model_executor.models import registry

from steersman.engine.compat import inspection


class StartedError(Exception):
    """A process was started."""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> registry._LazyRegisteredModel:
    """A model of which vLLM's cache knows nothing, where no process can be started."""

    def start(*_: object, **__: object) -> None:
        raise StartedError

    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    monkeypatch.setattr(registry.subprocess, "run", start)
    vllms_own = inspect.unwrap(registry._run_in_subprocess)  # another test may have replaced it
    monkeypatch.setattr(registry, "_run_in_subprocess", vllms_own)
    return registry._LazyRegisteredModel("vllm.model_executor.models.llama", "LlamaForCausalLM")


def test_vllm_would_start_a_process(model: registry._LazyRegisteredModel) -> None:
    with pytest.raises(StartedError):
        model.inspect_model_cls()


def test_it_is_looked_at_here(model: registry._LazyRegisteredModel) -> None:
    inspection.inspect_here()
    info = model.inspect_model_cls()
    assert info == registry._ModelInfo.from_model_cls(model.load_model_cls())
    assert info.is_text_generation_model
