from types import SimpleNamespace
from typing import Any

import pytest
import torch

from steersman.engine.compat.blocks import clear

BLOCKS = 5


def runner(*caches: Any) -> Any:
    return SimpleNamespace(
        kv_caches=list(caches), kv_cache_config=SimpleNamespace(num_blocks=BLOCKS)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.float8_e4m3fn])
@pytest.mark.parametrize(
    ("shape", "dim", "expected"),
    [
        ((BLOCKS, 2, 3), 0, [1, 3]),
        ((2, BLOCKS, 3), 1, [1, 3]),
        ((2 * BLOCKS, 2, 3), 0, [2, 3, 6, 7]),  # two of the kernels' blocks are one
    ],
)
def test_the_blocks_and_no_others_are_cleared(
    dtype: torch.dtype, shape: tuple[int, ...], dim: int, expected: list[int]
) -> None:
    cache = torch.ones(shape).to(dtype)

    clear(runner(cache), [1, 3])

    found = cache.float().movedim(dim, 0).flatten(1)
    assert torch.nonzero((found == 0).all(dim=1)).flatten().tolist() == expected
    assert found.sum() == (len(found) - len(expected)) * found.shape[1]


def test_a_part_of_a_larger_tensor_and_a_layer_of_several_tensors() -> None:
    whole = torch.full((BLOCKS, 4, 3), torch.nan)
    state = torch.full((BLOCKS, 2), torch.nan)

    clear(runner(whole[:, ::2], [state, None]), [4])

    assert whole[4, ::2].eq(0).all()
    assert whole[4, 1::2].isnan().all()
    assert whole[:4].isnan().all()
    assert state[4].eq(0).all()
    assert state[:4].isnan().all()
