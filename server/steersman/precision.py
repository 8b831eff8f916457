"""The number type that a model runs in on a CPU: float32 where bfloat16 would be emulated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steersman.models import weights
from steersman.models.files import ModelFiles

AUTO = "auto"
"""vLLM's word for the type that the model's configuration names."""
_OWN_BYTES = 2 * 2**30
"""Memory of the processes beside weights and KV cache, in bytes: libraries, activations, logits."""
_QUANTIZED = ("quantization_config", "compression_config")


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for a model, in bytes.

    Attributes:
        available: Memory that can be taken.
        cache: KV cache of all ranks.
        copies: Times that the weights are loaded: the data parallel ranks.

    """

    available: int
    cache: int
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Precision:
    """A number type, and why it is that; without a reason there was nothing to choose."""

    dtype: str
    reason: str | None = None


def for_plain_cpu(files: ModelFiles, room: Room) -> Precision:
    """The number type for a CPU without bfloat16 instructions.

    A model whose own type is bfloat16 runs in float32 if there is room, and so does one in
    float32, which vLLM would make bfloat16. Others, and quantised ones, are left alone.
    """
    config = files.config
    if not config or any(config.get(field) for field in _QUANTIZED):
        return Precision(AUTO)
    if _named(config) not in (None, "bfloat16", "float32"):
        return Precision(AUTO)
    sizes = files.weight_bytes()
    if not sizes:
        return Precision(
            AUTO,
            "this CPU has no bfloat16 instructions, but the size of the model is not known "
            "beforehand; --dtype float32 is faster if there is memory for it",
        )
    if "F16" in sizes and "BF16" not in sizes and _named(config) is None:
        return Precision(AUTO)
    needed = weights.in_float32(sizes) * room.copies + room.cache + _OWN_BYTES
    if needed > room.available:
        return Precision(
            AUTO,
            "this CPU has no bfloat16 instructions, but float32 would take "
            f"{_gib(needed)} of memory and {_gib(room.available)} are free",
        )
    return Precision("float32", "this CPU has no bfloat16 instructions")


def _named(config: Mapping[str, Any]) -> str | None:
    """The number type that a configuration names, its own or that of its language model."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            named = part.get("dtype") or part.get("torch_dtype")
            if isinstance(named, str):
                return named.removeprefix("torch.")
    return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
