"""No batch meets a kernel that was not compiled at the start."""

from typing import Any

import pytest
import torch
from triton._C.libtriton import native_specialize_impl
from triton.backends.compiler import BaseBackend

from steersman_kernels import entropy, governor_kernels, stops, strength
from steersman_kernels.entropy import entropy_triton
from steersman_kernels.governor import State, Step
from steersman_kernels.governor_kernels import govern_triton
from steersman_kernels.layout import TRACK
from steersman_kernels.stops import forbid_stops_triton
from steersman_kernels.strength import coefficients_triton
from steersman_kernels.vocabulary import Vocabulary
from steersman_kernels.warm_up import PADDING, warm_up_triton

Compiled = set[tuple[Any, ...]]
KERNELS = (
    (entropy, "_parts_kernel"),
    (entropy, "_whole_kernel"),
    (governor_kernels, "_govern_kernel"),
    (strength, "_coefficients_kernel"),
    (stops, "_forbid_stops_kernel"),
)


class Launches:
    """Stands for a kernel: notes what Triton would look up, or compile, for each launch."""

    def __init__(self, kernel: Any, seen: Compiled) -> None:
        self._kernel, self._seen = kernel, seen

    def __getitem__(self, _: Any) -> Any:
        return self._launch

    def _launch(self, *args: Any, **options: Any) -> None:
        names = self._kernel.arg_names
        given = dict(zip(names, args, strict=False)) | options
        key = [self._kernel.__name__, given.get("num_warps")]
        for name, parameter in zip(names, self._kernel.params, strict=True):
            value = given[name]
            if not parameter.is_constexpr:
                once = parameter.do_not_specialize
                value = native_specialize_impl(
                    BaseBackend,
                    value,
                    parameter.is_const,
                    not once,
                    not parameter.do_not_specialize_on_alignment,
                )
                value = value[0] if once else value
            key.append(value)
        self._seen.add(tuple(key))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Compiled:
    seen: Compiled = set()
    for module, name in KERNELS:
        monkeypatch.setattr(module, name, Launches(getattr(module, name), seen))
    return seen


def words(size: int) -> Vocabulary:
    return Vocabulary.of([5], [6, 7], [1], [6, 7, 8], bytes(size))


def serve(vocabulary: Vocabulary, logits: torch.Tensor, rows: int, tokens: torch.dtype) -> None:
    """A step of so many watched requests, on tensors as a GPU would have them."""
    row, slots = torch.arange(rows), torch.arange(rows, dtype=torch.int32)
    state = State.empty(1)  # nothing is read of it here
    spans = torch.arange(rows + 1, dtype=torch.int32)
    coefficients_triton(torch.empty(rows), state, slots, spans, row)
    forbid_stops_triton(logits, state, slots, row)
    step = Step(
        slots=slots,
        positions=row,
        rows=row,
        sampled=torch.zeros(rows, dtype=tokens),
        logits=logits,
        logit_rows=row,
        statistics=entropy_triton(logits, row),
        track=torch.empty(rows, TRACK),
    )
    govern_triton(state, vocabulary, step)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("size", "most"),
    [(151_936, 1024), (151_643, 256), (32_000, 64), (384, 300), (262_144, 7), (100_277, 2048)],
)
def test_all_batches_find_their_kernels(
    compiled: Compiled, size: int, most: int, dtype: torch.dtype
) -> None:
    vocabulary = words(size)
    warm_up_triton(vocabulary, dtype, most)
    ready = set(compiled)

    padded = -(-size // PADDING) * PADDING
    for type_ in {dtype, torch.float32}:
        for stride in {size, padded}:
            logits = torch.empty(1, stride, dtype=type_)[:, :size]
            for rows in range(1, most + 1):
                entropy_triton(logits, torch.empty(rows, dtype=torch.int64))
            for rows, tokens in ((1, torch.int64), (3, torch.int32), (16, torch.int64)):
                serve(vocabulary, logits, min(rows, most), tokens)

    assert compiled == ready


def test_large_batches_need_other_kernels_than_one_request(compiled: Compiled) -> None:
    """Or the test above could not fail."""
    warm_up_triton(words(151_936), torch.bfloat16, 1)
    few = {key for key in compiled if key[0] == "_whole_kernel"}
    warm_up_triton(words(151_936), torch.bfloat16, 1024)
    many = {key for key in compiled if key[0] == "_whole_kernel"}
    assert (len(few), len(many)) == (1, 9)


def test_the_start_compiles_a_bounded_number(compiled: Compiled) -> None:
    """Each of them delays the first start on a machine."""
    warm_up_triton(words(151_936), torch.bfloat16, 1024)
    assert len(compiled) <= 32
