"""`python -m steersman.engine.compat`: what the installed vLLM lacks of what Steersman relies on.

One line each, and exit code 1 if there is any. For maintainers who try another version of vLLM.
"""

import logging
import os
import sys

from steersman.engine.compat import version
from steersman.engine.compat.contract import complaints
from steersman.engine.compat.names import NAMES


def main() -> int:
    """Look for all names; returns the exit code."""
    installed = version.installed()
    if installed is None:
        print("vLLM is not installed")
        return 1
    own = version.numbers(installed)
    names = [name for name in NAMES if name.of(own)]
    found = list(complaints(names, own))
    for line in found:
        print(line)
    print(
        f"vLLM {installed}: {len(names)} names looked for, complaints: {len(found)} "
        f"(supported: {version.SERVER}, by the engine plugin alone {version.ENGINE})"
    )
    return 1 if found else 0


if __name__ == "__main__":
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    logging.disable(logging.WARNING)
    sys.exit(main())
