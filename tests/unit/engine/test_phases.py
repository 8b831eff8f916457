"""The phases of a response are the same for all who ask: steering, governor, monitor, receipt."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.thinking import report
from steersman.thinking.report import LiveTrack
from steersman.trajectory.phases import Markers, thinking_span
from steersman.trajectory.track import Track
from steersman_kernels import layout as at
from steersman_kernels.gate import gate
from steersman_kernels.governor import State, Step, govern
from steersman_kernels.vocabulary import Vocabulary
from tests.unit.tracks import packed

SIZE, PROMPT = 8, 3
ONE = Markers(start=(1,), end=(2,), start_text="<", end_text=">")
CALLING = ONE.model_copy(update={"implicit": (6,), "implicit_text": ("call",)})
TWO = Markers(start=(1, 3), end=(2, 3), start_text="<", end_text=">", implicit=(6,))
ODD = Markers(start=(1, 1, 3), end=(3, 2), start_text="<", end_text=">")


def of_the_span(tokens: list[int], markers: Markers, opened: bool) -> list[bool]:
    """Thinking or not, after each of its tokens, by the one definition."""
    found = []
    for count in range(1, len(tokens) + 1):
        span = thinking_span(tokens[:count], markers, opened=opened)
        found.append(span is not None and span.closing is None)
    return found


def vocabulary(markers: Markers) -> Vocabulary:
    """The same for the kernels."""
    return Vocabulary.of(markers.start, markers.end, markers.implicit, markers.end, bytes(SIZE))


def of_the_gate(tokens: list[int], markers: Markers, opened: bool, split: int) -> list[bool]:
    """Thinking or not, as each token is steered, read in two steps."""
    table = torch.zeros(1, at.WIDTH, dtype=torch.int32)
    table[0, at.ORIGIN] = PROMPT
    table[0, at.OPENED] = 0 if opened else at.NEVER
    table[0, at.CLOSED] = at.NEVER
    table[0, at.ROWS : at.ROWS + len(at.CLASSES)] = torch.tensor([0, 0, 1, 1, 2, 2])
    found: list[int] = []
    for begin, end in ((0, split), (split, len(tokens))):
        part = tokens[begin:end]
        bank_rows = torch.empty(len(part), dtype=torch.int32)
        gate(
            table,
            slots=torch.zeros(1, dtype=torch.int32),
            query_start=torch.tensor([0, len(part)], dtype=torch.int32),
            positions=torch.arange(PROMPT + begin, PROMPT + end),
            token_ids=torch.tensor(part, dtype=torch.int32),
            vocabulary=vocabulary(markers),
            bank_rows=bank_rows,
        )
        found += bank_rows.tolist()
    return [row == 1 for row in found]


def of_the_governor(tokens: list[int], markers: Markers, opened: bool) -> tuple[list[bool], int]:
    """Thinking or not, as it takes each token; and the tokens that it has thought."""
    state = State.empty(1)
    state.ints[0, at.PHASE] = at.THINKING if opened else at.BEFORE
    state.ints[0, at.BUDGET] = state.ints[0, at.LATEST] = at.NEVER

    found = []
    for index, token in enumerate(tokens):
        step = Step(
            slots=torch.zeros(1, dtype=torch.int32),
            positions=torch.tensor([PROMPT + index - 1]),
            rows=torch.zeros(1, dtype=torch.int64),
            sampled=torch.tensor([token]),
            logits=torch.zeros(1, SIZE),
            logit_rows=torch.zeros(1, dtype=torch.int64),
            statistics=torch.zeros(1, at.STATISTICS),
            track=torch.empty(1, at.TRACK),
        )
        govern(state, vocabulary(markers), step)
        found.append(int(state.ints[0, at.PHASE]) == at.THINKING)
    return found, int(state.ints[0, at.THOUGHT])


@pytest.mark.parametrize("markers", [ONE, CALLING, TWO, ODD])
@given(
    tokens=st.lists(st.sampled_from([1, 1, 2, 3, 3, 4, 6]), min_size=1, max_size=12),
    opened=st.booleans(),
    split=st.integers(0, 12),
)
@settings(max_examples=150)
def test_all_see_the_same_phases(
    markers: Markers, tokens: list[int], opened: bool, split: int
) -> None:
    wanted = of_the_span(tokens, markers, opened)
    assert of_the_gate(tokens, markers, opened, min(split, len(tokens))) == wanted
    governed, thought = of_the_governor(tokens, markers, opened)
    assert governed == wanted
    live = LiveTrack(markers, opened)
    assert [live.advance([one], [packed(0.5)]).phase == "thinking" for one in tokens] == wanted

    span = thinking_span(tokens, markers, opened=opened)
    whole = span is None or span.closing is not None or not _begun(tokens, span, markers, opened)
    if whole:
        assert thought == (len(span.thinking) if span is not None else 0)
    entropies = np.arange(len(tokens)) + 1.0
    track = Track(tokens, [packed(entropy) for entropy in entropies])
    phases = report.phase_entropies(track, markers, opened=opened)
    inside = span.thinking if span is not None else range(0)
    assert phases["thinking"].tolist() == [entropies[place] for place in inside]


def _begun(tokens: list[int], span: object, markers: Markers, opened: bool) -> bool:
    """True if the last tokens may become a marker: the governor counts them once it is whole."""
    endings = (markers.start, markers.end) if opened else (markers.end,)
    return any(
        tokens[-length:] == [*marker[:length]]
        for marker in endings
        for length in range(1, len(marker))
    )
