"""An edit of a model's weights: what attention heads write along one direction of each layer.

After ThinkEdit (arXiv 2503.22048, "Editing Short Thinking Heads"): with v̂ the unit direction of
reasoning length, a chosen head h writes through `W_o^h <- W_o^h - w (W_o^h v̂) v̂^T`. In terms of
the weight `O` of the attention's output projection, [hidden_size, heads * head_dim], whose columns
of h are the transpose of `W_o^h`: `O[:, h] <- O[:, h] - w v̂ (v̂^T O[:, h])`. So an edit is of rank
one in each layer: `v̂`, and `v̂^T O` at the columns of the chosen heads.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from steersman.artifacts.artifact import ArtifactError
from steersman.artifacts.metadata import Metadata, by_layer
from steersman.artifacts.values import Values, finite
from steersman.capabilities import Model
from steersman.vectors.vector import model_digest

_UNIT_WITHIN = 1e-3


class EditError(ArtifactError):
    """An edit that cannot be used as asked."""


def _ascending(heads: tuple[int, ...]) -> tuple[int, ...]:
    if list(heads) != sorted(set(heads)):
        raise ValueError("must be in ascending order, each head once")
    return heads


_Layer = Annotated[int, Field(ge=0)]
_Heads = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_ascending)
]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EditMetadata(Metadata):
    """Metadata of an edit's file."""

    refusal: ClassVar[type[ArtifactError]] = EditError

    method: Literal["thinkedit"] = "thinkedit"
    """How it was made."""
    model: str | None = None
    """Name of the model it was made from, for readers; never compared."""
    model_digest: str | None = None
    """`model_digest` of that model. With it, other models are refused."""
    created_from: str | None = None
    """The data it was made from."""
    description: str = ""
    weight: float
    """Share of the heads' output along the direction that is taken away: all of it at 1."""
    heads: Annotated[dict[_Layer, _Heads], Field(min_length=1), AfterValidator(by_layer)]
    """The chosen query heads of each edited layer, both counted from 0."""
    head_dim: Annotated[int, Field(ge=1)]
    """Columns of the output weight that belong to one head."""
    dtype: Literal["bfloat16", "float16", "float32"]
    """Number type of the checkpoint's output weights, to which edited weights are rounded."""
    weights: Annotated[dict[_Layer, _Sha256], AfterValidator(by_layer)]
    """SHA-256, in hex, of the stored bytes of each edited layer's output weight, before the
    edit."""
    provenance: dict[str, Any] | None = None
    """How it came about: how the heads were chosen, and from what."""


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a model's output weights. Two are equal if their digests and metadata are.

    Args:
        directions: Decoder layer, from 0, to the unit direction v̂ that is taken away:
            [hidden_size]. Kept sorted, as read-only float32.
        projections: The same layers to `v̂^T O` at the columns of the chosen heads, in the order
            of `metadata.heads`: [heads chosen, head_dim]. Kept likewise.
        metadata: All else that its file says.

    Attributes:
        digest: SHA-256, in hex, of everything that changes what is applied: layers, heads, values,
            weight, and the dtype that is rounded to. The first 16 digits are enough for people.

    Raises:
        EditError: Directions, projections and metadata are not of the same layers and shapes, a
            direction is not of length 1, or a value is a NaN or an infinity (in float32).

    """

    directions: Mapping[int, Values] = field(compare=False)
    projections: Mapping[int, Values] = field(compare=False)
    metadata: EditMetadata = field(hash=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        chosen = self.metadata.heads
        _check_layers(self.directions, chosen, "direction")
        _check_layers(self.projections, chosen, "projection")
        _check_layers(self.metadata.weights, chosen, "SHA-256 of its output weight")
        directions = {i: _finite(self.directions[i], i, "direction") for i in chosen}
        projections = {i: _finite(self.projections[i], i, "projection") for i in chosen}
        hidden_size = directions[min(chosen)].size
        for layer, heads in chosen.items():
            _check_direction(layer, directions[layer], hidden_size)
            _check_projection(layer, projections[layer], (len(heads), self.metadata.head_dim))
        object.__setattr__(self, "directions", directions)
        object.__setattr__(self, "projections", projections)
        object.__setattr__(self, "digest", _digest(directions, projections, self.metadata))

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited decoder layers, ascending."""
        return tuple(self.directions)

    @property
    def hidden_size(self) -> int:
        """Length of every direction."""
        return len(next(iter(self.directions.values())))

    @property
    def heads(self) -> int:
        """Number of edited heads."""
        return sum(map(len, self.metadata.heads.values()))

    @property
    def parameters(self) -> int:
        """Number of parameters that it changes."""
        return self.heads * self.metadata.head_dim * self.hidden_size


def _check_layers(given: Mapping[int, Any], chosen: Mapping[int, Any], what: str) -> None:
    if missing := sorted(set(chosen) - set(given)):
        raise EditError(f"layer {missing[0]} has no {what}", field=f"layers[{missing[0]}]")
    if superfluous := sorted(set(given) - set(chosen)):
        layer = superfluous[0]
        raise EditError(
            f"layer {layer} has a {what}, but no heads in the metadata", field=f"layers[{layer}]"
        )


def _finite(given: NDArray[Any], layer: int, what: str) -> Values:
    return finite(given, layer, f"the {what} of layer {layer}", EditError)


def _check_direction(layer: int, values: Values, hidden_size: int) -> None:
    name = f"layers[{layer}]"
    if values.ndim != 1 or values.size != hidden_size:
        raise EditError(
            f"the direction of layer {layer} must be [{hidden_size}], not {list(values.shape)}",
            field=name,
        )
    length = float(np.linalg.norm(values.astype(np.float64)))
    if abs(length - 1) > _UNIT_WITHIN:
        raise EditError(
            f"the direction of layer {layer} must be of length 1, not {length:g}", field=name
        )


def _check_projection(layer: int, values: Values, shape: tuple[int, int]) -> None:
    if values.shape != shape:
        raise EditError(
            f"the projection of layer {layer} must be [heads, head_dim] = {list(shape)}, not "
            f"{list(values.shape)}",
            field=f"layers[{layer}]",
        )


def _digest(
    directions: Mapping[int, Values], projections: Mapping[int, Values], metadata: EditMetadata
) -> str:
    applied = metadata.model_dump(mode="json", include={"weight", "heads", "head_dim", "dtype"})
    digest = hashlib.sha256(json.dumps(applied, sort_keys=True).encode())
    for layer, direction in directions.items():
        digest.update(struct.pack("<QQ", layer, len(direction)))
        digest.update(direction.astype("<f4").tobytes())
        digest.update(projections[layer].astype("<f4").tobytes())
    return digest.hexdigest()


def check(edit: Edit, model: Model) -> None:
    """Refuse an edit that is not one of the model's.

    Heads and weights are not looked at here: the ranks that apply the edit have them.

    Raises:
        EditError: Its hidden size, a layer, or its model's digest does not fit the model.

    """
    if edit.hidden_size != model.hidden_size:
        raise EditError(
            f"the edit has {edit.hidden_size} values a direction, "
            f"the model's hidden size is {model.hidden_size}",
            field="edit",
        )
    last = max(edit.layers)
    if last >= model.layers:
        raise EditError(
            f"the edit has a layer {last}, the model's layers are 0 to {model.layers - 1}",
            field=f"layers[{last}]",
        )
    served = model_digest(model)
    made_from = edit.metadata.model_digest
    if made_from is not None and made_from != served:
        raise EditError(
            f"the edit was made from a model with digest {made_from}, this one's is {served}",
            field="metadata.model_digest",
        )
