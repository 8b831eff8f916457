from pathlib import Path

import pytest

from steersman.directions.error import DirectionError
from steersman.directions.log import SampleLog
from steersman.directions.sample import Sample

WITH = {"model": "tiny", "seed": 0}
SAMPLES = [Sample(f"p{i}", (1, 2), (3, i), True, range(1)) for i in range(3)]


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    SampleLog(path, WITH).add(SAMPLES[:2])
    with path.open("a") as file:
        file.write(SAMPLES[2].to_json()[:10])  # cut off while it was written

    log = SampleLog(path, WITH)
    assert log.samples == SAMPLES[:2]
    log.add(SAMPLES[2:])

    assert SampleLog(path, WITH).samples == SAMPLES


def test_nothing_is_written_before_there_are_samples(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    log = SampleLog(path, WITH)
    assert not path.exists()
    log.add(SAMPLES[:1])
    log.add(SAMPLES[1:])
    assert SampleLog(path, WITH).samples == SAMPLES


def test_a_file_that_was_cut_anywhere_goes_on(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "samples.jsonl"
    SampleLog(whole, WITH).add(SAMPLES)
    content = whole.read_bytes()
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        log = SampleLog(path, WITH)
        assert path.read_bytes() == content[:end]
        log.add(SAMPLES[len(log.samples) :])
        assert path.read_bytes() == content


def test_a_line_that_is_no_sample_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    SampleLog(path, WITH).add(SAMPLES)
    with path.open("a") as file:
        file.write('{"problem": 3}\n')
    with pytest.raises(DirectionError, match=f"{path}: line 5: not a sample: problem: "):
        SampleLog(path, WITH)


def test_a_file_that_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DirectionError, match="cannot be read"):
        SampleLog(tmp_path, WITH)
    log = SampleLog(tmp_path / "none" / "samples.jsonl", WITH)
    with pytest.raises(DirectionError, match="cannot be written"):
        log.add(SAMPLES)


@pytest.mark.parametrize(
    "content", ['{"model": "other", "seed": 0}\n', "something else\n", "a note", '{"model": "x']
)
def test_a_file_that_is_not_of_this_run_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(content)

    with pytest.raises(DirectionError, match="does not begin with how these samples are drawn"):
        SampleLog(path, WITH)

    assert path.read_text() == content
