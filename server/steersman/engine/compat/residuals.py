"""Measuring how large the residual stream is, on one rank."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

_COMPILED = "do_not_compile"
"""vLLM's attribute of a module that it compiles: true to run it as plain Python."""


class Residuals:
    """Norms of the residual stream at the output of decoder layers.

    Compiled code and CUDA graphs run no Python, so between `start` and `take` vLLM's compiled
    modules run as plain Python, which they can. A pass that is replayed as one whole graph all the
    same is not seen, and nothing is measured.

    Args:
        layers: The decoder layers of this rank's pipeline stage, by index.
        model: The model that they are part of.

    """

    def __init__(self, layers: Mapping[int, nn.Module], model: nn.Module) -> None:
        self._layers = layers
        self._model = model
        self._tokens = 0
        self._norms: dict[int, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        self._compiled: list[Any] = []

    def start(self, tokens: int) -> None:
        """Look at the next forward pass of at least so many tokens, and at so many of these."""
        self._tokens = tokens
        self._norms = {}
        self._hooks = [
            layer.register_forward_hook(partial(self._look, index))
            for index, layer in self._layers.items()
        ]
        modules = self._model.modules()
        self._compiled = [one for one in modules if getattr(one, _COMPILED, None) is False]
        for module in self._compiled:
            setattr(module, _COMPILED, True)

    def take(self) -> dict[int, float]:
        """The mean norm of the tokens by layer; empty if no pass was seen.

        The first token is left out: it is often a hundred times as large as the others.
        """
        for hook in self._hooks:
            hook.remove()
        for module in self._compiled:
            setattr(module, _COMPILED, False)
        norms = {index: float(norm) for index, norm in self._norms.items()}
        self._hooks, self._compiled, self._norms = [], [], {}
        return norms

    def _look(self, index: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        parts = output if isinstance(output, tuple) else (output,)
        if index in self._norms or len(parts[0]) < self._tokens:
            return
        stream = torch.stack([part[: self._tokens].float() for part in parts[:2]]).sum(dim=0)
        self._norms[index] = stream[1:].norm(dim=1).mean()
