"""A steering vector: what is added to the residual stream, where, and under which defaults."""

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


class VectorError(ArtifactError):
    """A vector that cannot be used as asked."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("must be low, then high")
    return bounds


class VectorMetadata(Metadata):
    """Metadata of a vector file."""

    refusal: ClassVar[type[ArtifactError]] = VectorError

    site: Literal["attn", "layer"]
    """Where in a decoder layer: `layer` is its output, `attn` the residual stream after its
    attention. Requests are steered at `layer`; an `attn` direction is for choosing heads."""
    method: Annotated[str, Field(min_length=1)]
    """How it was made."""
    model: str | None = None
    """Name of the model it was made for, for readers; never compared."""
    model_digest: str | None = None
    """`model_digest` of that model. With it, other models are refused."""
    created_from: str | None = None
    """The data it was made from."""
    description: str = ""
    strength: float = 1.0
    """Multiplier when a request names none."""
    phase: Literal["all", "thinking", "answer"] = "all"
    """Steered phase when a request names none."""
    at: Literal["all", "boundary"] = "all"
    """Steered tokens of the phase when a request names none."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Layers steered when a request names none; all that the vector has when null."""
    strength_range: Annotated[tuple[float, float], AfterValidator(_ordered)] | None = None
    """Recommended strengths, low and high; present once the vector is calibrated."""
    residual_norms: (
        Annotated[
            dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0)]],
            AfterValidator(by_layer),
        ]
        | None
    ) = None
    """Mean Euclidean norm of the residual stream by layer; present once calibrated."""
    provenance: dict[str, Any] | None = None
    """How it came about: counts, thresholds, what was found at each layer."""
    calibration: dict[str, Any] | None = None
    """How layers, strength and range were found: what was tried, and what it did."""


@dataclass(frozen=True, slots=True)
class Vector:
    """A steering vector. Two are equal if their digests and metadata are.

    Args:
        layers: Decoder layer, from 0, to the values added to the residual stream at the output of
            that layer, times the strength: [hidden_size]. Kept sorted, as read-only float32.
        metadata: All else that its file says.

    Attributes:
        digest: SHA-256, in hex, of everything that changes what is applied: layers, values, and
            the default layers, strength, phase and place. The first 16 digits do for people.
        norms: Euclidean norm of the values, by layer.

    Raises:
        VectorError: No layers; a layer that is not one-dimensional, is empty, is longer or
            shorter than the others, or holds a NaN or an infinity (in float32); default layers
            that it does not have.

    """

    layers: Mapping[int, Values] = field(compare=False)
    metadata: VectorMetadata = field(hash=False)
    digest: str = field(init=False)
    norms: Mapping[int, float] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        layers = _checked(self.layers)
        _check_defaults(self.metadata, layers)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "digest", _digest(layers, self.metadata))
        object.__setattr__(self, "norms", {i: _norm(layers[i]) for i in layers})

    @property
    def hidden_size(self) -> int:
        """Length of every layer's values."""
        return len(next(iter(self.layers.values())))


def _checked(layers: Mapping[int, NDArray[Any]]) -> dict[int, Values]:
    if not layers:
        raise VectorError("the vector has no layers", field="vector")
    checked: dict[int, Values] = {}
    for layer, given in sorted(layers.items()):
        name = f"layers[{layer}]"
        if layer < 0:
            raise VectorError(f"layer {layer}: layers are counted from 0", field=name)
        if given.ndim != 1 or not given.size:
            shape = list(given.shape)
            raise VectorError(f"layer {layer} must be [hidden_size], not {shape}", field=name)
        checked[layer] = finite(given, layer, f"layer {layer}", VectorError)
    first, *others = checked
    for layer in others:
        if len(checked[layer]) != len(checked[first]):
            raise VectorError(
                f"layer {layer} has {len(checked[layer])} values, "
                f"layer {first} has {len(checked[first])}",
                field=f"layers[{layer}]",
            )
    return checked


def _check_defaults(metadata: VectorMetadata, layers: Mapping[int, Values]) -> None:
    default = metadata.layers or ()
    if list(default) != sorted(set(default)):
        raise VectorError(
            "metadata.layers must be in ascending order, each layer once", field="metadata.layers"
        )
    for layer in default:
        if layer not in layers:
            raise VectorError(
                f"metadata.layers names layer {layer}, which the vector does not have",
                field="metadata.layers",
            )


def _norm(values: Values) -> float:
    # In float64: the squares of large values are beyond float32.
    return float(np.linalg.norm(values.astype(np.float64)))


def _digest(layers: Mapping[int, Values], metadata: VectorMetadata) -> str:
    defaults = {name: getattr(metadata, name) for name in ("site", "strength", "phase", "at")}
    if metadata.layers is not None:
        defaults["layers"] = metadata.layers
    digest = hashlib.sha256(json.dumps(defaults, sort_keys=True).encode())
    for layer, values in layers.items():
        digest.update(struct.pack("<QQ", layer, len(values)))
        digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def model_digest(model: Model) -> str:
    """SHA-256, in hex, of what a model must share with the one that a vector was made for.

    That is its architecture, hidden size, number of layers and vocabulary size. Weights are not
    looked at, so fine-tuned models of one family share a digest, and their vectors.
    """
    facts = {name: getattr(model, name) for name in _FACTS}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


_FACTS = ("architecture", "hidden_size", "layers", "vocabulary")


def check(vector: Vector, model: Model) -> None:
    """Refuse a vector that the model cannot be steered with.

    Raises:
        VectorError: Its site, hidden size, a layer, or its model's digest does not fit the model.

    """
    if vector.metadata.site != "layer":
        raise VectorError(
            f"the vector is of site {vector.metadata.site!r}; requests are steered at 'layer', the "
            "output of decoder layers",
            field="metadata.site",
        )
    if vector.hidden_size != model.hidden_size:
        raise VectorError(
            f"the vector has {vector.hidden_size} values a layer, "
            f"the model's hidden size is {model.hidden_size}",
            field="vector",
        )
    last = max(vector.layers)
    if last >= model.layers:
        raise VectorError(
            f"the vector has a layer {last}, the model's layers are 0 to {model.layers - 1}",
            field=f"layers[{last}]",
        )
    served = model_digest(model)
    made_for = vector.metadata.model_digest
    if made_for is not None and made_for != served:
        raise VectorError(
            f"the vector was made for a model with digest {made_for}, this server's is {served}",
            field="metadata.model_digest",
        )
