"""The gate: the kernel and the loop on a CPU against one that shares nothing with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steersman_kernels import gate as module
from steersman_kernels import layout as at
from steersman_kernels.gate import gate
from steersman_kernels.vocabulary import Vocabulary
from tests.unit.kernels import compiled, interpreted

VOCABULARY = 9
CLASSES = len(at.CLASSES)
BOUNDARY = frozenset({3, 4, 8})
# Placeholders among the tokens: none of them is a boundary or a marker.
TOKENS = st.sampled_from([0, 1, 2, 3, 4, 5, 8, -1, VOCABULARY, 10**6])
ENDS = bytes(int(token in BOUNDARY) for token in range(VOCABULARY))


def markers_of(start: list[int], end: list[int], implicit: Sequence[int] = ()) -> Vocabulary:
    return Vocabulary.of(start, end, implicit, boundary=ENDS)


SINGLE = markers_of([1], [2])
MARKERS = st.builds(
    markers_of,
    st.sampled_from([[], [1], [3], [1, 2], [2, 2, 1]]),
    st.sampled_from([[], [2], [3], [2, 1], [1, 2, 1]]),
    st.sampled_from([[], [5], [5, 8]]),
)
INTERPRETED = interpreted(module)
CAPACITY = 6


def interpreted_gate(*arguments: Tensor | Vocabulary) -> None:
    # So few at a time that batches of a few tokens take several rounds.
    INTERPRETED.gate_triton(*arguments, block=4)


Gate = Callable[..., None]
every_gate = pytest.mark.parametrize("run", [gate, interpreted_gate])


@dataclass(frozen=True)
class Part:
    """The tokens of one request in a step, from a position on."""

    slot: int
    position: int
    tokens: list[int]


def table(rows: list[list[int]]) -> Tensor:
    """A table from rows of ORIGIN, OPENED, CLOSED and the bank rows; other columns are noise."""
    requests = torch.full((CAPACITY, at.WIDTH), 77, dtype=torch.int32)
    requests[:, at.RECENT :] = torch.tensor([1, 2] * (at.MARKER_TOKENS // 2))
    requests[:, at.COUNTS : at.COUNTS + CLASSES] = 5
    for slot, row in enumerate(rows):
        requests[slot, : len(row)] = torch.tensor(row)
    return requests


def step(
    run: Gate,
    requests: Tensor,
    parts: list[Part],
    markers: Vocabulary,
    *,
    token_type: torch.dtype = torch.int32,
    boundary_type: torch.dtype = torch.bool,
) -> list[int]:
    """Run one step on a table; the buffers are longer than the batch, and full of old values."""
    lengths = [len(part.tokens) for part in parts]
    start = torch.tensor([0, *lengths, 99, 99]).cumsum(0).int()
    start[len(parts) + 1 :] = -5
    positions = [part.position + i for part in parts for i in range(len(part.tokens))]
    tokens = [token for part in parts for token in part.tokens]
    bank_rows = torch.full((len(tokens) + 3,), 55, dtype=torch.int32)
    run(
        requests,
        torch.tensor([part.slot for part in parts], dtype=torch.int32),
        start,
        torch.tensor([*positions, 1, 2, 3], dtype=torch.int64),
        torch.tensor([*tokens, 1, 2, 3], dtype=token_type),
        markers._replace(boundary=markers.boundary.to(boundary_type)),
        bank_rows,
    )
    assert bank_rows[len(tokens) :].tolist() == [-1] * 3
    return bank_rows[: len(tokens)].tolist()


def ends_in(tokens: list[int], marker: Tensor) -> bool:
    """True if the last tokens make a marker."""
    length = len(marker)
    return 0 < length <= len(tokens) and tokens[-length:] == marker.tolist()


def expected(requests: Tensor, parts: list[Part], markers: Vocabulary) -> tuple[Tensor, list[int]]:
    """The table after a step, and the bank rows: a loop over tokens that shares nothing."""
    rows = requests.tolist()
    bank_rows = []
    for part in parts:
        if part.slot < 0:
            bank_rows += [-1] * len(part.tokens)
            continue
        row = rows[part.slot]
        steps = list(enumerate(part.tokens, part.position))
        before = range(max(row[at.ORIGIN], part.position - at.MARKER_TOKENS + 1), part.position)
        drawn = [(place, row[at.RECENT + place % at.MARKER_TOKENS]) for place in before]
        for position, token in steps:
            if position < row[at.ORIGIN]:
                continue
            drawn.append((position, token))
            tail = [one for _, one in drawn]
            if ends_in(tail, markers.start):
                row[at.OPENED] = min(row[at.OPENED], position)
            if ends_in(tail, markers.end) or token in markers.implicit.tolist():
                row[at.CLOSED] = min(row[at.CLOSED], position)
        for position, token in drawn[-at.MARKER_TOKENS :]:
            row[at.RECENT + position % at.MARKER_TOKENS] = token
        for position, token in steps:
            if position < row[at.ORIGIN]:
                kind = 0
            elif row[at.OPENED] <= position < row[at.CLOSED]:
                kind = 2
            else:
                kind = 4
            kind += token in BOUNDARY
            bank_rows.append(row[at.ROWS + kind])
            row[at.COUNTS + kind] += row[at.ROWS + kind] >= 0
    return torch.tensor(rows, dtype=torch.int32), bank_rows


@st.composite
def tables(draw: st.DrawFn) -> Tensor:
    position = st.integers(0, 12)
    marker = st.one_of(position, st.just(at.NEVER))
    bank_rows = st.lists(st.integers(-1, 7), min_size=CLASSES, max_size=CLASSES)
    return table(
        [[draw(position), draw(marker), draw(marker), *draw(bank_rows)] for _ in range(CAPACITY)]
    )


@st.composite
def batches(draw: st.DrawFn) -> list[Part]:
    slots = draw(st.permutations(range(CAPACITY)))[: draw(st.integers(0, CAPACITY))]
    return [
        Part(
            draw(st.sampled_from([slot, slot, -1])),
            draw(st.integers(0, 10)),
            draw(st.lists(TOKENS, max_size=draw(st.sampled_from([1, 11])))),
        )
        for slot in slots
    ]


@every_gate
@given(
    requests=tables(),
    parts=batches(),
    markers=MARKERS,
    token_type=st.sampled_from([torch.int32, torch.int64]),
    boundary_type=st.sampled_from([torch.bool, torch.uint8]),
)
@settings(max_examples=30)
def test_a_step(
    run: Gate,
    requests: Tensor,
    parts: list[Part],
    markers: Vocabulary,
    token_type: torch.dtype,
    boundary_type: torch.dtype,
) -> None:
    after, bank_rows = expected(requests, parts, markers)
    found = requests.clone()
    types = {"token_type": token_type, "boundary_type": boundary_type}
    assert step(run, found, parts, markers, **types) == bank_rows
    assert torch.equal(found, after)


def split(part: Part, cut: int) -> tuple[Part, Part]:
    return (
        Part(part.slot, part.position, part.tokens[:cut]),
        Part(part.slot, part.position + cut, part.tokens[cut:]),
    )


@every_gate
@given(
    tokens=st.lists(TOKENS, min_size=1, max_size=14),
    origin=st.integers(0, 14),
    opened=st.sampled_from([at.NEVER, 0]),
    cut=st.integers(0, 14),
    single=st.booleans(),
)
@settings(max_examples=20)
def test_a_prompt_in_chunks_is_as_in_one_piece(
    run: Gate, tokens: list[int], origin: int, opened: int, cut: int, single: bool
) -> None:
    markers = SINGLE if single else markers_of([1, 2], [2, 0], [8])
    whole = table([[origin, opened, at.NEVER, 0, 1, 2, 3, -1, 5]])
    chunked = whole.clone()
    part = Part(0, 0, tokens)
    after, bank_rows = expected(whole, [part], markers)
    assert step(run, whole, [part], markers) == bank_rows
    assert torch.equal(whole, after)
    first, second = split(part, cut)
    in_chunks = step(run, chunked, [first], markers) + step(run, chunked, [second], markers)
    assert in_chunks == bank_rows
    assert torch.equal(chunked, whole)


@every_gate
def test_a_step_done_again_changes_counts_only(run: Gate) -> None:
    requests = table([[2, at.NEVER, at.NEVER, 0, 1, 2, 3, 4, 5]])
    parts = [Part(0, 0, [3, 1, 1, 3, 2, 0])]
    bank_rows = step(run, requests, parts, SINGLE)
    assert bank_rows == [1, 0, 2, 3, 4, 4]
    once = requests.clone()
    assert step(run, requests, parts, SINGLE) == bank_rows
    assert torch.equal(requests[:, : at.COUNTS], once[:, : at.COUNTS])
    assert requests[0, at.COUNTS : at.COUNTS + CLASSES].tolist() == [7, 7, 7, 7, 9, 5]


@every_gate
def test_markers_in_the_prompt_are_text(run: Gate) -> None:
    requests = table([[3, at.NEVER, at.NEVER, *range(6)]])
    bank_rows = step(run, requests, [Part(0, 0, [1, 2, 2, 0, 1, 0, 2])], SINGLE)
    assert bank_rows == [0, 0, 0, 4, 2, 2, 4]
    assert requests[0, [at.OPENED, at.CLOSED]].tolist() == [4, 6]


@every_gate
def test_a_tool_call_closes(run: Gate) -> None:
    requests = table([[1, 0, at.NEVER, *range(6)]])
    bank_rows = step(run, requests, [Part(0, 0, [5, 0, 5, 0])], markers_of([1], [2], [5]))
    assert bank_rows == [0, 2, 4, 4]
    assert requests[0, at.CLOSED] == 2


@every_gate
def test_a_marker_of_several_tokens_is_found_over_steps(run: Gate) -> None:
    requests = table([[2, at.NEVER, at.NEVER, *range(6)]])
    markers = markers_of([1, 2], [2, 1, 0])
    found = []
    for position, token in enumerate([1, 2, 1, 2, 0, 2, 1, 0, 0]):
        found += step(run, requests, [Part(0, position, [token])], markers)
    assert found == [0, 0, 4, 2, 2, 2, 2, 4, 4]
    assert requests[0, [at.OPENED, at.CLOSED]].tolist() == [3, 7]


@every_gate
def test_an_unsteered_batch(run: Gate) -> None:
    requests = table([])
    before = requests.clone()
    assert step(run, requests, [Part(-1, 0, [1, 2]), Part(-1, 4, [3])], SINGLE) == [-1] * 3
    assert step(run, requests, [], SINGLE) == []
    assert torch.equal(requests, before)


def test_the_kernel_is_interpreted() -> None:
    assert type(INTERPRETED._gate_kernel).__name__ == "InterpretedFunction"
    assert type(module._gate_kernel).__name__ == "JITFunction"


@pytest.mark.parametrize("token_type", ["*i32", "*i64"])
@pytest.mark.parametrize("boundary_type", ["*i1", "*u8"])
def test_the_kernel_compiles_for_a_gpu(
    token_type: str, boundary_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    types = {
        "requests_ptr": "*i32",
        "slots_ptr": "*i32",
        "query_start_ptr": "*i32",
        "positions_ptr": "*i64",
        "token_ids_ptr": token_type,
        "boundary_ptr": boundary_type,
        "vocabulary": "i32",
        "start_ptr": "*i32",
        "start_length": "i32",
        "end_ptr": "*i32",
        "end_length": "i32",
        "implicit_ptr": "*i32",
        "implicit_count": "i32",
        "bank_rows_ptr": "*i32",
    }
    assert "ptx" in compiled(module._gate_kernel, types, {"BLOCK": 512, "LAYOUT": at.FINGERPRINT})
