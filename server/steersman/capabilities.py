"""What this server can do: read once from the engine, then trusted by every plan."""

from pydantic import BaseModel, ConfigDict

from steersman.trajectory.phases import Markers


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Limits(_Value):
    """Upper bounds on what one controlled request may ask for."""

    max_branches: int = 16
    """Engine requests that one HTTP request may start: prompts times siblings."""
    max_control_tokens: int = 262_144
    """Tokens that one controlled HTTP request may sample, losers included."""
    max_body_bytes: int = 64 * 2**20
    """Size of a request body."""


class Model(_Value):
    """The served model."""

    names: tuple[str, ...]
    architecture: str
    hidden_size: int
    layers: int
    vocabulary: int
    max_model_len: int


class Methods(_Value):
    """Methods of each part of `control` that this server runs."""

    steer: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    monitor: tuple[str, ...] = ()
    sampler: tuple[str, ...] = ()
    search: tuple[str, ...] = ("first_finish",)


class Capabilities(_Value):
    """Everything a plan needs to know about this server."""

    model: Model
    thinking_tokens: Markers | None
    """Token sequences around the thinking phase; null for a model without one."""
    greedy_by_default: bool
    """Whether a request that names no temperature decodes greedily."""
    methods: Methods = Methods()
    limits: Limits = Limits()
