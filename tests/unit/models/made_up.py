"""Small model directories that many unit tests build on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def write(
    directory: Path,
    config: Mapping[str, Any],
    *,
    template: str | None = None,
    weights: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
) -> Path:
    """Write a model directory.

    Args:
        directory: Where; it is made if it is not there.
        config: Its configuration.
        template: Its chat template; None for a model without one.
        weights: Tensors by the name of their safetensors file.

    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    for file, tensors in (weights or {}).items():
        save_file(dict(tensors), directory / file)
    return directory


def tensor(elements: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A tensor of zeros."""
    return torch.zeros(elements, dtype=dtype)
