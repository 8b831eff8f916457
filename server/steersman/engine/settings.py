"""Settings of the engine's processes, known at their start; they travel in vLLM's configuration."""

from dataclasses import asdict, dataclass
from typing import Any, Self

KEY = "steersman"
NAP = "STEERSMAN_NAP_WHILE_WAITING"
"""Environment variable; `1` has the engine's processes pause while they wait for one another."""
TAKE = "STEERSMAN_TAKE_NOTIFICATIONS"
"""Environment variable; `1` has them take in the notifications that vLLM sends with messages."""
_GENERATION = 1
"""Part of vLLM's key of compiled graphs: to be raised when the op or where it stands changes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The engine's part of the server's options.

    Attributes:
        rows: Distinct steering sums that can be in use at a time.
        edit_rows: Edits that requests can choose from at a time; 0 installs nothing for them.
        capture: Whether the engine captures the residual stream instead of steering it.
        generation: Keeps compiled graphs of other versions apart.

    """

    rows: int = 0
    edit_rows: int = 0
    capture: bool = False
    generation: int = _GENERATION

    @classmethod
    def of(cls, vllm_config: Any) -> Self | None:
        """The settings in a `VllmConfig`; None if the engine was started without."""
        config = vllm_config.additional_config
        settings = config.get(KEY) if isinstance(config, dict) else None
        return cls(**settings) if settings else None

    def added_to(self, additional_config: dict[str, Any]) -> dict[str, Any]:
        """vLLM's `additional_config` with these settings in it."""
        return {**additional_config, KEY: asdict(self)}
