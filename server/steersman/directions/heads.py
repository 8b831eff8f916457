"""The attention heads that write a direction of reasoning length: `steersman directions heads`.

After ThinkEdit (arXiv 2503.22048, where short-thinking heads are found): with v̂ the unit direction
of reasoning length in the residual stream after attention, the contribution of a head h to short
reasoning is the mean over short traces of `<mean_t(a_t,h) W_o^h, -v̂>`: a_t,h is what the head hands
to the output projection at token t, W_o^h the part of that projection's weight that takes it. The
authors edit the heads that contribute most, about 4 % of all.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steersman.artifacts.values import Values
from steersman.capabilities import Model
from steersman.directions import thinkedit
from steersman.directions.contrast import Contrast
from steersman.directions.error import DirectionError
from steersman.directions.offline import OfflineEngine
from steersman.directions.sample import Sample
from steersman.edits.checkpoint import Checkpoint
from steersman.vectors.vector import Vector, model_digest

Progress = Callable[[str, int, int], None]
"""Told of each step: its name, the part done, and the whole."""

_MINUS = 1
"""The side of short traces."""

_Index = Annotated[int, Field(ge=0)]


class Heads(BaseModel):
    """Scores of a model's heads, and the heads chosen for an edit: a JSON file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    model: str
    """Name of the model, for readers; never compared."""
    model_digest: str
    """`model_digest` of the model."""
    vector: str
    """Digest of the direction's vector."""
    head_dim: Annotated[int, Field(ge=1)]
    """Columns of the output weight that belong to one head."""
    weights: dict[_Index, str]
    """SHA-256, in hex, of the stored bytes of each layer's output weight."""
    contributions: dict[_Index, tuple[float, ...]]
    """Contribution of each head to short reasoning, by layer."""
    chosen: dict[_Index, tuple[_Index, ...]]
    """The heads that contribute most, by layer, both ascending."""
    provenance: dict[str, Any]
    """Traces that they were found on: counts, thresholds, and the number of chosen heads."""

    @classmethod
    def read(cls, text: str | bytes) -> "Heads":
        """The heads from their file.

        Raises:
            DirectionError: It is no such file; the field is named.

        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"{where}: {first['msg']}" if where else first["msg"]
            raise DirectionError(f"not a file of heads: {reason}", field="heads") from None

    def write(self) -> str:
        """The file: a line for each layer's contributions."""
        values = self.model_dump(mode="json")
        layers = values.pop("contributions")
        rows = ",\n".join(f'  "{layer}": {json.dumps(row)}' for layer, row in layers.items())
        rest = json.dumps(values, indent=1, ensure_ascii=False).removesuffix("\n}")
        return f'{rest},\n "contributions": {{\n{rows}\n }}\n}}\n'


def score(
    model: str,
    arguments: Sequence[str],
    vector: Vector,
    samples: Sequence[Sample],
    options: Mapping[str, Any],
    progress: Progress,
    *,
    share: float = 0.05,
    count: int | None = None,
) -> Heads:
    """Score every head of a model, and choose those that contribute most to short reasoning.

    Args:
        model: A built-in model, a Hugging Face id or a directory.
        arguments: Further arguments of the engine.
        vector: The direction of reasoning length at site `attn`, long minus short.
        samples: Responses of the model.
        options: Of `thinkedit.contrast`: which samples are short.
        progress: Told of each step.
        share: Share of all heads that is chosen, at least one.
        count: Number of heads that are chosen, instead of a share.

    Raises:
        DirectionError: The vector is not one of this model's directions of reasoning length, there
            are too few short traces, or the heads cannot be told apart or be chosen.
        steersman.edits.edit.EditError: The weights cannot be read, or are quantised.

    """
    _check_number(share, count)
    traces = thinkedit.contrast(samples, **options)
    short = Contrast((), traces.minus, traces.facts)
    with OfflineEngine(model, arguments, capture=True) as engine:
        served = engine.model
        check(vector, served)
        checkpoint = Checkpoint(engine.directory, served.layers, served.hidden_size)
        progress("capturing", 0, len(short.minus))
        for done, _ in enumerate(engine.capture(short), 1):
            progress("capturing", done, len(short.minus))
        inputs = engine.head_inputs(short)[:, _MINUS]
    found = contributions(inputs, checkpoint, unit_directions(vector))
    chosen = choose(found, count or max(1, round(share * found.size)))
    return Heads(
        model=model,
        model_digest=model_digest(served),
        vector=vector.digest,
        head_dim=inputs.shape[2],
        weights={layer: checkpoint.sha256(layer) for layer in range(served.layers)},
        contributions={layer: tuple(map(float, row)) for layer, row in enumerate(found)},
        chosen=chosen,
        provenance={
            **{name: traces.facts[name] for name in ("by", "short_to", "closed")},
            "short": traces.facts["minus"],
            "chosen": sum(map(len, chosen.values())),
            "of": found.size,
        },
    )


def check(vector: Vector, model: Model) -> None:
    """Refuse a vector that is not a direction of reasoning length in this model, at every layer.

    Raises:
        DirectionError: Its site, method, hidden size, layers, values, or its model's digest.

    """
    metadata = vector.metadata
    served = model_digest(model)
    reasons = {
        f"it is of site {metadata.site!r}, what heads write is seen at 'attn': take the .attn file "
        "of the extraction": metadata.site != "attn",
        f"it was made by {metadata.method!r}, not by 'thinkedit'": metadata.method != "thinkedit",
        f"it was made for a model with digest {metadata.model_digest}, this one's is "
        f"{served}": metadata.model_digest not in (None, served),
        f"it has {vector.hidden_size} values a layer, the model's hidden size is "
        f"{model.hidden_size}": vector.hidden_size != model.hidden_size,
        f"it has {len(vector.layers)} layers, the model has {model.layers}": (
            list(vector.layers) != list(range(model.layers))
        ),
        "it is zero at a layer": not all(vector.norms.values()),
    }
    for reason, bad in reasons.items():
        if bad:
            raise DirectionError(f"not a direction of this model's heads: {reason}", field="vector")


def unit_directions(vector: Vector) -> dict[int, Values]:
    """v̂ of each layer: float32 [hidden_size], of length 1."""
    return {
        layer: (values.astype(np.float64) / vector.norms[layer]).astype(np.float32)
        for layer, values in vector.layers.items()
    }


def contributions(
    inputs: NDArray[np.float64], checkpoint: Checkpoint, directions: Mapping[int, Values]
) -> NDArray[np.float64]:
    """Contribution of each head to short reasoning.

    The mean is taken before the product, which is linear in what the head hands over.

    Args:
        inputs: Means over short traces of what each head hands to the output projection,
            [layers, heads, head_dim].
        checkpoint: The weights of the output projections.
        directions: v̂ by layer, [hidden_size].

    Returns:
        [layers, heads].

    Raises:
        DirectionError: The weights have other columns than the heads.

    """
    _, heads, head_dim = inputs.shape
    rows = []
    for layer, values in enumerate(inputs):
        if checkpoint.columns(layer) != heads * head_dim:
            raise DirectionError(
                f"the output weight of layer {layer} has {checkpoint.columns(layer)} columns, "
                f"{heads} heads of {head_dim} need {heads * head_dim}",
                field="model",
            )
        projection = (
            directions[layer].astype(np.float64) @ checkpoint.weight(layer).double().numpy()
        )
        rows.append(-(values * projection.reshape(heads, head_dim)).sum(axis=1))
    return np.array(rows)


def _check_number(share: float, count: int | None) -> None:
    if count is not None and count < 1:
        raise DirectionError(f"count={count}: must be at least 1", field="count")
    if not 0 < share <= 1:
        raise DirectionError(f"share={share:g}: must be over 0 and at most 1", field="share")


def choose(contributions: NDArray[np.float64], number: int) -> dict[int, tuple[int, ...]]:
    """The heads with the largest contributions, by layer.

    Args:
        contributions: [layers, heads].
        number: How many.

    Raises:
        DirectionError: There are fewer that contribute to short reasoning at all.

    """
    if (positive := int((contributions > 0).sum())) < number:
        raise DirectionError(
            f"{number} heads are to be chosen, but only {positive} of {contributions.size} "
            "contribute to short reasoning (are over 0): choose fewer",
            field="count",
        )
    chosen: dict[int, list[int]] = {}
    for place in np.argsort(-contributions, axis=None, kind="stable")[:number]:
        layer, head = divmod(int(place), contributions.shape[1])
        chosen.setdefault(layer, []).append(head)
    return {layer: tuple(sorted(chosen[layer])) for layer in sorted(chosen)}
