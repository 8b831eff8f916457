"""Files of values and one JSON document about them, in safetensors: vectors and edits."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save

from steersman.artifacts.artifact import Refusal

KEY = "steersman"
"""Where the JSON document is among the safetensors metadata."""

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_HEADER_LENGTH = 8


def read(data: bytes, noun: str, refusal: Refusal) -> tuple[str, dict[str, Any]]:
    """The JSON document of a file as it is, and its tensors by name, for `values`.

    Args:
        data: The file.
        noun: The word for its content: the field of errors about the file as a whole.
        refusal: Makes the error that is raised.

    """
    try:
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        # Only now: a good file can begin with the byte that pickles begin with.
        if data.startswith((_ZIP, _PICKLE)):
            reason = "pickles, as torch.save writes them, can run code and are never read"
        else:
            reason = str(error)
        raise refusal(f"not a safetensors file: {reason}", field=noun) from None
    return _document(data, noun, refusal), dict(tensors)


def values(name: str, tensor: dict[str, Any], field: str, refusal: Refusal) -> NDArray[Any]:
    """A tensor that `read` has found, which must be F32, F16 or BF16; BF16 becomes float32.

    Args:
        name: Its name.
        tensor: The value that `read` gave for it.
        field: The field that a refusal is about.
        refusal: Makes the error that is raised.

    """
    match tensor["dtype"]:
        case "F32":
            found: NDArray[Any] = np.frombuffer(tensor["data"], "<f4")
        case "F16":
            found = np.frombuffer(tensor["data"], "<f2")
        case "BF16":
            found = _from_bfloat16(tensor["data"])
        case dtype:
            raise refusal(f"tensor {name} is {dtype}: use F32, F16 or BF16", field=field)
    return found.reshape(tensor["shape"])


def write(document: str, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The file; the same bytes for equal contents."""
    return save(dict(tensors), {KEY: document})


def _document(data: bytes, noun: str, refusal: Refusal) -> str:
    # The library checks the header but hands out only the tensors, of duplicates the last.
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise refusal(f"{key!r} is in the file's header twice", field=noun)
            seen[key] = value
        return seen

    length = int.from_bytes(data[:_HEADER_LENGTH], "little")
    header = json.loads(
        data[_HEADER_LENGTH : _HEADER_LENGTH + length], object_pairs_hook=without_duplicates
    )
    try:
        text: str = header["__metadata__"][KEY]
    except KeyError:
        raise refusal(
            f"the file has no metadata: a JSON document is expected under {KEY!r} in the metadata "
            "of the safetensors file",
            field="metadata",
        ) from None
    return text


def _from_bfloat16(data: bytes) -> NDArray[np.float32]:
    # NumPy has no bfloat16: it is the upper half of a float32.
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
