"""Registers of every kernel, as compiled for GPUs that are not there: nothing is run.

python -m benchmarks.registers
"""

import tempfile
from pathlib import Path

import triton
from benchmarks import report
from tests.unit.kernels import targets


def main() -> None:
    """Compile all, write the JSON, and print the table of `docs/benchmarks.md`."""
    with tempfile.TemporaryDirectory() as cache:
        found = targets.all_compiled(targets.cases(), Path(cache))
    names = dict.fromkeys(case.kernel for case in found)
    most: dict[str, dict[str, int]] = {
        name.strip("_").removesuffix("_kernel"): {
            target: max(
                usage.registers
                for case, usage in found.items()
                if (case.kernel, case.target) == (name, target)
            )
            for target in targets.TARGETS
        }
        for name in names
    }
    result = {
        "compiled": len(found),
        "registers": most,
        "spills": sum(usage.spills for usage in found.values()),
        "stack": sum(usage.stack for usage in found.values()),
        "triton": triton.__version__,
    }
    report.write("registers", result)
    print("| kernel | " + " | ".join(targets.TARGETS) + " |")
    print("|---|" + "---|" * len(targets.TARGETS))
    for name, by_target in most.items():
        print(f"| `{name}` | " + " | ".join(str(by_target[t]) for t in targets.TARGETS) + " |")


if __name__ == "__main__":
    main()
