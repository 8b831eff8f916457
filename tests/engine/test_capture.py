"""Directions captured in the engine, against a plain implementation on transformers."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import AutoConfig, Qwen3ForCausalLM
from vllm.exceptions import VLLMValidationError

from steersman.directions import efficiency, segments, thinkedit
from steersman.directions.contrast import Contrast, Weighted
from steersman.directions.heads import contributions
from steersman.directions.offline import Means, OfflineEngine
from steersman.directions.sample import Sample
from steersman.edits.checkpoint import Checkpoint
from steersman.puzzles.problems import problems, verify
from steersman.trajectory.phases import opens_thinking
from tests.engine.host import HEAD_DIM, HEADS, HIDDEN, LAYERS, REASONER, TEMPLATES
from tests.forked import fork_workers

ENGINE = ("--dtype", "float32", "--max-num-seqs", "32")
PROBLEMS = problems("arithmetic", 2, "held_out", seed=1, count=12)


@dataclass(frozen=True)
class Captured:
    """Samples and captured sums of one engine.

    Attributes:
        contrasts: Of its samples, by method.
        means: Over each of them.
        inputs: What the heads hand on in the first.
        texts: Of its tokens.
        refused: What was said, before all that, of a prompt that is too long beside another.

    """

    contrasts: dict[str, Contrast]
    means: dict[str, dict[str, Means]]
    inputs: np.ndarray
    texts: list[str]
    refused: str


def capture() -> Captured:
    """Sample eight responses to each problem, and capture contrasts of them."""
    fork_workers()
    asked = [problem for problem in PROBLEMS for _ in range(8)]
    with OfflineEngine("reasoner", ENGINE, capture=True) as engine:
        prompts = [engine.prompt(problem.prompt) for problem in asked]
        markers, refused = engine.markers, ""
        try:
            list(engine.respond([prompts[0], prompts[0] * 500], (0, 1), max_tokens=1))
        except VLLMValidationError as error:
            refused = str(error)
        responses = engine.respond(prompts, range(len(asked)), temperature=1.0, max_tokens=400)
        samples = [
            Sample.of(
                problem.id,
                prompt,
                response,
                correct=verify(problem, engine.text(response)),
                markers=markers,
                opened=opens_thinking(prompt, markers),
            )
            for problem, prompt, response in zip(asked, prompts, responses, strict=True)
        ]
        texts = engine.texts()
        contrasts = {
            "thinkedit": thinkedit.contrast(samples, by="percentiles"),
            "efficiency": efficiency.contrast(samples, least=5),
            "segments": segments.contrast(samples, texts, least=5),
            "within problems": segments.contrast(samples, texts, within_problems=True, least=5),
        }
        means = {}
        for method, contrast in contrasts.items():
            for _ in engine.capture(contrast):
                pass
            means[method] = engine.means(contrast)
        for _ in engine.capture(contrasts["thinkedit"]):
            pass
        return Captured(
            contrasts, means, engine.head_inputs(contrasts["thinkedit"]), texts, refused
        )


def reference(contrast: Contrast) -> dict[str, np.ndarray]:
    """The directions by hooks on transformers, a response at a time: [layers, hidden_size]."""
    model = Qwen3ForCausalLM.from_pretrained(REASONER, dtype=torch.float32)
    streams: dict[str, list[torch.Tensor]] = {"attn": [], "layer": []}
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _, __, output: streams["layer"].append(output[0]))
        layer.post_attention_layernorm.register_forward_pre_hook(
            lambda _, inputs: streams["attn"].append(inputs[0][0])
        )

    def mean(side: tuple[Weighted, ...], site: str) -> np.ndarray:
        total = np.zeros((LAYERS, HIDDEN))
        for one in side:
            streams["attn"].clear()
            streams["layer"].clear()
            with torch.no_grad():
                model(torch.tensor([one.tokens]))
            rows = torch.stack(streams[site])[:, list(one.positions)]
            total += one.share * rows.double().mean(dim=1).numpy()
        return total / len(side)

    return {
        site: mean(contrast.plus, site) - mean(contrast.minus, site) for site in ("attn", "layer")
    }


@pytest.fixture(scope="module")
def captured() -> Captured:
    template = TEMPLATES["V1"]
    with template.context() as context, ProcessPoolExecutor(1, context) as pool:
        return pool.submit(capture).result(300)


@pytest.mark.parametrize("method", ["thinkedit", "efficiency", "segments", "within problems"])
def test_directions_equal_those_of_transformers(captured: Captured, method: str) -> None:
    wanted = reference(captured.contrasts[method])
    means = captured.means[method]

    assert set(means) == set(wanted)
    for site, directions in wanted.items():
        for mine, theirs in zip(means[site].direction, directions, strict=True):
            cosine = mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
            assert cosine >= 0.9999
            assert np.linalg.norm(mine) == pytest.approx(np.linalg.norm(theirs), rel=1e-3)


def test_norms_and_separation_are_those_of_the_residual_stream(captured: Captured) -> None:
    found = captured.means["segments"]["layer"]

    assert (found.norms > 0).all()
    assert np.isfinite(found.separation).all()
    assert (found.separation > 0).all()


def test_a_refused_prompt_leaves_nothing_behind(captured: Captured) -> None:
    """Prompts queued beside it would have come back with the responses of the samples."""
    assert "longer than the maximum model length" in captured.refused
    assert captured.contrasts


def test_every_token_of_the_model_has_a_text(captured: Captured) -> None:
    assert len(captured.texts) == AutoConfig.from_pretrained(REASONER).vocab_size


def test_contributions_of_heads_equal_those_of_transformers(captured: Captured) -> None:
    directions = np.random.default_rng(0).normal(size=(LAYERS, HIDDEN)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    minus = captured.contrasts["thinkedit"].minus

    inputs = captured.inputs[:, 1]
    found = contributions(inputs, Checkpoint(REASONER, LAYERS, HIDDEN), dict(enumerate(directions)))

    # By the definition: each head's part of what the attention adds, by tokens, then by traces.
    wanted = np.zeros((LAYERS, HEADS))
    model = Qwen3ForCausalLM.from_pretrained(REASONER, dtype=torch.float32)
    seen: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    for one in minus:
        seen.clear()
        with torch.no_grad():
            model(torch.tensor([one.tokens]))
        for index, layer in enumerate(model.model.layers):
            heads = seen[index][list(one.positions)].double().view(-1, HEADS, HEAD_DIM)
            weight = layer.self_attn.o_proj.weight.double().view(HIDDEN, HEADS, HEAD_DIM)
            written = torch.einsum("thd,xhd->thx", heads, weight).mean(dim=0)
            wanted[index] -= (written @ torch.tensor(directions[index]).double()).detach().numpy()
    np.testing.assert_allclose(found, wanted / len(minus), rtol=1e-3, atol=1e-3)
