"""The `control` field of a response: what was really done, and everything it cost."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    # A newer server may report more than this client knows: keep it, do not refuse it.
    model_config = ConfigDict(frozen=True, extra="allow")


class AppliedSearch(_Part):
    """What a search did, over all prompts of the HTTP request."""

    method: str
    launched: int
    """Siblings started."""
    finished: int
    """Siblings that ran to their own end."""
    cancelled: int
    """Siblings aborted in the engine because others had won."""
    winner: int | None = None
    """Branch index (within its prompt) of the first returned choice."""
    winners: tuple[int, ...] = ()
    """Branch index of each returned choice, in the order of the response."""
    decided_by: Literal["first", "vote", "fallback"] | None = None
    """`fallback`: no sibling met the conditions, so the best of those that finished was taken."""
    votes: tuple[tuple[str, int], ...] | None = None
    """With k > 1: each distinct answer among the voters and its votes, most frequent first."""
    branch_max_tokens: int | None = None
    """Token limit that each sibling ran under."""


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


class Applied(_Part):
    """The controls that took effect."""

    profile: str | None = None
    steer: tuple[AppliedSteer, ...] = ()
    thinkedit: AppliedThinkEdit | None = None
    edits: tuple[AppliedEdit, ...] = ()
    search: AppliedSearch | None = None


class Compute(_Part):
    """Everything the request spent, losers included. Token counts; `wall_ms` in milliseconds."""

    sampled_tokens: int = 0
    """All tokens sampled for this request."""
    returned_tokens: int = 0
    """Tokens of the returned choices: what `usage.completion_tokens` counts."""
    cancelled_tokens: int = 0
    """Tokens sampled by siblings that were then aborted."""
    prefill_tokens: int = 0
    """Prompt tokens computed, without those read from the prefix cache."""
    reward_calls: int = 0
    reward_tokens: int = 0
    wall_ms: float = 0.0


class Receipt(_Part):
    """The receipt of one HTTP request."""

    applied: Applied = Applied()
    compute: Compute = Compute()


class Leader(_Part):
    """Progress of the leading sibling, in a stream that asked for `stream_leader`."""

    branch: int
    tokens: int
    """Tokens this sibling has sampled so far."""
    text: str
    """New text since the last report of this branch."""
