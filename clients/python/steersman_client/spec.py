"""The `control` field of a request: every reasoning control, as one strict, frozen schema.

The same models are used at both ends of the wire: the client builds a request with them, the
server plans from them. Unknown keys and wrong types are errors, never ignored. What depends on
several fields, on the rest of the request or on the model is the server's to check.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError("must be low, then high")
    return bounds


def _apart(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[1] - bounds[0] < _NEAREST:
        raise ValueError(f"must be at least {_NEAREST:g} apart")
    return bounds


_NEAREST = 1e-4
"""Between two confidences; the law has a curve from one to the other, in float32."""

_Fraction = Annotated[float, Field(ge=0, le=1)]
_Bounds = Annotated[tuple[_Fraction, _Fraction], AfterValidator(_ascending)]
_Confidences = Annotated[_Bounds, AfterValidator(_apart)]
_Gain = Annotated[float, Field(ge=-1e6, le=1e6)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Steer(_Part):
    """One activation-steering term: `strength * vector` is added to the residual stream."""

    vector: Annotated[str, Field(min_length=1, description="Name of a vector known to the server.")]
    strength: Annotated[
        float | None,
        Field(description="Multiplier of the vector; the vector's own when null."),
    ] = None
    layers: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...] | None,
        Field(strict=False, description="Decoder layers to steer; all of the vector's when null."),
    ] = None
    phase: Literal["all", "thinking", "answer"] | None = Field(
        default=None, description="Which tokens, by reasoning phase; the vector's own when null."
    )
    at: Literal["all", "boundary"] | None = Field(
        default=None,
        description="Every token of the phase, or only those whose text ends a line or a "
        "sentence; the vector's own when null.",
    )
    prompt: bool = Field(default=False, description="Whether prompt tokens are steered too.")


class ThinkEdit(_Part):
    """An edit of the model's output projections (arXiv 2503.22048), for this request alone."""

    edit: Annotated[str, Field(min_length=1, description="Name of an edit on offer.")]
    strength: float = Field(default=1.0, description="Multiplier of the edit's own weight.")


class EntropyExit(_Part):
    """Leave the thinking phase once the mean entropy of a window stays low."""

    entropy_below: Annotated[float, Field(gt=0, le=100, description="Threshold, in nats.")]
    window: Annotated[int, Field(ge=1, le=256, description="Window length, in tokens.")] = 48


class Certainty(_Part):
    """Leave the thinking phase once the answer is settled (Dynasor, arXiv 2412.20993): it is asked
    for now and then, beside the thinking, until the last few answers are the same."""

    every: Annotated[
        int, Field(ge=8, le=4096, description="Tokens from one question to the next.")
    ] = 64
    agree: Annotated[int, Field(ge=2, le=16, description="Answers that must be the same.")] = 3
    max_tokens: Annotated[int, Field(ge=1, le=256, description="Of such an answer.")] = 32


class Balance(_Part):
    """Closed loop: the strength of a vector follows how sure the model is while it thinks."""

    vector: Annotated[str, Field(min_length=1, description="Name of a calibrated vector.")]
    law: Literal["proportional", "confidence"] = Field(
        default="proportional",
        description="Follow the entropy of each sentence, or (ReBalance, arXiv 2603.12372) the "
        "probability of its most likely tokens.",
    )
    target_entropy: Annotated[
        float | None,
        Field(ge=0, le=100, description="Set point of the law `proportional`, in nats."),
    ] = None
    gain: _Gain = Field(default=0.5, description="Law `proportional`: strength for a nat of error.")
    integral_gain: _Gain = Field(
        default=0.0, description="Law `proportional`: strength for a nat of summed errors."
    )
    strength: float | None = Field(
        default=None, description="Base strength; the vector's own when null."
    )
    confidence: Annotated[_Confidences, Field(strict=False)] = Field(
        default=(0.65, 0.90),
        description="Law `confidence`: mean top probability, from hesitating to sure.",
    )
    variance: Annotated[_Bounds, Field(strict=False)] = Field(
        default=(0.0005, 0.01),
        description="Law `confidence`: variance of that between two sentences, steady to unsteady.",
    )


class Thinking(_Part):
    """Limits of the thinking phase, in tokens."""

    budget: Annotated[
        int | None, Field(ge=0, le=2**24, description="Thinking tokens; no limit when null.")
    ] = None
    grace: Annotated[
        int,
        Field(
            ge=0,
            le=4096,
            description="Tokens past the budget in which the end of a sentence is awaited.",
        ),
    ] = 0
    min: Annotated[
        int | None,
        Field(ge=0, le=2**24, description="Thinking tokens before which the model cannot close."),
    ] = None
    nudge: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="What stands in place of an end of thinking that comes before `min` (s1, "
            "arXiv 2501.19393).",
        ),
    ] = "Wait"
    exit: EntropyExit | None = None
    certainty: Certainty | None = None
    on_loop: Literal["close", "ignore"] | None = Field(
        default=None, description="What to do once the thinking goes in circles; null ignores it."
    )
    min_answer_tokens: Annotated[
        int,
        Field(
            ge=0,
            le=4096,
            description="Answer tokens before which the response cannot end once thinking is "
            "closed; thinking is closed in time for them to fit into the token limit.",
        ),
    ] = 1
    balance: Balance | None = None


class Monitor(_Part):
    """Options of the entropy monitor."""

    tokens: bool = Field(default=False, description="Return the track of every token.")
    of: Literal["raw", "processed"] = Field(
        default="raw",
        description="Distribution that is measured: the model's own, or the one that tokens are "
        "really drawn from, after penalties, temperature, min-p, top-k and top-p.",
    )


class FirstFinish(_Part):
    """First Finish Search (arXiv 2505.18149): of n branches, the first that finishes wins."""

    method: Literal["first_finish"]
    n: PositiveInt = Field(default=4, description="Branches launched for each prompt.")
    k: PositiveInt = Field(
        default=1, description="Finishers awaited; with more than one, they vote (FFS-k@N)."
    )
    require_answer: bool = Field(
        default=True, description="A branch without an answer cannot win while others run."
    )
    min_thinking: Annotated[
        int,
        Field(
            ge=0,
            description="A branch that thought fewer tokens cannot win while others run.",
        ),
    ] = 0
    stream_leader: bool = Field(
        default=False,
        description="While streaming, show the leading branch's text in `control.leader`.",
    )


class Majority(_Part):
    """Self-consistency (arXiv 2203.11171): n branches run to their ends, and the most frequent
    answer wins."""

    method: Literal["majority"]
    n: PositiveInt = Field(default=8, description="Branches launched for each prompt.")
    require_answer: bool = Field(
        default=True, description="A branch without an answer has no vote."
    )
    min_thinking: Annotated[
        int, Field(ge=0, description="A branch that thought fewer tokens has no vote.")
    ] = 0


class RewardTerm(_Part):
    """A reward of the server, as a term of a weighted sum."""

    name: Annotated[str, Field(min_length=1, description="Name of a reward of the server.")]
    weight: float = Field(default=1.0, ge=-1e6, le=1e6, description="Multiplier of its score.")
    data: dict[str, Any] = Field(
        default={}, description="Facts about this request that the reward judges by."
    )
    see: Literal["answer", "all"] | None = Field(
        default=None,
        description="The part that is judged: the answer, or the thinking too; as the server has "
        "it when null.",
    )


def _terms(rewards: object) -> object:
    """Rewards in their one form: a name, one term, or a list of either."""
    if isinstance(rewards, (str, dict, RewardTerm)):
        rewards = [rewards]
    if isinstance(rewards, (list, tuple)):
        return [{"name": one} if isinstance(one, str) else one for one in rewards]
    return rewards


_FEW = Field(min_length=1, max_length=8, strict=False)

Rewards = Annotated[
    tuple[RewardTerm, ...],
    _FEW,
    BeforeValidator(
        _terms, json_schema_input_type=str | RewardTerm | Annotated[list[str | RewardTerm], _FEW]
    ),
]
"""Rewards that a request names: a weighted sum of one or several."""


class Target(_Part):
    """Distribution of the responses that a chain walks towards: of a power, or of a reward."""

    power: Annotated[
        float | None,
        Field(
            ge=0.5,
            le=100,
            description="p(response)^power: power sampling (arXiv 2510.14901), which needs no "
            "reward.",
        ),
    ] = None
    reward: Annotated[
        Rewards | None,
        Field(
            description="p(response) exp(reward / beta): QAlign (arXiv 2504.03790). The rewards "
            "of the server whose weighted sum is meant."
        ),
    ] = None
    beta: Annotated[
        float, Field(gt=0, description="The smaller, the more the reward counts beside p.")
    ] = 0.5


class Align(_Part):
    """Alignment by MCMC (QAlign, arXiv 2504.03790): chains of responses, each a step from the one
    before, whose distribution is the target."""

    method: Literal["align"]
    target: Target
    steps: Annotated[int, Field(ge=1, le=4096, description="Steps of each chain.")] = 32
    chains: PositiveInt = Field(default=1, description="Chains for each prompt.")
    select: Literal["majority", "mbr", "last", "best"] = Field(
        default="majority",
        description="The response that is returned: one with the most frequent answer, the one "
        "most like all others, the last one, or the one that the target likes most.",
    )
    burn_in: Annotated[
        int, Field(ge=0, description="States at the beginning of a chain that do not count.")
    ] = 0
    look_ahead: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Steps of a chain that are drawn at once; when null it follows "
            "the acceptance, the less the more chains there are.",
        ),
    ] = None
    on_reward_error: Literal["fail", "best_so_far"] = Field(
        default="fail",
        description="When a reward fails: fail, or select among the states so far.",
    )
    return_chain: bool = Field(default=False, description="List the states in the receipt.")


class Cautious(_Part):
    """Cautious Next Token Prediction (arXiv 2507.03038): several trials where the model is unsure,
    and on from the likeliest."""

    method: Literal["cautious"]
    min_entropy: Annotated[
        float,
        Field(ge=0, le=100, description="Entropy, in nats, up to which a token is just drawn."),
    ] = 0.01
    max_entropy: Annotated[
        float, Field(gt=0, le=100, description="Entropy, in nats, from which all trials are drawn.")
    ] = 1.5
    max_trials: Annotated[
        int, Field(ge=1, le=64, description="Trials at a token, the one drawn there included.")
    ] = 10
    max_trial_tokens: Annotated[
        int, Field(ge=1, le=4096, description="Tokens at which a trial ends at the latest.")
    ] = 64
    stop_marks: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=16)], ...] | None,
        Field(
            strict=False,
            max_length=64,
            description="A trial ends at a token whose text contains one of these; "
            "punctuation and the end of a line when null.",
        ),
    ] = None
    schedule: Literal["code", "paper"] = Field(
        default="code",
        description="How the number of trials follows the entropy: as in the authors' code, or as "
        "in their paper.",
    )


class Limits(_Part):
    """Limits of the request as a whole; at one of them the best response so far is returned."""

    max_seconds: Annotated[
        float | None, Field(gt=0, description="Seconds from the request's arrival.")
    ] = None
    max_sampled_tokens: Annotated[
        int | None,
        Field(ge=1, description="Tokens sampled for the request, losers and forks included."),
    ] = None


Event = Literal["progress", "leader", "branches", "trials", "steps"]
"""A kind of event that a stream can tell of beside the answer."""

Search = Annotated[FirstFinish | Majority | Align, Field(discriminator="method")]
"""The searches that are built in."""


class ControlSpec(_Part):
    """All controls of one request. Every part is optional; parts combine."""

    profile: Annotated[
        str | None, Field(min_length=1, description="A named preset; explicit fields win over it.")
    ] = None
    steer: Annotated[tuple[Steer, ...], Field(strict=False)] = ()
    thinkedit: ThinkEdit | None = None
    thinking: Thinking | None = None
    monitor: Monitor | None = None
    sampler: Cautious | None = None
    search: Search | None = None
    limits: Limits | None = None
    events: Annotated[
        tuple[Event, ...],
        Field(strict=False, description="Kinds of events that a stream tells of."),
    ] = ()
