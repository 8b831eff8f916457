from types import SimpleNamespace
from typing import Any

from steersman.engine.reports import Reports


class Processor:
    """Records what vLLM's output processor would see."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def process_outputs(self, outputs: list[Any], timestamp: float, *, stats: str) -> str:
        self.seen += [output.kv_transfer_params for output in outputs]
        return f"{timestamp} {stats}"


def output(request_id: str, params: dict[str, Any] | None) -> SimpleNamespace:
    return SimpleNamespace(request_id=request_id, kv_transfer_params=params)


def report(key: str, *counts: int) -> dict[str, Any]:
    return {"steersman": [key, *counts]}


def test_the_last_report_of_every_choice_counts() -> None:
    engine = SimpleNamespace(output_processor=Processor())
    process = engine.output_processor.process_outputs
    reports = Reports()
    reports.listen(engine)
    key, other = reports.open(), reports.open()
    assert engine.output_processor.process_outputs != process

    for step in (1, 2, 3):
        answer = engine.output_processor.process_outputs(
            [
                output("0_r", report(key, 0, 0, step, 0, 0, 1, 7)),
                output("1_r", report(key, 0, 0, 10 * step, 0, 0, 0, 2)),
                output("plain", None),
            ],
            1.5,
            stats="s",
        )

    assert answer == "1.5 s"
    assert reports.close(key) == (0, 0, 33, 0, 0, 1, 9)
    assert reports.close(other) == (0,) * 7
    assert engine.output_processor.seen == [None] * 9


def test_what_others_put_into_the_field_stays() -> None:
    engine = SimpleNamespace(output_processor=Processor())
    reports = Reports()
    reports.listen(engine)

    engine.output_processor.process_outputs(
        [output("r", {"remote": 1, **report("gone", 0, 0, 0, 0, 0, 0, 0)}), output("s", {"do": 2})],
        0.0,
        stats="",
    )

    assert engine.output_processor.seen == [{"remote": 1}, {"do": 2}]
