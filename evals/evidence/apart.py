"""Cautious sampling against branches kept apart and beam search: `python -m evals.evidence.apart`.

All at temperature 1, on the same held-out problems of the built-in reasoner. Votes of plain samples
and of the branches of a tree (`tree.py`) may spend what a cautious response spends. The threshold
of the tree is chosen on problems of the training split. Beam search is vLLM's; it asks the engine
for each token of each beam anew, so it answers fewer problems. Writes `results/apart/apart.json`,
for the page.

    python -m evals.evidence.apart [--each 50] [--tune-each 10] [--beams 200] [--out FILE]
"""

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from evals.evidence.branching import Branching, Point
from evals.evidence.pairs import Side, paired
from evals.evidence.selection import Drawn, Response, majority
from evals.evidence.tree import Drawn as Rest
from evals.evidence.tree import grow
from steersman import models
from steersman.evaluate import problems as sets
from steersman.evaluate.answers import Comparer, after_thinking
from steersman.evaluate.inference import Array, Bootstrap, mean
from steersman.evaluate.problems import Problem
from steersman.evaluate.spec import ReasonerSet
from steersman.local import LocalServer
from steersman.progress import Progress
from steersman.trajectory.answers import canonical

OUT = Path(__file__).parent / "results" / "apart" / "apart.json"
MODEL = "reasoner"
SAMPLES = 8
"""Plain samples of a problem, and most branches of a tree."""
THRESHOLDS = (0.1, 0.5, 1.0)
"""Entropies in nats that the tree's is chosen from. The paper's 2.0 to 2.4 are never reached here:
most unsure tokens are digits, of which there are ten."""
BEAMS = 4
TOKENS = 448
BEAM_TOKENS = 128
"""Longest response of a beam: vLLM goes on until all beams have ended or are as long as this."""
CONCURRENCY = 32
ENGINE_TOKENS = "vllm:generation_tokens_total"

SINGLE, MAJORITY, CAUTIOUS = "single", "majority", "cautious"
APART, BEAM = "branches kept apart", f"beam search of width {BEAMS}"

Reader = Callable[[Sequence[int]], Response]
"""Makes a response of a problem of its tokens."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Responses to a problem in the order in which they were drawn.

    Attributes:
        responses: The responses.
        tokens: Tokens that were sampled for each.

    """

    responses: list[Response]
    tokens: list[int]


class Drawing:
    """Draws responses from a server.

    Args:
        http: Client of the server.
        tokenizer: Of its model.

    """

    def __init__(self, http: httpx.AsyncClient, tokenizer: PreTrainedTokenizerBase) -> None:
        self._http = http
        self._tokenizer = tokenizer

    async def samples(self, problem: Problem, seed: int) -> Taken:
        """Plain samples."""
        choices = (await self._ask(problem, n=SAMPLES, seed=seed))["choices"]
        return self._taken(problem, choices)

    async def cautious(self, problem: Problem, seed: int) -> Taken:
        """A cautious response; its tokens are those of all trials."""
        control = {"sampler": {"method": "cautious"}}
        found = await self._ask(problem, seed=seed, control=control)
        taken = self._taken(problem, found["choices"])
        return replace(taken, tokens=[found["control"]["compute"]["sampled_tokens"]])

    async def beam(self, problem: Problem, seed: int) -> Taken:
        """The likeliest response that beam search finds; its tokens are not counted."""
        found = await self._ask(
            problem, seed=seed, use_beam_search=True, n=BEAMS, max_tokens=BEAM_TOKENS
        )
        choices = found["choices"]
        return self._taken(problem, choices[:1])

    async def tree(self, problem: Problem, seed: int, threshold: float) -> Taken:
        """Branches kept apart."""
        read = self._reader(problem)

        async def draw(prefix: tuple[int, ...], number: int) -> Rest:
            ended = prefix[-1:] == (self._tokenizer.eos_token_id,)
            if ended or len(prefix) >= TOKENS:
                return Rest((), (), ())
            found = await self._ask(
                problem,
                prefix,
                seed=seed + number,
                max_tokens=TOKENS - len(prefix),
                logprobs=2,
                return_tokens_as_token_ids=True,
                control={"monitor": {"tokens": True, "of": "processed"}},
            )
            (choice,) = found["choices"]
            return rest(choice, found["control"]["entropy"]["tokens"])

        branches = await grow(draw, threshold, SAMPLES)
        return Taken([read(one.tokens) for one in branches], [one.own for one in branches])

    async def _ask(
        self, problem: Problem, prefix: Sequence[int] = (), **options: Any
    ) -> dict[str, Any]:
        body = {
            "model": MODEL,
            "prompt": [*self._prompt(problem), *prefix],
            "max_tokens": TOKENS,
            "temperature": 1.0,
            "return_token_ids": True,
            **options,
        }
        answer = await self._http.post("/v1/completions", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _prompt(self, problem: Problem) -> list[int]:
        message = [{"role": "user", "content": problem.question}]
        prompt: list[int] = self._tokenizer.apply_chat_template(
            message, add_generation_prompt=True, return_dict=False
        )
        return prompt

    def _taken(self, problem: Problem, choices: Sequence[Mapping[str, Any]]) -> Taken:
        read = self._reader(problem)
        tokens = [choice["token_ids"] for choice in choices]
        return Taken([read(own) for own in tokens], [len(own) for own in tokens])

    def _reader(self, problem: Problem) -> Reader:
        def read(tokens: Sequence[int]) -> Response:
            whole = self._tokenizer.decode(tokens).removesuffix(str(self._tokenizer.eos_token))
            text = after_thinking(whole)
            return Response(canonical(text), problem.is_right(text))

        return read


def rest(choice: Mapping[str, Any], measured: Sequence[tuple[int, float, float]]) -> Rest:
    """The tokens that were drawn, from an answer's choice and the monitor's tokens in its receipt.

    Args:
        choice: With two likeliest tokens at each step, named by their ids.
        measured: Id, log-probability and entropy of each token.

    """
    tokens = tuple(choice["token_ids"])
    others = []
    for token, likely in zip(tokens, choice["logprobs"]["top_logprobs"], strict=True):
        ids = {int(name.removeprefix("token_id:")): logprob for name, logprob in likely.items()}
        ids.pop(token, None)
        others.append(max(ids, key=lambda id_: ids[id_]))
    assert [token for token, _, _ in measured] == list(tokens)
    return Rest(tokens, tuple(entropy for _, _, entropy in measured), tuple(others))


async def each(
    problems: Sequence[Problem],
    draw: Callable[[Problem, int], Awaitable[Taken]],
    progress: Progress,
    name: str,
) -> list[Taken]:
    """Draw for all problems, some at a time; each has seeds of its own."""
    gate = asyncio.Semaphore(CONCURRENCY)
    progress.step(name, len(problems))

    async def one(number: int, problem: Problem) -> Taken:
        async with gate:
            taken = await draw(problem, 1000 * number)
            progress.advance()
            return taken

    return list(await asyncio.gather(*(one(*item) for item in enumerate(problems))))


def together(taken: Sequence[Taken], most: int) -> Drawn:
    """Responses to all problems, with the tokens up to each of them.

    Args:
        taken: Responses to each; fewer than `most` where there were no more to be had.
        most: Most responses.

    """
    tokens = [list(accumulate(map(float, own.tokens))) for own in taken]
    padded = np.array([own + own[-1:] * (most - len(own)) for own in tokens])
    return Drawn([own.responses for own in taken], padded)


def right(drawn: Drawn, count: int = 1) -> Array:
    """1 for each problem whose vote among the first responses is right: [problems, 1]."""
    return drawn.right(count, majority)


def compare(
    plain: Drawn, cautious: Drawn, tree: Drawn, beam: Array, beam_tokens: float, threshold: float
) -> Branching:
    """All numbers of the section.

    Args:
        plain: Plain samples of each problem.
        cautious: A cautious response to each.
        tree: Branches kept apart, of each.
        beam: 1 for each of the first problems whose likeliest response is right: [problems, 1].
        beam_tokens: Tokens that the engine sampled for each of those, on average.
        threshold: Entropy in nats above which the tree forks.

    """
    bootstrap = Bootstrap(len(plain.responses))
    few = Bootstrap(len(beam))

    def points(drawn: Drawn) -> tuple[Point, ...]:
        sizes = [1, 2, 4, 8][: drawn.tokens.shape[1].bit_length()]
        return tuple(
            Point(
                size,
                mean(bootstrap, right(drawn, size)),
                mean(bootstrap, drawn.tokens[:, size - 1 : size]).value,
            )
            for size in sizes
        )

    affordable = cautious.tokens.mean()
    votes, branches = plain.within(affordable), tree.within(affordable)
    whole = tree.within(plain.tokens[:, -1].mean())
    ours = Side(CAUTIOUS, right(cautious))
    single = Side(SINGLE, right(plain))
    apart = Side(f"{APART}, {branches}", right(tree, branches))
    vote = Side(f"{MAJORITY} {votes}", right(plain, votes))
    beamed = Side(BEAM, beam)

    def first(side: Side) -> Side:
        return replace(side, right=side.right[: len(beam)])

    pairs = paired(
        bootstrap,
        [
            (ours, single),
            (ours, vote),
            (ours, apart),
            (apart, vote),
            (
                Side(f"{APART}, {whole}", right(tree, whole)),
                Side(f"{MAJORITY} {SAMPLES}", right(plain, SAMPLES)),
            ),
        ],
    )
    on_few = paired(few, [(beamed, first(single)), (beamed, first(ours))])
    return Branching(
        len(plain.responses),
        len(beam),
        threshold,
        {
            MAJORITY: points(plain),
            CAUTIOUS: points(cautious),
            APART: points(tree),
            BEAM: (Point(BEAMS, mean(few, beam), beam_tokens),),
        },
        tuple(pairs),
        tuple(on_few),
    )


async def tuned(drawing: Drawing, problems: Sequence[Problem], progress: Progress) -> float:
    """The threshold with the most right votes; of equal ones that with the fewest tokens."""
    found = {}
    for threshold in THRESHOLDS:
        name = f"{APART} above {threshold}, training"
        taken = await each(problems, partial(drawing.tree, threshold=threshold), progress, name)
        drawn = together(taken, SAMPLES)
        found[threshold] = (float(right(drawn, SAMPLES).mean()), -drawn.tokens[:, -1].mean())
    return max(found, key=lambda threshold: found[threshold])


async def drawn(
    server: LocalServer,
    tokenizer: PreTrainedTokenizerBase,
    training: Sequence[Problem],
    problems: Sequence[Problem],
    few: int,
    progress: Progress,
) -> Branching:
    """Draw everything, and compare it.

    Args:
        server: The server.
        tokenizer: Of its model.
        training: Problems that the threshold is chosen on.
        problems: Problems that the comparison is on.
        few: Number of those that beam search answers, from the first one.
        progress: Where progress is shown.

    """
    async with httpx.AsyncClient(base_url=server.url, timeout=3600) as http:
        drawing = Drawing(http, tokenizer)
        beams = await each(problems[:few], drawing.beam, progress, BEAM)
        beam_tokens = server.metric(ENGINE_TOKENS) / few
        threshold = await tuned(drawing, training, progress)
        plain = await each(problems, drawing.samples, progress, MAJORITY)
        cautious = await each(problems, drawing.cautious, progress, CAUTIOUS)
        tree = await each(problems, partial(drawing.tree, threshold=threshold), progress, APART)
    return compare(
        together(plain, SAMPLES),
        together(cautious, 1),
        together(tree, SAMPLES),
        right(together(beams, 1)),
        beam_tokens,
        threshold,
    )


def puzzles(comparer: Comparer, count: int, *, train: bool = False) -> list[Problem]:
    """As many problems of each kind and grade, mixed.

    Args:
        comparer: Compares answers.
        count: Number of each kind and grade.
        train: Take them from the training split.

    """
    chosen = ReasonerSet(set="reasoner", each=count, split="train" if train else "held_out")
    found = sets.load((chosen,), comparer)
    random.Random(0).shuffle(found)
    return found


def main() -> None:
    """Draw, compare and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=50, help="problems of each of 20 cells")
    parser.add_argument("--tune-each", type=int, default=10, help="of these to choose a threshold")
    parser.add_argument("--beams", type=int, default=200, help="problems of beam search")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    log = Path(tempfile.mkdtemp(prefix="apart-")) / "server"
    with Comparer() as comparer, Progress() as progress:
        progress.step(f"starting {MODEL}")
        tokenizer = AutoTokenizer.from_pretrained(models.prepare(MODEL, progress=progress))
        training = puzzles(comparer, options.tune_each, train=True)
        problems = puzzles(comparer, options.each)
        with LocalServer.steersman([MODEL, "--max-num-seqs", "256"], log) as server:
            found = asyncio.run(
                drawn(server, tokenizer, training, problems, options.beams, progress)
            )
    options.out.parent.mkdir(exist_ok=True)
    text = json.dumps(asdict(found), indent=2) + "\n"
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
