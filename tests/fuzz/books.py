"""Books of a receipt: they add up, by themselves and with the answer that they are in."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from steersman_client import Receipt
from steersman_client.receipt import AppliedThinking, Entropy

_ROUNDING = 1e-3


def contradictions(
    receipt: Receipt, answer: Mapping[str, Any] | None, body: Mapping[str, Any]
) -> Iterator[str]:
    """Contradictions within a receipt.

    Args:
        receipt: The receipt.
        answer: The whole answer that it came in; None for a stream's.
        body: Of the request.

    """
    yield from _ignored(receipt, body)
    yield from _compute(receipt)
    yield from _search(receipt)
    yield from _sampler(receipt)
    for thinking in _choices(receipt.applied.thinking, receipt.applied.thinking_by_choice):
        yield from _thinking(thinking, body)
    for entropy in _choices(receipt.entropy, receipt.entropy_by_choice):
        yield from _entropy(entropy)
    for number in _numbers(receipt.model_dump()):
        if not math.isfinite(number):
            yield f"{number} in the receipt"
    if answer is not None:
        yield from _usage(receipt, answer)


def _ignored(receipt: Receipt, body: Mapping[str, Any]) -> Iterator[str]:
    asked = body.get("control")
    asked = asked if isinstance(asked, dict) else {}
    applied = receipt.applied
    done = {
        "steer": applied.steer,
        "thinkedit": applied.thinkedit,
        "thinking": applied.thinking,
        "sampler": applied.sampler,
        "search": applied.search,
        "monitor": receipt.entropy,
    }
    for part, value in done.items():
        if asked.get(part) not in (None, []) and not value:
            yield f"{part} was asked for and is not in the receipt"


def _compute(receipt: Receipt) -> Iterator[str]:
    compute = receipt.compute
    if min(number for number in _numbers(compute.model_dump())) < 0:
        yield "a negative number in compute"
    if compute.returned_tokens + compute.cancelled_tokens > compute.sampled_tokens:
        yield "more tokens returned and cancelled than sampled"
    if receipt.applied.search is None and compute.cancelled_tokens:
        yield "tokens cancelled without a search"


def _search(receipt: Receipt) -> Iterator[str]:
    search = receipt.applied.search
    if search is None:
        return
    if search.finished + search.cancelled != search.launched:
        yield "branches that neither finished nor were cancelled"
    if search.winners and search.winner != search.winners[0]:
        yield "the winner is not the first of the winners"
    if any(branch >= search.launched for branch in search.winners):
        yield "a winner that was not launched"


def _sampler(receipt: Receipt) -> Iterator[str]:
    sampler, compute = receipt.applied.sampler, receipt.compute
    if sampler is None or sampler.method != "cautious":
        return
    points, lost = sampler.branch_points or 0, sampler.lost_tokens or 0
    if (sampler.trials or 0) < points or (sampler.degraded or 0) > points:
        yield "branch points without trials"
    if min(points, lost, sampler.degraded or 0, sampler.mean_entropy or 0) < 0:
        yield "a negative number of the sampler"
    if lost > compute.lost_tokens:
        yield f"{lost} tokens lost in trials, of {compute.lost_tokens} lost ones"
    if receipt.applied.search is None and lost != compute.lost_tokens:
        yield f"{compute.lost_tokens} tokens lost without a search, and {lost} in trials"


def _thinking(thinking: AppliedThinking, body: Mapping[str, Any]) -> Iterator[str]:
    if min(thinking.tokens, thinking.forced_tokens) < 0:
        yield "negative thinking tokens"
    asked = body.get("control")
    limits = (asked.get("thinking") or {}) if isinstance(asked, dict) else {}
    if isinstance(budget := limits.get("budget"), int):
        most = budget + limits.get("grace", 0)
        if thinking.tokens > most and not thinking.forced_tokens:
            yield f"{thinking.tokens} thinking tokens of at most {most}, and none forced"


def _entropy(entropy: Entropy) -> Iterator[str]:
    for phase in (entropy.thinking, entropy.answer):
        if phase is None:
            continue
        if not min(phase.mean, phase.p95, phase.max) >= -_ROUNDING:
            yield "a negative entropy"
        if max(phase.mean, phase.p95) > phase.max + _ROUNDING:
            yield "a mean entropy above the highest"
    for _, logprob, _ in entropy.tokens or ():
        if logprob > _ROUNDING:
            yield "a log-probability above 0"


def _usage(receipt: Receipt, answer: Mapping[str, Any]) -> Iterator[str]:
    usage = answer.get("usage") or {}
    tokens = usage.get("completion_tokens", usage.get("output_tokens"))
    if tokens is not None and tokens != receipt.compute.returned_tokens:
        yield f"usage says {tokens} tokens, the receipt {receipt.compute.returned_tokens}"
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return
    search = receipt.applied.search
    if search is not None and len(search.winners) != len(choices):
        yield f"{len(search.winners)} winners and {len(choices)} choices"
    for part in (receipt.applied.thinking_by_choice, receipt.entropy_by_choice):
        if part is not None and len(part) != len(choices):
            yield f"a list by choice of {len(part)} for {len(choices)} choices"
    if len(choices) > 1:
        alone = (receipt.applied.thinking, receipt.applied.thinking_by_choice)
        watched = (receipt.entropy, receipt.entropy_by_choice)
        if any(first is not None and rest is None for first, rest in (alone, watched)):
            yield "several choices, and only the first in the receipt"


def _choices(first: Any, every: Sequence[Any] | None) -> Sequence[Any]:
    return every if every is not None else [first] if first is not None else []


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
