"""First Finish Search (Agarwal et al., arXiv 2505.18149, algorithm 1) and its vote FFS-k@N.

Launch n independent samples of the same prompt; the first that finishes is the answer, and the
rest are aborted at once. A sample that ran into its token limit, has no answer or hardly thought
has not finished in the sense of the method, so it cannot win while others run.
"""

import contextlib
from collections.abc import Sequence

from steersman.capabilities import Capabilities
from steersman.errors import ControlError
from steersman.needs import Need
from steersman.request import Endpoint, Request
from steersman.search.eligibility import eligibility
from steersman.search.policy import Policy, Search
from steersman.trajectory.answers import majority
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.together import ends
from steersman.trajectory.trajectory import OutputT, Trajectory
from steersman_client import FirstFinish


class FirstFinishPolicy(Policy[FirstFinish]):
    """Run n samples until enough of them have finished, then stop the rest."""

    spec = FirstFinish
    needs = frozenset({Need.SAMPLING})

    def branches(self, spec: FirstFinish) -> int:
        return spec.n

    def check(self, spec: FirstFinish, request: Request, capabilities: Capabilities) -> None:
        if spec.k > spec.n:
            raise ControlError(f"k ({spec.k}) is above n ({spec.n})", param="control.search.k")
        if spec.k > 1 and request.choices > 1:
            raise ControlError(
                f"k = {spec.k} votes for one answer, so n must be 1, not {request.choices}",
                param="control.search.k",
            )
        if spec.min_thinking:
            capabilities.markers("min_thinking", "control.search.min_thinking")
        chunks_of_one_prompt = request.endpoint is not Endpoint.RESPONSES and request.prompts == 1
        if spec.stream_leader and request.stream and not chunks_of_one_prompt:
            raise ControlError(
                "stream_leader works on chat completions, and on completions of one prompt",
                param="control.search.stream_leader",
            )

    async def run(self, spec: FirstFinish, search: Search[OutputT]) -> Outcome[OutputT]:
        finishers: list[tuple[int, Trajectory[OutputT]]] = []
        awaited, stopped = max(spec.k, search.choices), False
        async with contextlib.aclosing(ends(search.start_branches(spec.n))) as ended:
            async for trajectory in ended:
                if not trajectory.finished:
                    continue
                rank = eligibility(
                    trajectory, search.reading, spec.require_answer, spec.min_thinking
                )
                finishers.append((rank, trajectory))
                if not stopped and sum(rank == 0 for rank, _ in finishers) >= awaited:
                    stopped = True
                    await search.stop()
        return _decide(finishers, search, spec)


def _decide(
    finishers: list[tuple[int, Trajectory[OutputT]]], search: Search[OutputT], spec: FirstFinish
) -> Outcome[OutputT]:
    # The sort is stable: among equals, the order in which they finished.
    finishers.sort(key=lambda finisher: finisher[0])
    able = [trajectory for rank, trajectory in finishers if rank == 0]
    if spec.k > 1 and able:
        return _vote(able[: spec.k], search.reading)
    # Unfinished ones come last: nothing else is there when a limit has ended the request.
    unfinished = sorted(
        (one for one in search.started if not one.finished), key=lambda one: not one.tokens
    )
    winners = tuple([one for _, one in finishers] + unfinished)[: search.choices]
    return Outcome(winners, "first" if len(able) >= search.choices else "fallback")


def _vote(voters: Sequence[Trajectory[OutputT]], reading: Reading) -> Outcome[OutputT]:
    tally = majority([reading.phases(voter).answer or "" for voter in voters])
    return Outcome((voters[tally.winner],), "vote", {"votes": tally.votes})
