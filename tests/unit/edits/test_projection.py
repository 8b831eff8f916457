"""The arithmetic of an edit on weights, against float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from steersman.edits import projection
from steersman.edits.edit import EditError
from tests.unit.edits import made_up
from tests.unit.edits.made_up import COLUMNS, HEAD_DIM

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(params=DTYPES)
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A weight, and the direction, projection and columns of an edit of it."""
    model = made_up.directory(tmp_path / "model", made_up.tensors(request.param))
    checkpoint = made_up.checkpoint(model)
    edit = made_up.edit(checkpoint)
    columns = projection.columns(edit.metadata.heads[0], HEAD_DIM)
    written = torch.tensor(edit.projections[0]).flatten()
    return checkpoint.weight(0), torch.tensor(edit.directions[0]), written, columns


def test_columns_of_heads() -> None:
    assert projection.columns((2, 0), 3).tolist() == [6, 7, 8, 0, 1, 2]


@pytest.mark.parametrize("amount", [1.0, 0.5, -2.0])
def test_the_formula(parts: tuple[Tensor, Tensor, Tensor, Tensor], amount: float) -> None:
    weight, direction, written, columns = parts

    found = projection.edited(weight, direction, written, columns, amount, weight.dtype)

    unit = direction.double()
    exact = weight.double()
    exact[:, columns] -= amount * torch.outer(unit, unit @ exact[:, columns])
    rounding = torch.finfo(weight.dtype).eps / 2 * exact.abs() + 1e-5
    assert bool(((found.double() - exact).abs() <= rounding).all())
    others = np.setdiff1d(np.arange(COLUMNS), columns)
    assert torch.equal(found[:, others], weight[:, others])


def test_nothing_is_left_along_the_direction(parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    weight, direction, written, columns = parts

    found = projection.edited(weight, direction, written, columns, 1.0, torch.float32)

    assert (direction.double() @ found[:, columns].double()).norm() < 0.02 * written.norm()


def test_a_served_weight_is_rounded_as_the_checkpoint_is(
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    weight, direction, written, columns = parts

    offline = projection.edited(weight, direction, written, columns, 0.7, weight.dtype)
    served = projection.edited(weight.float(), direction, written, columns, 0.7, weight.dtype)

    assert torch.equal(served, offline.float())


def test_only_the_original_is_taken(parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    weight, direction, written, columns = parts
    projection.verify(weight, direction, written, columns, 0.5, 3)

    once = projection.edited(weight, direction, written, columns, 0.5, weight.dtype)
    with pytest.raises(EditError, match="applied to this model already") as twice:
        projection.verify(once, direction, written, columns, 0.5, 3)
    with pytest.raises(EditError, match="not those that the edit was made from") as other:
        projection.verify(weight + 1, direction, written, columns, 0.5, 3)
    assert (twice.value.field, other.value.field) == ("edit", "layers[3]")
