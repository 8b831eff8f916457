"""A model directory: where the output weights of its attentions are stored, and their bytes.

The bytes are found by the header of each safetensors file, so that a weight can be hashed as it is
stored and replaced in a copy of its file, with everything else of the file as it was.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor

from steersman.edits.edit import EditError

Dtype = Literal["bfloat16", "float16", "float32"]

_INDEX = "model.safetensors.index.json"
# Weights in the original format of Mistral, once more: vLLM does not read them beside others.
CONSOLIDATED = "consolidated*.safetensors"
_HEADER_LENGTH = 8
_DTYPES: dict[str, Dtype] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_OUTPUT = re.compile(
    r"(?P<before>(?:.*\.)?)(?P<layer>0|[1-9][0-9]*)\."
    r"(?P<name>(?:\w+\.)?(?:self_attn|self_attention|attention|attn)\.(?:o_proj|out_proj|dense|wo))"
    r"\.(?P<part>\w+)\Z"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a safetensors file.

    Attributes:
        path: The file.
        offset: Where its bytes begin in the file.
        dtype: As the file names it.
        shape: Its shape.
        size: Number of bytes.

    """

    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]
    size: int

    def read(self) -> bytes:
        """The bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Checkpoint:
    """The output weights of a model directory, one a decoder layer.

    Args:
        directory: The model directory, with weights in safetensors.
        layers: Decoder layers of the model.
        hidden_size: Width of its residual stream.

    Attributes:
        directory: The model directory.
        layers: The decoder layers.
        parameters: Number of parameters in all files.

    Raises:
        EditError: There are no such weights, or they are quantised.

    """

    def __init__(self, directory: Path, layers: int, hidden_size: int) -> None:
        self.directory = directory
        self.layers = range(layers)
        tensors = dict(_tensors(directory))
        self.parameters = sum(prod(tensor.shape) for tensor in tensors.values())
        self._outputs = _outputs(directory, tensors, layers)
        for layer, stored in self._outputs.items():
            if stored.dtype not in _DTYPES or len(stored.shape) != 2:
                raise EditError(
                    f"the attention output weight of layer {layer} is {stored.dtype} "
                    f"{list(stored.shape)}: only plain BF16, F16 and F32 weights can be edited",
                    field="model",
                )
            if stored.shape[0] != hidden_size:
                raise EditError(
                    f"the attention output weight of layer {layer} is {list(stored.shape)}, not "
                    f"[hidden_size = {hidden_size}, columns]",
                    field="model",
                )

    def stored(self, layer: int) -> Stored:
        """Location of the output weight of a layer."""
        return self._outputs[layer]

    def columns(self, layer: int) -> int:
        """Columns of the output weight of a layer."""
        return self._outputs[layer].shape[1]

    def dtype(self, layer: int) -> Dtype:
        """The dtype of the output weight of a layer."""
        return _DTYPES[self._outputs[layer].dtype]

    def weight(self, layer: int) -> Tensor:
        """The output weight of a layer: [hidden_size, columns], in its own dtype."""
        stored = self._outputs[layer]
        data = bytearray(stored.read())
        return torch.frombuffer(data, dtype=getattr(torch, self.dtype(layer))).view(stored.shape)

    def sha256(self, layer: int) -> str:
        """SHA-256, in hex, of the stored bytes of the output weight of a layer."""
        return hashlib.sha256(self._outputs[layer].read()).hexdigest()


def _tensors(directory: Path) -> Iterator[tuple[str, Stored]]:
    for path in _files(directory):
        try:
            with safetensors.safe_open(path, framework="pt"):
                pass  # that checks the header
            with path.open("rb") as file:
                length = int.from_bytes(file.read(_HEADER_LENGTH), "little")
                header: dict[str, Any] = json.loads(file.read(length))
        except safetensors.SafetensorError as error:
            raise EditError(f"{path}: not a safetensors file: {error}", field="model") from None
        except OSError as error:
            raise EditError(f"{path}: cannot be read: {error}", field="model") from error
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                place = _HEADER_LENGTH + length + start
                shape = tuple(entry["shape"])
                yield name, Stored(path, place, entry["dtype"], shape, end - start)


def _files(directory: Path) -> list[Path]:
    index = directory / _INDEX
    if index.exists():
        try:
            names = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise EditError(f"{index}: not an index of weights: {error!r}", field="model") from None
        return [directory / name for name in sorted(names)]
    others = set(directory.glob(CONSOLIDATED))
    files = sorted(set(directory.glob("*.safetensors")) - others)
    if not files:
        raise EditError(f"{directory}: there are no safetensors files", field="model")
    return files


def _outputs(directory: Path, tensors: dict[str, Stored], layers: int) -> dict[int, Stored]:
    """The output weight of each layer.

    Other parts of a model, as one that sees, can have layers with attention too, of another number.
    """
    found: dict[tuple[str, str], dict[int, dict[str, Stored]]] = {}
    for name, stored in tensors.items():
        if match := _OUTPUT.match(name):
            stack = found.setdefault((match["before"], match["name"]), {})
            stack.setdefault(int(match["layer"]), {})[match["part"]] = stored
    whole = {names: stack for names, stack in found.items() if stack.keys() >= set(range(layers))}
    if len(whole) != 1:
        names = ", ".join(f"{before}N.{name}" for before, name in whole) or "none"
        raise EditError(
            f"{directory}: one attention output weight for each of {layers} layers is needed, "
            f"found: {names}",
            field="model",
        )
    [((before, name), stack)] = whole.items()
    for layer in range(layers):
        if quantised := sorted(stack[layer].keys() - {"weight", "bias"}):
            raise EditError(
                f"{directory}: the weights are quantised ({before}{layer}.{name}.{quantised[0]}): "
                "only plain BF16, F16 and F32 weights can be edited",
                field="model",
            )
    return {layer: stack[layer]["weight"] for layer in range(layers)}
