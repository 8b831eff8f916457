"""Converting a GGUF file to an ordinary model directory: `python -m steersman.models.convert`.

A program of its own, so that the threads and the memory torch takes for it end with it.
"""

import sys
from pathlib import Path


def convert(source: Path, target: Path) -> None:
    """Write the weights of a GGUF file as bfloat16 safetensors, with its tokenizer.

    The chat template that the file carries is written too. Quantised weights are dequantised:
    nothing that they lost comes back.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
