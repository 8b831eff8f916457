"""Monitor values of a chunk's tokens go into that chunk."""

from typing import Any

from steersman.api.live import LiveValues
from steersman.controls.monitor import MonitorPart
from steersman.plan import Plan
from steersman.request import Endpoint, Request
from steersman.scope import ControlScope
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import Start, Trajectory
from tests.unit.tracks import packed


class Stream:
    """A request that is streamed, and the tokens of its choices as they come."""

    def __init__(self, request: Request, *, tokens: bool = True) -> None:
        monitor = MonitorPart(tokens, markers=None)
        self.scope = ControlScope.of(Plan(request, 100, None, (monitor,)), max_forks=64)
        self.live = LiveValues(self.scope, monitor)

    def run(self, choices: int) -> None:
        generation = self.scope.ledger.open()
        for choice in range(choices):
            generation.branches.append(Trajectory(Start(choice), track=Track()))

    def deliver(self, run: int, choice: int, *entropies: float, ahead: int = 0) -> None:
        """Some tokens are handed on; of `ahead` more the engine has spoken already."""
        line = self.scope.ledger.generations[run].branches[choice]
        assert line.track is not None
        known = len(line.track.values)
        line.track.add([*range(known, known + len(entropies))])
        line.track.values += [packed(entropy, -0.5) for entropy in entropies]
        line.delivered += len(entropies) - ahead

    def chunk(self, index: int | None = 0, **fields: Any) -> Any:
        chunk: dict[str, Any] = {"choices": [] if index is None else [{"index": index}], **fields}
        said = self.live.put(chunk)
        assert said == ("control" in chunk)
        return chunk["control"]["live"] if said else None


def test_each_chunk_has_the_values_of_its_tokens() -> None:
    stream = Stream(Request(Endpoint.CHAT, stream=True))
    stream.run(1)
    assert stream.chunk() is None  # the role, before any token
    stream.deliver(0, 0, 0.5, 1.5)
    assert stream.chunk()["tokens"] == [[0, -0.5, 0.5], [1, -0.5, 1.5]]
    assert stream.chunk() is None
    stream.deliver(0, 0, 1.0, 9.0, ahead=1)
    live = stream.chunk()
    assert live["tokens"] == [[2, -0.5, 1.0]]
    assert (live["phase"], live["entropy"]) == ("answer", 1.0)
    assert stream.chunk(None) is None  # the usage


def test_choices_and_prompts_are_told_apart() -> None:
    request = Request(Endpoint.COMPLETIONS, stream=True, prompts=2, choices=2)
    stream = Stream(request, tokens=False)
    stream.run(2)
    stream.run(2)
    stream.deliver(1, 0, 3.0)
    stream.deliver(0, 1, 1.0)
    assert stream.chunk(0) is None
    assert stream.chunk(1) == {"index": 1, "phase": "answer", "entropy": 1.0}
    assert stream.chunk(2) == {"index": 2, "phase": "answer", "entropy": 3.0}


def test_every_turn_of_a_tool_loop_begins_anew() -> None:
    stream = Stream(Request(Endpoint.RESPONSES, stream=True))
    event = {"type": "response.output_text.delta"}
    for entropy in (2.0, 4.0):
        stream.run(1)
        stream.deliver(-1, 0, entropy)
        assert stream.chunk(None, type="response.output_item.added") is None
        assert stream.chunk(None, **event)["entropy"] == entropy
