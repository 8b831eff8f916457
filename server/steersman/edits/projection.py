"""The arithmetic of an edit on the weight of an attention's output projection.

The weight `O` is [hidden_size, columns], as PyTorch's and vLLM's linear layers keep it; a rank of a
tensor-parallel engine has some of the columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steersman.edits.edit import EditError

_WITHIN = 2e-2
"""Relative error that rounding to 16 bits can bring, with room to spare."""


def columns(heads: Sequence[int], head_dim: int) -> Tensor:
    """The columns of the whole weight that belong to some query heads, in their order: int64."""
    return (torch.tensor(heads)[:, None] * head_dim + torch.arange(head_dim)).flatten()


def edited(
    weight: Tensor,
    direction: Tensor,
    projection: Tensor,
    columns: Tensor,
    amount: float,
    dtype: torch.dtype,
) -> Tensor:
    """A weight with `O[:, h] <- O[:, h] - amount * v̂ (v̂^T O[:, h])` at some columns.

    This is computed element by element in float32, rounded to the checkpoint's dtype, and then put
    into the weight's own. So an engine gets the same weights bit by bit from an edited checkpoint
    and from this, whatever its dtype and its ranks.

    Args:
        weight: [hidden_size, columns]; not changed.
        direction: v̂, [hidden_size] float32 on the weight's device.
        projection: v̂^T O at the chosen columns, [chosen] float32 on the weight's device.
        columns: The chosen columns of this weight, [chosen] int64 on its device.
        amount: Multiplier of the edit.
        dtype: Number type of the weight in the checkpoint.

    """
    # Two products and one difference, each rounded: no fused multiply-add, on no device.
    change = (amount * direction)[:, None] * projection
    values = weight[:, columns].float() - change
    result = weight.clone()
    result[:, columns] = values.to(dtype).to(weight.dtype)
    return result


def verify(
    weight: Tensor,
    direction: Tensor,
    projection: Tensor,
    columns: Tensor,
    amount: float,
    layer: int,
) -> None:
    """Refuse a weight that is not the one that an edit was made from.

    `v̂^T O` of it must be the stored projection, within rounding. Another model's is not, and
    neither is that of a weight which the edit has been applied to.

    Args:
        weight: [hidden_size, columns].
        direction: v̂, [hidden_size] float32 on the weight's device.
        projection: v̂^T O at the chosen columns, [chosen] float32 on the weight's device.
        columns: The chosen columns of this weight, [chosen] int64 on its device.
        amount: Multiplier of the edit.
        layer: The decoder layer, for the error.

    Raises:
        EditError: It is another weight.

    """
    found = direction.double() @ weight[:, columns].double()
    wanted = projection.double()
    if not _differs(found, wanted):
        return
    if not _differs(found, (1 - amount) * wanted, of=wanted):
        raise EditError(
            f"the edit has been applied to this model already (layer {layer})", field="edit"
        )
    raise EditError(
        f"the weights of layer {layer} are not those that the edit was made from: it is another "
        "model's, or the model has been changed since",
        field=f"layers[{layer}]",
    )


def _differs(found: Tensor, wanted: Tensor, of: Tensor | None = None) -> bool:
    return bool((found - wanted).norm() > _WITHIN * (wanted if of is None else of).norm())
