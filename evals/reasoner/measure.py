"""Measures the reasoner on held-out problems at temperature 1 and writes the numbers as JSON."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from evals.reasoner import summary
from evals.reasoner.corpus import prompt_text
from evals.reasoner.model import MODEL, available, load, token_id
from evals.reasoner.sampling import Response, sample
from evals.reasoner.summary import Graded
from evals.reasoner.tokenizer import THINK_END, THINK_START
from steersman.puzzles.problems import (
    BEYOND,
    KINDS,
    TRAINED,
    Problem,
    final_answer,
    problems,
    verify,
)

# Samples that are drawn as one batch.
_BATCH = 256


@dataclass(frozen=True)
class Requirement:
    """A number with the range it has to lie in; None where a side is open."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """True if the value lies in the range."""
        least = self.least is None or self.value >= self.least
        return least and (self.most is None or self.value <= self.most)


def main() -> None:
    """Samples, grades, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=16, help="problems a kind and grade")
    parser.add_argument("--samples", type=int, default=8, help="samples a problem")
    parser.add_argument("--limit", type=int, default=448, help="most tokens a sample")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, tokenizer = load(args.model, available())
    samples = []
    for grade in TRAINED + BEYOND:
        asked = [
            problem
            for kind in KINDS
            for problem in problems(kind, grade, "held_out", args.seed, args.problems)
        ]
        samples += list(
            responses(model, tokenizer, asked * args.samples, args.limit, args.seed + grade)
        )
    report = {
        "problems_per_cell": args.problems,
        "samples_per_problem": args.samples,
        "seed": args.seed,
        **measure(samples),
    }
    text = json.dumps(report, indent=2)
    args.out.write_text(f"{text}\n")
    print(text)


def responses(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[Problem],
    limit: int,
    seed: int,
) -> Iterator[Graded]:
    """One graded sample for every entry of `asked`."""
    for start in range(0, len(asked), _BATCH):
        part = asked[start : start + _BATCH]
        prompts = [tokenizer(prompt_text(tokenizer, problem.prompt)).input_ids for problem in part]
        drawn = sample(model, prompts, limit, seed=seed * 1_000_003 + start)
        for problem, response in zip(part, drawn, strict=True):
            yield grade_response(tokenizer, problem, response)


def grade_response(
    tokenizer: PreTrainedTokenizerFast, problem: Problem, response: Response
) -> Graded:
    """Grades a response; thinking is what lies between the think marks."""
    text = str(tokenizer.decode(response.tokens, skip_special_tokens=True))
    begin, end = token_id(tokenizer, THINK_START), token_id(tokenizer, THINK_END)
    first = 1 if response.tokens[:1] == [begin] else 0
    mark = response.tokens.index(end) if end in response.tokens else len(response.tokens)
    thinking, answer = response.entropies[first:mark], response.entropies[mark + 1 :]
    return Graded(
        problem,
        final_answer(text),
        verify(problem, text),
        len(thinking),
        text.count("Wait"),
        fmean(thinking) if thinking else None,
        fmean(answer) if answer else None,
    )


def measure(samples: Sequence[Graded]) -> dict[str, object]:
    """The report: requirements over the trained grades, and the tables behind them."""
    seen = [sample for sample in samples if sample.problem.difficulty in TRAINED]
    beyond = [sample for sample in samples if sample.problem.difficulty in BEYOND]
    grades = {
        grade: summary.accuracy(s for s in samples if s.problem.difficulty == grade)
        for grade in TRAINED + BEYOND
    }
    deciles = summary.deciles(seen)
    single, vote = summary.accuracy(seen), summary.majority(seen)
    thinking = fmean(s.thinking_entropy for s in seen if s.thinking_entropy is not None)
    answer = fmean(s.answer_entropy for s in seen if s.answer_entropy is not None)
    requirements = [
        Requirement("samples", len(seen), least=2000),
        Requirement("accuracy", single, least=0.55, most=0.90),
        Requirement("slope, first to last trained grade", grades[1] - grades[TRAINED[-1]], 0.10),
        Requirement("closed and parseable", summary.closed(seen), least=0.97),
        Requirement("variation of thinking length", summary.variation(seen), least=0.45),
        Requirement("middle over shortest decile", summary.middle_decile(seen) - deciles[0], 0.05),
        Requirement("majority of 8 over one", vote - single, least=0.04),
        Requirement("thinking over answer entropy", thinking - answer, least=0.0),
    ]
    cells = {
        kind: {
            grade: summary.accuracy(
                s for s in samples if (s.problem.kind, s.problem.difficulty) == (kind, grade)
            )
            for grade in TRAINED + BEYOND
        }
        for kind in KINDS
    }
    return {
        "requirements": [{**asdict(item), "met": item.met} for item in requirements],
        "accuracy_interval": summary.interval(seen),
        "accuracy_all_grades": summary.accuracy(samples),
        "accuracy_beyond": summary.accuracy(beyond),
        "closed_beyond": summary.closed(beyond),
        "majority": vote,
        "shortest_of_problem": summary.shortest(seen),
        "accuracy_by_grade": grades,
        "accuracy_by_kind": cells,
        "accuracy_by_length_decile": deciles,
        "middle_decile": summary.middle_decile(seen),
        "thinking_tokens": fmean(s.thinking_tokens for s in seen),
        "thinking_entropy": thinking,
        "answer_entropy": answer,
        "with_check": fmean(s.checks > 0 for s in seen),
    }


if __name__ == "__main__":
    main()
