"""The hooks on the samplers of both runners, where a request asks for the processed logits."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from steersman.engine.compat import runner_v1, runner_v2


class Governor:
    """Records the logits that it is given; it watches a request that asks, or none."""

    def __init__(self, *, processing: bool) -> None:
        self.processing = processing
        self.calls: list[str] = []
        self.processed: Tensor | None = None

    def observe(self, logits: Tensor, *, keep: bool) -> None:
        self.calls.append("observe")

    def forbid(self, logits: Tensor) -> None:
        self.calls.append("forbid")

    def process(self, logits: Tensor) -> None:
        self.calls.append("process")
        self.processed = logits

    def govern(self, sampled: Tensor) -> None:
        self.calls.append("govern")


class Fused:
    """Sampler of the second runner, with a fused kernel that leaves the logits as they are."""

    def __init__(self, *, fails: bool = False) -> None:
        self.use_flashinfer = True
        self.use_xpu_sampler = False
        self.fails = fails
        self.was_fused: list[bool] = []

    def sample(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        self.was_fused.append(self.use_flashinfer)
        if self.fails:
            raise RuntimeError("out of memory")
        return torch.zeros(1), logits


@pytest.mark.parametrize("processing", [True, False])
def test_no_fused_sampler_keeps_the_logits_back(processing: bool) -> None:
    sampler, governor = Fused(), Governor(processing=processing)
    runner_v2.attach_sampler(SimpleNamespace(sampler=sampler), governor)  # type: ignore[arg-type]

    sampler.sample(torch.zeros(1, 3))

    assert sampler.was_fused == [not processing]
    assert sampler.use_flashinfer
    assert not sampler.use_xpu_sampler
    # Nor are logits kept that nobody asks for.
    process = ["process"] if processing else []
    assert governor.calls == ["observe", "forbid", *process, "govern"]


def test_a_step_that_fails_leaves_the_sampler_as_it_was() -> None:
    sampler = Fused(fails=True)
    runner_v2.attach_sampler(
        SimpleNamespace(sampler=sampler),
        Governor(processing=True),  # type: ignore[arg-type]
    )
    with pytest.raises(RuntimeError, match="out of memory"):
        sampler.sample(torch.zeros(1, 3))
    assert sampler.use_flashinfer


class Drawing:
    """Draws the likeliest token; records what it is told to cut off."""

    def __init__(self) -> None:
        self.cuts: list[Any] = []

    def forward(self, logits: Tensor, generators: Any, k: Any, p: Any) -> tuple[Tensor, None]:
        self.cuts.append((k, p))
        return logits.argmax(dim=1), None


@pytest.mark.parametrize("processing", [True, False])
def test_logits_are_cut_off_before_tokens_are_drawn(processing: bool) -> None:
    drawing, governor = Drawing(), Governor(processing=processing)
    sampler = SimpleNamespace(
        topk_topp_sampler=drawing,
        forward=lambda logits: logits,
        sample=lambda logits: (logits, None),
    )
    runner_v1.attach_sampler(SimpleNamespace(sampler=sampler), governor)  # type: ignore[arg-type]
    logits, k = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]]), torch.tensor([2, 3])

    drawing.forward(logits, {}, k, None)

    if not processing:
        assert drawing.cuts == [(k, None)]
        assert governor.calls == []
        return
    assert drawing.cuts == [(None, None)]
    assert governor.processed is not None
    assert governor.processed.tolist() == [[-torch.inf, 3.0, 2.0], [1.0, 3.0, 2.0]]
