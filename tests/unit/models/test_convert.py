"""Conversion of a GGUF file: what transformers would write, without it."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quantization
from numpy.typing import NDArray

from steersman.models.convert import convert

TEXTS = ["<|endoftext|>", "<|start|>", "a", "b", "c", "Ġ", "ab", "Ġc", "Ã©", "Ċ"]
HIDDEN, HEADS, KV_HEADS, INNER = 64, 4, 2, 96


@dataclasses.dataclass(frozen=True)
class Made:
    """Choices in a made-up GGUF file."""

    architecture: str = "llama"
    extra: str | None = None
    """Name of one more tensor."""


def write(file: Path, made: Made = Made()) -> Path:
    """A Llama of two layers in the quantisations of smollm2, with the tokenizer's metadata."""
    writer = gguf.GGUFWriter(file, made.architecture)
    writer.add_name("Made up")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(2)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1e5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TEXTS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TEXTS)
    writer.add_token_types([3, 3] + [1] * (len(TEXTS) - 2))
    writer.add_token_merges(["a b", "Ġ c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_space_prefix(False)
    writer.add_chat_template("{{ messages }} ü")
    for name, numbers, quantization in tensors():
        raw = gguf.quantize(numbers, quantization)
        writer.add_tensor(name, raw, raw_dtype=quantization)
    if made.extra:
        writer.add_tensor(made.extra, np.zeros(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def tensors() -> Iterator[tuple[str, NDArray[np.float32], Quantization]]:
    generator = np.random.default_rng(0)

    def noise(*shape: int) -> NDArray[np.float32]:
        return generator.standard_normal(shape, dtype=np.float32)

    yield "token_embd.weight", noise(len(TEXTS), HIDDEN), Quantization.Q8_0
    keys = KV_HEADS * HIDDEN // HEADS
    shapes = {
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (keys, HIDDEN),
        "attn_v": (keys, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_gate": (INNER, HIDDEN),
        "ffn_up": (INNER, HIDDEN),
        "ffn_down": (HIDDEN, INNER),
    }
    for layer in range(2):
        for name, shape in shapes.items():
            yield f"blk.{layer}.{name}.weight", noise(*shape), Quantization.Q4_1
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{name}.weight", noise(HIDDEN), Quantization.F32
    yield "output_norm.weight", noise(HIDDEN), Quantization.F32


def by_transformers(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    quantization: Any = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=quantization,
        dtype=torch.bfloat16,
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.filterwarnings("ignore")
def test_every_file_is_what_transformers_writes(tmp_path: Path) -> None:
    source = write(tmp_path / "made-up.gguf")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    convert(source, ours)
    by_transformers(source, theirs)
    found, wanted = contents(ours), contents(theirs)
    assert sorted(found) == sorted(wanted)
    for name in found:
        if name.endswith("config.json"):
            assert json.loads(found[name]) == json.loads(wanted[name]), name
        assert found[name] == wanted[name], name


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "made-up.gguf", Made(architecture="qwen2"))
    with pytest.raises(ValueError, match="cannot convert a qwen2 model with a gpt2 tokenizer"):
        convert(source, tmp_path)


@pytest.mark.parametrize("name", ["output.weight", "blk.0.attn_q.bias", "blk.0.attn_q_norm.weight"])
def test_a_tensor_that_such_a_llama_lacks_is_refused(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "made-up.gguf", Made(extra=name))
    with pytest.raises(ValueError, match=f"cannot convert the tensor {name}"):
        convert(source, tmp_path)
