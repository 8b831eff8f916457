"""Majority voting, or self-consistency (Wang et al., arXiv 2203.11171, section 2).

Launch n independent samples of the same prompt and let all of them end; the answer that most of
them give is the answer.
"""

from collections.abc import Sequence

from steersman.capabilities import Capabilities
from steersman.needs import Need
from steersman.request import Request
from steersman.search.eligibility import eligibility
from steersman.search.policy import Policy, Search
from steersman.trajectory.answers import canonical
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.together import ends
from steersman.trajectory.trajectory import OutputT, Trajectory
from steersman_client import Majority


class MajorityPolicy(Policy[Majority]):
    """Run n samples to their ends, and return the shortest with the most frequent answer."""

    spec = Majority
    needs = frozenset({Need.SAMPLING})

    def branches(self, spec: Majority) -> int:
        return spec.n

    def check(self, spec: Majority, request: Request, capabilities: Capabilities) -> None:
        if spec.min_thinking:
            capabilities.markers("min_thinking", "control.search.min_thinking")

    async def run(self, spec: Majority, search: Search[OutputT]) -> Outcome[OutputT]:
        ended = [one async for one in ends(search.start_branches(spec.n))]
        ranks = {
            one.branch: eligibility(one, search.reading, spec.require_answer, spec.min_thinking)
            for one in ended
        }
        voters = [one for one in ended if ranks[one.branch] == 0]
        classes = _classes(voters, search)
        firsts = [one for answer in classes.values() for one in answer[:1]]
        more = [one for answer in classes.values() for one in answer[1:]]
        others = sorted(
            (one for one in ended if ranks[one.branch]), key=lambda one: ranks[one.branch]
        )
        winners = tuple([*firsts, *more, *others][: search.choices])
        votes = tuple((answer, len(given)) for answer, given in classes.items())
        decided_by = "vote" if len(voters) >= search.choices else "fallback"
        return Outcome(winners, decided_by, {"votes": votes})


def _classes(
    voters: Sequence[Trajectory[OutputT]], search: Search[OutputT]
) -> dict[str, list[Trajectory[OutputT]]]:
    """The voters by their answers: the most frequent first, among equals the one that was given
    first; the voters for an answer by their length."""
    classes: dict[str, list[Trajectory[OutputT]]] = {}
    for voter in voters:
        answer = canonical(search.reading.phases(voter).answer or "")
        classes.setdefault(answer, []).append(voter)
    ranked = sorted(classes.items(), key=lambda item: -len(item[1]))
    return {answer: sorted(given, key=lambda one: one.tokens) for answer, given in ranked}
