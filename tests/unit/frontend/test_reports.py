from types import SimpleNamespace
from typing import Any

import numpy as np

from steersman.frontend.reports import Reports, read_counts
from steersman.wire import listed
from steersman_kernels.layout import TRACK, Value


class Processor:
    """Records what vLLM's output processor would see."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def process_outputs(self, outputs: list[Any], timestamp: float, *, stats: str) -> str:
        self.seen += [output.kv_transfer_params for output in outputs]
        return f"{timestamp} {stats}"


def output(request_id: str, params: dict[str, Any] | None, *, tokens: int = 1) -> SimpleNamespace:
    return SimpleNamespace(
        request_id=request_id, kv_transfer_params=params, new_token_ids=[7] * tokens
    )


def said(
    *requests: str,
    counts: dict[str, list[int]] | None = None,
    values: dict[str, list[float]] | None = None,
) -> dict[str, Any]:
    """Step message of a step. A request is named `id=key`."""
    keys = dict(request.split("=") for request in requests)
    steered, watched = counts or {}, values or {}
    return {
        "steersman": [
            listed(steered, keys),
            np.array([*steered.values()], np.int32).tobytes(),
            listed(watched, keys),
            np.array([*watched.values()], np.float32).tobytes(),
        ]
    }


def row(*first: float) -> list[float]:
    """A row of a track: its first values, and zeros."""
    return [*first, *[0.0] * (TRACK - len(first))]


def test_the_last_counts_of_every_choice_count() -> None:
    engine = SimpleNamespace(output_processor=Processor())
    process = engine.output_processor.process_outputs
    reports = Reports()
    reports.listen(engine)
    ours, other = reports.open(2), reports.open(1)
    assert engine.output_processor.process_outputs != process

    for step in (1, 2, 3):
        counts = {"1_r": [0, 0, 10 * step, 0, 0, 0, 2], "0_r": [0, 0, step, 0, 0, 1, 7]}
        content = said(f"1_r={ours.key}", f"0_r={ours.key}", counts=counts)
        answer = engine.output_processor.process_outputs(
            [output("plain", content), output("0_r", None), output("1_r", None)], 1.5, stats="s"
        )

    assert answer == "1.5 s"
    found = [read_counts(counts) for counts in ours.counts]
    assert found == [(0, 0, 3, 0, 0, 1, 7), (0, 0, 30, 0, 0, 0, 2)]
    assert [read_counts(counts) for counts in other.counts] == [()]
    assert engine.output_processor.seen == [None] * 9


def test_what_is_said_of_each_token_comes_in_order() -> None:
    engine = SimpleNamespace(output_processor=Processor())
    reports = Reports()
    reports.listen(engine)
    ours = reports.open(1)

    for step in range(3):
        value = [step / 2, -1.0, 0.5, 0.25, -0.5, -7.0, 1.0, 2.0, 1.0]
        content = said(f"r={ours.key}", values={"r": value})
        # A step that gives no token, as the last one of an aborted request, says nothing of one.
        engine.output_processor.process_outputs(
            [output("r", content, tokens=int(step < 2))], 0.0, stats=""
        )

    values = [Value.of(content) for content in ours.values[0]]
    assert [value.entropy for value in values] == [0.0, 0.5]
    assert values[1] == (0.5, -1.0, 0.5, 0.25, -0.5, -7.0, 1.0, 2, 1)
    assert values[1].packed() == ours.values[0][1]
    reports.close(ours)
    engine.output_processor.process_outputs([output("r", content)], 0.0, stats="")
    assert len(ours.values[0]) == 2


def test_a_step_may_come_in_parts_and_none_of_it_counts_twice() -> None:
    engine = SimpleNamespace(output_processor=Processor())
    reports = Reports()
    reports.listen(engine)
    first, second = reports.open(1), reports.open(1)
    rows = {"a": row(0.1), "b": row(0.2)}
    content = said(f"a={first.key}", f"b={second.key}", values=rows)

    engine.output_processor.process_outputs([output("a", content)], 0.0, stats="")
    engine.output_processor.process_outputs([output("b", None)], 0.0, stats="")
    engine.output_processor.process_outputs([output("a", None), output("b", None)], 0.0, stats="")
    engine.output_processor.process_outputs([], 0.0, stats="")

    for report, said_of in ((first, rows["a"]), (second, rows["b"])):
        assert report.values == [[np.array(said_of, np.float32).tobytes()]]


def test_what_others_put_into_the_field_stays() -> None:
    engine = SimpleNamespace(output_processor=Processor())
    reports = Reports()
    reports.listen(engine)

    engine.output_processor.process_outputs(
        [
            output("r", {"remote": 1, **said("r=gone", counts={"r": [0] * 7})}),
            output("s", {"do": 2}),
        ],
        0.0,
        stats="",
    )

    assert engine.output_processor.seen == [{"remote": 1}, {"do": 2}]


def test_places_are_found_again_when_outputs_change() -> None:
    """A batch stays the same for many steps; its outputs may come in another order, in other parts,
    or not all of them."""
    engine = SimpleNamespace(output_processor=Processor())
    reports = Reports()
    reports.listen(engine)
    ours = {name: reports.open(1) for name in "abc"}
    steps = (
        [["plain", "a", "b", "c"]],
        [["plain", "a", "b", "c"]],
        [["c", "b"], ["a", "plain"]],
        [["other"], ["a", "c"], ["b"]],
        [["other"], ["a", "c"], ["b"]],
        [["c"]],  # the others are still reading their prompts
        [["plain", "a", "b", "c"]],
    )
    for number, parts in enumerate(steps):
        rows = {name: row(number, place) for place, name in enumerate("abc")}
        content: Any = said(*(f"{n}={r.key}" for n, r in ours.items()), values=rows)
        for part in parts:
            outputs = [output(name, None) for name in part]
            outputs[0].kv_transfer_params, content = content, None
            engine.output_processor.process_outputs(outputs, 0.0, stats="")

    for place, (name, report) in enumerate(ours.items()):
        wanted = [n for n, parts in enumerate(steps) if any(name in part for part in parts)]
        values = [Value.of(content) for content in report.values[0]]
        assert [(value.entropy, value.logprob) for value in values] == [(n, place) for n in wanted]


def test_who_leaves_takes_nothing_more_and_the_others_go_on() -> None:
    engine = SimpleNamespace(output_processor=Processor())
    reports = Reports()
    reports.listen(engine)
    gone, stays = reports.open(1), reports.open(1)
    content = {"a": [1.0] * 6, "b": [2.0] * 6}

    def step() -> None:
        keyed = said(f"a={gone.key}", f"b={stays.key}", values=content)
        outputs = [output("a", keyed), output("b", None)]
        engine.output_processor.process_outputs(outputs, 0.0, stats="")

    step()
    reports.close(gone)
    step()
    assert [len(report.values[0]) for report in (gone, stays)] == [1, 2]
