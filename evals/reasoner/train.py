"""Trains the reasoner from scratch and writes the model directory: see `--help`."""

import argparse
import logging
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from evals.reasoner.corpus import IGNORED, Batch, batches, texts
from evals.reasoner.model import MODEL, available, create, save
from evals.reasoner.muon import Muon
from evals.reasoner.tokenizer import build

_LOG = logging.getLogger("reasoner")

# Puzzles of every kind and grade whose words make the vocabulary.
_VOCABULARY_PUZZLES = 300
_WARM_UP_STEPS = 50
# The share of the steps that the learning rate takes from its peak to zero.
_COOL_DOWN = 0.3
_LOG_STEPS = 50
_CHECKPOINT_STEPS = 100


@dataclass(frozen=True)
class Settings:
    """Settings of a run; the same settings give the same weights on the same machine."""

    seed: int
    steps: int
    rows: int
    length: int
    lr: float
    checkpoint: Path | None


def main() -> None:
    """Parses the command line, trains, saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL, help="the model directory")
    parser.add_argument("--checkpoint", type=Path, help="file to save to and to resume from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=8, help="rows a step")
    parser.add_argument("--length", type=int, default=320, help="tokens a row")
    parser.add_argument("--lr", type=float, default=5e-3, help="peak learning rate")
    parser.add_argument(
        "--threads", type=int, default=1, help="more are faster, and end in slightly other weights"
    )
    options = vars(parser.parse_args())
    out = options.pop("out")
    torch.set_num_threads(options.pop("threads"))
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    settings = Settings(**options)
    tokenizer = build(texts(settings.seed, _VOCABULARY_PUZZLES))
    save(train(tokenizer, settings), tokenizer, out)


def train(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> Qwen3ForCausalLM:
    """Trains a new model, or goes on from the checkpoint when that file exists."""
    device = available()
    torch.manual_seed(settings.seed)
    model = create(tokenizer)
    cast("nn.Module", model).to(device)
    _LOG.info("%d parameters on %s", sum(p.numel() for p in model.parameters()), device)
    optimizers = _optimizers(model, settings.lr)
    first = _resume(settings.checkpoint, model, optimizers)
    started = time.monotonic()
    losses: list[float] = []
    stream = batches(tokenizer, settings.seed, settings.rows, settings.length)
    for step, batch in enumerate(islice(stream, first, settings.steps), first):
        lr = settings.lr * schedule(step, settings.steps)
        losses.append(_update(model, optimizers, batch, lr, device))
        if len(losses) == _LOG_STEPS:
            elapsed = time.monotonic() - started
            _LOG.info("step %d loss %.4f %.0f s", step + 1, fmean(losses), elapsed)
            losses.clear()
        if settings.checkpoint and (step + 1) % _CHECKPOINT_STEPS == 0:
            state = [model.state_dict(), *(optimizer.state_dict() for optimizer in optimizers)]
            torch.save({"step": step + 1, "state": state}, settings.checkpoint)
    return model


def schedule(step: int, steps: int) -> float:
    """The share of the peak learning rate: a short warm-up, a plateau, a straight way to zero."""
    warm_up = (step + 1) / _WARM_UP_STEPS
    cool_down = (steps - step) / (_COOL_DOWN * steps)
    return min(1.0, warm_up, cool_down)


def _update(
    model: Qwen3ForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    lr: float,
    device: torch.device,
) -> float:
    """One optimizer step; the loss before it."""
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss = _loss(model, batch, device)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _loss(model: Qwen3ForCausalLM, batch: Batch, device: torch.device) -> Tensor:
    """Mean cross entropy over the learned tokens of the batch."""
    bias = torch.where(batch.mask, 0.0, torch.finfo(torch.float32).min)
    hidden = model.model(
        input_ids=batch.ids.to(device),
        attention_mask=bias.to(device),
        position_ids=batch.positions.to(device),
        use_cache=False,
    ).last_hidden_state
    labels = batch.labels.to(device)
    learned = labels != IGNORED
    return cross_entropy(model.lm_head(hidden[learned]).float(), labels[learned])


def _optimizers(model: Qwen3ForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "layers" in name
        (matrices if inner else others).append(parameter)
    return [
        Muon(matrices, lr=lr, weight_decay=0.01),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _resume(
    checkpoint: Path | None, model: Qwen3ForCausalLM, optimizers: list[torch.optim.Optimizer]
) -> int:
    """Loads a checkpoint, if there is one; the step to go on with."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    saved = torch.load(checkpoint)
    weights, *moments = saved["state"]
    model.load_state_dict(weights)
    for optimizer, state in zip(optimizers, moments, strict=True):
        optimizer.load_state_dict(state)
    return int(saved["step"])


if __name__ == "__main__":
    main()
