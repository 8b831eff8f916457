"""Balanced steering against fixed steering: `python -m evals.evidence.laws`.

Reads the responses of the run `governing`, which `make evidence` draws, and compares each law with
a fixed strength near its own mean, problem by problem. Writes `results/governing/laws.json`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from steersman.evaluate.inference import Bootstrap
from steersman.evaluate.records import Record

RESULTS = Path(__file__).with_name("results") / "governing"
PAIRS = {
    "falling 0.1": "fixed 0.42",
    "falling 0.3": "fixed 0.65",
    "rising 0.1": "fixed 0.58",
    "confidence": "fixed 0.42",
    "min 12, wait, and falling 0.3": "min 12, wait, and fixed 0.65",
}


def compare(law: list[Record], fixed: list[Record]) -> dict[str, Any]:
    """A law over a fixed strength, on the same problems in the same order."""
    bootstrap = Bootstrap(len(law))
    right = np.array([float(a.right) - float(b.right) for a, b in zip(law, fixed, strict=True)])
    tokens = [np.array([float(r.thinking_tokens or 0) for r in side]) for side in (law, fixed)]
    strengths = [
        applied.balance.mean_strength
        for record in law
        if record.receipt is not None
        and (applied := record.receipt.applied.thinking) is not None
        and applied.balance is not None
        and applied.balance.mean_strength is not None
    ]
    return {
        "problems": len(law),
        "mean_strength": round(float(np.mean(strengths)), 3),
        "accuracy_points": _interval(100 * right.mean(), 100 * bootstrap.ratios(right)),
        "thinking_tokens": _interval(tokens[0].sum() / tokens[1].sum(), bootstrap.ratios(*tokens)),
    }


def _interval(value: float, resampled: np.ndarray) -> list[float]:
    """A number, and the ends of its 95 % interval."""
    return [round(float(one), 4) for one in (value, *np.quantile(resampled, (0.025, 0.975)))]


def main() -> None:
    """Write the comparison."""
    adapter = TypeAdapter(Record)
    lines = (RESULTS / "responses.jsonl").read_text().splitlines()
    by_control: dict[str, dict[str, Record]] = {}
    for record in map(adapter.validate_json, lines):
        by_control.setdefault(record.control, {})[record.problem] = record
    found = {}
    for law, fixed in PAIRS.items():
        problems = sorted(by_control[law])
        sides = ([by_control[name][problem] for problem in problems] for name in (law, fixed))
        found[f"{law} over {fixed}"] = compare(*sides)
    (RESULTS / "laws.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
