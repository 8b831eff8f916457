"""The file of records."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.evaluate.error import EvaluationError
from steersman.evaluate.records import Record, ResponseLog
from tests.unit.evaluate.made_up import record


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    written = [
        record(sample=0, content="line\nbreaks\r and \u2028 too"),
        record(
            sample=1,
            receipt={
                "compute": {"sampled_tokens": 40},
                "entropy": {"pear": 0.0, "tokens": [[7, -0.1, 0.5]]},
            },
        ),
    ]
    with ResponseLog(tmp_path / "log") as log:
        for one in written:
            log.add(one)
    with ResponseLog(tmp_path / "log") as log:
        assert list(log.records.values()) == written


@given(data=st.data())
def test_a_log_cut_anywhere_keeps_every_whole_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    written = [record(sample=i, content="é" * i) for i in range(4)]
    with ResponseLog(path) as log:
        for one in written:
            log.add(one)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    kept = content[:cut].count(b"\n")
    with ResponseLog(path) as log:
        assert list(log.records.values()) == written[:kept]
        log.add(record(control="next"))
    with ResponseLog(path) as log:
        assert list(log.records.values()) == [*written[:kept], record(control="next")]


def test_two_processes_cannot_write_to_one_log(tmp_path: Path) -> None:
    with (
        ResponseLog(tmp_path / "log"),
        pytest.raises(EvaluationError, match="another run is writing"),
    ):
        ResponseLog(tmp_path / "log")
    with ResponseLog(tmp_path / "log"):
        pass


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([record().model_dump_json(), "{}"], "line 2 is no record"),
        ([record().model_dump_json()] * 2, "line 2 is there twice"),
    ],
)
def test_a_damaged_log_is_an_error(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    with pytest.raises(EvaluationError, match=message):
        ResponseLog(tmp_path / "log")


def test_the_receipt_says_what_was_sampled() -> None:
    assert record(completion_tokens=10).sampled_tokens == 10
    controlled = record(completion_tokens=10, receipt={"compute": {"sampled_tokens": 40}})
    assert controlled.sampled_tokens == 40


def test_entropies_are_read_from_the_receipt() -> None:
    def entropies(**receipt: object) -> object:
        return Record.model_validate({**record().model_dump(), "receipt": receipt}).entropies

    assert entropies(entropy={"pear": 0.5, "tokens": [[7, -0.2, 0.5], [9, 0.0, 0.1]]}) == (0.5, 0.1)
    assert entropies(entropy={"pear": 0.3}) is None
    assert entropies() is None
    assert record().entropies is None
