"""Blocks of the prefix cache that requests share."""

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm import SamplingParams

from steersman.engine.compat.core import block_key
from steersman.frontend.unplanned import unplanned
from steersman.steering.configuration import Configuration, EditTerm, Term
from steersman.wire import RequestMessage
from steersman_kernels.gate import gate
from steersman_kernels.layout import CLASSES, CLOSED, NEVER, OPENED, ORIGIN, ROWS, WIDTH
from steersman_kernels.vocabulary import Vocabulary

BLOCK, TOKENS = 4, 32
EDIT = EditTerm("edit", 1.0)


def keys(configuration: Configuration, origin: int) -> list[str | None]:
    """Keys in the hash of each block of a request, beside its tokens."""
    wire = unplanned(configuration, origin=origin).wire("key", SamplingParams())
    message = RequestMessage.decoded(wire)
    return [block_key(message, end) for end in range(BLOCK, TOKENS + 1, BLOCK)]


def bank_rows(configuration: Configuration, origin: int, token_ids: Sequence[int]) -> list[int]:
    """The bank row of each token."""
    table = torch.zeros(1, WIDTH, dtype=torch.int32)
    table[0, ORIGIN], table[0, OPENED], table[0, CLOSED] = origin, NEVER, NEVER
    table[0, ROWS : ROWS + len(CLASSES)] = torch.tensor(configuration.rows)
    chosen = torch.empty(TOKENS, dtype=torch.int32)
    gate(
        table,
        slots=torch.zeros(1, dtype=torch.int32),
        query_start=torch.tensor([0, TOKENS], dtype=torch.int32),
        positions=torch.arange(TOKENS),
        token_ids=torch.tensor(token_ids, dtype=torch.int32),
        vocabulary=Vocabulary.of([1], [2], boundary=bytes([0, 0, 0, 1])),
        bank_rows=chosen,
    )
    found: list[int] = chosen.tolist()
    return found


TERMS = st.builds(
    Term,
    vector=st.sampled_from("ab"),
    strength=st.just(1.0),
    phase=st.sampled_from(["all", "thinking", "answer"]),
    at=st.sampled_from(["all", "boundary"]),
    prompt=st.booleans(),
)


@given(
    terms=st.lists(TERMS, max_size=3),
    edit=st.sampled_from([None, EDIT]),
    origins=st.tuples(st.integers(1, TOKENS), st.integers(1, TOKENS)),
    token_ids=st.lists(st.integers(0, 3), min_size=TOKENS, max_size=TOKENS),
)
def test_only_blocks_that_were_steered_alike_are_shared(
    terms: list[Term], edit: EditTerm | None, origins: tuple[int, int], token_ids: list[int]
) -> None:
    configuration = Configuration.of(tuple(terms), edit)
    first, second = (keys(configuration, origin) for origin in origins)
    shared = 0
    while shared < len(first) and first[shared] == second[shared]:
        shared += 1
    one, other = (
        bank_rows(configuration, origin, token_ids)[: shared * BLOCK] for origin in origins
    )
    assert one == other
    # And all that both have of a prompt is shared.
    assert shared >= min(origins) // BLOCK


def test_what_a_prompt_shares_and_a_next_turn_does_not() -> None:
    steered = Configuration.of((Term("a", 1.0),))
    edited = Configuration.of((), EDIT)
    assert keys(steered, 16)[:5] == [None] * 4 + [f"{steered.digest}/16"]
    assert keys(edited, 16)[:5] == [edited.digest] * 4 + [f"{edited.digest}/16"]
    assert keys(edited, 18)[4] == f"{edited.digest}/18"  # begun as a prompt, ended as a response
    for configuration in (steered, edited):
        turn, after = keys(configuration, 14), keys(configuration, 24)
        assert turn[:3] == after[:3]
        assert not set(turn[3:]) & set(after[3:])
    message = unplanned(steered, origin=16, opened=True).wire("key", SamplingParams())
    opened = RequestMessage.decoded(message)
    assert block_key(opened, 16) is None
    assert block_key(opened, 20) == f"{steered.digest}/16/thinking"
    assert block_key(RequestMessage(origin=3), 8) is None
