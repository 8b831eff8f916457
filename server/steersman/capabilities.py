"""Capabilities of the server: read once from the engine, then trusted by every plan."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from steersman.errors import ControlError
from steersman.keys.key import KeyFacts
from steersman.trajectory.phases import Markers


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ToolGrammar(StrEnum):
    """Tools whose calls are bound to a grammar though the model need not call any."""

    NONE = "none"
    STRICT = "strict"
    """Tools that say `strict`, and all tools of a request without parallel calls."""
    ALL = "all"


class Limits(_Value):
    """Upper bounds on what one controlled request may ask for."""

    max_branches: int = 16
    """Branches that one HTTP request may start: prompts times the branches of its search."""
    max_forks: int = 64
    """Engine requests of one HTTP request that may be in flight, forks included: over it they wait,
    and the answer is the same."""
    max_control_tokens: int = 262_144
    """Tokens that one controlled HTTP request may sample, losers included."""
    max_body_bytes: int = 64 * 2**20
    """Size of a request body."""
    max_steer_terms: int = 16
    """Steering terms of one request."""
    max_steering_norm: float = 4.0
    """Norm of the sum that steering adds at a layer, in multiples of the residual stream's."""


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
    thinkedit: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    monitor: tuple[str, ...] = ()
    sampler: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


class Steering(_Value):
    """Steering capabilities of the engine."""

    rows: int
    """Distinct sums of steering vectors that can be in use at a time."""
    bytes: int
    """Memory of the rows and of the vectors loaded at the start, on one rank."""
    runner: str
    """vLLM's model runner: V1 or V2."""
    model_digest: str
    """Digest of the model: a vector file that names another is refused."""
    edit_rows: int = 0
    """Edits that can be on offer to requests at a time."""
    dtype: str = "float32"
    """Number type of the residual stream."""
    residual_norms: dict[int, float] = {}
    """Mean norm of the residual stream by layer, in a text that the model wrote itself, as measured
    at the start; empty where that cannot be measured."""


class Digests(_Value):
    """Digests of all that an operator can change while the server runs, 16 hex digits each.

    Servers of one model with the same digests give the same answers. Neither the order nor the
    time of changes matters.
    """

    all: str
    """Of everything below."""
    vectors: str
    """Of the vectors, by their names."""
    edits: str
    """Of the edits that requests can choose, by their names."""
    live_edits: str
    """Of the edits that the weights have, by their names."""
    profiles: str
    """Of the profiles, by their names, without their descriptions."""


class Capabilities(_Value):
    """Everything a plan needs to know about this server."""

    model: Model
    thinking_tokens: Markers | None
    """Token sequences around the thinking phase; null for a model without one."""
    greedy_by_default: bool
    """Whether a request that names no temperature decodes greedily."""
    defaults: dict[str, int | float] = {}
    """Sampling parameters of requests that name none, as the model's makers recommend them."""
    grammar_in_thinking: bool = False
    """True: a grammar binds the thinking too (vLLM's `enable_in_reasoning`): a request with one
    then leaves no room for `control.thinking`."""
    tool_grammar: ToolGrammar = ToolGrammar.NONE
    """Tools whose calls vLLM binds to a grammar though the model need not call any: `none`, those
    that are `strict`, or `all`. Calls that a request demands are bound in any case."""
    steering: Steering | None = None
    """Null if the server was started without steering."""
    methods: Methods = Methods()
    rewards: tuple[str, ...] = ()
    """Rewards that this server keeps, by their names."""
    limits: Limits = Limits()
    digests: Digests | None = None
    """Digests of what this server has loaded, as of now: replicas that answer alike agree."""
    key: KeyFacts | None = None
    """Key of the request that asks, with its limits; null on a server that wants none."""

    def markers(self, what: str, param: str) -> Markers:
        """The markers of the thinking phase, for something that cannot be done without.

        Args:
            what: It, for the message.
            param: The field that asks for it.

        Raises:
            ControlError: The model has none.

        """
        if self.thinking_tokens is None:
            raise ControlError(
                f"{what} needs a model with a thinking phase; this server knows of none "
                "(start it with --reasoning-parser if the model has one)",
                param=param,
            )
        return self.thinking_tokens
