"""The model's shape, and its directory on disk."""

import math
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evals.reasoner.tokenizer import END_OF_TEXT, TURN_END

MODEL = Path(__file__).parents[2] / "server" / "steersman" / "models" / "reasoner"


def create(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """An untrained model of 1.6 M parameters, float32."""
    config = Qwen3Config(
        vocab_size=math.ceil(len(tokenizer) / 64) * 64,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, TURN_END),
        pad_token_id=token_id(tokenizer, END_OF_TEXT),
    )
    return Qwen3ForCausalLM(config)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Writes bf16 weights, configuration, generation defaults and tokenizer; converts `model`."""
    cast("nn.Module", model).to(torch.bfloat16)
    model.save_pretrained(directory)
    GenerationConfig(
        do_sample=True,
        temperature=1.0,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    ).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def load(directory: Path, device: torch.device) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """The saved model, as float32, with its tokenizer."""
    model = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    cast("nn.Module", model).to(device)
    return model, load_tokenizer(directory)


def load_tokenizer(directory: Path = MODEL) -> PreTrainedTokenizerFast:
    """The saved tokenizer."""
    return cast("PreTrainedTokenizerFast", AutoTokenizer.from_pretrained(directory))


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of a token of the vocabulary."""
    index: int = tokenizer.get_vocab()[token]
    return index


def available() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
