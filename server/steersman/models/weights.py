"""The size of a model's weights, from the headers of its safetensors files."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

_INDEX = "model.safetensors.index.json"
_LARGEST_HEADER = 100 * 2**20
"""The limit of the safetensors format."""
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
}
_UPCAST = {"F16": 2, "BF16": 2}


def in_directory(directory: Path) -> Mapping[str, int]:
    """Bytes of the weights in a directory by number type (`BF16`, `F32`, …).

    Empty if there are no safetensors files, one that the index names is missing, or one is damaged.
    """
    sizes: Counter[str] = Counter()
    try:
        for file in _files(directory):
            sizes.update(_sizes(file))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return sizes


def of_counts(parameters: Mapping[str, int]) -> Mapping[str, int]:
    """Bytes by number type, from numbers of parameters."""
    return {kind: count * _BITS.get(kind, 8) // 8 for kind, count in parameters.items()}


def in_float32(sizes: Mapping[str, int]) -> int:
    """Bytes of the same weights in float32; integers stay as they are."""
    return sum(size * _UPCAST.get(kind, 1) for kind, size in sizes.items())


def _files(directory: Path) -> Iterable[Path]:
    """The files that vLLM would load: those of the index; else all, the makers' own copy left out.

    Raises:
        OSError, ValueError, KeyError: The index cannot be read.

    """
    index = directory / _INDEX
    if index.is_file():
        return {directory / name for name in json.loads(index.read_text())["weight_map"].values()}
    files = sorted(directory.glob("*.safetensors"))
    return [file for file in files if not file.name.startswith("consolidated")] or files


def _sizes(file: Path) -> Mapping[str, int]:
    """Bytes of the tensors of a safetensors file by number type.

    Raises:
        OSError, ValueError, KeyError, TypeError: It cannot be read as one.

    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError(f"{file.name} has no safetensors header")
        header = json.loads(stream.read(length))
    sizes: Counter[str] = Counter()
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            sizes[tensor["dtype"]] += end - begin
    return sizes
