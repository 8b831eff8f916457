"""Finding the decoder layers of a vLLM model."""

from collections.abc import Callable
from typing import Any

from torch import nn
from vllm.model_executor.models.utils import PPMissingLayer

_IN_PARTS = (
    "use_sequence_parallel",
    "use_sequence_parallel_moe",
    "use_hc_sequence_parallel",
    "use_attn_reduce_scatter_for_moe",
    "is_sequence_parallel",
)
"""How decoder layers of vLLM's models say that each rank has its own part of the batch."""


Forward = Callable[..., Any]
"""The `forward` of a class of modules: self, then what the model calls the module with."""


class UnsupportedModelError(ValueError):
    """A model whose residual stream cannot be steered; the message says why."""


def decoder_layers(model: Any, model_config: Any) -> dict[int, nn.Module]:
    """The decoder layers that this rank holds, by their index in the whole model.

    Raises:
        UnsupportedModelError: There is no list of decoder layers, or more than one; or a layer
            hands on a part of the batch.

    """
    total = model_config.get_total_num_hidden_layers()
    language_model = model.get_language_model() if hasattr(model, "get_language_model") else model
    lists = {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == total
    }
    outermost = [name for name in lists if not any(name.startswith(f"{n}.") for n in lists)]
    if len(outermost) != 1:
        raise UnsupportedModelError(
            f"steering needs one list of {total} decoder layers; {type(model).__name__} has "
            f"{', '.join(outermost) or 'none'}"
        )
    own = {
        index: layer
        for index, layer in enumerate(lists[outermost[0]])
        if not isinstance(layer, PPMissingLayer)
    }
    for index, layer in own.items():
        if said := [name for name in _IN_PARTS if getattr(layer, name, False) is True]:
            raise UnsupportedModelError(
                f"sequence parallelism: each rank has other tokens of a batch in layer {index} of "
                f"{type(model).__name__} ({said[0]})"
            )
    return own


def stand_around(layer: nn.Module, forward: Callable[[type[nn.Module]], Forward]) -> None:
    """Let a function stand around a layer's `forward`, compiled or not.

    It is a method of a subclass made here, and no forward hook: a tracer sees an ordinary method,
    names of parameters stay as they were, and nothing can skip it.

    Args:
        layer: A decoder layer.
        forward: Makes the function, from the layer's own class.

    """
    cls = type(layer)
    body = {"forward": forward(cls), "__module__": __name__}
    layer.__class__ = type(f"Steered{cls.__name__}", (cls,), body)


def attention_norm(layer: nn.Module) -> nn.Module | None:
    """The norm after a decoder layer's attention, whose second output is the residual stream; None
    if it is not known by its name."""
    return getattr(layer, "post_attention_layernorm", None)


def run_instead(module: nn.Module, forward: Callable[[Forward], Forward]) -> None:
    """Let a function take the place of a module's `forward` in eager mode.

    Args:
        module: Any module of the model.
        forward: Makes the function, from the module's bound `forward`.

    """
    module.forward = forward(module.forward)


def gated_mlp(layer: nn.Module) -> nn.Module | None:
    """The MLP of a decoder layer, if it is one that makes a tensor of a tensor, token by token."""
    mlp = getattr(layer, "mlp", None)
    gated = all(hasattr(mlp, name) for name in ("gate_up_proj", "down_proj", "act_fn"))
    return mlp if gated else None
