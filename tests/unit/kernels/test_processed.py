"""The processed distribution and the confidence against float64, by loops and by PyTorch."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from steersman_kernels import entropy as module
from steersman_kernels import layout as at
from steersman_kernels import processed
from steersman_kernels.processed import confidence, confidence_topk
from tests.unit.kernels import interpreted

SIZE = 300
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PROCESSED = [at.T_PROCESSED_ENTROPY, at.T_PROCESSED_LOGPROB]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
Confidence = Callable[[Tensor, Tensor, Tensor], Tensor]
BOTH = pytest.mark.parametrize("function", [confidence, confidence_topk])


@pytest.fixture(params=["loops", "kernel"])
def measure_processed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    if request.param == "loops":
        return processed.measure_processed
    kernel = interpreted(module)
    kernel.BLOCK = 64
    monkeypatch.setattr(processed, "entropy_triton", kernel.entropy_triton)
    return processed.measure_processed_triton


def logits(rows: int, *, seed: int = 0) -> Tensor:
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed)) * 3


def track(*forced: float) -> Tensor:
    """A track as it is before: a row for each watched request."""
    made = torch.full((len(forced), at.TRACK), math.nan)
    made[:, at.T_FORCED] = torch.tensor(forced)
    return made


def exact(row: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a row, and its entropy, in float64; a masked token counts nothing."""
    logs = row.double().log_softmax(dim=0)
    left = logs[logs.isfinite()]
    return logs, -(left.exp() * left).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left", [SIZE, 40, 3, 1])
def test_the_tokens_that_are_left_are_measured(
    left: int, dtype: torch.dtype, measure_processed: Callable[..., None]
) -> None:
    rows = logits(5).to(dtype)
    rows.masked_fill_(rows < rows.topk(left, dim=1).values[:, -1:], -torch.inf)
    tokens = rows.argmax(dim=1).int()
    written, before = track(0, 0, 0), track(0, 0, 0)

    measure_processed(rows, torch.tensor([4, 1]), tokens, written, torch.tensor([0, 2]))

    for line, row in ((0, 4), (2, 1)):
        logs, entropy = exact(rows[row])
        wanted = torch.stack([entropy, logs[tokens[row]]])
        torch.testing.assert_close(written[line, PROCESSED].double(), wanted, **CLOSE)
    rest = [column for column in range(at.TRACK) if column not in PROCESSED]
    assert torch.equal(written[:, rest].nan_to_num(9), before[:, rest].nan_to_num(9))
    assert written[1, PROCESSED].isnan().all()


def test_a_token_that_was_put_there_has_no_probability(
    measure_processed: Callable[..., None],
) -> None:
    """The distribution was there all the same; where no token was drawn nothing is said."""
    rows, watched = logits(4), torch.arange(4)
    written = track(0, 1, math.nan, 0)

    measure_processed(rows, watched, torch.tensor([7, 7, 7, SIZE]), written, watched)

    assert written[:, at.T_PROCESSED_LOGPROB].isnan().tolist() == [False, True, True, True]
    assert written[:, at.T_PROCESSED_ENTROPY].isnan().tolist() == [False, False, True, False]
    wanted = torch.stack([exact(row)[1] for row in rows])[[0, 1, 3]]
    torch.testing.assert_close(written[[0, 1, 3], at.T_PROCESSED_ENTROPY].double(), wanted, **CLOSE)


def test_a_greedy_request_has_one_token_to_draw() -> None:
    written = track(0, 1, math.nan, 0)

    processed.measure_greedy(written, torch.tensor([0, 1, 2]))

    assert written[0, PROCESSED].tolist() == [0, 0]
    assert written[1, at.T_PROCESSED_ENTROPY] == 0
    assert written[1, at.T_PROCESSED_LOGPROB].isnan()
    assert written[2:, PROCESSED].isnan().all()


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left", [SIZE, 20, 7, 1])
def test_confidence_is_the_mean_of_the_likeliest(
    function: Confidence, left: int, dtype: torch.dtype
) -> None:
    rows = logits(4, seed=1).to(dtype)
    rows.masked_fill_(rows < rows.topk(left, dim=1).values[:, -1:], -torch.inf)
    wanted_rows = torch.tensor([3, 0, 3], dtype=torch.int32)
    lse = rows.double().logsumexp(dim=1)

    found = function(rows, wanted_rows, lse[[3, 0, 3]].float())

    logs = rows.double().log_softmax(dim=1)[[3, 0, 3]].sort(dim=1, descending=True).values[:, :20]
    wanted = [row[row > -math.inf].mean().item() for row in logs]
    torch.testing.assert_close(found.double(), torch.tensor(wanted).double(), **CLOSE)


@BOTH
def test_confidence_of_a_small_vocabulary_and_of_no_numbers(function: Confidence) -> None:
    small = torch.tensor([[0.0, 1.0, 2.0], [math.nan, 1.0, 2.0]])
    rows = torch.arange(2)

    found = function(small, rows, small.logsumexp(dim=1))

    assert found[0] == pytest.approx(small[0].log_softmax(0).mean().item())
    assert found[1].isnan()


def test_the_surer_the_model_the_farther_below_0() -> None:
    unsure, sure = torch.zeros(1, SIZE), torch.zeros(1, SIZE)
    sure[0, 5] = 20.0
    both = torch.cat([unsure, sure])

    found = confidence(both, torch.arange(2), both.logsumexp(dim=1))

    assert found[0] == pytest.approx(-math.log(SIZE), rel=1e-5)
    assert found[1] < found[0] < 0
