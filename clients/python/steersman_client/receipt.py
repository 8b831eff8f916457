"""The `control` field of a response: the controls as they were applied, and all that it cost."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Measured = Annotated[float | None, BeforeValidator(_finite)]
"""A measured number; null where the model's numbers overflowed, since JSON has no NaN."""


class _Part(BaseModel):
    # A newer server may report more than this client knows: keep it, do not refuse it.
    model_config = ConfigDict(frozen=True, extra="allow")


class ChainStep(_Part):
    """A step of a chain, in a stream that asked for the event `steps`."""

    chain: int
    step: int
    accepted: bool
    """True if the chain went on to the response that the step drew."""
    target: Measured = None
    """Of the response after the step: its reward, or the logarithm of its power."""
    tokens: int
    """Of that response."""
    acceptance: float
    """Share of the chain's steps that were accepted so far."""


class ChainState(ChainStep):
    """A step of a chain in the receipt, with the response after it."""

    text: str


class AppliedSearch(_Part):
    """Outcome of a search, over all prompts of the HTTP request."""

    method: str
    launched: int
    """Branches started."""
    finished: int
    """Branches that ran to their own end."""
    cancelled: int
    """Branches aborted in the engine because others had won."""
    winner: int | None = None
    """Branch index (within its prompt) of the first returned choice."""
    winners: tuple[int, ...] = ()
    """Branch index of each returned choice, in the order of the response."""
    decided_by: str | None = None
    """`first`, `vote`, a word of another method, or `fallback`: no branch met the conditions, so
    the best of those that finished was taken."""
    votes: tuple[tuple[str, int], ...] | None = None
    """Where branches vote: each distinct answer and its votes, most frequent first."""
    branch_max_tokens: int | None = None
    """Token limit that each branch ran under."""
    steps: int | None = None
    """Steps of chains."""
    acceptance: float | None = None
    """Share of the steps that were accepted; null without any."""
    acceptance_by_chain: tuple[float | None, ...] | None = None
    target_start: Measured = None
    """Target of the first responses, a mean over the chains: the reward, or the logarithm of the
    power."""
    target_end: Measured = None
    """Of the last ones."""
    target_chosen: Measured = None
    """Of the returned one."""
    effective_samples: float | None = None
    """(sum of n)^2 / sum of n^2 over the responses, each standing n times in the chains."""
    reused_tokens: int | None = None
    """Tokens that the steps kept of the response before."""
    resampled_tokens: int | None = None
    """Tokens that they drew behind those."""
    defaults_set_aside: tuple[str, ...] | None = None
    """Sampling parameters of the model's own defaults that the search draws without."""
    reward_errors: tuple[str, ...] | None = None
    """Faults of rewards that ended chains, with `on_reward_error: "best_so_far"`."""
    chain: tuple[ChainState, ...] | None = None
    """The steps of all chains, with `return_chain`."""


class AppliedSampler(_Part):
    """Outcome of a sampler, over all branches of the HTTP request."""

    method: str
    branch_points: int | None = None
    """Tokens at which trials were drawn."""
    trials: int | None = None
    """Trials, those included that the response would have gone on with anyway."""
    lost_tokens: int | None = None
    """Tokens sampled for trials, and after their ends, that became part of no branch."""
    winner_mean_tokens: float | None = None
    """Mean length of the trials that won; null if there were none."""
    loser_mean_tokens: float | None = None
    """Mean length of the trials that came to their ends and lost."""
    mean_entropy: Measured = None
    """Mean entropy at the branch points, in nats, of the distributions drawn from."""
    degraded: int | None = None
    """Branch points at which the engine refused trials: the others went on without them."""


class AppliedSteer(_Part):
    """One activation-steering term, as it was applied."""

    vector: str
    digest: str
    """Of the vector's content."""
    layers: tuple[int, ...]
    strength: float
    phase: str
    at: str
    prompt: bool
    tokens: int
    """Tokens of the returned choices (and their prompts) that this term was added to, counted in
    the engine. Tokens read from the prefix cache count, as they were steered when computed."""
    warning: str | None = None


class AppliedThinkEdit(_Part):
    """The edit that the request chose."""

    edit: str
    digest: str
    """Of the edit's content."""
    strength: float
    heads: int
    """Attention heads that it edits."""
    tokens: int
    """Tokens of the returned choices and their prompts that went through it, counted in the engine.
    Tokens read from the prefix cache count."""


class AppliedEdit(_Part):
    """An edit that the model's weights had when the request ended."""

    edit: str
    digest: str
    """Of the edit's content."""
    heads: int
    """Attention heads that it edits."""


class AppliedBalance(_Part):
    """The vector whose strength followed the thinking."""

    vector: str
    digest: str
    """Of the vector's content."""
    law: str
    mean_strength: Measured = None
    """Over the thinking tokens of this choice; null if there were none."""
    tokens: int
    """Tokens of this choice that the vector was added to, counted in the engine. Tokens read from
    the prefix cache count."""
    track: tuple[tuple[int, Measured], ...] = ()
    """(index of a generated token, strength from it on): at the first thinking token, and wherever
    the strength changed."""


class AppliedThinking(_Part):
    """Outcome of the thinking phase of one choice."""

    tokens: int
    """Thinking tokens, markers not counted."""
    closed_by: Literal["model", "budget", "entropy", "loop", "length", "certainty"] | None = None
    """Null: it was never closed, or the model did not think. `length`: the answer would not have
    fitted into the token limit otherwise."""
    closed_at: int | None = None
    """Index of the generated token at which the closing marker begins."""
    forced_tokens: int = 0
    """Tokens that were put there and not drawn: closing markers and nudges."""
    min_answer_unmet: bool | None = None
    """True: the answer has fewer tokens than `min_answer_tokens`, since a grammar allowed no more,
    or a stop string or the token limit ended it."""
    probes: int | None = None
    """How often the answer was asked for beside the thinking; null without `certainty`."""
    balance: AppliedBalance | None = None


class Applied(_Part):
    """The controls that took effect."""

    profile: str | None = None
    max_tokens: int | None = None
    """Token limit that the first returned choice ran under, whoever set it; null if none ran."""
    max_tokens_by_choice: tuple[int, ...] | None = None
    """That limit for each returned choice, in the response's order; null where all are the same."""
    seeds: tuple[int, ...] | None = None
    """Seeds that the returned choices ran with, in the order of the response; null if the request
    named none."""
    steer: tuple[AppliedSteer, ...] = ()
    thinkedit: AppliedThinkEdit | None = None
    edits: tuple[AppliedEdit, ...] = ()
    thinking: AppliedThinking | None = None
    """Of the first returned choice."""
    thinking_by_choice: tuple[AppliedThinking, ...] | None = None
    """Of all returned choices, in the order of the response; null with a single one."""
    sampler: AppliedSampler | None = None
    search: AppliedSearch | None = None
    stopped_by: str | None = None
    """The limit (`max_seconds`, `max_sampled_tokens`) that ended the request early; null if none
    did."""


class Compute(_Part):
    """Everything the request spent, losers included. Token counts; `wall_ms` in milliseconds."""

    sampled_tokens: int = 0
    """All tokens sampled for this request."""
    returned_tokens: int = 0
    """Tokens of the returned choices: what `usage.completion_tokens` counts."""
    cancelled_tokens: int = 0
    """Tokens sampled by branches that were then aborted."""
    lost_tokens: int = 0
    """Tokens sampled by branches that finished and are not returned, and by forks beside them:
    `sampled_tokens` is the sum of returned, cancelled and lost ones."""
    sequential_tokens: int = 0
    """Tokens of the longest chain in which each waited for the one before. What runs side by side
    counts once."""
    prefill_tokens: int = 0
    """Prompt tokens computed, without those read from the prefix cache."""
    reward_calls: int = 0
    """Responses given to rewards, each once for every reward."""
    reward_tokens: int = 0
    """Tokens of those responses, as far as the rewards saw them."""
    wall_ms: float = 0.0


class PhaseEntropy(_Part):
    """Entropy of the tokens of one phase, in nats."""

    mean: Measured = None
    p95: Measured = None
    max: Measured = None
    tokens: int
    """Tokens of the phase; markers belong to neither."""


class Entropy(_Part):
    """Entropy summary of one choice, after grammar masks. By default it is of the model's own
    distributions, before temperature and penalties; with `monitor.of` "processed" of those that
    the tokens are really drawn from."""

    thinking: PhaseEntropy | None = None
    answer: PhaseEntropy | None = None
    pear: Measured = None
    """max(0, mean of the thinking phase - mean of the answer), in nats (PEAR, arXiv 2510.08026,
    with its weight 1); a phase without tokens counts as 0. Null if thinking was not closed."""
    tokens: tuple[tuple[int, Measured, Measured], ...] | None = None
    """(id, log-probability, entropy) of each generated token, markers included, with
    `monitor.tokens`. The log-probability of a forced token is null with `monitor.of`
    "processed"."""


class Receipt(_Part):
    """The receipt of one HTTP request."""

    request_id: str | None = None
    """Id of the request: also in the header `X-Request-Id` of the answer, and in the server's
    log."""
    applied: Applied = Applied()
    compute: Compute = Compute()
    entropy: Entropy | None = None
    """Of the first returned choice, with `monitor`."""
    entropy_by_choice: tuple[Entropy, ...] | None = None
    """Of all returned choices, in the order of the response; null with a single one."""


class Leader(_Part):
    """Progress of the leading branch, in a stream that asked for the event `leader`."""

    branch: int
    tokens: int
    """Tokens this branch has sampled so far."""
    text: str
    """New text since the last report of this branch."""


class Progress(_Part):
    """State of the branches of a request, in a stream that asked for the event `progress`."""

    finished: int
    """Branches that ran to their own end."""
    running: int
    tokens: int
    """Tokens sampled so far, in all branches."""


class Branch(_Part):
    """News of one branch, in a stream that asked for the event `branches`."""

    branch: int
    tokens: int
    """Tokens this branch has sampled so far."""
    text: str
    """New text since the last report of this branch."""
    state: Literal["running", "finished", "cancelled", "failed"]


class TrialResult(_Part):
    """One of the trials at a token."""

    trial: int
    """Its number: 0 is the one that the response would have gone on with anyway."""
    tokens: int
    logprob: Measured = None
    """Mean log-probability of its drawn tokens; the largest wins. Null if none was drawn."""


class Trials(_Part):
    """A choice between trials, in a stream that asked for the event `trials`."""

    index: int
    """Of the branch."""
    at: int
    """Index of the generated token at which the trials begin."""
    trials: tuple[TrialResult, ...]
    winner: int
    """Number of the trial that the branch goes on with."""


class Live(_Part):
    """Entropy of one choice so far, in a stream."""

    index: int
    """Of the choice."""
    phase: Literal["thinking", "answer"]
    entropy: Measured = None
    """Mean of this phase so far, in nats; 0 before its first token."""
    tokens: tuple[tuple[int, Measured, Measured], ...] | None = None
    """(id, log-probability, entropy) of each token since the last report, with
    `monitor.tokens`."""
