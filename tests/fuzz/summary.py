"""Summary of a run's requests and findings, in lines."""

from pathlib import Path

from tests.fuzz.drive import Run
from tests.fuzz.findings import described, written
from tests.fuzz.target import Target


def summary(run: Run, target: Target, directory: Path) -> str:
    """Numbers first, then what happens without a control too, then what this project has to mend.

    Args:
        run: The run.
        target: The server that it asked.
        directory: Where the requests of each finding are written to.

    """
    tally, found = run.tally, run.findings
    rate = tally.requests / tally.seconds if tally.seconds else 0
    lines = [
        f"{tally.requests} requests in {tally.seconds:.0f} s ({rate:.0f}/s), seed {tally.seed}",
        "by status: " + ", ".join(f"{key} {n}" for key, n in sorted(tally.by_status.items())),
        "by outcome: " + ", ".join(f"{key} {n}" for key, n in sorted(tally.by_outcome.items())),
        "MiB after seconds: "
        + ", ".join(f"{m.resident >> 20} ({m.seconds:.0f})" for m in target.memory),
    ]
    if tally.skipped:
        lines.append(f"{tally.skipped} left out for a number above --largest")
    kinds = {"without a control too": found.also_plain, "violations": found.violations}
    for heading, findings in kinds.items():
        lines.append(f"{heading}: {len(findings) or 'none'}")
        for finding in findings:
            lines.append(f"  {described(finding, target.server.url)}")
            lines += [f"    {written(finding, directory)}"] if finding.cases else []
    return "\n".join(lines)
