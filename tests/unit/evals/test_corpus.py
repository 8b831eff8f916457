"""Packed training rows: nothing is cut, nothing leaks, only responses are learned."""

from itertools import islice

import torch
from evals.reasoner.corpus import IGNORED, batches, documents
from evals.reasoner.model import load_tokenizer

LENGTH = 320


def test_rows_hold_whole_documents_that_do_not_see_each_other() -> None:
    tokenizer = load_tokenizer()
    (batch,) = islice(batches(tokenizer, seed=1, rows=2, length=LENGTH), 1)
    assert batch.ids.shape == batch.labels.shape == batch.positions.shape == (2, LENGTH)
    for row in range(2):
        starts = (batch.positions[row] == 0).nonzero().flatten().tolist()
        mask = batch.mask[row, 0]
        assert not mask.triu(1).any()
        spans = zip(starts, [*starts[1:], LENGTH], strict=True)
        # Padding is at position 0 throughout.
        whole = [(start, end) for start, end in spans if end - start > 1]
        assert whole
        for start, end in whole:
            assert not mask[start:end, :start].any()
            assert mask[end - 1, start:end].all()


def test_the_label_of_a_token_is_the_next_one() -> None:
    tokenizer = load_tokenizer()
    (batch,) = islice(batches(tokenizer, seed=1, rows=4, length=LENGTH), 1)
    labels, following = batch.labels[:, :-1], batch.ids[:, 1:]
    learned = labels != IGNORED
    assert learned.any()
    assert torch.equal(labels[learned], following[learned])
    text = tokenizer.decode(labels[0][learned[0]])
    assert r"\boxed{" in text
    assert "<|im_start|>" not in text


def test_documents_repeat_from_a_seed() -> None:
    tokenizer = load_tokenizer()
    first, second, other = (list(islice(documents(tokenizer, seed), 20)) for seed in (1, 1, 2))
    assert first == second
    assert first != other
