"""Batched sampling at temperature 1 from the untouched distribution, with entropies."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen3ForCausalLM


@dataclass
class Response:
    """Sampled tokens, the end-of-turn token included, and the entropy each was drawn at."""

    tokens: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)  # nats, full vocabulary


@torch.inference_mode()
def sample(
    model: Qwen3ForCausalLM, prompts: Sequence[Sequence[int]], limit: int, seed: int
) -> list[Response]:
    """One response to every prompt, at most `limit` tokens long, as one batch.

    Rows that have ended leave the batch when they make up a quarter of it.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    end = model.config.eos_token_id
    responses = [Response() for _ in prompts]
    ids, mask = _pad(prompts, model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    live = list(range(len(prompts)))
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)
    for _ in range(limit):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        log_probs = logits.float().log_softmax(-1)  # [rows, vocabulary]
        entropies = -(log_probs.exp() * log_probs).sum(-1)
        drawn = torch.multinomial(log_probs.exp(), 1, generator=generator)  # [rows, 1]
        for row, (token, entropy) in enumerate(
            zip(drawn[:, 0].tolist(), entropies.tolist(), strict=True)
        ):
            if not ended[row]:
                responses[live[row]].tokens.append(token)
                responses[live[row]].entropies.append(entropy)
        ended |= drawn[:, 0] == end
        ids, positions = drawn, positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(drawn)], dim=1)
        if ended.all():
            break
        if ended.float().mean() >= 0.25:
            going = (~ended).nonzero()[:, 0]
            cache.batch_select_indices(going)
            ids, positions, mask, ended = ids[going], positions[going], mask[going], ended[going]
            live = [live[row] for row in going.tolist()]
    return responses


def _pad(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Left-padded ids and their attention mask, both [rows, longest], int64."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
