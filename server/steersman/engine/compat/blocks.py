"""Clearing blocks of the KV cache, on a rank."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def clear(runner: Any, block_ids: Sequence[int]) -> None:
    """Fill blocks with zeros, in every layer of this rank.

    Args:
        runner: vLLM's model runner, of either kind.
        block_ids: As the scheduler numbers them.

    """
    blocks = runner.kv_cache_config.num_blocks
    for cache in _tensors(runner.kv_caches):
        # [blocks, ...], or [2, blocks, ...] by the version of vLLM and the attention's backend. A
        # block of the scheduler's can be several of the kernels'.
        dim = 0 if cache.shape[0] % blocks == 0 else 1
        parts = cache.shape[dim] // blocks
        index = torch.tensor(block_ids, device=cache.device).unsqueeze(1) * parts
        index = (index + torch.arange(parts, device=cache.device)).flatten()
        raw = cache.view(torch.uint8) if cache.element_size() == 1 else cache
        raw.index_fill_(dim, index, 0)


def _tensors(caches: Any) -> Iterator[Tensor]:
    """The caches of all layers; a layer with a state has several."""
    for cache in caches:
        if isinstance(cache, Tensor):
            yield cache
        elif cache is not None:
            yield from _tensors(cache)
