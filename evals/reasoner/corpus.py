"""Training documents and their packing into rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from evals.reasoner.tokenizer import THINK_END, THINK_START, TURN_END
from evals.reasoner.traces import write
from steersman.puzzles.problems import KINDS, TRAINED, puzzles
from steersman.puzzles.tasks.puzzle import Puzzle

# The label that cross entropy passes over.
IGNORED = -100

# Documents that answer without thinking, so that `enable_thinking=False` is not unknown ground.
_UNTHINKING = 0.04
# Documents that are packed together.
_POOL = 1024


@dataclass(frozen=True)
class Document:
    """A chat turn: the rendered prompt, not learned, and the response, learned."""

    prompt: str
    response: str


class Encoded(NamedTuple):
    """A document as tokens, and for every token the next one to learn, or IGNORED."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Batch:
    """Packed rows; all tensors int64 but for the mask."""

    ids: Tensor  # [rows, length]
    labels: Tensor  # [rows, length], the next token or IGNORED
    positions: Tensor  # [rows, length], counted from the start of each document
    mask: Tensor  # [rows, 1, length, length], bool, true where attention is allowed


def documents(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[Document]:
    """An endless stream of training documents over all kinds and trained grades."""
    rng = Random(seed)
    streams = [puzzles(kind, grade, "train", seed) for kind in KINDS for grade in TRAINED]
    while True:
        yield _document(next(rng.choice(streams)), tokenizer, rng)


def texts(seed: int, count: int) -> Iterator[str]:
    """Prompts and traces for the tokenizer's vocabulary, `count` for every kind and grade."""
    rng = Random(seed)
    for kind in KINDS:
        for grade in TRAINED:
            for puzzle in islice(puzzles(kind, grade, "train", seed), count):
                yield f"{puzzle.prompt}\n{_thinking(puzzle, rng)}{_answer(puzzle)}"


def prompt_text(tokenizer: PreTrainedTokenizerFast, question: str, thinking: bool = True) -> str:
    """A single question in the chat template, up to where the response begins."""
    return str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
    )


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, rows: int, length: int
) -> Iterator[Batch]:
    """An endless stream of batches; documents longer than `length` tokens are left out."""
    rng = Random(seed)
    stream = documents(tokenizer, seed)
    waiting: list[list[Encoded]] = []
    while True:
        while len(waiting) < rows:
            pool = list(islice(stream, _POOL))
            packed = _pack(_encode(tokenizer, pool), length)
            rng.shuffle(packed)
            waiting += packed
        yield _batch(waiting[:rows], length)
        del waiting[:rows]


def _document(puzzle: Puzzle, tokenizer: PreTrainedTokenizerFast, rng: Random) -> Document:
    thinking = rng.random() >= _UNTHINKING
    response = _thinking(puzzle, rng) + "\n\n" if thinking else ""
    prompt = prompt_text(tokenizer, puzzle.prompt, thinking)
    return Document(prompt, f"{response}{_answer(puzzle)}{TURN_END}")


def _thinking(puzzle: Puzzle, rng: Random) -> str:
    body = "".join(f"{line}\n" for line in write(puzzle, rng))
    return f"{THINK_START}\n{body}{THINK_END}"


def _answer(puzzle: Puzzle) -> str:
    return f"The answer is \\boxed{{{puzzle.answer}}}."


def _encode(tokenizer: PreTrainedTokenizerFast, pool: list[Document]) -> list[Encoded]:
    prompts = tokenizer([document.prompt for document in pool]).input_ids
    responses = tokenizer([document.response for document in pool]).input_ids
    return [
        Encoded(prompt + response, [IGNORED] * (len(prompt) - 1) + response + [IGNORED])
        for prompt, response in zip(prompts, responses, strict=True)
    ]


def _pack(encoded: list[Encoded], length: int) -> list[list[Encoded]]:
    """First fit, longest first: rows of at most `length` tokens."""
    rows: list[list[Encoded]] = []
    room: list[int] = []
    fitting = (document for document in encoded if len(document.ids) <= length)
    for document in sorted(fitting, key=lambda document: len(document.ids), reverse=True):
        size = len(document.ids)
        at = next((index for index, left in enumerate(room) if left >= size), None)
        if at is None:
            rows.append([])
            room.append(length)
            at = -1
        rows[at].append(document)
        room[at] -= size
    return rows


def _batch(rows: list[list[Encoded]], length: int) -> Batch:
    """Tensors of the rows; documents do not see each other."""
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    positions = torch.zeros_like(ids)
    owner = torch.full_like(ids, -1)
    for index, row in enumerate(rows):
        start = 0
        for number, document in enumerate(row):
            span = slice(start, start + len(document.ids))
            ids[index, span] = torch.tensor(document.ids)
            labels[index, span] = torch.tensor(document.labels)
            positions[index, span] = torch.arange(len(document.ids))
            owner[index, span] = number
            start = span.stop
    same = owner[:, None, :, None] == owner[:, None, None, :]
    return Batch(ids, labels, positions, same & torch.ones(length, length).tril().bool())
