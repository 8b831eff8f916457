"""Converting a GGUF file of a Llama to a model directory: `python -m steersman.models.convert`.

NumPy does it, in a program of its own that needs neither torch nor transformers: to import these
would take longer than the conversion. Every file has the very bytes that transformers would write.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from safetensors import TensorSpec, serialize_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

_CONTROL = 3
"""GGUF's type of a token that is no text."""
_NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "blk": "layers",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Parts of a tensor's name in the file, and in the model directory."""


class _Reader(GGUFReader):
    """A reader of plain slices: those of a memory map, of which it makes 300,000, are slow."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.view(np.ndarray) if name == "data" else value)


def convert(source: Path, target: Path) -> None:
    """Write the weights of a GGUF file as bfloat16 safetensors, with its tokenizer.

    The chat template that the file carries is written too. Quantised weights are dequantised:
    nothing that they lost comes back.

    Raises:
        ValueError: The model is no Llama with tied embeddings and a byte-level BPE tokenizer.

    """
    reader = _Reader(source)
    fields = _fields(reader)
    kind = fields["general.architecture"], fields["tokenizer.ggml.model"]
    if kind != ("llama", "gpt2"):
        raise ValueError(f"cannot convert a {kind[0]} model with a {kind[1]} tokenizer")
    weights = {_name(one.name): _bfloat16(_ordered(one, fields)) for one in reader.tensors}
    _save(weights, target / "model.safetensors")
    _write(target / "config.json", _config(fields))
    _write(target / "generation_config.json", _generation(fields))
    _write(target / "tokenizer_config.json", _tokenizer_config(fields))
    _tokenizer(fields).save(str(target / "tokenizer.json"))
    (target / "chat_template.jinja").write_text(fields["tokenizer.chat_template"])


def _fields(reader: GGUFReader) -> Mapping[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items()}


def _name(name: str) -> str:
    """The name of a tensor in the model directory.

    Raises:
        ValueError: A Llama with tied embeddings has no such tensor.

    """
    *parts, kind = name.split(".")
    known = [part if part.isdecimal() else _NAMES.get(part) for part in parts]
    if kind != "weight" or None in known:
        raise ValueError(f"cannot convert the tensor {name}")
    return ".".join(["model", *filter(None, known), kind])


def _ordered(tensor: Any, fields: Mapping[str, Any]) -> NDArray[np.float32]:
    """The numbers of a tensor; a GGUF file interleaves the halves of each query and key head."""
    numbers = dequantize(tensor.data, tensor.tensor_type)
    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }.get(tensor.name.split(".")[-2])
    if heads is None:
        return numbers
    size, width = numbers.shape
    return numbers.reshape(heads, size // heads // 2, 2, width).swapaxes(1, 2).reshape(size, width)


def _bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Finite numbers rounded to the nearest bfloat16, ties to even; its bits."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _save(weights: Mapping[str, NDArray[np.uint16]], file: Path) -> None:
    """Write bfloat16 tensors, given as their bits: NumPy has no such type."""
    specs = {
        name: TensorSpec(
            dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes
        )
        for name, bits in weights.items()
    }
    serialize_file(specs, file, {"format": "pt"})


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _tokens(fields: Mapping[str, Any]) -> dict[str, int]:
    """Ids of special tokens, named as in a model's configuration."""
    return {
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def _config(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return _tokens(fields) | {
        "_model_name_or_path": fields["general.name"],
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "head_dim": fields["llama.rope.dimension_count"],
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "pretraining_tp": 1,
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {
            "rope_theta": fields["llama.rope.freq_base"],
            "rope_type": "default",
        },
        "tie_word_embeddings": True,
        "transformers_version": version("transformers"),
        "unk_token_id": fields["tokenizer.ggml.unknown_token_id"],
        "use_cache": True,
        "vocab_size": fields["llama.vocab_size"],
    }


def _generation(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return _tokens(fields) | {
        "_from_model_config": True,
        "output_attentions": False,
        "output_hidden_states": False,
        "transformers_version": version("transformers"),
        "use_cache": True,
    }


def _tokenizer_config(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    texts = fields["tokenizer.ggml.tokens"]
    special = {name.removesuffix("_id"): texts[id_] for name, id_ in _tokens(fields).items()}
    return special | {
        "backend": "tokenizers",
        "is_local": True,
        "local_files_only": True,
        "model_max_length": int(1e30),
        "tokenizer_class": "TokenizersBackend",
        "unk_token": texts[fields["tokenizer.ggml.unknown_token_id"]],
    }


def _tokenizer(fields: Mapping[str, Any]) -> Tokenizer:
    texts = fields["tokenizer.ggml.tokens"]
    tokenizer = Tokenizer(
        models.BPE(
            {text: id_ for id_, text in enumerate(texts)},
            [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]],
            continuing_subword_prefix="",
            end_of_word_suffix="",
        )
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _special(fields)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=fields["tokenizer.ggml.add_space_prefix"]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("$A:0", "$A:0 $B:1", [])
    return tokenizer


def _special(fields: Mapping[str, Any]) -> Iterator[str]:
    kinds = fields["tokenizer.ggml.token_type"]
    return (
        text
        for text, kind in zip(fields["tokenizer.ggml.tokens"], kinds, strict=True)
        if kind == _CONTROL
    )


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
