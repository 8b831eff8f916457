"""The file of an edit: safetensors, with two tensors a layer and one JSON document of metadata."""

import re
from typing import TYPE_CHECKING, Any

from steersman.artifacts import file as artifact
from steersman.edits.edit import Edit, EditError, EditMetadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAME = re.compile(r"layer\.(0|[1-9][0-9]{0,5})\.(direction|projection)\Z")


def read(data: bytes) -> Edit:
    """Read an edit's file.

    The tensors are F32, F16 or BF16: `layer.N.direction`, [hidden_size], and `layer.N.projection`,
    [heads chosen, head_dim].

    Raises:
        EditError: It is no such file.

    """
    document, tensors = artifact.read(data, "edit", EditError)
    metadata = EditMetadata.read(document)
    parts: dict[str, dict[int, NDArray[Any]]] = {"direction": {}, "projection": {}}
    for name, tensor in tensors.items():
        layer, part = _name(name)
        parts[part][layer] = artifact.values(name, tensor, f"layers[{layer}]", EditError)
    return Edit(parts["direction"], parts["projection"], metadata)


def write(edit: Edit) -> bytes:
    """The file of an edit, in F32; the same bytes for equal edits."""
    tensors = {f"layer.{layer}.direction": values for layer, values in edit.directions.items()}
    tensors |= {f"layer.{layer}.projection": values for layer, values in edit.projections.items()}
    return artifact.write(edit.metadata.write(), tensors)


def _name(name: str) -> tuple[int, str]:
    match = _NAME.match(name)
    if match is None:
        raise EditError(
            f"tensor {name!r}: tensors are named layer.N.direction and layer.N.projection, N the "
            "decoder layer, counted from 0",
            field="edit",
        )
    return int(match[1]), match[2]
